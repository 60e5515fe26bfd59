/* SPDX-License-Identifier: Apache-2.0
 *
 * The GEMM for any vectors: see simd.h.  The including file says how a block of weights is decoded:
 *
 *	ALWAYS_INLINE enum way way_of(const enum kind, const struct octavo_matrix *, const struct octavo_rows *x);
 *	ALWAYS_INLINE void few_band(const enum kind, const struct block *band, size_t blocks,
 *	                            const struct octavo_rows *x, float *y, size_t ldy);
 *		the products of up to BAND blocks with x, where the way is FEW_ROWS
 *	ALWAYS_INLINE vi fill_panel(const enum kind, const int shifted, const struct block *, size_t k0, size_t k1,
 *	                            vi largest, float *panel);
 *		columns [k0, k1) to F32, for many rows: the panel lies in the first-level cache, and a block of
 *		weights is decoded once for all rows; returns what noted_nan() wants to know, if `shifted`
 *
 * simd_few.h and simd_transposed.h have these for x86's registers.
 */
#ifndef OCTAVO_SIMD_GEMM_H
#define OCTAVO_SIMD_GEMM_H

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
	alignas(64) float panel[PANELS * PANEL * LANES];
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
				largest[r] = fill_panel(kind, shifted, b, k0, k1, largest[r], panel + r * PANEL * LANES);
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

/* ---- all ------------------------------------------------------------------------------------------------- */

ALWAYS_INLINE void gemm(const enum kind kind, const struct octavo_matrix *w, size_t n0, size_t n1,
                        const struct octavo_rows *x, float *y, size_t ldy)
{
	const uint8_t *data = (const uint8_t *)w->data;
	const size_t size = element_size(kind), pitch = w->ld * size;
	const enum way way = way_of(kind, w, x);
	struct block band[BAND];

	for (size_t n = n0, blocks; n < n1;) {
		for (blocks = 0; blocks < BAND && n < n1; blocks++, n += LANES) {
			struct block *b = &band[blocks];
			*b = (struct block){.w = w, .n = n, .count = smaller(LANES, n1 - n)};
			b->row_bytes = w->cols * size;
			b->next = (ptrdiff_t)(LANES * pitch);
			for (size_t i = 0; i < LANES; i++)
				b->row[i] = data + (n + smaller(i, b->count - 1)) * pitch;
		}
		if (way == FEW_ROWS)
			few_band(kind, band, blocks, x, y, ldy);
		else if (way == SHIFTED)
			many_rows(kind, 1, band, blocks, x, y, ldy);
		else
			many_rows(kind, 0, band, blocks, x, y, ldy);
	}
}

static inline void gemm_fp8(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                            size_t ldy)
{
	if (w->dtype == OCTAVO_E4M3)
		gemm(E4M3, w, n0, n1, x, y, ldy);
	else
		gemm(E5M2, w, n0, n1, x, y, ldy);
}

static inline void gemm_bf16(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                             size_t ldy)
{
	if (w->dtype == OCTAVO_BF16)
		gemm(BF16, w, n0, n1, x, y, ldy);
	else
		gemm(F16, w, n0, n1, x, y, ldy);
}

static inline void gemm_f32(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                            size_t ldy)
{
	gemm(F32, w, n0, n1, x, y, ldy);
}

#endif
