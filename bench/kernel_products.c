/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix products that `specbench kernels` can time.
 */
#include "bench/kernel_ops.h"

/* ---- Products ------------------------------------------------------------------------------------------------- */

static bool takes_product(size_t n, size_t k)
{
	return n && k;
}

static const void *slot_fp8(const struct octavo_kernels *t)
{
	return t->gemm_fp8;
}

static const void *slot_bf16(const struct octavo_kernels *t)
{
	return t->gemm_bf16;
}

static size_t weights_fp8(const struct work *w)
{
	return w->n * w->k;
}

static size_t weights_bf16(const struct work *w)
{
	return w->n * w->k * sizeof(uint16_t);
}

static size_t in_k(const struct work *w)
{
	return w->m * w->k * sizeof(uint16_t);
}

static size_t out_n(const struct work *w)
{
	return w->m * w->n * sizeof(float);
}

static double flops_product(const struct work *w)
{
	return 2.0 * (double)w->m * (double)w->n * (double)w->k;
}

static void shrink_n(struct work *w)
{
	size_t most = MOMENT / (w->m * w->k);
	most = most < 32 ? 32 : most;
	w->n = w->n < most ? w->n : most;
}

static enum octavo_status run_gemm(struct work *w, const struct octavo_kernels *table, enum octavo_dtype dtype,
                                   const unsigned char *weights)
{
	bool scaled = dtype == OCTAVO_E4M3;
	struct octavo_matrix matrix = {
	        .data = weights,
	        .rows = w->n,
	        .cols = w->k,
	        .ld = w->k,
	        .dtype = dtype,
	        .scale_dtype = scaled ? OCTAVO_F32 : OCTAVO_NONE,
	        .scale = scaled ? w->scale : NULL,
	        .scale_ld = blocks_of(w->k),
	};
	struct octavo_product product = {&matrix, {w->in, w->m, w->k, NULL, 0}, w->out, w->n, 1};
	return octavo_gemm_group(table, w->parallel, &product, 1);
}

static enum octavo_status run_gemm_fp8(struct work *w, const struct octavo_kernels *table, const unsigned char *weights)
{
	return run_gemm(w, table, OCTAVO_E4M3, weights);
}

static enum octavo_status run_gemm_bf16(struct work *w, const struct octavo_kernels *table,
                                        const unsigned char *weights)
{
	return run_gemm(w, table, OCTAVO_BF16, weights);
}

const struct op op_gemm = {.name = "gemm",
                           .shape_means = "the FP8 matrix's rows and columns",
                           .shape = {{2048, 7168}, {7168, 2048}, {24576, 1536}, {7168, 16384}},
                           .fill = FILL_E4M3,
                           .streams = true,
                           .takes = takes_product,
                           .slot = slot_fp8,
                           .weights = weights_fp8,
                           .in = in_k,
                           .out = out_n,
                           .flops = flops_product,
                           .shrink = shrink_n,
                           .run = run_gemm_fp8};

const struct op op_gemm_bf16 = {.name = "gemm_bf16",
                                .shape_means = "the BF16 matrix's rows and columns",
                                .shape = {{2048, 7168}, {7168, 2048}},
                                .fill = FILL_BF16,
                                .streams = true,
                                .takes = takes_product,
                                .slot = slot_bf16,
                                .weights = weights_bf16,
                                .in = in_k,
                                .out = out_n,
                                .flops = flops_product,
                                .shrink = shrink_n,
                                .run = run_gemm_bf16};

/* ---- Transposed products: one per head of 128 rows, as absorbed attention takes them from kv_b ------------------ */

enum { HEAD = OCTAVO_BLOCK };

static bool takes_heads(size_t n, size_t k)
{
	return n && k && n % HEAD == 0;
}

static const void *slot_gemm_t(const struct octavo_kernels *t)
{
	return t->gemm_t;
}

static size_t in_n(const struct work *w)
{
	return w->m * w->n * sizeof(uint16_t);
}

static size_t out_heads(const struct work *w)
{
	return w->m * (w->n / HEAD) * w->k * sizeof(float);
}

static void shrink_heads(struct work *w)
{
	size_t most = MOMENT / (w->m * w->k) / HEAD * HEAD;
	most = most < HEAD ? HEAD : most;
	w->n = w->n < most ? w->n : most;
}

/* y [m][heads][k] from x [m][heads][128] */
static void run_head(void *arg, size_t head)
{
	struct call *call = arg;
	const struct work *w = call->work;
	size_t heads = w->n / HEAD;
	struct octavo_matrix matrix = {
	        .data = call->weights + head * HEAD * w->k,
	        .rows = HEAD,
	        .cols = w->k,
	        .ld = w->k,
	        .dtype = OCTAVO_E4M3,
	        .scale_dtype = OCTAVO_F32,
	        .scale = w->scale + head * blocks_of(w->k),
	        .scale_ld = blocks_of(w->k),
	};
	struct octavo_rows x = {(const uint16_t *)w->in + head * HEAD, w->m, w->n, NULL, 0};
	enum octavo_status status =
	        octavo_gemm_transposed(call->table, &matrix, &x, (float *)w->out + head * w->k, heads * w->k);
	if (status != OCTAVO_OK)
		__atomic_store_n(&call->status, status, __ATOMIC_RELAXED);
}

static enum octavo_status run_gemm_t(struct work *w, const struct octavo_kernels *table, const unsigned char *weights)
{
	struct call call = {w, table, weights, OCTAVO_OK};
	w->parallel->run(w->parallel->context, w->n / HEAD, run_head, &call);
	return call.status;
}

const struct op op_gemm_t = {.name = "gemm_t",
                             .shape_means = "128 rows per head (a multiple of 128) and columns",
                             .shape = {{16384, 512}},
                             .fill = FILL_E4M3,
                             .streams = true,
                             .takes = takes_heads,
                             .slot = slot_gemm_t,
                             .weights = weights_fp8,
                             .in = in_n,
                             .out = out_heads,
                             .flops = flops_product,
                             .shrink = shrink_heads,
                             .run = run_gemm_t};
