/* SPDX-License-Identifier: Apache-2.0
 *
 * All buffers of an engine in one allocation, sized at open; nothing allocates per token afterwards.
 */
#include "engine/model/attend.h"

#include <stdlib.h>

static size_t groups(size_t cols)
{
	return (cols + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK;
}

/* The widest left operand of any matrix. */
static size_t widest(const struct octavo_config *c)
{
	size_t w = octavo_larger(2 * c->hidden, c->heads * c->v_dim);
	w = octavo_larger(w, octavo_larger(c->q_lora, c->dense_width));
	return octavo_larger(w, octavo_larger(c->expert_width, c->shared_experts * c->expert_width));
}

static void carve_geometry(struct octavo_arena *a, struct octavo_geometry *g, size_t rows)
{
	g->path_ld = rows;
	g->sequence = octavo_carve(a, rows, sizeof *g->sequence);
	g->pos = octavo_carve(a, rows, sizeof *g->pos);
	g->slot = octavo_carve(a, rows, sizeof *g->slot);
	g->committed = octavo_carve(a, rows, sizeof *g->committed);
	g->path = octavo_carve(a, rows * rows, sizeof *g->path);
	g->naive = octavo_carve(a, rows, sizeof *g->naive);
	g->chained = octavo_carve(a, rows, sizeof *g->chained);
}

static void carve_staging(struct octavo_arena *a, struct octavo_staging *b, size_t rows)
{
	b->token = octavo_carve(a, rows, sizeof *b->token);
	b->pos = octavo_carve(a, rows, sizeof *b->pos);
	b->seq = octavo_carve(a, rows, sizeof *b->seq);
	b->parent = octavo_carve(a, rows, sizeof *b->parent);
	b->flags = octavo_carve(a, rows, sizeof *b->flags);
	b->row = octavo_carve(a, rows, sizeof *b->row);
	b->running = octavo_carve(a, rows, sizeof *b->running);
	b->drafting = octavo_carve(a, rows, sizeof *b->drafting);
}

/* What depends on the width of dense layers.  Nothing in it outlives a layer, so other pieces may take its place; a layer
 * is dense or has experts, so that one piece serves both. */
static void carve_dense(struct octavo_arena *a, struct octavo_work *s, const struct octavo_config *c, size_t rows,
                        size_t width)
{
	size_t values = rows * width, bytes = 2 * values * sizeof *s->gate, w = octavo_larger(widest(c), width);
	if (c->experts)
		bytes = octavo_larger(bytes, octavo_moe_scratch(rows, c->experts, c->top_k, c->hidden, c->expert_width,
		                                                c->shared_experts * c->expert_width));
	s->gate = octavo_carve(a, bytes, 1);
	s->up = s->gate ? s->gate + values : NULL;
	s->moe = s->gate;
	s->act[0] = octavo_carve(a, rows * w, sizeof *s->act[0]);
	s->act_scale = octavo_carve(a, rows * groups(w), sizeof *s->act_scale);
}

static void carve_router(struct octavo_arena *a, struct octavo_work *s, const struct octavo_config *c, size_t rows)
{
	size_t pairs = rows * c->top_k;
	if (!c->experts)
		return;
	s->router = octavo_carve(a, rows * c->experts, sizeof *s->router);
	s->chosen = octavo_carve(a, pairs, sizeof *s->chosen);
	s->chosen_weight = octavo_carve(a, pairs, sizeof *s->chosen_weight);
}

/* MLA may have rows of both forms in a batch; they take turns. */
static void carve_attention(struct octavo_arena *a, struct octavo_engine *e)
{
	const struct octavo_config *c = &e->config;
	struct octavo_work *s = &e->work;
	size_t rows = e->settings.max_rows, threads = e->threads.parallel.threads;
	struct octavo_attend shape = octavo_attend_of(e, NULL);
	size_t k_dim = shape.k_dim, v_dim = shape.v_dim, bytes = octavo_attend_scratch(&shape, rows, rows, threads);
	if (!c->kv_heads) {
		struct octavo_matrix kv_b = { .rows = c->heads * (c->nope + c->v_dim), .cols = c->kv_lora };
		shape = octavo_attend_of(e, &kv_b);
		k_dim = octavo_larger(k_dim, shape.k_dim);
		v_dim = octavo_larger(v_dim, shape.v_dim);
		bytes = octavo_larger(bytes, octavo_attend_scratch(&shape, rows, rows, threads));
		s->head_scratch_size = octavo_mla_scratch(c, rows);
		s->head_scratch = octavo_carve(a, threads, s->head_scratch_size);
	}
	s->queries = octavo_carve(a, rows * c->heads, k_dim * sizeof *s->queries);
	s->seen = octavo_carve(a, rows * c->heads, v_dim * sizeof *s->seen);
	s->context = octavo_carve(a, rows, sizeof *s->context);
	s->attend_scratch = octavo_carve(a, bytes, 1);
}

static void carve_work(struct octavo_arena *a, struct octavo_engine *e)
{
	const struct octavo_config *c = &e->config;
	struct octavo_work *s = &e->work;
	size_t rows = e->settings.max_rows, w = widest(c);
	s->x = octavo_carve(a, rows * c->hidden, sizeof *s->x);
	s->normed = octavo_carve(a, rows * c->hidden, sizeof *s->normed);
	s->wide = octavo_carve(a, rows * 2 * c->hidden, sizeof *s->wide);
	s->q_lat = octavo_carve(a, rows * c->q_lora, sizeof *s->q_lat);
	s->q = octavo_carve(a, rows * c->heads * (c->nope + c->rope), sizeof *s->q);
	s->kv = octavo_carve(a, rows * e->kv.width, sizeof *s->kv);
	s->attended = octavo_carve(a, rows * c->heads * c->v_dim, sizeof *s->attended);
	s->y = octavo_carve(a, rows * c->hidden, sizeof *s->y);
	s->act[1] = octavo_carve(a, rows * w, sizeof *s->act[1]);
	s->draftable = octavo_carve(a, rows, sizeof *s->draftable);
	s->other_scale = octavo_carve(a, rows * groups(w), sizeof *s->other_scale);
	s->dense_width = c->dense_width;
	carve_dense(a, s, c, rows, c->dense_width);
	carve_router(a, s, c, rows);
	carve_attention(a, e);
}

static void carve_all(struct octavo_arena *a, struct octavo_engine *e)
{
	const struct octavo_config *c = &e->config;
	size_t rows = e->settings.max_rows;
	e->rope = octavo_carve(a, (e->settings.max_context + rows) * c->rope, sizeof *e->rope);
	e->kv.length = octavo_carve(a, e->kv.sequences, sizeof *e->kv.length);
	e->kv.used = octavo_carve(a, e->kv.sequences, sizeof *e->kv.used);
	e->kv.data = octavo_carve(a, e->kv.sequences * e->kv.layers, e->kv.slots * e->kv.bytes);
	e->last_seq = octavo_carve(a, rows, sizeof *e->last_seq);
	e->last_pos = octavo_carve(a, rows, sizeof *e->last_pos);
	e->last_parent = octavo_carve(a, rows, sizeof *e->last_parent);
	e->logit_row = octavo_carve(a, rows, sizeof *e->logit_row);
	for (int tap = 0; tap < 2; tap++) {
		e->hidden[tap] = octavo_carve(a, rows * c->hidden, sizeof *e->hidden[tap]);
		e->mtp_hidden[tap] = octavo_carve(a, rows * c->hidden, sizeof *e->mtp_hidden[tap]);
	}
	e->logits = octavo_carve(a, rows * c->vocab, sizeof *e->logits);
	e->mtp_logits = octavo_carve(a, rows * c->vocab, sizeof *e->mtp_logits);
	carve_geometry(a, &e->geometry, rows);
	carve_staging(a, &e->staging, rows);
	carve_work(a, e);
}

enum octavo_status octavo_work_widen(struct octavo_engine *e, size_t width, struct octavo_error *error)
{
	struct octavo_arena arena = { 0 };
	struct octavo_work measure, *s = &e->work;
	if (width <= s->dense_width)
		return OCTAVO_OK;
	carve_dense(&arena, &measure, &e->config, e->settings.max_rows, width);
	void *memory = arena.overflow ? NULL : calloc(1, arena.used + OCTAVO_ALIGNMENT);
	if (!memory)
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory for layers %zu wide", width);
	free(s->wider);
	s->wider = memory;
	s->dense_width = width;
	arena = (struct octavo_arena){ .base = octavo_aligned(memory) };
	carve_dense(&arena, s, &e->config, e->settings.max_rows, width);
	return OCTAVO_OK;
}

enum octavo_status octavo_work_allocate(struct octavo_engine *e, struct octavo_error *error)
{
	struct octavo_arena arena = { 0 };
	carve_all(&arena, e);
	if (arena.overflow)
		return octavo_fail(error, OCTAVO_ELIMIT, "the context, rows and sequences asked for overflow memory sizes");
	/* Zeroed: unused cache slots must hold finite values, and untouched pages cost nothing. */
	size_t bytes = arena.used + OCTAVO_ALIGNMENT;
	e->arena = calloc(1, bytes);
	if (!e->arena)
		return octavo_fail(error, OCTAVO_ENOMEM, "cannot allocate %zu MiB for caches and buffers", bytes >> 20);
	arena = (struct octavo_arena){ .base = octavo_aligned(e->arena) };
	carve_all(&arena, e);
	return OCTAVO_OK;
}
