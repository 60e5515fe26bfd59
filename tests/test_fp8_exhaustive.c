/* SPDX-License-Identifier: Apache-2.0
 *
 * The encoders against the formats' definitions, over the floats themselves.  The check knows nothing of
 * bits: it walks up the magnitudes and counts the midpoints passed, in double precision.
 *
 * With OCTAVO_EXHAUSTIVE set in the environment every one of the 2^32 floats is encoded by every encoder;
 * without, those around every value and every midpoint of the format, and a stride through all the rest.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "octavo_fp8.h"
#include "tests/fp8_oracle.h"

enum {
	INFINITY_BITS = 0x7F800000,
	LAST_MAGNITUDE = 0x7FFFFFFF,
	STRIDE = 251,    /* odd, so that low bits of all patterns occur */
	WINDOW = 32,     /* floats on either side of a value or midpoint */
	SLICE = 1 << 22, /* magnitudes that one thread takes at a time */
};

struct encoder {
	const struct format *format;
	unsigned (*encode)(float x);
	unsigned overflow; /* the code of what rounds beyond the largest finite value */
	unsigned sign;
};

static unsigned e4m3(float x)
{
	return octavo_e4m3_encode(x);
}

static unsigned e4m3_sat(float x)
{
	return octavo_e4m3_encode_sat(x);
}

static unsigned e5m2(float x)
{
	return octavo_e5m2_encode(x);
}

static unsigned e5m2_sat(float x)
{
	return octavo_e5m2_encode_sat(x);
}

static unsigned bf16(float x)
{
	return octavo_bf16_encode(x);
}

/* The encoder under test with its midpoints: [format->finite], ascending. */
struct walk {
	const struct encoder *encoder;
	const double *midpoint;
};

/* Encodes the magnitudes low, low + step, ... up to high, with both signs; returns how many codes are wrong. */
static uint64_t check_range(const struct walk *w, uint32_t low, uint32_t high, uint32_t step)
{
	const struct encoder *e = w->encoder;
	unsigned finite = e->format->finite, code = format_nearest(e->format, (double)float_of(low));
	uint64_t wrong = 0;
	for (uint64_t bits = low; bits <= high; bits += step) {
		float x = float_of((uint32_t)bits);
		while (code < finite && rounds_above(code, w->midpoint[code], (double)x))
			code++;
		unsigned expected = code < finite ? code : e->overflow;
		wrong += (e->encode(x) != expected) + (e->encode(-x) != (expected | e->sign));
	}
	return wrong;
}

static int whole(void)
{
	return getenv("OCTAVO_EXHAUSTIVE") != NULL;
}

static uint64_t check_slices(const struct walk *w, uint32_t step)
{
	uint64_t wrong = 0;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic) reduction(+ : wrong)
#endif
	for (uint32_t slice = 0; slice <= INFINITY_BITS / SLICE; slice++) {
		uint32_t low = slice * SLICE, last = low + (SLICE - 1);
		wrong += check_range(w, low, last < INFINITY_BITS ? last : INFINITY_BITS, step);
	}
	return wrong;
}

static uint64_t check_window(const struct walk *w, double center)
{
	uint32_t bits = bits_of((float)center);
	uint32_t low = bits > WINDOW ? bits - WINDOW : 0, high = bits + WINDOW;
	return check_range(w, low, high < INFINITY_BITS ? high : INFINITY_BITS, 1);
}

static void encode_all(void **state)
{
	const struct encoder *e = *state;
	unsigned finite = e->format->finite;
	double *midpoint = test_malloc(finite * sizeof *midpoint);
	struct walk w = {e, midpoint};
	for (unsigned code = 0; code < finite; code++)
		midpoint[code] = format_midpoint(e->format, code);
	assert_int_equal(check_slices(&w, whole() ? 1 : STRIDE), 0);
	for (unsigned code = 0; code < finite; code++) {
		assert_int_equal(check_window(&w, format_value(e->format, code)), 0);
		assert_int_equal(check_window(&w, midpoint[code]), 0);
	}
	test_free(midpoint);
}

/* NaNs of all payloads stay NaNs with their sign. */
static void encode_nans(void **state)
{
	const struct encoder *e = *state;
	unsigned largest_not_nan = e->format == &format_e4m3 ? e->format->finite - 1 : e->format->finite;
	uint64_t wrong = 0;
	uint32_t step = whole() ? 1 : STRIDE;
	for (uint32_t bits = INFINITY_BITS + 1; bits <= LAST_MAGNITUDE; bits += step) {
		unsigned positive = e->encode(float_of(bits)), negative = e->encode(float_of(bits | 0x80000000));
		wrong += positive <= largest_not_nan || positive >= e->sign;
		wrong += negative != (positive | e->sign);
	}
	assert_int_equal(wrong, 0);
}

/* The smallest power of two that is no smaller, by frexp. */
static unsigned power_above(float x)
{
	int exponent;
	if (frexpf(x, &exponent) == 0.5f)
		exponent--;
	int code = exponent + 127;
	return (unsigned)(code < 1 ? 1 : code > 254 ? 254 : code);
}

static void encode_powers(void **state)
{
	(void)state;
	uint64_t wrong = 0;
	uint32_t step = whole() ? 1 : STRIDE;
#ifdef _OPENMP
#pragma omp parallel for reduction(+ : wrong)
#endif
	for (uint32_t bits = 1; bits < INFINITY_BITS; bits += step)
		wrong += octavo_e8m0_encode_up(float_of(bits)) != power_above(float_of(bits));
	assert_int_equal(wrong, 0);
	for (uint32_t exponent = 1; exponent < 255; exponent++) /* all the steps, which the stride may miss */
		for (uint32_t bits = (exponent << 23) - WINDOW; bits <= (exponent << 23) + WINDOW; bits++)
			assert_int_equal(octavo_e8m0_encode_up(float_of(bits)), power_above(float_of(bits)));
}

int main(void)
{
	static struct encoder encoders[] = {
	        {&format_e4m3, e4m3, 0x7F, 0x80},     {&format_e4m3, e4m3_sat, 0x7E, 0x80},
	        {&format_e5m2, e5m2, 0x7C, 0x80},     {&format_e5m2, e5m2_sat, 0x7B, 0x80},
	        {&format_bf16, bf16, 0x7F80, 0x8000},
	};
	const struct CMUnitTest tests[] = {
	        {"e4m3", encode_all, NULL, NULL, &encoders[0]},
	        {"e4m3_sat", encode_all, NULL, NULL, &encoders[1]},
	        {"e5m2", encode_all, NULL, NULL, &encoders[2]},
	        {"e5m2_sat", encode_all, NULL, NULL, &encoders[3]},
	        {"bf16", encode_all, NULL, NULL, &encoders[4]},
	        {"e4m3_nan", encode_nans, NULL, NULL, &encoders[0]},
	        {"e4m3_sat_nan", encode_nans, NULL, NULL, &encoders[1]},
	        {"e5m2_nan", encode_nans, NULL, NULL, &encoders[2]},
	        {"e5m2_sat_nan", encode_nans, NULL, NULL, &encoders[3]},
	        {"bf16_nan", encode_nans, NULL, NULL, &encoders[4]},
	        {"e8m0_up", encode_powers, NULL, NULL, NULL},
	};
	return cmocka_run_group_tests_name(whole() ? "fp8, every float" : "fp8, sampled floats", tests, NULL, NULL);
}
