/* SPDX-License-Identifier: Apache-2.0
 *
 * GEMM of up to 16 rows of x on AMX, at the speed of memory: the weights are the A tiles, 16 rows of 32, decoded in
 * the order in which they lie; x is packed as B tiles of exactly x->rows columns.  Sums come out transposed and are
 * turned once per k-block.
 *
 * Of the tiles, A0 and A1 are 32 rows of weights, C0 and C1 their sums and B0 x: one load of x for two rows of tiles.
 * While the tiles work on one panel of 128 columns, vector code decodes the next and folds the one before.
 */
#ifndef OCTAVO_AMX_FEW_H
#define OCTAVO_AMX_FEW_H

#include "kernels/amx_tiles.h"
#include "kernels/codes_vbmi.h"

#define FEW_ROWS 16            /* of x */
#define FEW_WEIGHTS (2 * SIDE) /* rows of weights that go together */
#define FEW_CHUNKS (OCTAVO_BLOCK / OCTAVO_CHUNK)
#define FEW_PACKED                                                                                                     \
	(1 << 14)  /* dwords of packed x, 64 KiB: what a thread's stack can spare, a part of the second level */
#define AHEAD 1024 /* bytes along a row between a load and its prefetch */

/* A panel whose sums have left the tiles. */
struct few_fold {
	_Alignas(64) float sum[2][TILE]; /* [weight][row of x] */
	float scale[FEW_WEIGHTS];
	vf x_scale; /* per row of x */
};

/* The scratch memory of a call. */
struct few {
	_Alignas(64) uint16_t a[2][FEW_CHUNKS][SIDE][OCTAVO_CHUNK]; /* [tile][chunk][weight][k] */
	_Alignas(64) uint32_t b[FEW_PACKED];                        /* [chunk of the k-block][pair][row of x] */
	_Alignas(64) float y[2][TILE];                              /* [weight][row of x], over all panels */
	struct few_fold fold[2];
};

/* Up to 32 rows of weights, from row n on.  Rows beyond the slice repeat its last one and are never stored. */
struct few_block {
	const struct octavo_matrix *w;
	size_t n, count, tiles;
	const uint8_t *row[FEW_WEIGHTS];
	size_t k0, k1;  /* of the k-block */
	ptrdiff_t next; /* from where this block's part of a row ends to where the next block's begins */
};

static inline size_t few_end(const struct octavo_matrix *w, size_t k)
{
	return smaller(octavo_piece_end(w, w->col0, k, w->cols), k + OCTAVO_BLOCK);
}

/* ---- packing x ---------------------------------------------------------------------------------------------- */

/* One chunk as pairs of k, x's rows side by side. */
static inline void pack_chunk(const struct octavo_rows *x, size_t k, size_t count, uint32_t *b)
{
	const uint8_t *row[SIDE];
	vi d[SIDE];

	if (x->rows == 1) { /* its own packing */
		_mm512_storeu_si512(b, load_chunk(x->x + k, count));
		return;
	}
	for (size_t m = 0; m < SIDE; m++)
		row[m] = (const uint8_t *)(x->x + smaller(m, x->rows - 1) * x->ld + k);
	load_transposed(row, 0, 2 * count, d);
	for (size_t i = 0; i < SIDE; i++)
		_mm512_mask_storeu_epi32(b + i * x->rows, first_lanes(x->rows), d[i]);
}

/* Whole panels from k0 on, as many as fit; returns their end. */
static size_t pack(const struct octavo_matrix *w, const struct octavo_rows *x, size_t k0, uint32_t *b)
{
	const size_t size = SIDE * x->rows; /* of a chunk */
	size_t end, used = 0;

	for (; k0 < w->cols && used + FEW_CHUNKS * size <= FEW_PACKED; k0 = end) {
		end = few_end(w, k0);
		for (size_t k = k0; k < end; k += OCTAVO_CHUNK, used += size)
			pack_chunk(x, k, smaller(OCTAVO_CHUNK, end - k), b + used);
	}
	return k0;
}

/* ---- weights ------------------------------------------------------------------------------------------------ */

/* The line of row i that is AHEAD of `offset`, or of the next block's row; into the second level only, since rows a
 * multiple of 4096 bytes apart would push each other out of the first. */
ALWAYS_INLINE void few_prefetch(const struct few_block *b, size_t size, size_t i, size_t k)
{
	ptrdiff_t from = (ptrdiff_t)(k * size) + AHEAD, end = (ptrdiff_t)(b->k1 * size);

	__builtin_prefetch(b->row[i] + (from < end ? from : from + b->next), 0, 2);
}

/* 64 codes of a row to two chunks.  The quarters of 16 codes that unpacking takes from each 128-bit lane are brought
 * there first. */
ALWAYS_INLINE void few_decode(const struct codes *codes, const uint8_t *row, size_t count, uint16_t *out0,
                              uint16_t *out1)
{
	const vi order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
	vi d = count >= 64 ? _mm512_loadu_si512(row) : _mm512_maskz_loadu_epi8((1ull << count) - 1, row), high, low;

	code_bytes(codes, _mm512_permutexvar_epi64(order, d), &high, &low);
	_mm512_store_si512(out0, _mm512_unpacklo_epi8(low, high));
	_mm512_store_si512(out1, _mm512_unpackhi_epi8(low, high));
}

/* Columns [k0, k1) of the block's rows to A tiles. */
ALWAYS_INLINE void few_fill(const enum kind kind, const struct few_block *b, const struct codes *codes, size_t k0,
                            size_t k1, struct few *s)
{
	const size_t size = kind == BF16 ? 2 : 1, step = 64 / size;

	for (size_t i = 0; i < b->tiles * SIDE; i++)
		for (size_t k = k0; k < k1; k += step) {
			uint16_t(*out)[SIDE][OCTAVO_CHUNK] = &s->a[i / SIDE][(k - k0) / OCTAVO_CHUNK];
			const uint8_t *p = b->row[i] + k * size;
			few_prefetch(b, size, i, k);
			if (kind == BF16)
				_mm512_store_si512(out[0][i % SIDE], load_chunk(p, k1 - k));
			else
				few_decode(codes, p, k1 - k, out[0][i % SIDE], out[1][i % SIDE]);
		}
}

/* ---- tiles -------------------------------------------------------------------------------------------------- */

ALWAYS_INLINE void few_chunk(size_t tiles, const void *a0, const void *a1, size_t pitch, const uint32_t *b,
                             size_t b_pitch)
{
	_tile_loadd(B0, b, b_pitch);
	_tile_loadd(A0, a0, pitch);
	_tile_dpbf16ps(C0, A0, B0);
	if (tiles > 1) {
		_tile_loadd(A1, a1, pitch);
		_tile_dpbf16ps(C1, A1, B0);
	}
}

/* `chunks` chunks; BF16 weights that fill whole tiles are read where they lie. */
ALWAYS_INLINE void few_multiply(const enum kind kind, const struct few_block *b, const struct codes *codes, size_t k0,
                                size_t k1, size_t rows, struct few *s, const uint32_t *packed)
{
	const size_t chunks = (k1 - k0 + OCTAVO_CHUNK - 1) / OCTAVO_CHUNK;

	if (kind == BF16 && b->count == FEW_WEIGHTS && (k1 - k0) % OCTAVO_CHUNK == 0) {
		for (size_t c = 0; c < chunks; c++) {
			size_t at = 2 * (k0 + c * OCTAVO_CHUNK);
			for (size_t i = 0; i < FEW_WEIGHTS; i++)
				few_prefetch(b, 2, i, k0 + c * OCTAVO_CHUNK);
			few_chunk(2, b->row[0] + at, b->row[SIDE] + at, 2 * b->w->ld, packed + c * SIDE * rows,
			          4 * rows);
		}
		return;
	}
	few_fill(kind, b, codes, k0, k1, s);
	tile_fence(s);
	for (size_t c = 0; c < chunks; c++)
		few_chunk(b->tiles, s->a[0][c], s->a[1][c], TILE_ROW, packed + c * SIDE * rows, 4 * rows);
	tile_fence(s);
}

/* ---- sums --------------------------------------------------------------------------------------------------- */

static inline void few_load_tiles(float sum[2][TILE])
{
	tile_fence(sum);
	_tile_loadd(C0, sum[0], TILE_ROW);
	_tile_loadd(C1, sum[1], TILE_ROW);
	tile_fence(sum);
}

static inline void few_store_tiles(float sum[2][TILE])
{
	_tile_stored(C0, sum[0], TILE_ROW);
	_tile_stored(C1, sum[1], TILE_ROW);
	tile_fence(sum);
}

/* The scales of the block's rows at column k, and those of x. */
static inline void few_scales(const struct few_block *b, const struct octavo_rows *x, size_t k, struct few_fold *f)
{
	_Alignas(64) float x_scale[SIDE] = {0};

	row_scales(b->w, b->n, b->count, k, f->scale);
	if (!x->scale)
		return;
	for (size_t m = 0; m < x->rows; m++)
		x_scale[m] = x->scale[m * x->scale_ld + k / OCTAVO_BLOCK];
	f->x_scale = vf_load(x_scale);
}

static inline void few_add(const struct few_block *b, const struct few_fold *f, int x_scaled, float *y)
{
	for (size_t i = 0; i < b->count; i++) {
		vf scale = vf_set1(f->scale[i]);
		if (x_scaled)
			scale = vf_mul(f->x_scale, scale);
		vf_store(y + i * SIDE, vf_fma(scale, vf_load(f->sum[0] + i * SIDE), vf_load(y + i * SIDE)));
	}
}

/* y's rows to [weight][row of x]; all zeros before the first k-block. */
static inline void few_take(const struct few_block *b, size_t rows, const float *y, size_t ldy, float out[2][TILE])
{
	if (b->k0 == 0) {
		memset(out, 0, 2 * TILE * sizeof(float));
		return;
	}
	for (size_t t = 0; t < b->tiles; t++) {
		vf v[SIDE];
		for (size_t m = 0; m < SIDE; m++)
			v[m] = m < rows ? vf_load_first(y + m * ldy + b->n + t * SIDE, b->count - t * SIDE) : vf_zero();
		transpose_floats(v);
		for (size_t i = 0; i < SIDE; i++)
			vf_store(out[t] + i * SIDE, v[i]);
	}
}

static inline void few_give(const struct few_block *b, size_t rows, float *y, size_t ldy, float in[2][TILE])
{
	for (size_t t = 0; t < b->tiles; t++) {
		vf v[SIDE];
		for (size_t i = 0; i < SIDE; i++)
			v[i] = vf_load(in[t] + i * SIDE);
		transpose_floats(v);
		for (size_t m = 0; m < rows; m++)
			vf_store_first(y + m * ldy + b->n + t * SIDE, b->count - t * SIDE, v[m]);
	}
}

/* ---- all ---------------------------------------------------------------------------------------------------- */

/* One block of rows over one k-block. */
ALWAYS_INLINE void few_block(const enum kind kind, const struct few_block *b, const struct codes *codes,
                             const struct octavo_rows *x, float *y, size_t ldy, struct few *s)
{
	const int scaled = b->w->scale_dtype != OCTAVO_NONE;
	const uint32_t *packed = s->b;
	struct few_fold *f = &s->fold[0], *before = NULL;

	few_take(b, x->rows, y, ldy, s->y);
	if (!scaled) /* the chains stay in the tiles */
		few_load_tiles(s->y);
	for (size_t k = b->k0, end; k < b->k1; k = end) {
		end = few_end(b->w, k);
		if (scaled) {
			_tile_zero(C0);
			_tile_zero(C1);
		}
		few_multiply(kind, b, codes, k, end, x->rows, s, packed);
		packed += (end - k + OCTAVO_CHUNK - 1) / OCTAVO_CHUNK * SIDE * x->rows;
		if (!scaled)
			continue;
		few_store_tiles(f->sum);
		few_scales(b, x, k, f);
		if (before)
			few_add(b, before, x->scale != NULL, s->y[0]);
		before = f;
		f = f == &s->fold[0] ? &s->fold[1] : &s->fold[0];
	}
	if (before)
		few_add(b, before, x->scale != NULL, s->y[0]);
	else
		few_store_tiles(s->y);
	few_give(b, x->rows, y, ldy, s->y);
}

ALWAYS_INLINE void few_rows(const enum kind kind, const struct octavo_matrix *w, size_t n0, size_t n1,
                            const struct octavo_rows *x, float *y, size_t ldy)
{
	const size_t size = kind == BF16 ? 2 : 1, pitch = w->ld * size;
	struct few_block b = {.w = w};
	const struct codes *codes = codes_of(w->dtype); /* for FP8 */
	struct few s;

	memset(s.fold, 0, sizeof s.fold); /* tiles fill only x's columns, and vectors compute with all */
	tile_open(SIDE, x->rows);
	for (b.k0 = 0; b.k0 < w->cols; b.k0 = b.k1) {
		b.k1 = pack(w, x, b.k0, s.b);
		for (b.n = n0; b.n < n1; b.n += FEW_WEIGHTS) {
			b.count = smaller(FEW_WEIGHTS, n1 - b.n);
			b.tiles = (b.count + SIDE - 1) / SIDE;
			for (size_t i = 0; i < FEW_WEIGHTS; i++)
				b.row[i] = (const uint8_t *)w->data + (b.n + smaller(i, b.count - 1)) * pitch;
			/* down the rows; behind the last ones on top again, for the next k-block if there is one */
			if (b.n + FEW_WEIGHTS < n1 || b.k1 == w->cols)
				b.next = (ptrdiff_t)(FEW_WEIGHTS * pitch) - (ptrdiff_t)((b.k1 - b.k0) * size);
			else
				b.next = -(ptrdiff_t)((b.n - n0) * pitch);
			few_block(kind, &b, codes, x, y, ldy, &s);
		}
	}
	_tile_release();
}

#endif
