/* SPDX-License-Identifier: Apache-2.0
 *
 * The number formats by their definition, in ldexp arithmetic on doubles: what the tests hold the library's
 * bit tricks against.  And a small generator with a seed, so that every run tests the same numbers.
 */
#ifndef OCTAVO_TESTS_FP8_ORACLE_H
#define OCTAVO_TESTS_FP8_ORACLE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

struct format {
	const char *name;
	unsigned mantissa; /* bits */
	int bias;
	unsigned finite; /* the magnitude codes 0 .. finite-1 are the finite ones */
};

static const struct format format_e4m3 = {"E4M3", 3, 7, 0x7F};
static const struct format format_e5m2 = {"E5M2", 2, 15, 0x7C};
static const struct format format_bf16 = {"BF16", 7, 127, 0x7F80};
static const struct format format_f16 = {"F16", 10, 15, 0x7C00};

/* The value of a code without its sign; for code `finite`, the value that would follow the largest one. */
static inline double format_value(const struct format *f, unsigned code)
{
	unsigned exponent = code >> f->mantissa, one = 1u << f->mantissa, fraction = code & (one - 1);
	if (exponent == 0)
		return ldexp(fraction, 1 - f->bias - (int)f->mantissa);
	return ldexp(one + fraction, (int)exponent - f->bias - (int)f->mantissa);
}

/* The midpoint between a code's value and the next one's; exact in a double, and in a float. */
static inline double format_midpoint(const struct format *f, unsigned code)
{
	return (format_value(f, code) + format_value(f, code + 1)) / 2;
}

/* Whether a magnitude rounds to something above `code`, whose midpoint with the next is given. */
static inline int rounds_above(unsigned code, double midpoint, double magnitude)
{
	return magnitude > midpoint || (magnitude == midpoint && code % 2 == 1);
}

/* The code that a magnitude rounds to, ties to even; `finite` if it rounds beyond the largest. */
static inline unsigned format_nearest(const struct format *f, double magnitude)
{
	unsigned low = 0, high = f->finite;
	while (low < high) {
		unsigned middle = (low + high) / 2;
		if (rounds_above(middle, format_midpoint(f, middle), magnitude))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static inline float float_of(uint32_t bits)
{
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

static inline uint32_t bits_of(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return bits;
}

/* SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). */
static inline uint64_t random_bits(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

/* In [0, n). */
static inline size_t random_below(uint64_t *state, size_t n)
{
	return (size_t)(random_bits(state) % n);
}

/* Either sign, exponent uniform in [low, high). */
static inline float random_float(uint64_t *state, int low, int high)
{
	double fraction = 1 + (double)(random_bits(state) >> 40) * 0x1p-24;
	double sign = random_bits(state) % 2 ? -1 : 1;
	return (float)(sign * ldexp(fraction, low + (int)random_below(state, (size_t)(high - low))));
}

#endif
