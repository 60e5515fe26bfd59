/* SPDX-License-Identifier: Apache-2.0
 *
 * The bulk FP8 codecs for AVX-512.
 */
#include "kernels/simd_avx512.h"

#include "kernels/sets.h"
#include "kernels/simd_codec.h"

/* From this scale on no code but zero is below 2^-40. */
#define LEAST_SCALE 0x1p-31f

/* BF16 of the first 16 codes' values times scale: the subnormal ones and the lowest binade. */
static __m512i first_values(float scale)
{
	vf value = vf_decode_e4m3(vi_left(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), 24));
	vi rounded = vi_of(vf_round_bf16(vf_mul_to_odd(value, vf_set1(scale))));

	return _mm512_castsi256_si512(_mm512_cvtepi32_epi16(vi_right(rounded, 16)));
}

/* A factor of two changes no rounding: the other binades are the lowest one with another exponent. */
static void decode_binades(uint16_t *y, const uint8_t *code, float scale, size_t n)
{
	const __m512i first = first_values(scale), all = _mm512_set1_epi16(0x7f), lowest = _mm512_set1_epi16(8);

	for (size_t i = 0; i < n; i += 32) {
		const __mmask32 lanes = n - i < 32 ? ((__mmask32)1 << (n - i)) - 1 : (__mmask32)-1;
		__m512i w = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(lanes, code + i));
		__m512i magnitude = _mm512_and_si512(w, all);
		__m512i exponent = _mm512_max_epi16(_mm512_and_si512(w, _mm512_set1_epi16(0x78)), lowest);
		exponent = _mm512_sub_epi16(exponent, lowest); /* above the lowest, in steps of 8 */
		__m512i bits = _mm512_permutexvar_epi16(_mm512_sub_epi16(magnitude, exponent), first);
		bits = _mm512_add_epi16(bits, _mm512_slli_epi16(exponent, 4));
		__mmask32 signs = _mm512_test_epi16_mask(w, _mm512_set1_epi16(0x80)) &
		                  _mm512_test_epi16_mask(magnitude, magnitude); /* no -0 */
		bits = _mm512_mask_add_epi16(bits, signs, bits, _mm512_set1_epi16((short)0x8000));
		bits = _mm512_mask_mov_epi16(bits, _mm512_cmpeq_epi16_mask(magnitude, all), _mm512_set1_epi16(0x7fc0));
		_mm512_mask_storeu_epi16(y + i, lanes, bits);
	}
}

static void decode(uint16_t *y, const uint8_t *code, float scale, size_t n)
{
	if (scale >= LEAST_SCALE)
		decode_binades(y, code, scale, n);
	else
		decode_e4m3(y, code, scale, n);
}

const struct octavo_kernels octavo_set_codec_avx512 = {
        .decode_e4m3 = OCTAVO_KERNEL(decode, decode_e4m3, "avx512", 1, decode),
        .encode_e4m3 = OCTAVO_KERNEL(encode, encode_e4m3, "avx512", 1, encode_e4m3),
};
