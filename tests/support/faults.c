/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/faults.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ALLOCATIONS = 1024 };
static void *allocation[MOST_ALLOCATIONS];
static size_t allocations;

static void *keep(void *memory)
{
	if (!memory || allocations == MOST_ALLOCATIONS)
		abort();
	return allocation[allocations++] = memory;
}

void faults_free(void)
{
	while (allocations)
		free(allocation[--allocations]);
}

/* ---- Weights and scales -------------------------------------------------------------------------------------- */

typedef void visit_fn(struct octavo_matrix *w);

static void visit_layer(struct octavo_layer *layer, size_t experts, visit_fn *visit)
{
	struct octavo_matrix *single[] = { &layer->q, &layer->q_a, &layer->q_b, &layer->kv_a, &layer->kv_b, &layer->o,
		                           &layer->dense.gate, &layer->dense.up, &layer->dense.down,
		                           &layer->shared.gate, &layer->shared.up, &layer->shared.down };
	for (size_t i = 0; i < sizeof single / sizeof *single; i++)
		if (single[i]->data && single[i]->scale)
			visit(single[i]);
	for (size_t x = 0; layer->moe && x < experts; x++) {
		struct octavo_matrix *of_expert[] = { &layer->expert[x].gate, &layer->expert[x].up,
			                              &layer->expert[x].down };
		for (size_t i = 0; i < 3; i++)
			if (of_expert[i]->scale)
				visit(of_expert[i]);
	}
}

static void visit_all(struct octavo_engine *e, visit_fn *visit)
{
	for (size_t i = 0; i < e->config.layers; i++)
		visit_layer(&e->weights.layer[i], e->config.experts, visit);
}

/* The scales of a whole matrix, each replaced by f of the scale at (i, j). */
static void replace_scales(struct octavo_matrix *w, float (*f)(const struct octavo_matrix *w, size_t i, size_t j))
{
	size_t rows = (w->rows + 127) / 128, cols = (w->cols + 127) / 128;
	float *scale = keep(malloc(rows * cols * sizeof *scale));
	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < cols; j++)
			scale[i * cols + j] = f(w, i, j);
	w->scale = scale;
	w->scale_dtype = OCTAVO_F32;
	w->scale_ld = cols;
}

static float stored(const struct octavo_matrix *w, size_t i, size_t j)
{
	return octavo_matrix_scale(w, i * 128, j * 128);
}

static float reciprocal(const struct octavo_matrix *w, size_t i, size_t j)
{
	return 1.0f / stored(w, i, j);
}

static void divide(struct octavo_matrix *w)
{
	replace_scales(w, reciprocal);
}

static void scale_reciprocal(struct octavo_engine *e, struct octavo_kernels *table)
{
	(void)table;
	visit_all(e, divide);
}

static float without_ragged_row(const struct octavo_matrix *w, size_t i, size_t j)
{
	return stored(w, i && (i + 1) * 128 > w->rows ? i - 1 : i, j);
}

static void drop_ragged_row(struct octavo_matrix *w)
{
	replace_scales(w, without_ragged_row);
}

static void scale_last_row_dropped(struct octavo_engine *e, struct octavo_kernels *table)
{
	(void)table;
	visit_all(e, drop_ragged_row);
}

/* ---- Positions ------------------------------------------------------------------------------------------------ */

static void rope_halves_row(float *x, const float *cs, size_t n)
{
	for (size_t i = 0; i < n / 2; i++) {
		float a = x[i], b = x[i + n / 2], c = cs[2 * i], s = cs[2 * i + 1];
		x[i] = a * c - b * s;
		x[i + n / 2] = a * s + b * c;
	}
}

static const struct octavo_rope_kernel rope_halves_kernel = { "rope", "fault", 0, 1, rope_halves_row };

static void rope_halves(struct octavo_engine *e, struct octavo_kernels *table)
{
	(void)e;
	table->rope = &rope_halves_kernel;
}

static void no_mscale(struct octavo_engine *e, struct octavo_kernels *table)
{
	(void)table;
	e->tau = 1.0f / sqrtf((float)(e->config.nope + e->config.rope));
}

/* ---- Router ------------------------------------------------------------------------------------------------------ */

static float biased(const struct octavo_router *r, const float *logits, size_t x)
{
	return 1.0f / (1.0f + expf(-logits[x])) + (r->bias ? r->bias[x] : 0.0f);
}

static void route_biased_weights_row(const struct octavo_router *r, const float *logits, uint32_t *expert,
                                     float *weight)
{
	float sum = 0.0f;
	octavo_kernels_get()->route->run(r, logits, expert, weight);
	for (size_t i = 0; i < r->top_k; i++)
		sum += weight[i] = biased(r, logits, expert[i]);
	for (size_t i = 0; i < r->top_k; i++)
		weight[i] = weight[i] / (r->normalise ? sum + 1e-20f : 1.0f) * r->factor;
}

static const struct octavo_route_kernel biased_kernel = { "route", "fault", 0, 1, route_biased_weights_row };

static void router_biased_weights(struct octavo_engine *e, struct octavo_kernels *table)
{
	(void)e;
	table->route = &biased_kernel;
}

/* Groups ranked by their best expert: shown to the real router as a choice among the experts it may take. */
static void route_group_max_row(const struct octavo_router *r, const float *logits, uint32_t *expert, float *weight)
{
	size_t size = r->experts / r->groups;
	float best[OCTAVO_MAX_EXPERTS], masked[OCTAVO_MAX_EXPERTS];
	for (size_t g = 0; g < r->groups; g++) {
		best[g] = -INFINITY;
		for (size_t x = g * size; x < (g + 1) * size; x++)
			best[g] = fmaxf(best[g], biased(r, logits, x));
	}
	for (size_t x = 0; x < r->experts; x++) {
		size_t better = 0;
		for (size_t g = 0; g < r->groups; g++)
			better += best[g] > best[x / size];
		masked[x] = better < r->top_groups ? r->bias ? r->bias[x] : 0.0f : -1e30f;
	}
	struct octavo_router ungrouped = *r;
	ungrouped.groups = ungrouped.top_groups = 1;
	ungrouped.bias = masked;
	octavo_kernels_get()->route->run(&ungrouped, logits, expert, weight);
}

static const struct octavo_route_kernel group_max_kernel = { "route", "fault", 0, 1, route_group_max_row };

static void router_group_max(struct octavo_engine *e, struct octavo_kernels *table)
{
	(void)e;
	table->route = &group_max_kernel;
}

static void router_no_bias(struct octavo_engine *e, struct octavo_kernels *table)
{
	(void)table;
	for (size_t i = 0; i < e->config.layers; i++)
		e->weights.layer[i].router_bias = NULL;
}

/* ---- MTP --------------------------------------------------------------------------------------------------------- */

static void mtp_concat_order(struct octavo_engine *e, struct octavo_kernels *table)
{
	(void)table;
	struct octavo_matrix *w = &e->weights.mtp[0].eh_proj;
	size_t element = octavo_dtype_size(w->dtype), half = w->cols / 2 * element;
	char *data = keep(malloc(w->rows * 2 * half));
	for (size_t row = 0; row < w->rows; row++) {
		const char *from = (const char *)w->data + row * w->ld * element;
		memcpy(data + row * 2 * half, from + half, half);
		memcpy(data + row * 2 * half + half, from, half);
	}
	w->data = data;
	w->ld = w->cols;
}

static void mtp_main_norm(struct octavo_engine *e, struct octavo_kernels *table)
{
	(void)table;
	memcpy(e->weights.mtp[0].head_norm, e->weights.final_norm, e->config.hidden * sizeof(float));
}

const struct fault faults[] = {
	{ "scale_reciprocal", scale_reciprocal, 0 },
	{ "scale_last_row_dropped", scale_last_row_dropped, 0 },
	{ "rope_halves", rope_halves, 0 },
	{ "no_mscale", no_mscale, 0 },
	{ "router_biased_weights", router_biased_weights, 0 },
	{ "router_group_max", router_group_max, 0 },
	{ "router_no_bias", router_no_bias, 0 },
	{ "mtp_concat_order", mtp_concat_order, 1 },
	{ "mtp_main_norm", mtp_main_norm, 1 },
};
const size_t fault_count = sizeof faults / sizeof *faults;
