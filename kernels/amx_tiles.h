/* SPDX-License-Identifier: Apache-2.0
 *
 * Tiles of AMX-BF16, as all AMX kernels use them.
 *
 * TDPBF16PS C, A, B computes for each row m of A and column n of B
 *	C[m][n] = C[m][n] + (E + O)
 * where E is the chain of fused multiply-adds over the even elements of a row of A from +0, O the same over the odd
 * ones: the contract's chunk of 32, in either order of the operands, since products commute.  A's rows hold their 32
 * BF16 values side by side; B's row i holds elements 2i and 2i + 1 of each column side by side, as one dword.
 * The instruction flushes subnormals and ignores MXCSR; the contract's bounds let no subnormal arise.
 *
 * The eight tiles are 2 x 2 sums and their operands: each load of an operand serves two multiplications, so that the
 * multiplier (16 clocks) and not the loads (8 clocks each) sets the pace, and the four sums are four independent
 * chains to fill its latency (52 clocks).
 *
 *	      B0  B1
 *	A0    C0  C1
 *	A1    C2  C3
 *
 * Compilers take tile numbers as literals and keep no account of what the instructions read from memory:
 * tile_fence() stands between vector code and tile code that share a buffer.
 */
#ifndef OCTAVO_AMX_TILES_H
#define OCTAVO_AMX_TILES_H

#include "kernels/simd_avx512.h"

#include "kernels/chunk_ref.h"
#include "kernels/simd.h"

#define C0 0
#define C1 1
#define C2 2
#define C3 3
#define A0 4
#define A1 5
#define B0 6
#define B1 7

#define SIDE 16            /* rows of a tile, and dwords in its rows */
#define TILE_ROW 64        /* bytes of a row of a full tile */
#define TILE (SIDE * SIDE) /* dwords of a full tile */

/* What LDTILECFG reads. */
struct tile_config {
	uint8_t palette, start_row, reserved[14];
	uint16_t row_bytes[16];
	uint8_t rows[16];
};
_Static_assert(sizeof(struct tile_config) == 64, "the tile configuration is 64 bytes");

/* Everything at `scratch`, and all other memory, is written before and read again behind this point. */
ALWAYS_INLINE void tile_fence(const void *scratch)
{
	__asm__ volatile("" : : "r"(scratch) : "memory");
}

/* A of `rows` rows, B of `columns` columns, sums to fit; all tiles are zero.  Once per call of a kernel: tiles in use
 * make a context switch save 8 KiB more, so a kernel ends with _tile_release(). */
static inline void tile_open(size_t rows, size_t columns)
{
	_Alignas(64) struct tile_config config = {.palette = 1};

	for (int i = 0; i < 4; i++) { /* C0 to C3 */
		config.rows[i] = (uint8_t)rows;
		config.row_bytes[i] = (uint16_t)(4 * columns);
	}
	for (int i = 4; i < 6; i++) { /* A0, A1 */
		config.rows[i] = (uint8_t)rows;
		config.row_bytes[i] = TILE_ROW;
	}
	for (int i = 6; i < 8; i++) { /* B0, B1 */
		config.rows[i] = SIDE;
		config.row_bytes[i] = (uint16_t)(4 * columns);
	}
	tile_fence(&config);
	_tile_loadconfig(&config);
	tile_fence(&config); /* nothing else may take its place on the stack before */
}

/* 16 x 16 floats between rows and columns. */
ALWAYS_INLINE void transpose_floats(vf v[SIDE])
{
	vi d[SIDE];

#pragma GCC unroll 16
	for (int i = 0; i < SIDE; i++)
		d[i] = vi_of(v[i]);
	transpose(d);
#pragma GCC unroll 16
	for (int i = 0; i < SIDE; i++)
		v[i] = vf_of(d[i]);
}

/* The scales of `count` rows of w from n on, at column k. */
static inline void row_scales(const struct octavo_matrix *w, size_t n, size_t count, size_t k, float *scale)
{
	for (size_t i = 0, end; i < count; i = end) {
		float s = octavo_matrix_scale(w, n + i, k);
		for (end = octavo_piece_end(w, (unsigned)((w->row0 + n) % OCTAVO_BLOCK), i, count); i < end; i++)
			scale[i] = s;
	}
}

#endif
