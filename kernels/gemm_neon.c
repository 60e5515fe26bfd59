/* SPDX-License-Identifier: Apache-2.0
 *
 * GEMM for Advanced SIMD.  A conversion to F32 takes four elements, so only groups of four rows are transposed: two
 * steps of zips, after which each quarter of a register holds one element of four rows.
 *
 * FP8 becomes F16 by a shift: the E5M2 code is the upper half of an F16, and the E4M3 code s eeee mmm is the F16
 * s 0eeee mmm0000000 but for a factor of 2^8.  E4M3's NaN would come out as 480 * 2^-8.  Whatever x holds, a NaN
 * weight makes its output NaN: so the loops only keep the largest magnitude that they have met, and rows that hold
 * a NaN are looked for when there is one.
 */
#include "kernels/simd_neon.h"

#include "kernels/sets.h"
#include "kernels/simd_fma.h"

#include "kernels/simd_block.h"

#define GROUP 4 /* rows whose elements share a register */
#define PART 8  /* rows that few_rows takes together */

/* ---- decoding ---------------------------------------------------------------------------------------------- */

/* 16 bytes of four rows to registers of: an element of row 0, 1, 2, 3, the next of row 0, 1, ... */
#define LOAD_GROUP(name, type, suffix)                                                                                 \
	ALWAYS_INLINE void name(const uint8_t *const row[GROUP], size_t offset, uint8x16_t z[GROUP])                   \
	{                                                                                                              \
		type a = vreinterpretq_##suffix##_u8(vld1q_u8(row[0] + offset));                                       \
		type b = vreinterpretq_##suffix##_u8(vld1q_u8(row[1] + offset));                                       \
		type c = vreinterpretq_##suffix##_u8(vld1q_u8(row[2] + offset));                                       \
		type d = vreinterpretq_##suffix##_u8(vld1q_u8(row[3] + offset));                                       \
		type even_low = vzip1q_##suffix(a, c), even_high = vzip2q_##suffix(a, c);                              \
		type odd_low = vzip1q_##suffix(b, d), odd_high = vzip2q_##suffix(b, d);                                \
		z[0] = vreinterpretq_u8_##suffix(vzip1q_##suffix(even_low, odd_low));                                  \
		z[1] = vreinterpretq_u8_##suffix(vzip2q_##suffix(even_low, odd_low));                                  \
		z[2] = vreinterpretq_u8_##suffix(vzip1q_##suffix(even_high, odd_high));                                \
		z[3] = vreinterpretq_u8_##suffix(vzip2q_##suffix(even_high, odd_high));                                \
	}
#define vreinterpretq_u8_u8(v) (v)
LOAD_GROUP(load_bytes, uint8x16_t, u8)
LOAD_GROUP(load_words, uint16x8_t, u16)
LOAD_GROUP(load_dwords, uint32x4_t, u32)

ALWAYS_INLINE void load_group(const enum kind kind, const uint8_t *const row[GROUP], size_t offset, uint8x16_t z[GROUP])
{
	if (kind == F32)
		load_dwords(row, offset, z);
	else if (kind == BF16 || kind == F16)
		load_words(row, offset, z);
	else
		load_bytes(row, offset, z);
}

ALWAYS_INLINE void widen_f16(uint16x8_t half, float32x4_t w[2])
{
	float16x8_t v = vreinterpretq_f16_u16(half);

	w[0] = vcvt_f32_f16(vget_low_f16(v));
	w[1] = vcvt_high_f32_f16(v);
}

ALWAYS_INLINE void widen_bf16(uint16x8_t half, float32x4_t w[2])
{
	w[0] = vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(half), 16));
	w[1] = vreinterpretq_f32_u32(vshll_high_n_u16(half, 16));
}

/* The next four elements of four rows, from one to four registers; E4M3 times 2^-8. */
ALWAYS_INLINE void decode_four(const enum kind kind, const uint8x16_t *z, float32x4_t w[4])
{
	if (kind == E4M3) {
		const uint16x8_t rest = vdupq_n_u16(0xbfff); /* all but the copy of the sign */
		int8x16_t code = vreinterpretq_s8_u8(z[0]);
		int16x8_t low = vshll_n_s8(vget_low_s8(code), 7), high = vshll_high_n_s8(code, 7);
		widen_f16(vandq_u16(vreinterpretq_u16_s16(low), rest), w);
		widen_f16(vandq_u16(vreinterpretq_u16_s16(high), rest), w + 2);
	} else if (kind == E5M2) {
		widen_f16(vshll_n_u8(vget_low_u8(z[0]), 8), w);
		widen_f16(vshll_high_n_u8(z[0], 8), w + 2);
	} else if (kind == F16) {
		widen_f16(vreinterpretq_u16_u8(z[0]), w);
		widen_f16(vreinterpretq_u16_u8(z[1]), w + 2);
	} else if (kind == BF16) {
		widen_bf16(vreinterpretq_u16_u8(z[0]), w);
		widen_bf16(vreinterpretq_u16_u8(z[1]), w + 2);
	} else {
		for (int i = 0; i < 4; i++)
			w[i] = vreinterpretq_f32_u8(z[i]);
	}
}

/* ---- E4M3's NaN -------------------------------------------------------------------------------------------- */

/* Without the sign a NaN code is larger than any other. */
ALWAYS_INLINE void keep_largest(const uint8x16_t z[GROUP], uint8x16_t *largest)
{
#pragma GCC unroll 4
	for (int i = 0; i < GROUP; i++)
		*largest = vmaxq_u8(*largest, vshlq_n_u8(z[i], 1));
}

static inline int is_nan(uint8_t code)
{
	return (code & 0x7f) == 0x7f;
}

static inline int has_nan(uint8x16_t largest)
{
	return vmaxvq_u8(largest) == 0xfe;
}

/* ---- few rows ---------------------------------------------------------------------------------------------- */

struct sums {
	float32x4_t of[FEW][PART / GROUP];
};

/* acc = acc + (E + O) for one chunk of eight rows of weights. */
ALWAYS_INLINE void few_chunk(const enum kind kind, const size_t rows, const uint8_t *const row[PART], size_t offset,
                             const uint16_t *const x[FEW], struct sums *acc, uint8x16_t *largest)
{
	const size_t size = element_size(kind);
	struct sums even, odd;

#pragma GCC unroll 4
	for (size_t m = 0; m < rows; m++)
		for (int g = 0; g < PART / GROUP; g++)
			even.of[m][g] = odd.of[m][g] = vdupq_n_f32(0);
	for (size_t k = 0; k < CHUNK; k += 16 / size) {
		uint8x16_t z[PART / GROUP][GROUP];
#pragma GCC unroll 2
		for (int g = 0; g < PART / GROUP; g++) {
			load_group(kind, row + g * GROUP, offset + k * size, z[g]);
			if (kind == E4M3)
				keep_largest(z[g], largest);
		}
#pragma GCC unroll 4
		for (size_t i = 0; i < 4 / size; i++)
#pragma GCC unroll 2
			for (int g = 0; g < PART / GROUP; g++) {
				float32x4_t w[4];
				decode_four(kind, z[g] + i * size, w);
#pragma GCC unroll 4
				for (size_t m = 0; m < rows; m++) {
					uint16x4_t half = vld1_u16(x[m] + k + 4 * i);
					float32x4_t v = vreinterpretq_f32_u32(vshll_n_u16(half, 16));
					even.of[m][g] = vfmaq_laneq_f32(even.of[m][g], w[0], v, 0);
					odd.of[m][g] = vfmaq_laneq_f32(odd.of[m][g], w[1], v, 1);
					even.of[m][g] = vfmaq_laneq_f32(even.of[m][g], w[2], v, 2);
					odd.of[m][g] = vfmaq_laneq_f32(odd.of[m][g], w[3], v, 3);
				}
			}
	}
	/* The product with a power of two is exact, so that one rounding is the sum's. */
	const float32x4_t unit = vdupq_n_f32(kind == E4M3 ? 0x1p8f : 1.0f);
#pragma GCC unroll 4
	for (size_t m = 0; m < rows; m++)
		for (int g = 0; g < PART / GROUP; g++)
			acc->of[m][g] = vfmaq_f32(acc->of[m][g], vaddq_f32(even.of[m][g], odd.of[m][g]), unit);
}

/* What few_chunk reads of a chunk with fewer than 32 elements: zeros behind them. */
struct tail {
	uint8_t weights[LANES][64];
	const uint8_t *row[LANES];
	uint16_t x[FEW][CHUNK];
};

static void copy_tail(const struct block *b, size_t size, size_t k, size_t count, const struct octavo_rows *x,
                      struct tail *tail)
{
	copy_rows(b->row, k * size, count * size, tail->weights, tail->row);
	memset(tail->x, 0, sizeof tail->x);
	for (size_t m = 0; m < x->rows; m++)
		memcpy(tail->x[m], x->x + m * x->ld + k, count * sizeof **tail->x);
}

/* sum = fma(scale, acc, sum) and acc = 0. */
ALWAYS_INLINE void few_fold(const size_t rows, const struct block *b, int first, size_t k, const struct octavo_rows *x,
                            struct sums *acc, struct sums *sum)
{
	vf scale = block_scales(b, k);

#pragma GCC unroll 4
	for (size_t m = 0; m < rows; m++)
		for (int g = 0; g < PART / GROUP; g++) {
			float32x4_t s = scale.q[first / GROUP + g];
			if (x->scale)
				s = vmulq_n_f32(s, x->scale[m * x->scale_ld + k / OCTAVO_BLOCK]);
			sum->of[m][g] = vfmaq_f32(sum->of[m][g], s, acc->of[m][g]);
			acc->of[m][g] = vdupq_n_f32(0);
		}
}

/* y of `rows` rows of x and of the rows of weights [first, first + 8) of the block. */
ALWAYS_INLINE void few_rows(const enum kind kind, const size_t rows, const struct block *b, int first,
                            const struct octavo_rows *x, float out[FEW][LANES], uint8x16_t *largest)
{
	const size_t size = element_size(kind);
	const int scaled = b->w->scale_dtype != OCTAVO_NONE;
	struct sums acc, sum;
	const uint16_t *x_row[FEW];
	struct tail tail;

	for (size_t m = 0; m < rows; m++)
		for (int g = 0; g < PART / GROUP; g++)
			acc.of[m][g] = sum.of[m][g] = vdupq_n_f32(0);
	for (size_t k0 = 0, k1; k0 < b->w->cols; k0 = k1) {
		k1 = panel_end(b->w, b->w->col0, k0, b->w->cols);
		for (size_t k = k0; k < k1; k += CHUNK) {
			const uint8_t *const *row = b->row;
			size_t offset = k * size;
			for (size_t m = 0; m < rows; m++)
				x_row[m] = x->x + m * x->ld + k;
			if ((k - k0) * size % 64 == 0)
				prefetch(b, first, PART, PART, offset);
			if (k1 - k < CHUNK) {
				copy_tail(b, size, k, k1 - k, x, &tail);
				for (size_t m = 0; m < rows; m++)
					x_row[m] = tail.x[m];
				row = tail.row;
				offset = 0;
			}
			few_chunk(kind, rows, row + first, offset, x_row, &acc, largest);
		}
		if (scaled)
			few_fold(rows, b, first, k0, x, &acc, &sum);
	}
	for (size_t m = 0; m < rows; m++)
		for (int g = 0; g < PART / GROUP; g++)
			vst1q_f32(out[m] + first + g * GROUP, scaled ? sum.of[m][g] : acc.of[m][g]);
}

/* The outputs of rows of weights that hold a NaN. */
static void spread_nan(const struct block *b, size_t rows, float out[FEW][LANES])
{
	for (size_t i = 0; i < b->count; i++) {
		size_t k = 0;
		while (k < b->row_bytes && !is_nan(b->row[i][k]))
			k++;
		if (k == b->row_bytes)
			continue;
		for (size_t m = 0; m < rows; m++)
			out[m][i] = __builtin_nanf("");
	}
}

ALWAYS_INLINE void few_parts(const enum kind kind, const size_t rows, const struct block *b,
                             const struct octavo_rows *x, float *y, size_t ldy)
{
	float out[FEW][LANES];
	uint8x16_t largest = vdupq_n_u8(0);

	for (int first = 0; first < LANES; first += PART)
		few_rows(kind, rows, b, first, x, out, &largest);
	if (kind == E4M3 && has_nan(largest))
		spread_nan(b, rows, out);
	for (size_t m = 0; m < rows; m++)
		vf_store_first(y + m * ldy + b->n, b->count, vf_load(out[m]));
}

/* E4M3 weights are too small by 2^8 inside a chunk, which shows if a chain overflows: x of 2^112 and more, infinite
 * or NaN goes the other way. */
ALWAYS_INLINE enum way way_of(const enum kind kind, const struct octavo_matrix *w, const struct octavo_rows *x)
{
	if (x->rows > FEW)
		return DECODED;
	return kind == BF16 || (kind == E4M3 && all_below(x, w->cols, 0x1p112f)) ? FEW_ROWS : DECODED;
}

ALWAYS_INLINE void few_block(const enum kind kind, const struct block *b, const struct octavo_rows *x, float *y,
                             size_t ldy)
{
	switch (x->rows) {
	case 1:
		few_parts(kind, 1, b, x, y, ldy);
		break;
	case 2:
		few_parts(kind, 2, b, x, y, ldy);
		break;
	case 3:
		few_parts(kind, 3, b, x, y, ldy);
		break;
	case 4:
		few_parts(kind, 4, b, x, y, ldy);
		break;
	}
}

ALWAYS_INLINE void few_band(const enum kind kind, const struct block *band, size_t blocks, const struct octavo_rows *x,
                            float *y, size_t ldy)
{
	for (size_t r = 0; r < blocks; r++)
		few_block(kind, &band[r], x, y, ldy);
}

/* ---- many rows --------------------------------------------------------------------------------------------- */

/* Fills whole chunks: zeros behind k1.  Never shifted: see decode_four, and below for NaN. */
ALWAYS_INLINE vi fill_panel(const enum kind kind, const int shifted, const struct block *b, size_t k0, size_t k1,
                            vi noted, float *panel)
{
	const size_t size = element_size(kind), step = 16 / size;
	size_t end = k0 + (k1 - k0 + CHUNK - 1) / CHUNK * CHUNK;
	uint8x16_t largest = vdupq_n_u8(0);
	uint8_t copy[LANES][64];
	const uint8_t *copied[LANES];

	for (size_t k = k0; k < end; k += step) {
		const uint8_t *const *row = b->row;
		size_t offset = k * size;
		if ((k - k0) * size % 64 == 0)
			prefetch(b, 0, LANES, PANELS * LANES, offset);
		if (k1 - smaller(k, k1) < step) {
			copy_rows(b->row, offset, (k1 - smaller(k, k1)) * size, copy, copied);
			row = copied;
			offset = 0;
		}
		for (int g = 0; g < LANES / GROUP; g++) {
			uint8x16_t z[GROUP];
			load_group(kind, row + g * GROUP, offset, z);
			if (kind == E4M3)
				keep_largest(z, &largest);
#pragma GCC unroll 4
			for (size_t i = 0; i < 4 / size; i++) {
				float32x4_t w[4];
				float *to = panel + (k - k0 + 4 * i) * LANES + g * GROUP;
				decode_four(kind, z + i * size, w);
				for (int j = 0; j < 4; j++)
					vst1q_f32(to + j * LANES, kind == E4M3 ? vmulq_n_f32(w[j], 0x1p8f) : w[j]);
			}
		}
	}
	if (kind == E4M3 && has_nan(largest))
		for (size_t k = k0; k < k1; k++)
			for (size_t i = 0; i < LANES; i++)
				if (is_nan(b->row[i][k]))
					panel[(k - k0) * LANES + i] = __builtin_nanf("");
	(void)shifted;
	return noted;
}

#include "kernels/simd_many.h"

#include "kernels/simd_gemm.h"

const struct octavo_kernels octavo_set_gemm_neon = {
        .gemm_fp8 = OCTAVO_KERNEL(gemm, gemm_fp8, "neon", LANES, gemm_fp8),
        .gemm_bf16 = OCTAVO_KERNEL(gemm, gemm_bf16, "neon", LANES, gemm_bf16),
        .gemm_f32 = OCTAVO_KERNEL(gemm, gemm_f32, "neon", LANES, gemm_f32),
};
