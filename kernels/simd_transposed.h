/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks of weights for registers that hold 16 whole dwords or two halves of them: 64 bytes of each row are
 * transposed, and then decoded.
 *
 * Up to FEW rows of x, the decoded weights stay in registers; up to FEW_MAX rows that is repeated, the weights
 * coming from the caches: see simd_few.h.  Above, a panel is faster.
 */
#ifndef OCTAVO_SIMD_TRANSPOSED_H
#define OCTAVO_SIMD_TRANSPOSED_H

#include "kernels/simd_block.h"

/* The largest byte of each byte's place so far, with the sign set: 255 if there was a NaN code. */
ALWAYS_INLINE vi note_codes(vi largest, const vi d[16])
{
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		largest = vi_max_bytes(largest, vi_or(d[i], vi_set1(0x80808080)));
	return largest;
}

/* Weight j of a transposed dword of E4M3 codes, times 2^-DOWN. */
ALWAYS_INLINE vf weight_e4m3(vi d, const int j)
{
	vi word = vi_right_signed_words(j % 2 ? d : vi_left(d, 8), 4); /* codes j and j ^ 2 in the high bytes */

	return vf_of(vi_and(j < 2 ? vi_left(word, 16) : word, vi_set1(0x87f00000)));
}

/* ---- few rows -------------------------------------------------------------------------------------------- */

#define SHIFTED_CODES 1

ALWAYS_INLINE vi few_note(const enum kind kind, vi largest, const vi d[16])
{
	return kind == E4M3 ? note_codes(largest, d) : largest;
}

/* Codes are decoded by arithmetic. */
struct few_codes;
static inline const struct few_codes *few_codes_of(enum octavo_dtype dtype)
{
	(void)dtype;
	return NULL;
}

ALWAYS_INLINE void few_four(const enum kind kind, const size_t rows, const size_t i, const struct few_codes *codes,
                            const vi *d, const term *x, size_t pitch, vf *even, vf *odd)
{
	(void)codes;
	/* one weight at a time: AVX2 has no registers for four */
#pragma GCC unroll 4
	for (size_t j = 0; j < 4; j++) {
		vf pair[2];
		if (kind == BF16)
			split_bf16(d[2 * i + j / 2], pair);
		vf w = kind == BF16 ? pair[j % 2] : weight_e4m3(d[i], (int)j);
		vf *sum = j % 2 ? odd : even;
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++)
			sum[m] = vf_fma(w, vf_set1(x[m * pitch + 4 * i + j]), sum[m]);
	}
}

/* ---- many rows ------------------------------------------------------------------------------------------- */

/* All weights of a transposed dword per row: 4 codes, 2 halves or a float; E4M3 times 2^-DOWN if `shifted`. */
ALWAYS_INLINE void decode_dword(const enum kind kind, const int shifted, vi d, vf *w)
{
	const vi top[4] = {vi_left(d, 24), vi_left(d, 16), vi_left(d, 8), d};

	if (kind == E4M3 || kind == E5M2)
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++)
			w[j] = kind == E5M2 ? vf_decode_e5m2(top[j])
			       : shifted    ? weight_e4m3(d, j)
			                    : vf_decode_e4m3(top[j]);
	else if (kind == BF16)
		split_bf16(d, w);
	else if (kind == F16)
		split_f16(d, w);
	else
		w[0] = vf_of(d);
}

/* Fills whole chunks, zeros behind k1; returns note_codes of the codes if `shifted`. */
ALWAYS_INLINE vi fill_panel(const enum kind kind, const int shifted, const struct block *b, size_t k0, size_t k1,
                            vi largest, float *panel)
{
	const size_t size = element_size(kind), step = 64 / size, per_dword = 4 / size;
	size_t end = k0 + (k1 - k0 + CHUNK - 1) / CHUNK * CHUNK;

	for (size_t k = k0; k < end; k += step) {
		vi d[16];
		prefetch(b, 0, LANES, PANELS * LANES, k * size);
		load_transposed(b->row, k * size, smaller(step, k1 - smaller(k, k1)) * size, d);
		if (shifted)
			largest = note_codes(largest, d);
#pragma GCC unroll 16
		for (size_t i = 0; i < 16; i++) {
			vf w[4];
			decode_dword(kind, shifted, d[i], w);
#pragma GCC unroll 4
			for (size_t j = 0; j < per_dword; j++)
				vf_store(panel + (k - k0 + i * per_dword + j) * LANES, w[j]);
		}
	}
	return largest;
}

/* ---- all ------------------------------------------------------------------------------------------------- */

#include "kernels/simd_few.h"

ALWAYS_INLINE enum way way_of(const enum kind kind, const struct octavo_matrix *w, const struct octavo_rows *x)
{
	const int few = takes_few(kind, w, x);

	if (kind == E4M3)
		return !is_moderate(x, w->cols) ? DECODED : few ? FEW_ROWS : SHIFTED;
	return few ? FEW_ROWS : DECODED;
}

#endif
