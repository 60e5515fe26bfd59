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
	__m512i high[2], low[2];
};

static inline struct codes codes_for(enum octavo_dtype dtype)
{
	struct codes codes;
	_Alignas(64) uint8_t high[128], low[128];

	for (int first = 0; first < 128; first += LANES) {
		__m512i top = _mm512_slli_epi32(
		        _mm512_add_epi32(_mm512_set1_epi32(first),
		                         _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)),
		        24);
		__m512i value = _mm512_castps_si512(dtype == OCTAVO_E4M3 ? vf_decode_e4m3(top) : vf_decode_e5m2(top));
		_mm_store_si128((__m128i *)(high + first), _mm512_cvtepi32_epi8(_mm512_srli_epi32(value, 24)));
		_mm_store_si128((__m128i *)(low + first), _mm512_cvtepi32_epi8(_mm512_srli_epi32(value, 16)));
	}
	for (int i = 0; i < 2; i++) {
		codes.high[i] = _mm512_load_si512(high + 64 * i);
		codes.low[i] = _mm512_load_si512(low + 64 * i);
	}
	return codes;
}

/* The high and the low bytes of 64 codes' values.  The lookups ignore the sign, bit 7 of the index. */
ALWAYS_INLINE void code_bytes(const struct codes *codes, vi d, vi *high, vi *low)
{
	const vi sign = _mm512_set1_epi8((char)0x80);
	vi magnitude = _mm512_permutex2var_epi8(codes->high[0], d, codes->high[1]);

	*low = _mm512_permutex2var_epi8(codes->low[0], d, codes->low[1]);
	*high = _mm512_ternarylogic_epi32(magnitude, d, sign, 0xf8); /* a | (b & c) */
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
