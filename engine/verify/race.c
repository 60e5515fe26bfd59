/* SPDX-License-Identifier: Apache-2.0
 *
 * A token as the winner of a race, in which every token has a number of its own.
 *
 * Laws are long and races are short: after a few tokens hardly any other can still be early enough, and the
 * leading bits of its number tell.  So these are made for many tokens at once, and all else for the few that they
 * leave.
 */
#include "octavo_verify.h"

#include "fp8/philox.h"
#include "kernels/fpenv.h"
#include "octavo_kernels.h"

#include <math.h>
#include <string.h>

enum { BLOCK = OCTAVO_NUMBERS, COUNTERS = BLOCK / 4 }; /* tokens that are looked at together */

static struct octavo_philox counter_of(const struct octavo_stream *s, uint32_t position, enum octavo_purpose purpose,
                                       size_t index)
{
	return (struct octavo_philox){ { position, (uint32_t)s->stream, (uint32_t)(s->stream >> 32),
		                             (uint32_t)purpose << 24 | (uint32_t)index } };
}

/* The numbers of tokens 256 * block and on: the words of 64 counters, the first word of each first. */
static void draw_block(const struct octavo_stream *s, uint32_t position, size_t block, uint32_t number[BLOCK])
{
	struct octavo_philox first = counter_of(s, position, OCTAVO_DRAW_TARGET, block * COUNTERS);
	octavo_kernels_get()->numbers->run(number, first.word, s->seed);
}

/* -log(x) for x in (0, 1), by the series of the inverse hyperbolic tangent: C libraries differ in their logarithms, and
 * the same numbers must give the same tokens everywhere. */
static double minus_log(double x)
{
	int exponent;
	double m = frexp(x, &exponent); /* in [0.5, 1) */
	if (m < 0x1.6a09e667f3bcdp-1) { /* the root of 1/2 */
		m *= 2.0;
		exponent--;
	}
	double s = (m - 1.0) / (m + 1.0), z = s * s, sum = 0.0;
	for (int i = 10; i >= 0; i--)
		sum = sum * z + 1.0 / (2 * i + 1);
	return -(2.0 * s * sum) - exponent * 0x1.62e42fefa39efp-1; /* log 2 */
}

/* The exponential of a token: -log(1 - v) with v its number of 52 bits, which stand in the middle of what they
 * mean.  It is no less than v. */
static double exponential(const struct octavo_stream *s, uint32_t position, size_t token, uint32_t number)
{
	struct octavo_philox counter =
		counter_of(s, position, OCTAVO_DRAW_TARGET_REST, token / BLOCK * COUNTERS + token % COUNTERS);
	struct octavo_philox rest = octavo_philox(counter, s->seed);
	uint64_t bits = (uint64_t)number << 20 | rest.word[token / COUNTERS % 4] >> 12;
	return minus_log((double)((UINT64_C(1) << 53) - 2 * bits - 1) * 0x1p-53);
}

static double heaviest(const double law[BLOCK])
{
	double most[4] = { 0.0 };
	for (size_t at = 0; at < BLOCK; at += 4)
		for (size_t i = 0; i < 4; i++)
			most[i] = law[at + i] > most[i] ? law[at + i] : most[i];
	for (size_t i = 1; i < 4; i++)
		most[0] = most[i] > most[0] ? most[i] : most[0];
	return most[0];
}

static uint32_t smallest(const uint32_t number[BLOCK])
{
	uint32_t least[8];
	memcpy(least, number, sizeof least);
	for (size_t at = 8; at < BLOCK; at += 8)
		for (size_t i = 0; i < 8; i++)
			least[i] = number[at + i] < least[i] ? number[at + i] : least[i];
	for (size_t i = 1; i < 8; i++)
		least[0] = least[i] < least[0] ? least[i] : least[0];
	return least[0];
}

/* Whether a token's number leaves it a chance of coming before `latest`; 1 for some that have none. */
static int may_be_early(uint32_t number, double law, double latest)
{
	return (double)number * 0x1p-32 <= latest * law;
}

struct race {
	size_t count, have;
	int32_t *token; /* [count] in order of arrival */
	double *time;   /* [count] */
};

/* A token comes behind those that were there before it or at the same time. */
static void arrive(struct race *r, int32_t token, double time)
{
	if (r->have == r->count && !(time < r->time[r->count - 1]))
		return;
	size_t at = r->have < r->count ? r->have++ : r->count - 1;
	for (; at && time < r->time[at - 1]; at--) {
		r->token[at] = r->token[at - 1];
		r->time[at] = r->time[at - 1];
	}
	r->token[at] = token;
	r->time[at] = time;
}

/* What a token must not be later than to be among the first, and a little more: the products that it is compared with
 * are rounded. */
static double latest(const struct race *r)
{
	return r->have < r->count ? INFINITY : r->time[r->count - 1] * (1.0 + 0x1p-40);
}

static void run_block(struct race *r, const struct octavo_stream *s, uint32_t position, const double law[BLOCK],
                      size_t block)
{
	uint32_t number[BLOCK];
	double most = heaviest(law);
	if (!(most > 0.0))
		return;
	draw_block(s, position, block, number);
	if (r->have == r->count && !may_be_early(smallest(number), most, latest(r)))
		return;
	for (size_t i = 0; i < BLOCK; i++)
		if (law[i] > 0.0 && may_be_early(number[i], law[i], latest(r))) {
			size_t token = block * BLOCK + i;
			arrive(r, (int32_t)token, exponential(s, position, token, number[i]) / law[i]);
		}
}

size_t octavo_race(const struct octavo_stream *stream, uint32_t position, const double *law, size_t n, size_t count,
                   int32_t *token, double *time)
{
	struct race race = { .count = count, .token = token, .time = time };
	if (!stream || !law || !token || !time || !count)
		return 0;
	octavo_fpenv saved = octavo_fpenv_enter();
	for (size_t block = 0; block < n / BLOCK; block++)
		run_block(&race, stream, position, law + block * BLOCK, block);
	if (n % BLOCK) {
		double rest[BLOCK] = { 0.0 };
		memcpy(rest, law + n - n % BLOCK, n % BLOCK * sizeof *rest);
		run_block(&race, stream, position, rest, n / BLOCK);
	}
	octavo_fpenv_leave(saved);
	return race.have;
}
