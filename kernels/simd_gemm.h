/* SPDX-License-Identifier: Apache-2.0
 *
 * The GEMM for any vectors: see simd.h.  The including file says how a block of weights is decoded:
 *
 *	ALWAYS_INLINE int is_own(const enum kind, const struct octavo_matrix *, const struct octavo_rows *x);
 *		whether own_block is to be called
 *	ALWAYS_INLINE void own_block(const enum kind, const struct block *, const struct octavo_rows *x, float *y,
 *	                             size_t ldy);
 *		the block's products with x, its own way
 *	ALWAYS_INLINE void fill_panel(const enum kind, const struct block *, size_t k0, size_t k1, float *panel);
 *		columns [k0, k1) to F32, for many rows: the panel lies in the first-level cache, and a block of
 *		weights is decoded once for all rows
 *
 * simd_transposed.h has these for x86's registers.
 */
#ifndef OCTAVO_SIMD_GEMM_H
#define OCTAVO_SIMD_GEMM_H

#include "kernels/simd_block.h"

ALWAYS_INLINE void many_rows(const enum kind kind, const struct block *b, const struct octavo_rows *x, float *y,
                             size_t ldy)
{
	alignas(64) float panel[PANEL * LANES];
	struct fold f = {.y = y + b->n, .ldy = ldy, .count = b->count, .scaled = b->w->scale_dtype != OCTAVO_NONE};

	for (size_t k0 = 0, k1; k0 < b->w->cols; k0 = k1) {
		k1 = panel_end(b->w, b->w->col0, k0, b->w->cols);
		fill_panel(kind, b, k0, k1, panel);
		if (f.scaled)
			f.scale = block_scales(b, k0);
		f.first = k0 == 0;
		multiply_rows(x, k0, k1 - k0, panel, f);
	}
}

/* ---- all ------------------------------------------------------------------------------------------------- */

ALWAYS_INLINE void gemm(const enum kind kind, const struct octavo_matrix *w, size_t n0, size_t n1,
                        const struct octavo_rows *x, float *y, size_t ldy)
{
	const uint8_t *data = (const uint8_t *)w->data;
	const size_t size = element_size(kind), pitch = w->ld * size;
	struct block b = {.w = w, .row_bytes = w->cols * size, .next = (ptrdiff_t)(LANES * pitch)};

	const int own = is_own(kind, w, x);
	for (b.n = n0; b.n < n1; b.n += LANES) {
		b.count = smaller(LANES, n1 - b.n);
		for (size_t i = 0; i < LANES; i++)
			b.row[i] = data + (b.n + smaller(i, b.count - 1)) * pitch;
		if (own)
			own_block(kind, &b, x, y, ldy);
		else
			many_rows(kind, &b, x, y, ldy);
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
