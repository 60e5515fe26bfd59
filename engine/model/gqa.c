/* SPDX-License-Identifier: Apache-2.0
 *
 * Grouped-query attention (Ainslie et al., arXiv 2305.13245) of dense models over a cache of keys and values.
 *
 * A slot of the cache holds a token's keys, after rotation, then its values: [kv_heads][dim] twice.  The query heads of
 * one head of keys and values, and the rows of a chain, share one read of the cache; such pairs of head and chain are
 * dealt to the threads.
 */
#include "engine/model/attend.h"

#include <assert.h>
#include <string.h>

/* Views into one thread's scratch. */
struct scratch {
	uint16_t *q; /* [OCTAVO_CHAIN_ROWS][heads / kv_heads][dim] bf16 */
	struct octavo_attend attend;
};

static void carve(struct octavo_arena *a, struct scratch *s, const struct octavo_config *c)
{
	size_t group = c->heads / c->kv_heads;
	s->q = octavo_carve(a, OCTAVO_CHAIN_ROWS * group * c->v_dim, sizeof *s->q);
	octavo_attend_carve(a, &s->attend, group, c->v_dim);
}

size_t octavo_gqa_scratch(const struct octavo_config *c)
{
	struct octavo_arena measure = { 0 };
	struct scratch s;
	carve(&measure, &s, c);
	return measure.overflow ? SIZE_MAX : measure.used;
}

struct gqa_task {
	struct octavo_engine *e;
	const struct octavo_layer *layer;
	size_t kv_layer, tasks;
};

/* ---- Queries, keys and values -------------------------------------------------------------------------- */

/* Projections of the layer's input, in one region: keys and values, side by side as the cache has them, and queries where
 * they are asked for. */
static void project(struct octavo_engine *e, const struct octavo_layer *layer, int queries)
{
	struct octavo_work *s = &e->work;
	size_t width = e->kv.width;
	struct octavo_rows left =
		octavo_left(e, s->normed, e->geometry.rows, e->config.hidden, &layer->k, s->act[0], s->act_scale);
	struct octavo_product three[3] = {
		{ .w = &layer->k, .x = left, .y = s->kv, .ldy = width, .checked = 1 },
		{ .w = &layer->v, .x = left, .y = s->kv + layer->k.rows, .ldy = width, .checked = 1 },
		{ .w = &layer->q, .x = left, .y = s->q, .ldy = layer->q.rows, .checked = 1 },
	};
	enum octavo_status status = octavo_gemm_group(e->k, &e->threads.parallel, three, queries ? 3 : 2);
	assert(status == OCTAVO_OK);
	(void)status;
}

static void add(float *x, const float *bias, size_t n)
{
	for (size_t i = 0; bias && i < n; i++)
		x[i] = x[i] + bias[i];
}

/* Norms heads [heads][dim] where the model does, and rotates each: element i with element i + dim / 2.  The kernel takes
 * adjacent pairs, so they are brought together in `pairs` [dim]. */
static void rotate_heads(const struct octavo_engine *e, float *x, size_t heads, const float *norm, const float *cs,
                         float *pairs)
{
	size_t dim = e->config.v_dim, half = dim / 2;
	for (float *end = x + heads * dim; x < end; x += dim) {
		if (norm)
			e->k->norm->run(x, x, norm, dim, e->config.norm_eps);
		for (size_t i = 0; i < half; i++) {
			pairs[2 * i] = x[i];
			pairs[2 * i + 1] = x[i + half];
		}
		e->k->rope->run(pairs, cs, dim);
		for (size_t i = 0; i < half; i++) {
			x[i] = pairs[2 * i];
			x[i + half] = pairs[2 * i + 1];
		}
	}
}

/* From the projections of keys and values to the row's cache entry. */
static void store_row(void *arg, size_t row)
{
	const struct gqa_task *t = arg;
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	size_t keys = c->kv_heads * c->v_dim;
	float *kv = e->work.kv + row * e->kv.width;
	float *pairs = e->work.attended + row * c->heads * c->v_dim; /* free until attention writes it */
	add(kv, t->layer->k_bias, keys);
	add(kv + keys, t->layer->v_bias, keys);
	rotate_heads(e, kv, c->kv_heads, t->layer->k_head_norm, e->rope + e->geometry.pos[row] * c->rope, pairs);
	octavo_kv_store(e, t->kv_layer, row, kv);
}

/* The same, and the row's queries. */
static void finish_row(void *arg, size_t row)
{
	const struct gqa_task *t = arg;
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	float *q = e->work.q + row * c->heads * c->v_dim, *pairs = e->work.attended + row * c->heads * c->v_dim;
	store_row(arg, row);
	add(q, t->layer->q_bias, c->heads * c->v_dim);
	rotate_heads(e, q, c->heads, t->layer->q_head_norm, e->rope + e->geometry.pos[row] * c->rope, pairs);
}

/* ---- Attention --------------------------------------------------------------------------------------------- */

/* The query heads that share head `head` of keys and values, for the chain of `rows` rows from `row` on. */
static void attend_group(const struct gqa_task *t, struct scratch *s, size_t row, size_t rows, size_t head)
{
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	size_t group = c->heads / c->kv_heads, values = group * c->v_dim, width = e->kv.width;
	const uint16_t *cache = octavo_kv_rows(e->geometry.kv, e->geometry.sequence[row], t->kv_layer) + head * c->v_dim;
	for (size_t i = 0; i < rows; i++)
		e->k->round->run(s->q + i * values, e->work.q + ((row + i) * c->heads + head * group) * c->v_dim, values);
	struct octavo_attention a = { .q = s->q, .ldq = c->v_dim, .k_dim = c->v_dim, .v_dim = c->v_dim, .k = cache,
		                      .v = cache + c->kv_heads * c->v_dim, .ldk = width, .ldv = width, .tau = e->tau };
	octavo_attend(e, &s->attend, a, row, rows, group);
	for (size_t i = 0; i < rows; i++)
		memcpy(e->work.attended + ((row + i) * c->heads + head * group) * c->v_dim, s->attend.o[0] + i * values,
		       values * sizeof(float));
}

static void some_groups(void *arg, size_t task)
{
	const struct gqa_task *t = arg;
	const struct octavo_engine *e = t->e;
	struct octavo_arena arena = { .base = e->work.head_scratch + task * e->work.head_scratch_size };
	struct scratch s;
	size_t unit = 0;
	carve(&arena, &s, &e->config);
	for (size_t row = 0, rows; row < e->geometry.rows; row += rows) {
		rows = octavo_chain_length(&e->geometry, row);
		for (size_t head = 0; head < e->config.kv_heads; head++)
			if (unit++ % t->tasks == task)
				attend_group(t, &s, row, rows, head);
	}
}

void octavo_gqa_store(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer)
{
	struct gqa_task t = { e, layer, kv_layer, e->threads.parallel.threads };
	project(e, layer, 0);
	octavo_for_rows(e, e->geometry.rows, store_row, &t);
}

void octavo_gqa(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer)
{
	struct gqa_task t = { e, layer, kv_layer, e->threads.parallel.threads };
	size_t rows = e->geometry.rows;
	project(e, layer, 1);
	octavo_for_rows(e, rows, finish_row, &t);
	octavo_observe(e, kv_layer, OCTAVO_AT_QUERY, e->work.q, rows, e->config.heads * e->config.v_dim);
	octavo_observe(e, kv_layer, OCTAVO_AT_KEY_VALUE, e->work.kv, rows, e->kv.width);
	octavo_run(&e->threads, t.tasks, some_groups, &t);
	octavo_observe(e, kv_layer, OCTAVO_AT_ATTENTION, e->work.attended, rows, e->config.heads * e->config.v_dim);
	octavo_linear(e, &layer->o, e->work.attended, rows, e->work.y);
}
