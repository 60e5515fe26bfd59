/* SPDX-License-Identifier: Apache-2.0
 *
 * AVX-512: the one multiplication that GEMM, transposed GEMM and attention share.
 *
 * A lane is an output, so each lane walks its own chains in the contract's order.  A panel holds up to 128
 * elements of the summed axis for 16 outputs, decoded to F32; the kernels differ only in how they fill it.
 */
#ifndef OCTAVO_PANEL_AVX512_H
#define OCTAVO_PANEL_AVX512_H

#ifndef __AVX512F__
#error "this file needs the AVX-512 flags that configure found"
#endif

#include "octavo_kernels.h"

#include <immintrin.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define LANES 16  /* outputs in a vector */
#define CHUNK 32  /* elements of a chunk */
#define PANEL 128 /* elements of the summed axis in a panel: a whole scale block */
#define BLOCK 8   /* rows of x that go over a panel together: 8 even, 8 odd chains and 8 sums fill the registers */

static inline size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The lanes of the first `count` outputs. */
static inline __mmask16 first_lanes(size_t count)
{
	return count < LANES ? (__mmask16)((1u << count) - 1) : (__mmask16)0xffff;
}

/* The end of the panel that starts at index i of an axis of `size`, which starts at `offset` in its scale block:
 * 128 elements, or fewer where a scale block or the axis ends. */
static inline size_t panel_end(const struct octavo_matrix *w, unsigned offset, size_t i, size_t size)
{
	size_t most = w->scale_dtype == OCTAVO_NONE ? PANEL : OCTAVO_BLOCK - (offset + i) % OCTAVO_BLOCK;

	return i + smaller(most, size - i);
}

/* 16 BF16 values to F32. */
static inline __m512 widen(__m256i bf16)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16));
}

/* `count` <= 128 BF16 values of one row to F32, zeros behind them up to a multiple of 64. */
static inline void widen_row(const uint16_t *x, size_t count, float *out /* [PANEL] */)
{
	size_t i = 0;

	for (; i + LANES <= count; i += LANES)
		_mm512_store_ps(out + i, widen(_mm256_loadu_si256((const __m256i *)(x + i))));
	for (; i < count || i % 64; i += LANES) {
		__mmask16 mask = i < count ? first_lanes(count - i) : 0;
		_mm512_store_ps(out + i, widen(_mm256_maskz_loadu_epi16(mask, x + i)));
	}
}

/* acc[m] = acc[m] + (E + O) over `chunks` chunks, ascending; `rows` is a constant after inlining. */
ALWAYS_INLINE void multiply(const size_t rows, const float *w /* [chunks * 32][16] */,
                            const float *x /* [rows][PANEL] */, size_t chunks, __m512 *acc)
{
	for (size_t c = 0; c < chunks; c++) {
		__m512 even[BLOCK], odd[BLOCK];
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++)
			even[m] = odd[m] = _mm512_setzero_ps();
#pragma GCC unroll 2
		for (size_t i = c * CHUNK; i < (c + 1) * CHUNK; i += 2) {
			__m512 w0 = _mm512_load_ps(w + i * LANES), w1 = _mm512_load_ps(w + (i + 1) * LANES);
#pragma GCC unroll 8
			for (size_t m = 0; m < rows; m++) {
				even[m] = _mm512_fmadd_ps(w0, _mm512_set1_ps(x[m * PANEL + i]), even[m]);
				odd[m] = _mm512_fmadd_ps(w1, _mm512_set1_ps(x[m * PANEL + i + 1]), odd[m]);
			}
		}
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++)
			acc[m] = _mm512_add_ps(acc[m], _mm512_add_ps(even[m], odd[m]));
	}
}

/* What becomes of a panel's sums. */
struct fold {
	float *y; /* [rows][ldy], at the block's first output */
	size_t ldy;
	__mmask16 lanes;
	int first;            /* y is not written yet: it counts as +0 */
	int scaled;           /* y = fma(scale, acc, y); otherwise the sums go on from y */
	__m512 scale;         /* per lane */
	const float *x_scale; /* [rows][x_scale_ld], or NULL: factors 1 */
	size_t x_scale_ld;
};

ALWAYS_INLINE void multiply_fold(const size_t rows, const float *w, const float *x, size_t chunks, const struct fold *f)
{
	__m512 acc[BLOCK];

#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++)
		acc[m] = f->scaled || f->first ? _mm512_setzero_ps()
		                               : _mm512_maskz_loadu_ps(f->lanes, f->y + m * f->ldy);
	multiply(rows, w, x, chunks, acc);
#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++) {
		float *y = f->y + m * f->ldy;
		if (f->scaled) {
			__m512 scale = f->scale;
			if (f->x_scale)
				scale = _mm512_mul_ps(_mm512_set1_ps(f->x_scale[m * f->x_scale_ld]), scale);
			__m512 sum = f->first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(f->lanes, y);
			acc[m] = _mm512_fmadd_ps(scale, acc[m], sum);
		}
		_mm512_mask_storeu_ps(y, f->lanes, acc[m]);
	}
}

/* The same for 1 to 8 rows, known only at run time. */
static void multiply_block(size_t rows, const float *w, const float *x, size_t chunks, const struct fold *f)
{
	switch (rows) {
	case 1:
		multiply_fold(1, w, x, chunks, f);
		break;
	case 2:
		multiply_fold(2, w, x, chunks, f);
		break;
	case 3:
		multiply_fold(3, w, x, chunks, f);
		break;
	case 4:
		multiply_fold(4, w, x, chunks, f);
		break;
	case 5:
		multiply_fold(5, w, x, chunks, f);
		break;
	case 6:
		multiply_fold(6, w, x, chunks, f);
		break;
	case 7:
		multiply_fold(7, w, x, chunks, f);
		break;
	default:
		multiply_fold(8, w, x, chunks, f);
	}
}

/* A panel against every row of x: columns [k0, k0 + count) of x meet the panel's elements. */
static inline void multiply_rows(const struct octavo_rows *x, size_t k0, size_t count, const float *w, struct fold f)
{
	_Alignas(64) float xf[BLOCK * PANEL];
	size_t chunks = (count + CHUNK - 1) / CHUNK;

	for (size_t m = 0; m < x->rows; m += BLOCK) {
		size_t rows = smaller(BLOCK, x->rows - m);
		for (size_t i = 0; i < rows; i++)
			widen_row(x->x + (m + i) * x->ld + k0, count, xf + i * PANEL);
		struct fold part = f;
		part.y = f.y + m * f.ldy;
		part.x_scale = x->scale ? x->scale + m * x->scale_ld + k0 / OCTAVO_BLOCK : NULL;
		part.x_scale_ld = x->scale_ld;
		multiply_block(rows, w, xf, chunks, &part);
	}
}

/* ---- filling panels -------------------------------------------------------------------------------------- */

/* 16 rows of 16 dwords: lane n of d[i] becomes dword i of row n. */
ALWAYS_INLINE void transpose(__m512i d[16])
{
	__m512i t[16];

#pragma GCC unroll 8
	for (int i = 0; i < 16; i += 2) { /* pairs of rows, within each 128-bit lane */
		t[i] = _mm512_unpacklo_epi32(d[i], d[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(d[i], d[i + 1]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 16; i += 4) { /* quads of rows: dword 4 * lane + j in d[i + j] */
		d[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		d[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		d[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		d[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) { /* a 4 x 4 transpose of 128-bit lanes for each j */
		__m512i a = _mm512_shuffle_i32x4(d[i], d[i + 4], 0x44), b = _mm512_shuffle_i32x4(d[i], d[i + 4], 0xee);
		__m512i c = _mm512_shuffle_i32x4(d[i + 8], d[i + 12], 0x44);
		__m512i e = _mm512_shuffle_i32x4(d[i + 8], d[i + 12], 0xee);
		t[i] = _mm512_shuffle_i32x4(a, c, 0x88);
		t[i + 4] = _mm512_shuffle_i32x4(a, c, 0xdd);
		t[i + 8] = _mm512_shuffle_i32x4(b, e, 0x88);
		t[i + 12] = _mm512_shuffle_i32x4(b, e, 0xdd);
	}
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		d[i] = t[i];
}

/* `bytes` <= 64 bytes from each of 16 rows, zeros behind them, transposed.  Whole cache lines are taken at
 * once: rows a multiple of 4096 bytes apart share one set of the first-level cache. */
ALWAYS_INLINE void load_transposed(const uint8_t *const row[16], size_t offset, size_t bytes, __m512i d[16])
{
	if (bytes == 64) {
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			d[i] = _mm512_loadu_si512(row[i] + offset);
	} else {
		__mmask64 mask = (1ull << bytes) - 1;
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			d[i] = _mm512_maskz_loadu_epi8(mask, row[i] + offset);
	}
	transpose(d);
}

/* BF16 pairs in dword lanes to F32: the even and the odd element. */
ALWAYS_INLINE void split_bf16(__m512i pair, __m512 w[2])
{
	w[0] = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
	w[1] = _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32((int)0xffff0000)));
}

/* The same for F16. */
ALWAYS_INLINE void split_f16(__m512i pair, __m512 w[2])
{
	w[0] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pair));
	w[1] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pair, 16)));
}

/* Codes in the top bytes of dword lanes, anything below them, to F32: the code's fields are moved to F32's
 * places and the product with a power of two mends the bias, exactly, subnormals too. */
static inline __m512 decode_e4m3(__m512i top)
{
	__m512i field = _mm512_and_si512(_mm512_srai_epi32(top, 4), _mm512_set1_epi32((int)0x87f00000));
	__m512 value = _mm512_mul_ps(_mm512_castsi512_ps(field), _mm512_set1_ps(0x1p120f));
	__m512i seven = _mm512_set1_epi32(0x7f000000);
	__mmask16 nan = _mm512_cmpeq_epi32_mask(_mm512_and_si512(top, seven), seven);

	return _mm512_mask_mov_ps(value, nan, _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000)));
}

static inline __m512 decode_e5m2(__m512i top)
{
	__m512i field = _mm512_and_si512(_mm512_srai_epi32(top, 3), _mm512_set1_epi32((int)0x8fe00000));
	__m512 value = _mm512_mul_ps(_mm512_castsi512_ps(field), _mm512_set1_ps(0x1p112f));
	__m512i five = _mm512_set1_epi32(0x7c000000);
	__mmask16 special = _mm512_cmpeq_epi32_mask(_mm512_and_si512(top, five), five);

	/* infinity and NaN: all ones in F32's exponent too */
	return _mm512_castsi512_ps(
	        _mm512_mask_or_epi32(_mm512_castps_si512(value), special, field, _mm512_set1_epi32(0x7f800000)));
}

#endif
