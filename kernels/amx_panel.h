/* SPDX-License-Identifier: Apache-2.0
 *
 * The multiplication that GEMM of many rows, transposed GEMM and attention share on AMX: rows of x, read in place as
 * the A tiles, with a panel of decoded columns as the B tiles.  The kernels differ in how they fill the panel.
 * Sums come out as rows of y.
 *
 * The sums of two rows of tiles and two columns of tiles leave the tiles for one of two buffers in the first-level
 * cache; they are folded into y while the tiles compute the next four.
 */
#ifndef OCTAVO_AMX_PANEL_H
#define OCTAVO_AMX_PANEL_H

#include "kernels/amx_tiles.h"

/* Chunks of a panel times tiles of columns: 40 KiB, which leave room for x in the first-level cache. */
#define PANEL_TILES 40
/* With scales, a panel holds a scale block of four tiles of columns; without, long chains of two. */
#define SCALED_CHUNKS (OCTAVO_BLOCK / OCTAVO_CHUNK)
#define SCALED_COLUMNS (4 * SIDE)
#define PLAIN_CHUNKS (PANEL_TILES / 2)
#define PLAIN_COLUMNS (2 * SIDE)

/* The scratch memory of a call. */
struct panel {
	_Alignas(64) uint32_t b[PANEL_TILES][TILE];        /* [tile of columns][chunk][pair][column], bf16 pairs */
	_Alignas(64) float sum[2][4][TILE];                /* two blocks of C0 to C3 */
	_Alignas(64) uint16_t tail[2][SIDE][OCTAVO_CHUNK]; /* x's last, incomplete chunk for A0 and A1 */
	size_t chunks;                                     /* room for so many between tiles of columns */
};

/* What becomes of a panel's sums; see struct fold of simd_panel.h. */
struct panel_fold {
	float *y; /* [rows of x][ldy], at the panel's first column */
	size_t ldy, columns;
	int first;                                /* y is not written yet: it counts as +0 */
	int scaled;                               /* y = fma(scale, sum, y); otherwise the chains go on from y */
	_Alignas(64) float scale[SCALED_COLUMNS]; /* per column */
	size_t group;                             /* column of x's scales */
};

/* ---- filling ------------------------------------------------------------------------------------------------ */

static inline uint32_t *panel_chunk(struct panel *p, size_t tile, size_t chunk)
{
	return p->b[tile * p->chunks + chunk];
}

/* Where the panel that holds index i of a summed axis ends; see octavo_piece_end. */
static inline size_t panel_end(const struct octavo_matrix *w, unsigned offset, size_t i, size_t size)
{
	size_t most = w->scale_dtype == OCTAVO_NONE ? PLAIN_CHUNKS * OCTAVO_CHUNK : OCTAVO_BLOCK;

	return smaller(octavo_piece_end(w, offset, i, size), i + most);
}

/* One chunk of 16 columns that lie as BF16 rows, `count` <= 32 elements of each. */
ALWAYS_INLINE void fill_transposed(uint32_t *b /* [TILE] */, const uint8_t *const row[SIDE], size_t offset,
                                   size_t count)
{
	vi d[SIDE];

	load_transposed(row, offset, 2 * smaller(count, OCTAVO_CHUNK), d);
#pragma GCC unroll 16
	for (size_t i = 0; i < SIDE; i++)
		_mm512_store_si512(b + i * SIDE, d[i]);
}

/* One pair of elements of 32 columns that lie as they come: elements 2i and 2i + 1 into row i of two tiles. */
ALWAYS_INLINE void fill_pair(uint32_t *b0, uint32_t *b1, vi even, vi odd)
{
	const vi low =
	        _mm512_setr_epi32(0x200000, 0x210001, 0x220002, 0x230003, 0x240004, 0x250005, 0x260006, 0x270007,
	                          0x280008, 0x290009, 0x2a000a, 0x2b000b, 0x2c000c, 0x2d000d, 0x2e000e, 0x2f000f);
	const vi high = _mm512_add_epi16(low, _mm512_set1_epi16(16));

	_mm512_store_si512(b0, _mm512_permutex2var_epi16(even, low, odd));
	_mm512_store_si512(b1, _mm512_permutex2var_epi16(even, high, odd));
}

/* ---- multiplying -------------------------------------------------------------------------------------------- */

/* The A tiles of a block: rows first[i] on, of which those before `skip[i]` belong to the block before. */
struct panel_rows {
	size_t tiles, first[2], skip[2];
	const uint16_t *x[2];
};

/* The last tile of x reaches back into the one before it if its own rows are fewer than a tile's. */
static inline struct panel_rows rows_from(const struct octavo_rows *x, size_t k0, size_t m)
{
	struct panel_rows r = {.tiles = x->rows - m > SIDE ? 2 : 1};

	for (size_t i = 0; i < 2; i++) {
		size_t at = m + smaller(i, r.tiles - 1) * SIDE;
		r.first[i] = x->rows - at >= SIDE || x->rows < SIDE ? at : x->rows - SIDE;
		r.skip[i] = at - r.first[i];
		r.x[i] = x->x + r.first[i] * x->ld + k0;
	}
	return r;
}

static inline void copy_tails(struct panel *p, const struct octavo_rows *x, const struct panel_rows *r, size_t k,
                              size_t count)
{
	for (size_t i = 0; i < r->tiles; i++)
		for (size_t m = 0; m < smaller(SIDE, x->rows); m++)
			_mm512_store_si512(p->tail[i][m], load_chunk(r->x[i] + m * x->ld + k, count));
	tile_fence(p);
}

/* One chunk of two rows and `columns` columns of tiles. */
ALWAYS_INLINE void multiply_chunk(size_t rows, size_t columns, const uint16_t *const a[2], size_t pitch,
                                  const uint32_t *b0, const uint32_t *b1)
{
	_tile_loadd(B0, b0, TILE_ROW);
	_tile_loadd(A0, a[0], pitch);
	_tile_dpbf16ps(C0, A0, B0);
	if (columns > 1) {
		_tile_loadd(B1, b1, TILE_ROW);
		_tile_dpbf16ps(C1, A0, B1);
	}
	if (rows > 1) {
		_tile_loadd(A1, a[1], pitch);
		_tile_dpbf16ps(C2, A1, B0);
		if (columns > 1)
			_tile_dpbf16ps(C3, A1, B1);
	}
}

/* The first `count` elements of the panel, tiles of columns from `tile` on. */
static inline void multiply_block(struct panel *p, const struct octavo_rows *x, const struct panel_rows *r, size_t tile,
                                  size_t columns, size_t count)
{
	const uint16_t *const tail[2] = {p->tail[0][0], p->tail[1][0]};
	size_t c = 0, whole = count / OCTAVO_CHUNK;
	const uint32_t *b0 = panel_chunk(p, tile, 0), *b1 = panel_chunk(p, tile + columns - 1, 0);

	for (; c < whole; c++) {
		const uint16_t *const a[2] = {r->x[0] + c * OCTAVO_CHUNK, r->x[1] + c * OCTAVO_CHUNK};
		multiply_chunk(r->tiles, columns, a, 2 * x->ld, b0 + c * TILE, b1 + c * TILE);
	}
	if (count % OCTAVO_CHUNK)
		multiply_chunk(r->tiles, columns, tail, TILE_ROW, b0 + c * TILE, b1 + c * TILE);
}

/* ---- sums --------------------------------------------------------------------------------------------------- */

/* Four tiles of sums: where they belong and where they lie. */
struct panel_sums {
	struct panel_rows rows;
	size_t tile, columns; /* of the panel, in tiles */
	float (*sum)[TILE];   /* [4] */
};

/* Takes y's rows into the tiles, for chains that go on. */
static inline void load_sums(const struct panel_sums *s, const struct octavo_rows *x, const struct panel_fold *f)
{
	for (size_t i = 0; i < s->rows.tiles; i++)
		for (size_t j = 0; j < s->columns; j++) {
			size_t n = (s->tile + j) * SIDE;
			for (size_t m = 0; m < smaller(SIDE, x->rows); m++)
				vf_store(s->sum[2 * i + j] + m * SIDE,
				         vf_load_first(f->y + (s->rows.first[i] + m) * f->ldy + n, f->columns - n));
		}
	tile_fence(s->sum);
	_tile_loadd(C0, s->sum[0], TILE_ROW);
	_tile_loadd(C1, s->sum[1], TILE_ROW);
	_tile_loadd(C2, s->sum[2], TILE_ROW);
	_tile_loadd(C3, s->sum[3], TILE_ROW);
	tile_fence(s->sum);
}

static inline void store_sums(const struct panel_sums *s)
{
	_tile_stored(C0, s->sum[0], TILE_ROW);
	if (s->columns > 1)
		_tile_stored(C1, s->sum[1], TILE_ROW);
	if (s->rows.tiles == 1)
		return;
	_tile_stored(C2, s->sum[2], TILE_ROW);
	if (s->columns > 1)
		_tile_stored(C3, s->sum[3], TILE_ROW);
}

static inline void zero_sums(void)
{
	_tile_zero(C0);
	_tile_zero(C1);
	_tile_zero(C2);
	_tile_zero(C3);
}

/* One tile of sums into y. */
static inline void fold_tile(const float *sum, const struct octavo_rows *x, const struct panel_fold *f, size_t m0,
                             size_t skip, size_t n)
{
	const vf scale = f->scaled ? vf_load(f->scale + n) : vf_zero();
	const size_t count = f->columns - n;

	for (size_t m = skip; m < smaller(SIDE, x->rows); m++) {
		float *y = f->y + (m0 + m) * f->ldy + n;
		vf acc = vf_load(sum + m * SIDE);
		if (f->scaled) {
			vf s = scale;
			if (x->scale)
				s = vf_mul(vf_set1(x->scale[(m0 + m) * x->scale_ld + f->group]), s);
			acc = vf_fma(s, acc, f->first ? vf_zero() : vf_load_first(y, count));
		}
		vf_store_first(y, count, acc);
	}
}

static inline void fold_sums(const struct panel_sums *s, const struct octavo_rows *x, const struct panel_fold *f)
{
	for (size_t i = 0; i < s->rows.tiles; i++)
		for (size_t j = 0; j < s->columns; j++)
			fold_tile(s->sum[2 * i + j], x, f, s->rows.first[i], s->rows.skip[i], (s->tile + j) * SIDE);
}

/* ---- all ---------------------------------------------------------------------------------------------------- */

/* Columns [k0, k0 + count) of x with the panel. */
static void multiply_panel(struct panel *p, const struct octavo_rows *x, size_t k0, size_t count,
                           const struct panel_fold *f)
{
	const size_t tiles = (f->columns + SIDE - 1) / SIDE;
	struct panel_sums s, before = {.sum = NULL};

	tile_fence(p);
	for (size_t m = 0, turn = 0; m < x->rows; m += 2 * SIDE) {
		s.rows = rows_from(x, k0, m);
		if (count % OCTAVO_CHUNK)
			copy_tails(p, x, &s.rows, count / OCTAVO_CHUNK * OCTAVO_CHUNK, count % OCTAVO_CHUNK);
		for (s.tile = 0; s.tile < tiles; s.tile += 2, turn ^= 1) {
			s.columns = smaller(2, tiles - s.tile);
			s.sum = p->sum[turn];
			if (f->scaled || f->first)
				zero_sums();
			else
				load_sums(&s, x, f);
			multiply_block(p, x, &s.rows, s.tile, s.columns, count);
			store_sums(&s);
			if (before.sum)
				fold_sums(&before, x, f);
			before = s;
		}
	}
	fold_sums(&before, x, f);
}

/* For x's rows, of any number. */
static inline void panel_open(const struct octavo_rows *x)
{
	tile_open(smaller(SIDE, x->rows), SIDE);
}

#endif
