/* SPDX-License-Identifier: Apache-2.0
 *
 * Scalar codecs.  They work on the bits, so that no rounding mode and no flush-to-zero of the caller's can
 * change a result.
 *
 *           exponent  mantissa  bias  largest  smallest normal  smallest subnormal  infinity
 *     E4M3      4        3        7       448       2^-6               2^-9             no
 *     E5M2      5        2       15     57344       2^-14              2^-16            yes
 *     F16       5       10       15     65504       2^-14              2^-24            yes
 *     BF16      8        7      127   3.39e38       2^-126             2^-133           yes
 *     E8M0      8        0      127     2^127       2^-127             none, no zero    no
 */
#include "octavo_fp8.h"

#include "fp8/bits.h"

enum {
	E4M3_LARGEST = 0x7E,
	E5M2_MANTISSA = 2,
	E5M2_BIAS = 15,
	E5M2_LARGEST = 0x7B,
	E5M2_INFINITY = 0x7C,
	E8M0_LOWEST_SCALE = 1,
	E8M0_LARGEST = 254,
	E8M0_NAN = 255,
};

size_t octavo_dtype_size(enum octavo_dtype dtype)
{
	switch (dtype) {
	case OCTAVO_F32:
		return 4;
	case OCTAVO_BF16:
	case OCTAVO_F16:
		return 2;
	case OCTAVO_E4M3:
	case OCTAVO_E5M2:
	case OCTAVO_E8M0:
		return 1;
	case OCTAVO_NONE:
		break;
	}
	return 0;
}

const char *octavo_dtype_name(enum octavo_dtype dtype)
{
	switch (dtype) {
	case OCTAVO_F32:
		return "F32";
	case OCTAVO_BF16:
		return "BF16";
	case OCTAVO_F16:
		return "F16";
	case OCTAVO_E4M3:
		return "F8_E4M3";
	case OCTAVO_E5M2:
		return "F8_E5M2";
	case OCTAVO_E8M0:
		return "F8_E8M0";
	case OCTAVO_NONE:
		break;
	}
	return "none";
}

/* The code of a magnitude rounded to nearest even; beyond the format's largest code it just goes on. */
static uint32_t encode_nearest(uint32_t magnitude, unsigned mantissa, unsigned bias)
{
	struct octavo_unrounded u = octavo_unrounded(magnitude, mantissa, bias);
	if (u.shift > 24) /* below half of the smallest subnormal */
		return 0;
	uint32_t odd = u.significand >> u.shift & 1;
	uint32_t almost_half = (1u << (u.shift - 1)) - 1;
	return u.base + ((u.significand + almost_half + odd) >> u.shift);
}

/* `overflow` is the code, less the sign, of what rounds beyond the format's `largest`. */
static uint8_t encode(float x, unsigned mantissa, unsigned bias, uint8_t largest, uint8_t overflow)
{
	uint32_t bits = octavo_float_bits(x), magnitude = bits & OCTAVO_F32_MAGNITUDE;
	uint8_t sign = (uint8_t)(bits >> 24 & 0x80);
	if (magnitude > OCTAVO_F32_INFINITY)
		return sign | OCTAVO_FP8_NAN;
	uint32_t code = encode_nearest(magnitude, mantissa, bias);
	return sign | (code > largest ? overflow : (uint8_t)code);
}

static uint8_t encode_e4m3(float x, uint8_t overflow)
{
	return encode(x, OCTAVO_E4M3_MANTISSA, OCTAVO_E4M3_BIAS, E4M3_LARGEST, overflow);
}

static uint8_t encode_e5m2(float x, uint8_t overflow)
{
	return encode(x, E5M2_MANTISSA, E5M2_BIAS, E5M2_LARGEST, overflow);
}

uint8_t octavo_e4m3_encode(float x)
{
	return encode_e4m3(x, OCTAVO_FP8_NAN);
}

uint8_t octavo_e4m3_encode_sat(float x)
{
	return encode_e4m3(x, E4M3_LARGEST);
}

uint8_t octavo_e5m2_encode(float x)
{
	return encode_e5m2(x, E5M2_INFINITY);
}

uint8_t octavo_e5m2_encode_sat(float x)
{
	return encode_e5m2(x, E5M2_LARGEST);
}

float octavo_f16_decode(uint16_t bits)
{
	uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
	uint32_t exponent = bits >> 10 & 31, mantissa = bits & 0x3FF;
	if (exponent == 31)
		return octavo_bits_float(sign | (mantissa ? OCTAVO_F32_NAN : OCTAVO_F32_INFINITY));
	if (exponent == 0) {
		float value = (float)mantissa * 0x1p-24f; /* exact: an integer times a power of two */
		return sign ? -value : value;
	}
	return octavo_bits_float(sign | (exponent + 127 - 15) << 23 | mantissa << 13);
}

float octavo_e4m3_decode(uint8_t code)
{
	if ((code & 0x7F) == OCTAVO_FP8_NAN)
		return octavo_bits_float((uint32_t)(code & 0x80) << 24 | OCTAVO_F32_NAN);
	/* As the top of an F16, with four exponent bits in the field of five, the code reads as its value
	 * times 2^-8: the biases differ by eight, and a subnormal stays a subnormal. */
	uint16_t half = (uint16_t)((code & 0x80) << 8 | (code & 0x7F) << 7);
	return octavo_f16_decode(half) * 0x1p8f;
}

/* E5M2 is F16 without its low byte. */
float octavo_e5m2_decode(uint8_t code)
{
	return octavo_f16_decode((uint16_t)(code << 8));
}

float octavo_e8m0_decode(uint8_t code)
{
	if (code == E8M0_NAN)
		return octavo_bits_float(OCTAVO_F32_NAN);
	if (code == 0)
		return octavo_bits_float(0x00400000); /* 2^-127, a subnormal float */
	return octavo_bits_float((uint32_t)code << 23);
}

uint8_t octavo_e8m0_encode_up(float x)
{
	uint32_t bits = octavo_float_bits(x);
	if (bits == 0x80000000) /* -0 is zero, not a negative number */
		bits = 0;
	if (bits >= OCTAVO_F32_INFINITY) /* negative numbers have the top bit set, so they are here too */
		return E8M0_NAN;
	uint32_t code = (bits >> 23) + ((bits & 0x7FFFFF) != 0);
	if (code < E8M0_LOWEST_SCALE)
		return E8M0_LOWEST_SCALE;
	return (uint8_t)(code > E8M0_LARGEST ? E8M0_LARGEST : code);
}

float octavo_bf16_decode(uint16_t bits)
{
	return octavo_bits_float((uint32_t)bits << 16);
}

uint16_t octavo_bf16_encode(float x)
{
	uint32_t bits = octavo_float_bits(x);
	if ((bits & OCTAVO_F32_MAGNITUDE) > OCTAVO_F32_INFINITY)
		return (uint16_t)(bits >> 16 | 0x40); /* the quiet bit: a payload in the low half must not vanish */
	return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

uint16_t octavo_bf16_activation(float x)
{
	uint32_t smallest = (127 - 40) << 23; /* 2^-40 */
	return (octavo_float_bits(x) & OCTAVO_F32_MAGNITUDE) < smallest ? 0 : octavo_bf16_encode(x);
}
