/* SPDX-License-Identifier: Apache-2.0
 *
 * Stop strings: the automaton against a search without one, and sessions that end at every place of their text, inside
 * accepted runs too, with any drafter and in company.
 */
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

enum { PROMPT = 12, TOKENS = 48, MOST_TEXT = 1024 };

static const int32_t prompt[PROMPT] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };

/* ---- What is right, by looking everywhere ------------------------------------------------------------------------ */

struct found {
	size_t end, which; /* bytes up to the end of the first stop to be complete; 0: none is */
};

static struct found search(const char *text, size_t length, const struct octavo_stop *stop, size_t stops)
{
	for (size_t end = 1; end <= length; end++) {
		struct found found = { 0, 0 };
		for (size_t i = 0; i < stops; i++)
			if (stop[i].length <= end &&
			    !memcmp(text + end - stop[i].length, stop[i].text, stop[i].length) &&
			    (!found.end || stop[i].length > stop[found.which].length))
				found = (struct found){ end, i };
		if (found.end)
			return found;
	}
	return (struct found){ 0, 0 };
}

/* How much of the text's end is a stop's beginning. */
static size_t search_held(const char *text, size_t length, const struct octavo_stop *stop, size_t stops)
{
	for (size_t held = length; held; held--)
		for (size_t i = 0; i < stops; i++)
			if (held < stop[i].length && !memcmp(text + length - held, stop[i].text, held))
				return held;
	return 0;
}

/* ---- The automaton ----------------------------------------------------------------------------------------------- */

static uint32_t draw(uint32_t *state, uint32_t n)
{
	*state = *state * 1664525u + 1013904223u;
	return (*state >> 8) % n;
}

static void automaton_finds_what_a_search_finds(void **state)
{
	enum { LENGTH = 48, STOPS = 3, LONGEST = 6 };
	uint32_t seed = 7;
	size_t ended = 0, several = 0;
	(void)state;
	for (size_t trial = 0; trial < 20000; trial++) {
		char text[LENGTH], words[STOPS][LONGEST];
		struct octavo_stop stop[STOPS];
		size_t stops = 1 + draw(&seed, STOPS), fed = 0, used = 0, which = 0;
		uint32_t border[STOPS * LONGEST], matched[STOPS];
		for (size_t i = 0; i < LENGTH; i++)
			text[i] =
			        (char)('a' + draw(&seed, 2 + trial % 2)); /* few letters: strings overlap themselves */
		for (size_t i = 0; i < stops; i++) {
			stop[i] = (struct octavo_stop){ words[i], 1 + draw(&seed, LONGEST) };
			for (size_t j = 0; j < stop[i].length; j++)
				words[i][j] = (char)('a' + draw(&seed, 2 + trial % 2));
		}
		struct octavo_stopper s = { stop, stops, border, matched };
		struct found right = search(text, LENGTH, stop, stops);
		octavo_stopper_open(&s);
		int complete = 0;
		while (fed < LENGTH && !complete) {
			size_t chunk = draw(&seed, 9);
			chunk = chunk < LENGTH - fed ? chunk : LENGTH - fed;
			complete = octavo_stopper_feed(&s, text + fed, chunk, &used, &which);
			fed += complete ? used : chunk;
			if (!complete)
				assert_int_equal(octavo_stopper_held(&s), search_held(text, fed, stop, stops));
		}
		assert_int_equal(complete, right.end != 0);
		if (!complete)
			continue;
		assert_int_equal(fed, right.end);
		assert_int_equal(stop[which].length, stop[right.which].length); /* two may be the same */
		ended++;
		several += stops > 1;
	}
	assert_true(ended > 10000 && several > 5000 && ended < 20000);
}

/* ---- Sessions ---------------------------------------------------------------------------------------------------- */

static const struct {
	const char *drafter;
	unsigned k, tree[OCTAVO_MAX_K];
} drafters[] = {
	{ "none", 0, { 0 } }, { "mtp", 1, { 0 } }, { "mtp", 8, { 0 } }, { "ngram", 8, { 0 } },
	{ "ngram+mtp", 0, { 0 } }, { "mtp", 0, { 4, 2, 1 } }, { "ngram", 0, { 3, 2, 1 } },
};
enum { DRAFTERS = sizeof drafters / sizeof *drafters };

/* The bytes of an output's tokens, and where each token's end. */
struct text {
	char byte[MOST_TEXT];
	size_t length, end[MOST_TOKENS];
};

static void text_of(struct octavo_engine *e, const struct output *out, struct text *text)
{
	text->length = 0;
	for (size_t i = 0; i < out->count; i++) {
		size_t length;
		const char *bytes = octavo_token_text(e, out->token[i], &length);
		if (out->token[i] == e->config.eos[0])
			length = 0;
		assert_true(text->length + length <= MOST_TEXT);
		if (length)
			memcpy(text->byte + text->length, bytes, length);
		text->end[i] = text->length += length;
	}
}

/* Steps to the end.  What is called output for certain only grows, and never past the end's.  Returns whether the end
 * fell into an accepted run. */
static int finish_stepwise(struct octavo_session *s, struct output *out)
{
	const int32_t *token;
	size_t count, settled = 0, certain[MOST_TOKENS + 1], steps = 0;
	struct octavo_error error;
	int inside = 0;
	out->count = 0;
	for (;;) {
		if (octavo_session_step(s, &token, &count, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		if (!count)
			break;
		memcpy(out->token + out->count, token, count * sizeof *token);
		out->count += count;
		inside = s->outcome.accepted >= count; /* something was kept that is not emitted */
		out->stats = *octavo_session_stats(s);
		assert_true(out->stats.text >= settled);
		certain[steps++] = settled = out->stats.text;
	}
	for (size_t i = 0; i < steps; i++)
		assert_true(certain[i] <= out->stats.text);
	return inside;
}

/* Every drafter with these stops, against what a search of the text without stops says.  Returns how many ended inside
 * a run. */
static size_t check_stops(struct octavo_engine *e, const struct octavo_session_settings *base,
                          const struct output *whole, const struct text *text, const struct octavo_stop *stop,
                          size_t stops)
{
	struct found right = search(text->byte, text->length, stop, stops);
	size_t tokens = 0, inside = 0;
	struct octavo_error error;
	while (tokens < whole->count && (!right.end || text->end[tokens] < right.end))
		tokens++;
	tokens += right.end != 0;
	for (size_t i = 0; i < DRAFTERS; i++) {
		struct octavo_session_settings settings = *base;
		struct output out;
		settings.drafter = drafters[i].drafter;
		settings.k = drafters[i].k;
		memcpy(settings.tree, drafters[i].tree, sizeof settings.tree);
		settings.stop = stop;
		settings.stops = stops;
		struct octavo_session *s = open_session(e, &settings);
		assert_int_equal(octavo_session_prompt(s, prompt, PROMPT, &error), OCTAVO_OK);
		inside += finish_stepwise(s, &out) && right.end;
		octavo_session_close(&s);
		assert_int_equal(out.count, tokens);
		assert_memory_equal(out.token, whole->token, tokens * sizeof *out.token);
		assert_int_equal(out.stats.emitted, tokens);
		assert_int_equal(out.stats.finish, right.end ? OCTAVO_FINISH_STOP : OCTAVO_FINISH_LENGTH);
		assert_int_equal(out.stats.text, right.end ? right.end - stop[right.which].length : text->length);
		if (right.end)
			assert_int_equal(out.stats.stop, right.which);
	}
	return inside;
}

/* A stop of each length at every place of the text. */
static void sessions_end_anywhere(void **state)
{
	static const size_t lengths[] = { 1, 2, 5 };
	static const struct octavo_bias few[] = { { 100, 50.0f }, { 101, 50.0f }, { 102, 50.0f }, { 103, 50.0f } };
	static const struct octavo_sampling laws[] = {
		{ .temperature = 0.8f },
		{ .temperature = 0.0f },
		{ .temperature = 0.2f, .bias = few, .biases = 4 }, /* of few tokens, which drafters guess often */
	};
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	size_t inside = 0;
	(void)state;
	for (size_t law = 0; law < sizeof laws / sizeof *laws; law++) {
		struct octavo_session_settings base = { .max_new = TOKENS, .ignore_eos = 1, .stream = { 2, 5 },
			                                .sampling = laws[law] };
		struct output whole;
		static struct text text;
		decode(e, &base, prompt, PROMPT, &whole);
		text_of(e, &whole, &text);
		assert_true(text.length >= TOKENS / 2);
		assert_int_equal(whole.stats.text, text.length);
		for (size_t i = 0; i < 3; i++)
			for (size_t at = 0; at + lengths[i] <= text.length && at < TOKENS; at += i ? 4 : 1) {
				struct octavo_stop stop = { text.byte + at, lengths[i] };
				inside += check_stops(e, &base, &whole, &text, &stop, 1);
			}
		/* One that only begins, at the very end: held back until the session ends otherwise. */
		char begun[3] = { text.byte[text.length - 2], text.byte[text.length - 1], '\x01' };
		struct octavo_stop stop = { begun, sizeof begun };
		check_stops(e, &base, &whole, &text, &stop, 1);
	}
	assert_true(inside > 20);
	octavo_engine_close(&e);
}

/* A text of é in two tokens, and of a token of several three-byte characters: stops that begin and end within tokens
 * and within characters, and several of them at once. */
static void characters_may_be_cut(void **state)
{
	static const struct octavo_bias bias[] = { { 3 + 0xc3, 200.0f }, { 3 + 0xa9, 200.0f }, { 259, 200.0f } };
	static const struct octavo_stop stops[] = {
		{ "\xc3\xa9", 2 },                       /* é, which is two tokens */
		{ "\xa9\xc3", 2 },                       /* the end of one character and the beginning of another */
		{ "\xef\xbd\x9cU", 4 },                  /* |U, within a token */
		{ "\xc3\xa9\xc3\xa9", 4 },               /* four tokens */
		{ "\x9c>\xc3", 3 },                      /* from within a character of a token into the next token */
		{ "\xef\xbd\x9c><\xef\xbd\x9cUs", 9 },   /* from one token into the same one again */
		{ "\xa9<\xef", 3 },
	};
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	size_t found = 0, inside = 0;
	(void)state;
	for (uint64_t stream = 0; stream < 6; stream++) {
		struct octavo_session_settings base = { .max_new = TOKENS,
			                                .stream = { 3, stream },
			                                .sampling = {
			                                        .temperature = 1.0f, .bias = bias, .biases = 3 } };
		struct output whole;
		static struct text text;
		decode(e, &base, prompt, PROMPT, &whole);
		text_of(e, &whole, &text);
		for (size_t first = 0; first < 7; first++)
			for (size_t count = 1; first + count <= 7; count += 2) {
				inside += check_stops(e, &base, &whole, &text, stops + first, count);
				found += search(text.byte, text.length, stops + first, count).end != 0;
			}
	}
	assert_true(found > 60 && inside);
	octavo_engine_close(&e);
}

/* Side by side, each with stops of its own or none, they end as they do alone. */
static void company_changes_no_stop(void **state)
{
	enum { CROWD = DRAFTERS };
	static const struct octavo_stop none = { "no such text", 12 };
	struct octavo_engine_settings settings = { .threads = 2, .sequences = CROWD + 1 }; /* one to decode alone */
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_session *s[CROWD];
	struct octavo_emitted got[CROWD];
	struct octavo_stop stop[CROWD][2];
	static struct output alone[CROWD], together[CROWD];
	static struct text text[CROWD];
	struct octavo_error error;
	size_t emitted, ended = 0;
	(void)state;
	for (size_t i = 0; i < CROWD; i++) {
		struct octavo_session_settings own = { .drafter = drafters[i].drafter, .k = drafters[i].k,
		                                       .max_new = TOKENS,
			                               .ignore_eos = 1, .stream = { 9, i },
			                               .sampling = { .temperature = i % 2 ? 0.0f : 0.9f } };
		memcpy(own.tree, drafters[i].tree, sizeof own.tree);
		decode(e, &own, prompt, PROMPT, &alone[i]);
		text_of(e, &alone[i], &text[i]);
		stop[i][0] = none;
		stop[i][1] = (struct octavo_stop){ text[i].byte + 5 * i, i };
		own.stop = stop[i];
		own.stops = i ? 2 : 1;
		decode(e, &own, prompt, PROMPT, &alone[i]);
		ended += alone[i].stats.finish == OCTAVO_FINISH_STOP && alone[i].stats.stop == 1;
		together[i].count = 0;
		s[i] = open_session(e, &own);
		assert_int_equal(octavo_session_prompt(s[i], prompt, PROMPT, &error), OCTAVO_OK);
	}
	assert_int_equal(ended, CROWD - 1);
	do {
		if (octavo_sessions_step(s, CROWD, got, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		emitted = 0;
		for (size_t i = 0; i < CROWD; emitted += got[i++].count) {
			memcpy(together[i].token + together[i].count, got[i].token,
			       got[i].count * sizeof *got[i].token);
			together[i].count += got[i].count;
		}
	} while (emitted);
	for (size_t i = 0; i < CROWD; i++) {
		together[i].stats = *octavo_session_stats(s[i]);
		expect_same(&alone[i], &together[i], drafters[i].drafter);
		assert_int_equal(together[i].stats.text, alone[i].stats.text);
		octavo_session_close(&s[i]);
	}
	octavo_engine_close(&e);
}

/* A session's next prompt begins with a clean slate: half a stop at the end of the last output is forgotten. */
static void prompts_start_over(void **state)
{
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_session_settings base = { .max_new = 3, .ignore_eos = 1 };
	struct octavo_error error;
	struct output once, again;
	static struct text text;
	(void)state;
	decode(e, &base, prompt, PROMPT, &once);
	text_of(e, &once, &text);
	assert_true(text.length > 1);
	char twice[2] = { text.byte[text.length - 1], text.byte[0] };
	struct octavo_stop stop = { twice, 2 };
	assert_int_equal(search(text.byte, text.length, &stop, 1).end, 0);
	base.stop = &stop;
	base.stops = 1;
	struct octavo_session *s = open_session(e, &base);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(octavo_session_prompt(s, prompt, PROMPT, &error), OCTAVO_OK);
		assert_int_equal(octavo_session_stats(s)->text, 0);
		finish(s, &again);
		expect_same(&once, &again, "the same prompt again");
		assert_int_equal(again.stats.text, text.length);
	}
	octavo_session_close(&s);
	octavo_engine_close(&e);
}

static void bad_stops_are_refused(void **state)
{
	static const struct octavo_stop bad[][2] = { { { "x", 1 }, { "", 0 } }, { { "x", 1 }, { NULL, 1 } } };
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_session_settings own = { .stops = 2 };
	struct octavo_session *s;
	struct octavo_error error;
	(void)state;
	assert_int_equal(octavo_session_open(&s, e, &own, &error), OCTAVO_EINVAL);
	assert_non_null(strstr(error.text, "no list"));
	for (size_t i = 0; i < 2; i++) {
		own.stop = bad[i];
		assert_int_equal(octavo_session_open(&s, e, &own, &error), OCTAVO_EINVAL);
		assert_non_null(strstr(error.text, "stop: string 1"));
	}
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(automaton_finds_what_a_search_finds), cmocka_unit_test(sessions_end_anywhere),
		cmocka_unit_test(characters_may_be_cut),               cmocka_unit_test(company_changes_no_stop),
		cmocka_unit_test(prompts_start_over),                  cmocka_unit_test(bad_stops_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
