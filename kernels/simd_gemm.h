/* SPDX-License-Identifier: Apache-2.0
 *
 * The GEMM for any vectors: see simd.h.  The including file says how the products of up to BAND blocks go:
 *
 *	ALWAYS_INLINE enum way way_of(const enum kind, const struct octavo_matrix *, const struct octavo_rows *x);
 *	ALWAYS_INLINE void few_band(const enum kind, const struct block *band, size_t blocks,
 *	                            const struct octavo_rows *x, float *y, size_t ldy);
 *		where the way is FEW_ROWS: simd_few.h has it for x86's registers
 *	ALWAYS_INLINE void many_rows(const enum kind, const int shifted, const struct block *band, size_t blocks,
 *	                             const struct octavo_rows *x, float *y, size_t ldy);
 *		for many rows: simd_many.h
 */
#ifndef OCTAVO_SIMD_GEMM_H
#define OCTAVO_SIMD_GEMM_H

#include "kernels/simd_block.h"

ALWAYS_INLINE void gemm(const enum kind kind, const struct octavo_matrix *w, size_t n0, size_t n1,
                        const struct octavo_rows *x, float *y, size_t ldy)
{
	const enum way way = way_of(kind, w, x);
	struct block band[BAND];

	for (size_t n = n0, blocks; n < n1; n += blocks * LANES) {
		blocks = take_band(kind, w, n, n1, band);
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
