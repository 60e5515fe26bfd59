/* SPDX-License-Identifier: Apache-2.0
 *
 * GEMM for AVX512_BF16, beside AVX-512 and VBMI: FP8 weights, decoded by byte lookups, and BF16 weights, in the
 * contract's chains by pairs.
 */
#include "kernels/simd_avx512.h"

#include "kernels/dot.h"
#include "kernels/sets.h"

#include "kernels/simd_block.h"

/* The pairs of columns [4 i, 4 i + 4) of 16 transposed rows. */
ALWAYS_INLINE void pairs_of(const enum kind kind, const size_t i, const struct codes *codes, const vi *d, vi pair[2])
{
	if (kind == BF16)
		bf16_pairs(d[2 * i], d[2 * i + 1], &pair[0], &pair[1]);
	else
		code_pairs(codes, d[i], &pair[0], &pair[1]);
}

/* ---- few rows -------------------------------------------------------------------------------------------- */

#define SHIFTED_CODES 0
#define few_note(kind, largest, d) (largest)
#define few_codes codes
#define few_codes_of codes_of

ALWAYS_INLINE void few_four(const enum kind kind, const size_t rows, const size_t i, const struct codes *codes,
                            const vi *d, const term *x, size_t pitch, vf *even, vf *odd)
{
	vi pair[2];

	pairs_of(kind, i, codes, d, pair);
#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++) {
		const term *at = x + m * pitch + 2 * i;
		even[m] = vf_chain(pair[0], at, even[m]);
		odd[m] = vf_chain(pair[1], at + 1, odd[m]);
	}
}

#include "kernels/simd_few.h"

/* ---- many rows ------------------------------------------------------------------------------------------- */

ALWAYS_INLINE vi fill_panel(const enum kind kind, const int shifted, const struct block *b, size_t k0, size_t k1,
                            vi largest, term *panel)
{
	const size_t size = element_size(kind), step = 64 / size;
	const struct codes *codes = codes_of(b->w->dtype);
	size_t end = k0 + (k1 - k0 + CHUNK - 1) / CHUNK * CHUNK;

	(void)shifted;
	for (size_t k = k0; k < end; k += step) {
		vi d[16];
		prefetch(b, 0, LANES, PANELS * LANES, k * size);
		load_transposed(b->row, k * size, smaller(step, k1 - smaller(k, k1)) * size, d);
#pragma GCC unroll 16
		for (size_t i = 0; i < step / 4; i++) {
			vi pair[2];
			pairs_of(kind, i, codes, d, pair);
			_mm512_store_si512(panel + (TERMS(k - k0) + 2 * i) * LANES, pair[0]);
			_mm512_store_si512(panel + (TERMS(k - k0) + 2 * i + 1) * LANES, pair[1]);
		}
	}
	return largest;
}

#include "kernels/simd_many.h"

/* ---- all ------------------------------------------------------------------------------------------------- */

ALWAYS_INLINE enum way way_of(const enum kind kind, const struct octavo_matrix *w, const struct octavo_rows *x)
{
	return takes_few(kind, w, x) ? FEW_ROWS : DECODED;
}

#include "kernels/simd_gemm.h"

static void fp8_by_pairs(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                         size_t ldy)
{
	gemm(E4M3, w, n0, n1, x, y, ldy); /* or E5M2: the tables know */
}

static void bf16_by_pairs(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                          size_t ldy)
{
	if (w->dtype == OCTAVO_BF16)
		gemm(BF16, w, n0, n1, x, y, ldy);
	else /* F16 has more bits than a pair takes */
		octavo_set_gemm_avx512.gemm_bf16->run(w, n0, n1, x, y, ldy);
}

const struct octavo_kernels octavo_set_gemm_avx512bf16 = {
        .gemm_fp8 = OCTAVO_KERNEL(gemm, gemm_fp8, "avx512bf16", LANES, fp8_by_pairs),
        .gemm_bf16 = OCTAVO_KERNEL(gemm, gemm_bf16, "avx512bf16", LANES, bf16_by_pairs),
};
