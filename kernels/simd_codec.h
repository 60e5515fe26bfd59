/* SPDX-License-Identifier: Apache-2.0
 *
 * The bulk FP8 codecs, for any vectors: see simd.h.
 */
#ifndef OCTAVO_SIMD_CODEC_H
#define OCTAVO_SIMD_CODEC_H

#include "kernels/simd.h"

/* a * b in F32; if that is not exact, the neighbour with an odd last bit between which the product lies, so that
 * rounding again cannot see a false tie. */
static inline vf vf_mul_to_odd(vf a, vf b)
{
	vf nearest = vf_mul(a, b), rest = vf_fma(a, b, vf_negate(nearest));
	vi bits = vi_of(nearest), zero = vi_set1(0);
	/* +1 if the rest leads away from zero, else -1 */
	vi step = vi_or(vi_right_signed(vi_xor(bits, vi_of(rest)), 31), vi_set1(1));
	vf odd = vf_choose(vm_equal(vi_and(bits, vi_set1(1)), zero), vf_of(vi_add(bits, step)), nearest);

	return vf_choose(vm_equal(vi_of(vf_abs(rest)), zero), nearest, odd);
}

static void decode_e4m3(uint16_t *y, const uint8_t *code, float scale, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		vf value = vf_decode_e4m3(vi_left(vi_load_bytes(code + i, n - i), 24));
		vf_store_high(y + i, n - i, vf_round_activation(vf_mul_to_odd(value, vf_set1(scale))));
	}
}

/* octavo_e4m3_encode_sat, in the low bytes of the lanes. */
static inline vi encode_lanes(vf x)
{
	const vf magic = vf_set1(0x1.8p14f); /* its last bit is worth 2^-9, the smallest subnormal */
	vf magnitude = vf_min(vf_set1(448.0f), vf_abs(x)); /* in this order a NaN stays */
	vi bits = vi_of(magnitude), odd = vi_and(vi_right(bits, 20), vi_set1(1));
	vi normal = vi_right(vi_add(bits, vi_add(odd, vi_set1(0x7ffff))), 20);
	vi rebiased = vi_add(normal, vi_set1(0u - ((127 - 7) << 3)));
	vi subnormal = vi_add(vi_of(vf_add(magnitude, magic)), vi_set1(0u - 0x46c00000));
	vf code = vf_choose(vm_less(magnitude, vf_set1(0x1p-6f)), vf_of(subnormal), vf_of(rebiased));

	code = vf_choose(vm_unordered(x), vf_of(vi_set1(0x7f)), code);
	return vi_or(vi_of(code), vi_and(vi_right(vi_of(x), 24), vi_set1(0x80)));
}

static void encode_e4m3(uint8_t *code, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i += LANES)
		vi_store_bytes(code + i, n - i, encode_lanes(vf_load_first(x + i, n - i)));
}

#endif
