/* SPDX-License-Identifier: Apache-2.0
 *
 * Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1) over the latent cache.
 *
 * Absorbed form: a head's query is taken into the latent space once (q W_UK), scores and values are read from
 * the latent rows that all heads share, and the result is taken back (W_UV).  Naive form: a head's keys and
 * values are expanded from the latents first; fewer operations when a prompt has many rows.
 */
#include "engine/model/attend.h"

#include "kernels/driver.h"

#include <assert.h>
#include <string.h>

/* Views into one thread's scratch. */
struct scratch {
	uint16_t *q_nope; /* [rows][nope] bf16 */
	float *absorbed;  /* [rows][kv_lora] */
	uint16_t *z;      /* [rows][kv_lora] bf16 */
};

static void carve(struct octavo_arena *a, struct scratch *s, const struct octavo_config *c, size_t rows)
{
	s->q_nope = octavo_carve(a, rows * c->nope, sizeof *s->q_nope);
	s->absorbed = octavo_carve(a, rows * c->kv_lora, sizeof *s->absorbed);
	s->z = octavo_carve(a, rows * c->kv_lora, sizeof *s->z);
}

size_t octavo_mla_scratch(const struct octavo_config *c, size_t rows)
{
	struct octavo_arena measure = { 0 };
	struct scratch s;
	carve(&measure, &s, c, rows);
	return measure.overflow ? SIZE_MAX : measure.used;
}

/* A pass over the heads, cut over the threads: each reads its own part of kv_b. */
struct heads_pass {
	struct octavo_engine *e;
	const struct octavo_layer *layer;
	void (*head)(const struct heads_pass *t, struct scratch *s, size_t head);
	size_t per_task;
};

/* Takes one head's queries into the latent space: bf16 of [q_nope W_UK | q_rope]. */
static void absorb_head(const struct heads_pass *t, struct scratch *s, size_t head)
{
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	struct octavo_matrix up_k = octavo_matrix_view(&t->layer->kv_b, head * (c->nope + c->v_dim), c->nope, 0, c->kv_lora);
	size_t rows = e->geometry.rows, key = c->nope + c->rope;
	const float *query = e->work.q + head * key;
	for (size_t row = 0; row < rows; row++)
		e->k->round->run(s->q_nope + row * c->nope, query + row * c->heads * key, c->nope);
	struct octavo_rows left = { .x = s->q_nope, .rows = rows, .ld = c->nope };
	e->k->gemm_t->run(&up_k, 0, c->kv_lora, &left, s->absorbed, c->kv_lora);
	for (size_t row = 0; row < rows; row++) {
		uint16_t *q = e->work.queries + (row * c->heads + head) * (c->kv_lora + c->rope);
		e->k->round->run(q, s->absorbed + row * c->kv_lora, c->kv_lora);
		e->k->round->run(q + c->kv_lora, query + row * c->heads * key + c->nope, c->rope);
	}
}

/* And what it saw there back: attended = z W_UV. */
static void return_head(const struct heads_pass *t, struct scratch *s, size_t head)
{
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	struct octavo_matrix up_v = octavo_matrix_view(&t->layer->kv_b, head * (c->nope + c->v_dim) + c->nope, c->v_dim, 0,
	                                               c->kv_lora);
	size_t rows = e->geometry.rows;
	for (size_t row = 0; row < rows; row++)
		e->k->round->run(s->z + row * c->kv_lora, e->work.seen + (row * c->heads + head) * c->kv_lora, c->kv_lora);
	struct octavo_rows left = { .x = s->z, .rows = rows, .ld = c->kv_lora };
	octavo_gemm_slot(e->k, &up_v)->run(&up_v, 0, c->v_dim, &left, e->work.attended + head * c->v_dim,
	                                  c->heads * c->v_dim);
}

static void some_heads(void *arg, size_t task)
{
	const struct heads_pass *t = arg;
	const struct octavo_engine *e = t->e;
	struct octavo_arena arena = { .base = e->work.head_scratch + task * e->work.head_scratch_size };
	struct scratch s;
	carve(&arena, &s, &e->config, e->settings.max_rows);
	size_t first = task * t->per_task;
	for (size_t head = first; head < first + t->per_task && head < e->config.heads; head++)
		t->head(t, &s, head);
}

/* `width` rows of each head of kv_b take part. */
static void for_heads(struct octavo_engine *e, const struct octavo_layer *layer, size_t width,
                      void (*head)(const struct heads_pass *t, struct scratch *s, size_t head))
{
	enum { LEAST_COST = 500000 }; /* multiply-adds: a region does not pay for less */
	size_t heads = e->config.heads, tasks = e->threads.parallel.threads;
	if (heads * width * e->config.kv_lora * e->geometry.rows < LEAST_COST)
		tasks = 1;
	struct heads_pass t = { e, layer, head, (heads + tasks - 1) / tasks };
	octavo_run(&e->threads, (heads + t.per_task - 1) / t.per_task, some_heads, &t);
}

static void absorbed_form(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer)
{
	struct octavo_attend a = octavo_attend_of(e, NULL);
	size_t values = e->config.heads * e->config.kv_lora;
	for_heads(e, layer, e->config.nope, absorb_head);
	octavo_attend_rows(e, &a, kv_layer, 0);
	for (size_t row = 0; row < e->geometry.rows; row++)
		if (e->geometry.naive[row]) /* gets its result afterwards */
			memset(e->work.seen + row * values, 0, values * sizeof(float));
	for_heads(e, layer, e->config.v_dim, return_head);
}

static void attend(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer)
{
	size_t naive = 0, rows = e->geometry.rows;
	for (size_t row = 0; row < rows; row++)
		naive += e->geometry.naive[row];
	if (naive < rows)
		absorbed_form(e, layer, kv_layer);
	if (naive) {
		struct octavo_attend a = octavo_attend_of(e, &layer->kv_b);
		octavo_attend_heads(e, &a, kv_layer, 1);
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
	pair[1].x = octavo_is_fp8(q) == octavo_is_fp8(&layer->kv_a)
	                    ? pair[0].x
	                    : octavo_left(e, s->normed, rows, hidden, &layer->kv_a, s->act[1], s->other_scale);
	enum octavo_status status = octavo_gemm_group(e->k, &e->threads.parallel, pair, 2);
	assert(status == OCTAVO_OK);
	(void)status;
}

struct rows_task {
	struct octavo_engine *e;
	const struct octavo_layer *layer;
	size_t kv_layer;
};

/* Norms the latent, rotates the shared key and stores both as this row's cache entry. */
static void store_row(void *arg, size_t row)
{
	const struct rows_task *t = arg;
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	const struct octavo_geometry *g = &e->geometry;
	float *kv = e->work.kv + row * (c->kv_lora + c->rope);
	e->k->norm->run(kv, kv, t->layer->kv_norm, c->kv_lora, c->latent_norm_eps);
	e->k->rope->run(kv + c->kv_lora, e->rope + g->pos[row] * c->rope, c->rope);
	octavo_kv_store(e, t->kv_layer, row, kv);
}

/* The same, and rotates the row's queries. */
static void finish_row(void *arg, size_t row)
{
	const struct rows_task *t = arg;
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	const struct octavo_geometry *g = &e->geometry;
	store_row(arg, row);
	for (size_t head = 0; head < c->heads; head++)
		e->k->rope->run(e->work.q + (row * c->heads + head) * (c->nope + c->rope) + c->nope,
		                e->rope + g->pos[row] * c->rope, c->rope);
}

void octavo_mla_store(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer)
{
	octavo_linear(e, &layer->kv_a, e->work.normed, e->geometry.rows, e->work.kv);
	octavo_for_rows(e, e->geometry.rows, store_row, &(struct rows_task){ e, layer, kv_layer });
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
	octavo_for_rows(e, rows, finish_row, &(struct rows_task){ e, layer, kv_layer });
	octavo_observe(e, kv_layer, OCTAVO_AT_QUERY, s->q, rows, c->heads * (c->nope + c->rope));
	octavo_observe(e, kv_layer, OCTAVO_AT_KEY_VALUE, s->kv, rows, c->kv_lora + c->rope);
	attend(e, layer, kv_layer);
	octavo_observe(e, kv_layer, OCTAVO_AT_ATTENTION, s->attended, rows, c->heads * c->v_dim);
	octavo_linear(e, &layer->o, s->attended, rows, s->y);
}
