/* SPDX-License-Identifier: Apache-2.0
 *
 * The definitions of the bulk FP8 codecs: see octavo_kernels.h.
 */
#include "kernels/sets.h"

#include "fp8/bits.h"

/* The product of a code's value and a scale has 28 bits at most: exact in double.  It goes to F32 so that the second
 * rounding cannot see a false tie: what is not exact ends in an odd bit (Boldo and Melquiond, IEEE TC 57:4, 2008). */
static uint16_t scaled(float value, float scale)
{
	double exact = (double)value * scale;
	float nearest = (float)exact;
	uint32_t bits = octavo_float_bits(nearest);
	if ((double)nearest != exact && bits % 2 == 0)
		bits += __builtin_fabs(exact) > __builtin_fabsf(nearest) ? 1u : -1u;
	return octavo_bf16_activation(octavo_bits_float(bits));
}

static void decode_ref(uint16_t *y, const uint8_t *code, float scale, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = scaled(octavo_e4m3_decode(code[i]), scale);
}

static void encode_ref(uint8_t *code, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		code[i] = octavo_e4m3_encode_sat(x[i]);
}

const struct octavo_kernels octavo_set_codec_ref = {
        .decode_e4m3 = OCTAVO_KERNEL(decode, decode_e4m3, "ref", 1, decode_ref),
        .encode_e4m3 = OCTAVO_KERNEL(encode, encode_e4m3, "ref", 1, encode_ref),
};
