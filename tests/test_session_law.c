/* SPDX-License-Identifier: Apache-2.0
 *
 * The decode loop under the rules that promise the law, and all rules at temperature 0.  A tiny random model, its
 * vocabulary cut to four tokens by bias, speculates thousands of times; what it emits, jointly over three tokens, is
 * compared by chi-square with the law that its own logits give.
 */
#include "engine/session.h"
#include "tests/support/heads.h"
#include "tests/support/model.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CHOICES = 4, LENGTH = 3, CELLS = 64, STREAMS = 1500, PROMPT = 12, MOST_TOKENS = 64 };

static const int32_t prompt[PROMPT] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };
static const int32_t choice[CHOICES] = { 41, 43, 77, 200 };
static struct octavo_bias bias[512];

/* All tokens but the choices are banned. */
static size_t ban(const struct octavo_engine *e)
{
	size_t count = 0;
	for (size_t i = 0; i < e->choosable; i++) {
		int chosen = 0;
		for (size_t j = 0; j < CHOICES; j++)
			chosen |= (size_t)choice[j] == i;
		if (!chosen)
			bias[count++] = (struct octavo_bias){ (int32_t)i, -INFINITY };
	}
	return count;
}

/* law[CELLS]: of the first three tokens, by plain forwards. */
static void exact_law(struct octavo_engine *e, const struct octavo_sampling *s, double *law)
{
	size_t vocab = e->config.vocab;
	struct octavo_error error;
	int32_t token[PROMPT + LENGTH];
	double *one = test_malloc(vocab * sizeof *one);
	uint32_t *order = test_malloc(vocab * sizeof *order);
	float *logits = test_malloc((PROMPT + LENGTH) * vocab * sizeof *logits);
	memcpy(token, prompt, sizeof prompt);
	for (size_t cell = 0; cell < CELLS; cell++) {
		for (size_t i = 0, left = cell; i < LENGTH; i++, left = left * CHOICES % CELLS)
			token[PROMPT + i] = choice[left / (CELLS / CHOICES)];
		run_tokens(e, token, PROMPT + LENGTH - 1, PROMPT + LENGTH - 1, 0, logits, NULL);
		assert_int_equal(octavo_rewind(e, 0, 0, &error), OCTAVO_OK);
		law[cell] = 1.0;
		for (size_t i = 0; i < LENGTH; i++) {
			const struct octavo_prefix prefix = { token, PROMPT + i, PROMPT, NULL, 0 };
			assert_int_equal(
			        octavo_law(s, &prefix, logits + (PROMPT + i - 1) * vocab, e->choosable, one, order),
			        OCTAVO_OK);
			law[cell] *= one[token[PROMPT + i]];
		}
	}
	test_free(logits);
	test_free(order);
	test_free(one);
}

/* The first `count` tokens of a session's next stream. */
static void decode(struct octavo_engine *e, const struct octavo_session_settings *settings, int32_t *out, size_t count,
                   struct octavo_session_stats *stats)
{
	struct octavo_session *s;
	struct octavo_error error;
	const int32_t *token;
	size_t got = 0, step;
	if (octavo_session_open(&s, e, settings, &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
	if (octavo_session_prompt(s, prompt, PROMPT, &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
	while (got < count) {
		if (octavo_session_step(s, &token, &step, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		assert_true(step > 0);
		for (size_t i = 0; i < step && got < count; i++)
			out[got++] = token[i];
	}
	*stats = *octavo_session_stats(s);
	octavo_session_close(&s);
}

static const struct setup {
	enum octavo_accept rule;
	const char *drafter;
	unsigned k, tree[OCTAVO_MAX_K];
	double confidence;
	size_t draft_vocab;
} setups[] = {
	{ OCTAVO_ACCEPT_REJECTION, "mtp", 3, { 0 }, 0, 0 },
	{ OCTAVO_ACCEPT_BLOCK, "mtp", 3, { 0 }, 0, 0 },
	{ OCTAVO_ACCEPT_MULTIROUND, "mtp", 0, { 2, 2 }, 0, 0 },
	{ OCTAVO_ACCEPT_REJECTION, "ngram", 3, { 0 }, 0, 0 },
	{ OCTAVO_ACCEPT_BLOCK, "ngram+mtp", 2, { 0 }, 0, 0 },
	{ OCTAVO_ACCEPT_REJECTION, "mtp", 3, { 0 }, 0.4, 0 },
	{ OCTAVO_ACCEPT_REJECTION, "model:%s", 3, { 0 }, 0, 0 },
	{ OCTAVO_ACCEPT_MULTIROUND, "model:%s", 0, { 2, 2 }, 0, 0 },
	{ OCTAVO_ACCEPT_REJECTION, "medusa:%s", 2, { 0 }, 0, 0 },
	{ OCTAVO_ACCEPT_MULTIROUND, "medusa:%s", 0, { 2, 2 }, 0, 0 },
	{ OCTAVO_ACCEPT_BLOCK, "hydra:%s", 2, { 0 }, 0, 0 },
	{ OCTAVO_ACCEPT_MULTIROUND, "hydra:%s", 0, { 2, 2 }, 0, 0 },
	/* two of the choices, and those of the other two that were emitted */
	{ OCTAVO_ACCEPT_REJECTION, "mtp", 3, { 0 }, 0, 50 },
	{ OCTAVO_ACCEPT_BLOCK, "mtp", 3, { 0 }, 0, 50 },
	{ OCTAVO_ACCEPT_MULTIROUND, "mtp", 0, { 2, 2 }, 0, 50 },
	{ OCTAVO_ACCEPT_REJECTION, "model:%s", 3, { 0 }, 0, 50 },
	{ OCTAVO_ACCEPT_MULTIROUND, "medusa:%s", 0, { 3, 2 }, 0, 50 },
};

/* Random heads for the model; ckpt_dir_free. */
static char *write_heads(const struct octavo_engine *e, int hydra)
{
	const struct heads_options options = { .hydra = hydra, .heads = 2, .layers = 1, .hidden = e->config.hidden,
		                               .vocab = e->config.vocab, .dtype = "BF16", .seed = 3 };
	return heads_dir_new(options);
}

static void rules_keep_the_law(void **state)
{
	(void)state;
	struct octavo_engine_settings one = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &one);
	struct octavo_sampling sampling = { .temperature = 2.0f, .presence = 0.4f, .bias = bias, .biases = ban(e) };
	double law[CELLS];
	char *heads[2] = { write_heads(e, 0), write_heads(e, 1) }, drafter[PATH_MAX];
	exact_law(e, &sampling, law);
	for (size_t i = 0; i < sizeof setups / sizeof *setups; i++) {
		const char *files = setups[i].drafter[1] == 'o' ? source_path("tests/data/tiny-llama") /* model */
		                                                : heads[setups[i].drafter[0] == 'h'];
		snprintf(drafter, sizeof drafter, setups[i].drafter, files);
		size_t count[CELLS] = { 0 }, drafted = 0, accepted = 0, used = 0;
		double chi = 0.0;
		for (uint64_t stream = 0; stream < STREAMS; stream++) {
			struct octavo_session_settings s = { .drafter = drafter, .k = setups[i].k,
				                             .accept = setups[i].rule, .sampling = sampling,
				                             .stream = { i, stream }, .ignore_eos = 1,
				                             .confidence.best = setups[i].confidence,
				                             .draft_vocab = setups[i].draft_vocab };
			struct octavo_session_stats stats;
			int32_t token[LENGTH];
			size_t cell = 0;
			memcpy(s.tree, setups[i].tree, sizeof s.tree);
			decode(e, &s, token, LENGTH, &stats);
			for (size_t t = 0; t < LENGTH; t++) {
				size_t at = 0;
				while (at < CHOICES && choice[at] != token[t])
					at++;
				assert_true(at < CHOICES);
				cell = cell * CHOICES + at;
			}
			count[cell]++;
			drafted += stats.drafted[0];
			accepted += stats.accepted[0];
		}
		if (!(accepted > drafted / 10 && accepted < drafted)) /* both outcomes of a trial occur */
			fail_msg("setup %zu: %zu of %zu first drafted tokens were kept", i, accepted, drafted);
		for (size_t cell = 0; cell < CELLS; cell++) {
			double expected = law[cell] * STREAMS, off = (double)count[cell] - expected;
			if (expected < 5.0)
				continue;
			chi += off * off / expected;
			used++;
		}
		double spread = 2.0 / (9.0 * (double)used),
		       root = 1.0 - spread + 4.26 * sqrt(spread); /* once in 10^5 */
		if (!(chi < (double)used * root * root * root))
			fail_msg("%s, %s: chi-square %g over %zu cells", octavo_accept_name(setups[i].rule),
			         setups[i].drafter, chi, used);
	}
	for (int i = 0; i < 2; i++)
		ckpt_dir_free(heads[i]);
	octavo_engine_close(&e);
}

/* Sure drafters draft more; what is emitted stays the same. */
static void the_unsure_stop(void **state)
{
	(void)state;
	struct octavo_engine_settings one = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &one);
	struct octavo_session_settings s = { .drafter = "mtp", .k = 4, .ignore_eos = 1,
	                                     .sampling = { .temperature = 0.8f } };
	struct octavo_session_stats stats;
	int32_t expected[MOST_TOKENS], token[MOST_TOKENS];
	static const double level[] = { 0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0 };
	enum { LEVELS = sizeof level / sizeof *level };
	size_t drafted[LEVELS] = { 0 };
	int between = 0;
	for (size_t i = 0; i < LEVELS; i++) {
		s.confidence.best = level[i];
		decode(e, &s, i ? token : expected, MOST_TOKENS, &stats);
		for (size_t depth = 0; depth < OCTAVO_MAX_K; depth++)
			drafted[i] += stats.drafted[depth];
		if (i)
			assert_memory_equal(token, expected, sizeof expected);
		between |= drafted[i] > 0 && drafted[i] < drafted[0];
	}
	assert_int_equal(drafted[LEVELS - 1], 0);
	assert_true(between);
	struct octavo_session *session;
	struct octavo_error error;
	s.confidence.path = 1.5;
	assert_int_equal(octavo_session_open(&session, e, &s, &error), OCTAVO_EINVAL);
	assert_non_null(strstr(error.text, "confidence"));
	octavo_engine_close(&e);
}

/* At temperature 0 every rule that promises it emits the tokens of plain decoding, penalties included. */
static void rules_are_one_at_temperature_0(void **state)
{
	(void)state;
	struct octavo_engine_settings one = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &one);
	for (int penalised = 0; penalised < 2; penalised++) {
		const struct octavo_sampling sampling = { .frequency = penalised ? 0.3f : 0.0f };
		struct octavo_session_settings plain = { .sampling = sampling, .ignore_eos = 1 };
		struct octavo_session_stats stats;
		int32_t expected[MOST_TOKENS], token[MOST_TOKENS];
		decode(e, &plain, expected, MOST_TOKENS, &stats);
		for (int rule = 0; rule < OCTAVO_ACCEPT_COUNT; rule++)
			for (int drafter = 0; drafter < 2 && rule != OCTAVO_ACCEPT_CANDIDATES; drafter++) {
				struct octavo_session_settings s = plain;
				s.accept = (enum octavo_accept)rule;
				s.drafter = drafter ? "ngram" : "mtp";
				s.k = 4;
				decode(e, &s, token, MOST_TOKENS, &stats);
				assert_memory_equal(token, expected, sizeof expected);
			}
	}
	octavo_engine_close(&e);
}

static void what_does_not_fit_is_refused(void **state)
{
	(void)state;
	struct octavo_engine_settings one = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &one);
	const struct octavo_bias far = { 1 << 20, 1.0f };
	struct octavo_session *s;
	struct octavo_error error;
	static const enum octavo_accept chains_only[] = { OCTAVO_ACCEPT_REJECTION, OCTAVO_ACCEPT_BLOCK };
	for (size_t i = 0; i < 2; i++) {
		struct octavo_session_settings tree = { .drafter = "mtp", .accept = chains_only[i], .tree = { 2, 1 },
			                                .sampling = { .temperature = 1 } };
		assert_int_equal(octavo_session_open(&s, e, &tree, &error), OCTAVO_EINVAL);
		assert_non_null(strstr(error.text, "chains"));
	}
	struct octavo_session_settings bad = { .sampling = { .bias = &far, .biases = 1 } };
	assert_int_equal(octavo_session_open(&s, e, &bad, &error), OCTAVO_EINVAL);
	assert_non_null(strstr(error.text, "1048576"));
	bad = (struct octavo_session_settings){ .accept = OCTAVO_ACCEPT_COUNT };
	assert_int_equal(octavo_session_open(&s, e, &bad, &error), OCTAVO_EINVAL);
	assert_non_null(strstr(error.text, "rule"));
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_keep_the_law),
		cmocka_unit_test(rules_are_one_at_temperature_0), cmocka_unit_test(the_unsure_stop),
		cmocka_unit_test(what_does_not_fit_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
