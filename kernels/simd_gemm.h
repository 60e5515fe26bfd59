/* SPDX-License-Identifier: Apache-2.0
 *
 * The GEMM for any vectors: see simd.h.  The including file decodes FP8, since the best way differs most:
 *
 *	struct codes;
 *	static struct codes codes_for(enum octavo_dtype);
 *	ALWAYS_INLINE void decode(const enum kind, const struct codes *, vi d, vf w[4]);
 *		the codes in bytes 0..3 of the lanes of d, to F32
 *
 * simd_decode.h has these by arithmetic alone.
 *
 * Up to FEW rows of x, the decoded weights stay in registers; for more they go through a panel in the first-level
 * cache, and a block of weights is decoded once for all rows.
 */
#ifndef OCTAVO_SIMD_GEMM_H
#define OCTAVO_SIMD_GEMM_H

#include "kernels/simd_panel.h"

#define AHEAD 1024 /* bytes along a row between a load and its prefetch */

/* 16 rows of weights, from row n on.  Rows beyond the slice repeat its last one and are never stored. */
struct block {
	const struct octavo_matrix *w;
	struct codes codes;
	size_t n, count; /* rows that exist */
	const uint8_t *row[LANES];
	size_t row_bytes;
	ptrdiff_t next; /* from a row to the one that the next block reads in its place */
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

/* The next cache lines of each row come from memory while these are decoded; at the end of the rows those of the
 * next block do.  Into the second level only: in the first, rows a multiple of 4096 bytes apart would push each
 * other out before they are used. */
ALWAYS_INLINE void prefetch(const struct block *b, size_t offset)
{
	size_t ahead = offset + AHEAD;
	ptrdiff_t from = ahead < b->row_bytes ? (ptrdiff_t)ahead : b->next + (ptrdiff_t)(ahead - b->row_bytes);

#pragma GCC unroll 16
	for (int i = 0; i < LANES; i++)
		__builtin_prefetch(b->row[i] + from, 0, 2);
}

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
	_Alignas(64) float xf[FEW * PANEL];
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
			prefetch(b, k * size);
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
		prefetch(b, k * size);
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

ALWAYS_INLINE void many_rows(const enum kind kind, const struct block *b, const struct octavo_rows *x, float *y,
                             size_t ldy)
{
	_Alignas(64) float panel[PANEL * LANES];
	struct fold f = {.y = y + b->n, .ldy = ldy, .count = b->count, .scaled = b->w->scale_dtype != OCTAVO_NONE};

	for (size_t k0 = 0, k1; k0 < b->w->cols; k0 = k1) {
		k1 = panel_end(b->w, b->w->col0, k0, b->w->cols);
		fill_panel(kind, b, k0, k1, panel);
		if (f.scaled)
			f.scale = block_scales(b, k0);
		f.first = k0 == 0;
		multiply_rows(x, k0, k1 - k0, panel, f);
	}
}

/* ---- all ------------------------------------------------------------------------------------------------- */

ALWAYS_INLINE void gemm(const enum kind kind, const struct octavo_matrix *w, size_t n0, size_t n1,
                        const struct octavo_rows *x, float *y, size_t ldy)
{
	const uint8_t *data = w->data;
	const size_t size = element_size(kind), pitch = w->ld * size;
	struct block b = {.w = w, .row_bytes = w->cols * size, .next = (ptrdiff_t)(LANES * pitch)};

	if (kind == E4M3 || kind == E5M2)
		b.codes = codes_for(w->dtype);
	for (b.n = n0; b.n < n1; b.n += LANES) {
		b.count = smaller(LANES, n1 - b.n);
		for (size_t i = 0; i < LANES; i++)
			b.row[i] = data + (b.n + smaller(i, b.count - 1)) * pitch;
		if ((kind == E4M3 || kind == BF16) && x->rows <= FEW)
			few_block(kind, &b, x, y, ldy);
		else
			many_rows(kind, &b, x, y, ldy);
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
