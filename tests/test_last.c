/* SPDX-License-Identifier: Apache-2.0
 *
 * What sessions tell of their last step: put together, it is the stream; its contexts are the stream's beginnings, its
 * drafts hold what was kept, and its hidden states are those of the same tokens run alone.
 */
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

enum { PROMPT = 12, CROWD = 6 };

static const int32_t prompt[PROMPT] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };

static const struct octavo_session_settings crowd[CROWD] = {
	{ .drafter = "mtp", .k = 3, .max_new = 40, .ignore_eos = 1 },
	{ .drafter = "none", .max_new = 25, .ignore_eos = 1, .sampling = { .temperature = 0.8f } },
	{ .drafter = "ngram", .tree = { 3, 2, 1 }, .max_new = 50, .ignore_eos = 1, .stream = { 5, 2 } },
	{ .drafter = "mtp", .tree = { 4, 2 }, .max_new = 31, .ignore_eos = 1, .stream = { 0, 7 },
	  .sampling = { .temperature = 0.7f }, .accept = OCTAVO_ACCEPT_MULTIROUND },
	{ .drafter = "ngram+mtp", .max_new = 37, .ignore_eos = 1 },
	{ .drafter = "lookahead", .k = 4, .max_new = 45, .ignore_eos = 1 },
};

/* Takes a step over into the replayed stream, having looked at all that is said of it. */
static void replay(const struct octavo_session *s, const struct octavo_emitted *got, struct output *stream,
                   float *state, size_t hidden)
{
	struct octavo_session_round round;
	assert_int_equal(octavo_session_last(s, &round), OCTAVO_OK);
	assert_int_equal(round.length, PROMPT + stream->count);
	assert_memory_equal(round.context, prompt, sizeof prompt);
	assert_memory_equal(round.context + PROMPT, stream->token, stream->count * sizeof *stream->token);
	assert_int_equal(round.draft.token[0], round.context[round.length - 1]);
	assert_int_equal(round.emitted, got->count);
	assert_true(round.draft.rows <= round.rows && octavo_tree_offered(&s->tree).rows == round.draft.rows);
	assert_true(round.emitted <= round.outcome->accepted + 1);
	for (size_t row = 1; row < round.draft.rows; row++)
		assert_true(round.draft.parent[row] >= 0 && round.draft.parent[row] < (int32_t)row);
	memcpy(state + (round.length - 1) * hidden, round.hidden, hidden * sizeof *state);
	for (size_t i = 0; i < round.emitted; i++) {
		uint32_t row = round.outcome->path[i];
		int32_t token = i < round.outcome->accepted ? round.draft.token[row] : round.outcome->next;
		if (i < round.outcome->accepted)
			assert_int_equal(round.draft.parent[row], i ? (int32_t)round.outcome->path[i - 1] : 0);
		assert_int_equal(token, got->token[i]);
		stream->token[stream->count++] = token;
	}
}

static void rounds_make_the_stream(void **state)
{
	struct octavo_engine_settings settings = { .threads = 1, .sequences = CROWD + 1,
		                                   .max_rows = 128 }; /* in company no tree is cut */
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	size_t hidden = e->config.hidden, running = CROWD, kept = 0;
	enum { MOST = PROMPT + MOST_TOKENS };
	struct octavo_session *s[CROWD];
	struct octavo_emitted got[CROWD];
	struct octavo_session_round round;
	struct octavo_error error;
	static struct output alone[CROWD], stream[CROWD];
	float *seen[CROWD], *right = test_malloc(MOST * hidden * sizeof *right);
	(void)state;
	for (size_t i = 0; i < CROWD; i++) {
		decode(e, &crowd[i], prompt, PROMPT, &alone[i]);
		seen[i] = test_calloc(MOST * hidden, sizeof *seen[i]);
		s[i] = open_session(e, &crowd[i]);
		assert_int_equal(octavo_session_last(s[i], &round), OCTAVO_EINVAL);
		assert_int_equal(octavo_session_prompt(s[i], prompt, PROMPT, &error), OCTAVO_OK);
		assert_int_equal(octavo_session_last(s[i], &round), OCTAVO_EINVAL);
	}
	while (running) {
		if (octavo_sessions_step(s, CROWD, got, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		running = 0;
		for (size_t i = 0; i < CROWD; i++) {
			if (!got[i].count)
				continue;
			replay(s[i], &got[i], &stream[i], seen[i], hidden);
			kept += got[i].count > 1;
			running++;
		}
	}
	assert_true(kept > 5);
	for (size_t i = 0; i < CROWD; i++) {
		stream[i].stats = *octavo_session_stats(s[i]);
		expect_same(&alone[i], &stream[i], crowd[i].drafter);
		octavo_session_close(&s[i]);
	}
	/* The states of the roots, against the same tokens in one run of sequence 0, which is free again. */
	for (size_t i = 0; i < CROWD; i++) {
		int32_t token[MOST];
		size_t count = PROMPT + stream[i].count, roots = 0;
		memcpy(token, prompt, sizeof prompt);
		memcpy(token + PROMPT, stream[i].token, stream[i].count * sizeof *token);
		run_tokens(e, token, count, 16, 0, NULL, right);
		for (size_t at = PROMPT - 1; at < count; at++) {
			size_t zeros = 0;
			for (size_t j = 0; j < hidden; j++)
				zeros += seen[i][at * hidden + j] == 0.0f;
			if (zeros == hidden) /* no root: it was kept behind one */
				continue;
			assert_memory_equal(seen[i] + at * hidden, right + at * hidden, hidden * sizeof *right);
			roots++;
		}
		assert_int_equal(roots, stream[i].stats.steps);
		assert_int_equal(octavo_rewind(e, 0, 0, &error), OCTAVO_OK);
		test_free(seen[i]);
	}
	test_free(right);
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(rounds_make_the_stream) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
