/* SPDX-License-Identifier: Apache-2.0
 *
 * The transposed GEMM for any vectors: outputs are columns of w, so its rows are decoded as they lie.  For few rows of
 * x the decoded weights stay in registers and meet all rows there; for more they go into a panel.  The including file
 * has included what steps and fills, simd_gemm_t_fma.h or its own:
 *
 *	STRIPE_MOST      rows of x that do without a panel, in passes of
 *	STRIPE_BLOCK     at most so many: 2, or all that a panel takes
 *	VECTORS(rows)    vectors of columns that go over a chunk together, up to 4
 *	stripe_chunk     acc = acc + (E + O) for up to 32 rows of w and the columns of VECTORS(rows) vectors
 *	fill_panel       rows of up to WIDE columns, decoded
 */
#ifndef OCTAVO_SIMD_GEMM_T_H
#define OCTAVO_SIMD_GEMM_T_H

#include "kernels/simd_panel.h"

/* The scales of `count` <= 16 columns from k on, in the scale block row of row n. */
static vf column_scales(const struct octavo_matrix *w, size_t n, size_t k, size_t count)
{
	size_t left = OCTAVO_BLOCK - (w->col0 + k) % OCTAVO_BLOCK;
	vf scale = vf_set1(octavo_matrix_scale(w, n, k));

	if (left >= count)
		return scale;
	return vf_choose(vm_first(left), scale, vf_set1(octavo_matrix_scale(w, n, k + left)));
}

/* ---- few rows -------------------------------------------------------------------------------------------- */

#define WHOLE 64 /* columns: whole cache lines, and whole steps however many rows there are */

/* Columns [k, k + columns) of y, whole lines of them. */
ALWAYS_INLINE void stripe_rows(const enum octavo_dtype dtype, const size_t rows, const struct octavo_matrix *w,
                               size_t k, size_t columns, const struct octavo_rows *x, float *y, size_t ldy)
{
	const size_t size = dtype == OCTAVO_BF16 ? 2 : 1, pitch = w->ld * size;
	const int scaled = w->scale_dtype != OCTAVO_NONE;
	alignas(64) term xf[BLOCK * TERMS(PANEL)];
	alignas(64) float acc[BLOCK * STRIPE];

	for (size_t n0 = 0, n1; n0 < w->rows; n0 = n1) {
		n1 = panel_end(w, w->row0, n0, w->rows);
		for (size_t m = 0; m < rows; m++)
			widen_row(x->x + m * x->ld + n0, n1 - n0, 0, xf + m * TERMS(PANEL));
		for (size_t m = 0; m < rows && (scaled || n0 == 0); m++)
			memset(acc + m * STRIPE, 0, columns * sizeof *acc);
		for (size_t n = n0; n < n1; n += CHUNK) {
			const uint8_t *p = (const uint8_t *)w->data + n * pitch + k * size;
			for (size_t j = 0; j < columns; j += VECTORS(rows) * LANES)
				stripe_chunk(dtype, rows, p + j * size, pitch, smaller(CHUNK, n1 - n),
				             xf + TERMS(n - n0), acc + j);
		}
		for (size_t j = 0; scaled && j < columns; j += LANES) {
			vf scale = column_scales(w, n0, k + j, LANES);
			for (size_t m = 0; m < rows; m++) {
				float *at = y + m * ldy + j;
				vf before = n0 == 0 ? vf_zero() : vf_load_first(at, LANES);
				vf_store_first(at, LANES, vf_fma(scale, vf_load(acc + m * STRIPE + j), before));
			}
		}
	}
	for (size_t m = 0; m < rows && !scaled; m++)
		memcpy(y + m * ldy, acc + m * STRIPE, columns * sizeof *y);
}

ALWAYS_INLINE void stripe_some(const enum octavo_dtype dtype, const struct octavo_matrix *w, size_t k, size_t columns,
                               const struct octavo_rows *x, float *y, size_t ldy)
{
	switch (x->rows) {
	case 1:
		stripe_rows(dtype, 1, w, k, columns, x, y, ldy);
		break;
	case 2:
		stripe_rows(dtype, 2, w, k, columns, x, y, ldy);
		break;
#if STRIPE_BLOCK > 2
	case 3:
		stripe_rows(dtype, 3, w, k, columns, x, y, ldy);
		break;
#endif
#if STRIPE_BLOCK > 3
	case 4:
		stripe_rows(dtype, 4, w, k, columns, x, y, ldy);
		break;
	case 5:
		stripe_rows(dtype, 5, w, k, columns, x, y, ldy);
		break;
	case 6:
		stripe_rows(dtype, 6, w, k, columns, x, y, ldy);
		break;
	case 7:
		stripe_rows(dtype, 7, w, k, columns, x, y, ldy);
		break;
	case 8:
		stripe_rows(dtype, 8, w, k, columns, x, y, ldy);
		break;
#endif
	}
}

/* As many of the columns [k0, k1) as are whole lines, for the dtypes that models are made of; returns where the rest
 * begins.  More than STRIPE_BLOCK rows take a second pass, for which w lies in the cache. */
static inline size_t stripes(const struct octavo_matrix *w, size_t k0, size_t k1, const struct octavo_rows *x, float *y,
                             size_t ldy)
{
	size_t k = k0;

	if (x->rows > STRIPE_MOST || (w->dtype != OCTAVO_E4M3 && w->dtype != OCTAVO_BF16))
		return k;
	for (size_t columns; (columns = smaller(STRIPE, (k1 - k) / WHOLE * WHOLE)) > 0; k += columns)
		for (size_t m = 0; m < x->rows; m += STRIPE_BLOCK) {
			struct octavo_rows part = {
			        .x = x->x + m * x->ld, .rows = smaller(STRIPE_BLOCK, x->rows - m), .ld = x->ld};
			if (w->dtype == OCTAVO_E4M3)
				stripe_some(OCTAVO_E4M3, w, k, columns, &part, y + m * ldy + k, ldy);
			else
				stripe_some(OCTAVO_BF16, w, k, columns, &part, y + m * ldy + k, ldy);
		}
	return k;
}

/* ---- all ------------------------------------------------------------------------------------------------- */

static void gemm_t(const struct octavo_matrix *w, size_t k0, size_t k1, const struct octavo_rows *x, float *y,
                   size_t ldy)
{
	alignas(64) term panel[TERMS(PANEL) * WIDE];
	struct fold f[WIDE / LANES];
	const int scaled = w->scale_dtype != OCTAVO_NONE;

	for (size_t k = stripes(w, k0, k1, x, y, ldy), panels; k < k1; k += WIDE) {
		size_t count = smaller(WIDE, k1 - k);
		for (size_t n = 0, end; n < w->rows; n = end) {
			end = panel_end(w, w->row0, n, w->rows);
			fill_panel(w, n, end, k, count, panel);
			for (panels = 0; panels * LANES < count; panels++) {
				size_t j = panels * LANES, columns = smaller(LANES, count - j);
				f[panels] = (struct fold){.y = y + k + j,
				                          .ldy = ldy,
				                          .count = columns,
				                          .first = n == 0,
				                          .scaled = scaled,
				                          .scale = scaled ? column_scales(w, n, k + j, columns)
				                                          : vf_zero()};
			}
			multiply_panels(x, n, end - n, panel, panels, f);
		}
	}
}

#endif
