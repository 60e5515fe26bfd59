/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks of weights for registers that hold 16 whole dwords or two halves of them: 64 bytes of each row are
 * transposed, and then decoded.  The including file decodes FP8, since the best way differs most:
 *
 *	struct codes;
 *	static struct codes codes_for(enum octavo_dtype);
 *	ALWAYS_INLINE void decode(const enum kind, const struct codes *, vi d, vf w[4]);
 *		the codes in bytes 0..3 of the lanes of d, to F32
 *
 * simd_decode.h has these by arithmetic alone.
 */
#ifndef OCTAVO_SIMD_TRANSPOSED_H
#define OCTAVO_SIMD_TRANSPOSED_H

#include "kernels/simd_block.h"

/* Decodes one transposed dword per row: 4 codes, 2 halves or a float. */
ALWAYS_INLINE void decode_dword(const enum kind kind, const struct block *b, vi d, vf *w)
{
	if (kind == E4M3 || kind == E5M2)
		decode(kind, &b->codes, d, w);
	else if (kind == BF16)
		split_bf16(d, w);
	else if (kind == F16)
		split_f16(d, w);
	else
		w[0] = vf_of(d);
}

#if FEW == 8
/* ---- few rows -------------------------------------------------------------------------------------------- */

/* One step: 64 bytes of each row.  x points at the step's columns in [rows][PANEL]. */
ALWAYS_INLINE void few_step(const enum kind kind, const size_t rows, const struct block *b, const vi d[16],
                            const float *x, vf *acc)
{
	const size_t per_dword = 4 / element_size(kind);
	const size_t dwords = CHUNK / per_dword; /* in a chunk */

	for (size_t first = 0; first < 16; first += dwords) {
		vf even[FEW], odd[FEW];
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++)
			even[m] = odd[m] = vf_zero();
#pragma GCC unroll 2
		for (size_t i = first; i < first + dwords; i++) {
			vf w[4];
			decode_dword(kind, b, d[i], w);
#pragma GCC unroll 4
			for (size_t j = 0; j < per_dword; j += 2)
#pragma GCC unroll 8
				for (size_t m = 0; m < rows; m++) {
					const float *xk = x + m * PANEL + i * per_dword + j;
					even[m] = vf_fma(w[j], vf_set1(xk[0]), even[m]);
					odd[m] = vf_fma(w[j + 1], vf_set1(xk[1]), odd[m]);
				}
		}
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++)
			acc[m] = vf_add(acc[m], vf_add(even[m], odd[m]));
	}
}

ALWAYS_INLINE void few_rows(const enum kind kind, const size_t rows, const struct block *b, const struct octavo_rows *x,
                            float *y, size_t ldy)
{
	const size_t size = element_size(kind), step = 64 / size;
	const int scaled = b->w->scale_dtype != OCTAVO_NONE;
	alignas(64) float xf[FEW * PANEL];
	vf acc[FEW], sum[FEW];

#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++)
		acc[m] = sum[m] = vf_zero();
	for (size_t k0 = 0, k1; k0 < b->w->cols; k0 = k1) {
		k1 = panel_end(b->w, b->w->col0, k0, b->w->cols);
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++)
			widen_row(x->x + m * x->ld + k0, k1 - k0, xf + m * PANEL);
		for (size_t k = k0; k < k1; k += step) {
			vi d[16];
			prefetch(b, 0, LANES, k * size);
			load_transposed(b->row, k * size, smaller(step, k1 - k) * size, d);
			few_step(kind, rows, b, d, xf + (k - k0), acc);
		}
		if (!scaled)
			continue;
		vf scale = block_scales(b, k0);
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++) {
			vf s = scale;
			if (x->scale)
				s = vf_mul(vf_set1(x->scale[m * x->scale_ld + k0 / OCTAVO_BLOCK]), s);
			sum[m] = vf_fma(s, acc[m], sum[m]);
			acc[m] = vf_zero();
		}
	}
#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++)
		vf_store_first(y + m * ldy + b->n, b->count, scaled ? sum[m] : acc[m]);
}
#endif

/* Only for the kinds that models are made of: the rest would double the code for nobody. */
ALWAYS_INLINE int is_few(const enum kind kind, const struct octavo_matrix *w, const struct octavo_rows *x)
{
	(void)w;
	return (kind == E4M3 || kind == BF16) && x->rows <= FEW;
}

ALWAYS_INLINE void few_block(const enum kind kind, const struct block *b, const struct octavo_rows *x, float *y,
                             size_t ldy)
{
#if FEW == 8
	switch (x->rows) {
	case 1:
		few_rows(kind, 1, b, x, y, ldy);
		break;
	case 2:
		few_rows(kind, 2, b, x, y, ldy);
		break;
	case 3:
		few_rows(kind, 3, b, x, y, ldy);
		break;
	case 4:
		few_rows(kind, 4, b, x, y, ldy);
		break;
	case 5:
		few_rows(kind, 5, b, x, y, ldy);
		break;
	case 6:
		few_rows(kind, 6, b, x, y, ldy);
		break;
	case 7:
		few_rows(kind, 7, b, x, y, ldy);
		break;
	case 8:
		few_rows(kind, 8, b, x, y, ldy);
		break;
	}
#else
	(void)kind, (void)b, (void)x, (void)y, (void)ldy;
#endif
}

/* ---- many rows ------------------------------------------------------------------------------------------- */

/* Fills whole chunks: zeros behind k1. */
ALWAYS_INLINE void fill_panel(const enum kind kind, const struct block *b, size_t k0, size_t k1, float *panel)
{
	const size_t size = element_size(kind), step = 64 / size, per_dword = 4 / size;
	size_t end = k0 + (k1 - k0 + CHUNK - 1) / CHUNK * CHUNK;

	for (size_t k = k0; k < end; k += step) {
		vi d[16];
		prefetch(b, 0, LANES, k * size);
		load_transposed(b->row, k * size, smaller(step, k1 - smaller(k, k1)) * size, d);
#pragma GCC unroll 16
		for (size_t i = 0; i < 16; i++) {
			vf w[4];
			decode_dword(kind, b, d[i], w);
#pragma GCC unroll 4
			for (size_t j = 0; j < per_dword; j++)
				vf_store(panel + (k - k0 + i * per_dword + j) * LANES, w[j]);
		}
	}
}

#endif
