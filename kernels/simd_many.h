/* SPDX-License-Identifier: Apache-2.0
 *
 * The GEMM of many rows of x for any vectors: see simd_gemm.h.  A block of weights is decoded once for all rows, into
 * a panel that lies in the first-level cache.  The including file says how:
 *
 *	ALWAYS_INLINE vi fill_panel(const enum kind, const int shifted, const struct block *, size_t k0, size_t k1,
 *	                            vi largest, term *panel);
 *		columns [k0, k1), whole chunks of them; returns what noted_nan() wants to know, if `shifted`
 *
 * simd_transposed.h has it for fused multiply-adds and x86's registers.
 */
#ifndef OCTAVO_SIMD_MANY_H
#define OCTAVO_SIMD_MANY_H

#include "kernels/simd_block.h"

/* What shifted panels leave to do: NaN, and the power of two where no scale has brought it. */
static inline void finish_shifted(const struct fold *f, size_t rows, vi largest)
{
	const vm nan = noted_nan(largest);

	for (size_t m = 0; m < rows; m++) {
		vf v = mend(!f->scaled, vf_load_first(f->y + m * f->ldy, f->count));
		vf_store_first(f->y + m * f->ldy, f->count, vf_nan_where(nan, v));
	}
}

ALWAYS_INLINE void many_rows(const enum kind kind, const int shifted, const struct block *band, size_t blocks,
                             const struct octavo_rows *x, float *y, size_t ldy)
{
	alignas(64) term panel[PANELS * TERMS(PANEL) * LANES];
	const struct octavo_matrix *w = band->w;
	struct fold f[PANELS];
	vi largest[PANELS];

	for (size_t r0 = 0, count; r0 < blocks; r0 += count) {
		count = begin_folds(band, r0, blocks, shifted ? UP : 0, y, ldy, f);
		for (size_t r = 0; r < count; r++)
			largest[r] = vi_set1(0);
		for (size_t k0 = 0, k1; k0 < w->cols; k0 = k1) {
			k1 = panel_end(w, w->col0, k0, w->cols);
			for (size_t r = 0; r < count; r++) {
				const struct block *b = &band[r0 + r];
				largest[r] = fill_panel(kind, shifted, b, k0, k1, largest[r], panel + r * TERMS(PANEL) * LANES);
				if (f[r].scaled)
					f[r].scale = mend(shifted, block_scales(b, k0));
				f[r].first = k0 == 0;
			}
			multiply_panels(x, k0, k1 - k0, panel, count, f);
		}
		for (size_t r = 0; shifted && r < count; r++)
			finish_shifted(&f[r], x->rows, largest[r]);
	}
}

#endif
