/* SPDX-License-Identifier: Apache-2.0
 *
 * FP8 codes to BF16 bytes by the byte lookups of AVX-512 VBMI, all 256 codes exactly.
 */
#ifndef OCTAVO_CODES_VBMI_H
#define OCTAVO_CODES_VBMI_H

#ifndef __AVX512VBMI__
#error "this file needs the AVX-512 VBMI flags that configure found"
#endif

#include "kernels/simd_avx512.h"

#include "kernels/simd.h"

/* The BF16 value of a code's magnitude, 128 entries: its high bytes and its low bytes.  Every E4M3 and E5M2
 * value is exact in BF16. */
struct codes {
	union {
		uint8_t byte[128];
		vi half[2];
	} high, low;
};

/* Normal codes' values: the exponent moves to BF16's bias, the fraction to the top. */
#define E4M3_BITS(code) (((code) / 8 + 120) << 7 | (code) % 8 << 4)
#define E5M2_BITS(code) (((code) / 4 + 112) << 7 | (code) % 4 << 5)
#define CODES_4(bits, byte, i) byte(bits(i)), byte(bits((i) + 1)), byte(bits((i) + 2)), byte(bits((i) + 3))
#define CODES_8(bits, byte, i) CODES_4(bits, byte, i), CODES_4(bits, byte, (i) + 4)
#define CODES_24(bits, byte, i) CODES_8(bits, byte, i), CODES_8(bits, byte, (i) + 8), CODES_8(bits, byte, (i) + 16)
#define CODES_96(bits, byte, i)                                                                                        \
	CODES_24(bits, byte, i), CODES_24(bits, byte, (i) + 24), CODES_24(bits, byte, (i) + 48),                       \
	        CODES_24(bits, byte, (i) + 72)
#define HIGH_BYTE(bits) (bits) >> 8
#define LOW_BYTE(bits) (bits)&0xff
/* Subnormals are multiples of 2^-9; the last code is NaN. */
#define E4M3_CODES(byte)                                                                                               \
	{{byte(0), byte(0x3b00), byte(0x3b80), byte(0x3bc0), byte(0x3c00), byte(0x3c20), byte(0x3c40), byte(0x3c60),   \
	  CODES_96(E4M3_BITS, byte, 8), CODES_8(E4M3_BITS, byte, 104), CODES_8(E4M3_BITS, byte, 112),                  \
	  CODES_4(E4M3_BITS, byte, 120), byte(E4M3_BITS(124)), byte(E4M3_BITS(125)), byte(E4M3_BITS(126)),             \
	  byte(0x7fc0)}}
/* Subnormals are multiples of 2^-16; the last four codes are infinity and NaN. */
#define E5M2_CODES(byte)                                                                                               \
	{{byte(0), byte(0x3780), byte(0x3800), byte(0x3840), CODES_96(E5M2_BITS, byte, 4),                             \
	  CODES_24(E5M2_BITS, byte, 100), byte(0x7f80), byte(0x7fc0), byte(0x7fc0), byte(0x7fc0)}}
static const struct codes codes_e4m3 = {.high = E4M3_CODES(HIGH_BYTE), .low = E4M3_CODES(LOW_BYTE)};
static const struct codes codes_e5m2 = {.high = E5M2_CODES(HIGH_BYTE), .low = E5M2_CODES(LOW_BYTE)};

static inline const struct codes *codes_of(enum octavo_dtype dtype)
{
	return dtype == OCTAVO_E5M2 ? &codes_e5m2 : &codes_e4m3;
}

/* The high and the low bytes of 64 codes' values.  The lookups ignore the sign, bit 7 of the index. */
ALWAYS_INLINE void code_bytes(const struct codes *codes, vi d, vi *high, vi *low)
{
	const vi sign = _mm512_set1_epi8((char)0x80);
	vi magnitude = _mm512_permutex2var_epi8(codes->high.half[0], d, codes->high.half[1]);

	*low = _mm512_permutex2var_epi8(codes->low.half[0], d, codes->low.half[1]);
	*high = _mm512_ternarylogic_epi32(magnitude, d, sign, 0xf8); /* a | (b & c) */
}

/* The first `count` of 64 codes at p, zeros behind them. */
ALWAYS_INLINE vi load_codes(const uint8_t *p, size_t count)
{
	return _mm512_maskz_loadu_epi8(count >= 64 ? ~0ull : (1ull << count) - 1, p);
}

/* Two rows of 64 codes: columns [16 i, 16 i + 16) in dwords of pair[i], a's in the low halves, b's in the high ones.
 * The codes' dwords come to the 128-bit lanes from which unpacking brings 16 columns together. */
ALWAYS_INLINE void code_rows(const struct codes *codes, vi a, vi b, vi pair[4])
{
	const vi order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	vi high[2], low[2];

	code_bytes(codes, _mm512_permutexvar_epi32(order, a), &high[0], &low[0]);
	code_bytes(codes, _mm512_permutexvar_epi32(order, b), &high[1], &low[1]);
	vi first = _mm512_unpacklo_epi8(low[0], high[0]), second = _mm512_unpacklo_epi8(low[1], high[1]);
	pair[0] = _mm512_unpacklo_epi16(first, second);
	pair[1] = _mm512_unpackhi_epi16(first, second);
	first = _mm512_unpackhi_epi8(low[0], high[0]), second = _mm512_unpackhi_epi8(low[1], high[1]);
	pair[2] = _mm512_unpacklo_epi16(first, second);
	pair[3] = _mm512_unpackhi_epi16(first, second);
}

/* BF16 words of the even and of the odd bytes' codes. */
ALWAYS_INLINE void code_words(const struct codes *codes, vi d, vi *even, vi *odd)
{
	const vi even_bytes = _mm512_set1_epi16(0x00ff);
	vi high, low;

	code_bytes(codes, d, &high, &low);
	*even = _mm512_ternarylogic_epi32(_mm512_slli_epi16(high, 8), low, even_bytes, 0xf8); /* a | (b & c) */
	*odd = _mm512_ternarylogic_epi32(_mm512_srli_epi16(low, 8), high, even_bytes, 0xf4);  /* a | (b & ~c) */
}

#endif
