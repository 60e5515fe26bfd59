/* SPDX-License-Identifier: Apache-2.0
 *
 * What `specbench kernels` can time: one entry per operation, with its operands and its cost.
 */
#ifndef OCTAVO_KERNEL_OPS_H
#define OCTAVO_KERNEL_OPS_H

#include "bench/bench.h"

/* Random contents: E4M3 codes without NaN, BF16 values in (-2, 2), or what is both and in whole dwords a positive F32
 * below 2, so that it serves as entries of an FP8 cache wherever they begin. */
enum fill { FILL_E4M3, FILL_BF16, FILL_FP8_CACHE };
void fill_random(void *to, size_t bytes, enum fill fill, const struct octavo_parallel *parallel);

/* One operation at one shape and row count, without the weights (for attention, the cache's rows): each call gets its
 * own, so that it finds them cold. */
struct work {
	const struct op *op;
	size_t m, n, k;
	const struct octavo_parallel *parallel;
	float *scale;           /* [ceil(n/128)][ceil(k/128)] of all weights */
	void *in, *out, *spare; /* of op->in, op->out and op->spare bytes */
};

/* The sizes are in bytes; a NULL function means none. */
struct op {
	const char *name;
	const char *shape_means; /* what N,K are, and what they must be */
	size_t shape[4][2];      /* DeepSeek-V3's; ends with 0 */
	size_t rows[8];          /* what is timed by default; ends with 0; none: 1 to 16 */
	enum fill fill;
	bool streams; /* bound by memory: stands beside the read bandwidth */
	bool (*takes)(size_t n, size_t k);
	const void *(*slot)(const struct octavo_kernels *table); /* the descriptor that does it */
	size_t (*weights)(const struct work *w);
	size_t (*in)(const struct work *w);
	size_t (*out)(const struct work *w);
	size_t (*spare)(const struct work *w);
	double (*flops)(const struct work *w);
	/* Cuts n or k to what the reference does in a moment. */
	void (*shrink)(struct work *w);
	enum octavo_status (*run)(struct work *w, const struct octavo_kernels *table, const unsigned char *weights);
};

/* NULL-terminated; the first is the default. */
extern const struct op *const kernel_ops[];
/* kernel_products.c, kernel_moe.c, kernel_attention.c, kernel_rows.c */
extern const struct op op_gemm, op_gemm_bf16, op_gemm_t, op_moe, op_mla_up, op_attention, op_attention_fp8, op_gqa,
        op_norm, op_swiglu, op_quantise, op_decode, op_encode;

/* What a task of a parallel operation needs. */
struct call {
	struct work *work;
	const struct octavo_kernels *table;
	const unsigned char *weights;
	enum octavo_status status; /* of the task that failed last */
};

/* Scale blocks along n elements. */
static inline size_t blocks_of(size_t n)
{
	return (n + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK;
}

/* The reference does so many multiply-adds in a moment: what `shrink` cuts to. */
enum { MOMENT = 32 << 20 };

/* Allocates and fills; false if memory ran out. */
bool work_open(struct work *w);
void work_close(struct work *w);
/* Bytes that one call must move: weights and scales, input and output, each once. */
double work_bytes(const struct work *w);
/* Runs a shrunken copy of the work with both tables: 1 the same bits, 0 not, negative a status.  For products by an
 * `approximate` kernel 1 is: both within the error bound of octavo_kernels.h. */
int work_agrees(const struct work *w, const unsigned char *weights, const struct octavo_kernels *table,
                const struct octavo_kernels *reference, bool approximate);

#endif
