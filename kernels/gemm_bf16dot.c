/* SPDX-License-Identifier: Apache-2.0
 *
 * The backend `bf16dot`: products by VDPBF16PS (AVX512_BF16), which adds two BF16 products per lane and instruction.  It
 * is about twice as fast as FP32 multiply-adds, but adds in an order and with roundings of its own, which differ between
 * processors: nothing that is to be the same bits everywhere may use it.
 *
 * A scale block of 128 x 128 weights becomes BF16 pairs, once for all rows, with 32 columns of y side by side; then 12
 * rows of x at a time run along it, a pair in all lanes.  What has too few rows to pay for that, and F16 weights, take
 * the kernels of the set below.
 */
#include "kernels/codes_vbmi.h"

#include "kernels/backend_tiles.h"
#include "kernels/sets.h"

enum {
	FEWEST = 8, /* rows: with fewer the exact kernels are faster */
	BLOCK_ROWS = 12,
	GROUP = 32, /* columns of y in two vectors */
	PAIRS = TILE / 2,
	SIDE = 16,
};

/* [group of columns][pair of k][column], of one tile: 32 KiB. */
struct pairs {
	_Alignas(64) uint32_t at[TILE / GROUP][PAIRS][GROUP];
};

/* ---- Weights ------------------------------------------------------------------------------------------------------ */

/* 64 bytes of 16 rows of w, transposed: dword j of the rows, as pairs of k. */
ALWAYS_INLINE void fill_codes(const struct codes *codes, const vi d[SIDE], uint32_t (*to)[GROUP])
{
	const vi low_word = _mm512_set1_epi32(0xffff);

#pragma GCC unroll 16
	for (size_t j = 0; j < SIDE; j++) {
		vi even, odd; /* codes 0 and 2, 1 and 3 of the dword */
		code_words(codes, d[j], &even, &odd);
		_mm512_store_si512(to[2 * j], _mm512_ternarylogic_epi32(low_word, even, _mm512_slli_epi32(odd, 16), 0xca));
		_mm512_store_si512(to[2 * j + 1], _mm512_ternarylogic_epi32(low_word, _mm512_srli_epi32(even, 16), odd, 0xca));
	}
}

/* Columns [k, k + count) of w's rows [n, n + 16), of which those from `rows` on repeat the last: their sums are
 * masked away, as are those of a group's second half that is not filled at all.  Zeros fill the last dword. */
ALWAYS_INLINE void fill_side(const struct codes *codes, const struct octavo_matrix *w, size_t n, size_t rows, size_t k,
                             size_t count, uint32_t (*to)[GROUP])
{
	const size_t size = octavo_dtype_size(w->dtype), bytes = count * size;
	const uint8_t *row[SIDE];

	for (size_t i = 0; i < SIDE; i++) {
		row[i] = (const uint8_t *)w->data + ((n + least(i, rows - 1)) * w->ld + k) * size;
		prefetch_next(row[i], bytes);
	}
	for (size_t at = 0; at < bytes; at += 64) {
		vi d[SIDE];
		load_transposed(row, at, least(64, bytes - at), d);
		if (size == 1) {
			fill_codes(codes, d, to + at / 2);
			continue;
		}
#pragma GCC unroll 16
		for (size_t j = 0; j < SIDE; j++)
			_mm512_store_si512(to[at / 4 + j], d[j]);
	}
}

static inline void fill_tile(struct pairs *p, const struct codes *codes, const struct octavo_matrix *w, size_t n,
                             size_t end, size_t k, size_t count)
{
	for (size_t i = n; i < end; i += SIDE) {
		uint32_t(*group)[GROUP] = p->at[(i - n) / GROUP];
		fill_side(codes, w, i, least(SIDE, end - i), k, count,
		          (uint32_t(*)[GROUP])(void *)&group[0][(i - n) % GROUP]);
	}
}

/* ---- Products ----------------------------------------------------------------------------------------------------- */

/* One pair of k, `elements` of it: behind x's end nothing may be read. */
ALWAYS_INLINE void multiply_pair(const size_t rows, const uint32_t *pair, const uint16_t *x, size_t ldx,
                                 const size_t elements, vf sum[][2])
{
	const __m512bh left = (__m512bh)_mm512_load_si512(pair), right = (__m512bh)_mm512_load_si512(pair + SIDE);

#pragma GCC unroll 12
	for (size_t m = 0; m < rows; m++) {
		uint32_t both = 0;
		memcpy(&both, x + m * ldx, elements * sizeof *x); /* the first in the low half: little-endian as AVX-512 is */
		const __m512bh b = (__m512bh)_mm512_set1_epi32((int)both);
		sum[m][0] = _mm512_dpbf16_ps(sum[m][0], b, left);
		sum[m][1] = _mm512_dpbf16_ps(sum[m][1], b, right);
	}
}

/* y[rows][columns] += scale * x[rows][count] * pairs, columns <= 32. */
ALWAYS_INLINE void multiply(const size_t rows, const uint32_t (*pair)[GROUP], const uint16_t *x, size_t ldx,
                            size_t count, const float *scale, float *y, size_t ldy, size_t columns)
{
	const __mmask16 mask[2] = {(__mmask16)(columns < SIDE ? (1u << columns) - 1 : 0xffff),
	                           (__mmask16)(columns > SIDE ? (1ul << (columns - SIDE)) - 1 : 0)};
	vf sum[BLOCK_ROWS][2];

#pragma GCC unroll 12
	for (size_t m = 0; m < rows; m++)
		sum[m][0] = sum[m][1] = _mm512_setzero_ps();
	for (size_t i = 0; i < count / 2; i++)
		multiply_pair(rows, pair[i], x + 2 * i, ldx, 2, sum);
	if (count % 2)
		multiply_pair(rows, pair[count / 2], x + count - 1, ldx, 1, sum);
#pragma GCC unroll 12
	for (size_t m = 0; m < rows; m++)
		for (size_t i = 0; i < 2; i++) {
			float *to = y + m * ldy + i * SIDE;
			vf old = _mm512_maskz_loadu_ps(mask[i], to);
			_mm512_mask_storeu_ps(to, mask[i], _mm512_fmadd_ps(_mm512_set1_ps(scale[m]), sum[m][i], old));
		}
}

/* All rows along one group of columns. */
static inline void multiply_rows(const struct octavo_matrix *w, const struct octavo_rows *x,
                                 const uint32_t (*pair)[GROUP], size_t n, size_t columns, size_t k, size_t count,
                                 size_t m0, size_t rows, float *y, size_t ldy)
{
	const uint16_t *from = x->x + m0 * x->ld + k;
	float scale[BLOCK_ROWS];

	y += m0 * ldy + n;
	for (size_t m = 0; m < rows; m++)
		scale[m] = tile_scale(w, x, n, k, m0 + m);
	switch (rows) {
	case 12:
		multiply(12, pair, from, x->ld, count, scale, y, ldy, columns);
		break;
	case 8:
		multiply(8, pair, from, x->ld, count, scale, y, ldy, columns);
		break;
	case 4:
		multiply(4, pair, from, x->ld, count, scale, y, ldy, columns);
		break;
	case 2:
		multiply(2, pair, from, x->ld, count, scale, y, ldy, columns);
		break;
	default:
		multiply(1, pair, from, x->ld, count, scale, y, ldy, columns);
	}
}

/* The largest of 12, 8, 4, 2, 1 that `rows` has room for. */
static inline size_t block_rows(size_t rows)
{
	return rows >= 12 ? 12 : rows >= 8 ? 8 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

static inline void add_tile(const struct pairs *p, const struct octavo_matrix *w, const struct octavo_rows *x, size_t n,
                            size_t end, size_t k, size_t count, float *y, size_t ldy)
{
	for (size_t m = 0, rows; m < x->rows; m += rows) {
		rows = block_rows(x->rows - m);
		for (size_t i = n; i < end; i += GROUP)
			multiply_rows(w, x, p->at[(i - n) / GROUP], i, least(GROUP, end - i), k, count, m, rows, y, ldy);
	}
}

static void gemm_bf16dot(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                         size_t ldy)
{
	const struct codes codes = codes_for(w->dtype == OCTAVO_E5M2 ? OCTAVO_E5M2 : OCTAVO_E4M3);
	struct pairs p;

	clear_columns(y, ldy, x->rows, n0, n1);
	for (size_t n = n0, end; n < n1; n = end) {
		end = tile_end(w->row0, n, n1);
		for (size_t k = 0, next; k < w->cols; k = next) {
			next = tile_end(w->col0, k, w->cols);
			fill_tile(&p, &codes, w, n, end, k, next - k);
			add_tile(&p, w, x, n, end, k, next - k, y, ldy);
		}
	}
}

static void gemm_fp8(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                     size_t ldy)
{
	if (x->rows < FEWEST)
		octavo_set_gemm_avx512.gemm_fp8->run(w, n0, n1, x, y, ldy);
	else
		gemm_bf16dot(w, n0, n1, x, y, ldy);
}

static void gemm_bf16(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                      size_t ldy)
{
	if (x->rows < FEWEST || w->dtype != OCTAVO_BF16)
		octavo_set_gemm_avx512.gemm_bf16->run(w, n0, n1, x, y, ldy);
	else
		gemm_bf16dot(w, n0, n1, x, y, ldy);
}

const struct octavo_kernels octavo_set_gemm_bf16dot = {
        .gemm_fp8 = &(const struct octavo_gemm_kernel){"gemm_fp8", "bf16dot", OCTAVO_APPROXIMATE, TILE, gemm_fp8},
        .gemm_bf16 = &(const struct octavo_gemm_kernel){"gemm_bf16", "bf16dot", OCTAVO_APPROXIMATE, TILE, gemm_bf16},
};
