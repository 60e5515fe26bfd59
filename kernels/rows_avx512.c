/* SPDX-License-Identifier: Apache-2.0
 *
 * The operations on single rows for AVX-512.
 */
#include "kernels/arith_avx512.h"
#include "kernels/sets.h"

#define LANES 16

/* The lanes that hold elements when `left` of them are to come. */
static inline __mmask16 lanes_of(size_t left)
{
	return left < LANES ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff;
}

static void norm(float *y, const float *x, const float *g, size_t n, float eps)
{
	__m512 sum = _mm512_setzero_ps();

	for (size_t i = 0; i < n; i += LANES) {
		__m512 v = _mm512_maskz_loadu_ps(lanes_of(n - i), x + i);
		sum = _mm512_fmadd_ps(v, v, sum);
	}
	__m128 mean = _mm_set_ss(lane_fold(sum) / (float)n + eps);
	__m512 r = _mm512_set1_ps(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(mean)));
	for (size_t i = 0; i < n; i += LANES) {
		__mmask16 lanes = lanes_of(n - i);
		__m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + i), r);
		_mm512_mask_storeu_ps(y + i, lanes, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(lanes, g + i)));
	}
}

static void rope(float *x, const float *cs, size_t n)
{
	n -= n % 2;
	for (size_t i = 0; i < n; i += LANES) {
		__mmask16 lanes = lanes_of(n - i);
		__m512 v = _mm512_maskz_loadu_ps(lanes, x + i), c = _mm512_maskz_loadu_ps(lanes, cs + i);
		__m512 crossed = _mm512_mul_ps(_mm512_movehdup_ps(v), _mm512_permute_ps(c, 0xb1)); /* x1 s, x1 c */
		_mm512_mask_storeu_ps(x + i, lanes, _mm512_fmaddsub_ps(_mm512_moveldup_ps(v), c, crossed));
	}
}

static void swiglu(float *y, const float *gate, const float *up, size_t n)
{
	const __m512 one = _mm512_set1_ps(1.0f), minus = _mm512_set1_ps(-0.0f);

	for (size_t i = 0; i < n; i += LANES) {
		__mmask16 lanes = lanes_of(n - i);
		__m512 z = _mm512_maskz_loadu_ps(lanes, gate + i);
		__m512 silu = _mm512_div_ps(z, _mm512_add_ps(one, exp_ps(_mm512_xor_ps(z, minus))));
		_mm512_mask_storeu_ps(y + i, lanes, _mm512_mul_ps(silu, _mm512_maskz_loadu_ps(lanes, up + i)));
	}
}

static void round_row(uint16_t *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		__mmask16 lanes = lanes_of(n - i);
		__m512 v = _mm512_maskz_loadu_ps(lanes, x + i);
		_mm256_mask_storeu_epi16(y + i, lanes, high_halves(round_activation(v)));
	}
}

/* The value of octavo_e4m3_encode_sat(x) for finite x. */
static inline __m512 round_e4m3(__m512 x)
{
	const __m512 minus = _mm512_set1_ps(-0.0f), magic = _mm512_set1_ps(0x1.8p14f); /* an ulp of 2^-9 */
	__m512i bits = _mm512_castps_si512(_mm512_abs_ps(x));
	__m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 20), _mm512_set1_epi32(1));
	__m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7ffff)));
	__m512 normal = _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32((int)0xfff00000)));
	__m512 magnitude = _mm512_castsi512_ps(bits);
	__m512 subnormal = _mm512_sub_ps(_mm512_add_ps(magnitude, magic), magic);
	__mmask16 small = _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(0x1p-6f), _CMP_LT_OQ);

	normal = _mm512_min_ps(normal, _mm512_set1_ps(448.0f));
	return _mm512_or_ps(_mm512_mask_mov_ps(normal, small, subnormal), _mm512_and_ps(x, minus));
}

/* One group of up to 128 columns; returns its scale. */
static float quantise_group(uint16_t *y, const float *x, size_t n, enum octavo_scale_rule rule)
{
	const __m512i magnitudes = _mm512_set1_epi32(0x7fffffff);
	__m512i most = _mm512_setzero_si512();

	for (size_t i = 0; i < n; i += LANES) {
		__m512i v = round_bf16(_mm512_maskz_loadu_ps(lanes_of(n - i), x + i));
		most = _mm512_max_epu32(most, _mm512_and_si512(v, magnitudes));
	}
	unsigned bits = _mm512_reduce_max_epu32(most);
	if (bits >= 0x7f800000) { /* infinity or NaN */
		for (size_t i = 0; i < n; i += LANES)
			_mm256_mask_storeu_epi16(y + i, lanes_of(n - i), _mm256_set1_epi16(0x7fc0));
		return 1.0f;
	}
	float amax = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128((int)bits)));
	float scale = (amax > 1e-4f ? amax : 1e-4f) / 448.0f;
	if (rule == OCTAVO_SCALE_E8M0)
		scale = octavo_e8m0_decode(octavo_e8m0_encode_up(scale));
	for (size_t i = 0; i < n; i += LANES) {
		__mmask16 lanes = lanes_of(n - i);
		__m512 v = _mm512_castsi512_ps(round_bf16(_mm512_maskz_loadu_ps(lanes, x + i)));
		__m512 code = round_e4m3(_mm512_div_ps(v, _mm512_set1_ps(scale)));
		_mm256_mask_storeu_epi16(y + i, lanes, high_halves(_mm512_castps_si512(code)));
	}
	return scale;
}

static void quantise(uint16_t *y, float *scale, const float *x, size_t n, enum octavo_scale_rule rule)
{
	for (size_t i = 0; i < n; i += OCTAVO_BLOCK)
		scale[i / OCTAVO_BLOCK] =
		        quantise_group(y + i, x + i, n - i < OCTAVO_BLOCK ? n - i : OCTAVO_BLOCK, rule);
}

static void axpy(float *acc, const float *x, float w, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		__mmask16 lanes = lanes_of(n - i);
		__m512 sum = _mm512_maskz_loadu_ps(lanes, acc + i);
		sum = _mm512_fmadd_ps(_mm512_set1_ps(w), _mm512_maskz_loadu_ps(lanes, x + i), sum);
		_mm512_mask_storeu_ps(acc + i, lanes, sum);
	}
}

static void exp_row(float *y, const float *x, float max, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		__mmask16 lanes = lanes_of(n - i);
		__m512 v = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, x + i), _mm512_set1_ps(max));
		_mm512_mask_storeu_ps(y + i, lanes, exp_ps(v));
	}
}

const struct octavo_kernels octavo_set_rows_avx512 = {
        .norm = OCTAVO_KERNEL(norm, norm, "avx512", 1, norm),
        .rope = OCTAVO_KERNEL(rope, rope, "avx512", 1, rope),
        .swiglu = OCTAVO_KERNEL(swiglu, swiglu, "avx512", 1, swiglu),
        .round = OCTAVO_KERNEL(round, round, "avx512", 1, round_row),
        .quantise = OCTAVO_KERNEL(quantise, quantise, "avx512", 1, quantise),
        .axpy = OCTAVO_KERNEL(axpy, axpy, "avx512", 1, axpy),
        .exp_row = OCTAVO_KERNEL(exp_row, exp_row, "avx512", 1, exp_row),
};
