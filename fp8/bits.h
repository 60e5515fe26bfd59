/* SPDX-License-Identifier: Apache-2.0
 *
 * A float as its bits, and as what an 8-bit format keeps and drops of it.
 */
#ifndef OCTAVO_BITS_H
#define OCTAVO_BITS_H

#include <stdint.h>
#include <string.h>

enum {
	OCTAVO_F32_MAGNITUDE = 0x7FFFFFFF, /* all but the sign */
	OCTAVO_F32_INFINITY = 0x7F800000,  /* magnitudes above it are NaNs */
	OCTAVO_F32_NAN = 0x7FC00000,       /* the quiet one without payload */
};

enum {
	OCTAVO_E4M3_MANTISSA = 3,
	OCTAVO_E4M3_BIAS = 7,
	OCTAVO_FP8_NAN = 0x7F, /* less the sign; the only NaN of E4M3, the one of E5M2 that encoders give */
};

static inline uint32_t octavo_float_bits(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return bits;
}

static inline float octavo_bits_float(uint32_t bits)
{
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

static inline float octavo_bf16_float(uint16_t bits)
{
	return octavo_bits_float((uint32_t)bits << 16);
}

/* A magnitude in a narrower format, not rounded yet: its code is base + significand / 2^shift. */
struct octavo_unrounded {
	uint32_t base;        /* code of the binade's start, less the implicit bit that `significand` carries */
	uint32_t significand; /* below 2^24 */
	unsigned shift;       /* 23 - mantissa, more below the format's smallest normal number */
};

/* Cuts the bits of a magnitude that is not NaN for an 8-bit format with the given mantissa width and bias, as if
 * that format's exponents had no upper end.  A carry out of the rounded significand runs into the exponent, which
 * is right everywhere, also from the subnormals to the smallest normal number.  Zero and the subnormal floats
 * get an implicit bit that they do not have: they are so far below (a shift above 100) that it is lost. */
static inline struct octavo_unrounded octavo_unrounded(uint32_t magnitude, unsigned mantissa, unsigned bias)
{
	uint32_t lowest = 127 - bias + 1; /* F32 exponent field of the format's smallest normal number */
	uint32_t exponent = magnitude >> 23;
	uint32_t significand = (magnitude & 0x7FFFFF) | 0x800000;
	if (exponent < lowest)
		return (struct octavo_unrounded){0, significand, 23 - mantissa + (lowest - exponent)};
	return (struct octavo_unrounded){(exponent - lowest) << mantissa, significand, 23 - mantissa};
}

#endif
