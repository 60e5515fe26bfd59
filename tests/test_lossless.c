/* SPDX-License-Identifier: Apache-2.0
 *
 * Losslessness by exact enumeration: the shipped rules are driven through all outcomes of toy models, and the joint law of
 * what they emit is compared with plain decoding's, for every rule, shape of draft, warp, mask and penalty; then rules
 * and surroundings that are wrong in one way each, all of which the same comparison must notice.
 */
#include "tests/lossless/trial.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXACT 1e-12 /* total variation of what is lossless */
#define CAUGHT 1e-6 /* at least that of what is not */

static const struct shape chain2 = { 3, { -1, 0, 1 } }, chain3 = { 4, { -1, 0, 1, 2 } };
/* Rows of two siblings, each with a child; three siblings, the first with two children; depth 3 */
static const struct shape twins = { 5, { -1, 0, 0, 1, 2 } }, fan = { 6, { -1, 0, 0, 0, 1, 1 } },
                          deep = { 6, { -1, 0, 0, 1, 1, 3 } };

static const struct octavo_bias banned[] = { { 1, -INFINITY }, { 0, 0.5f } };

static const struct octavo_sampling warps[] = {
	{ .temperature = 1.0f },
	{ .temperature = 0.6f },
	{ .temperature = 1.3f, .top_k = 2 },
	{ .temperature = 1.0f, .top_p = 0.7f },
	{ .temperature = 0.9f, .min_p = 0.3f },
	{ .temperature = 0.8f, .top_k = 3, .top_p = 0.9f, .min_p = 0.1f },
	{ .temperature = 0.0f },
};
static const struct { float repetition, frequency, presence; } penalties[] = {
	{ 0, 0, 0 }, { 1.7f, 0, 0 }, { 0, 0.9f, 0 }, { 1.2f, -0.4f, 0.7f },
};
enum { WARPS = sizeof warps / sizeof *warps, PENALTIES = sizeof penalties / sizeof *penalties };

typedef enum octavo_status rule_fn(const struct octavo_draft *, const struct octavo_judge *, struct octavo_outcome *);

/* A trial of `shape` with everything else plain. */
static struct trial plain_trial(rule_fn *rule, const struct shape *shape, size_t vocab)
{
	return (struct trial){ .vocab = vocab, .length = shape->rows < 5 ? shape->rows : 4, .rounds = 1, .model = 1,
		               .sampling = { .temperature = 1.0f }, .draft_sampling = { .temperature = 0.9f },
		               .shape = *shape, .rule = rule };
}

static void set_target(struct trial *t, size_t warp, size_t penalty, enum mask mask)
{
	t->sampling = warps[warp];
	t->sampling.repetition = penalties[penalty].repetition;
	t->sampling.frequency = penalties[penalty].frequency;
	t->sampling.presence = penalties[penalty].presence;
	t->mask = mask;
	if (mask == BANNED) {
		t->sampling.bias = banned;
		t->sampling.biases = sizeof banned / sizeof *banned;
	}
	if (t->adversary == SAME)
		t->draft_sampling = t->sampling;
}

static void expect_exact(struct trial *t, const char *what)
{
	double tokens, distance = trial_distance(t, &tokens);
	if (!(distance < EXACT))
		fail_msg("%s: total variation %g (vocabulary %zu, %zu rows, adversary %d, mask %d, temperature %g, top_k %u, "
		         "top_p %g, min_p %g, penalties %g %g %g, drafting %d, siblings %d, model %u)",
		         what, distance, t->vocab, t->shape.rows, t->adversary, t->mask, (double)t->sampling.temperature,
		         t->sampling.top_k, (double)t->sampling.top_p, (double)t->sampling.min_p,
		         (double)t->sampling.repetition, (double)t->sampling.frequency, (double)t->sampling.presence,
		         t->drafting, t->siblings, (unsigned)t->model);
}

/* The target's laws of all warps, masks and penalties, or a sample of them in which all pairs occur. */
static void all_targets(struct trial t, int sample, const char *what)
{
	for (size_t warp = 0; warp < WARPS; warp++)
		for (size_t penalty = 0; penalty < PENALTIES; penalty++)
			for (int mask = 0; mask < MASKS; mask++) {
				if (sample && (warp + penalty) % MASKS != (size_t)mask)
					continue;
				set_target(&t, warp, penalty, (enum mask)mask);
				t.model++;
				expect_exact(&t, what);
			}
}

/* ---- What is lossless ---------------------------------------------------------------------------------------------- */

static const struct { const char *name; rule_fn *run; } chain_rules[] = {
	{ "match", octavo_accept_match },
	{ "rejection", octavo_accept_rejection },
	{ "block", octavo_accept_block },
	{ "multiround", octavo_accept_multiround },
};

static void chains_are_lossless(void **state)
{
	(void)state;
	for (size_t rule = 0; rule < sizeof chain_rules / sizeof *chain_rules; rule++)
		for (int adversary = 0; adversary < ADVERSARIES; adversary++)
			for (int drafting = SAMPLED; drafting <= CHOSEN; drafting++) {
				struct trial t = plain_trial(chain_rules[rule].run, &chain3, 3);
				t.adversary = (enum adversary)adversary;
				t.drafting = (enum drafting)drafting;
				all_targets(t, 0, chain_rules[rule].name);
			}
}

/* Vocabularies of 4 and 5. */
static void wider_chains_are_lossless(void **state)
{
	(void)state;
	for (size_t rule = 0; rule < 3; rule++)
		for (int adversary = 0; adversary < ADVERSARIES; adversary++)
			for (size_t vocab = 4; vocab <= 5; vocab++) {
				struct trial t = plain_trial(chain_rules[rule].run, &chain3, vocab);
				t.adversary = (enum adversary)adversary;
				all_targets(t, vocab == 5, chain_rules[rule].name);
			}
}

static void all_trees(const struct shape *shape, size_t vocab, enum adversary adversary, int sample)
{
	for (int drafting = SAMPLED; drafting <= MIXED; drafting++)
		for (int siblings = 0; siblings < 2; siblings++) {
			struct trial t = plain_trial(octavo_accept_multiround, shape, vocab);
			t.length = 3;
			t.adversary = adversary;
			t.drafting = (enum drafting)drafting;
			t.siblings = (enum octavo_siblings)siblings;
			all_targets(t, sample, "multiround, tree");
			if (!siblings)
				continue; /* drawn with replacement, siblings may be the same: not for match */
			t.rule = octavo_accept_match;
			all_targets(t, 1, "match, tree");
		}
}

static void trees_are_lossless(void **state)
{
	(void)state;
	for (int adversary = 0; adversary < ADVERSARIES; adversary++) {
		all_trees(&twins, 3, (enum adversary)adversary, 0);
		all_trees(&fan, 3, (enum adversary)adversary, 0);
		all_trees(&deep, 3, (enum adversary)adversary, 0);
		all_trees(&twins, 4, (enum adversary)adversary, 1);
	}
}

/* Drafts that stop, or branch less, where q is unsure. */
static void confident_drafts_are_lossless(void **state)
{
	(void)state;
	static const struct octavo_confidence levels[] = { { 0.45, 0, 0 }, { 0, 0.25, 0 }, { 0, 0, 0.6 }, { 0.4, 0.15, 0.8 } };
	double whole, cut;
	for (size_t level = 0; level < sizeof levels / sizeof *levels; level++)
		for (int adversary = 0; adversary < ADVERSARIES; adversary++)
			for (int drafting = SAMPLED; drafting <= MIXED; drafting++) {
				struct trial t = plain_trial(octavo_accept_multiround, &twins, 3);
				t.confidence = levels[level];
				t.adversary = (enum adversary)adversary;
				t.drafting = (enum drafting)drafting;
				t.siblings = OCTAVO_WITHOUT_REPLACEMENT;
				all_targets(t, 1, "multiround, confident tree");
				t.shape = chain3;
				t.length = 4;
				t.rule = octavo_accept_rejection;
				all_targets(t, 1, "rejection, confident chain");
				t.rule = octavo_accept_block;
				all_targets(t, 1, "block, confident chain");
			}
	struct trial t = plain_trial(octavo_accept_rejection, &chain3, 4); /* and it does cut */
	trial_distance(&t, &whole);
	t.confidence = levels[0];
	trial_distance(&t, &cut);
	assert_true(cut < whole);
}

/* Over several rounds, in which all numbers must be new ones. */
static void rounds_are_lossless(void **state)
{
	(void)state;
	for (size_t rule = 0; rule < sizeof chain_rules / sizeof *chain_rules; rule++)
		for (int adversary = 0; adversary < ADVERSARIES; adversary++) {
			struct trial t = plain_trial(chain_rules[rule].run, &chain2, 3);
			t.rounds = 3;
			t.adversary = (enum adversary)adversary;
			set_target(&t, (size_t)adversary, (rule + (size_t)adversary) % PENALTIES, (enum mask)(rule % MASKS));
			expect_exact(&t, chain_rules[rule].name);
		}
	for (int siblings = 0; siblings < 2; siblings++) {
		const struct shape pair = { 3, { -1, 0, 0 } };
		struct trial t = plain_trial(octavo_accept_multiround, &pair, 3);
		t.rounds = 3;
		t.siblings = (enum octavo_siblings)siblings;
		expect_exact(&t, "multiround, tree, rounds");
	}
}

/* Known figures: block verification keeps more than rejection does, and as much where tokens were chosen; match keeps
 * sum p q of a sampled draft, rejection sum min(p, q). */
static void rules_keep_what_they_should(void **state)
{
	(void)state;
	double match, rejection, block, distance;
	for (uint64_t model = 1; model <= 20; model++) {
		struct trial t = plain_trial(octavo_accept_match, &chain3, 3);
		t.model = model;
		distance = trial_distance(&t, &match);
		t.rule = octavo_accept_rejection;
		distance += trial_distance(&t, &rejection);
		t.rule = octavo_accept_block;
		distance += trial_distance(&t, &block);
		assert_true(distance < 3 * EXACT);
		assert_true(match < rejection);
		assert_true(rejection <= block + EXACT);
		t.drafting = CHOSEN;
		trial_distance(&t, &block);
		t.rule = octavo_accept_rejection;
		trial_distance(&t, &rejection);
		assert_true(fabs(block - rejection) < EXACT);
	}
	struct trial same = plain_trial(octavo_accept_block, &chain3, 3);
	same.adversary = SAME;
	set_target(&same, 0, 0, NO_MASK);
	trial_distance(&same, &block);
	assert_true(fabs(block - 4.0) < EXACT); /* p == q: all is kept */
	same.adversary = DISJOINT;
	same.draft_sampling = (struct octavo_sampling){ .temperature = 1 };
	trial_distance(&same, &block);
	assert_true(fabs(block - 1.0) < EXACT); /* nothing in common: nothing is */
}

/* ---- What is not ------------------------------------------------------------------------------------------------------ */

/* The typical rule is lossy and says so, and so does candidates. */
static void the_lossy_rule_is_lossy(void **state)
{
	(void)state;
	double tokens;
	struct trial t = plain_trial(octavo_accept_typical, &chain3, 4);
	t.drafting = CHOSEN;
	t.adversary = SAME;
	assert_true(trial_distance(&t, &tokens) > 0.01);
	const struct octavo_sampling hot = { .temperature = 1 }, cold = { 0 };
	for (int rule = 0; rule < OCTAVO_ACCEPT_COUNT; rule++) {
		enum octavo_promise promise = octavo_accept_promise((enum octavo_accept)rule, &hot);
		int always = rule == OCTAVO_ACCEPT_CANDIDATES; /* the best of a few, at temperature 0 too */
		assert_int_equal(promise == OCTAVO_LOSSY, rule == OCTAVO_ACCEPT_TYPICAL || always);
		assert_int_equal(octavo_accept_promise((enum octavo_accept)rule, &cold),
		                 always ? OCTAVO_LOSSY : OCTAVO_SAME_TOKENS);
	}
	set_target(&t, WARPS - 1, 0, NO_MASK); /* temperature 0: the same tokens as all others */
	expect_exact(&t, "typical at temperature 0");
	t.shape = fan;
	expect_exact(&t, "typical at temperature 0, tree");
}

static void expect_caught(struct trial *t, const char *what)
{
	double tokens, distance = trial_distance(t, &tokens);
	if (!(distance > CAUGHT))
		fail_msg("not noticed: %s (total variation %g)", what, distance);
}

static void wrong_rules_are_caught(void **state)
{
	(void)state;
#define WRONG_ENTRY(name, what, kind) { what, #kind, wrong_##name },
	static const struct { const char *what, *kind; rule_fn *run; } wrong[] = { WRONG_RULES(WRONG_ENTRY) };
#undef WRONG_ENTRY
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		int is_block = !strcmp(wrong[i].kind, "BLOCK");
		struct trial t = plain_trial(wrong[i].run, is_block ? &chain3 : &twins, 3);
		t.length = 4;
		t.drafting = is_block ? SAMPLED : MIXED;
		t.siblings = OCTAVO_WITHOUT_REPLACEMENT;
		if (!strcmp(wrong[i].what, "control"))
			expect_exact(&t, wrong[i].what);
		else
			expect_caught(&t, wrong[i].what);
	}
}

/* The shipped rules, wrongly used.  Each entry is exact once its mistake is taken out. */
static const struct {
	enum mistake mistake;
	const char *what;
	struct trial t;
} mistakes[] = {
#define RULE(name) .length = 3, .model = 5, .rule = octavo_accept_##name
#define CHAIN .vocab = 4, .rounds = 1, .shape = { 4, { -1, 0, 1, 2 } }
#define TREE .vocab = 4, .rounds = 1, .shape = { 5, { -1, 0, 0, 1, 2 } }
#define FAN .vocab = 4, .rounds = 1, .shape = { 4, { -1, 0, 0, 0 } }
#define ROUNDS .vocab = 3, .rounds = 3, .shape = { 3, { -1, 0, 1 } }
#define TARGET(...) .sampling = { .temperature = 1.0f, __VA_ARGS__ }
#define DRAFT(...) .draft_sampling = { __VA_ARGS__ }
#define HOT TARGET(.top_k = 0), DRAFT(.temperature = 0.9f)
	{ STALE_Q, "q of the row before", { RULE(rejection), CHAIN, HOT } },
	{ STALE_Q, "q of the row before, block", { RULE(block), CHAIN, HOT } },
	{ STALE_P, "p of the row before", { RULE(rejection), CHAIN, HOT } },
	{ STALE_P, "p of the row before, match", { RULE(match), CHAIN, HOT } },
	{ Q_UNTEMPERED, "q of another temperature", { RULE(rejection), CHAIN, TARGET(.top_k = 0), DRAFT(.temperature = 0.5f) } },
	{ Q_UNTEMPERED, "q of another temperature, block", { RULE(block), CHAIN, TARGET(.top_k = 0), DRAFT(.temperature = 0.5f) } },
	{ Q_UNTRUNCATED, "q without the draft's top-k", { RULE(rejection), CHAIN, TARGET(.top_k = 0), DRAFT(.temperature = 0.9f, .top_k = 2) } },
	{ Q_OF_ARGMAX, "softmax as q of an argmax draft", { RULE(rejection), CHAIN, HOT, .drafting = CHOSEN } },
	{ Q_OF_ARGMAX, "softmax as q of the best tokens, tree", { RULE(multiround), TREE, HOT, .drafting = CHOSEN } },
	{ TOKEN_OVERRIDDEN, "token replaced after the draw", { RULE(rejection), CHAIN, HOT } },
	{ DRAFT_DROPPED, "drawn, and dropped for its small q", { RULE(rejection), CHAIN, HOT } },
	{ DRAFT_DROPPED, "drawn, and pruned from the tree", { RULE(multiround), TREE, HOT } },
	{ INVALID_DROPPED, "drawn, and dropped as invalid", { RULE(rejection), CHAIN, HOT, .mask = GRAMMAR } },
	{ DUPLICATE_DROPPED, "drawn twice, tried once", { RULE(multiround), TREE, HOT } },
	{ RESIDUAL_SHARED, "draft and residual share their noise", { RULE(rejection), CHAIN, HOT } },
	{ RESIDUAL_SHARED, "draft and residual share their noise, block", { RULE(block), CHAIN, HOT } },
	{ ACCEPT_SHARED, "draft and trial share their noise", { RULE(rejection), CHAIN, HOT } },
	{ ACCEPT_SHARED, "draft and trial share their noise, block", { RULE(block), CHAIN, HOT } },
	{ ACCEPT_REPEATED, "one number for all trials", { RULE(rejection), CHAIN, HOT } },
	{ ACCEPT_REPEATED, "one number for all trials, tree", { RULE(multiround), TREE, HOT } },
	{ REWOUND, "numbers rewound after a round", { RULE(rejection), HOT, ROUNDS } },
	{ REWOUND, "numbers rewound after a round, block", { RULE(block), HOT, ROUNDS } },
	{ TARGET_REPEATED, "one target number for all positions", { RULE(match), CHAIN, HOT, .drafting = CHOSEN } },
	{ SIBLINGS_SWAPPED, "with replacement, judged without",
	  { RULE(multiround), FAN, HOT, .drafting = MIXED } },
	{ SIBLINGS_SWAPPED, "without replacement, judged with",
	  { RULE(multiround), TREE, HOT, .siblings = OCTAVO_WITHOUT_REPLACEMENT } },
	{ WARP_MISSING, "only the root's law is truncated", { RULE(match), CHAIN, TARGET(.top_k = 2), DRAFT(.temperature = 0.9f) } },
	{ PENALTY_OF_ROOT, "the root's penalties for all rows", { RULE(match), CHAIN, TARGET(.presence = 1), DRAFT(.temperature = 0.9f) } },
	{ PENALTY_OF_ROOT, "the root's penalties, repetition", { RULE(rejection), CHAIN, TARGET(.repetition = 2), DRAFT(.temperature = 0.9f) } },
	{ PENALTY_TWICE, "the last token counts twice", { RULE(match), ROUNDS, TARGET(.frequency = 1), DRAFT(.temperature = 0.9f) } },
	{ MASK_OF_ROOT, "the root's mask for all rows", { RULE(match), CHAIN, HOT, .mask = GRAMMAR } },
#undef RULE
#undef CHAIN
#undef TREE
#undef FAN
#undef ROUNDS
#undef TARGET
#undef DRAFT
#undef HOT
};

static void mistakes_are_caught(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
		struct trial t = mistakes[i].t;
		expect_exact(&t, "control");
		t.mistake = mistakes[i].mistake;
		expect_caught(&t, mistakes[i].what);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chains_are_lossless),     cmocka_unit_test(wider_chains_are_lossless),
		cmocka_unit_test(trees_are_lossless), cmocka_unit_test(confident_drafts_are_lossless),
		    cmocka_unit_test(rounds_are_lossless),
		cmocka_unit_test(rules_keep_what_they_should), cmocka_unit_test(the_lossy_rule_is_lossy),
		cmocka_unit_test(wrong_rules_are_caught),  cmocka_unit_test(mistakes_are_caught),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
