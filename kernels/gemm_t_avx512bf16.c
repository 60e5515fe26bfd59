/* SPDX-License-Identifier: Apache-2.0
 *
 * Transposed GEMM for AVX512_BF16, beside AVX-512 and VBMI: pairs of rows, FP8 decoded by byte lookups.
 */
#include "kernels/simd_avx512.h"

#include "kernels/dot.h"
#include "kernels/sets.h"
#include "kernels/simd_panel.h"

#define COLUMNS 64 /* that are decoded at once */

/* The pairs of `count` <= 4 rows of up to 64 columns, as if more rows of zeros followed: four vectors of rows 0 and 2,
 * then four of rows 1 and 3. */
ALWAYS_INLINE void four_rows(const enum octavo_dtype dtype, const struct codes *codes, const uint8_t *w, size_t pitch,
                             size_t count, size_t columns, vi pair[8])
{
	if (dtype == OCTAVO_BF16) {
		const uint16_t *row[4];
		vi half[4];
#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++)
			row[i] = (const uint16_t *)(const void *)(w + i * pitch);
#pragma GCC unroll 2
		for (size_t j = 0; j < 4; j += 2) {
			row_pairs(row, count, j * LANES, columns - smaller(j * LANES, columns), half);
			pair[j] = half[0];
			pair[j + 1] = half[1];
			pair[4 + j] = half[2];
			pair[5 + j] = half[3];
		}
	} else {
		vi d[4];
#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++)
			d[i] = i < count ? load_codes(w + i * pitch, columns) : vi_set1(0);
		code_rows(codes, d[2], d[0], pair);
		code_rows(codes, d[3], d[1], pair + 4);
	}
}

/* ---- few rows -------------------------------------------------------------------------------------------- */

#define STRIPE_BLOCK 2 /* 16 chains; the tables, decoding and the pairs want the rest */
#define STRIPE_MOST 2
#define VECTORS(rows) 4

ALWAYS_INLINE void stripe_chunk(const enum octavo_dtype dtype, const size_t rows, const uint8_t *w, size_t pitch,
                                size_t count, const term *x /* [rows][TERMS(PANEL)] */, float *acc /* [rows][STRIPE] */)
{
	const struct codes *codes = codes_of(dtype);
	vf even[2 * 4], odd[2 * 4];

#pragma GCC unroll 8
	for (size_t i = 0; i < rows * 4; i++)
		even[i] = odd[i] = vf_zero();
	for (size_t n = 0; n < count; n += 4, w += 4 * pitch, x += TERMS(4)) {
		vi pair[8];
#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++)
			__builtin_prefetch(w + (CHUNK + i) * pitch, 0, 2);
		four_rows(dtype, codes, w, pitch, count - n, COLUMNS, pair);
#pragma GCC unroll 2
		for (size_t m = 0; m < rows; m++)
#pragma GCC unroll 4
			for (size_t j = 0; j < 4; j++) {
				even[m * 4 + j] = vf_chain(pair[j], x + m * TERMS(PANEL), even[m * 4 + j]);
				odd[m * 4 + j] = vf_chain(pair[4 + j], x + m * TERMS(PANEL) + 1, odd[m * 4 + j]);
			}
	}
#pragma GCC unroll 8
	for (size_t i = 0; i < rows * 4; i++) {
		float *at = acc + i / 4 * STRIPE + i % 4 * LANES;
		vf_store(at, vf_add(vf_load(at), vf_add(even[i], odd[i])));
	}
}

/* ---- many rows ------------------------------------------------------------------------------------------- */

ALWAYS_INLINE void fill_rows(const enum octavo_dtype dtype, const struct octavo_matrix *w, size_t n0, size_t n1,
                             size_t k, size_t count, term *panel)
{
	_Static_assert(WIDE == COLUMNS, "a panel takes what is decoded at once");
	const struct codes *codes = codes_of(w->dtype);
	const size_t size = dtype == OCTAVO_BF16 ? 2 : 1, pitch = w->ld * size;
	const size_t end = n0 + (n1 - n0 + CHUNK - 1) / CHUNK * CHUNK;
	const uint8_t *row = (const uint8_t *)w->data + n0 * pitch + k * size;

	for (size_t n = n0; n < end; n += 4, row += 4 * pitch, panel += TERMS(4) * LANES) {
		vi pair[8];
#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++) /* the next columns; a row of BF16 takes two lines */
			for (size_t j = 0; j < COLUMNS * size; j += 64)
				__builtin_prefetch(row + i * pitch + COLUMNS * size + j, 0, 2);
		four_rows(dtype, codes, row, pitch, n1 - smaller(n, n1), count, pair);
#pragma GCC unroll 4
		for (size_t i = 0; i < 4; i++) {
			_mm512_store_si512(panel + i * TERMS(PANEL) * LANES, pair[i]);
			_mm512_store_si512(panel + (i * TERMS(PANEL) + 1) * LANES, pair[4 + i]);
		}
	}
}

/* Rows [n0, n1) of `count` columns from k on; zeros behind them to the end of the last chunk. */
static void fill_panel(const struct octavo_matrix *w, size_t n0, size_t n1, size_t k, size_t count,
                       term *panel /* [WIDE / LANES][TERMS(PANEL)][LANES] */)
{
	if (w->dtype == OCTAVO_BF16)
		fill_rows(OCTAVO_BF16, w, n0, n1, k, count, panel);
	else
		fill_rows(OCTAVO_E4M3, w, n0, n1, k, count, panel); /* or E5M2: the tables know */
}

/* ---- all ------------------------------------------------------------------------------------------------- */

#include "kernels/simd_gemm_t.h"

static void gemm_t_by_pairs(const struct octavo_matrix *w, size_t k0, size_t k1, const struct octavo_rows *x, float *y,
                            size_t ldy)
{
	if (w->dtype == OCTAVO_F16 || w->dtype == OCTAVO_F32) /* more bits than a pair takes */
		octavo_set_gemm_t_avx512.gemm_t->run(w, k0, k1, x, y, ldy);
	else
		gemm_t(w, k0, k1, x, y, ldy);
}

const struct octavo_kernels octavo_set_gemm_t_avx512bf16 = {
        .gemm_t = OCTAVO_KERNEL(gemm_t, gemm_t, "avx512bf16", LANES, gemm_t_by_pairs),
};
