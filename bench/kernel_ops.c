/* SPDX-License-Identifier: Apache-2.0
 *
 * The operations that `specbench kernels` can time.
 */
#include "bench/kernel_ops.h"

#include <stdlib.h>
#include <string.h>

/* ---- Random contents ------------------------------------------------------------------------------------------ */

enum { FILL_CHUNK = 1 << 20 };

struct filling {
	unsigned char *to;
	size_t bytes;
	enum fill fill;
};

/* Eight codes at a time: a code that is NaN (S.1111.111) loses its lowest bit. */
static uint64_t as_e4m3(uint64_t random)
{
	uint64_t nan = ((random & 0x7f7f7f7f7f7f7f7f) + 0x0101010101010101) & 0x8080808080808080;
	return random ^ (nan >> 7);
}

/* Four values at a time: sign and mantissa random, exponent from -7 to 0. */
static uint64_t as_bf16(uint64_t random)
{
	return (random & 0x83ff83ff83ff83ff) | 0x3c003c003c003c00;
}

static void fill_chunk(void *arg, size_t task)
{
	const struct filling *f = arg;
	size_t from = task * FILL_CHUNK, to = from + FILL_CHUNK < f->bytes ? from + FILL_CHUNK : f->bytes;
	uint64_t state = (task + 1) * 0x9e3779b97f4a7c15;
	for (size_t i = from; i < to; i += sizeof state) {
		state ^= state << 13; /* xorshift64 (Marsaglia, 2003) */
		state ^= state >> 7;
		state ^= state << 17;
		uint64_t word = f->fill == FILL_E4M3 ? as_e4m3(state) : as_bf16(state);
		memcpy(f->to + i, &word, to - i < sizeof word ? to - i : sizeof word);
	}
}

void fill_random(void *to, size_t bytes, enum fill fill, const struct octavo_parallel *parallel)
{
	struct filling filling = {to, bytes, fill};
	parallel->run(parallel->context, (bytes + FILL_CHUNK - 1) / FILL_CHUNK, fill_chunk, &filling);
}

/* [count] values in (-2, 2), every 256 the same. */
static void fill_floats(float *to, size_t count)
{
	uint16_t value[256];
	struct filling filling = {(unsigned char *)value, sizeof value, FILL_BF16};
	fill_chunk(&filling, 0);
	for (size_t i = 0; i < count; i++)
		to[i] = octavo_bf16_decode(value[i % 256]);
}

/* ---- Products ------------------------------------------------------------------------------------------------- */

static size_t blocks(size_t n)
{
	return (n + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK;
}

static bool takes_any(size_t n, size_t k)
{
	return n && k;
}

static const void *slot_fp8(const struct octavo_kernels *t, const char **isa)
{
	*isa = t->gemm_fp8->isa;
	return t->gemm_fp8;
}

static const void *slot_bf16(const struct octavo_kernels *t, const char **isa)
{
	*isa = t->gemm_bf16->isa;
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

/* At most so many multiply-adds: the reference does them in a moment. */
static const size_t moment = 32 << 20;

static void shrink_n(struct work *w)
{
	size_t most = moment / (w->m * w->k);
	most = most < 32 ? 32 : most;
	w->n = w->n < most ? w->n : most;
}

static enum octavo_status run_gemm(struct work *w, const struct octavo_kernels *table, enum octavo_dtype dtype,
                                   size_t copy)
{
	bool scaled = dtype == OCTAVO_E4M3;
	struct octavo_matrix matrix = {
	        .data = w->pool + copy * w->op->weights(w),
	        .rows = w->n,
	        .cols = w->k,
	        .ld = w->k,
	        .dtype = dtype,
	        .scale_dtype = scaled ? OCTAVO_F32 : OCTAVO_NONE,
	        .scale = scaled ? w->scale : NULL,
	        .scale_ld = blocks(w->k),
	};
	struct octavo_product product = {&matrix, {w->in, w->m, w->k, NULL, 0}, w->out, w->n, 1};
	return octavo_gemm_group(table, w->parallel, &product, 1);
}

static enum octavo_status run_gemm_fp8(struct work *w, const struct octavo_kernels *table, size_t copy)
{
	return run_gemm(w, table, OCTAVO_E4M3, copy);
}

static enum octavo_status run_gemm_bf16(struct work *w, const struct octavo_kernels *table, size_t copy)
{
	return run_gemm(w, table, OCTAVO_BF16, copy);
}

/* ---- Transposed products: one per head of 128 rows, as absorbed attention takes them from kv_b ------------------ */

enum { HEAD = OCTAVO_BLOCK };

struct call {
	struct work *work;
	const struct octavo_kernels *table;
	size_t copy;
	enum octavo_status status;
};

static bool takes_heads(size_t n, size_t k)
{
	return n && k && n % HEAD == 0;
}

static const void *slot_gemm_t(const struct octavo_kernels *t, const char **isa)
{
	*isa = t->gemm_t->isa;
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
	size_t most = moment / (w->m * w->k) / HEAD * HEAD;
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
	        .data = w->pool + call->copy * weights_fp8(w) + head * HEAD * w->k,
	        .rows = HEAD,
	        .cols = w->k,
	        .ld = w->k,
	        .dtype = OCTAVO_E4M3,
	        .scale_dtype = OCTAVO_F32,
	        .scale = w->scale + head * blocks(w->k),
	        .scale_ld = blocks(w->k),
	};
	struct octavo_rows x = {(const uint16_t *)w->in + head * HEAD, w->m, w->n, NULL, 0};
	enum octavo_status status =
	        octavo_gemm_transposed(call->table, &matrix, &x, (float *)w->out + head * w->k, heads * w->k);
	if (status != OCTAVO_OK)
		__atomic_store_n(&call->status, status, __ATOMIC_RELAXED);
}

static enum octavo_status run_gemm_t(struct work *w, const struct octavo_kernels *table, size_t copy)
{
	struct call call = {w, table, copy, OCTAVO_OK};
	w->parallel->run(w->parallel->context, w->n / HEAD, run_head, &call);
	return call.status;
}

/* ---- Attention over MLA's latent cache: n tokens, k heads ------------------------------------------------------- */

enum { K_DIM = 576, V_DIM = 512 };

static const void *slot_attention(const struct octavo_kernels *t, const char **isa)
{
	*isa = t->attention->isa;
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

/* Per row and segment: m and l [heads], o [heads][512], p [heads][512]. */
static size_t spare_floats(const struct work *w)
{
	return w->k * (2 + V_DIM + OCTAVO_SEGMENT);
}

static size_t spare_attention(const struct work *w)
{
	return w->m * segments(w) * spare_floats(w) * sizeof(float);
}

static double flops_attention(const struct work *w)
{
	return 2.0 * (double)w->m * (double)w->n * (double)w->k * (K_DIM + V_DIM);
}

static void shrink_attention(struct work *w)
{
	w->n = w->n < OCTAVO_SEGMENT + 88 ? w->n : OCTAVO_SEGMENT + 88; /* one whole segment, one partial */
	size_t most = moment / (w->m * w->n * K_DIM) + 1;
	w->k = w->k < most ? w->k : most;
}

static void run_segment(void *arg, size_t task)
{
	struct call *call = arg;
	const struct work *w = call->work;
	size_t row = task / segments(w), t0 = task % segments(w) * OCTAVO_SEGMENT;
	float *spare = (float *)w->spare + task * spare_floats(w);
	const uint16_t *cache = (const void *)(w->pool + call->copy * cache_rows(w));
	struct octavo_attention a = {
	        .q = (const uint16_t *)w->in + row * w->k * K_DIM,
	        .heads = w->k,
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
	        .m = spare,
	        .l = spare + w->k,
	        .o = spare + 2 * w->k,
	        .p = spare + w->k * (2 + V_DIM),
	};
	call->table->attention->run(&a);
}

static void merge_row(void *arg, size_t row)
{
	struct call *call = arg;
	const struct work *w = call->work;
	size_t k = w->k;
	float *first = (float *)w->spare + row * segments(w) * spare_floats(w), *o = first + 2 * k;
	for (size_t i = 1; i < segments(w); i++) {
		const float *next = first + i * spare_floats(w);
		call->table->attention_merge->run(k, V_DIM, first, first + k, o, next, next + k, next + 2 * k);
	}
	call->table->attention_finish->run(k, V_DIM, o, first + k);
	memcpy((float *)w->out + row * k * V_DIM, o, k * V_DIM * sizeof *o);
}

static enum octavo_status run_attention(struct work *w, const struct octavo_kernels *table, size_t copy)
{
	struct call call = {w, table, copy, OCTAVO_OK};
	w->parallel->run(w->parallel->context, w->m * segments(w), run_segment, &call);
	w->parallel->run(w->parallel->context, w->m, merge_row, &call);
	return OCTAVO_OK;
}

/* ---- Row operations: their operands are as warm as the engine finds them ---------------------------------------- */

static bool takes_row(size_t n, size_t k)
{
	return n == 1 && k;
}

static const void *slot_norm(const struct octavo_kernels *t, const char **isa)
{
	*isa = t->norm->isa;
	return t->norm;
}

static const void *slot_swiglu(const struct octavo_kernels *t, const char **isa)
{
	*isa = t->swiglu->isa;
	return t->swiglu;
}

static const void *slot_quantise(const struct octavo_kernels *t, const char **isa)
{
	*isa = t->quantise->isa;
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
	return w->m * (w->k * sizeof(uint16_t) + blocks(w->k) * sizeof(float));
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
	uint16_t *values = (uint16_t *)(void *)(scales + w->m * blocks(w->k));
	call->table->quantise->run(values + row * w->k, scales + row * blocks(w->k), (const float *)w->in + row * w->k,
	                           w->k, OCTAVO_SCALE_AMAX);
}

static enum octavo_status run_rows(struct work *w, const struct octavo_kernels *table, octavo_task_fn *row)
{
	struct call call = {w, table, 0, OCTAVO_OK};
	w->parallel->run(w->parallel->context, w->m, row, &call);
	return OCTAVO_OK;
}

static enum octavo_status run_norm(struct work *w, const struct octavo_kernels *table, size_t copy)
{
	(void)copy;
	return run_rows(w, table, norm_row);
}

static enum octavo_status run_swiglu(struct work *w, const struct octavo_kernels *table, size_t copy)
{
	(void)copy;
	return run_rows(w, table, swiglu_row);
}

static enum octavo_status run_quantise(struct work *w, const struct octavo_kernels *table, size_t copy)
{
	(void)copy;
	return run_rows(w, table, quantise_row);
}

/* ---- The table -------------------------------------------------------------------------------------------------- */

/* clang-format off */
const struct op kernel_ops[] = {
	{ .name = "gemm", .shape_means = "the FP8 matrix's rows and columns",
	  .shape = { { 2048, 7168 }, { 7168, 2048 }, { 24576, 1536 }, { 7168, 16384 } }, .fill = FILL_E4M3,
	  .streams = true, .takes = takes_any, .slot = slot_fp8, .weights = weights_fp8, .in = in_k, .out = out_n,
	  .flops = flops_product, .shrink = shrink_n, .run = run_gemm_fp8 },
	{ .name = "gemm_bf16", .shape_means = "the BF16 matrix's rows and columns",
	  .shape = { { 2048, 7168 }, { 7168, 2048 } }, .fill = FILL_BF16,
	  .streams = true, .takes = takes_any, .slot = slot_bf16, .weights = weights_bf16, .in = in_k, .out = out_n,
	  .flops = flops_product, .shrink = shrink_n, .run = run_gemm_bf16 },
	{ .name = "gemm_t", .shape_means = "128 rows per head (a multiple of 128) and columns",
	  .shape = { { 16384, 512 } }, .fill = FILL_E4M3,
	  .streams = true, .takes = takes_heads, .slot = slot_gemm_t, .weights = weights_fp8, .in = in_n, .out = out_heads,
	  .flops = flops_product, .shrink = shrink_heads, .run = run_gemm_t },
	{ .name = "attention", .shape_means = "tokens of the latent cache and heads",
	  .shape = { { 4096, 128 } }, .fill = FILL_BF16,
	  .streams = true, .takes = takes_any, .slot = slot_attention, .weights = cache_rows, .in = in_queries,
	  .out = out_values, .spare = spare_attention, .flops = flops_attention, .shrink = shrink_attention,
	  .run = run_attention },
	{ .name = "norm", .shape_means = "1 and the row's length", .shape = { { 1, 7168 } },
	  .takes = takes_row, .slot = slot_norm, .in = in_rows_and_gains, .out = out_row, .shrink = shrink_nothing,
	  .run = run_norm },
	{ .name = "swiglu", .shape_means = "1 and the row's length", .shape = { { 1, 2048 } },
	  .takes = takes_row, .slot = slot_swiglu, .in = in_gates_and_ups, .out = out_row, .shrink = shrink_nothing,
	  .run = run_swiglu },
	{ .name = "quantise", .shape_means = "1 and the row's length", .shape = { { 1, 7168 } },
	  .takes = takes_row, .slot = slot_quantise, .in = out_row, .out = out_quantised, .shrink = shrink_nothing,
	  .run = run_quantise },
	{ .name = NULL },
};
/* clang-format on */

/* ---- Operands --------------------------------------------------------------------------------------------------- */

static size_t bytes_of(size_t (*size)(const struct work *w), const struct work *w)
{
	return size ? size(w) : 0;
}

bool work_open(struct work *w)
{
	size_t scales = w->op->streams ? blocks(w->n) * blocks(w->k) : 1;
	size_t in = w->op->in(w), out = w->op->out(w), spare = bytes_of(w->op->spare, w);
	w->scale = malloc(scales * sizeof *w->scale);
	w->in = malloc(in);
	w->out = calloc(1, out);
	w->spare = spare ? calloc(1, spare) : NULL;
	if (!w->scale || !w->in || !w->out || (spare && !w->spare)) {
		work_close(w);
		return false;
	}
	fill_floats(w->scale, scales);
	for (size_t i = 0; i < scales; i++)
		w->scale[i] = w->scale[i] < 0 ? -w->scale[i] : w->scale[i];
	if (w->op->streams)
		fill_random(w->in, in, FILL_BF16, w->parallel);
	else
		fill_floats(w->in, in / sizeof(float));
	return true;
}

void work_close(struct work *w)
{
	free(w->scale);
	free(w->in);
	free(w->out);
	free(w->spare);
	w->scale = NULL;
	w->in = w->out = w->spare = NULL;
}

double work_bytes(const struct work *w)
{
	size_t scales = w->op->fill == FILL_E4M3 && w->op->streams ? blocks(w->n) * blocks(w->k) * sizeof(float) : 0;
	return (double)(bytes_of(w->op->weights, w) + scales + w->op->in(w) + w->op->out(w));
}

int work_agrees(const struct work *w, const struct octavo_kernels *table, const struct octavo_kernels *reference)
{
	struct work small = *w;
	w->op->shrink(&small);
	if (!work_open(&small))
		return OCTAVO_ENOMEM;
	size_t bytes = w->op->out(&small);
	void *want = malloc(bytes);
	enum octavo_status status = want ? small.op->run(&small, reference, 0) : OCTAVO_ENOMEM;
	int same = 0;
	if (status == OCTAVO_OK) {
		memcpy(want, small.out, bytes);
		memset(small.out, 0, bytes);
		status = small.op->run(&small, table, 0);
		same = memcmp(want, small.out, bytes) == 0;
	}
	free(want);
	work_close(&small);
	return status == OCTAVO_OK ? same : (int)status;
}
