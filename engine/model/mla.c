/* SPDX-License-Identifier: Apache-2.0
 *
 * Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1) over the latent cache.
 *
 * Absorbed form: a head's query is taken into the latent space once (q W_UK), scores and values are read from
 * the latent rows that all heads share, and the result is taken back (W_UV).  Naive form: a head's keys and
 * values are expanded from the latents first; fewer operations when a prompt has many rows.  Heads are dealt
 * to the threads; each thread works in its own scratch.
 */
#include "engine/internal.h"

#include <assert.h>
#include <string.h>

/* Views into one thread's scratch. */
struct scratch {
	uint16_t *q_nope; /* [rows][nope] bf16 */
	float *absorbed;  /* [rows][kv_lora] */
	uint16_t *q;      /* [rows][max(kv_lora, nope) + rope] bf16 */
	float *o;         /* [2][max(kv_lora, v_dim)]: running, this segment */
	uint16_t *z;      /* [rows][kv_lora] bf16 */
	uint16_t *keys;   /* [slots][nope + rope] bf16, naive form */
	uint16_t *values; /* [slots][v_dim] bf16, naive form */
	float *expanded;  /* [64][max(nope, v_dim)] */
	float *p;         /* [512] */
};

enum { EXPAND_ROWS = 64 };

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

static void carve(struct octavo_arena *a, struct scratch *s, const struct octavo_config *c, size_t rows, size_t slots)
{
	s->q_nope = octavo_carve(a, rows * c->nope, sizeof *s->q_nope);
	s->absorbed = octavo_carve(a, rows * c->kv_lora, sizeof *s->absorbed);
	s->q = octavo_carve(a, rows * (larger(c->kv_lora, c->nope) + c->rope), sizeof *s->q);
	s->o = octavo_carve(a, 2 * larger(c->kv_lora, c->v_dim), sizeof *s->o);
	s->z = octavo_carve(a, rows * c->kv_lora, sizeof *s->z);
	s->keys = octavo_carve(a, slots * (c->nope + c->rope), sizeof *s->keys);
	s->values = octavo_carve(a, slots * c->v_dim, sizeof *s->values);
	s->expanded = octavo_carve(a, EXPAND_ROWS * larger(c->nope, c->v_dim), sizeof *s->expanded);
	s->p = octavo_carve(a, OCTAVO_SEGMENT, sizeof *s->p);
}

size_t octavo_mla_scratch(const struct octavo_config *config, size_t rows, size_t slots)
{
	struct octavo_arena measure = { 0 };
	struct scratch s;
	carve(&measure, &s, config, rows, slots);
	return measure.overflow ? SIZE_MAX : measure.used;
}

struct heads_task {
	struct octavo_engine *e;
	const struct octavo_layer *layer;
	size_t kv_layer, tasks;
};

/* One row's attention over all its segments; `out` [v_dim] F32 is divided by the sum at the end. */
static void attend(const struct octavo_engine *e, struct octavo_attention *a, size_t row, float *out, float *segment)
{
	size_t tokens = e->geometry.pos[row] + 1;
	float m, l, m2, l2;
	a->committed = e->geometry.committed[row];
	a->path = e->geometry.path + row * e->geometry.path_ld;
	for (size_t t0 = 0; t0 < tokens; t0 += OCTAVO_SEGMENT) {
		a->t0 = t0;
		a->t1 = tokens < t0 + OCTAVO_SEGMENT ? tokens : t0 + OCTAVO_SEGMENT;
		a->m = t0 ? &m2 : &m;
		a->l = t0 ? &l2 : &l;
		a->o = t0 ? segment : out;
		e->k->attention->run(a);
		if (t0)
			e->k->attention_merge->run(1, a->v_dim, &m, &l, out, &m2, &l2, segment);
	}
	e->k->attention_finish->run(1, a->v_dim, out, &l);
}

static const float *query(const struct octavo_engine *e, size_t row, size_t head)
{
	size_t width = e->config.nope + e->config.rope;
	return e->work.q + (row * e->config.heads + head) * width;
}

static void absorbed_head(const struct heads_task *t, struct scratch *s, size_t head)
{
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	const struct octavo_geometry *g = &e->geometry;
	size_t width = c->kv_lora + c->rope, pitch = c->nope + c->v_dim;
	struct octavo_matrix up_k = octavo_matrix_view(&t->layer->kv_b, head * pitch, c->nope, 0, c->kv_lora);
	struct octavo_matrix up_v = octavo_matrix_view(&t->layer->kv_b, head * pitch + c->nope, c->v_dim, 0, c->kv_lora);

	for (size_t row = 0; row < g->rows; row++)
		e->k->round->run(s->q_nope + row * c->nope, query(e, row, head), c->nope);
	struct octavo_rows left = { .x = s->q_nope, .rows = g->rows, .ld = c->nope };
	e->k->gemm_t->run(&up_k, 0, c->kv_lora, &left, s->absorbed, c->kv_lora);

	for (size_t row = 0; row < g->rows; row++) {
		uint16_t *q = s->q + row * width;
		e->k->round->run(q, s->absorbed + row * c->kv_lora, c->kv_lora);
		e->k->round->run(q + c->kv_lora, query(e, row, head) + c->nope, c->rope);
		const uint16_t *cache = octavo_kv_rows(&e->kv, g->sequence[row], t->kv_layer);
		struct octavo_attention a = { .q = q, .heads = 1, .ldq = width, .k_dim = width, .v_dim = c->kv_lora,
			                      .k = cache, .v = cache, .ldk = width, .ldv = width, .tau = e->tau, .p = s->p };
		if (!g->naive[row])
			attend(e, &a, row, s->o, s->o + c->kv_lora);
		else
			memset(s->o, 0, c->kv_lora * sizeof *s->o); /* this row's result comes from naive_head */
		e->k->round->run(s->z + row * c->kv_lora, s->o, c->kv_lora);
	}
	left = (struct octavo_rows){ .x = s->z, .rows = g->rows, .ld = c->kv_lora };
	octavo_gemm_slot(e->k, &up_v)->run(&up_v, 0, c->v_dim, &left, e->work.attended + head * c->v_dim,
	                                  c->heads * c->v_dim);
}

/* Expands a head's keys and values of the slots [0, count) of one sequence. */
static void expand(const struct heads_task *t, struct scratch *s, size_t head, size_t sequence, size_t count)
{
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	size_t pitch = c->nope + c->v_dim, key = c->nope + c->rope, width = e->kv.width;
	struct octavo_matrix up_k = octavo_matrix_view(&t->layer->kv_b, head * pitch, c->nope, 0, c->kv_lora);
	struct octavo_matrix up_v = octavo_matrix_view(&t->layer->kv_b, head * pitch + c->nope, c->v_dim, 0, c->kv_lora);
	const uint16_t *cache = octavo_kv_rows(&e->kv, sequence, t->kv_layer);
	for (size_t first = 0; first < count; first += EXPAND_ROWS) {
		size_t rows = count - first < EXPAND_ROWS ? count - first : EXPAND_ROWS;
		struct octavo_rows left = { .x = cache + first * width, .rows = rows, .ld = width };
		octavo_gemm_slot(e->k, &up_k)->run(&up_k, 0, c->nope, &left, s->expanded, c->nope);
		for (size_t i = 0; i < rows; i++) {
			uint16_t *k = s->keys + (first + i) * key;
			e->k->round->run(k, s->expanded + i * c->nope, c->nope);
			memcpy(k + c->nope, cache + (first + i) * width + c->kv_lora, c->rope * sizeof *k);
		}
		octavo_gemm_slot(e->k, &up_v)->run(&up_v, 0, c->v_dim, &left, s->expanded, c->v_dim);
		for (size_t i = 0; i < rows; i++)
			e->k->round->run(s->values + (first + i) * c->v_dim, s->expanded + i * c->v_dim, c->v_dim);
	}
}

static void naive_head(const struct heads_task *t, struct scratch *s, size_t head)
{
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	const struct octavo_geometry *g = &e->geometry;
	size_t key = c->nope + c->rope, expanded = SIZE_MAX;
	for (size_t row = 0; row < g->rows; row++) {
		if (!g->naive[row])
			continue;
		size_t sequence = g->sequence[row];
		if (sequence != expanded) {
			size_t count = 0;
			for (size_t i = row; i < g->rows; i++)
				if (g->naive[i] && g->sequence[i] == sequence)
					count = larger(count, g->slot[i] + 1);
			expand(t, s, head, sequence, count);
			expanded = sequence;
		}
		e->k->round->run(s->q, query(e, row, head), key);
		struct octavo_attention a = { .q = s->q, .heads = 1, .ldq = key, .k_dim = key, .v_dim = c->v_dim,
			                      .k = s->keys, .v = s->values, .ldk = key, .ldv = c->v_dim,
			                      .tau = e->tau, .p = s->p };
		attend(e, &a, row, s->o, s->o + c->v_dim);
		memcpy(e->work.attended + (row * c->heads + head) * c->v_dim, s->o, c->v_dim * sizeof *s->o);
	}
}

static void some_heads(void *arg, size_t task)
{
	const struct heads_task *t = arg;
	const struct octavo_engine *e = t->e;
	struct octavo_arena arena = { .base = e->work.head_scratch + task * e->work.head_scratch_size };
	struct scratch s;
	carve(&arena, &s, &e->config, e->settings.max_rows, e->kv.slots);
	int absorbed = 0, naive = 0;
	for (size_t row = 0; row < e->geometry.rows; row++)
		e->geometry.naive[row] ? (naive = 1) : (absorbed = 1);
	for (size_t head = task; head < e->config.heads; head += t->tasks) {
		if (absorbed)
			absorbed_head(t, &s, head);
		if (naive)
			naive_head(t, &s, head);
	}
}

/* The two projections of the layer's input, in one region. */
static void project_down(struct octavo_engine *e, const struct octavo_layer *layer)
{
	struct octavo_work *s = &e->work;
	const struct octavo_matrix *q = e->config.q_lora ? &layer->q_a : &layer->q;
	float *q_out = e->config.q_lora ? s->q_lat : s->q;
	size_t rows = e->geometry.rows, hidden = e->config.hidden;
	struct octavo_product pair[2] = {
		{ .w = q, .y = q_out, .ldy = q->rows, .checked = 1,
		  .x = octavo_left(e, s->normed, rows, hidden, q, s->act[0], s->act_scale) },
		{ .w = &layer->kv_a, .y = s->kv, .ldy = layer->kv_a.rows, .checked = 1 },
	};
	/* The same left operand unless one of the two is not FP8. */
	pair[1].x = (q->scale == NULL) == (layer->kv_a.scale == NULL)
	                    ? pair[0].x
	                    : octavo_left(e, s->normed, rows, hidden, &layer->kv_a, s->act[1], s->gathered_scale);
	enum octavo_status status = octavo_gemm_group(e->k, &e->threads.parallel, pair, 2);
	assert(status == OCTAVO_OK);
	(void)status;
}

/* Norms the latent, rotates the shared key and stores both as this row's cache entry. */
static void store_latent(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer, size_t row)
{
	const struct octavo_config *c = &e->config;
	const struct octavo_geometry *g = &e->geometry;
	float *kv = e->work.kv + row * (c->kv_lora + c->rope);
	uint16_t *entry = octavo_kv_rows(&e->kv, g->sequence[row], kv_layer) + g->slot[row] * e->kv.width;
	e->k->norm->run(kv, kv, layer->kv_norm, c->kv_lora, c->latent_norm_eps);
	e->k->rope->run(kv + c->kv_lora, e->rope + g->pos[row] * c->rope, c->rope);
	e->k->round->run(entry, kv, c->kv_lora + c->rope);
}

void octavo_mla(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer)
{
	const struct octavo_config *c = &e->config;
	struct octavo_work *s = &e->work;
	size_t rows = e->geometry.rows;
	project_down(e, layer);
	if (c->q_lora) {
		octavo_norm_rows(e, s->q_lat, c->q_lora, s->q_lat, layer->q_norm, rows, c->q_lora, c->latent_norm_eps);
		octavo_linear(e, &layer->q_b, s->q_lat, rows, s->q);
	}
	for (size_t row = 0; row < rows; row++) {
		store_latent(e, layer, kv_layer, row);
		for (size_t head = 0; head < c->heads; head++)
			e->k->rope->run(s->q + (row * c->heads + head) * (c->nope + c->rope) + c->nope,
			                e->rope + e->geometry.pos[row] * c->rope, c->rope);
	}
	struct heads_task t = { e, layer, kv_layer, 0 };
	t.tasks = e->threads.parallel.threads < c->heads ? e->threads.parallel.threads : c->heads;
	octavo_run(&e->threads, t.tasks, some_heads, &t);
	octavo_linear(e, &layer->o, s->attended, rows, s->y);
}
