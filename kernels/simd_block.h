/* SPDX-License-Identifier: Apache-2.0
 *
 * A block of weights, the unit of every GEMM on vectors: see simd_gemm.h.
 */
#ifndef OCTAVO_SIMD_BLOCK_H
#define OCTAVO_SIMD_BLOCK_H

#include "kernels/simd_panel.h"

#define AHEAD 1024 /* bytes along a row between a load and its prefetch */
#define BAND 8     /* blocks that share what is made of x */
#define PANELS 4   /* of them that are decoded at a time: as much as a first-level cache holds */

/* 16 rows of weights, from row n on.  Rows beyond the slice repeat its last one and are never stored. */
struct block {
	const struct octavo_matrix *w;
	size_t n, count; /* rows that exist */
	const uint8_t *row[LANES];
	size_t row_bytes;
	ptrdiff_t next; /* bytes from a row to the same one of the next block */
};

ALWAYS_INLINE size_t element_size(const enum kind kind)
{
	return kind == E4M3 || kind == E5M2 ? 1 : kind == F32 ? 4 : 2;
}

/* The scales of the block's rows at column k: at most two rows of scale blocks meet in 16 rows. */
static inline vf block_scales(const struct block *b, size_t k)
{
	const struct octavo_matrix *w = b->w;
	size_t left = OCTAVO_BLOCK - (w->row0 + b->n) % OCTAVO_BLOCK;
	vf scale = vf_set1(octavo_matrix_scale(w, b->n, k));

	if (left >= b->count)
		return scale;
	return vf_choose(vm_first(left), scale, vf_set1(octavo_matrix_scale(w, b->n + left, k)));
}

/* Whether all of x is smaller than `limit` in magnitude; NaN is not. */
static inline int all_below(const struct octavo_rows *x, size_t cols, float limit)
{
	float lane[LANES];
	vi largest = vi_set1(0);
	int below = 1;

	for (size_t m = 0; m < x->rows; m++)
		for (size_t k = 0; k < cols; k += LANES)
			largest = vi_max(largest, vi_of(vf_abs(vf_load_bf16(x->x + m * x->ld + k, cols - k))));
	vf_store_first(lane, LANES, vf_of(largest));
	for (size_t i = 0; i < LANES; i++)
		below &= lane[i] < limit;
	return below;
}

/* The next cache lines of `count` rows come from memory while these are decoded; at the end of the rows those of the
 * rows that take their place do, `after` rows behind them.  Into the second level only: in the first, rows a multiple
 * of 4096 bytes apart would push each other out before they are used. */
ALWAYS_INLINE void prefetch(const struct block *b, const int first, const int count, const int after, size_t offset)
{
	size_t ahead = offset + AHEAD;
	ptrdiff_t next = b->next / LANES * after;
	ptrdiff_t from = ahead < b->row_bytes ? (ptrdiff_t)ahead : next + (ptrdiff_t)(ahead - b->row_bytes);

#pragma GCC unroll 16
	for (int i = first; i < first + count; i++)
		__builtin_prefetch(b->row[i] + from, 0, 2);
}

/* The folds of blocks [first, first + count) of a band, of which `count` <= PANELS is returned. */
static inline size_t begin_folds(const struct block *band, size_t first, size_t blocks, int up, float *y, size_t ldy,
                                 struct fold *f)
{
	size_t count = smaller(PANELS, blocks - first);

	for (size_t r = 0; r < count; r++) {
		const struct block *b = &band[first + r];
		f[r] = (struct fold){.y = y + b->n, .ldy = ldy, .count = b->count, .up = up};
		f[r].scaled = b->w->scale_dtype != OCTAVO_NONE;
	}
	return count;
}

#endif
