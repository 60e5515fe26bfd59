/* SPDX-License-Identifier: Apache-2.0
 *
 * The GEMM for any vectors: see simd.h.  The including file says how a block of weights is decoded:
 *
 *	ALWAYS_INLINE int is_own(const enum kind, const struct octavo_matrix *, const struct octavo_rows *x);
 *		whether own_band is to be called
 *	ALWAYS_INLINE void own_band(const enum kind, const struct block *band, size_t blocks,
 *	                            const struct octavo_rows *x, float *y, size_t ldy);
 *		the products of up to BAND blocks with x, its own way
 *	ALWAYS_INLINE void fill_panel(const enum kind, const struct block *, size_t k0, size_t k1, float *panel);
 *		columns [k0, k1) to F32, for many rows: the panel lies in the first-level cache, and a block of
 *		weights is decoded once for all rows
 *
 * simd_few.h and simd_transposed.h have these for x86's registers.
 */
#ifndef OCTAVO_SIMD_GEMM_H
#define OCTAVO_SIMD_GEMM_H

#include "kernels/simd_block.h"

ALWAYS_INLINE void many_rows(const enum kind kind, const struct block *band, size_t blocks, const struct octavo_rows *x,
                             float *y, size_t ldy)
{
	alignas(64) float panel[PANELS * PANEL * LANES];
	const struct octavo_matrix *w = band->w;
	struct fold f[PANELS];

	for (size_t r0 = 0, count; r0 < blocks; r0 += count) {
		count = begin_folds(band, r0, blocks, 0, y, ldy, f);
		for (size_t k0 = 0, k1; k0 < w->cols; k0 = k1) {
			k1 = panel_end(w, w->col0, k0, w->cols);
			for (size_t r = 0; r < count; r++) {
				fill_panel(kind, &band[r0 + r], k0, k1, panel + r * PANEL * LANES);
				if (f[r].scaled)
					f[r].scale = block_scales(&band[r0 + r], k0);
				f[r].first = k0 == 0;
			}
			multiply_panels(x, k0, k1 - k0, panel, count, f);
		}
	}
}

/* ---- all ------------------------------------------------------------------------------------------------- */

ALWAYS_INLINE void gemm(const enum kind kind, const struct octavo_matrix *w, size_t n0, size_t n1,
                        const struct octavo_rows *x, float *y, size_t ldy)
{
	const uint8_t *data = (const uint8_t *)w->data;
	const size_t size = element_size(kind), pitch = w->ld * size;
	const int own = is_own(kind, w, x);
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
		if (own)
			own_band(kind, band, blocks, x, y, ldy);
		else
			many_rows(kind, band, blocks, x, y, ldy);
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
