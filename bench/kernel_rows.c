/* SPDX-License-Identifier: Apache-2.0
 *
 * The operations on single rows that `specbench kernels` can time.
 */
#include "bench/kernel_ops.h"

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

static const void *slot_decode(const struct octavo_kernels *t)
{
	return t->decode_e4m3;
}

static const void *slot_encode(const struct octavo_kernels *t)
{
	return t->encode_e4m3;
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

/* ---- Codecs: codes come cold, as those of a cache or of weights ------------------------------------------------- */

static size_t codes(const struct work *w)
{
	return w->m * w->k;
}

static size_t out_decoded(const struct work *w)
{
	return w->m * w->k * sizeof(uint16_t);
}

/* 128 codes to a scale, as in a row of the FP8 cache. */
static void decode_row(void *arg, size_t row)
{
	const struct call *call = arg;
	const struct work *w = call->work;
	const uint8_t *code = call->weights + row * w->k;
	uint16_t *y = (uint16_t *)w->out + row * w->k;
	for (size_t i = 0; i < w->k; i += OCTAVO_BLOCK)
		call->table->decode_e4m3->run(y + i, code + i, w->scale[i / OCTAVO_BLOCK],
		                              w->k - i < OCTAVO_BLOCK ? w->k - i : OCTAVO_BLOCK);
}

static enum octavo_status run_decode(struct work *w, const struct octavo_kernels *table, const unsigned char *weights)
{
	struct call call = {w, table, weights, OCTAVO_OK};
	w->parallel->run(w->parallel->context, w->m, decode_row, &call);
	return OCTAVO_OK;
}

const struct op op_decode = {.name = "decode",
                             .shape_means = "1 and the row's length",
                             .shape = {{1, 65536}},
                             .fill = FILL_E4M3,
                             .streams = true,
                             .takes = takes_row,
                             .slot = slot_decode,
                             .weights = codes,
                             .out = out_decoded,
                             .shrink = shrink_nothing,
                             .run = run_decode};

static void encode_row(void *arg, size_t row)
{
	const struct call *call = arg;
	const struct work *w = call->work;
	call->table->encode_e4m3->run((uint8_t *)w->out + row * w->k, (const float *)w->in + row * w->k, w->k);
}

static enum octavo_status run_encode(struct work *w, const struct octavo_kernels *table, const unsigned char *weights)
{
	(void)weights;
	return run_rows(w, table, encode_row);
}

const struct op op_encode = {.name = "encode",
                             .shape_means = "1 and the row's length",
                             .shape = {{1, 7168}},
                             .takes = takes_row,
                             .slot = slot_encode,
                             .in = out_row,
                             .out = codes,
                             .shrink = shrink_nothing,
                             .run = run_encode};
