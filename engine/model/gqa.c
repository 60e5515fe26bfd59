/* SPDX-License-Identifier: Apache-2.0
 *
 * Grouped-query attention (Ainslie et al., arXiv 2305.13245) of dense models over a cache of keys and values.
 *
 * A slot of the cache holds a token's keys, after rotation, then its values: [kv_heads][dim] twice.
 */
#include "engine/model/attend.h"

#include <assert.h>

struct gqa_task {
	struct octavo_engine *e;
	const struct octavo_layer *layer;
	size_t kv_layer;
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

void octavo_gqa_store(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer)
{
	struct gqa_task t = { e, layer, kv_layer };
	project(e, layer, 0);
	octavo_for_rows(e, e->geometry.rows, store_row, &t);
}

void octavo_gqa(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer)
{
	struct gqa_task t = { e, layer, kv_layer };
	struct octavo_attend a = octavo_attend_of(e, NULL);
	size_t rows = e->geometry.rows;
	project(e, layer, 1);
	octavo_for_rows(e, rows, finish_row, &t);
	octavo_observe(e, kv_layer, OCTAVO_AT_QUERY, e->work.q, rows, e->config.heads * e->config.v_dim);
	octavo_observe(e, kv_layer, OCTAVO_AT_KEY_VALUE, e->work.kv, rows, e->kv.width);
	octavo_attend_heads(e, &a, kv_layer, 0);
	octavo_observe(e, kv_layer, OCTAVO_AT_ATTENTION, e->work.attended, rows, e->config.heads * e->config.v_dim);
	octavo_linear(e, &layer->o, e->work.attended, rows, e->work.y);
}
