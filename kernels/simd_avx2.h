/* SPDX-License-Identifier: Apache-2.0
 *
 * Sixteen lanes on AVX2 with FMA and F16C: two registers.  See simd.h for what each operation must do.
 */
#ifndef OCTAVO_SIMD_AVX2_H
#define OCTAVO_SIMD_AVX2_H

#ifndef __AVX2__
#error "this file needs the AVX2 flags that configure found"
#endif

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define BLOCK 3 /* 3 even chains and 3 odd ones of two registers, two halves of a weight, one broadcast */
#define FEW 2   /* decoding wants registers too */
#define FEW_MAX 2 /* above, the panel beats decoding twice */
#define TOGETHER 1
#define LEADS 0

typedef struct {
	__m256 half[2];
} vf;
typedef struct {
	__m256i half[2];
} vi;

/* All ones in the lanes of half h below `count`. */
static inline __m256i first_lanes(size_t count, int h)
{
	__m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(8 * h));

	return _mm256_cmpgt_epi32(_mm256_set1_epi32(count < 16 ? (int)count : 16), lane);
}

/* ---- memory ---- */

static inline vf vf_load(const float *p)
{
	return (vf){{_mm256_load_ps(p), _mm256_load_ps(p + 8)}};
}

static inline void vf_store(float *p, vf v)
{
	_mm256_store_ps(p, v.half[0]);
	_mm256_store_ps(p + 8, v.half[1]);
}

static inline vf vf_load_first(const float *p, size_t count)
{
	if (count >= 16)
		return (vf){{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}};
	return (vf){{_mm256_maskload_ps(p, first_lanes(count, 0)), _mm256_maskload_ps(p + 8, first_lanes(count, 1))}};
}

static inline void vf_store_first(float *p, size_t count, vf v)
{
	if (count >= 16) {
		_mm256_storeu_ps(p, v.half[0]);
		_mm256_storeu_ps(p + 8, v.half[1]);
		return;
	}
	_mm256_maskstore_ps(p, first_lanes(count, 0), v.half[0]);
	_mm256_maskstore_ps(p + 8, first_lanes(count, 1), v.half[1]);
}

/* AVX2 has no masked loads of bytes or words: short rows are copied. */
static inline __m256i load_halves(const uint16_t *p, size_t count)
{
	_Alignas(32) uint16_t copy[16] = {0};

	if (count >= 16)
		return _mm256_loadu_si256((const __m256i *)p);
	memcpy(copy, p, count * sizeof *p);
	return _mm256_load_si256((const __m256i *)copy);
}

static inline vf vf_load_bf16(const uint16_t *p, size_t count)
{
	__m256i v = load_halves(p, count);
	__m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(v));
	__m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1));

	return (vf){
	        {_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))}};
}

static inline vf vf_load_f16(const uint16_t *p, size_t count)
{
	__m256i v = load_halves(p, count);

	return (vf){{_mm256_cvtph_ps(_mm256_castsi256_si128(v)), _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1))}};
}

static inline vi vi_load_bytes(const uint8_t *p, size_t count)
{
	_Alignas(16) uint8_t copy[16] = {0};
	__m128i v;

	if (count >= 16) {
		v = _mm_loadu_si128((const __m128i *)p);
	} else {
		memcpy(copy, p, count);
		v = _mm_load_si128((const __m128i *)copy);
	}
	return (vi){{_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8))}};
}

static inline void vf_store_high(uint16_t *p, size_t count, vf v)
{
	_Alignas(32) uint16_t copy[16];
	__m256i low = _mm256_srli_epi32(_mm256_castps_si256(v.half[0]), 16);
	__m256i high = _mm256_srli_epi32(_mm256_castps_si256(v.half[1]), 16);
	__m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);

	if (count >= 16) {
		_mm256_storeu_si256((__m256i *)p, words);
		return;
	}
	_mm256_store_si256((__m256i *)copy, words);
	memcpy(p, copy, count * sizeof *p);
}

static inline void vi_store_bytes(uint8_t *p, size_t count, vi v)
{
	_Alignas(16) uint8_t copy[16];
	__m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(v.half[0], v.half[1]), 0xd8);
	__m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));

	if (count >= 16) {
		_mm_storeu_si128((__m128i *)p, bytes);
		return;
	}
	_mm_store_si128((__m128i *)copy, bytes);
	memcpy(p, copy, count);
}

/* ---- arithmetic ---- */

static inline vf vf_set1(float x)
{
	return (vf){{_mm256_set1_ps(x), _mm256_set1_ps(x)}};
}

static inline vf vf_add(vf a, vf b)
{
	return (vf){{_mm256_add_ps(a.half[0], b.half[0]), _mm256_add_ps(a.half[1], b.half[1])}};
}

static inline vf vf_sub(vf a, vf b)
{
	return (vf){{_mm256_sub_ps(a.half[0], b.half[0]), _mm256_sub_ps(a.half[1], b.half[1])}};
}

static inline vf vf_mul(vf a, vf b)
{
	return (vf){{_mm256_mul_ps(a.half[0], b.half[0]), _mm256_mul_ps(a.half[1], b.half[1])}};
}

static inline vf vf_div(vf a, vf b)
{
	return (vf){{_mm256_div_ps(a.half[0], b.half[0]), _mm256_div_ps(a.half[1], b.half[1])}};
}

static inline vf vf_fma(vf a, vf b, vf c)
{
	return (vf){
	        {_mm256_fmadd_ps(a.half[0], b.half[0], c.half[0]), _mm256_fmadd_ps(a.half[1], b.half[1], c.half[1])}};
}

static inline vf vf_fma_alternate(vf a, vf b, vf c)
{
	return (vf){{_mm256_fmaddsub_ps(a.half[0], b.half[0], c.half[0]),
	             _mm256_fmaddsub_ps(a.half[1], b.half[1], c.half[1])}};
}

static inline vf vf_min(vf a, vf b)
{
	return (vf){{_mm256_min_ps(a.half[0], b.half[0]), _mm256_min_ps(a.half[1], b.half[1])}};
}

static inline vf vf_max(vf a, vf b)
{
	return (vf){{_mm256_max_ps(a.half[0], b.half[0]), _mm256_max_ps(a.half[1], b.half[1])}};
}

static inline vf vf_rint(vf a)
{
	return (vf){{_mm256_round_ps(a.half[0], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
	             _mm256_round_ps(a.half[1], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}};
}

/* ---- bits ---- */

static inline vi vi_set1(uint32_t x)
{
	return (vi){{_mm256_set1_epi32((int)x), _mm256_set1_epi32((int)x)}};
}

static inline vi vi_of(vf a)
{
	return (vi){{_mm256_castps_si256(a.half[0]), _mm256_castps_si256(a.half[1])}};
}

static inline vf vf_of(vi a)
{
	return (vf){{_mm256_castsi256_ps(a.half[0]), _mm256_castsi256_ps(a.half[1])}};
}

static inline vi vi_int(vf a)
{
	return (vi){{_mm256_cvtps_epi32(a.half[0]), _mm256_cvtps_epi32(a.half[1])}};
}

static inline vi vi_add(vi a, vi b)
{
	return (vi){{_mm256_add_epi32(a.half[0], b.half[0]), _mm256_add_epi32(a.half[1], b.half[1])}};
}

static inline vi vi_and(vi a, vi b)
{
	return (vi){{_mm256_and_si256(a.half[0], b.half[0]), _mm256_and_si256(a.half[1], b.half[1])}};
}

static inline vi vi_or(vi a, vi b)
{
	return (vi){{_mm256_or_si256(a.half[0], b.half[0]), _mm256_or_si256(a.half[1], b.half[1])}};
}

static inline vi vi_xor(vi a, vi b)
{
	return (vi){{_mm256_xor_si256(a.half[0], b.half[0]), _mm256_xor_si256(a.half[1], b.half[1])}};
}

static inline vi vi_max(vi a, vi b)
{
	return (vi){{_mm256_max_epu32(a.half[0], b.half[0]), _mm256_max_epu32(a.half[1], b.half[1])}};
}

static inline __m256i multiply_half(__m256i a, uint32_t b, __m256i *high)
{
	__m256i factor = _mm256_set1_epi32((int)b);
	__m256i even = _mm256_mul_epu32(a, factor), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), factor);
	*high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
	return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

static inline vi vi_multiply(vi a, uint32_t b, vi *high)
{
	return (vi){{multiply_half(a.half[0], b, &high->half[0]), multiply_half(a.half[1], b, &high->half[1])}};
}

static inline vi vi_max_bytes(vi a, vi b)
{
	return (vi){{_mm256_max_epu8(a.half[0], b.half[0]), _mm256_max_epu8(a.half[1], b.half[1])}};
}

#define vi_right_signed_words(a, bits)                                                                                 \
	((vi){{_mm256_srai_epi16((a).half[0], bits), _mm256_srai_epi16((a).half[1], bits)}})
#define vi_left(a, bits) ((vi){{_mm256_slli_epi32((a).half[0], bits), _mm256_slli_epi32((a).half[1], bits)}})
#define vi_right(a, bits) ((vi){{_mm256_srli_epi32((a).half[0], bits), _mm256_srli_epi32((a).half[1], bits)}})
#define vi_right_signed(a, bits) ((vi){{_mm256_srai_epi32((a).half[0], bits), _mm256_srai_epi32((a).half[1], bits)}})

/* ---- choice: all ones where true ---- */

typedef vi vm;

static inline vm vm_less(vf a, vf b)
{
	return vi_of((vf){
	        {_mm256_cmp_ps(a.half[0], b.half[0], _CMP_LT_OQ), _mm256_cmp_ps(a.half[1], b.half[1], _CMP_LT_OQ)}});
}

static inline vm vm_unordered(vf a)
{
	return vi_of((vf){{_mm256_cmp_ps(a.half[0], a.half[0], _CMP_UNORD_Q),
	                   _mm256_cmp_ps(a.half[1], a.half[1], _CMP_UNORD_Q)}});
}

static inline vm vm_equal(vi a, vi b)
{
	return (vm){{_mm256_cmpeq_epi32(a.half[0], b.half[0]), _mm256_cmpeq_epi32(a.half[1], b.half[1])}};
}

static inline vm vm_first(size_t count)
{
	return (vm){{first_lanes(count, 0), first_lanes(count, 1)}};
}

static inline vf vf_choose(vm mask, vf yes, vf no)
{
	vf m = vf_of(mask);

	return (vf){{_mm256_blendv_ps(no.half[0], yes.half[0], m.half[0]),
	             _mm256_blendv_ps(no.half[1], yes.half[1], m.half[1])}};
}

/* All ones is a NaN. */
static inline vf vf_nan_where(vm mask, vf v)
{
	return vf_of(vi_or(mask, vi_of(v)));
}

/* ---- across lanes ---- */

static inline vf vf_even(vf a)
{
	return (vf){{_mm256_moveldup_ps(a.half[0]), _mm256_moveldup_ps(a.half[1])}};
}

static inline vf vf_odd(vf a)
{
	return (vf){{_mm256_movehdup_ps(a.half[0]), _mm256_movehdup_ps(a.half[1])}};
}

static inline vf vf_swap(vf a)
{
	return (vf){{_mm256_permute_ps(a.half[0], 0xb1), _mm256_permute_ps(a.half[1], 0xb1)}};
}

static inline float vf_fold(vf lane)
{
	__m256 half = _mm256_add_ps(lane.half[0], lane.half[1]);
	__m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
	__m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
	return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}

/* ---- blocks of weights ---- */

/* Eight rows of eight dwords into one half of d[0..8). */
ALWAYS_INLINE void transpose_half(const uint8_t *const row[8], size_t offset, const int h, vi *d)
{
	__m256i r[8], t[8];

#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		r[i] = _mm256_loadu_si256((const __m256i *)(row[i] + offset));
#pragma GCC unroll 4
	for (int i = 0; i < 8; i += 2) {
		t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
		t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
	}
#pragma GCC unroll 2
	for (int i = 0; i < 8; i += 4) {
		r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
		r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
		r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
		r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		d[i].half[h] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x20);
		d[i + 4].half[h] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x31);
	}
}

ALWAYS_INLINE void load_transposed(const uint8_t *const row[16], size_t offset, size_t bytes, vi d[16])
{
	_Alignas(64) uint8_t copy[16][64];
	const uint8_t *copied[16];

	if (bytes < 64) {
		memset(copy, 0, sizeof copy);
		for (int i = 0; i < 16; i++) {
			if (bytes > 0)
				memcpy(copy[i], row[i] + offset, bytes);
			copied[i] = copy[i];
		}
		row = copied;
		offset = 0;
	}
#pragma GCC unroll 2
	for (int h = 0; h < 2; h++) {
		transpose_half(row + 8 * h, offset, h, d);
		transpose_half(row + 8 * h, offset + 32, h, d + 8);
	}
}

ALWAYS_INLINE void split_f16(vi pair, vf w[2])
{
	const __m256i pack = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9,
	                                      12, 13, 2, 3, 6, 7, 10, 11, 14, 15);

	for (int h = 0; h < 2; h++) { /* the even words of both 128-bit lanes, then the odd ones */
		__m256i v = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(pair.half[h], pack), 0xd8);
		w[0].half[h] = _mm256_cvtph_ps(_mm256_castsi256_si128(v));
		w[1].half[h] = _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1));
	}
}

#endif
