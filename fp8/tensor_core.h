/* SPDX-License-Identifier: Apache-2.0
 *
 * One step of the tensor-core model of octavo_fp8.h, in floating point: a product of two FP8 values is exact in F32,
 * scaling by a power of two is, and conversion to an integer cuts off towards zero.
 */
#ifndef OCTAVO_TENSOR_CORE_H
#define OCTAVO_TENSOR_CORE_H

#include "octavo_fp8.h"

#include "fp8/bits.h"

#define OCTAVO_MMA 32 /* the largest group */

enum {
	/* Instead of the exponents of zero and of what is not finite: a sum of two tells the one from the other. */
	OCTAVO_EXPONENT_ZERO = -0x1000,
	OCTAVO_EXPONENT_SPECIAL = 0x3000,
	OCTAVO_EXPONENT_LARGEST = 0x800, /* above it something is special; below its negative all products are zero */
};

/* A group of decoded codes, zeros behind the last. */
struct octavo_operand {
	float value[OCTAVO_MMA];
	int16_t exponent[OCTAVO_MMA];
};

/* floor(log2 |x|) of a normal x, not below `least`. */
static inline int16_t octavo_binade(float x, int least)
{
	int field = (int)(octavo_float_bits(x) >> 23 & 0xFF), exponent = field - 127;
	if (field == 0xFF)
		return OCTAVO_EXPONENT_SPECIAL;
	if (x == 0.0f)
		return OCTAVO_EXPONENT_ZERO;
	return (int16_t)(exponent < least ? least : exponent);
}

static inline float octavo_power_of_two(int exponent)
{
	return octavo_bits_float((uint32_t)(exponent + 127) << 23);
}

/* c + products, with `fraction` bits. */
static inline float octavo_tensor_core_add(unsigned fraction, float c, const struct octavo_operand *a,
                                           const struct octavo_operand *b)
{
	int16_t largest = octavo_binade(c, -127);
	int32_t sum = 0;

	for (int i = 0; i < OCTAVO_MMA; i++) {
		int16_t exponent = (int16_t)(a->exponent[i] + b->exponent[i]);
		largest = exponent > largest ? exponent : largest;
	}
	if (largest < -OCTAVO_EXPONENT_LARGEST) /* zeros all */
		return 0.0f;
	if (largest > OCTAVO_EXPONENT_LARGEST) {
		for (int i = 0; i < OCTAVO_MMA; i++)
			c = c + a->value[i] * b->value[i];
		return c;
	}
	float unit = octavo_power_of_two((int)fraction - largest);
	for (int i = 0; i < OCTAVO_MMA; i++)
		sum += (int32_t)(a->value[i] * b->value[i] * unit);
	sum += (int32_t)(c * unit);
	/* |sum| < 2^31 still; what is behind its leading fraction + 1 bits goes, towards zero. */
	uint32_t magnitude = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
	int excess = (magnitude ? 32 - __builtin_clz(magnitude) : 0) - (int)fraction - 1;
	if (excess > 0)
		magnitude = magnitude >> excess << excess;
	float value = (float)magnitude * octavo_power_of_two(largest - (int)fraction);
	return sum < 0 ? -value : value;
}

#endif
