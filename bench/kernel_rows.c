/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention and the operations on single rows that `specbench kernels` can time.
 */
#include "bench/kernel_ops.h"

#include <string.h>

/* ---- Attention over MLA's latent cache: n tokens, k heads ------------------------------------------------------- */

enum { K_DIM = 576, V_DIM = 512 };

static bool takes_attention(size_t n, size_t k)
{
	return n && k;
}

static const void *slot_attention(const struct octavo_kernels *t)
{
	return t->attention;
}

static size_t segments(const struct work *w)
{
	return (w->n + OCTAVO_SEGMENT - 1) / OCTAVO_SEGMENT;
}

static size_t cache_rows(const struct work *w)
{
	return w->n * K_DIM * sizeof(uint16_t);
}

static size_t in_queries(const struct work *w)
{
	return w->m * w->k * K_DIM * sizeof(uint16_t);
}

static size_t out_values(const struct work *w)
{
	return w->m * w->k * V_DIM * sizeof(float);
}

/* All rows' heads are queries of one chain, as in a verification. */
static size_t queries(const struct work *w)
{
	return w->m * w->k;
}

/* Per segment: m and l [queries], o [queries][512], p [queries][512]. */
static size_t spare_floats(const struct work *w)
{
	return queries(w) * (2 + V_DIM + OCTAVO_SEGMENT);
}

static size_t spare_attention(const struct work *w)
{
	return segments(w) * spare_floats(w) * sizeof(float);
}

/* How many parts the queries are cut into, so that every thread has some tasks. */
static size_t parts(const struct work *w)
{
	size_t wanted = (4 * w->parallel->threads + segments(w) - 1) / segments(w);
	return wanted < queries(w) ? wanted : queries(w);
}

static double flops_attention(const struct work *w)
{
	return 2.0 * (double)w->m * (double)w->n * (double)w->k * (K_DIM + V_DIM);
}

static void shrink_attention(struct work *w)
{
	w->n = w->n < OCTAVO_SEGMENT + 88 ? w->n : OCTAVO_SEGMENT + 88; /* one whole segment, one partial */
	size_t most = MOMENT / (w->m * w->n * K_DIM) + 1;
	w->k = w->k < most ? w->k : most;
}

/* One segment for one part of the queries. */
static void run_segment(void *arg, size_t task)
{
	struct call *call = arg;
	const struct work *w = call->work;
	size_t all = queries(w), part = task % parts(w), t0 = task / parts(w) * OCTAVO_SEGMENT;
	size_t first = all * part / parts(w), end = all * (part + 1) / parts(w);
	float *spare = (float *)w->spare + task / parts(w) * spare_floats(w);
	const uint16_t *cache = (const void *)call->weights;
	struct octavo_attention a = {
	        .q = (const uint16_t *)w->in + first * K_DIM,
	        .heads = end - first,
	        .ldq = K_DIM,
	        .k_dim = K_DIM,
	        .v_dim = V_DIM,
	        .k = cache,
	        .v = cache,
	        .ldk = K_DIM,
	        .ldv = K_DIM,
	        .committed = w->n,
	        .t0 = t0,
	        .t1 = t0 + OCTAVO_SEGMENT < w->n ? t0 + OCTAVO_SEGMENT : w->n,
	        .tau = 0.0417f, /* 1 / sqrt(576) */
	        .m = spare + first,
	        .l = spare + all + first,
	        .o = spare + 2 * all + first * V_DIM,
	        .p = spare + all * (2 + V_DIM) + first * OCTAVO_SEGMENT,
	};
	call->table->attention->run(&a);
}

/* All segments of one part of the queries into the first. */
static void merge_part(void *arg, size_t part)
{
	struct call *call = arg;
	const struct work *w = call->work;
	size_t all = queries(w), first = all * part / parts(w), count = all * (part + 1) / parts(w) - first;
	float *m = (float *)w->spare + first, *l = m + all, *o = (float *)w->spare + 2 * all + first * V_DIM;
	for (size_t i = 1; i < segments(w); i++) {
		size_t next = i * spare_floats(w);
		call->table->attention_merge->run(count, V_DIM, m, l, o, m + next, l + next, o + next);
	}
	call->table->attention_finish->run(count, V_DIM, o, l);
	memcpy((float *)w->out + first * V_DIM, o, count * V_DIM * sizeof *o);
}

static enum octavo_status run_attention(struct work *w, const struct octavo_kernels *table,
                                        const unsigned char *weights)
{
	struct call call = {w, table, weights, OCTAVO_OK};
	w->parallel->run(w->parallel->context, segments(w) * parts(w), run_segment, &call);
	w->parallel->run(w->parallel->context, parts(w), merge_part, &call);
	return OCTAVO_OK;
}

const struct op op_attention = {.name = "attention",
                                .shape_means = "tokens of the latent cache and heads",
                                .shape = {{4096, 128}},
                                .fill = FILL_BF16,
                                .streams = true,
                                .takes = takes_attention,
                                .slot = slot_attention,
                                .weights = cache_rows,
                                .in = in_queries,
                                .out = out_values,
                                .spare = spare_attention,
                                .flops = flops_attention,
                                .shrink = shrink_attention,
                                .run = run_attention};

/* ---- Row operations: their operands are as warm as the engine finds them ---------------------------------------- */

static bool takes_row(size_t n, size_t k)
{
	return n == 1 && k;
}

static const void *slot_norm(const struct octavo_kernels *t)
{
	return t->norm;
}

static const void *slot_swiglu(const struct octavo_kernels *t)
{
	return t->swiglu;
}

static const void *slot_quantise(const struct octavo_kernels *t)
{
	return t->quantise;
}

static size_t out_row(const struct work *w)
{
	return w->m * w->k * sizeof(float);
}

/* The rows and the gains, or the gates and the ups. */
static size_t in_rows_and_gains(const struct work *w)
{
	return (w->m + 1) * w->k * sizeof(float);
}

static size_t in_gates_and_ups(const struct work *w)
{
	return 2 * w->m * w->k * sizeof(float);
}

/* Scales [m][ceil(k/128)], then BF16 values [m][k]. */
static size_t out_quantised(const struct work *w)
{
	return w->m * (w->k * sizeof(uint16_t) + blocks_of(w->k) * sizeof(float));
}

static void shrink_nothing(struct work *w)
{
	(void)w;
}

static void norm_row(void *arg, size_t row)
{
	const struct call *call = arg;
	const struct work *w = call->work;
	const float *x = w->in;
	call->table->norm->run((float *)w->out + row * w->k, x + row * w->k, x + w->m * w->k, w->k, 1e-6f);
}

static void swiglu_row(void *arg, size_t row)
{
	const struct call *call = arg;
	const struct work *w = call->work;
	const float *gate = (const float *)w->in + row * w->k;
	call->table->swiglu->run((float *)w->out + row * w->k, gate, gate + w->m * w->k, w->k);
}

static void quantise_row(void *arg, size_t row)
{
	const struct call *call = arg;
	const struct work *w = call->work;
	float *scales = w->out;
	uint16_t *values = (uint16_t *)(void *)(scales + w->m * blocks_of(w->k));
	call->table->quantise->run(values + row * w->k, scales + row * blocks_of(w->k),
	                           (const float *)w->in + row * w->k, w->k, OCTAVO_SCALE_AMAX);
}

static enum octavo_status run_rows(struct work *w, const struct octavo_kernels *table, octavo_task_fn *row)
{
	struct call call = {w, table, NULL, OCTAVO_OK};
	w->parallel->run(w->parallel->context, w->m, row, &call);
	return OCTAVO_OK;
}

static enum octavo_status run_norm(struct work *w, const struct octavo_kernels *table, const unsigned char *weights)
{
	(void)weights;
	return run_rows(w, table, norm_row);
}

const struct op op_norm = {.name = "norm",
                           .shape_means = "1 and the row's length",
                           .shape = {{1, 7168}},
                           .takes = takes_row,
                           .slot = slot_norm,
                           .in = in_rows_and_gains,
                           .out = out_row,
                           .shrink = shrink_nothing,
                           .run = run_norm};

static enum octavo_status run_swiglu(struct work *w, const struct octavo_kernels *table, const unsigned char *weights)
{
	(void)weights;
	return run_rows(w, table, swiglu_row);
}

const struct op op_swiglu = {.name = "swiglu",
                             .shape_means = "1 and the row's length",
                             .shape = {{1, 2048}},
                             .takes = takes_row,
                             .slot = slot_swiglu,
                             .in = in_gates_and_ups,
                             .out = out_row,
                             .shrink = shrink_nothing,
                             .run = run_swiglu};

static enum octavo_status run_quantise(struct work *w, const struct octavo_kernels *table, const unsigned char *weights)
{
	(void)weights;
	return run_rows(w, table, quantise_row);
}

const struct op op_quantise = {.name = "quantise",
                               .shape_means = "1 and the row's length",
                               .shape = {{1, 7168}},
                               .takes = takes_row,
                               .slot = slot_quantise,
                               .in = out_row,
                               .out = out_quantised,
                               .shrink = shrink_nothing,
                               .run = run_quantise};
