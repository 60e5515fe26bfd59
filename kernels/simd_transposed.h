/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks of weights for registers that hold 16 whole dwords or two halves of them: 64 bytes of each row are
 * transposed, and then decoded.
 *
 * Up to FEW rows of x, the decoded weights stay in registers; up to FEW_MAX rows that is repeated, the weights
 * coming from the caches: see simd_few.h.  Above, a panel is faster.
 *
 * E4M3 takes a short cut.  Two shifts and a mask bring a code's fields to F32's places, which gives its value
 * times 2^-DOWN; the multiplication that would mend it is left to x and to the scale, which are multiplied by 2^UP
 * and 2^(DOWN - UP) instead.  Powers of two change no rounding as long as nothing overflows or underflows: see
 * is_moderate().  A NaN code would pass for 480, so its lane is noted and its outputs are made NaN at the end: a NaN
 * weight makes every sum NaN that it enters, whatever x is.
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
		prefetch(b, 0, LANES, PANELS * LANES, k * size);
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

ALWAYS_INLINE void many_e4m3(const struct block *band, size_t blocks, const struct octavo_rows *x, float *y, size_t ldy)
{
	alignas(64) float panel[PANELS * PANEL * LANES];
	const struct octavo_matrix *w = band->w;
	struct fold f[PANELS];
	vi largest[PANELS];

	for (size_t r0 = 0, count; r0 < blocks; r0 += count) {
		count = begin_folds(band, r0, blocks, UP, y, ldy, f);
		for (size_t r = 0; r < count; r++)
			largest[r] = vi_set1(0);
		for (size_t k0 = 0, k1; k0 < w->cols; k0 = k1) {
			k1 = panel_end(w, w->col0, k0, w->cols);
			for (size_t r = 0; r < count; r++) {
				const struct block *b = &band[r0 + r];
				f[r].first = k0 == 0;
				largest[r] = fill(E4M3, 1, b, k0, k1, largest[r], panel + r * PANEL * LANES);
				if (f[r].scaled)
					f[r].scale = mend(E4M3, block_scales(b, k0));
			}
			multiply_panels(x, k0, k1 - k0, panel, count, f);
		}
		for (size_t r = 0; r < count; r++) {
			vm nan = noted_nan(largest[r]);
			for (size_t m = 0; m < x->rows; m++) {
				vf v = vf_load_first(f[r].y + m * ldy, f[r].count);
				vf_store_first(f[r].y + m * ldy, f[r].count,
				               vf_nan_where(nan, f[r].scaled ? v : mend(E4M3, v)));
			}
		}
	}
}

#endif
