/* SPDX-License-Identifier: Apache-2.0
 *
 * What the backends share.  Other libraries know no block scales, so a product is cut into tiles of the scale
 * blocks: a tile of weights becomes values (exactly), the library multiplies it with the rows' piece, and the result
 * is added with its scale.  Rows are taken at most 64 at a time and in powers of two, so that a few ready-made
 * products do for all; a tile is decoded once for all rows.
 *
 * The bound that octavo_kernels.h states holds because a library only chooses the order in which it adds the
 * exact products of a piece, one rounding to nearest each, and nothing here over- or underflows.
 */
#ifndef OCTAVO_BACKEND_TILES_H
#define OCTAVO_BACKEND_TILES_H

#include "octavo_kernels.h"

#include <string.h>

enum {
	TILE = OCTAVO_BLOCK,
	MOST_ROWS = 64,
	ROW_SIZES = 7, /* 1, 2, 4, …, MOST_ROWS */
};

static inline size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Where the block of `offset` + i, of an axis of `size`, ends. */
static inline size_t tile_end(unsigned offset, size_t i, size_t size)
{
	return least(i + TILE - (offset + i) % TILE, size);
}

/* The smallest ready-made size, as the exponent of its power of two, for `rows` rows of at most MOST_ROWS. */
static inline unsigned row_size(size_t rows)
{
	unsigned size = 0;

	while ((size_t)1 << size < rows)
		size++;
	return size;
}

/* ---- Weights ---------------------------------------------------------------------------------------------- */

/* A code's magnitude as BF16 bits is concave: each binade's line is steeper than the next one's, so it is the least of
 * the lines, except at zero.  In 16 bits and without branches, this is eight codes at a time even on the oldest
 * x86-64. */
static inline int16_t at_most(int16_t a, int16_t b)
{
	return a < b ? a : b;
}

static inline uint16_t e4m3_to_bf16(uint8_t code)
{
	int16_t m = code & 0x7f;
	int16_t normal = (int16_t)((m << 4) + 0x3c00), four = (int16_t)((m << 5) + 0x3b80);
	int16_t two = (int16_t)((m << 6) + 0x3b00), one = (int16_t)((m << 7) + 0x3a80);
	int16_t value = at_most(at_most(normal, four), at_most(two, one));

	value = m > 0 ? value : 0;
	value |= m == 0x7f ? 0x7fc0 : 0;
	return (uint16_t)(value | (code & 0x80) << 8);
}

static inline uint16_t e5m2_to_bf16(uint8_t code)
{
	int16_t m = code & 0x7f;
	int16_t normal = (int16_t)((m << 5) + 0x3800), two = (int16_t)((m << 6) + 0x3780);
	int16_t one = (int16_t)((m << 7) + 0x3700);
	int16_t value = at_most(normal, at_most(two, one));

	value = m > 0 ? value : 0;
	value |= m >= 0x7c ? 0x7f80 : 0;
	return (uint16_t)(value | (code & 0x80) << 8);
}

/* A row of FP8 codes as BF16. */
static inline void decode_codes(uint16_t *to, const uint8_t *code, size_t count, enum octavo_dtype dtype)
{
	if (dtype == OCTAVO_E4M3) {
#pragma omp simd
		for (size_t i = 0; i < count; i++)
			to[i] = e4m3_to_bf16(code[i]);
	} else {
#pragma omp simd
		for (size_t i = 0; i < count; i++)
			to[i] = e5m2_to_bf16(code[i]);
	}
}

/* Asks for the next tile's part of a row, behind this one's `bytes`: a tile's rows lie too far apart for the processor
 * to see it coming. */
static inline void prefetch_next(const uint8_t *from, size_t bytes)
{
	for (size_t at = 0; at <= bytes; at += 64)
		__builtin_prefetch(from + bytes + at);
}

/* ---- Results ---------------------------------------------------------------------------------------------- */

/* The scale of the tile at (n, k) for row m. */
static inline float tile_scale(const struct octavo_matrix *w, const struct octavo_rows *x, size_t n, size_t k, size_t m)
{
	float scale = octavo_matrix_scale(w, n, k);

	return x->scale ? x->scale[m * x->scale_ld + k / TILE] * scale : scale;
}

static inline void clear_columns(float *y, size_t ldy, size_t rows, size_t n0, size_t n1)
{
	for (size_t m = 0; m < rows; m++)
		memset(y + m * ldy + n0, 0, (n1 - n0) * sizeof *y);
}

/* What a kernel that could not get what it needs leaves behind: it has no way to return a status, and NaN is seen. */
static inline void spoil_columns(float *y, size_t ldy, size_t rows, size_t n0, size_t n1)
{
	for (size_t m = 0; m < rows; m++)
		memset(y + m * ldy + n0, 0xff, (n1 - n0) * sizeof *y);
}

#endif
