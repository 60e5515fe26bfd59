/* SPDX-License-Identifier: Apache-2.0
 *
 * AVX-512: kernels/arith.h lane by lane, and the rounding to BF16.
 */
#ifndef OCTAVO_ARITH_AVX512_H
#define OCTAVO_ARITH_AVX512_H

#ifndef __AVX512F__
#error "this file needs the AVX-512 flags that configure found"
#endif

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

/* octavo_exp. */
static inline __m512 exp_ps(__m512 x)
{
	__mmask16 below = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_LT_OQ);
	x = _mm512_min_ps(_mm512_set1_ps(88.0f), x); /* in this order a NaN stays */
	__m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)),
	                                _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-0.693359375f), x);
	r = _mm512_fmadd_ps(n, _mm512_set1_ps(2.12194440e-4f), r);
	__m512 p = _mm512_set1_ps(1.9875691500e-4f);
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
	p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
	p = _mm512_add_ps(p, _mm512_set1_ps(1.0f));
	__m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
	p = _mm512_mul_ps(p, _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23)));
	return _mm512_mask_mov_ps(p, below, _mm512_setzero_ps());
}

/* octavo_lane_fold. */
static inline float lane_fold(__m512 lane)
{
	__m256 half = _mm256_add_ps(_mm512_castps512_ps256(lane), _mm512_extractf32x8_ps(lane, 1));
	__m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
	__m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
	return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}

/* octavo_bf16_encode; the low halves are zero. */
static inline __m512i round_bf16(__m512 x)
{
	__m512i bits = _mm512_castps_si512(x);
	__m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
	__m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
	__mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);

	rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000)); /* its quiet bit */
	return _mm512_and_si512(rounded, _mm512_set1_epi32((int)0xffff0000));
}

/* octavo_bf16_activation: magnitudes below 2^-40 become +0. */
static inline __m512i round_activation(__m512 x)
{
	__mmask16 keep = _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(0x1p-40f), _CMP_NLT_UQ);

	return _mm512_maskz_mov_epi32(keep, round_bf16(x));
}

/* The high halves of 16 dwords. */
static inline __m256i high_halves(__m512i x)
{
	return _mm512_cvtepi32_epi16(_mm512_srli_epi32(x, 16));
}

#endif
