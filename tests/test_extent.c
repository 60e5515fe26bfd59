/* SPDX-License-Identifier: Apache-2.0
 *
 * How far a draft goes, by how sure the drafter is of its tokens: by hand-made values of tokens and time, what the
 * choice of k learns of shares, and sessions that leave tokens out.
 */
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { SURE = OCTAVO_SHARES - 1, MIDDLE = 3, DOUBTFUL = 0 };
static const double share_of[OCTAVO_SHARES] = { 0.52, 0.62, 0.7, 0.77, 0.85, 0.92, 0.96, 0.99 };
static const double chance_of[OCTAVO_SHARES] = { 0.1, 0.25, 0.4, 0.6, 0.7, 0.85, 0.9, 0.99 };

/* Plain decoding brings a token per 100 ns; a row more takes 40, a drafted token 10.  Tokens are sure or doubtful. */
static struct octavo_extent example(void)
{
	struct octavo_extent x = { .most = 4, .weighs = 1, .rate = 0.01, .token = 1.0, .left_out = 105.0 };
	for (unsigned i = 0; i <= OCTAVO_MAX_K; i++) {
		x.verify[i] = 100.0 + 40.0 * i;
		x.draft[i] = 10.0 * i;
	}
	for (unsigned i = 0; i < OCTAVO_MAX_K; i++)
		x.kept[i] = 0.5;
	for (unsigned i = 0; i < OCTAVO_SHARES; i++)
		x.chance[i] = chance_of[i];
	x.often[SURE] = x.often[DOUBTFUL] = 0.5;
	octavo_extent_begin(&x);
	return x;
}

static void classes_are_in_order(void **state)
{
	(void)state;
	for (unsigned i = 0; i < OCTAVO_SHARES; i++)
		assert_int_equal(octavo_share_class(share_of[i]), i);
	assert_int_equal(octavo_share_class(0.5), DOUBTFUL);
	assert_int_equal(octavo_share_class(2.0 / 3.0), 2);
	assert_int_equal(octavo_share_class(1.0), SURE);
}

/* A token is submitted if its chance is worth a row: 0.4 here. */
static void doubtful_tokens_are_left_out(void **state)
{
	(void)state;
	for (unsigned i = 0; i < OCTAVO_SHARES; i++) {
		struct octavo_extent x = example();
		octavo_extent_take(&x, share_of[i]);
		assert_int_equal(x.drafted, 1);
		assert_int_equal(x.submitted, x.chance[i] >= 0.4 - 0.05); /* or a forward behind a draft for nothing: 0.05 */
	}
	struct octavo_extent x = example();
	octavo_extent_take(&x, share_of[SURE]);
	octavo_extent_take(&x, share_of[DOUBTFUL]);
	assert_int_equal(x.drafted, 2);
	assert_int_equal(x.submitted, 1);
	octavo_extent_take(&x, share_of[SURE]); /* behind a doubtful one: most likely never reached */
	assert_int_equal(x.drafted, 3);
	assert_int_equal(x.submitted, 1);
}

/* Behind a sure token another one pays, behind a doubtful one none does. */
static void sure_drafts_go_on(void **state)
{
	(void)state;
	struct octavo_extent x = example();
	while (octavo_extent_goes_on(&x))
		octavo_extent_take(&x, share_of[SURE]);
	assert_int_equal(x.drafted, 4);
	assert_int_equal(x.submitted, 4);
	x = example();
	assert_true(octavo_extent_goes_on(&x));
	octavo_extent_take(&x, share_of[DOUBTFUL]);
	assert_false(octavo_extent_goes_on(&x));
}

/* A token of which it will be known that it is sure is worth drafting where an average one is not worth a row. */
static void choices_are_worth_something(void **state)
{
	(void)state;
	struct octavo_extent x = example();
	for (unsigned i = 0; i < OCTAVO_MAX_K; i++)
		x.kept[i] = 0.3;
	assert_true(octavo_extent_goes_on(&x)); /* half of them gain 0.99 - 0.4, for a tenth of a forward */
	x.often[SURE] = x.often[DOUBTFUL] = 0.0;
	x.often[2] = 1.0;
	assert_false(octavo_extent_goes_on(&x)); /* all are as good as a row costs */
	x = example();
	x.often[SURE] = 0.1;
	x.often[DOUBTFUL] = 0.9;
	for (unsigned i = 0; i < OCTAVO_MAX_K; i++)
		x.kept[i] = 0.3;
	assert_false(octavo_extent_goes_on(&x)); /* one in ten is not worth the drafting */
}

/* Two rows are as dear as four: one token does not pay, three do. */
static void steps_of_the_curve_are_seen_past(void **state)
{
	(void)state;
	struct octavo_extent x = example();
	x.often[SURE] = x.often[DOUBTFUL] = 0.0;
	x.often[MIDDLE] = 1.0;
	for (unsigned i = 1; i <= OCTAVO_MAX_K; i++)
		x.verify[i] = i < 4 ? 170.0 : 400.0;
	x.verify[0] = x.left_out = 100.0;
	x.chance[MIDDLE] = 0.6;
	for (unsigned i = 0; i < OCTAVO_MAX_K; i++)
		x.kept[i] = 0.8;
	octavo_extent_begin(&x);
	assert_true(octavo_extent_goes_on(&x));
	octavo_extent_take(&x, share_of[SURE]);
	octavo_extent_take(&x, share_of[SURE]);
	octavo_extent_take(&x, share_of[SURE]);
	assert_int_equal(x.submitted, 3);
	octavo_extent_take(&x, share_of[SURE]);
	assert_int_equal(x.submitted, 3); /* the fifth row is a step */
}

/* Drafts that are to be as long as asked for, and those that are made in one go. */
static void what_was_asked_for_is_drafted(void **state)
{
	(void)state;
	struct octavo_extent x = { .most = 3 };
	octavo_extent_begin(&x);
	while (octavo_extent_goes_on(&x))
		octavo_extent_take(&x, share_of[DOUBTFUL]);
	assert_int_equal(x.drafted, 3);
	assert_int_equal(x.submitted, 3);
	x = example();
	x.at_once = 1;
	while (octavo_extent_goes_on(&x))
		octavo_extent_take(&x, share_of[x.drafted < 2 ? SURE : DOUBTFUL]);
	assert_int_equal(x.drafted, 4);
	assert_int_equal(x.submitted, 2);
}

/* ---- What is learnt of shares ------------------------------------------------------------------------------------ */

static void shares_are_counted(void **state)
{
	(void)state;
	const struct octavo_cost cost = { 1, { 1 }, { 100 } };
	const double share[] = { 0.99, 0.77, 0.51, 0.51 };
	struct octavo_depth_source s = { 0 };
	struct octavo_step step = { .drafted = 4, .submitted = 2, .accepted = 2, .share = share };
	octavo_depth_update(&s, &cost, &step, 1);
	assert_true(s.sure_tried[SURE] == 1 && s.sure_kept[SURE] == 1);
	assert_true(s.sure_tried[MIDDLE] == 1 && s.sure_kept[MIDDLE] == 1);
	assert_true(s.sure_tried[DOUBTFUL] == 0); /* nobody has judged them */
	assert_true(s.sure[SURE] == 1 && s.sure[MIDDLE] == 1 && s.sure[DOUBTFUL] == 2); /* of an unknown class all are kept */
	assert_true(s.tried[2] == 1 && s.kept[2] == 1);
	step.accepted = 0;
	octavo_depth_update(&s, &cost, &step, 1);
	assert_true(s.sure_tried[SURE] > 1.9 && s.sure_kept[SURE] < 1);
	assert_true(s.sure_tried[MIDDLE] < 1); /* behind a refusal: not judged, and faded */
	assert_true(s.tried[2] < 1);
	/* Tokens left out count as what their class has shown. */
	s = (struct octavo_depth_source){ .sure_tried = { 399 }, .sure_kept = { 99 } };
	const double doubtful[] = { 0.51, 0.51 };
	step = (struct octavo_step){ .drafted = 2, .share = doubtful };
	octavo_depth_update(&s, &cost, &step, 1);
	assert_true(s.tried[0] == 1 && s.kept[0] > 0.24 && s.kept[0] < 0.26);
	assert_true(s.tried[1] == s.kept[0]);
}

/* What was learnt decides: where every other token is sure and rows are dear, drafts begin, and only sure ones are
 * submitted; without shares it is not worth it. */
static void shares_decide(void **state)
{
	(void)state;
	const struct octavo_cost cost = { 2, { 1, 2 }, { 100, 170 } };
	struct octavo_ahead ahead = { .most = 1, .company = 1, .shares = 1 };
	struct octavo_depth_source s = { .tried = { 80 }, .kept = { 40 }, .ever_tried = { 300 }, .ever_kept = { 150 },
		                         .draft_ns = { 0, 4 }, .drafts = { 0, 50 } };
	struct octavo_extent x;
	double rate = 0.0;
	s.sure[SURE] = s.sure[DOUBTFUL] = 30;
	s.sure_tried[SURE] = s.sure_tried[DOUBTFUL] = 100;
	s.sure_kept[SURE] = 98;
	s.sure_kept[DOUBTFUL] = 2;
	octavo_depth_choose(&s, &cost, &ahead, 0, &rate, &x);
	assert_int_equal(x.most, 1);
	octavo_extent_take(&x, 0.51);
	assert_int_equal(x.submitted, 0);
	octavo_depth_choose(&s, &cost, &ahead, 0, &rate, &x);
	octavo_extent_take(&x, 0.99);
	assert_int_equal(x.submitted, 1);
	ahead.shares = 0;
	rate = 0.0;
	octavo_depth_choose(&s, &cost, &ahead, 0, &rate, &x);
	assert_int_equal(x.most, 0);
}

/* A first draft that happened to take long is doubted: drafting is tried again. */
static void slow_first_drafts_are_forgotten(void **state)
{
	(void)state;
	const struct octavo_cost cost = { 2, { 1, 2 }, { 100, 130 } };
	const struct octavo_ahead ahead = { .most = 1, .company = 1 };
	struct octavo_depth_source s = { 0 };
	struct octavo_extent x;
	unsigned drafted = 0;
	for (int i = 0; i < 2000; i++) {
		double rate = 0.0;
		octavo_depth_choose(&s, &cost, &ahead, 0, &rate, &x);
		struct octavo_step step = { .drafted = x.most, .submitted = x.most, .accepted = x.most, .rows = x.most + 1,
			                    .verify_ns = x.most ? 130 : 100, .draft_ns = i ? 20.0 * x.most : 200 };
		octavo_depth_update(&s, &cost, &step, 1);
		drafted += i >= 1000 ? x.most : 0;
	}
	assert_true(drafted > 900);
}

/* ---- Sessions ---------------------------------------------------------------------------------------------------- */

/* Whatever times say, of these shares tokens are drafted, and only the surest of them submitted. */
static void know_for_certain(struct octavo_depth *depth)
{
	memset(depth, 0, sizeof *depth);
	for (unsigned i = 0; i < 2; i++)
		for (unsigned class = 0; class < OCTAVO_SHARES; class++) {
			depth->source[i].sure_tried[class] = 1e9;
			depth->source[i].sure_kept[class] = class == SURE ? 1e9 : 0.0;
		}
}

/* The tokens are plain decoding's; how many were drafted beyond those that were verified. */
static size_t left_out(struct octavo_engine *e, const char *drafter, float temperature)
{
	static const int32_t prompt[] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };
	struct octavo_session_settings settings = { .sampling = { .temperature = temperature }, .max_new = 60,
		                                    .ignore_eos = 1 };
	struct octavo_depth depth;
	struct octavo_error error;
	struct output plain;
	const int32_t *token;
	size_t count, at = 0, out = 0;
	decode(e, &settings, prompt, 12, &plain);
	know_for_certain(&depth);
	settings.drafter = drafter;
	settings.depth = &depth;
	struct octavo_session *s = open_session(e, &settings);
	assert_int_equal(octavo_session_prompt(s, prompt, 12, &error), OCTAVO_OK);
	while (assert_int_equal(octavo_session_step(s, &token, &count, &error), OCTAVO_OK), count) {
		assert_true(at + count <= plain.count);
		assert_memory_equal(token, plain.token + at, count * sizeof *token);
		at += count;
		assert_true(s->drafted >= octavo_tree_deepest(&s->tree));
		out += s->drafted - octavo_tree_deepest(&s->tree);
	}
	assert_int_equal(at, plain.count);
	octavo_session_close(&s);
	return out;
}

static void sessions_leave_tokens_out(void **state)
{
	static const char *const drafters[] = { "mtp", "eagle", "medusa", "parallel", "ngram+mtp" };
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model(source_path("bench/model"), &settings);
	(void)state;
	for (size_t i = 0; i < sizeof drafters / sizeof *drafters; i++) {
		assert_true(left_out(e, drafters[i], 0.8f) > 0);
		assert_true(left_out(e, drafters[i], 0.0f) > 0);
	}
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classes_are_in_order),        cmocka_unit_test(doubtful_tokens_are_left_out),
		cmocka_unit_test(sure_drafts_go_on),           cmocka_unit_test(choices_are_worth_something),
		cmocka_unit_test(steps_of_the_curve_are_seen_past), cmocka_unit_test(what_was_asked_for_is_drafted),
		cmocka_unit_test(shares_are_counted),          cmocka_unit_test(shares_decide),
		cmocka_unit_test(slow_first_drafts_are_forgotten),
		cmocka_unit_test(sessions_leave_tokens_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
