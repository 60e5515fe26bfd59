/* SPDX-License-Identifier: Apache-2.0
 *
 * Order statistics and the bootstrap.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "octavo_profiler.h"

static void summary_of_known_values(void **state)
{
	const double x[] = {7, 15, 36, 39, 40, 41}, even[] = {4, 1, 3, 2}, one[] = {-3};
	struct octavo_summary s;

	(void)state;
	/* R: quantile(c(7, 15, 36, 39, 40, 41)) gives 7.00 20.25 37.50 39.75 41.00 */
	assert_int_equal(octavo_summarise(x, 6, &s), OCTAVO_OK);
	assert_true(s.min == 7 && s.p25 == 20.25 && s.median == 37.5 && s.p75 == 39.75 && s.max == 41 && s.count == 6);
	assert_int_equal(octavo_summarise(even, 4, &s), OCTAVO_OK);
	assert_true(s.min == 1 && s.p25 == 1.75 && s.median == 2.5 && s.p75 == 3.25 && s.max == 4);
	assert_true(even[0] == 4 && even[3] == 2);
	assert_int_equal(octavo_summarise(one, 1, &s), OCTAVO_OK);
	assert_true(s.min == -3 && s.p25 == -3 && s.median == -3 && s.p75 == -3 && s.max == -3 && s.count == 1);
}

static void summary_refuses_what_has_no_order(void **state)
{
	const double nan[] = {1, NAN, 2}, infinite[] = {1, INFINITY};
	struct octavo_summary s;

	(void)state;
	assert_int_equal(octavo_summarise(nan, 0, &s), OCTAVO_EINVAL);
	assert_int_equal(octavo_summarise(nan, 3, &s), OCTAVO_EINVAL);
	assert_int_equal(octavo_summarise(infinite, 2, &s), OCTAVO_EINVAL);
	assert_int_equal(octavo_summarise(NULL, 2, &s), OCTAVO_EINVAL);
	assert_int_equal(octavo_summarise(nan, 1, NULL), OCTAVO_EINVAL);
	assert_int_equal(octavo_summarise(nan, SIZE_MAX, NULL), OCTAVO_EINVAL);
}

static void bootstrap_is_a_function_of_its_seed(void **state)
{
	const double a[] = {3, 1, 4, 1, 5, 9, 2, 6}, b[] = {2, 7, 1, 8, 2, 8, 1, 8};
	double ratio, lo, hi, ratio2, lo2, hi2;

	(void)state;
	assert_int_equal(octavo_bootstrap_ratio(a, b, 8, 1, &ratio, &lo, &hi), OCTAVO_OK);
	assert_int_equal(octavo_bootstrap_ratio(a, b, 8, 1, &ratio2, &lo2, &hi2), OCTAVO_OK);
	assert_true(ratio == 31.0 / 37.0);
	assert_true(lo < ratio && ratio < hi);
	assert_true(ratio == ratio2 && lo == lo2 && hi == hi2);
	assert_int_equal(octavo_bootstrap_ratio(a, b, 8, 2, &ratio2, &lo2, &hi2), OCTAVO_OK);
	assert_true(ratio == ratio2 && (lo != lo2 || hi != hi2));
}

static void bootstrap_of_a_constant_ratio_is_a_point(void **state)
{
	const double a[] = {2, 4, 8}, b[] = {1, 2, 4}, one_a[] = {3}, one_b[] = {4};
	double ratio, lo, hi;

	(void)state;
	assert_int_equal(octavo_bootstrap_ratio(a, b, 3, 7, &ratio, &lo, &hi), OCTAVO_OK);
	assert_true(ratio == 2 && lo == 2 && hi == 2);
	assert_int_equal(octavo_bootstrap_ratio(one_a, one_b, 1, 7, &ratio, &lo, &hi), OCTAVO_OK);
	assert_true(ratio == 0.75 && lo == 0.75 && hi == 0.75);
}

static void bootstrap_refuses_bad_items(void **state)
{
	const double good[] = {1, 2}, zero[] = {1, 0}, negative[] = {-1, 2}, nan[] = {NAN, 1};
	double ratio, lo, hi;

	(void)state;
	assert_int_equal(octavo_bootstrap_ratio(good, good, 0, 1, &ratio, &lo, &hi), OCTAVO_EINVAL);
	assert_int_equal(octavo_bootstrap_ratio(good, zero, 2, 1, &ratio, &lo, &hi), OCTAVO_EINVAL);
	assert_int_equal(octavo_bootstrap_ratio(good, negative, 2, 1, &ratio, &lo, &hi), OCTAVO_EINVAL);
	assert_int_equal(octavo_bootstrap_ratio(nan, good, 2, 1, &ratio, &lo, &hi), OCTAVO_EINVAL);
	assert_int_equal(octavo_bootstrap_ratio(good, nan, 2, 1, &ratio, &lo, &hi), OCTAVO_EINVAL);
	assert_int_equal(octavo_bootstrap_ratio(NULL, good, 2, 1, &ratio, &lo, &hi), OCTAVO_EINVAL);
	assert_int_equal(octavo_bootstrap_ratio(good, good, 2, 1, NULL, &lo, &hi), OCTAVO_EINVAL);
	assert_int_equal(octavo_bootstrap_ratio(zero, good, 2, 1, &ratio, &lo, &hi), OCTAVO_OK);
}

/* Uniform in [0, 1): the minimal standard generator of Park and Miller (1988), another one than the library's. */
static double uniform(uint32_t *state)
{
	*state = (uint32_t)((uint64_t)*state * 48271u % 2147483647u);
	return (double)*state / 2147483647.0;
}

/* Items with a true ratio of 1.5 and noise on both sides: 95 % intervals must hold it about 95 times in 100.  The
 * percentile bootstrap is a little short for 40 items; below 88 or above 99 something is wrong. */
static void bootstrap_covers_the_truth(void **state)
{
	enum { TRIALS = 300, ITEMS = 40 };
	uint32_t random = 20260101;
	unsigned covered = 0;

	(void)state;
	for (unsigned trial = 0; trial < TRIALS; trial++) {
		double a[ITEMS], b[ITEMS], ratio, lo, hi;

		for (unsigned i = 0; i < ITEMS; i++) {
			b[i] = 1 + 3 * uniform(&random);
			a[i] = 1.5 * b[i] + 2 * (uniform(&random) - 0.5);
		}
		assert_int_equal(octavo_bootstrap_ratio(a, b, ITEMS, trial, &ratio, &lo, &hi), OCTAVO_OK);
		assert_true(lo <= ratio && ratio <= hi);
		covered += lo <= 1.5 && 1.5 <= hi;
	}
	assert_in_range(covered, TRIALS * 88 / 100, TRIALS * 99 / 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(summary_of_known_values),
	        cmocka_unit_test(summary_refuses_what_has_no_order),
	        cmocka_unit_test(bootstrap_is_a_function_of_its_seed),
	        cmocka_unit_test(bootstrap_of_a_constant_ratio_is_a_point),
	        cmocka_unit_test(bootstrap_refuses_bad_items),
	        cmocka_unit_test(bootstrap_covers_the_truth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
