/* SPDX-License-Identifier: Apache-2.0
 *
 * Several sessions in one forward: each emits what it emits alone, whatever its company, its drafter, its sampling
 * parameters, and whoever joins or leaves.
 */
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

enum { CROWD = 7, PROMPT = 12 };

static const struct octavo_bias bias[] = { { 9, 4.0f }, { 40, -8.0f } };

/* Unlike in everything: drafts of any length, greedy and sampled, penalties, ends. */
static const struct octavo_session_settings crowd[CROWD] = {
	{ .drafter = "mtp", .k = 3, .max_new = 40, .ignore_eos = 1, .sampling = { .temperature = 0.8f } },
	{ .drafter = "none", .max_new = 23, .ignore_eos = 1 },
	{ .drafter = "ngram", .k = 8, .max_new = 50, .ignore_eos = 1, .stream = { 5, 2 },
	  .sampling = { .temperature = 1.2f, .repetition = 1.3f, .presence = 0.5f } },
	{ .drafter = "mtp", .tree = { 3, 2 }, .max_new = 31, .ignore_eos = 1, .stream = { 0, 7 },
	  .sampling = { .temperature = 0.7f, .top_k = 20, .bias = bias, .biases = 2 } },
	{ .drafter = "ngram+mtp", .max_new = 44, .ignore_eos = 1, .sampling = { .frequency = 0.7f } },
	{ .drafter = "lookahead", .k = 2, .max_new = 37, .ignore_eos = 1, .sampling = { .temperature = 0.6f } },
	{ .drafter = "mtp", .max_new = 17, .ignore_eos = 1, .sampling = { .temperature = 0.9f, .top_p = 0.8f } },
};

static void make_prompt(size_t i, int32_t prompt[PROMPT])
{
	for (size_t at = 0; at < PROMPT; at++)
		prompt[at] = (int32_t)((at % (2 + i)) * 7 + 30 + i);
}

static void start(struct octavo_engine *e, size_t i, struct octavo_session **s)
{
	struct octavo_error error;
	int32_t prompt[PROMPT];
	make_prompt(i, prompt);
	*s = open_session(e, &crowd[i]);
	assert_int_equal(octavo_session_prompt(*s, prompt, PROMPT, &error), OCTAVO_OK);
}

static void company_changes_nothing(void **state)
{
	struct octavo_engine_settings settings = { .threads = 2, .sequences = CROWD, .kv = cache_of(state) };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_session *s[CROWD] = { NULL };
	static struct output alone[CROWD];
	struct output together[CROWD] = { { .count = 0 } };
	struct octavo_error error;
	int32_t prompt[PROMPT];
	size_t widest = 0, running = CROWD;
	for (size_t i = 0; i < CROWD; i++) {
		make_prompt(i, prompt);
		decode(e, &crowd[i], prompt, PROMPT, &alone[i]);
	}
	/* One more joins every three rounds; who has ended leaves. */
	for (size_t round = 0, joined = 0; running; round++) {
		struct octavo_session *in[CROWD];
		struct octavo_emitted got[CROWD];
		size_t who[CROWD], count = 0;
		if (round % 3 == 0 && joined < CROWD) {
			start(e, joined, &s[joined]);
			joined++;
		}
		for (size_t i = 0; i < joined; i++)
			if (s[i]) {
				who[count] = i;
				in[count++] = s[i];
			}
		if (!count)
			continue;
		widest = count > widest ? count : widest;
		if (octavo_sessions_step(in, count, got, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		for (size_t j = 0; j < count; j++) {
			struct output *out = &together[who[j]];
			memcpy(out->token + out->count, got[j].token, got[j].count * sizeof *out->token);
			out->count += got[j].count;
			if (octavo_session_stats(in[j])->finish == OCTAVO_RUNNING)
				continue;
			out->stats = *octavo_session_stats(in[j]);
			octavo_session_close(&s[who[j]]);
			running--;
		}
	}
	assert_true(widest >= 4);
	for (size_t i = 0; i < CROWD; i++)
		expect_same(&alone[i], &together[i], crowd[i].drafter);
	octavo_engine_close(&e);
}

/* Fewer rows than the drafts want: they are cut, the tokens stay. */
static void few_rows_are_shared(void **state)
{
	(void)state;
	struct octavo_engine_settings settings = { .threads = 1, .sequences = 4, .max_rows = 9 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_session_settings wish = { .drafter = "mtp", .k = 8, .max_new = 20, .ignore_eos = 1 };
	struct octavo_session *s[4];
	struct octavo_emitted got[4];
	struct octavo_error error;
	struct output alone, together[4] = { { .count = 0 } };
	int32_t prompt[PROMPT];
	make_prompt(1, prompt);
	decode(e, &wish, prompt, PROMPT, &alone);
	for (size_t i = 0; i < 4; i++) {
		s[i] = open_session(e, &wish);
		assert_int_equal(octavo_session_prompt(s[i], prompt, PROMPT, &error), OCTAVO_OK);
	}
	for (size_t tokens = 1; tokens;) {
		tokens = 0;
		if (octavo_sessions_step(s, 4, got, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		for (size_t i = 0; i < 4; i++) {
			memcpy(together[i].token + together[i].count, got[i].token,
			       got[i].count * sizeof *got[i].token);
			together[i].count += got[i].count;
			tokens += got[i].count;
		}
	}
	for (size_t i = 0; i < 4; i++) {
		together[i].stats = *octavo_session_stats(s[i]);
		expect_same(&alone, &together[i], "few rows");
		assert_true(together[i].stats.rows[3] == 0); /* 9 rows for four: two each */
	}
	/* What is no round is refused, and nothing happens. */
	struct octavo_session *twice[2] = { s[0], s[0] }, *none[1] = { NULL };
	assert_int_equal(octavo_sessions_step(twice, 2, got, &error), OCTAVO_EINVAL);
	assert_non_null(strstr(error.text, "twice"));
	assert_int_equal(octavo_sessions_step(none, 1, got, &error), OCTAVO_EINVAL);
	assert_int_equal(octavo_sessions_step(s, 0, got, &error), OCTAVO_EINVAL);
	for (size_t i = 0; i < 4; i++)
		octavo_session_close(&s[i]);
	octavo_engine_close(&e);
}

/* Rows that choose the same experts read them once; tiny-ragged has one MoE layer, 3 of 8 experts each. */
static void the_union_is_counted(void **state)
{
	(void)state;
	struct octavo_engine *e = open_model("tiny-ragged", &(struct octavo_engine_settings){ .threads = 2 });
	int32_t token[3] = { 50, 50, 90 };
	size_t distinct = 0, rows = 0, alone;
	run_tokens(e, token, 1, 1, 0, NULL, NULL);
	octavo_forward_experts(e, &alone, &rows);
	assert_int_equal(alone, 3);
	assert_int_equal(rows, 1);
	run_tokens(e, token, 3, 3, 0, NULL, NULL);
	octavo_forward_experts(e, &distinct, &rows);
	assert_in_range(distinct, 3, 8);
	assert_int_equal(rows, 3);
	assert_int_equal(distinct, e->expert_union);
	octavo_forward_experts(NULL, &distinct, NULL);
	assert_int_equal(distinct, 0);
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(company_changes_nothing),
		{ "company_changes_nothing, FP8 cache", company_changes_nothing, NULL, NULL, "fp8" },
		cmocka_unit_test(few_rows_are_shared),
		cmocka_unit_test(the_union_is_counted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
