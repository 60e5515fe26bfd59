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

/* E4M3 has a short cut.  Two shifts and a mask bring a code's fields to F32's places, which gives its value times
 * 2^-DOWN; the multiplication that would mend it is left to x and to the scale, which are multiplied by 2^UP and
 * 2^(DOWN - UP) instead.  Powers of two change no rounding as long as nothing overflows or underflows: see
 * is_moderate().  A NaN code would pass for 480, so its lane is noted and its outputs are made NaN at the end: a NaN
 * weight makes every sum NaN that it enters, whatever x is. */
#define DOWN 120
#define UP 60

/* How a product goes. */
enum way {
	DECODED,  /* panels of values */
	SHIFTED,  /* panels of E4M3 values times 2^-DOWN */
	FEW_ROWS, /* a way of the set's own for few rows of x */
};

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

/* Up to BAND blocks of rows [n, n1); returns how many. */
ALWAYS_INLINE size_t take_band(const enum kind kind, const struct octavo_matrix *w, size_t n, size_t n1,
                               struct block band[BAND])
{
	const size_t pitch = w->ld * element_size(kind);
	size_t blocks = 0;

	for (; blocks < BAND && n < n1; blocks++, n += LANES) {
		struct block *b = &band[blocks];
		*b = (struct block){.w = w, .n = n, .count = smaller(LANES, n1 - n)};
		b->row_bytes = w->cols * element_size(kind);
		b->next = (ptrdiff_t)(LANES * pitch);
		for (size_t i = 0; i < LANES; i++)
			b->row[i] = (const uint8_t *)w->data + (n + smaller(i, b->count - 1)) * pitch;
	}
	return blocks;
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

/* Whether nothing overflows times 2^UP: no value, and no scale beside a weight's of up to 2^40. */
static inline int is_moderate(const struct octavo_rows *x, size_t cols)
{
	for (size_t m = 0; x->scale && m < x->rows; m++)
		for (size_t i = 0; i * OCTAVO_BLOCK < cols; i++)
			if (!(x->scale[m * x->scale_ld + i] < 0x1p27f))
				return 0;
	return all_below(x, cols, 0x1p67f);
}

/* A scale, or a finished sum, with the power of two that shifted weights and x leave open. */
ALWAYS_INLINE vf mend(const int shifted, vf v)
{
	return shifted ? vf_mul(v, vf_power(DOWN - UP)) : v;
}

/* The lanes with a NaN code: 255 is a byte of `largest`, the largest byte of each byte's place with the sign set. */
static inline vm noted_nan(vi largest)
{
	const vi byte = vi_set1(0xff);
	vi low = vi_max(vi_and(largest, byte), vi_and(vi_right(largest, 8), byte));
	vi high = vi_max(vi_and(vi_right(largest, 16), byte), vi_right(largest, 24));

	return vm_equal(vi_max(low, high), byte);
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
