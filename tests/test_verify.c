/* SPDX-License-Identifier: Apache-2.0
 *
 * Random numbers, laws and acceptance: the pure functions of octavo_verify.h against definitions written out here.
 */
#include "octavo_verify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fenv.h>
#include <math.h>
#include <string.h>

/* ---- Random numbers ------------------------------------------------------------------------------------------- */

static void draws_are_keyed(void **state)
{
	(void)state;
	struct octavo_stream s = { 42, 7 };
	double u = octavo_draw(&s, 100, OCTAVO_DRAW_TARGET, 0);
	assert_true(u >= 0.0 && u < 1.0);
	assert_true(u == octavo_draw(&s, 100, OCTAVO_DRAW_TARGET, 0));
	/* Every part of the counter and the key matters. */
	assert_true(u != octavo_draw(&s, 101, OCTAVO_DRAW_TARGET, 0));
	assert_true(u != octavo_draw(&s, 100, OCTAVO_DRAW_DRAFT, 0));
	assert_true(u != octavo_draw(&s, 100, OCTAVO_DRAW_TARGET, 1));
	assert_true(u != octavo_draw(&(struct octavo_stream){ 43, 7 }, 100, OCTAVO_DRAW_TARGET, 0));
	assert_true(u != octavo_draw(&(struct octavo_stream){ 42, 8 }, 100, OCTAVO_DRAW_TARGET, 0));
	assert_true(u != octavo_draw(&(struct octavo_stream){ 42, 7 + (1ull << 32) }, 100, OCTAVO_DRAW_TARGET, 0));
}

/* Chi-square over 64 cells; 99.99 % quantile for 63 degrees of freedom is 113.1. */
static void draws_are_uniform(void **state)
{
	(void)state;
	enum { CELLS = 64, DRAWS = 64000 };
	size_t count[CELLS] = { 0 };
	struct octavo_stream s = { 1, 2 };
	double chi = 0.0, expected = (double)DRAWS / CELLS;
	for (uint32_t i = 0; i < DRAWS; i++)
		count[(size_t)(octavo_draw(&s, i, OCTAVO_DRAW_TARGET, 0) * CELLS)]++;
	for (size_t i = 0; i < CELLS; i++)
		chi += ((double)count[i] - expected) * ((double)count[i] - expected) / expected;
	if (!(chi < 113.1))
		fail_msg("chi-square %g", chi);
}

/* ---- Laws ------------------------------------------------------------------------------------------------------- */

enum { V = 6 };
static const float logits[V] = { 1.0f, 3.0f, -2.0f, 3.0f, 0.5f, 2.0f };

static void expect_law(const struct octavo_sampling *s, const int keep[V])
{
	double law[V], total = 0.0;
	uint32_t order[V];
	assert_int_equal(octavo_law(s, NULL, logits, V, law, order), OCTAVO_OK);
	for (int i = 0; i < V; i++)
		total += keep[i] ? exp((double)logits[i] / (double)s->temperature) : 0.0;
	for (int i = 0; i < V; i++) {
		double p = keep[i] ? exp((double)logits[i] / (double)s->temperature) / total : 0.0;
		if (!(fabs(law[i] - p) < 1e-6) || (!keep[i] && law[i] != 0.0))
			fail_msg("token %d: %g instead of %g", i, law[i], p);
	}
}

static void law_is_softmax(void **state)
{
	(void)state;
	const int all[V] = { 1, 1, 1, 1, 1, 1 };
	for (float t = 0.25f; t < 5.0f; t *= 2.0f)
		expect_law(&(struct octavo_sampling){ .temperature = t }, all);
}

static void law_is_truncated(void **state)
{
	(void)state;
	/* At temperature 1 the masses are about .38 (1, 3), .14 (5), .05 (0), .03 (4), .003 (2). */
	expect_law(&(struct octavo_sampling){ .temperature = 1, .top_k = 1 }, (const int[V]){ 0, 1, 0, 0, 0, 0 });
	expect_law(&(struct octavo_sampling){ .temperature = 1, .top_k = 3 }, (const int[V]){ 0, 1, 0, 1, 0, 1 });
	expect_law(&(struct octavo_sampling){ .temperature = 1, .top_k = 99 }, (const int[V]){ 1, 1, 1, 1, 1, 1 });
	expect_law(&(struct octavo_sampling){ .temperature = 1, .top_p = 0.3f }, (const int[V]){ 0, 1, 0, 0, 0, 0 });
	expect_law(&(struct octavo_sampling){ .temperature = 1, .top_p = 0.7f }, (const int[V]){ 0, 1, 0, 1, 0, 0 });
	expect_law(&(struct octavo_sampling){ .temperature = 1, .top_p = 0.8f }, (const int[V]){ 0, 1, 0, 1, 0, 1 });
	expect_law(&(struct octavo_sampling){ .temperature = 1, .top_p = 1.0f }, (const int[V]){ 1, 1, 1, 1, 1, 1 });
	/* top-p counts within what top-k leaves: .5, .5 */
	expect_law(&(struct octavo_sampling){ .temperature = 1, .top_k = 2, .top_p = 0.45f }, (const int[V]){ 0, 1, 0, 0, 0, 0 });
	expect_law(&(struct octavo_sampling){ .temperature = 1, .top_k = 2, .top_p = 0.55f }, (const int[V]){ 0, 1, 0, 1, 0, 0 });
	expect_law(&(struct octavo_sampling){ .temperature = 1, .min_p = 0.3f }, (const int[V]){ 0, 1, 0, 1, 0, 1 });
	expect_law(&(struct octavo_sampling){ .temperature = 1, .min_p = 0.5f }, (const int[V]){ 0, 1, 0, 1, 0, 0 });
}

/* Bias, repetition, frequency, presence, in this order, on the row's own prefix; by the formulas of the header. */
static void prefixes_are_penalised(void **state)
{
	(void)state;
	/* Prompt 1 1 2, then 3 and the root 5; in the draft 5 -> 0 -> 3 beside 5 -> 4. */
	const int32_t committed[5] = { 1, 1, 2, 3, 5 }, token[4] = { 5, 0, 4, 3 }, parent[4] = { -1, 0, 0, 1 };
	const struct octavo_draft draft = { 4, token, parent };
	static const struct { size_t row; int after[V], seen[V]; } rows[] = {
		{ 0, { 0, 0, 0, 1, 0, 1 }, { 0, 1, 1, 1, 0, 1 } },
		{ 1, { 1, 0, 0, 1, 0, 1 }, { 1, 1, 1, 1, 0, 1 } },
		{ 2, { 0, 0, 0, 1, 1, 1 }, { 0, 1, 1, 1, 1, 1 } },
		{ 3, { 1, 0, 0, 2, 0, 1 }, { 1, 1, 1, 1, 0, 1 } },
	};
	const struct octavo_bias bias[2] = { { 4, -3.0f }, { 0, 0.25f } };
	const struct octavo_sampling s = { .temperature = 0.5f, .repetition = 1.5f, .frequency = 0.25f, .presence = -0.5f,
		                           .bias = bias, .biases = 2 };
	for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
		const struct octavo_prefix prefix = { committed, 5, 3, &draft, rows[r].row };
		double law[V], want[V], total = 0.0;
		uint32_t order[V];
		assert_int_equal(octavo_law(&s, &prefix, logits, V, law, order), OCTAVO_OK);
		for (int i = 0; i < V; i++) {
			double x = (double)logits[i] + (i == 4 ? -3.0 : i == 0 ? 0.25 : 0.0);
			if (rows[r].seen[i])
				x = x > 0.0 ? x / 1.5 : x * 1.5;
			x -= 0.25 * rows[r].after[i] - (rows[r].after[i] ? 0.5 : 0.0);
			total += want[i] = exp(x / 0.5);
		}
		for (int i = 0; i < V; i++)
			if (!(fabs(law[i] - want[i] / total) < 1e-6))
				fail_msg("row %zu, token %d: %g instead of %g", rows[r].row, i, law[i], want[i] / total);
	}
}

/* The law of a drafted row is that of plain decoding once its path is committed. */
static void a_path_counts_as_committed(void **state)
{
	(void)state;
	const int32_t token[3] = { 5, 3, 3 }, parent[3] = { -1, 0, 1 }, all[5] = { 1, 2, 5, 3, 3 };
	const struct octavo_draft draft = { 3, token, parent };
	const struct octavo_sampling s = { .temperature = 0.7f, .repetition = 0.9f, .frequency = 0.3f, .presence = 0.1f };
	double law[V], plain[V];
	uint32_t order[V];
	for (size_t row = 0; row < 3; row++) {
		const struct octavo_prefix drafted = { all, 3, 2, &draft, row }, committed = { all, 3 + row, 2, NULL, 0 };
		assert_int_equal(octavo_law(&s, &drafted, logits, V, law, order), OCTAVO_OK);
		assert_int_equal(octavo_law(&s, &committed, logits, V, plain, order), OCTAVO_OK);
		assert_memory_equal(law, plain, sizeof law);
	}
}

static void greedy_is_penalised_too(void **state)
{
	(void)state;
	const int32_t committed[2] = { 1, 3 };
	const struct octavo_prefix prefix = { committed, 2, 0, NULL, 0 };
	const struct octavo_sampling s = { .presence = 5.0f };
	const struct octavo_bias ban = { 1, -INFINITY }, beyond = { V, 1.0f }, all[2] = { { 0, -INFINITY }, { 1, -INFINITY } };
	double law[V];
	uint32_t order[V];
	assert_int_equal(octavo_law(&s, &prefix, logits, V, law, order), OCTAVO_OK);
	assert_true(law[5] == 1.0); /* 1 and 3 are the best, but were said */
	assert_int_equal(octavo_law(&(struct octavo_sampling){ .bias = &ban, .biases = 1 }, NULL, logits, V, law, NULL),
	                 OCTAVO_OK);
	assert_true(law[3] == 1.0);
	assert_int_equal(octavo_law(&(struct octavo_sampling){ .bias = &beyond, .biases = 1 }, NULL, logits, V, law, NULL),
	                 OCTAVO_EINVAL);
	assert_int_equal(octavo_law(&(struct octavo_sampling){ .bias = all, .biases = 2 }, NULL, logits, 2, law, NULL),
	                 OCTAVO_ENUMERIC); /* nothing left */
	assert_int_equal(octavo_law(&s, NULL, logits, V, law, order), OCTAVO_EINVAL);
	assert_int_equal(octavo_law(&s, &prefix, logits, V, law, NULL), OCTAVO_EINVAL);
}

/* The caller's rounding mode has no say in a law. */
static void law_has_its_own_rounding(void **state)
{
	(void)state;
	const struct octavo_sampling s = { .temperature = 0.7f, .top_p = 0.9f };
	double nearest[V], upward[V];
	uint32_t order[V];
	assert_int_equal(octavo_law(&s, NULL, logits, V, nearest, order), OCTAVO_OK);
	fesetround(FE_UPWARD);
	assert_int_equal(octavo_law(&s, NULL, logits, V, upward, order), OCTAVO_OK);
	fesetround(FE_TONEAREST);
	assert_memory_equal(nearest, upward, sizeof nearest);
}

static void greedy_takes_the_lowest(void **state)
{
	(void)state;
	double law[V];
	struct octavo_sampling greedy = { 0 };
	assert_int_equal(octavo_argmax(logits, V), 1);
	assert_int_equal(octavo_law(&greedy, NULL, logits, V, law, NULL), OCTAVO_OK);
	for (int i = 0; i < V; i++)
		assert_true(law[i] == (i == 1));
}

static void bad_logits_are_refused(void **state)
{
	(void)state;
	double law[3];
	const struct octavo_sampling s = { .temperature = 1 }, greedy = { 0 };
	const float nan[3] = { 0, NAN, 0 }, hot[3] = { 0, INFINITY, 0 };
	const float none[3] = { -INFINITY, -INFINITY, -INFINITY }, masked[3] = { -INFINITY, 0, -INFINITY };
	assert_int_equal(octavo_argmax(nan, 3), -1);
	assert_int_equal(octavo_law(&s, NULL, nan, 3, law, NULL), OCTAVO_ENUMERIC);
	assert_int_equal(octavo_law(&greedy, NULL, nan, 3, law, NULL), OCTAVO_ENUMERIC);
	assert_int_equal(octavo_law(&s, NULL, hot, 3, law, NULL), OCTAVO_ENUMERIC);
	assert_int_equal(octavo_law(&s, NULL, none, 3, law, NULL), OCTAVO_ENUMERIC);
	assert_int_equal(octavo_law(&s, NULL, masked, 3, law, NULL), OCTAVO_OK);
	assert_true(law[0] == 0.0 && law[1] == 1.0 && law[2] == 0.0);
	assert_int_equal(octavo_law(&(struct octavo_sampling){ .temperature = 1, .top_k = 1 }, NULL, masked, 3, law, NULL),
	                 OCTAVO_EINVAL);
}

static void quantile_walks_the_law(void **state)
{
	(void)state;
	const double law[5] = { 0, 1, 0, 2, 1 }; /* unnormalised: 1/4, 1/2, 1/4 */
	assert_int_equal(octavo_quantile(law, 5, 0.0), 1);
	assert_int_equal(octavo_quantile(law, 5, 0.2499), 1);
	assert_int_equal(octavo_quantile(law, 5, 0.25), 3);
	assert_int_equal(octavo_quantile(law, 5, 0.7499), 3);
	assert_int_equal(octavo_quantile(law, 5, 0.75), 4);
	assert_int_equal(octavo_quantile(law, 5, 1.0 - 0x1p-53), 4);
	const double tail[3] = { 1, 1, 0 };
	assert_int_equal(octavo_quantile(tail, 3, 1.0 - 0x1p-53), 1); /* never a token of zero mass */
	assert_int_equal(octavo_quantile((const double[2]){ 0, 0 }, 2, 0.5), -1);
}

static void parameters_are_checked(void **state)
{
	(void)state;
	static const struct octavo_bias hot = { 1, INFINITY }, negative = { -1, 0.0f };
	static const struct {
		struct octavo_sampling s;
		const char *field;
	} bad[] = {
		{ { .temperature = -1 }, "temperature" },   { { .temperature = NAN }, "temperature" },
		{ { .temperature = INFINITY }, "temperature" }, { { .temperature = 1e-6f }, "temperature" },
		{ { .top_p = -0.1f }, "top_p" },            { { .top_p = 1.5f }, "top_p" },
		{ { .top_p = NAN }, "top_p" },              { { .min_p = 1.0f }, "min_p" },
		{ { .min_p = -1.0f }, "min_p" },            { { .repetition = -1.0f }, "repetition" },
		{ { .repetition = NAN }, "repetition" },    { { .frequency = 101.0f }, "frequency" },
		{ { .presence = INFINITY }, "presence" },   { { .biases = 1 }, "bias" },
		{ { .bias = &hot, .biases = 1 }, "bias" },  { { .bias = &negative, .biases = 1 }, "bias" },
	};
	struct octavo_error error;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(octavo_sampling_check(&bad[i].s, &error), OCTAVO_EINVAL);
		assert_non_null(strstr(error.text, bad[i].field));
	}
	assert_int_equal(octavo_sampling_check(&(struct octavo_sampling){ .temperature = 0.8f, .top_p = 0.9f }, &error),
	                 OCTAVO_OK);
}

/* ---- Acceptance ---------------------------------------------------------------------------------------------------- */

struct script {
	const int32_t *token; /* the target's choice per row */
	size_t asked;
};

static int32_t scripted(void *context, size_t row)
{
	struct script *s = context;
	s->asked++;
	return s->token[row];
}

static void chain_stops_at_the_first_mismatch(void **state)
{
	(void)state;
	const int32_t token[4] = { 9, 5, 6, 7 }, parent[4] = { -1, 0, 1, 2 };
	const struct octavo_draft draft = { 4, token, parent };
	static const struct {
		int32_t choice[4];
		size_t accepted;
		int32_t next;
	} cases[] = {
		{ { 5, 6, 7, 8 }, 3, 8 }, /* all, and the bonus */
		{ { 5, 6, 0, 8 }, 2, 0 },
		{ { 5, 0, 7, 8 }, 1, 0 }, /* a match after a mismatch does not count */
		{ { 0, 6, 7, 8 }, 0, 0 },
		{ { 7, 6, 7, 8 }, 0, 7 }, /* the token of a later row is no match */
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct script s = { cases[i].choice, 0 };
		struct octavo_outcome out;
		assert_int_equal(octavo_accept_walk(&draft, scripted, &s, &out), OCTAVO_OK);
		assert_int_equal(out.accepted, cases[i].accepted);
		assert_int_equal(out.next, cases[i].next);
		assert_int_equal(s.asked, cases[i].accepted + 1); /* one draw per emitted token, none for the rest */
		for (size_t j = 0; j < out.accepted; j++)
			assert_int_equal(out.path[j], j + 1);
	}
}

static void tree_follows_the_matching_child(void **state)
{
	(void)state;
	/*      0
	 *    1   2        tokens: 1 = a, 2 = b; under 2: 3 = a, 4 = c */
	const int32_t token[5] = { 0, 'a', 'b', 'a', 'c' }, parent[5] = { -1, 0, 0, 2, 2 };
	const struct octavo_draft draft = { 5, token, parent };
	struct octavo_outcome out;
	struct script s = { (const int32_t[5]){ 'b', 'x', 'c', 'x', 'z' }, 0 };
	assert_int_equal(octavo_accept_walk(&draft, scripted, &s, &out), OCTAVO_OK);
	assert_int_equal(out.accepted, 2);
	assert_int_equal(out.path[0], 2);
	assert_int_equal(out.path[1], 4);
	assert_int_equal(out.next, 'z');
	s = (struct script){ (const int32_t[5]){ 'c', 'x', 'x', 'x', 'x' }, 0 }; /* a grandchild is no child */
	assert_int_equal(octavo_accept_walk(&draft, scripted, &s, &out), OCTAVO_OK);
	assert_int_equal(out.accepted, 0);
}

static void bad_drafts_are_refused(void **state)
{
	(void)state;
	const int32_t token[3] = { 1, 2, 3 }, forward[3] = { -1, 2, 0 }, orphan[3] = { -1, 0, -1 };
	struct octavo_outcome out;
	struct script s = { token, 0 };
	assert_int_equal(octavo_accept_walk(&(struct octavo_draft){ 3, token, forward }, scripted, &s, &out), OCTAVO_EINVAL);
	assert_int_equal(octavo_accept_walk(&(struct octavo_draft){ 3, token, orphan }, scripted, &s, &out), OCTAVO_EINVAL);
	assert_int_equal(octavo_accept_walk(&(struct octavo_draft){ 0, token, forward }, scripted, &s, &out), OCTAVO_EINVAL);
	assert_int_equal(octavo_accept_walk(&(struct octavo_draft){ OCTAVO_MAX_DRAFT + 1, token, forward }, scripted, &s, &out),
	                 OCTAVO_EINVAL);
}

/* `match` emits, whatever was drafted, the tokens that the keyed numbers choose from the rows' laws; over positions
 * their frequencies are the law's.  Deterministic and adversarial drafts alike. */
static void match_draws_from_the_law(void **state)
{
	(void)state;
	enum { ROUNDS = 20000 };
	const struct octavo_sampling sampling = { .temperature = 0.7f };
	const float two[2][4] = { { 0.0f, 1.0f, 0.5f, -1.0f }, { 1.0f, 0.0f, -0.5f, 0.2f } };
	double law[2][4], scratch[4], expected, chi = 0.0;
	size_t count[4][4] = { { 0 } }, bonus[4] = { 0 };
	for (int row = 0; row < 2; row++)
		assert_int_equal(octavo_law(&sampling, NULL, two[row], 4, law[row], NULL), OCTAVO_OK);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		const int32_t token[2] = { 0, (int32_t)(i % 4) }, parent[2] = { -1, 0 };
		struct octavo_stream stream = { 5, i };
		struct octavo_outcome out;
		const struct octavo_draft draft = { 2, token, parent };
		struct octavo_scored scored = { &two[0][0], 4, 4, &sampling, { .draft = &draft }, scratch, NULL };
		const struct octavo_judge judge = { .vocab = 4, .target = octavo_scored_law, .target_context = &scored,
			                            .pick = octavo_pick, .pick_context = &stream, .position = 10 };
		assert_int_equal(octavo_accept_match(&draft, &judge, &out), OCTAVO_OK);
		int32_t first = out.accepted ? token[1] : out.next;
		assert_int_equal(first, octavo_pick(&stream, 10, OCTAVO_DRAW_TARGET, 0, law[0], 4)); /* the draft has no say */
		count[i % 4][first]++;
		if (out.accepted) {
			assert_int_equal(out.next, octavo_pick(&stream, 11, OCTAVO_DRAW_TARGET, 0, law[1], 4));
			bonus[out.next]++;
		}
	}
	size_t accepted = bonus[0] + bonus[1] + bonus[2] + bonus[3];
	for (int t = 0; t < 4; t++) {
		for (int draft = 0; draft < 4; draft++) {
			expected = law[0][t] * ROUNDS / 4;
			chi += ((double)count[draft][t] - expected) * ((double)count[draft][t] - expected) / expected;
		}
		expected = law[1][t] * (double)accepted;
		chi += ((double)bonus[t] - expected) * ((double)bonus[t] - expected) / expected;
	}
	if (!(chi < 44.26)) /* 99.99 % quantile for 4 * 3 + 3 = 15 degrees of freedom */
		fail_msg("chi-square %g", chi);
}

/* ---- Rules over laws: names, refusals, corners (that they are lossless is test_lossless.c's) ------------------------ */

static void rules_have_names(void **state)
{
	(void)state;
	for (int rule = 0; rule < OCTAVO_ACCEPT_COUNT; rule++)
		assert_int_equal(octavo_accept_find(octavo_accept_name((enum octavo_accept)rule)), rule);
	assert_int_equal(octavo_accept_find("lossy"), OCTAVO_ACCEPT_COUNT);
	assert_null(octavo_accept_name(OCTAVO_ACCEPT_COUNT));
	assert_int_equal(octavo_accept_promise(OCTAVO_ACCEPT_COUNT, NULL), OCTAVO_LOSSY);
}

struct laws {
	double p[4][3], q[4][3]; /* of row */
	int one_hot;
};

static const double *p_of(void *context, size_t row)
{
	return ((struct laws *)context)->p[row];
}

static const double *q_of(void *context, size_t row)
{
	struct laws *l = context;
	return l->one_hot ? NULL : l->q[row];
}

/* Always the outcome of the largest number. */
static int32_t last_outcome(void *context, uint32_t position, enum octavo_purpose purpose, uint32_t index,
                            const double *law, size_t n)
{
	(void)context, (void)position, (void)purpose, (void)index;
	return octavo_quantile(law, n, 1.0 - 0x1p-53);
}

static void rules_refuse(void **state)
{
	(void)state;
	const int32_t token[3] = { 0, 1, 2 }, tree[3] = { -1, 0, 0 }, line[3] = { -1, 0, 1 }, far[3] = { 0, 1, 3 };
	const struct octavo_draft chain = { 3, token, line }, fork = { 3, token, tree }, beyond = { 3, far, line };
	const struct laws good = { { { 1, 1, 1 }, { 1, 1, 1 }, { 1, 1, 1 } }, { { 1, 1, 1 }, { 1, 1, 1 }, { 1, 1, 1 } }, 0 };
	struct laws l = good;
	double scratch[6];
	struct octavo_outcome out;
	struct octavo_judge j = { .vocab = 3, .target = p_of, .target_context = &l, .drafted = q_of, .drafted_context = &l,
		                  .pick = last_outcome, .scratch = scratch };
	for (int rule = 0; rule < OCTAVO_ACCEPT_COUNT; rule++) {
		enum octavo_accept r = (enum octavo_accept)rule;
		int chains_only = r == OCTAVO_ACCEPT_REJECTION || r == OCTAVO_ACCEPT_BLOCK;
		int takes_q = chains_only || r == OCTAVO_ACCEPT_MULTIROUND;
		assert_int_equal(octavo_accept(r, &chain, &j, &out), OCTAVO_OK);
		assert_int_equal(octavo_accept(r, &fork, &j, &out), chains_only ? OCTAVO_EINVAL : OCTAVO_OK);
		assert_int_equal(octavo_accept(r, &beyond, &j, &out), OCTAVO_EINVAL);
		assert_int_equal(octavo_accept(r, &(struct octavo_draft){ 0, token, line }, &j, &out), OCTAVO_EINVAL);
		assert_int_equal(octavo_accept(r, NULL, &j, &out), OCTAVO_EINVAL);
		assert_int_equal(octavo_accept(r, &chain, NULL, &out), OCTAVO_EINVAL);
		assert_int_equal(octavo_accept(r, &chain, &j, NULL), OCTAVO_EINVAL);
		static const double broken[] = { -1, NAN, INFINITY };
		for (int i = 0; i < 3; i++) {
			l.p[0][2] = broken[i];
			assert_int_equal(octavo_accept(r, &chain, &j, &out), OCTAVO_ENUMERIC);
		}
		memset(l.p[0], 0, sizeof l.p[0]);
		assert_int_equal(octavo_accept(r, &chain, &j, &out), OCTAVO_ENUMERIC);
		l = good;
		l.q[1][1] = 0; /* the token of row 1 */
		assert_int_equal(octavo_accept(r, &chain, &j, &out), takes_q ? OCTAVO_EINVAL : OCTAVO_OK);
		l.q[1][1] = NAN;
		assert_int_equal(octavo_accept(r, &chain, &j, &out), takes_q ? OCTAVO_ENUMERIC : OCTAVO_OK);
		l = good;
		j.scratch = NULL;
		assert_int_equal(octavo_accept(r, &chain, &j, &out), takes_q ? OCTAVO_EINVAL : OCTAVO_OK);
		j.scratch = scratch;
	}
	assert_int_equal(octavo_accept(OCTAVO_ACCEPT_COUNT, &chain, &j, &out), OCTAVO_EINVAL);
	/* Siblings drawn without replacement cannot be the same. */
	const struct octavo_draft twice = { 3, (const int32_t[3]){ 0, 1, 1 }, tree };
	j.siblings = OCTAVO_WITHOUT_REPLACEMENT;
	l.p[0][1] = 0;
	assert_int_equal(octavo_accept_multiround(&twice, &j, &out), OCTAVO_EINVAL);
	j.siblings = OCTAVO_WITH_REPLACEMENT;
	assert_int_equal(octavo_accept_multiround(&twice, &j, &out), OCTAVO_OK);
}

/* Where p is q up to rounding, refusing leaves nothing: the token comes from p all the same, and from its support. */
static void nothing_left_is_no_trap(void **state)
{
	(void)state;
	const int32_t token[2] = { 0, 1 }, parent[2] = { -1, 0 };
	const struct octavo_draft chain = { 2, token, parent };
	struct laws l = { { { 0, 0.3, 0.7 }, { 0, 1, 0 } }, { { 0 }, { 0, 0.3 * (1 + 0x1p-52), 0.7 } }, 0 };
	double scratch[6];
	struct octavo_outcome out;
	const struct octavo_judge j = { .vocab = 3, .target = p_of, .target_context = &l, .drafted = q_of, .drafted_context = &l,
		                        .pick = last_outcome, .scratch = scratch };
	for (int rule = OCTAVO_ACCEPT_REJECTION; rule <= OCTAVO_ACCEPT_MULTIROUND; rule++) {
		assert_int_equal(octavo_accept((enum octavo_accept)rule, &chain, &j, &out), OCTAVO_OK);
		assert_in_range(out.next, 1, 2);
	}
	/* A chosen token that p is sure of is kept by every number; one that p excludes by none. */
	l.one_hot = 1;
	memcpy(l.p[0], (const double[3]){ 0, 2.5, 0 }, sizeof l.p[0]);
	for (int rule = OCTAVO_ACCEPT_REJECTION; rule <= OCTAVO_ACCEPT_MULTIROUND; rule++) {
		assert_int_equal(octavo_accept((enum octavo_accept)rule, &chain, &j, &out), OCTAVO_OK);
		assert_int_equal(out.accepted, 1);
	}
	memcpy(l.p[0], (const double[3]){ 0, 0, 2.5 }, sizeof l.p[0]);
	for (int rule = OCTAVO_ACCEPT_REJECTION; rule <= OCTAVO_ACCEPT_MULTIROUND; rule++) {
		assert_int_equal(octavo_accept((enum octavo_accept)rule, &chain, &j, &out), OCTAVO_OK);
		assert_int_equal(out.accepted, 0);
		assert_int_equal(out.next, 2);
	}
}

/* Typical acceptance by its formula: the longest path of tokens above min(epsilon, delta exp(-H)). */
static void typical_follows_its_formula(void **state)
{
	(void)state;
	/* 0 -> 1 -> 3 and 0 -> 2; tokens 0, then 0, 1, 2 */
	const int32_t token[4] = { 9, 0, 1, 2 }, parent[4] = { -1, 0, 0, 1 };
	const struct octavo_draft draft = { 4, token, parent };
	struct laws l = { { { 0.5, 0.4, 0.1 }, { 0.05, 0.9, 0.05 }, { 1, 0, 0 }, { 0, 0, 1 } }, { { 0 } }, 0 };
	struct octavo_outcome out;
	struct octavo_judge j = { .vocab = 3, .target = p_of, .target_context = &l, .pick = last_outcome };
	double h = -(0.5 * log(0.5) + 0.4 * log(0.4) + 0.1 * log(0.1));
	assert_int_equal(octavo_accept_typical(&draft, &j, &out), OCTAVO_OK); /* 0.09: 1 and 2 are kept, 3 is not; 1 is likelier */
	assert_int_equal(out.accepted, 1);
	assert_int_equal(out.path[0], 1);
	assert_int_equal(out.next, 2); /* drawn after row 1 */
	j.epsilon = 0.04;
	assert_int_equal(octavo_accept_typical(&draft, &j, &out), OCTAVO_OK);
	assert_int_equal(out.accepted, 2);
	assert_int_equal(out.path[1], 3);
	j.epsilon = 0.99;
	j.delta = 0.45 / exp(-h); /* between the two */
	assert_int_equal(octavo_accept_typical(&(struct octavo_draft){ 3, token, parent }, &j, &out), OCTAVO_OK);
	assert_int_equal(out.accepted, 1);
	assert_int_equal(out.path[0], 1);
	j.delta = 0.55 / exp(-h);
	assert_int_equal(octavo_accept_typical(&(struct octavo_draft){ 3, token, parent }, &j, &out), OCTAVO_OK);
	assert_int_equal(out.accepted, 0);
}

static void confidence_follows_its_formula(void **state)
{
	(void)state;
	const double q[5] = { 1, 5, 0, 3, 1 }; /* .5, .3, .1, .1 */
	double path = 1.0;
	struct octavo_confidence c = { 0 };
	assert_int_equal(octavo_confident_width(&c, q, 5, 8, &path), 4); /* never a token of zero mass */
	assert_true(path == 0.5);
	assert_int_equal(octavo_confident_width(&c, q, 5, 2, &path), 2);
	assert_true(path == 0.25);
	c.path = 0.2;
	assert_int_equal(octavo_confident_width(&c, q, 5, 2, &path), 0);
	assert_true(path == 0.25); /* it stopped */
	path = 1.0;
	c = (struct octavo_confidence){ .best = 0.51 };
	assert_int_equal(octavo_confident_width(&c, q, 5, 8, &path), 0);
	c = (struct octavo_confidence){ .best = 0.5, .mass = 0.79 };
	assert_int_equal(octavo_confident_width(&c, q, 5, 8, &path), 2);
	c.mass = 0.81;
	assert_int_equal(octavo_confident_width(&c, q, 5, 8, &path), 3);
	c.mass = 0.5;
	assert_int_equal(octavo_confident_width(&c, q, 5, 8, &path), 1);
	assert_int_equal(octavo_confident_width(&c, (const double[2]){ 0, 0 }, 2, 8, &path), 0);
	assert_int_equal(octavo_confident_width(&c, (const double[2]){ NAN, 1 }, 2, 8, &path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(draws_are_keyed),        cmocka_unit_test(draws_are_uniform),
		cmocka_unit_test(law_is_softmax),         cmocka_unit_test(law_is_truncated),
		cmocka_unit_test(prefixes_are_penalised), cmocka_unit_test(a_path_counts_as_committed),
		cmocka_unit_test(greedy_is_penalised_too), cmocka_unit_test(law_has_its_own_rounding),
		cmocka_unit_test(greedy_takes_the_lowest), cmocka_unit_test(bad_logits_are_refused),
		cmocka_unit_test(quantile_walks_the_law), cmocka_unit_test(parameters_are_checked),
		cmocka_unit_test(chain_stops_at_the_first_mismatch), cmocka_unit_test(tree_follows_the_matching_child),
		cmocka_unit_test(bad_drafts_are_refused), cmocka_unit_test(match_draws_from_the_law),
		cmocka_unit_test(rules_have_names),       cmocka_unit_test(rules_refuse),
		cmocka_unit_test(nothing_left_is_no_trap), cmocka_unit_test(typical_follows_its_formula),
		cmocka_unit_test(confidence_follows_its_formula),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
