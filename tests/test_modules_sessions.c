/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions on a checkpoint with several MTP modules: their caches against those of a fresh run over the same text, and
 * streams that are those of plain decoding.
 */
#include "engine/draft/recycle.h"
#include "tests/support/oracle.h"
#include "tests/support/random.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

enum { MODULES = 4, LENGTH = 150, HIDDEN = 24 };

/* A text of the byte tokens. */
static void make_text(int32_t *token, size_t count, uint64_t seed)
{
	token[0] = 0;
	for (size_t i = 1; i < count; i++)
		token[i] = (int32_t)(random_bits(&seed) % 256) + 3;
}

/* ---- Caches ------------------------------------------------------------------------------------------------------ */

/* The main model's states of a text, and behind them what module after module leaves in the cache, all rows at once. */
static void run_modules(struct octavo_engine *e, const int32_t *text, size_t count)
{
	static float g[LENGTH * HIDDEN];
	struct octavo_error error = { "" };
	assert_true(count <= LENGTH && count <= e->settings.max_rows);
	assert_int_equal(octavo_rewind(e, 0, 0, &error), OCTAVO_OK);
	assert_int_equal(octavo_append(e, 0, text, count, 0, 0, &error), OCTAVO_OK);
	memcpy(g, e->hidden[e->settings.mtp_first_tap], count * HIDDEN * sizeof *g);
	for (size_t m = 0; m < MODULES; m++) {
		struct octavo_share all = { .rows = count - m, .token = text + 1 + m, .state = g };
		if (octavo_mtp_forward(e, &e->weights.mtp[m], &e->kv, e->config.layers + m, &all, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		memcpy(g, e->mtp_hidden[e->settings.mtp_recycle_tap], all.rows * HIDDEN * sizeof *g);
	}
}

/* The session's rows of every module, after it has caught up: those of `fresh`. */
static void expect_fresh_cache(const struct octavo_session *s, struct octavo_drafter *drafter,
                               const struct octavo_engine *fresh)
{
	struct octavo_recycler *r = (struct octavo_recycler *)drafter;
	struct octavo_error error = { "" };
	assert_true(drafter->ops == &octavo_drafter_mtp);
	assert_int_equal(r->base.catch_up(&r->base, &error), OCTAVO_OK);
	assert_int_equal(r->base.valid + r->base.waiting, s->committed);
	for (size_t m = 0; m < MODULES; m++) {
		assert_int_equal(r->made[m], s->committed - m);
		assert_memory_equal(octavo_kv_slots(&s->engine->kv, s->sequence, s->engine->config.layers + m),
		                    octavo_kv_slots(&fresh->kv, 0, fresh->config.layers + m),
		                    r->made[m] * fresh->kv.bytes);
	}
}

static struct octavo_session_settings shape_of(unsigned kind)
{
	static const struct octavo_session_settings settings[] = {
		{ .drafter = "mtp", .k = 8 },
		{ .drafter = "mtp", .tree = { 3, 2, 1, 1 } },
		{ .drafter = "mtp", .k = 1 }, /* later modules catch up when they must */
		{ .drafter = "mtp", .dynamic = { 20, 2, 6 } },
		{ .drafter = "mtp", .k = 2 },
		{ .drafter = "ngram+mtp", .k = 4 }, /* many steps without a draft of its own */
	};
	return settings[kind];
}

enum { KINDS = 6 };

/* Sessions with random patterns of accepted and refused rows; the last kind's drafts are its own. */
static void check_caches(unsigned kind, struct octavo_engine_settings settings, size_t max_rows)
{
	enum { PROMPT = 70, NEW = LENGTH - PROMPT - 1 };
	struct octavo_session_settings s = shape_of(kind), plain = { .max_new = NEW, .ignore_eos = 1 };
	struct octavo_error error = { "" };
	struct octavo_emitted emitted;
	struct oracle oracle;
	struct output out;
	size_t accepted = 0, refused = 0;
	int32_t text[LENGTH];
	settings.max_rows = LENGTH;
	struct octavo_engine *fresh = open_model("tiny-modules", &settings);
	settings.max_rows = max_rows;
	struct octavo_engine *e = open_model("tiny-modules", &settings);
	make_text(text, PROMPT, kind);
	decode(fresh, &plain, text, PROMPT, &out);
	memcpy(text + PROMPT, out.token, NEW * sizeof *text);
	s.max_new = NEW;
	s.ignore_eos = 1;
	struct octavo_session *session = open_session(e, &s);
	struct octavo_drafter *mtp = session->drafter->pair[1] ? session->drafter->pair[1] : session->drafter;
	if (kind < KINDS - 1)
		oracle_take(&oracle, session, text, LENGTH - 1, kind + (uint32_t)max_rows);
	assert_int_equal(octavo_session_prompt(session, text, PROMPT, &error), OCTAVO_OK);
	while (session->stats.finish == OCTAVO_RUNNING) {
		if (octavo_sessions_step(&session, 1, &emitted, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		accepted += session->outcome.accepted;
		refused += session->tree.rows - 1 - session->outcome.accepted;
	}
	assert_true(kind == KINDS - 1 ? refused > 0 : accepted > 15 && refused > 30);
	assert_memory_equal(session->token, text, (LENGTH - 1) * sizeof *text);
	run_modules(fresh, text, session->committed);
	expect_fresh_cache(session, mtp, fresh);
	octavo_session_close(&session);
	octavo_engine_close(&e);
	octavo_engine_close(&fresh);
}

static void caches_follow_the_text(void **state)
{
	for (unsigned taps = 0; taps < 4; taps++)
		for (unsigned kind = 0; kind < KINDS; kind++) {
			struct octavo_engine_settings settings = { .threads = 1, .kv = cache_of(state) };
			settings.mtp_first_tap = taps & 1;
			settings.mtp_recycle_tap = taps >> 1;
			check_caches(kind, settings, (kind + taps) % 2 ? 64 : 23);
		}
}

/* ---- Streams ----------------------------------------------------------------------------------------------------- */

static const struct octavo_session_settings configurations[] = {
	{ .drafter = "mtp", .k = 1 },
	{ .drafter = "mtp", .k = 2 },
	{ .drafter = "mtp", .k = 3 },
	{ .drafter = "mtp", .k = 8 },
	{ .drafter = "mtp" },
	{ .drafter = "mtp", .tree = { 4, 2, 1 } },
	{ .drafter = "mtp", .tree = { 2, 2, 1, 1, 1 } },
	{ .drafter = "mtp", .dynamic = { 16, 3, 5 } },
	{ .drafter = "mtp", .k = 5, .confidence = { .best = 0.2 } },
	{ .drafter = "mtp", .tree = { 2, 1, 2, 1, 1 }, .draft_vocab = 100 },
	{ .drafter = "ngram+mtp", .k = 3 },
	{ .drafter = "ngram+mtp" },
};

enum { CONFIGURATIONS = sizeof configurations / sizeof *configurations };

/* One session's text behind another's, which is left in its middle. */
static void check_stream(struct octavo_engine *e, const struct octavo_session_settings *s, const int32_t *text,
                         size_t prompt, const struct output *plain)
{
	struct octavo_error error;
	struct octavo_emitted emitted;
	struct output out;
	struct octavo_session *session = open_session(e, s);
	assert_int_equal(octavo_session_prompt(session, text + 20, 40, &error), OCTAVO_OK);
	for (int step = 0; step < 4; step++)
		assert_int_equal(octavo_sessions_step(&session, 1, &emitted, &error), OCTAVO_OK);
	assert_int_equal(octavo_session_prompt(session, text, prompt, &error), OCTAVO_OK);
	finish(session, &out);
	octavo_session_close(&session);
	expect_same(plain, &out, s->drafter);
	if (prompt > 1 && (s->k || s->tree[0]) && s->drafter[0] == 'm' && !s->confidence.best)
		assert_true(out.stats.drafted[0] > 0);
}

/* From prompts shorter than there are modules to longer ones than fit a forward. */
static void streams_are_identical(void **state)
{
	static const size_t length[] = { 1, 2, 3, 5, 71 };
	int32_t text[LENGTH];
	make_text(text, LENGTH, 7);
	for (unsigned threads = 1; threads <= 2; threads++) {
		struct octavo_engine_settings settings = { .threads = threads, .kv = cache_of(state),
			                                   .max_rows = threads == 1 ? 64 : 22 };
		struct octavo_engine *e = open_model("tiny-modules", &settings);
		for (size_t i = 0; i < 2 * sizeof length / sizeof *length; i++) {
			struct octavo_session_settings base = { .max_new = 30, .ignore_eos = 1, .stream = { 5, i } };
			struct output plain;
			base.sampling.temperature = i % 2 ? 0.8f : 0.0f;
			decode(e, &base, text, length[i / 2], &plain);
			for (size_t c = 0; c < CONFIGURATIONS; c++) {
				struct octavo_session_settings s = configurations[c];
				s.sampling = base.sampling;
				s.max_new = base.max_new;
				s.ignore_eos = 1;
				s.stream = base.stream;
				check_stream(e, &s, text, length[i / 2], &plain);
			}
		}
		octavo_engine_close(&e);
	}
}

/* Side by side, at one module or at different ones. */
static void sessions_draft_together(void **state)
{
	enum { SESSIONS = 4, NEW = 40 };
	static const size_t length[SESSIONS] = { 34, 33, 5, 1 };
	struct octavo_engine_settings settings = { .threads = 1, .kv = cache_of(state), .sequences = SESSIONS,
		                                   .max_rows = 64 };
	struct octavo_engine *e = open_model("tiny-modules", &settings);
	struct octavo_session *s[SESSIONS];
	struct output alone[SESSIONS];
	int32_t text[LENGTH];
	make_text(text, LENGTH, 11);
	for (size_t i = 0; i < SESSIONS; i++) {
		struct octavo_session_settings one = { .drafter = "mtp", .k = (unsigned)(3 + i), .max_new = NEW - 5 * i,
			                               .ignore_eos = 1, .sampling = { .temperature = 0.8f },
			                               .stream = { 1, (uint32_t)i } }, plain = one;
		struct octavo_error error;
		plain.drafter = NULL;
		decode(e, &plain, text + i, length[i], &alone[i]);
		s[i] = open_session(e, &one);
		assert_int_equal(octavo_session_prompt(s[i], text + i, length[i], &error), OCTAVO_OK);
	}
	finish_together(s, SESSIONS, alone);
	octavo_engine_close(&e);
}

/* Rules that draw drafts from the modules' laws, and the rule that asks them for candidates. */
static void other_rules_run(void **state)
{
	(void)state;
	static const struct octavo_session_settings rules[] = {
		{ .accept = OCTAVO_ACCEPT_REJECTION, .k = 5 },
		{ .accept = OCTAVO_ACCEPT_BLOCK, .k = 4 },
		{ .accept = OCTAVO_ACCEPT_MULTIROUND, .tree = { 3, 2, 1, 1 } },
		{ .accept = OCTAVO_ACCEPT_CANDIDATES, .shortlist = { .most = 16 }, .k = 4 },
	};
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-modules", &settings);
	int32_t text[8];
	make_text(text, 8, 9);
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
		struct octavo_session_settings s = rules[i];
		struct output out;
		s.drafter = "mtp";
		s.sampling.temperature = 1.0f;
		s.max_new = 24;
		s.ignore_eos = 1;
		decode(e, &s, text, 8, &out);
		assert_int_equal(out.count, 24);
		assert_true(out.stats.drafted[3] > 0);
	}
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(caches_follow_the_text),
		cmocka_unit_test(streams_are_identical),
		cmocka_unit_test(sessions_draft_together),
		cmocka_unit_test(other_rules_run),
		{ "caches_follow_the_text, FP8 cache", caches_follow_the_text, NULL, NULL, "fp8" },
		{ "streams_are_identical, FP8 cache", streams_are_identical, NULL, NULL, "fp8" },
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
