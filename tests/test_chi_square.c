/* SPDX-License-Identifier: Apache-2.0
 *
 * Losslessness by samples, with the numbers that decoding uses: over thousands of streams the tokens of several rounds,
 * taken jointly over two and three positions (a random number used twice does not show in the law of one token), are
 * compared with plain decoding's law by chi-square, for drafts as bad as can be; and the test notices numbers that are
 * used twice.  All seeds are fixed.
 */
#include "tests/lossless/trial.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SAMPLES = 24000, LENGTH = 3, MOST_CELLS = 125 };

typedef enum octavo_status rule_fn(const struct octavo_draft *, const struct octavo_judge *, struct octavo_outcome *);

/* What chi-square stays below but once in a million (Wilson and Hilferty, 1931). */
static double limit(double freedom)
{
	double spread = 2.0 / (9.0 * freedom), root = 1.0 - spread + 4.7534 * sqrt(spread);
	return freedom * root * root * root;
}

/* Chi-square over its limit; infinite if something impossible occurred.  Cells that expect fewer than 5 are one. */
static double excess(const size_t *count, const double *law, size_t cells)
{
	double chi = 0.0, rare_law = 0.0, freedom = -1.0;
	size_t rare = 0;
	for (size_t i = 0; i < cells; i++) {
		double expected = law[i] * SAMPLES, off = (double)count[i] - expected;
		if (law[i] == 0.0 && count[i])
			return INFINITY;
		if (expected < 5.0) {
			rare += count[i];
			rare_law += law[i];
			continue;
		}
		chi += off * off / expected;
		freedom++;
	}
	if (rare_law * SAMPLES >= 5.0) {
		double off = (double)rare - rare_law * SAMPLES;
		chi += off * off / (rare_law * SAMPLES);
		freedom++;
	}
	return freedom > 0.0 ? chi / limit(freedom) : 0.0;
}

/* The worse of the excesses over three tokens and over the first two. */
static double sample(struct trial *t)
{
	static double law[MOST_CELLS], law2[MOST_CELLS];
	static size_t count[MOST_CELLS], count2[MOST_CELLS];
	struct octavo_stream stream = { 2026, 0 };
	size_t cells = trial_cells(t), kept;
	int32_t token[MOST_LENGTH];
	trial_truth(t, law);
	memset(count, 0, sizeof count);
	memset(count2, 0, sizeof count2);
	memset(law2, 0, sizeof law2);
	t->pick = octavo_pick;
	t->pick_context = &stream;
	for (; stream.stream < SAMPLES; stream.stream++) {
		size_t got = trial_run(t, token, &kept), cell = 0;
		if (got != t->length)
			return INFINITY;
		for (size_t i = 0; i < t->length; i++)
			cell = cell * t->vocab + (size_t)token[i];
		count[cell]++;
		count2[cell / t->vocab]++;
	}
	for (size_t i = 0; i < cells; i++)
		law2[i / t->vocab] += law[i];
	return fmax(excess(count, law, cells), excess(count2, law2, cells / t->vocab));
}

static struct trial case_of(rule_fn *rule, const struct shape *shape, size_t vocab)
{
	return (struct trial){ .vocab = vocab, .length = LENGTH, .rounds = LENGTH, .model = 3,
		               .sampling = { .temperature = 0.8f, .presence = 0.3f },
		               .draft_sampling = { .temperature = 1.0f }, .shape = *shape, .rule = rule };
}

static const struct shape chain = { 4, { -1, 0, 1, 2 } }, tree = { 5, { -1, 0, 0, 1, 2 } };

static const struct {
	const char *name;
	rule_fn *rule;
	const struct shape *shape;
	enum octavo_siblings siblings;
	enum drafting drafting;
} cases[] = {
	{ "match", octavo_accept_match, &chain, 0, SAMPLED },
	{ "match, tree", octavo_accept_match, &tree, OCTAVO_WITHOUT_REPLACEMENT, SAMPLED },
	{ "rejection", octavo_accept_rejection, &chain, 0, SAMPLED },
	{ "rejection of chosen drafts", octavo_accept_rejection, &chain, 0, CHOSEN },
	{ "block", octavo_accept_block, &chain, 0, SAMPLED },
	{ "multiround", octavo_accept_multiround, &tree, OCTAVO_WITH_REPLACEMENT, SAMPLED },
	{ "multiround without replacement", octavo_accept_multiround, &tree, OCTAVO_WITHOUT_REPLACEMENT, SAMPLED },
	{ "multiround, mixed", octavo_accept_multiround, &tree, OCTAVO_WITHOUT_REPLACEMENT, MIXED },
};

static void samples_have_the_law(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (int adversary = 0; adversary < ADVERSARIES; adversary++) {
			struct trial t = case_of(cases[i].rule, cases[i].shape, adversary == REVERSED ? 3 : 4);
			t.siblings = cases[i].siblings;
			t.drafting = cases[i].drafting;
			t.adversary = (enum adversary)adversary;
			t.mask = adversary == ZEROS ? GRAMMAR : NO_MASK;
			if (adversary == SAME)
				t.draft_sampling = t.sampling;
			double worst = sample(&t);
			if (!(worst < 1.0))
				fail_msg("%s, adversary %d: chi-square is %.2f times its limit", cases[i].name, adversary, worst);
		}
}

/* Mistakes with random numbers, and some with laws: with a draft of reversed ranks and few tokens they stand out. */
static void mistakes_show(void **state)
{
	(void)state;
	static const struct { enum mistake mistake; const char *what; rule_fn *rule; } wrong[] = {
		{ NO_MISTAKE, "control", octavo_accept_rejection },
		{ NO_MISTAKE, "control", octavo_accept_block },
		{ RESIDUAL_SHARED, "draft and residual share their noise", octavo_accept_rejection },
		{ RESIDUAL_SHARED, "draft and residual share their noise, block", octavo_accept_block },
		{ ACCEPT_SHARED, "draft and trial share their noise", octavo_accept_rejection },
		{ REWOUND, "numbers rewound after a round", octavo_accept_rejection },
		{ REWOUND, "numbers rewound after a round, block", octavo_accept_block },
		{ STALE_Q, "q of the row before", octavo_accept_rejection },
		{ Q_UNTEMPERED, "q of another temperature", octavo_accept_rejection },
		{ DRAFT_DROPPED, "drawn, and dropped for its small q", octavo_accept_rejection },
		{ NO_MISTAKE, "no residual", wrong_NO_RESIDUAL },
		{ NO_MISTAKE, "after a mismatch drawn anew", wrong_REDRAWN },
	};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct trial t = case_of(wrong[i].rule, &chain, 3);
		t.adversary = REVERSED;
		t.mistake = wrong[i].mistake;
		if (t.mistake == Q_UNTEMPERED)
			t.draft_sampling.temperature = 0.6f;
		double worst = sample(&t);
		int control = !strcmp(wrong[i].what, "control");
		if (control ? worst >= 1.0 : worst < 1.0)
			fail_msg("%s: chi-square is %.2f times its limit", wrong[i].what, worst);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(samples_have_the_law),
		cmocka_unit_test(mistakes_show),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
