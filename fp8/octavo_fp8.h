/* SPDX-License-Identifier: Apache-2.0
 *
 * The number formats: exact scalar codecs, block-scaled matrix views, quantisers.
 *
 * E4M3 here is E4M3FN: bias 7, no infinities, S.1111.111 is NaN, largest finite 448.
 * Formats: OCP 8-bit Floating Point Specification 1.0; Micikevicius et al., arXiv 2209.05433.
 */
#ifndef OCTAVO_FP8_H
#define OCTAVO_FP8_H

#include "octavo_base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum octavo_dtype {
	OCTAVO_NONE = 0,
	OCTAVO_F32,
	OCTAVO_BF16,
	OCTAVO_F16,
	OCTAVO_E4M3,
	OCTAVO_E5M2,
	OCTAVO_E8M0,
};

/* Bytes of one element; 0 for OCTAVO_NONE. */
OCTAVO_API size_t octavo_dtype_size(enum octavo_dtype dtype);
/* The name that safetensors uses ("F8_E4M3"); "none" for OCTAVO_NONE. */
OCTAVO_API const char *octavo_dtype_name(enum octavo_dtype dtype);

/* ---- Scalar codecs ---------------------------------------------------------------------------
 * Decoders are exact.  Encoders round to nearest, ties to even, from any float, subnormals included.
 * `_sat` clamps what rounds beyond the largest finite value (infinities too) to it; the plain form
 * gives NaN (E4M3) or infinity (E5M2) there.  A NaN stays a NaN and keeps its sign: 0x7F or 0xFF in FP8.
 * All work on the bits: the caller's rounding mode and flush-to-zero change nothing. */
OCTAVO_API float octavo_e4m3_decode(uint8_t code);
OCTAVO_API uint8_t octavo_e4m3_encode(float x);
OCTAVO_API uint8_t octavo_e4m3_encode_sat(float x);
OCTAVO_API float octavo_e5m2_decode(uint8_t code);
OCTAVO_API uint8_t octavo_e5m2_encode(float x);
OCTAVO_API uint8_t octavo_e5m2_encode_sat(float x);

/* E8M0: 2^(code-127), 255 is NaN; no zero and no sign (OCP Microscaling 1.0).  `_encode_up` gives the
 * smallest power of two >= x, clamped to codes 1..254 as DeepGEMM's UE8M0 scales are; NaN, infinity
 * and negative x give 255. */
OCTAVO_API float octavo_e8m0_decode(uint8_t code);
OCTAVO_API uint8_t octavo_e8m0_encode_up(float x);

OCTAVO_API float octavo_bf16_decode(uint16_t bits);
OCTAVO_API uint16_t octavo_bf16_encode(float x);
/* As octavo_bf16_encode, but an x of magnitude below 2^-40 (before rounding) becomes +0: the rule for every
 * activation, cache row and attention probability, so that no ISA ever meets a subnormal product. */
OCTAVO_API uint16_t octavo_bf16_activation(float x);
OCTAVO_API float octavo_f16_decode(uint16_t bits);

/* Stochastic rounding to E4M3, saturating, on magnitudes: to the larger neighbour with the probability of
 * the distance from the smaller one (in units of their gap, cut off at 2^-32), decided by `random`, 32
 * uniform bits.  A value of the format stays as it is. */
OCTAVO_API uint8_t octavo_e4m3_encode_stochastic(float x, uint32_t random);
/* The same over x[count], element i with word n % 4 of the Philox4x32-10 block of key `seed` and counter
 * (n / 4 in two words, 0, 0xF8000000), n = first + i: so any slicing gives the same codes. */
OCTAVO_API void octavo_e4m3_encode_stochastic_n(uint8_t *code, const float *x, size_t count, uint64_t seed,
                                                uint64_t first);

/* ---- Block-scaled matrices -------------------------------------------------------------------- */

#define OCTAVO_BLOCK 128 /* rows and columns that share one scale */

/* A borrowed view of a weight matrix [rows][cols], row-major, as it lies in a checkpoint.
 * The value of element (n, k) is data[n][k] * scale[(row0 + n) / 128][(col0 + k) / 128]; edge blocks
 * are partial.  `data` and `scale` need no alignment. */
struct octavo_matrix {
	const void *data;
	size_t rows, cols;
	size_t ld;                /* elements from one row to the next, >= cols */
	enum octavo_dtype dtype;  /* E4M3, E5M2 (scaled); BF16, F16, F32 (not scaled) */
	enum octavo_dtype scale_dtype; /* F32, BF16, E8M0, or NONE: no scale, the factor is 1 */
	const void *scale;        /* [ceil][scale_ld], of the block that holds row 0 - row0, col 0 - col0 */
	size_t scale_ld;          /* scales from one block row to the next */
	unsigned row0, col0;      /* 0..127: where the view starts inside its first scale block */
};

/* Scale of element (n, k) after the contract's rule: below 2^-40 counts as zero; 1 for an unscaled
 * matrix.  No check of range: octavo_matrix_check does that. */
OCTAVO_API float octavo_matrix_scale(const struct octavo_matrix *w, size_t n, size_t k);
/* Element (n, k), scaled, as the exact product rounded to F32. */
OCTAVO_API float octavo_matrix_value(const struct octavo_matrix *w, size_t n, size_t k);
/* The sub-matrix of rows [n0, n0+rows) and columns [k0, k0+cols); same storage. */
OCTAVO_API struct octavo_matrix octavo_matrix_view(const struct octavo_matrix *w, size_t n0, size_t rows, size_t k0,
                                                   size_t cols);
/* EINVAL for null pointers, zero or overflowing sizes, an impossible dtype pair;
 * ENUMERIC for a scale that is NaN, infinite, negative or above 2^40.  Reads all scales, no weights. */
OCTAVO_API enum octavo_status octavo_matrix_check(const struct octavo_matrix *w);

/* ---- Quantisers, in the caller's floating-point environment ------------------------------------ */

enum octavo_scale_rule {
	OCTAVO_SCALE_AMAX = 0, /* s = max(amax, 1e-4) / 448 */
	OCTAVO_SCALE_E8M0 = 1, /* that, rounded up to a power of two */
};

/* Dynamic 1x128 activation quantisation of one BF16 row x[cols] (DeepSeek-V3 report, section 3.3):
 * code[i] = E4M3_sat(x[i] / s) with a true division; one F32 scale per 128 columns, the last group
 * partial.  A group with NaN or infinity becomes all NaN codes, with its scale 1. */
OCTAVO_API void octavo_quantise_1x128(uint8_t *code /* [cols] */, float *scale /* [ceil(cols/128)] */,
                                      const uint16_t *x /* [cols] bf16 */, size_t cols, enum octavo_scale_rule rule);

/* Weight quantisation in 128x128 blocks, ragged edges partial: s = amax / 448 by `rule`, code = E4M3_sat(w / s).
 * scale is [ceil(rows/128)][ceil(cols/128)] F32.  A block with s below 2^-40, which every kernel would read as
 * zero, is stored as zeros with s = 1.  EINVAL for null pointers, zero or overflowing sizes, ld < cols; ENUMERIC if
 * w holds NaN or infinity or needs a scale above 2^40.  On failure the outputs are unspecified. */
OCTAVO_API enum octavo_status octavo_quantise_128x128(uint8_t *code /* [rows][cols] */, float *scale,
                                                      const float *w /* [rows][ld] */, size_t rows, size_t cols,
                                                      size_t ld, enum octavo_scale_rule rule);

/* ---- Tensor-core accumulation ------------------------------------------------------------------
 * A model of how GPU tensor cores add FP8 products: not in IEEE arithmetic, but as fixed-point numbers that are
 * aligned to the largest of them, with few bits.  Sources: DeepSeek-V3's report (arXiv 2412.19437), section 3.3.2
 * (partial sums are promoted to FP32 every N_C = 128 elements) and 3.5.2 (Hopper aligns the products by their largest
 * exponent and keeps the highest 14 bits); SageAttention2 (arXiv 2411.10958): the accumulator has 1 sign, 8 exponent
 * and 13 fraction bits, the rest is cut off; Fasi, Higham, Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor
 * cores" (PeerJ CS 7:e330, 2021): alignment covers the accumulator and cuts off towards zero.
 *
 * The model, to the bit.  The exponent of a code is that of its binade, for subnormal codes that of the smallest
 * normal number (-6 in E4M3, -14 in E5M2); the exponent of a product is the sum of its codes' (so products are not
 * normalised: below 4 in units of it); the exponent of the accumulator c is floor(log2 |c|).  One step adds a group:
 *     e = the largest exponent of c and of the products, zeros left out
 *     S = the sum of c and all products, each cut off towards zero to a multiple of 2^(e - fraction); exact
 *     c = S cut off towards zero to fraction + 1 significant bits
 * from c = +0, over the groups in ascending order.  After `promotion` elements, and at the end, y = y + c in FP32,
 * rounded to nearest, and c starts again at +0; with scales y = fma(scale, c, y).  A NaN or infinity among the terms
 * gives what IEEE addition gives.  This describes the published findings; it is no vendor's specification. */
struct octavo_tensor_core {
	unsigned group;    /* products that one step adds, 1 to 32; an FP8 MMA on Hopper has 32 */
	unsigned fraction; /* 1 to 23; Hopper: 13, so that 14 bits count the leading one; 14 if they do not */
	size_t promotion;  /* N_C, a multiple of group; 0: the whole length */
};

/* One step: c, +0 or the result of a step, plus `count` <= 32 products of E4M3 codes, with 1 to 23 `fraction` bits. */
OCTAVO_API float octavo_tensor_core_step(unsigned fraction, float c, const uint8_t *a, const uint8_t *b, size_t count);
/* The product of two rows of `count` E4M3 codes without scales, as the model adds it; a last group is shorter.
 * EINVAL: null pointers, members out of their range. */
OCTAVO_API enum octavo_status octavo_tensor_core_dot(const struct octavo_tensor_core *core, const uint8_t *a,
                                                     const uint8_t *b, size_t count, float *y);

#ifdef __cplusplus
}
#endif
#endif
