/* SPDX-License-Identifier: Apache-2.0
 *
 * Philox against its published vectors, and stochastic rounding: neighbours only, the right odds, no bias,
 * and codes that do not depend on how the array was cut.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <float.h>

#include "fp8/philox.h"
#include "octavo_fp8.h"
#include "tests/fp8_oracle.h"

/* The known answers of Random123 (kat_vectors, philox4x32 with 10 rounds). */
static void philox_known_answers(void **state)
{
	(void)state;
	static const struct {
		struct octavo_philox counter;
		uint64_t key;
		struct octavo_philox expected;
	} kat[] = {
	        {{{0, 0, 0, 0}}, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
	        {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
	         UINT64_C(0xffffffffffffffff),
	         {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
	        {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
	         UINT64_C(0x299f31d0a4093822), /* key words a4093822 299f31d0, the first one low */
	         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
	};
	for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
		struct octavo_philox actual = octavo_philox(kat[i].counter, kat[i].key);
		assert_memory_equal(actual.word, kat[i].expected.word, sizeof actual.word);
	}
}

/* The largest E4M3 magnitude code whose value is not above `magnitude`. */
static unsigned code_below(double magnitude)
{
	unsigned code = 0;
	while (code < 0x7E && format_value(&format_e4m3, code + 1) <= magnitude)
		code++;
	return code;
}

static void values_stay(void **state)
{
	(void)state;
	static const uint32_t random[] = {0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
	for (unsigned code = 0; code < 256; code++)
		for (size_t i = 0; i < sizeof random / sizeof *random; i++) {
			float x = octavo_e4m3_decode((uint8_t)code);
			assert_int_equal(octavo_e4m3_encode_stochastic(x, random[i]), code);
		}
}

static void saturates(void **state)
{
	(void)state;
	static const float beyond[] = {448.0f, 449.0f, 479.9f, 480.0f, 1e9f, FLT_MAX, INFINITY};
	for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++) {
		assert_int_equal(octavo_e4m3_encode_stochastic(beyond[i], 0), 0x7E);
		assert_int_equal(octavo_e4m3_encode_stochastic(-beyond[i], 0), 0xFE);
		assert_int_equal(octavo_e4m3_encode_stochastic(beyond[i], 0xFFFFFFFF), 0x7E);
	}
	assert_int_equal(octavo_e4m3_encode_stochastic(float_of(0x7F800001), 0), 0x7F);
	assert_int_equal(octavo_e4m3_encode_stochastic(float_of(0xFFC00000), 0), 0xFF);
}

/* The odds are exact: the upper neighbour for exactly the `random` below fraction * 2^32, where the fraction
 * is how far the magnitude has come from the lower neighbour to the upper one. */
static void threshold(const float x)
{
	double magnitude = fabs((double)x);
	unsigned below = code_below(magnitude), sign = signbit(x) ? 0x80 : 0;
	double low = format_value(&format_e4m3, below), high = format_value(&format_e4m3, below + 1);
	uint32_t limit = (uint32_t)floor((magnitude - low) / (high - low) * 0x1p32);
	assert_int_equal(octavo_e4m3_encode_stochastic(x, limit), below | sign);
	assert_int_equal(octavo_e4m3_encode_stochastic(x, 0xFFFFFFFF), below | sign);
	if (limit > 0) {
		assert_int_equal(octavo_e4m3_encode_stochastic(x, limit - 1), (below + 1) | sign);
		assert_int_equal(octavo_e4m3_encode_stochastic(x, 0), (below + 1) | sign);
	}
}

static void exact_odds(void **state)
{
	(void)state;
	uint64_t random = 4;
	for (int i = 0; i < 200000; i++)
		threshold(random_float(&random, -50, 8));
	for (unsigned code = 0; code < 0x7E; code++) {
		float value = octavo_e4m3_decode((uint8_t)code);
		threshold(nextafterf(value, INFINITY));
		threshold(nextafterf(octavo_e4m3_decode((uint8_t)(code + 1)), 0));
		threshold((float)format_midpoint(&format_e4m3, code));
	}
	threshold(FLT_TRUE_MIN);
	threshold(-FLT_MIN);
	assert_int_equal(octavo_e4m3_encode_stochastic(1.0625f, 0x7FFFFFFF), 0x39);
	assert_int_equal(octavo_e4m3_encode_stochastic(1.0625f, 0x80000000), 0x38);
}

/* Over n draws the mean of the rounded values has the standard deviation gap * sqrt(p (1 - p) / n), p being
 * the odds of the upper neighbour.  Five of them are the bound (odds 1 : 1.7 million for a true generator;
 * the seed is fixed, so the outcome is too). */
static void unbiased(void **state)
{
	(void)state;
	enum { N = 1 << 18 };
	static const float values[] = {1.01f, -1.03f, 1.0625f, 0.001f, -0.0001f, 300.5f, 447.0f, 0.015f, -3.3f};
	float *x = test_malloc(N * sizeof *x);
	uint8_t *code = test_malloc(N);
	for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
		for (size_t i = 0; i < N; i++)
			x[i] = values[v];
		octavo_e4m3_encode_stochastic_n(code, x, N, 20251001 + v, 0);
		double sum = 0, magnitude = fabs((double)values[v]);
		for (size_t i = 0; i < N; i++)
			sum += (double)octavo_e4m3_decode(code[i]);
		unsigned below = code_below(magnitude);
		double low = format_value(&format_e4m3, below), gap = format_value(&format_e4m3, below + 1) - low;
		double p = (magnitude - low) / gap;
		assert_true(fabs(sum / N - (double)values[v]) <= 5 * gap * sqrt(p * (1 - p) / N));
	}
	test_free(code);
	test_free(x);
}

/* All elements lie between 1 and 1.125, so that the codes show the random bits. */
static void fill_between(float *x, size_t count, uint64_t seed)
{
	for (size_t i = 0; i < count; i++)
		x[i] = 1 + 0.125f * (float)(random_bits(&seed) >> 40) * 0x1p-24f;
}

/* The stream is the one that the header states, so that a seed keeps its meaning. */
static void stated_stream(void **state)
{
	(void)state;
	enum { N = 64 };
	const uint64_t seed = UINT64_C(0x0123456789ABCDEF), first = (UINT64_C(5) << 34) + 2;
	static float x[N];
	static uint8_t code[N];
	fill_between(x, N, 12);
	octavo_e4m3_encode_stochastic_n(code, x, N, seed, first);
	for (size_t i = 0; i < N; i++) {
		uint64_t n = first + i;
		struct octavo_philox counter = {{(uint32_t)(n / 4), (uint32_t)(n / 4 >> 32), 0, 0xF8000000}};
		uint32_t random = octavo_philox(counter, seed).word[n % 4];
		assert_int_equal(code[i], octavo_e4m3_encode_stochastic(x[i], random));
	}
}

static void slicing(void **state)
{
	(void)state;
	enum { N = 1000 };
	/* One start is just before the counter's second word takes over, one before the index itself wraps. */
	static const uint64_t starts[] = {0, 1, 2, 3, (UINT64_C(1) << 34) - 501, UINT64_MAX - 500};
	static float x[N];
	static uint8_t whole[N], cut[N];
	fill_between(x, N, 5);
	uint64_t random = 6;
	for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
		octavo_e4m3_encode_stochastic_n(whole, x, N, 99, starts[s]);
		for (int repeat = 0; repeat < 20; repeat++) {
			memset(cut, 0xAA, N);
			for (size_t at = 0, count; at < N; at += count) {
				count = random_below(&random, 14);
				count = count < N - at ? count : N - at;
				octavo_e4m3_encode_stochastic_n(cut + at, x + at, count, 99, starts[s] + at);
			}
			assert_memory_equal(cut, whole, N);
		}
	}
}

/* Another seed or another start is another stream: half of the codes of a half-way value change. */
static void streams_differ(void **state)
{
	(void)state;
	enum { N = 4096 };
	static float x[N];
	static uint8_t base[N], other[N];
	static const struct {
		uint64_t seed, first;
	} streams[] = {{8, 0}, {7 + (UINT64_C(1) << 32), 0}, {7, N}, {7, 1}, {7, UINT64_C(1) << 34}};
	for (size_t i = 0; i < N; i++)
		x[i] = 1.0625f;
	octavo_e4m3_encode_stochastic_n(base, x, N, 7, 0);
	for (size_t s = 0; s < sizeof streams / sizeof *streams; s++) {
		octavo_e4m3_encode_stochastic_n(other, x, N, streams[s].seed, streams[s].first);
		int different = 0;
		for (size_t i = 0; i < N; i++)
			different += base[i] != other[i];
		assert_in_range(different, N / 2 - 5 * 32, N / 2 + 5 * 32); /* sqrt(N / 4) = 32 */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(philox_known_answers),
	        cmocka_unit_test(values_stay),
	        cmocka_unit_test(saturates),
	        cmocka_unit_test(exact_odds),
	        cmocka_unit_test(unbiased),
	        cmocka_unit_test(stated_stream),
	        cmocka_unit_test(slicing),
	        cmocka_unit_test(streams_differ),
	};
	return cmocka_run_group_tests_name("fp8, stochastic", tests, NULL, NULL);
}
