/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks of weights for registers that hold 16 whole dwords or two halves of them: 64 bytes of each row are
 * transposed, and then decoded.
 *
 * Up to FEW rows of x, the decoded weights stay in registers; up to FEW_MAX rows that is repeated, the weights
 * coming from the caches; above, a panel is faster.
 *
 * E4M3 takes a short cut.  Two shifts and a mask bring a code's fields to F32's places, which gives its value
 * times 2^-DOWN; the multiplication that would mend it is left to x and to the scale, which are multiplied by 2^UP
 * and 2^(DOWN - UP) instead.  Powers of two change no rounding as long as nothing overflows or underflows: see
 * is_moderate().  A NaN code would pass for 480, so its lane is noted and its outputs are made NaN at the end: a NaN weight
 * makes every sum NaN that it enters, whatever x is.
 */
#ifndef OCTAVO_SIMD_TRANSPOSED_H
#define OCTAVO_SIMD_TRANSPOSED_H

#include "kernels/simd_block.h"

#define DOWN 120
#define UP 60

/* The largest byte of each byte's place so far, with the sign set: 255 if there was a NaN code. */
ALWAYS_INLINE vi note_codes(vi largest, const vi d[16])
{
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		largest = vi_max_bytes(largest, vi_or(d[i], vi_set1(0x80808080)));
	return largest;
}

/* The lanes with a NaN code. */
static inline vm noted_nan(vi largest)
{
	const vi byte = vi_set1(0xff);
	vi low = vi_max(vi_and(largest, byte), vi_and(vi_right(largest, 8), byte));
	vi high = vi_max(vi_and(vi_right(largest, 16), byte), vi_right(largest, 24));

	return vm_equal(vi_max(low, high), byte);
}

/* A scale, or a finished sum, with the power of two that the weights and x leave open. */
ALWAYS_INLINE vf mend(const enum kind kind, vf v)
{
	return kind == E4M3 ? vf_mul(v, vf_power(DOWN - UP)) : v;
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

/* Weight j of a transposed dword of E4M3 codes, times 2^-DOWN. */
ALWAYS_INLINE vf weight_e4m3(vi d, const int j)
{
	vi word = vi_right_signed_words(j % 2 ? d : vi_left(d, 8), 4); /* codes j and j ^ 2 in the high bytes */

	return vf_of(vi_and(j < 2 ? vi_left(word, 16) : word, vi_set1(0x87f00000)));
}

/* ---- few rows -------------------------------------------------------------------------------------------- */

/* One step: 64 bytes of each row.  x points at the step's columns in [rows][PANEL]. */
ALWAYS_INLINE void few_step(const enum kind kind, const size_t rows, const vi d[16], const float *x, vf *acc)
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
			/* one weight at a time: AVX2 has no registers for four */
#pragma GCC unroll 4
			for (size_t j = 0; j < per_dword; j++) {
				vf pair[2];
				if (kind == BF16)
					split_bf16(d[i], pair);
				vf w = kind == BF16 ? pair[j] : weight_e4m3(d[i], (int)j);
				vf *sum = j % 2 ? odd : even;
#pragma GCC unroll 8
				for (size_t m = 0; m < rows; m++)
					sum[m] = vf_fma(w, vf_set1(x[m * PANEL + i * per_dword + j]), sum[m]);
			}
		}
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++)
			acc[m] = vf_add(acc[m], vf_add(even[m], odd[m]));
	}
}

/* kind: E4M3 or BF16. */
ALWAYS_INLINE void few_rows(const enum kind kind, const size_t rows, const struct block *b, const struct octavo_rows *x,
                            float *y, size_t ldy)
{
	const size_t size = element_size(kind), step = 64 / size;
	const int scaled = b->w->scale_dtype != OCTAVO_NONE, up = kind == E4M3 ? UP : 0;
	alignas(64) float xf[FEW * PANEL];
	vf acc[FEW], sum[FEW];
	vi largest = vi_set1(0);

#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++)
		acc[m] = sum[m] = vf_zero();
	for (size_t k0 = 0, k1; k0 < b->w->cols; k0 = k1) {
		k1 = panel_end(b->w, b->w->col0, k0, b->w->cols);
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++)
			widen_row(x->x + m * x->ld + k0, k1 - k0, up, xf + m * PANEL);
		for (size_t k = k0; k < k1; k += step) {
			vi d[16];
			prefetch(b, 0, LANES, k * size);
			load_transposed(b->row, k * size, smaller(step, k1 - k) * size, d);
			if (kind == E4M3)
				largest = note_codes(largest, d);
			few_step(kind, rows, d, xf + (k - k0), acc);
		}
		if (!scaled)
			continue;
		vf scale = mend(kind, block_scales(b, k0));
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++) {
			vf s = scale;
			if (x->scale)
				s = vf_mul(vf_set1(x->scale[m * x->scale_ld + k0 / OCTAVO_BLOCK]), s);
			sum[m] = vf_fma(s, acc[m], sum[m]);
			acc[m] = vf_zero();
		}
	}
	vm nan = noted_nan(largest);
#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++) {
		vf v = scaled ? sum[m] : mend(kind, acc[m]);
		vf_store_first(y + m * ldy + b->n, b->count, kind == E4M3 ? vf_nan_where(nan, v) : v);
	}
}
/* Only for the kinds that models are made of: the rest would double the code for nobody. */
ALWAYS_INLINE void few_block(const enum kind kind, const struct block *b, const struct octavo_rows *x, float *y,
                             size_t ldy)
{
	switch (x->rows) {
	case 1:
		few_rows(kind, 1, b, x, y, ldy);
		break;
	case 2:
		few_rows(kind, 2, b, x, y, ldy);
		break;
#if FEW > 2
	case 3:
		few_rows(kind, 3, b, x, y, ldy);
		break;
#endif
#if FEW > 3
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
#endif
	}
}

/* Passes of at most FEW rows and of about equal size. */
ALWAYS_INLINE void few_passes(const enum kind kind, const struct block *b, const struct octavo_rows *x, float *y,
                              size_t ldy)
{
	for (size_t m = 0, rows, left = (x->rows + FEW - 1) / FEW; left > 0; m += rows, left--) {
		rows = (x->rows - m + left - 1) / left;
		struct octavo_rows part = {.x = x->x + m * x->ld, .rows = rows, .ld = x->ld, .scale_ld = x->scale_ld};
		part.scale = x->scale ? x->scale + m * x->scale_ld : NULL;
		few_block(kind, b, &part, y + m * ldy, ldy);
	}
}

/* ---- many rows ------------------------------------------------------------------------------------------- */

/* All weights of a transposed dword per row: 4 codes, 2 halves or a float; E4M3 times 2^-DOWN if `down`. */
ALWAYS_INLINE void decode_dword(const enum kind kind, const int down, vi d, vf *w)
{
	const vi top[4] = {vi_left(d, 24), vi_left(d, 16), vi_left(d, 8), d};

	if (kind == E4M3 || kind == E5M2)
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++)
			w[j] = kind == E5M2 ? vf_decode_e5m2(top[j])
			       : down       ? weight_e4m3(d, j)
			                    : vf_decode_e4m3(top[j]);
	else if (kind == BF16)
		split_bf16(d, w);
	else if (kind == F16)
		split_f16(d, w);
	else
		w[0] = vf_of(d);
}

/* Fills whole chunks, zeros behind k1; returns note_codes of the codes if `down`. */
ALWAYS_INLINE vi fill(const enum kind kind, const int down, const struct block *b, size_t k0, size_t k1, vi largest,
                      float *panel)
{
	const size_t size = element_size(kind), step = 64 / size, per_dword = 4 / size;
	size_t end = k0 + (k1 - k0 + CHUNK - 1) / CHUNK * CHUNK;

	for (size_t k = k0; k < end; k += step) {
		vi d[16];
		prefetch(b, 0, LANES, k * size);
		load_transposed(b->row, k * size, smaller(step, k1 - smaller(k, k1)) * size, d);
		if (down)
			largest = note_codes(largest, d);
#pragma GCC unroll 16
		for (size_t i = 0; i < 16; i++) {
			vf w[4];
			decode_dword(kind, down, d[i], w);
#pragma GCC unroll 4
			for (size_t j = 0; j < per_dword; j++)
				vf_store(panel + (k - k0 + i * per_dword + j) * LANES, w[j]);
		}
	}
	return largest;
}

ALWAYS_INLINE void fill_panel(const enum kind kind, const struct block *b, size_t k0, size_t k1, float *panel)
{
	fill(kind, 0, b, k0, k1, vi_set1(0), panel);
}

ALWAYS_INLINE void many_e4m3(const struct block *b, const struct octavo_rows *x, float *y, size_t ldy)
{
	alignas(64) float panel[PANEL * LANES];
	struct fold f = {.y = y + b->n, .ldy = ldy, .count = b->count, .scaled = b->w->scale_dtype != OCTAVO_NONE};
	vi largest = vi_set1(0);

	f.up = UP;
	for (size_t k0 = 0, k1; k0 < b->w->cols; k0 = k1) {
		k1 = panel_end(b->w, b->w->col0, k0, b->w->cols);
		largest = fill(E4M3, 1, b, k0, k1, largest, panel);
		if (f.scaled)
			f.scale = mend(E4M3, block_scales(b, k0));
		f.first = k0 == 0;
		multiply_rows(x, k0, k1 - k0, panel, f);
	}
	vm nan = noted_nan(largest);
	for (size_t m = 0; m < x->rows; m++) {
		vf v = vf_load_first(f.y + m * ldy, f.count);
		vf_store_first(f.y + m * ldy, f.count, vf_nan_where(nan, f.scaled ? v : mend(E4M3, v)));
	}
}

/* ---- all ------------------------------------------------------------------------------------------------- */

ALWAYS_INLINE int is_own(const enum kind kind, const struct octavo_matrix *w, const struct octavo_rows *x)
{
	return kind == E4M3 ? is_moderate(x, w->cols) : kind == BF16 && x->rows <= FEW_MAX;
}

ALWAYS_INLINE void own_block(const enum kind kind, const struct block *b, const struct octavo_rows *x, float *y,
                             size_t ldy)
{
	if (kind == E4M3 && x->rows > FEW_MAX)
		many_e4m3(b, x, y, ldy);
	else if (kind == E4M3 || kind == BF16)
		few_passes(kind, b, x, y, ldy);
}

#endif
