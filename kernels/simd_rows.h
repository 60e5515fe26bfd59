/* SPDX-License-Identifier: Apache-2.0
 *
 * The operations on single rows, for any vectors: see simd.h.
 */
#ifndef OCTAVO_SIMD_ROWS_H
#define OCTAVO_SIMD_ROWS_H

#include "kernels/simd.h"

static void norm(float *y, const float *x, const float *g, size_t n, float eps)
{
	vf sum = vf_zero();

	for (size_t i = 0; i < n; i += LANES) {
		vf v = vf_load_first(x + i, n - i);
		sum = vf_fma(v, v, sum);
	}
	vf r = vf_set1(1.0f / __builtin_sqrtf(vf_fold(sum) / (float)n + eps));
	for (size_t i = 0; i < n; i += LANES) {
		vf v = vf_mul(vf_load_first(x + i, n - i), r);
		vf_store_first(y + i, n - i, vf_mul(v, vf_load_first(g + i, n - i)));
	}
}

static void rope(float *x, const float *cs, size_t n)
{
	n -= n % 2;
	for (size_t i = 0; i < n; i += LANES) {
		vf v = vf_load_first(x + i, n - i), c = vf_load_first(cs + i, n - i);
		vf crossed = vf_mul(vf_odd(v), vf_swap(c)); /* x1 * s, x1 * c */
		vf_store_first(x + i, n - i, vf_fma_alternate(vf_even(v), c, crossed));
	}
}

static void swiglu(float *y, const float *gate, const float *up, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		vf z = vf_load_first(gate + i, n - i);
		vf silu = vf_div(z, vf_add(vf_set1(1.0f), vf_exp(vf_negate(z))));
		vf_store_first(y + i, n - i, vf_mul(silu, vf_load_first(up + i, n - i)));
	}
}

static void round_row(uint16_t *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i += LANES)
		vf_store_high(y + i, n - i, vf_round_activation(vf_load_first(x + i, n - i)));
}

/* The value of octavo_e4m3_encode_sat(x) for finite x: normal numbers lose 20 bits of mantissa, subnormal ones
 * are rounded to a multiple of 2^-9 by adding a number whose last bit that is. */
static inline vf round_e4m3(vf x)
{
	const vf magic = vf_set1(0x1.8p14f);
	vf magnitude = vf_abs(x);
	vi bits = vi_of(magnitude), odd = vi_and(vi_right(bits, 20), vi_set1(1));
	vi rounded = vi_add(bits, vi_add(odd, vi_set1(0x7ffff)));
	vf normal = vf_min(vf_of(vi_and(rounded, vi_set1(0xfff00000))), vf_set1(448.0f));
	vf subnormal = vf_sub(vf_add(magnitude, magic), magic);
	vf value = vf_choose(vm_less(magnitude, vf_set1(0x1p-6f)), subnormal, normal);

	return vf_of(vi_or(vi_of(value), vi_and(vi_of(x), vi_set1(0x80000000))));
}

/* The bits of the largest BF16 magnitude of a row: magnitudes order like their bits, NaN last. */
static uint32_t largest_bits(const float *x, size_t n)
{
	vi most = vi_set1(0);
	float lane[LANES];
	uint32_t bits[LANES];

	for (size_t i = 0; i < n; i += LANES)
		most = vi_max(most, vi_of(vf_abs(vf_round_bf16(vf_load_first(x + i, n - i)))));
	vf_store_first(lane, LANES, vf_of(most));
	memcpy(bits, lane, sizeof bits);
	for (size_t i = 1; i < LANES; i++)
		bits[0] = bits[i] > bits[0] ? bits[i] : bits[0];
	return bits[0];
}

/* One group of up to 128 columns; returns its scale. */
static float quantise_group(uint16_t *y, const float *x, size_t n, enum octavo_scale_rule rule)
{
	uint32_t bits = largest_bits(x, n);
	float amax;

	if (bits >= 0x7f800000) { /* infinity or NaN */
		for (size_t i = 0; i < n; i++)
			y[i] = 0x7fc0;
		return 1.0f;
	}
	memcpy(&amax, &bits, sizeof amax);
	float scale = (amax > 1e-4f ? amax : 1e-4f) / 448.0f;
	if (rule == OCTAVO_SCALE_E8M0)
		scale = octavo_e8m0_decode(octavo_e8m0_encode_up(scale));
	for (size_t i = 0; i < n; i += LANES) {
		vf v = vf_round_bf16(vf_load_first(x + i, n - i));
		vf_store_high(y + i, n - i, round_e4m3(vf_div(v, vf_set1(scale))));
	}
	return scale;
}

static void quantise(uint16_t *y, float *scale, const float *x, size_t n, enum octavo_scale_rule rule)
{
	for (size_t i = 0; i < n; i += OCTAVO_BLOCK)
		scale[i / OCTAVO_BLOCK] = quantise_group(y + i, x + i, smaller(OCTAVO_BLOCK, n - i), rule);
}

static void axpy(float *acc, const float *x, float w, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		vf sum = vf_fma(vf_set1(w), vf_load_first(x + i, n - i), vf_load_first(acc + i, n - i));
		vf_store_first(acc + i, n - i, sum);
	}
}

static void exp_row(float *y, const float *x, float max, size_t n)
{
	for (size_t i = 0; i < n; i += LANES)
		vf_store_first(y + i, n - i, vf_exp(vf_sub(vf_load_first(x + i, n - i), vf_set1(max))));
}

/* octavo_philox of sixteen counters at once, four times. */
static void numbers(uint32_t number[OCTAVO_NUMBERS], const uint32_t counter[4], uint64_t key)
{
	static const uint8_t lane[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	enum { COUNTERS = OCTAVO_NUMBERS / 4 };

	for (size_t i = 0; i < COUNTERS; i += LANES) {
		vi c[4] = {vi_set1(counter[0]), vi_set1(counter[1]), vi_set1(counter[2]),
		           vi_add(vi_set1(counter[3] + (uint32_t)i), vi_load_bytes(lane, LANES))};
		uint32_t key0 = (uint32_t)key, key1 = (uint32_t)(key >> 32);
		for (int round = 0; round < 10; round++) {
			vi high0, high1;
			vi low0 = vi_multiply(c[0], 0xD2511F53, &high0), low1 = vi_multiply(c[2], 0xCD9E8D57, &high1);
			c[0] = vi_xor(vi_xor(high1, c[1]), vi_set1(key0));
			c[1] = low1;
			c[2] = vi_xor(vi_xor(high0, c[3]), vi_set1(key1));
			c[3] = low0;
			key0 += 0x9E3779B9;
			key1 += 0xBB67AE85;
		}
		for (size_t w = 0; w < 4; w++)
			memcpy(number + COUNTERS * w + i, &c[w], LANES * sizeof *number);
	}
}

#endif
