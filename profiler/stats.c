/* SPDX-License-Identifier: Apache-2.0
 *
 * Order statistics and the bootstrap.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "octavo_profiler.h"

/* Resamples of the bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3, ask for
 * 1000 or more when percentiles are read off. */
enum { RESAMPLES = 2000 };

static int compare_doubles(const void *left, const void *right)
{
	const double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

/* The quantile q of sorted[count] with linear interpolation between ranks: type 7 of Hyndman and Fan, Sample
 * Quantiles in Statistical Packages (1996), the default of R and NumPy. */
static double quantile(const double *sorted, size_t count, double q)
{
	const double rank = q * (double)(count - 1);
	const size_t below = (size_t)rank;
	const size_t above = below + 1 < count ? below + 1 : below;

	return sorted[below] + (rank - (double)below) * (sorted[above] - sorted[below]);
}

static int all_finite(const double *x, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!isfinite(x[i]))
			return 0;
	return 1;
}

enum octavo_status octavo_summarise(const double *x, size_t count, struct octavo_summary *out)
{
	double *sorted; /* [count] */

	if (!x || !out || count == 0 || !all_finite(x, count))
		return OCTAVO_EINVAL;
	sorted = calloc(count, sizeof *sorted);
	if (!sorted)
		return OCTAVO_ENOMEM;
	memcpy(sorted, x, count * sizeof *sorted);
	qsort(sorted, count, sizeof *sorted, compare_doubles);
	*out = (struct octavo_summary){
	        .min = sorted[0],
	        .median = quantile(sorted, count, 0.5),
	        .max = sorted[count - 1],
	        .p25 = quantile(sorted, count, 0.25),
	        .p75 = quantile(sorted, count, 0.75),
	        .count = count,
	};
	free(sorted);
	return OCTAVO_OK;
}

/* SplitMix64: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators (2014). */
static uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* An index below count.  The bias is below count / 2^32, far under what 2000 resamples can show. */
static size_t random_index(uint64_t *state, size_t count)
{
	return (size_t)(((random_next(state) >> 32) * (uint64_t)count) >> 32);
}

static double resampled_ratio(const double *a, const double *b, size_t count, uint64_t *state)
{
	double sum_a = 0, sum_b = 0;

	for (size_t i = 0; i < count; i++) {
		const size_t pick = random_index(state, count);

		sum_a += a[pick];
		sum_b += b[pick];
	}
	return sum_a / sum_b;
}

enum octavo_status octavo_bootstrap_ratio(const double *a, const double *b, size_t count, uint64_t seed, double *ratio,
                                          double *lo, double *hi)
{
	double *resample; /* [RESAMPLES] */
	double sum_a = 0, sum_b = 0;

	if (!a || !b || !ratio || !lo || !hi || count == 0 || count > UINT32_MAX)
		return OCTAVO_EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (!isfinite(a[i]) || !isfinite(b[i]) || b[i] <= 0)
			return OCTAVO_EINVAL;
		sum_a += a[i];
		sum_b += b[i];
	}
	resample = calloc(RESAMPLES, sizeof *resample);
	if (!resample)
		return OCTAVO_ENOMEM;
	for (size_t i = 0; i < RESAMPLES; i++)
		resample[i] = resampled_ratio(a, b, count, &seed);
	qsort(resample, RESAMPLES, sizeof *resample, compare_doubles);
	*ratio = sum_a / sum_b;
	*lo = quantile(resample, RESAMPLES, 0.025);
	*hi = quantile(resample, RESAMPLES, 0.975);
	free(resample);
	return OCTAVO_OK;
}
