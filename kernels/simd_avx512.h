/* SPDX-License-Identifier: Apache-2.0
 *
 * Sixteen lanes on AVX-512 F/BW/DQ/VL: one register.  See simd.h for what each operation must do.
 */
#ifndef OCTAVO_SIMD_AVX512_H
#define OCTAVO_SIMD_AVX512_H

#ifndef __AVX512F__
#error "this file needs the AVX-512 flags that configure found"
#endif

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define BLOCK 8 /* 8 even chains, 8 odd ones and 8 sums leave room for the weights */
#define FEW 8   /* the same */
#define FEW_MAX 16 /* above, the panel is as fast */
#define TOGETHER 2
#define LEADS 4

typedef __m512 vf;
typedef __m512i vi;

static inline __mmask16 first_lanes(size_t count)
{
	return count < 16 ? (__mmask16)((1u << count) - 1) : (__mmask16)0xffff;
}

/* ---- memory ---- */

static inline vf vf_load(const float *p)
{
	return _mm512_load_ps(p);
}

static inline void vf_store(float *p, vf v)
{
	_mm512_store_ps(p, v);
}

static inline vf vf_load_first(const float *p, size_t count)
{
	return _mm512_maskz_loadu_ps(first_lanes(count), p);
}

static inline void vf_store_first(float *p, size_t count, vf v)
{
	_mm512_mask_storeu_ps(p, first_lanes(count), v);
}

static inline vf vf_load_bf16(const uint16_t *p, size_t count)
{
	__m256i half =
	        count >= 16 ? _mm256_loadu_si256((const __m256i *)p) : _mm256_maskz_loadu_epi16(first_lanes(count), p);
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static inline vf vf_load_f16(const uint16_t *p, size_t count)
{
	return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(count), p));
}

static inline vi vi_load_bytes(const uint8_t *p, size_t count)
{
	return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first_lanes(count), p));
}

/* `count` BF16 values, at most a chunk of them, zeros behind. */
static inline vi load_chunk(const void *p, size_t count)
{
	return count >= 32 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16((__mmask32)((1u << count) - 1), p);
}

static inline void vf_store_high(uint16_t *p, size_t count, vf v)
{
	__m256i high = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(v), 16));

	_mm256_mask_storeu_epi16(p, first_lanes(count), high);
}

static inline void vi_store_bytes(uint8_t *p, size_t count, vi v)
{
	_mm_mask_storeu_epi8(p, first_lanes(count), _mm512_cvtepi32_epi8(v));
}

/* ---- arithmetic ---- */

static inline vf vf_set1(float x)
{
	return _mm512_set1_ps(x);
}

static inline vf vf_add(vf a, vf b)
{
	return _mm512_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
	return _mm512_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
	return _mm512_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
	return _mm512_div_ps(a, b);
}

static inline vf vf_fma(vf a, vf b, vf c)
{
	return _mm512_fmadd_ps(a, b, c);
}

static inline vf vf_fma_alternate(vf a, vf b, vf c)
{
	return _mm512_fmaddsub_ps(a, b, c);
}

static inline vf vf_min(vf a, vf b)
{
	return _mm512_min_ps(a, b);
}

static inline vf vf_max(vf a, vf b)
{
	return _mm512_max_ps(a, b);
}

static inline vf vf_rint(vf a)
{
	return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* ---- bits ---- */

static inline vi vi_set1(uint32_t x)
{
	return _mm512_set1_epi32((int)x);
}

static inline vi vi_of(vf a)
{
	return _mm512_castps_si512(a);
}

static inline vf vf_of(vi a)
{
	return _mm512_castsi512_ps(a);
}

static inline vi vi_int(vf a)
{
	return _mm512_cvtps_epi32(a);
}

static inline vi vi_add(vi a, vi b)
{
	return _mm512_add_epi32(a, b);
}

static inline vi vi_and(vi a, vi b)
{
	return _mm512_and_si512(a, b);
}

static inline vi vi_or(vi a, vi b)
{
	return _mm512_or_si512(a, b);
}

static inline vi vi_xor(vi a, vi b)
{
	return _mm512_xor_si512(a, b);
}

static inline vi vi_max(vi a, vi b)
{
	return _mm512_max_epu32(a, b);
}

static inline vi vi_multiply(vi a, uint32_t b, vi *high)
{
	__m512i factor = _mm512_set1_epi32((int)b);
	__m512i even = _mm512_mul_epu32(a, factor), odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), factor);
	*high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
	return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

static inline vi vi_max_bytes(vi a, vi b)
{
	return _mm512_max_epu8(a, b);
}

#define vi_right_signed_words(a, bits) _mm512_srai_epi16(a, bits)
#define vi_left(a, bits) _mm512_slli_epi32(a, bits)
#define vi_right(a, bits) _mm512_srli_epi32(a, bits)
#define vi_right_signed(a, bits) _mm512_srai_epi32(a, bits)

/* ---- choice ---- */

typedef __mmask16 vm;

static inline vm vm_less(vf a, vf b)
{
	return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

static inline vm vm_unordered(vf a)
{
	return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}

static inline vm vm_equal(vi a, vi b)
{
	return _mm512_cmpeq_epi32_mask(a, b);
}

static inline vm vm_first(size_t count)
{
	return first_lanes(count);
}

static inline vf vf_choose(vm mask, vf yes, vf no)
{
	return _mm512_mask_mov_ps(no, mask, yes);
}

static inline vf vf_nan_where(vm mask, vf v)
{
	return _mm512_mask_mov_ps(v, mask, _mm512_set1_ps(__builtin_nanf("")));
}

/* ---- across lanes ---- */

static inline vf vf_even(vf a)
{
	return _mm512_moveldup_ps(a);
}

static inline vf vf_odd(vf a)
{
	return _mm512_movehdup_ps(a);
}

static inline vf vf_swap(vf a)
{
	return _mm512_permute_ps(a, 0xb1);
}

static inline float vf_fold(vf lane)
{
	__m256 half = _mm256_add_ps(_mm512_castps512_ps256(lane), _mm512_extractf32x8_ps(lane, 1));
	__m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
	__m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
	return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}

/* ---- blocks of weights ---- */

/* 16 rows of 16 dwords. */
ALWAYS_INLINE void transpose(vi d[16])
{
	vi t[16];

#pragma GCC unroll 8
	for (int i = 0; i < 16; i += 2) { /* pairs of rows, within each 128-bit lane */
		t[i] = _mm512_unpacklo_epi32(d[i], d[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(d[i], d[i + 1]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 16; i += 4) { /* quads of rows: dword 4 * lane + j in d[i + j] */
		d[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		d[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		d[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		d[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) { /* a 4 x 4 transpose of 128-bit lanes for each j */
		vi a = _mm512_shuffle_i32x4(d[i], d[i + 4], 0x44), b = _mm512_shuffle_i32x4(d[i], d[i + 4], 0xee);
		vi c = _mm512_shuffle_i32x4(d[i + 8], d[i + 12], 0x44);
		vi e = _mm512_shuffle_i32x4(d[i + 8], d[i + 12], 0xee);
		t[i] = _mm512_shuffle_i32x4(a, c, 0x88);
		t[i + 4] = _mm512_shuffle_i32x4(a, c, 0xdd);
		t[i + 8] = _mm512_shuffle_i32x4(b, e, 0x88);
		t[i + 12] = _mm512_shuffle_i32x4(b, e, 0xdd);
	}
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		d[i] = t[i];
}

/* `bytes` <= 64 bytes of 16 rows, zeros behind them. */
ALWAYS_INLINE void load_rows(const uint8_t *const row[16], size_t offset, size_t bytes, vi d[16])
{
	if (bytes == 64) {
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			d[i] = _mm512_loadu_si512(row[i] + offset);
	} else {
		__mmask64 mask = (1ull << bytes) - 1;
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			d[i] = _mm512_maskz_loadu_epi8(mask, row[i] + offset);
	}
}

ALWAYS_INLINE void load_transposed(const uint8_t *const row[16], size_t offset, size_t bytes, vi d[16])
{
	load_rows(row, offset, bytes, d);
	transpose(d);
}

ALWAYS_INLINE void split_f16(vi pair, vf w[2])
{
	w[0] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pair));
	w[1] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pair, 16)));
}

#endif
