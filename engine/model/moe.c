/* SPDX-License-Identifier: Apache-2.0
 *
 * A layer's mixture of experts: the router here, the experts in kernels/moe.c.
 */
#include "engine/internal.h"

#include <assert.h>

struct route_task {
	struct octavo_engine *e;
	struct octavo_router router;
};

static void route_row(void *arg, size_t row)
{
	const struct route_task *t = arg;
	const struct octavo_work *s = &t->e->work;
	t->e->k->route->run(&t->router, s->router + row * t->router.experts, s->chosen + row * t->router.top_k,
	                    s->chosen_weight + row * t->router.top_k);
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
	octavo_for_rows(e, rows, route_row, &(struct route_task){ e, router });
}

static size_t distinct(const uint32_t *chosen, size_t count)
{
	unsigned char seen[OCTAVO_MAX_EXPERTS] = { 0 };
	size_t experts = 0;
	for (size_t i = 0; i < count; i++) {
		experts += !seen[chosen[i]];
		seen[chosen[i]] = 1;
	}
	return experts;
}

void octavo_moe(struct octavo_engine *e, const struct octavo_layer *layer)
{
	const struct octavo_config *c = &e->config;
	struct octavo_work *s = &e->work;
	size_t rows = e->geometry.rows;
	route(e, layer);
	e->expert_union += distinct(s->chosen, rows * c->top_k);
	e->expert_rows += rows;
	struct octavo_moe moe = { .expert = layer->expert, .shared = layer->shared.gate.data ? &layer->shared : NULL,
		                  .experts = c->experts, .top_k = c->top_k, .x = s->normed, .rows = rows,
		                  .chosen = s->chosen, .weight = s->chosen_weight,
		                  .quantise = e->settings.arithmetic == OCTAVO_W8A8, .rule = c->activation_scale,
		                  .y = s->y, .scratch = s->moe, .checked = 1 };
	enum octavo_status status = octavo_moe_run(e->k, &e->threads.parallel, &moe);
	assert(status == OCTAVO_OK);
	(void)status;
}
