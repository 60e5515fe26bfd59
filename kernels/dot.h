/* SPDX-License-Identifier: Apache-2.0
 *
 * The contract's chains by VDPBF16PS (AVX512_BF16).  The instruction is two fused multiply-adds, one after the other:
 * that of the high halves of its pairs, then that of the low ones, each rounded to nearest even (Intel's SDM, volume 2,
 * VDPBF16PS; checked on the processor before this set is used: see cpu.c).  So a pair of elements of the SAME chain,
 * the earlier one in the high half, takes that chain two steps on, in the contract's order: the same bits at twice the
 * speed.  Pairs of neighbours, as they lie in memory, would mix the even chain with the odd one.
 *
 * It flushes subnormals, as AMX does; the bounds of x, weights and scales leave none.
 */
#ifndef OCTAVO_DOT_H
#define OCTAVO_DOT_H

#include "kernels/codes_vbmi.h"

#include "kernels/simd.h"

/* Of four columns, a pair for the even chain (columns 0 and 2) and one for the odd chain (1 and 3). */
typedef uint32_t term;
#define TERMS(columns) ((columns) / 2)
#define TERM_STEP 32

/* Of the first `count` of TERM_STEP elements, zeros behind them. */
ALWAYS_INLINE vi terms_of(const uint16_t *x, size_t count)
{
	const vi order = _mm512_broadcast_i32x4(_mm_setr_epi8(4, 5, 0, 1, 6, 7, 2, 3, 12, 13, 8, 9, 14, 15, 10, 11));

	return _mm512_shuffle_epi8(load_chunk(x, count), order);
}

ALWAYS_INLINE void make_terms(const uint16_t *x, size_t count, const int up, term *out)
{
	(void)up; /* weights are decoded as they are */
	_mm512_store_si512(out, terms_of(x, count));
}

/* acc + high(w) * high(x), + low(w) * low(x).  GCC 12 would load x into a register of its own, which doubles the
 * instructions of every loop. */
ALWAYS_INLINE vf vf_chain(vi w, const term *x, vf acc)
{
	__asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*x));
	return acc;
}

/* The pairs of 64 codes: of each dword codes 0 and 2, and 1 and 3. */
ALWAYS_INLINE void code_pairs(const struct codes *codes, vi d, vi *even, vi *odd)
{
	/* bytes of the low bytes' vector from 64 on */
	const vi from =
	        _mm512_broadcast_i32x4(_mm_setr_epi8(66, 2, 64, 0, 70, 6, 68, 4, 74, 10, 72, 8, 78, 14, 76, 12));
	const vi lane =
	        _mm512_setr_epi32(0, 0, 0, 0, 0x10101010, 0x10101010, 0x10101010, 0x10101010, 0x20202020, 0x20202020,
	                          0x20202020, 0x20202020, 0x30303030, 0x30303030, 0x30303030, 0x30303030);
	const vi first = _mm512_or_si512(from, lane), second = _mm512_or_si512(first, _mm512_set1_epi8(1));
	vi high, low;

	code_bytes(codes, d, &high, &low);
	*even = _mm512_permutex2var_epi8(high, first, low);
	*odd = _mm512_permutex2var_epi8(high, second, low);
}

/* The pairs of two dwords of BF16: elements 0 and 2, 1 and 3. */
ALWAYS_INLINE void bf16_pairs(vi first, vi second, vi *even, vi *odd)
{
	*even = _mm512_mask_blend_epi16(0xaaaaaaaa, second, _mm512_slli_epi32(first, 16));
	*odd = _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(second, 16), first);
}

/* Lane j of t[i] to lane i of t[j]. */
ALWAYS_INLINE void transpose_lanes(vi t[4])
{
	vi a = _mm512_shuffle_i32x4(t[0], t[1], 0x44), b = _mm512_shuffle_i32x4(t[0], t[1], 0xee);
	vi c = _mm512_shuffle_i32x4(t[2], t[3], 0x44), d = _mm512_shuffle_i32x4(t[2], t[3], 0xee);

	t[0] = _mm512_shuffle_i32x4(a, c, 0x88);
	t[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
	t[2] = _mm512_shuffle_i32x4(b, d, 0x88);
	t[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

/* `bytes` <= 64 bytes of 16 rows of BF16, zeros behind them: the pairs of columns [4 i, 4 i + 4) of row n in lanes n of
 * d[2 i] and d[2 i + 1]. */
ALWAYS_INLINE void load_bf16_pairs(const uint8_t *const row[16], size_t offset, size_t bytes, vi d[16])
{
	/* words of two vectors of 8 rows, four columns of each */
	const vi order = _mm512_setr_epi32(2, 6 | 4 << 16, 10 | 8 << 16, 14 | 12 << 16, 18 | 16 << 16, 22 | 20 << 16,
	                                   26 | 24 << 16, 30 | 28 << 16, 34 | 32 << 16, 38 | 36 << 16, 42 | 40 << 16,
	                                   46 | 44 << 16, 50 | 48 << 16, 54 | 52 << 16, 58 | 56 << 16, 62 | 60 << 16);
	const vi next = _mm512_add_epi16(order, _mm512_set1_epi16(1));
	vi t[16];

	load_rows(row, offset, bytes, d);
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++) { /* columns 8 * lane + 0 to 3 of rows 2 i and 2 i + 1, then + 4 to 7 */
		t[i] = _mm512_unpacklo_epi64(d[2 * i], d[2 * i + 1]);
		t[8 + i] = _mm512_unpackhi_epi64(d[2 * i], d[2 * i + 1]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 16; i += 4)
		transpose_lanes(t + i);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		d[4 * i] = _mm512_permutex2var_epi16(t[i], order, t[4 + i]);
		d[4 * i + 1] = _mm512_permutex2var_epi16(t[i], next, t[4 + i]);
		d[4 * i + 2] = _mm512_permutex2var_epi16(t[8 + i], order, t[12 + i]);
		d[4 * i + 3] = _mm512_permutex2var_epi16(t[8 + i], next, t[12 + i]);
	}
}

/* The pairs of `count` <= 4 rows of up to 32 columns of BF16, as if more rows of zeros followed: columns [0, 16) and
 * [16, 32) of rows 0 and 2, then of rows 1 and 3. */
ALWAYS_INLINE void row_pairs(const uint16_t *const row[4], size_t count, size_t k, size_t columns, vi pair[4])
{
	const vi lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	/* words of the later row, then those of the earlier one */
	const vi front = _mm512_or_si512(_mm512_or_si512(lane, _mm512_slli_epi32(lane, 16)), vi_set1(32 << 16));
	const vi back = _mm512_or_si512(front, vi_set1(16 << 16 | 16));
	vi d[4];

#pragma GCC unroll 4
	for (size_t i = 0; i < 4; i++)
		d[i] = i < count ? load_chunk(row[i] + k, columns) : vi_set1(0);
#pragma GCC unroll 2
	for (size_t i = 0; i < 2; i++) {
		pair[2 * i] = _mm512_permutex2var_epi16(d[2 + i], front, d[i]);
		pair[2 * i + 1] = _mm512_permutex2var_epi16(d[2 + i], back, d[i]);
	}
}

/* acc[m] = acc[m] + (E + O) over `chunks` chunks, ascending; `rows` is a constant after inlining. */
ALWAYS_INLINE void multiply(const size_t rows, const term *w /* [chunks * 32 / 2][16] */,
                            const term *x /* [rows][PANEL / 2] */, size_t chunks, vf *acc)
{
	for (size_t c = 0; c < chunks; c++, w += TERMS(CHUNK) * LANES, x += TERMS(CHUNK)) {
		vf even[BLOCK], odd[BLOCK];
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++)
			even[m] = odd[m] = vf_zero();
#pragma GCC unroll 8
		for (size_t i = 0; i < TERMS(CHUNK); i += 2) { /* all of them: a loop would move the chains about */
			vi first = _mm512_load_si512(w + i * LANES), second = _mm512_load_si512(w + (i + 1) * LANES);
#pragma GCC unroll 8
			for (size_t m = 0; m < rows; m++) {
				even[m] = vf_chain(first, x + m * TERMS(PANEL) + i, even[m]);
				odd[m] = vf_chain(second, x + m * TERMS(PANEL) + i + 1, odd[m]);
			}
		}
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++)
			acc[m] = vf_add(acc[m], vf_add(even[m], odd[m]));
	}
}

#endif
