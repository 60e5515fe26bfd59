/* SPDX-License-Identifier: Apache-2.0
 *
 * Mixture of experts (DeepSeek-V3 report, section 2.1.2): every expert that any row of the batch chose is read
 * once for all its rows; the shared expert runs in the same parallel regions.
 *
 * The buffers hold (row, expert) pairs sorted by expert, then by row.  Results go back to each row in ascending
 * expert id, the shared expert last, whatever else was in the batch.
 */
#include "engine/internal.h"

#include <assert.h>
#include <string.h>

static void run_products(struct octavo_engine *e, size_t count)
{
	enum octavo_status status = octavo_gemm_group(e->k, &e->threads.parallel, e->work.product, count);
	assert(status == OCTAVO_OK);
	(void)status;
}

static void route(struct octavo_engine *e, const struct octavo_layer *layer)
{
	const struct octavo_config *c = &e->config;
	struct octavo_work *s = &e->work;
	size_t rows = e->geometry.rows;
	struct octavo_router router = { .experts = c->experts, .top_k = c->top_k, .groups = c->groups,
		                        .top_groups = c->top_groups, .method = c->topk_method, .scoring = c->scoring,
		                        .normalise = c->normalise, .factor = c->routed_factor,
		                        .bias = layer->router_bias };
	octavo_linear(e, &layer->router, s->normed, rows, s->router);
	for (size_t row = 0; row < rows; row++)
		e->k->route->run(&router, s->router + row * c->experts, s->chosen + row * c->top_k,
		                 s->chosen_weight + row * c->top_k);
}

/* Counting sort of the pairs by expert; returns how many experts have rows. */
static size_t sort_pairs(struct octavo_engine *e)
{
	const struct octavo_config *c = &e->config;
	struct octavo_work *s = &e->work;
	size_t pairs = e->geometry.rows * c->top_k, distinct = 0;
	uint32_t *first = s->expert_first;
	memset(first, 0, (c->experts + 1) * sizeof *first);
	for (size_t i = 0; i < pairs; i++)
		first[s->chosen[i] + 1]++;
	for (size_t x = 0; x < c->experts; x++) {
		distinct += first[x + 1] != 0;
		first[x + 1] += first[x];
	}
	/* Place the pairs with first[] as running cursors, then shift it back. */
	for (size_t i = 0; i < pairs; i++)
		s->place[i] = first[s->chosen[i]]++;
	memmove(first + 1, first, c->experts * sizeof *first);
	first[0] = 0;
	return distinct;
}

struct gather_task {
	struct octavo_engine *e;
	const struct octavo_rows *left;
};

/* A row's left operand goes to each of its pairs. */
static void gather_row(void *arg, size_t row)
{
	const struct gather_task *t = arg;
	struct octavo_work *s = &t->e->work;
	const struct octavo_rows *left = t->left;
	size_t top_k = t->e->config.top_k;
	for (size_t i = row * top_k; i < (row + 1) * top_k; i++) {
		size_t slot = s->place[i];
		memcpy(s->gathered + slot * left->ld, left->x + row * left->ld, left->ld * sizeof *s->gathered);
		if (left->scale)
			memcpy(s->gathered_scale + slot * left->scale_ld, left->scale + row * left->scale_ld,
			       left->scale_ld * sizeof *s->gathered_scale);
	}
}

/* Rows [first, first + count) of a packed left operand. */
static struct octavo_rows part(struct octavo_rows all, size_t first, size_t count)
{
	all.x += first * all.ld;
	if (all.scale)
		all.scale += first * all.scale_ld;
	all.rows = count;
	return all;
}

static void gate_and_up(struct octavo_engine *e, const struct octavo_layer *layer)
{
	const struct octavo_config *c = &e->config;
	struct octavo_work *s = &e->work;
	size_t rows = e->geometry.rows, pairs = rows * c->top_k, hidden = c->hidden, count = 0;
	struct octavo_rows left =
		octavo_left(e, s->normed, rows, hidden, &layer->expert[0].gate, s->act[1], s->act_scale);
	octavo_for_rows(e, rows, gather_row, &(struct gather_task){ e, &left });
	struct octavo_rows packed = { .x = s->gathered, .rows = pairs, .ld = hidden,
		                      .scale = left.scale ? s->gathered_scale : NULL, .scale_ld = left.scale_ld };
	for (size_t x = 0; x < c->experts; x++) {
		size_t first = s->expert_first[x], n = s->expert_first[x + 1] - first, width = c->expert_width;
		if (!n)
			continue;
		struct octavo_rows mine = part(packed, first, n);
		s->product[count++] = (struct octavo_product){ &layer->expert[x].gate, mine,
			                                       s->gate + first * width, width, 1 };
		s->product[count++] = (struct octavo_product){ &layer->expert[x].up, mine, s->up + first * width,
			                                       width, 1 };
	}
	if (layer->shared.gate.data) {
		size_t at = pairs * c->expert_width, width = layer->shared.gate.rows;
		struct octavo_rows mine =
			octavo_left(e, s->normed, rows, hidden, &layer->shared.gate, s->act[0], s->act_scale);
		s->product[count++] = (struct octavo_product){ &layer->shared.gate, mine, s->gate + at, width, 1 };
		s->product[count++] = (struct octavo_product){ &layer->shared.up, mine, s->up + at, width, 1 };
	}
	run_products(e, count);
}

static void down(struct octavo_engine *e, const struct octavo_layer *layer)
{
	const struct octavo_config *c = &e->config;
	struct octavo_work *s = &e->work;
	size_t rows = e->geometry.rows, pairs = rows * c->top_k, width = c->expert_width, hidden = c->hidden, count = 0;
	struct octavo_rows packed =
		octavo_left(e, s->gate, pairs, width, &layer->expert[0].down, s->expert_act, s->expert_act_scale);
	for (size_t x = 0; x < c->experts; x++) {
		size_t first = s->expert_first[x], n = s->expert_first[x + 1] - first;
		if (n)
			s->product[count++] = (struct octavo_product){ &layer->expert[x].down, part(packed, first, n),
				                                       s->expert_out + first * hidden, hidden, 1 };
	}
	if (layer->shared.gate.data) {
		size_t groups = (width + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK;
		struct octavo_rows mine = octavo_left(e, s->gate + pairs * width, rows, layer->shared.down.cols,
		                                      &layer->shared.down, s->expert_act + pairs * width,
		                                      s->expert_act_scale + pairs * groups);
		s->product[count++] = (struct octavo_product){ &layer->shared.down, mine,
			                                       s->expert_out + pairs * hidden, hidden, 1 };
	}
	run_products(e, count);
}

struct activate_task {
	struct octavo_engine *e;
	size_t values, slice;
};

/* SwiGLU has no memory between elements, so all pairs are one long row cut anywhere. */
static void activate_slice(void *arg, size_t task)
{
	const struct activate_task *t = arg;
	struct octavo_work *s = &t->e->work;
	size_t first = task * t->slice;
	size_t count = t->values - first < t->slice ? t->values - first : t->slice;
	t->e->k->swiglu->run(s->gate + first, s->gate + first, s->up + first, count);
}

static void activate(struct octavo_engine *e, size_t values)
{
	struct activate_task t = { e, values, 16384 };
	octavo_run(&e->threads, (values + t.slice - 1) / t.slice, activate_slice, &t);
}

struct combine_task {
	struct octavo_engine *e;
	size_t shared; /* slot of row 0's shared expert output, or SIZE_MAX */
};

static void combine_row(void *arg, size_t row)
{
	const struct combine_task *t = arg;
	struct octavo_engine *e = t->e;
	struct octavo_work *s = &e->work;
	size_t top_k = e->config.top_k, hidden = e->config.hidden;
	float *y = s->y + row * hidden;
	memset(y, 0, hidden * sizeof *y);
	for (size_t i = row * top_k; i < (row + 1) * top_k; i++)
		e->k->axpy->run(y, s->expert_out + s->place[i] * hidden, s->chosen_weight[i], hidden);
	if (t->shared != SIZE_MAX)
		e->k->axpy->run(y, s->expert_out + (t->shared + row) * hidden, 1.0f, hidden);
}

static void combine(struct octavo_engine *e, const struct octavo_layer *layer)
{
	size_t rows = e->geometry.rows;
	struct combine_task t = { e, layer->shared.gate.data ? rows * e->config.top_k : SIZE_MAX };
	octavo_for_rows(e, rows, combine_row, &t);
}

void octavo_moe(struct octavo_engine *e, const struct octavo_layer *layer)
{
	size_t rows = e->geometry.rows;
	route(e, layer);
	e->expert_union += sort_pairs(e);
	e->expert_rows += rows;
	gate_and_up(e, layer);
	size_t shared = layer->shared.gate.data ? layer->shared.gate.rows : 0;
	activate(e, rows * (e->config.top_k * e->config.expert_width + shared));
	down(e, layer);
	combine(e, layer);
}
