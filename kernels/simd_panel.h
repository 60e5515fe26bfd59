/* SPDX-License-Identifier: Apache-2.0
 *
 * The one multiplication that GEMM, transposed GEMM and attention share, for any vectors: see simd.h.
 *
 * A lane is an output, so each lane walks its own chains in the contract's order.  A panel holds up to 128
 * elements of the summed axis for 16 outputs, decoded; the kernels differ only in how they fill it.  The including file
 * has included what steps along the chains, simd_fma.h or dot.h:
 *
 *	term, TERMS(columns)  what a chain takes at a step, and how many of them: F32 numbers, or pairs of BF16
 *	TERM_STEP             columns of 64 bytes of terms
 *	make_terms            of the first `count` of TERM_STEP elements of x, times 2^up; zeros behind them
 *	multiply              acc[m] = acc[m] + (E + O) over chunks of a panel, ascending
 */
#ifndef OCTAVO_SIMD_PANEL_H
#define OCTAVO_SIMD_PANEL_H

#include "kernels/simd.h"

#define WIDE (2 * LANES * PANEL / TERMS(PANEL)) /* outputs of attention's and gemm_t's panels: half an L1 cache */
#define FEW_WIDE (2 * LANES)                    /* and of attention's steps without a panel */
#define STRIPE 512                              /* columns that gemm_t takes down the rows together: a latent space */

/* The end of the panel that starts at index i of an axis of `size`, which starts at `offset` in its scale block:
 * 128 elements, or fewer where a scale block or the axis ends. */
static inline size_t panel_end(const struct octavo_matrix *w, unsigned offset, size_t i, size_t size)
{
	size_t most = w->scale_dtype == OCTAVO_NONE ? PANEL : OCTAVO_BLOCK - (offset + i) % OCTAVO_BLOCK;

	return i + smaller(most, size - i);
}

/* `count` <= 128 BF16 values of one row, times 2^up, zeros behind them up to a multiple of 64. */
static inline void widen_row(const uint16_t *x, size_t count, const int up, term *out /* [TERMS(PANEL)] */)
{
	size_t i = 0;

	for (; i < count; i += TERM_STEP)
		make_terms(x + i, count - i, up, out + TERMS(i));
	for (; i % 64; i += TERM_STEP)
		memset(out + TERMS(i), 0, 64);
}

/* What becomes of a panel's sums. */
struct fold {
	float *y; /* [rows][ldy], at the first of `count` <= 16 outputs */
	size_t ldy, count;
	int first;            /* y is not written yet: it counts as +0 */
	int scaled;           /* y = fma(scale, acc, y); otherwise the sums go on from y */
	vf scale;             /* per lane */
	int up;               /* x is multiplied by 2^up before it meets the panel */
	const float *x_scale; /* [rows][x_scale_ld], or NULL: factors 1 */
	size_t x_scale_ld;
};

ALWAYS_INLINE void multiply_fold(const size_t rows, const term *w, const term *x, size_t chunks, const struct fold *f)
{
	vf acc[BLOCK];

#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++)
		acc[m] = f->scaled || f->first ? vf_zero() : vf_load_first(f->y + m * f->ldy, f->count);
	multiply(rows, w, x, chunks, acc);
#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++) {
		float *y = f->y + m * f->ldy;
		if (f->scaled) {
			vf scale = f->scale;
			if (f->x_scale)
				scale = vf_mul(vf_set1(f->x_scale[m * f->x_scale_ld]), scale);
			acc[m] = vf_fma(scale, acc[m], f->first ? vf_zero() : vf_load_first(y, f->count));
		}
		vf_store_first(y, f->count, acc[m]);
	}
}

/* The same for 1 to BLOCK rows, known only at run time. */
static void multiply_block(size_t rows, const term *w, const term *x, size_t chunks, const struct fold *f)
{
	switch (rows) {
	case 1:
		multiply_fold(1, w, x, chunks, f);
		break;
	case 2:
		multiply_fold(2, w, x, chunks, f);
		break;
	case 3:
		multiply_fold(3, w, x, chunks, f);
		break;
#if BLOCK > 3
	case 4:
		multiply_fold(4, w, x, chunks, f);
		break;
	case 5:
		multiply_fold(5, w, x, chunks, f);
		break;
	case 6:
		multiply_fold(6, w, x, chunks, f);
		break;
	case 7:
		multiply_fold(7, w, x, chunks, f);
		break;
	case 8:
		multiply_fold(8, w, x, chunks, f);
		break;
#endif
	}
}

/* `panels` panels, one behind the other, against every row of x: columns [k0, k0 + count) of x meet the panels'
 * elements. */
static inline void multiply_panels(const struct octavo_rows *x, size_t k0, size_t count, const term *w, size_t panels,
                                   const struct fold *f)
{
	alignas(64) term xf[BLOCK * TERMS(PANEL)];
	size_t chunks = (count + CHUNK - 1) / CHUNK;

	for (size_t m = 0; m < x->rows; m += BLOCK) {
		size_t rows = smaller(BLOCK, x->rows - m);
		for (size_t i = 0; i < rows; i++)
			widen_row(x->x + (m + i) * x->ld + k0, count, f->up, xf + i * TERMS(PANEL));
		for (size_t p = 0; p < panels; p++) {
			struct fold part = f[p];
			part.y += m * part.ldy;
			part.x_scale = x->scale ? x->scale + m * x->scale_ld + k0 / OCTAVO_BLOCK : NULL;
			part.x_scale_ld = x->scale_ld;
			multiply_block(rows, w + p * TERMS(PANEL) * LANES, xf, chunks, &part);
		}
	}
}

#endif
