/* SPDX-License-Identifier: Apache-2.0
 *
 * The target's race against its definition: exponentials by the C library's logarithm, all tokens in turn.
 */
#include "fp8/philox.h"
#include "octavo_kernels.h"
#include "octavo_verify.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* 52 bits of token t in the middle of [0, 1)'s 2^-52ths. */
static double number_of(const struct octavo_stream *s, uint32_t position, uint32_t t)
{
	struct octavo_philox counter = { { position, (uint32_t)s->stream, (uint32_t)(s->stream >> 32),
		                           (uint32_t)OCTAVO_DRAW_TARGET << 24 | (64 * (t / 256) + t % 64) } };
	uint64_t bits = (uint64_t)octavo_philox(counter, s->seed).word[t / 64 % 4] << 32;
	counter.word[3] += (uint32_t)OCTAVO_DRAW_TARGET_REST << 24;
	bits |= octavo_philox(counter, s->seed).word[t / 64 % 4];
	return ((double)(bits >> 12) + 0.5) * 0x1p-52;
}

static double time_of(const struct octavo_stream *s, uint32_t position, uint32_t t, double mass)
{
	return -log1p(-number_of(s, position, t)) / mass;
}

/* A law of some shape: flat, steep, with holes, or with masses that are next to nothing. */
static void make_law(double *law, size_t n, uint32_t salt)
{
	struct octavo_stream s = { 77, salt };
	for (size_t i = 0; i < n; i++) {
		double u = octavo_draw(&s, (uint32_t)i, OCTAVO_DRAW_DRAFT, 0);
		const double shape[4] = { 1.0, exp(-30.0 * u), u < 0.02 ? u : 0.0, ldexp(u, -1000) };
		law[i] = shape[salt % 4];
	}
}

static void expect_race(const struct octavo_stream *s, uint32_t position, const double *law, size_t n, size_t count)
{
	enum { MOST = 16 };
	int32_t token[MOST], got[MOST];
	double time[MOST], seen[MOST];
	size_t have = 0;
	for (size_t i = 0; i < n; i++) {
		double mine = law[i] > 0.0 ? time_of(s, position, (uint32_t)i, law[i]) : INFINITY;
		size_t at = have;
		while (at && mine < time[at - 1])
			at--;
		if (!(law[i] > 0.0) || at == count)
			continue;
		size_t moved = (have < count ? have : count - 1) - at;
		memmove(token + at + 1, token + at, moved * sizeof *token);
		memmove(time + at + 1, time + at, moved * sizeof *time);
		token[at] = (int32_t)i;
		time[at] = mine;
		have += have < count;
	}
	assert_int_equal(octavo_race(s, position, law, n, count, got, seen), have);
	assert_memory_equal(got, token, have * sizeof *got);
	for (size_t i = 0; i < have; i++)
		assert_true(fabs(seen[i] / time[i] - 1.0) < 1e-14);
}

static void races_follow_their_definition(void **state)
{
	static const size_t lengths[] = { 1, 2, 63, 64, 65, 255, 256, 257, 1000, 4096, 129280 };
	double *law = malloc(129280 * sizeof *law);
	(void)state;
	for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
		for (uint32_t salt = 0; salt < (lengths[l] > 5000 ? 8 : 100); salt++) {
			struct octavo_stream s = { salt, 1ull << 40 | l };
			make_law(law, lengths[l], salt);
			for (size_t count = 1; count <= 16; count += count < 3 ? 1 : 13)
				expect_race(&s, 1000 * salt, law, lengths[l], count);
		}
	free(law);
}

static void nobody_wins_without_mass(void **state)
{
	const double none[3] = { 0 }, one[3] = { 0, 1e-300, 0 };
	struct octavo_stream s = { 1, 2 };
	int32_t token[4];
	double time[4];
	(void)state;
	assert_int_equal(octavo_race(&s, 0, none, 3, 1, token, time), 0);
	assert_int_equal(octavo_pick(&s, 0, OCTAVO_DRAW_TARGET, 0, none, 3), -1);
	assert_int_equal(octavo_race(&s, 0, one, 3, 4, token, time), 1);
	assert_int_equal(token[0], 1);
	assert_int_equal(octavo_race(&s, 0, one, 0, 4, token, time), 0);
	assert_int_equal(octavo_race(&s, 0, one, 3, 0, token, time), 0);
	assert_int_equal(octavo_race(NULL, 0, one, 3, 4, token, time), 0);
	assert_int_equal(octavo_race(&s, 0, NULL, 3, 4, token, time), 0);
	assert_int_equal(octavo_race(&s, 0, one, 3, 4, NULL, time), 0);
	assert_int_equal(octavo_race(&s, 0, one, 3, 4, token, NULL), 0);
}

/* The winner is a draw from the law, and so are winners at two positions together. */
static void winners_follow_the_law(void **state)
{
	enum { DRAWS = 200000 };
	const double law[5] = { 0.02, 0.5, 0.0, 0.18, 0.3 };
	size_t count[5][5] = { { 0 } };
	double chi = 0.0;
	(void)state;
	for (uint32_t i = 0; i < DRAWS; i++) {
		struct octavo_stream s = { 3, i / 500 };
		int32_t a = octavo_pick(&s, 2 * (i % 500), OCTAVO_DRAW_TARGET, 0, law, 5);
		int32_t b = octavo_pick(&s, 2 * (i % 500) + 1, OCTAVO_DRAW_TARGET, 0, law, 5);
		count[a][b]++;
	}
	for (size_t a = 0; a < 5; a++)
		for (size_t b = 0; b < 5; b++) {
			double expected = law[a] * law[b] * DRAWS, off = (double)count[a][b] - expected;
			chi += expected > 0.0 ? off * off / expected : off * off * 1e9;
		}
	if (!(chi < 44.26)) /* 99.99 % quantile for 15 degrees of freedom */
		fail_msg("chi-square %g", chi);
}

/* Over thousands of tokens: cells of some 40 tokens each. */
static void winners_follow_a_long_law(void **state)
{
	enum { N = 4001, DRAWS = 40000, CELLS = 101 };
	static double law[N], sum;
	static size_t count[CELLS];
	double expected[CELLS] = { 0 }, chi = 0.0;
	(void)state;
	for (size_t i = 0; i < N; i++)
		sum += law[i] = 1.0 / (double)(i * 37 % N + 20);
	for (size_t i = 0; i < N; i++)
		expected[i % CELLS] += law[i] / sum * DRAWS;
	for (uint32_t i = 0; i < DRAWS; i++)
		count[octavo_pick(&(struct octavo_stream){ 8, 1 }, i, OCTAVO_DRAW_TARGET, 0, law, N) % CELLS]++;
	for (size_t c = 0; c < CELLS; c++)
		chi += ((double)count[c] - expected[c]) * ((double)count[c] - expected[c]) / expected[c];
	if (!(chi < 161.3)) /* 99.99 % quantile for 100 degrees of freedom */
		fail_msg("chi-square %g", chi);
}

/* Two laws that run the same race win the same token at least as often as the bound says, and at most as often as any
 * two draws can; a third, equal one always does. */
static void like_laws_have_like_winners(void **state)
{
	enum { N = 300, RACES = 4000 };
	(void)state;
	for (uint32_t salt = 0; salt < 6; salt++) {
		double p[N], q[N], sum_p = 0.0, sum_q = 0.0, common = 0.0;
		size_t same = 0;
		for (size_t i = 0; i < N; i++) {
			struct octavo_stream s = { 5, salt };
			double u = octavo_draw(&s, (uint32_t)i, OCTAVO_DRAW_DRAFT, 0);
			double v = octavo_draw(&s, (uint32_t)i, OCTAVO_DRAW_DRAFT, 1);
			sum_p += p[i] = exp(8.0 * u);
			sum_q += q[i] = exp(8.0 * u + (2.0 * v - 1.0) * (double)salt / 2.0);
		}
		for (size_t i = 0; i < N; i++)
			common += fmin(p[i] / sum_p, q[i] / sum_q);
		for (uint32_t i = 0; i < RACES; i++) {
			struct octavo_stream s = { 6, salt };
			same += octavo_pick(&s, i, OCTAVO_DRAW_TARGET, 0, p, N) == octavo_pick(&s, i, OCTAVO_DRAW_TARGET, 0, q, N);
		}
		double rate = (double)same / RACES, slack = 4.0 * sqrt(0.25 / RACES);
		if (rate < common / (2.0 - common) - slack || rate > common + slack)
			fail_msg("salt %u: %g of the races, 1 - TV is %g", (unsigned)salt, rate, common);
		assert_true(salt || same == RACES);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(races_follow_their_definition), cmocka_unit_test(nobody_wins_without_mass),
		cmocka_unit_test(winners_follow_the_law),        cmocka_unit_test(winners_follow_a_long_law),
		cmocka_unit_test(like_laws_have_like_winners),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
