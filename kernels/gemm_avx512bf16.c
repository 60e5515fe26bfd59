/* SPDX-License-Identifier: Apache-2.0
 *
 * GEMM for AVX512_BF16, beside AVX-512 and VBMI: FP8 weights, decoded by byte lookups, and BF16 weights, in the
 * contract's chains by pairs.
 */
#include "kernels/simd_avx512.h"

/* Up to FEW rows of x go together, and a second pass of a few more is faster than rows of x as lanes; two of them have
 * chains enough in one chunk. */
#undef FEW_MAX
#undef TOGETHER
#define FEW_MAX 10
#define TOGETHER 1

#include "kernels/dot.h"
#include "kernels/dot_lanes.h"
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

/* ---- all ------------------------------------------------------------------------------------------------- */

ALWAYS_INLINE void gemm(const enum kind kind, const struct octavo_matrix *w, size_t n0, size_t n1,
                        const struct octavo_rows *x, float *y, size_t ldy)
{
	struct block band[BAND];

	if (!takes_few(kind, w, x)) {
		lanes_gemm(kind, w, n0, n1, x, y, ldy);
		return;
	}
	for (size_t n = n0, blocks; n < n1; n += blocks * LANES) {
		blocks = take_band(kind, w, n, n1, band);
		few_band(kind, band, blocks, x, y, ldy);
	}
}

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
