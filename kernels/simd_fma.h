/* SPDX-License-Identifier: Apache-2.0
 *
 * The contract's chains by fused multiply-adds, for any vectors: see simd_panel.h.
 */
#ifndef OCTAVO_SIMD_FMA_H
#define OCTAVO_SIMD_FMA_H

#include "kernels/simd.h"

typedef float term;
#define TERMS(columns) (columns)
#define TERM_STEP LANES

ALWAYS_INLINE void make_terms(const uint16_t *x, size_t count, const int up, term *out)
{
	vf v = vf_load_bf16(x, count);

	vf_store(out, up ? vf_mul(v, vf_power(up)) : v);
}

/* acc[m] = acc[m] + (E + O) over `chunks` chunks, ascending; `rows` is a constant after inlining. */
ALWAYS_INLINE void multiply(const size_t rows, const term *w /* [chunks * 32][16] */, const term *x /* [rows][PANEL] */,
                            size_t chunks, vf *acc)
{
	for (size_t c = 0; c < chunks; c++) {
		vf even[BLOCK], odd[BLOCK];
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++)
			even[m] = odd[m] = vf_zero();
#pragma GCC unroll 2
		for (size_t i = c * CHUNK; i < (c + 1) * CHUNK; i += 2) {
			/* one weight at a time: AVX2 has no register for a second */
			vf even_w = vf_load(w + i * LANES);
#pragma GCC unroll 8
			for (size_t m = 0; m < rows; m++)
				even[m] = vf_fma(even_w, vf_set1(x[m * PANEL + i]), even[m]);
			vf odd_w = vf_load(w + (i + 1) * LANES);
#pragma GCC unroll 8
			for (size_t m = 0; m < rows; m++)
				odd[m] = vf_fma(odd_w, vf_set1(x[m * PANEL + i + 1]), odd[m]);
		}
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++)
			acc[m] = vf_add(acc[m], vf_add(even[m], odd[m]));
	}
}

#endif
