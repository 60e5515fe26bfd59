/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel suite: operations on tiles and slices, each defined to the last bit.
 *
 * A slot of the table holds a const descriptor; the reference set fills every slot, and the sets of the
 * instruction sets that this machine has overlay it.  All sets give the same bits (any NaN equals any NaN)
 * unless a descriptor is flagged OCTAVO_APPROXIMATE.  Micro-kernels allocate nothing (some take up to 84 KiB of
 * stack), start no thread and check nothing; the drivers at the end of this header check, split and call them.
 *
 * Ground rules for every operation: round to nearest even, no flush-to-zero, no contraction; results never
 * depend on the number of rows, on their place in the batch or on the number of threads.
 */
#ifndef OCTAVO_KERNELS_H
#define OCTAVO_KERNELS_H

#include "octavo_fp8.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Not the reference's bits: tested against a written bound or model, never chosen by default. */
enum { OCTAVO_APPROXIMATE = 1u << 0 };

/* ---- GEMM --------------------------------------------------------------------------------------
 * y[m][n] = sum_k x[m][k] * w[n][k].  K is cut where a scale block of w ends, and the pieces into chunks of
 * 32 (the last shorter).  In a chunk, E is the chain of FP32 fused multiply-adds over the even k (counted
 * from the chunk's start), ascending, from +0, and O the same over the odd k; then
 *     acc = acc + (E + O)      over a piece's chunks, ascending, from +0,
 *     y   = fma(scale, acc, y) over the pieces, ascending, from +0,
 * with scale = s_w, or the FP32 product s_x * s_w where the activations carry scales.  An unscaled matrix
 * (BF16, F16, F32) is one piece and y is its acc.  W's NaN codes stay NaN. */

/* The left operand: rows of BF16 values made by the `round` or the `quantise` slot. */
struct octavo_rows {
	const uint16_t *x; /* [rows][ld] bf16 */
	size_t rows, ld;
	const float *scale; /* [rows][scale_ld], one per 128 columns (W8A8), or NULL (W8A16) */
	size_t scale_ld;
};

/* y[m][n] for all rows m, at least one, and n in [n0, n1); y is [rows][ldy] and indexed by the absolute n. */
typedef void octavo_gemm_fn(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x,
                            float *y, size_t ldy);

/* The transposed product, for absorbing a slice of kv_b: y[m][k] = sum_n x[m][n] * w[n][k] for k in [k0, k1).
 * N is cut where a scale block of w ends; chunks, chains and scales as above with n in k's place.
 * Activations never carry scales here. */
typedef void octavo_gemm_t_fn(const struct octavo_matrix *w, size_t k0, size_t k1, const struct octavo_rows *x,
                              float *y, size_t ldy);

/* ---- Attention ---------------------------------------------------------------------------------
 * `heads` queries that share their keys and values, over one segment: the tokens [t0, t1) with t0 a multiple of
 * 512 and t1 <= t0 + 512.  They are heads of one row, or of several rows that are a chain: a later row sees what an
 * earlier one sees and more, and `end` says how far each sees.  Absolute token t lies in slot
 * t < committed ? t : path[t - committed] of the cache.  In the segment, per head, over the tokens it sees,
 *     s_t = (q . k_t) * tau        k-chunks and chains as in an unscaled GEMM
 *     m = max s;  p_t = exp(s_t - m);  l = lane sum of p
 *     o[j] = sum_t bf16(p_t) * v_t[j]      32-token chunks counted from t0, E/O chains, as above
 * where bf16() is octavo_bf16_activation.  m, l and o are outputs, not yet divided.
 *
 * So it serves both kinds of attention that share keys and values among heads.  MLA, absorbed: all heads of a layer
 * against the latent rows, v = k with v_dim < k_dim.  Grouped-query attention (Ainslie et al., arXiv 2305.13245) of
 * dense models: one call per head of keys and values, `heads` being the group of query heads that share it (times the
 * rows of a chain), with k and v pointing at that head's columns in caches [slots][kv heads][dim] and ldk, ldv their
 * row lengths; a group of one is multi-head attention. */
#define OCTAVO_SEGMENT 512

struct octavo_attention {
	const uint16_t *q; /* [heads][ldq] bf16 */
	size_t heads, ldq;
	size_t k_dim, v_dim;
	const uint16_t *k; /* [slots][ldk] bf16 */
	const uint16_t *v; /* [slots][ldv] bf16; for MLA's latent cache the same rows as k */
	size_t ldk, ldv;
	size_t committed;
	const uint32_t *path; /* slots of the tokens from `committed` on; may be NULL if none is needed */
	size_t t0, t1;
	const size_t *end; /* [heads] absolute end of each head's tokens, in (t0, t1]; NULL: t1 for all */
	float tau; /* positive: so no score is -0, and the maximum is one to the bit */
	float *m, *l; /* [heads] */
	float *o;     /* [heads][v_dim] */
	float *p;     /* scratch: [heads][512] */
};
typedef void octavo_attention_fn(const struct octavo_attention *a);

/* Merges segment 2 (the later one) into segment 1, for `heads` heads:
 * m' = max(m1, m2), a = exp(m1 - m'), b = exp(m2 - m'), l = fma(l2, b, l1 * a), o = fma(o2, b, o1 * a). */
typedef void octavo_attention_merge_fn(size_t heads, size_t v_dim, float *m1, float *l1, float *o1, const float *m2,
                                       const float *l2, const float *o2);
/* o = o / l per head. */
typedef void octavo_attention_finish_fn(size_t heads, size_t v_dim, float *o, const float *l);

/* ---- Rows -------------------------------------------------------------------------------------- */

/* RMSNorm (Zhang and Sennrich, arXiv 1910.07467): r = 1 / sqrt(lanesum(x*x) / n + eps), y = (x * r) * g.
 * lanesum: 16 lanes, lane[i % 16] = fma(x_i, x_i, lane), then the tree 8-4-2-1. */
typedef void octavo_norm_fn(float *y, const float *x, const float *g, size_t n, float eps);

/* Rotates adjacent pairs: y0 = fma(x0, c, -(x1 * s)), y1 = fma(x0, s, x1 * c); cs is [n/2][2] = cos, sin. */
typedef void octavo_rope_fn(float *x, const float *cs, size_t n);

/* y = silu(gate) * up with silu(z) = z / (1 + exp(-z)). */
typedef void octavo_swiglu_fn(float *y, const float *gate, const float *up, size_t n);

/* octavo_bf16_activation over a row. */
typedef void octavo_round_fn(uint16_t *y, const float *x, size_t n);

/* 1x128 quantisation for W8A8: rounds x to BF16, quantises as octavo_quantise_1x128 does and writes the codes'
 * values as BF16 (exact) with one scale per 128 columns. */
typedef void octavo_quantise_fn(uint16_t *y, float *scale, const float *x, size_t n, enum octavo_scale_rule rule);

/* y[i] = BF16(value of E4M3 code[i] * scale), the exact product rounded once; magnitudes below 2^-40 become +0, NaN
 * codes NaN.  scale is 0 or in [2^-40, 2^40]. */
typedef void octavo_decode_fn(uint16_t *y, const uint8_t *code, float scale, size_t n);
/* octavo_e4m3_encode_sat over a row. */
typedef void octavo_encode_fn(uint8_t *code, const float *x, size_t n);

/* acc[i] = fma(w, x[i], acc[i]): the combination of expert outputs, called in ascending expert id. */
typedef void octavo_axpy_fn(float *acc, const float *x, float w, size_t n);

/* ---- Router ------------------------------------------------------------------------------------ */

enum octavo_topk_method { OCTAVO_TOPK_NOAUX_TC, OCTAVO_TOPK_GREEDY, OCTAVO_TOPK_GROUP_GREEDY };
enum octavo_scoring { OCTAVO_SCORE_SIGMOID, OCTAVO_SCORE_SOFTMAX };

/* Expert choice of DeepSeek-V3 (report, equations 12 to 16; "noaux_tc") and of V2.  Ties take the lowest
 * expert.  Results are in ascending expert id, weights summed in that order, divided by (sum + 1e-20) if
 * `normalise` and top_k > 1, then multiplied by `factor`. */
struct octavo_router {
	size_t experts, top_k;      /* top_k <= experts <= 1024 */
	size_t groups, top_groups;  /* groups divides experts; top_k <= top_groups * experts / groups; 1, 1: none */
	enum octavo_topk_method method;
	enum octavo_scoring scoring;
	int normalise;
	float factor;
	const float *bias; /* [experts], for noaux_tc; NULL counts as zeros */
};
#define OCTAVO_MAX_EXPERTS 1024
typedef void octavo_route_fn(const struct octavo_router *r, const float *logits /* [experts] */,
                             uint32_t *expert /* [top_k] */, float *weight /* [top_k] */);

/* y_i = exp(x_i - max x) for a row of finite logits or -infinity, in the contract's polynomial. */
typedef void octavo_exp_row_fn(float *y, const float *x, float max, size_t n);

/* Random bits, 256 words at once: number[64 * w + i] = word w of Philox4x32-10 (Salmon et al., SC 2011) of the
 * counter with i added to its last word, i < 64. */
#define OCTAVO_NUMBERS 256
typedef void octavo_numbers_fn(uint32_t number[OCTAVO_NUMBERS], const uint32_t counter[4], uint64_t key);

/* ---- The table --------------------------------------------------------------------------------- */

#define OCTAVO_SLOTS(X)                           \
	X(gemm, gemm_fp8)                         \
	X(gemm, gemm_bf16)                        \
	X(gemm, gemm_f32)                         \
	X(gemm_t, gemm_t)                         \
	X(attention, attention)                   \
	X(attention_merge, attention_merge)       \
	X(attention_finish, attention_finish)     \
	X(norm, norm)                             \
	X(rope, rope)                             \
	X(swiglu, swiglu)                         \
	X(round, round)                           \
	X(quantise, quantise)                     \
	X(decode, decode_e4m3)                    \
	X(encode, encode_e4m3)                    \
	X(axpy, axpy)                             \
	X(route, route)                           \
	X(exp_row, exp_row)                       \
	X(numbers, numbers)

/* gemm_fp8 takes E4M3 and E5M2 weights with any scale dtype; gemm_bf16 takes BF16 and F16; gemm_f32 F32. */

#define OCTAVO_DESCRIPTOR(type)            \
	struct octavo_##type##_kernel {     \
		const char *name; /* "gemm_fp8" */ \
		const char *isa;  /* "ref", "avx512", … */ \
		uint32_t flags;   /* OCTAVO_APPROXIMATE */ \
		uint32_t granule; /* best multiple for the slice bounds; 1 if any */ \
		octavo_##type##_fn *run;    \
	};
OCTAVO_DESCRIPTOR(gemm)
OCTAVO_DESCRIPTOR(gemm_t)
OCTAVO_DESCRIPTOR(attention)
OCTAVO_DESCRIPTOR(attention_merge)
OCTAVO_DESCRIPTOR(attention_finish)
OCTAVO_DESCRIPTOR(norm)
OCTAVO_DESCRIPTOR(rope)
OCTAVO_DESCRIPTOR(swiglu)
OCTAVO_DESCRIPTOR(round)
OCTAVO_DESCRIPTOR(quantise)
OCTAVO_DESCRIPTOR(decode)
OCTAVO_DESCRIPTOR(encode)
OCTAVO_DESCRIPTOR(axpy)
OCTAVO_DESCRIPTOR(route)
OCTAVO_DESCRIPTOR(exp_row)
OCTAVO_DESCRIPTOR(numbers)

struct octavo_kernels {
#define OCTAVO_SLOT_FIELD(type, slot) const struct octavo_##type##_kernel *slot;
	OCTAVO_SLOTS(OCTAVO_SLOT_FIELD)
#undef OCTAVO_SLOT_FIELD
};

/* Groups of CPU features, operating-system state included; a set needs its whole group. */
enum {
	OCTAVO_CPU_HWY = 1u << 0,    /* the module of the Highway set can be loaded and has a target for this CPU */
	OCTAVO_CPU_AVX2 = 1u << 1,   /* AVX2, FMA, F16C, BMI2; YMM state enabled */
	OCTAVO_CPU_AVX512 = 1u << 2, /* F, BW, DQ, VL, CD; ZMM and mask state enabled */
	OCTAVO_CPU_VBMI = 1u << 3,   /* AVX512_VBMI beside the above */
	OCTAVO_CPU_GFNI = 1u << 4,   /* GFNI beside AVX512; reported, no set needs it */
	OCTAVO_CPU_AMX = 1u << 5,    /* AMX-TILE and AMX-BF16, tile state enabled and permitted, AVX512 and VBMI */
	OCTAVO_CPU_NEON = 1u << 6,   /* Armv8.0-A Advanced SIMD */
	OCTAVO_CPU_BF16 = 1u << 7,   /* AVX512_BF16 beside AVX512 and VBMI, its dot products found to be two
	                              * multiply-adds in turn */
};

/* What this machine has, lowered by the environment variable OCTAVO_CPU = ref|hwy|avx2|avx512|avx512bf16|amx|neon (the
 * named set and those below it).  Empty counts as unset; an unknown name lowers to the reference, and
 * octavo_cpu_reason says so.
 * The Highway set is a module that brings the C++ runtime: it is looked for, and so can be in the answer, only where
 * no other group is there or allowed.
 * Where the CPU has AMX, the first call asks Linux for tile registers, for the whole process and for good.  Linux
 * refuses while a thread has an alternate signal stack smaller than a frame with them, and afterwards refuses such
 * stacks (sigaltstack: ENOMEM): make them of getauxval(AT_MINSIGSTKSZ) bytes and what the handler needs, not of
 * SIGSTKSZ. */
OCTAVO_API uint32_t octavo_cpu_detect(void);
/* The same, with OCTAVO_CPU_HWY beside better groups too: for tools that list or test every set.  Loads the module
 * unless OCTAVO_CPU=ref. */
OCTAVO_API uint32_t octavo_cpu_detect_all(void);
/* Why a feature group is absent (hwy: once it was looked for), or how OCTAVO_CPU lowered the choice; "" if there is
 * nothing to say. */
OCTAVO_API const char *octavo_cpu_reason(void);
/* "avx512": the highest set in `cpu`; "ref" for 0. */
OCTAVO_API const char *octavo_cpu_name(uint32_t cpu);

/* Fills *table for a mask: the reference first, each set overlaid in ascending order.  The same mask gives the same
 * table throughout a process; the first one with OCTAVO_CPU_HWY loads that set's module, without which the bit
 * counts for nothing. */
OCTAVO_API void octavo_kernels_init(struct octavo_kernels *table, uint32_t cpu);
/* The table for octavo_cpu_detect(), made once. */
OCTAVO_API const struct octavo_kernels *octavo_kernels_get(void);

/* ---- Backends ----------------------------------------------------------------------------------
 * Matrix products of other libraries, "onednn" and "xsmm" (libxsmm), each a module (octavo_base.h).
 * They take everything that gemm_fp8 and gemm_bf16 take, and are flagged OCTAVO_APPROXIMATE: they add in an order of
 * their own, which may change with the number of rows and the processor.  What they promise: where
 * nothing overflows, |y - exact| <= g / (1 - g) * sum_k |s * x * w| with g = (128 + P) * 2^-24, where s is the exact
 * product of the scales and P the number of pieces: where a scale block of w ends, or 128 columns where there are no
 * scales; F16 counts twice.  (N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 3.1:
 * the products of a piece are exact, at most 127 roundings add them, one makes s, one applies it, P - 1 add the
 * pieces.)  A row of x or of w with a NaN gives NaN, as in the other sets; so does a product for which a thread
 * could not get its scratch memory.  Each thread that runs one keeps up to 1 MiB until it ends. */

/* Puts the backend's kernels in place of *table's gemm_fp8 and gemm_bf16.  EINVAL for null arguments and unknown names,
 * ENOTSUP with the reason in *error if the module is not installed or its library cannot work here; then
 * *table is as it was. */
OCTAVO_API enum octavo_status octavo_backend_overlay(struct octavo_kernels *table, const char *name,
                                                     struct octavo_error *error);
/* NULL-terminated: all that may be asked for. */
OCTAVO_API const char *const *octavo_backend_names(void);

/* Puts in the place of gemm_fp8 one that adds as GPU tensor cores do, marked OCTAVO_APPROXIMATE: `name` is "hopper"
 * (promotion every 128 elements) or "hopper:NC" with NC = 32, 64, 96 or 128.  The model is octavo_tensor_core's in
 * octavo_fp8.h with groups of 32 and 13 fraction bits; a scale block of w promotes at its end.  Only W8A8 products
 * are added so (rows that carry scales); rows of BF16 take octavo_kernels_get()'s kernel.  Other slots stay.
 * EINVAL for null pointers or another name. */
OCTAVO_API enum octavo_status octavo_kernels_emulate(struct octavo_kernels *table, const char *name);

/* ---- Drivers ----------------------------------------------------------------------------------- */

/* Runs fn(arg, task) for every task in [0, tasks), in any order and on any threads, and returns when all are
 * done.  NULL in place of the struct means serially, on the caller. */
typedef void octavo_task_fn(void *arg, size_t task);
struct octavo_parallel {
	void (*run)(void *context, size_t tasks, octavo_task_fn *fn, void *arg);
	void *context;
	size_t threads; /* how many tasks at once; the drivers cut their work by it, the bits never depend on it */
};

/* One product of a group: y[rows of x][ldy]. */
struct octavo_product {
	const struct octavo_matrix *w;
	struct octavo_rows x;
	float *y;
	size_t ldy;
	int checked; /* the caller vouches for w (octavo_matrix_check passed once): skip reading its scales again */
};

/* Computes `count` products in one parallel region, cut along N; products of zero rows are skipped.
 * EINVAL: null pointers, x, its scales or y not at a multiple of their element's size, zero sizes, ld below the width,
 * x.ld below w.cols, scales with unscaled weights or with a view whose col0 is not 0;
 * ENUMERIC: scales outside the contract (when not `checked`). */
OCTAVO_API enum octavo_status octavo_gemm_group(const struct octavo_kernels *table,
                                                const struct octavo_parallel *parallel,
                                                const struct octavo_product *product, size_t count);
/* The same for one product. */
OCTAVO_API enum octavo_status octavo_gemm(const struct octavo_kernels *table, const struct octavo_parallel *parallel,
                                          const struct octavo_matrix *w, const struct octavo_rows *x, float *y,
                                          size_t ldy);
/* Serial transposed product with the same checks. */
OCTAVO_API enum octavo_status octavo_gemm_transposed(const struct octavo_kernels *table,
                                                     const struct octavo_matrix *w, const struct octavo_rows *x,
                                                     float *y, size_t ldy);

/* ---- Mixture of experts ------------------------------------------------------------------------
 * A gated feed-forward network: down(silu(gate x) * up x). */
struct octavo_mlp {
	struct octavo_matrix gate, up; /* [width][hidden] */
	struct octavo_matrix down;     /* [hidden][width] */
};

/* The feed-forward part of a mixture of experts (DeepSeekMoE, arXiv 2401.06066, equation 3), for rows that a router has
 * been through: each expert that any row chose is read once for all its rows, the shared one with them.  Per row,
 *     y = 0;  y = fma(weight, expert(x), y) in ascending expert id;  y = fma(1, shared(x), y)
 * where the left operands of gate and up, and of down, are made of F32 rows by the `round` slot, or by `quantise` where
 * that is asked for and the matrices are FP8. */
struct octavo_moe {
	const struct octavo_mlp *expert;  /* [experts], all of one shape, gates, ups and downs each all FP8 or all not */
	const struct octavo_mlp *shared;  /* of any width; NULL: none */
	size_t experts, top_k;
	const float *x; /* [rows][hidden] */
	size_t rows;
	const uint32_t *chosen; /* [rows][top_k] experts, ascending */
	const float *weight;    /* [rows][top_k] */
	int quantise;           /* W8A8 */
	enum octavo_scale_rule rule; /* of quantise */
	float *y;      /* [rows][hidden]; not x */
	void *scratch; /* octavo_moe_scratch() bytes, any address that malloc would give */
	int checked;   /* the caller vouches for all matrices, as in octavo_product */
};
/* Bytes of scratch for so many rows at most; SIZE_MAX if that overflows. */
OCTAVO_API size_t octavo_moe_scratch(size_t rows, size_t experts, size_t top_k, size_t hidden, size_t width,
                                     size_t shared_width);
/* EINVAL: null or misaligned pointers, zero sizes but for rows, over OCTAVO_MAX_EXPERTS experts, 2^32 choices or more,
 * choices out of order or range, matrices that disagree; ENUMERIC: scales outside the contract (unless `checked`). */
OCTAVO_API enum octavo_status octavo_moe_run(const struct octavo_kernels *table, const struct octavo_parallel *parallel,
                                             const struct octavo_moe *moe);

/* ---- MLA's latents to keys and values ----------------------------------------------------------
 * For prompts of many rows, whose attention is cheaper per head (the naive form; DeepSeek-V2, arXiv 2405.04434,
 * equations 10 to 15): head h has rows [h * (nope + v_dim), (h + 1) * (nope + v_dim)) of kv_b, those of its keys first.
 * Per cache row [c | k_rope]
 *     key = [W_UK c | k_rope],  value = W_UV c
 * with the products of the GEMM slots, rounded by the `round` slot. */
struct octavo_mla_up {
	const struct octavo_matrix *kv_b; /* [heads * (nope + v_dim)][latent] */
	size_t heads, nope, rope, v_dim;
	const uint16_t *cache; /* [tokens][ld] bf16: latent, then rope */
	size_t tokens, ld;
	uint16_t *keys;   /* [heads][tokens][nope + rope] bf16 */
	uint16_t *values; /* [heads][tokens][v_dim] bf16 */
	int checked;      /* the caller vouches for kv_b, as in octavo_product */
};
/* EINVAL: null or misaligned pointers, zero sizes but for rope and tokens, sizes that do not agree;
 * ENUMERIC: scales outside the contract (when not `checked`). */
OCTAVO_API enum octavo_status octavo_mla_up_run(const struct octavo_kernels *table,
                                                const struct octavo_parallel *parallel,
                                                const struct octavo_mla_up *up);

/* ---- Attention over whole contexts --------------------------------------------------------------
 * Rows of sequences against all that they see of their caches: segments of 512 tokens by the `attention` slot, merged in
 * ascending order by `attention_merge`, at the end o / l.  The work is cut over sequences, heads, rows and segments; all
 * rows and heads of a sequence that share keys share one read of them.
 *
 * `group` queries share a head of keys and values.  MLA, absorbed: kv_heads 1, group the model's heads, k_dim the width
 * of a latent row and v_dim its front without the rotated key.  MLA, naive (kv_b is not NULL): kv_heads the model's
 * heads, group 1; a head's keys and values are expanded from the latent rows, a segment at a time, as octavo_mla_up_run
 * does.  Grouped-query attention: as named. */
enum octavo_cache {
	OCTAVO_CACHE_LATENT,     /* entries [latent + rope] bf16 */
	OCTAVO_CACHE_LATENT_FP8, /* as octavo_kv_row_write leaves them; decoded a segment at a time, where it is used */
	OCTAVO_CACHE_HEADS,      /* [kv_heads][k_dim], then [kv_heads][v_dim] bf16 */
};

/* The rows of one sequence.  Token t lies in slot t < committed ? t : path of the row [t - committed]. */
struct octavo_attend_sequence {
	const uint16_t *q; /* [kv_heads][rows][group][k_dim] bf16 */
	size_t rows;
	const void *cache; /* [slots] entries; all that lie in the segments that are seen are finite */
	size_t committed;
	const size_t *pos;    /* [rows] the last token that the row sees, at least committed - 1 */
	const uint32_t *path; /* [rows][path_ld] slots of the tokens committed .. pos; NULL if no row has any */
	size_t path_ld;
	const unsigned char *chained; /* [rows] the row sees what the one before it sees, and one token more; NULL: none does */
	float *o;             /* [kv_heads][rows][group][v_dim] */
};

struct octavo_attend {
	const struct octavo_attend_sequence *sequence; /* [sequences] */
	size_t sequences;
	size_t kv_heads, group, k_dim, v_dim;
	enum octavo_cache cache;
	const struct octavo_matrix *kv_b; /* [kv_heads * (nope + v_dim)][latent], k_dim = nope + rope; NULL: none */
	float tau;                        /* of the scores; positive */
	void *scratch; /* octavo_attend_scratch() bytes, any address that malloc would give */
	int checked;   /* the caller vouches for kv_b, as in octavo_product */
};
/* Bytes of scratch for so many sequences and rows in all at most, of the sizes in *a, on so many threads; SIZE_MAX if that
 * overflows.  It does not grow with the contexts. */
OCTAVO_API size_t octavo_attend_scratch(const struct octavo_attend *a, size_t sequences, size_t rows, size_t threads);
/* EINVAL: null or misaligned pointers, zero sizes, a tau that is not positive, sizes that disagree with the cache or with
 * kv_b, rows that see less than what is committed or more than their path, chained rows whose positions do not follow
 * each other; ENUMERIC: scales of kv_b outside the contract (when not `checked`). */
OCTAVO_API enum octavo_status octavo_attend_run(const struct octavo_kernels *table,
                                                const struct octavo_parallel *parallel, const struct octavo_attend *a);

/* ---- Rows of an FP8 latent cache -----------------------------------------------------------------
 * MLA's cache row as FlashMLA keeps it for DeepSeek-V3.2, and as other engines exchange it: E4M3 codes of the latent
 * [latent], one F32 scale per 128 of them (the last group may be shorter), then the rotated key [rope] in BF16; no
 * padding, little-endian, any address; 656 bytes for 512 and 64.  Like the slots, these functions check nothing. */
OCTAVO_API size_t octavo_kv_row_bytes(size_t latent, size_t rope);
/* Writes row [latent + rope] F32: each group of the latent as the `quantise` slot does with OCTAVO_SCALE_AMAX (through
 * BF16), the key as `round` does. */
OCTAVO_API void octavo_kv_row_write(const struct octavo_kernels *table, uint8_t *entry, const float *row, size_t latent,
                                    size_t rope);
/* Reads it as [latent + rope] BF16: the latent as the `decode_e4m3` slot does, the key as it is. */
OCTAVO_API void octavo_kv_row_read(const struct octavo_kernels *table, uint16_t *row, const uint8_t *entry,
                                   size_t latent, size_t rope);

#ifdef __cplusplus
}
#endif
#endif
