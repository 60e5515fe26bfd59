/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafts among some of the tokens: their logits have the bits of the whole head's, all drafted tokens are among them,
 * the output is plain decoding's, and with all tokens among them the drafts are those that there were.
 */
#include "engine/draft/draftable.h"
#include "tests/support/bundled.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { VOCAB = 4096, BELOW = 600, LENGTH = 48, NEW = 24 };

static struct octavo_engine *open_bundled(size_t sequences)
{
	char dir[PATH_MAX];
	snprintf(dir, sizeof dir, "%s", bundled_path(""));
	struct octavo_engine_settings settings = { .threads = 2, .sequences = sequences };
	return open_model(dir, &settings);
}

/* ---- The head ---------------------------------------------------------------------------------------------------- */

enum { ROWS = 6, OTHERS = 7 };

static int may_draft(const struct octavo_draftable *d, size_t id)
{
	int found = !d || id < d->below;
	for (size_t i = 0; d && i < d->count; i++)
		found |= (size_t)d->token[i] == id;
	return found;
}

/* Against the product with the whole matrix. */
static void check_head(struct octavo_engine *e, const struct octavo_matrix *w, size_t bytes)
{
	static float x[ROWS * 256], all[ROWS * VOCAB], got[ROWS * VOCAB], logits[OCTAVO_MAX_DRAFT * OTHERS];
	static unsigned char weights[OTHERS * 256 * 4];
	int32_t some[] = { 4095, 200, 1000, 777, 2048, 199, 3000 }, one[] = { 64 };
	struct octavo_draftable a = { .below = 130, .token = some, .count = OTHERS, .room = OTHERS, .choosable = VOCAB,
		                      .weights = weights, .bytes = bytes, .logits = logits };
	struct octavo_draftable b = a, c = a;
	b.below = 33;
	b.token = one;
	b.count = 1;
	c.count = 0;
	const struct octavo_draftable *const mixed[ROWS] = { &a, &a, &b, NULL, &c, &a };
	const struct octavo_draftable *const few[ROWS] = { &b, &b, &a, &a, &c, &c };
	const struct octavo_stream stream = { 3, 1 };
	for (size_t i = 0; i < ROWS * 256; i++)
		x[i] = (float)octavo_draw(&stream, (uint32_t)i, OCTAVO_DRAW_TARGET, 0) - 0.5f;
	octavo_linear(e, w, x, ROWS, all);
	assert_int_equal(octavo_draft_head_first(e, ROWS, mixed), VOCAB);
	assert_int_equal(octavo_draft_head_first(e, ROWS, few), 130);
	assert_int_equal(octavo_draft_head_first(e, ROWS, NULL), VOCAB);
	const struct octavo_draftable *const *const kinds[] = { mixed, few, NULL };
	for (size_t kind = 0; kind < 3; kind++) {
		for (size_t i = 0; i < ROWS * VOCAB; i++)
			got[i] = NAN;
		octavo_draft_head(e, w, x, ROWS, kinds[kind], got);
		for (size_t i = 0; i < ROWS * VOCAB; i++) {
			float want = may_draft(kinds[kind] ? kinds[kind][i / VOCAB] : NULL, i % VOCAB) ? all[i] : -INFINITY;
			if (memcmp(&got[i], &want, sizeof want) != 0)
				fail_msg("kind %zu, row %zu, token %zu: %g, not %g", kind, i / VOCAB, i % VOCAB, (double)got[i],
				         (double)want);
		}
	}
}

/* With room to gather all others, three at a time, or none of them. */
static void logits_are_the_whole_heads(void **state)
{
	(void)state;
	need_bundled();
	struct octavo_engine *e = open_bundled(1);
	static unsigned char codes[VOCAB * 256];
	static float scales[VOCAB / 128 * 2];
	for (size_t i = 0; i < sizeof codes; i++)
		codes[i] = (unsigned char)(i * 2654435761u >> 13 & 0xb7); /* small ones of both signs */
	for (size_t i = 0; i < VOCAB / 128 * 2; i++)
		scales[i] = 0.01f * (float)(i + 1);
	const struct octavo_matrix fp8 = { .data = codes, .rows = VOCAB, .cols = 256, .ld = 256, .dtype = OCTAVO_E4M3,
		                           .scale_dtype = OCTAVO_F32, .scale = scales, .scale_ld = 2 };
	assert_int_equal(e->config.hidden, 256);
	assert_int_equal(e->config.vocab, VOCAB);
	for (size_t room = 0; room <= OTHERS; room += room ? 4 : 3)
		check_head(e, &e->weights.head, room * 256 * octavo_dtype_size(e->weights.head.dtype));
	check_head(e, &fp8, OTHERS * 256);
	octavo_engine_close(&e);
}

/* ---- The others -------------------------------------------------------------------------------------------------- */

static void expect_others(const struct octavo_draftable *d, size_t count, int32_t first, int32_t second, int32_t third)
{
	const int32_t want[] = { first, second, third };
	assert_int_equal(d->count, count);
	assert_memory_equal(d->token, want, count * sizeof *want);
}

static void the_latest_stay(void **state)
{
	(void)state;
	int32_t token[3], text[] = { 5, 40, 3, 41, 40, 9, 42, 43, 41, 99, 100, 40 };
	struct octavo_config config = { .eos = { 2, 50 }, .eos_count = 2 };
	struct octavo_draftable d = { .below = 10, .choosable = 100, .token = token, .room = 3 };
	octavo_draftable_begin(&d, &config);
	expect_others(&d, 1, 50, 0, 0);
	octavo_draftable_take(&d, text, 4);
	expect_others(&d, 3, 50, 40, 41);
	octavo_draftable_take(&d, text, 4); /* nothing came */
	octavo_draftable_take(&d, text, 6);
	expect_others(&d, 3, 50, 41, 40);
	octavo_draftable_take(&d, text, 8);
	expect_others(&d, 3, 40, 42, 43);
	octavo_draftable_take(&d, text, 12); /* 100 is no token */
	expect_others(&d, 3, 41, 99, 40);
	octavo_draftable_begin(&d, &config);
	octavo_draftable_take(&d, text, 2);
	expect_others(&d, 2, 50, 40, 0);
}

/* ---- Sessions ---------------------------------------------------------------------------------------------------- */

static const struct setup {
	const char *drafter;
	unsigned k, tree[OCTAVO_MAX_K];
	struct octavo_dynamic dynamic;
} setups[] = {
	{ "mtp", 3, { 0 }, { 0 } },      { "mtp", 0, { 3, 2 }, { 0 } },    { "mtp", 0, { 0 }, { 12, 3, 3 } },
	{ "eagle", 2, { 0 }, { 0 } },    { "eagle", 0, { 0 }, { 12, 3, 3 } }, { "parallel", 2, { 0 }, { 0 } },
	{ "medusa", 3, { 0 }, { 0 } },   { "medusa", 0, { 3, 2 }, { 0 } }, { "hydra", 3, { 0 }, { 0 } },
	{ "hydra", 0, { 3, 2 }, { 0 } }, { "model", 3, { 0 }, { 0 } },     { "model", 0, { 3, 2 }, { 0 } },
	{ "ngram+mtp", 3, { 0 }, { 0 } },
};
enum { SETUPS = sizeof setups / sizeof *setups };

/* Some text, which begins with tokens that may not be drafted but for standing there. */
static const int32_t *prompt_of(size_t index)
{
	static int32_t prompt[LENGTH];
	prompt[0] = 0;
	for (size_t i = 1; i < LENGTH; i++)
		prompt[i] = (int32_t)((i * i * 37 + index * 101 + (i & 7) * 450) % VOCAB);
	return prompt;
}

static struct octavo_session_settings settings_of(const struct setup *setup, float temperature, size_t draft_vocab)
{
	struct octavo_session_settings s = { .drafter = setup->drafter, .k = setup->k, .dynamic = setup->dynamic,
		                             .sampling = { .temperature = temperature }, .stream = { 7, 1 },
		                             .max_new = NEW, .ignore_eos = 1, .draft_vocab = draft_vocab };
	memcpy(s.tree, setup->tree, sizeof s.tree);
	return s;
}

/* What a session's rounds drafted, one behind the other. */
struct drafts {
	struct {
		size_t rows;
		int32_t token[OCTAVO_MAX_DRAFT], parent[OCTAVO_MAX_DRAFT];
	} round[NEW];
	size_t rounds, outside, beyond; /* beyond: tokens from BELOW on; of them, outside: that may not be drafted */
};

static int is_in_text(const struct octavo_session_round *round, int32_t token)
{
	for (size_t i = 0; i < round->length; i++)
		if (round->context[i] == token)
			return 1;
	return token == 1; /* the end of sequence */
}

static void note(const struct octavo_session *s, struct drafts *d)
{
	struct octavo_session_round round;
	assert_int_equal(octavo_session_last(s, &round), OCTAVO_OK);
	assert_true(d->rounds < NEW);
	d->round[d->rounds].rows = round.draft.rows;
	memcpy(d->round[d->rounds].token, round.draft.token, round.draft.rows * sizeof(int32_t));
	memcpy(d->round[d->rounds++].parent, round.draft.parent, round.draft.rows * sizeof(int32_t));
	for (size_t row = 1; row < round.draft.rows; row++) {
		int32_t token = round.draft.token[row];
		d->beyond += token >= BELOW;
		d->outside += token >= BELOW && !is_in_text(&round, token);
	}
}

static void expect_same_drafts(const struct drafts *a, const struct drafts *b, const char *what)
{
	assert_int_equal(a->rounds, b->rounds);
	for (size_t i = 0; i < a->rounds; i++) {
		size_t bytes = a->round[i].rows * sizeof(int32_t);
		if (a->round[i].rows != b->round[i].rows || memcmp(a->round[i].token, b->round[i].token, bytes) != 0 ||
		    memcmp(a->round[i].parent, b->round[i].parent, bytes) != 0)
			fail_msg("%s: round %zu has another draft", what, i);
	}
}

/* All sessions to their ends, side by side. */
static void run_side_by_side(struct octavo_engine *e, const struct octavo_session_settings *settings, size_t count,
                             struct output *out, struct drafts *drafts)
{
	struct octavo_session *session[SETUPS];
	struct octavo_emitted emitted[SETUPS];
	struct octavo_error error;
	size_t running = count;
	for (size_t i = 0; i < count; i++) {
		session[i] = open_session(e, &settings[i]);
		out[i].count = drafts[i].rounds = drafts[i].outside = drafts[i].beyond = 0;
		if (octavo_session_prompt(session[i], prompt_of(i), LENGTH, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
	}
	while (running) {
		if (octavo_sessions_step(session, count, emitted, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		running = 0;
		for (size_t i = 0; i < count; i++) {
			memcpy(out[i].token + out[i].count, emitted[i].token, emitted[i].count * sizeof *emitted[i].token);
			out[i].count += emitted[i].count;
			if (emitted[i].count)
				note(session[i], &drafts[i]);
			running += octavo_session_stats(session[i])->finish == OCTAVO_RUNNING;
		}
	}
	for (size_t i = 0; i < count; i++) {
		out[i].stats = *octavo_session_stats(session[i]);
		octavo_session_close(&session[i]);
	}
}

static void streams_are_plain_decodings(void **state)
{
	(void)state;
	need_bundled();
	struct octavo_engine *e = open_bundled(1);
	static struct drafts drafts, whole;
	struct output plain, got;
	const struct setup none = { .drafter = "none" };
	size_t beyond = 0;
	for (size_t t = 0; t < 2; t++) {
		float temperature = t ? 0.8f : 0.0f;
		struct octavo_session_settings s = settings_of(&none, temperature, BELOW);
		run_side_by_side(e, &s, 1, &plain, &drafts);
		for (size_t i = 0; i < SETUPS; i++) {
			s = settings_of(&setups[i], temperature, 0);
			run_side_by_side(e, &s, 1, &got, &whole);
			assert_true(whole.outside > 0); /* the whole head drafts others too */
			s.draft_vocab = BELOW;
			run_side_by_side(e, &s, 1, &got, &drafts);
			expect_same(&plain, &got, setups[i].drafter);
			if (i + 1 < SETUPS) /* ngram takes what it finds */
				assert_true(got.stats.drafted[0] > 0);
			if (drafts.outside)
				fail_msg("%s: %zu of %zu drafted tokens from %d on are not of the text", setups[i].drafter,
				         drafts.outside, drafts.beyond, BELOW);
			beyond += drafts.beyond;
			s.draft_vocab = VOCAB;
			run_side_by_side(e, &s, 1, &got, &drafts);
			expect_same_drafts(&whole, &drafts, setups[i].drafter);
		}
	}
	assert_true(beyond > 20); /* the text's own are drafted */
	octavo_engine_close(&e);
}

/* Whatever others in the forward may draft. */
static void drafts_do_not_depend_on_company(void **state)
{
	(void)state;
	need_bundled();
	struct octavo_engine *e = open_bundled(4);
	static const size_t below[4] = { BELOW, 0, 1500, BELOW };
	static struct drafts together[4], alone[4];
	static const size_t which[] = { 0, 3, 5, 6, 8, 10 };
	struct output out[4], plain[4];
	const struct setup none = { .drafter = "none" };
	for (size_t w = 0; w < sizeof which / sizeof *which; w++) {
		const struct setup *setup = &setups[which[w]];
		struct octavo_session_settings s[4], p[4];
		for (size_t i = 0; i < 4; i++) {
			s[i] = settings_of(setup, i & 1 ? 0.8f : 0.6f, below[i]);
			p[i] = settings_of(&none, s[i].sampling.temperature, 0);
		}
		run_side_by_side(e, p, 4, plain, together);
		run_side_by_side(e, s, 4, out, together);
		for (size_t i = 0; i < 4; i++)
			expect_same(&plain[i], &out[i], setup->drafter);
		assert_true(!together[0].outside && !together[3].outside && together[1].outside);
		for (size_t keep = 0; keep < 2; keep++) { /* the first prompts, those that stand alone */
			run_side_by_side(e, s, keep + 1, out, alone);
			expect_same_drafts(&alone[keep], &together[keep], setup->drafter);
		}
	}
	octavo_engine_close(&e);
}

/* Candidates and confidence see the law among the tokens that may be drafted. */
static void other_settings_go_with_it(void **state)
{
	(void)state;
	need_bundled();
	struct octavo_engine *e = open_bundled(1);
	struct output plain, got;
	static struct drafts drafts;
	struct octavo_session_settings s = settings_of(&setups[0], 0.8f, BELOW);
	struct octavo_session_settings p = s;
	p.drafter = "none";
	p.k = 0;
	run_side_by_side(e, &p, 1, &plain, &drafts);
	s.confidence.best = 0.3;
	run_side_by_side(e, &s, 1, &got, &drafts);
	expect_same(&plain, &got, "confidence");
	assert_int_equal(drafts.outside, 0);
	s.confidence.best = 0.0;
	s.k = 0; /* auto */
	run_side_by_side(e, &s, 1, &got, &drafts);
	expect_same(&plain, &got, "auto");
	s.k = 2;
	s.accept = OCTAVO_ACCEPT_CANDIDATES;
	s.shortlist = (struct octavo_shortlist){ VOCAB, 0.5 };
	run_side_by_side(e, &s, 1, &got, &drafts);
	expect_same(&plain, &got, "all tokens candidates");
	octavo_engine_close(&e);
}

static void what_cannot_be_is_refused(void **state)
{
	(void)state;
	need_bundled();
	struct octavo_engine *e = open_bundled(1);
	static const size_t wrong[] = { 1, VOCAB + 1, SIZE_MAX };
	struct octavo_session *session;
	struct octavo_error error;
	for (size_t i = 0; i < 3; i++) {
		struct octavo_session_settings s = settings_of(&setups[0], 0.8f, wrong[i]);
		char number[32];
		snprintf(number, sizeof number, "%zu", wrong[i]);
		assert_int_equal(octavo_session_open(&session, e, &s, &error), OCTAVO_EINVAL);
		assert_non_null(strstr(error.text, "draft_vocab"));
		assert_non_null(strstr(error.text, number));
		assert_non_null(strstr(error.text, "4096"));
	}
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(logits_are_the_whole_heads),
		cmocka_unit_test(the_latest_stay),
		cmocka_unit_test(streams_are_plain_decodings),
		cmocka_unit_test(drafts_do_not_depend_on_company),
		cmocka_unit_test(other_settings_go_with_it),
		cmocka_unit_test(what_cannot_be_is_refused),
	};
	return cmocka_run_group_tests_name("draftable", tests, NULL, NULL);
}
