/* SPDX-License-Identifier: Apache-2.0
 *
 * Lookahead decoding: the pool, the window's rows, and that the window finds n-grams which the text does not hold.
 */
#include "tests/support/session.h"

#include "engine/draft/grams.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

/* ---- The pool ---------------------------------------------------------------------------------------------- */

static void latest_grams_come_first(void **state)
{
	(void)state;
	struct octavo_grams g;
	assert_int_equal(octavo_grams_open(&g, 3, 50), 0);
	assert_int_equal(octavo_grams_latest(&g, 7), 0);
	octavo_grams_put(&g, (const int32_t[]){ 7, 1, 2 });
	octavo_grams_put(&g, (const int32_t[]){ 8, 3, 4 });
	octavo_grams_put(&g, (const int32_t[]){ 7, 5, 6 });
	size_t i = octavo_grams_latest(&g, 7);
	assert_memory_equal(octavo_grams_token(&g, i), ((const int32_t[]){ 7, 5, 6 }), 3 * sizeof(int32_t));
	i = octavo_grams_before(&g, i);
	assert_memory_equal(octavo_grams_token(&g, i), ((const int32_t[]){ 7, 1, 2 }), 3 * sizeof(int32_t));
	assert_int_equal(octavo_grams_before(&g, i), 0);
	assert_int_equal(octavo_grams_latest(&g, 1), 0);
	octavo_grams_clear(&g);
	assert_int_equal(octavo_grams_latest(&g, 7), 0);
	octavo_grams_close(&g);
}

/* The oldest make room, and nothing leads to them any more. */
static void old_grams_are_forgotten(void **state)
{
	(void)state;
	struct octavo_grams g;
	assert_int_equal(octavo_grams_open(&g, 2, 50), 0);
	octavo_grams_put(&g, (const int32_t[]){ 7, 1 });
	octavo_grams_put(&g, (const int32_t[]){ 9, 2 });
	octavo_grams_put(&g, (const int32_t[]){ 7, 3 });
	for (int32_t i = 3; i < OCTAVO_GRAMS; i++)
		octavo_grams_put(&g, (const int32_t[]){ 8, i });
	size_t last = octavo_grams_latest(&g, 7);
	assert_int_equal(octavo_grams_token(&g, octavo_grams_before(&g, last))[1], 1);
	octavo_grams_put(&g, (const int32_t[]){ 8, 0 }); /* takes the first one's place */
	assert_int_equal(octavo_grams_token(&g, last)[1], 3);
	assert_int_equal(octavo_grams_before(&g, last), 0);
	assert_true(octavo_grams_latest(&g, 9) > 0);
	octavo_grams_put(&g, (const int32_t[]){ 8, 1 });
	assert_int_equal(octavo_grams_latest(&g, 9), 0);
	size_t eights = 0;
	for (size_t i = octavo_grams_latest(&g, 8); i; i = octavo_grams_before(&g, i))
		eights++;
	assert_int_equal(eights, OCTAVO_GRAMS - 1);
	octavo_grams_close(&g);
}

/* ---- The window -------------------------------------------------------------------------------------------- */

enum { LOOP = 128, PROMPT = 10 };
enum { WATCHED = 14 }; /* rows of a window that shares none: 5 columns of 3 levels, the root among them */

/* A language of one rule: what follows depends on a token alone, and all tokens below LOOP come before one returns. */
static int32_t rule(int32_t token)
{
	return (token * 5 + 3) % LOOP;
}

/* Puts the logits of the rule into the engine, as if the tree had been its last batch from row `first` on. */
static void score(struct octavo_engine *e, const struct octavo_tree *tree, size_t first)
{
	size_t vocab = e->config.vocab;
	for (size_t row = 0; row < tree->rows; row++) {
		e->logit_row[first + row] = (int32_t)(first + row);
		float *logits = e->logits + (first + row) * vocab;
		memset(logits, 0, vocab * sizeof *logits);
		logits[rule(tree->token[row])] = 1.0f;
	}
}

struct world {
	struct octavo_engine *e;
	struct octavo_drafter *d;
	struct octavo_tree tree;
	int32_t token[2 * LOOP]; /* a prompt from all over the loop, then the rule's text */
	size_t pos;              /* of the root */
};

static void open_world(struct world *w, size_t max_context)
{
	struct octavo_error error;
	struct octavo_engine_settings settings = { .threads = 1, .max_context = max_context };
	w->e = open_model("tiny-noq", &settings);
	assert_true(w->e->choosable > LOOP);
	assert_int_equal(octavo_drafter_open(&w->d, "lookahead", w->e, 0, &error), OCTAVO_OK);
	for (size_t i = 0; i < 2 * LOOP; i++)
		w->token[i] = i < PROMPT ? (int32_t)(i * 37 % LOOP) : rule(w->token[i - 1]);
	w->d->ops->begin(w->d, w->token);
	w->pos = PROMPT - 1;
	assert_int_equal(w->d->ops->commit(w->d, 0, (const uint32_t[PROMPT]){ 0 }, w->pos, &error), OCTAVO_OK);
}

static void close_world(struct world *w)
{
	octavo_drafter_close(&w->d);
	octavo_engine_close(&w->e);
}

/* One round of plain matching; returns the drafted tokens that were kept. */
static size_t play(struct world *w, const struct octavo_shape *shape, size_t room)
{
	struct octavo_error error;
	struct octavo_tree *tree = &w->tree;
	enum { FIRST = 3 }; /* others' rows lie before */
	uint32_t row[OCTAVO_MAX_K + 1] = { FIRST };
	size_t kept = 0, at = 0, offered;
	octavo_tree_begin(tree, w->token[w->pos], room, NULL);
	assert_int_equal(octavo_draft(w->d, shape, tree, &error), OCTAVO_OK);
	offered = tree->rows;
	w->d->ops->watch(w->d, shape, tree);
	score(w->e, tree, FIRST);
	for (size_t next = 1; next < offered; next++)
		if (tree->parent[next] == (int32_t)at && tree->token[next] == w->token[w->pos + kept + 1]) {
			at = next;
			row[++kept] = (uint32_t)(FIRST + next);
		}
	tree->watched = tree->rows - offered;
	assert_int_equal(w->d->ops->commit(w->d, w->pos, row, kept + 1, &error), OCTAVO_OK);
	w->pos += kept + 1;
	return kept;
}

/* Drafts that are right although the text has not come to any of their tokens yet: the window found them. */
static void window_finds_what_the_text_has_not(void **state)
{
	(void)state;
	struct world w;
	struct octavo_shape shape = octavo_shape_chain(5);
	size_t kept = 0, drafted = 0, steps = 0;
	open_world(&w, 0);
	for (; w.pos + 6 < LOOP + PROMPT; steps++) {
		kept += play(&w, &shape, OCTAVO_MAX_DRAFT);
		size_t offered = w.tree.rows - w.tree.watched;
		drafted += offered - 1;
		assert_true(offered <= 6 && w.tree.watched <= WATCHED);
		for (size_t row = 1; row < offered; row++)
			assert_int_equal(w.tree.parent[row], row - 1);
	}
	print_message("%zu of %zu drafted tokens kept, %zu steps for %zu tokens\n", kept, drafted, steps,
	              w.pos - PROMPT + 1);
	assert_true(kept > LOOP / 8);
	assert_true(drafted - kept <
	            LOOP / 8); /* of the prompt, whose tokens do not follow the rule, and of the first guesses */
	close_world(&w);
}

/* Each column hangs below the first level, one token deeper than the last; rows are shared with the draft. */
static void window_is_a_tree(void **state)
{
	(void)state;
	struct world w;
	struct octavo_shape shape = octavo_shape_chain(4);
	size_t deepest = 0, most = 0, shared = 0;
	open_world(&w, 0);
	for (int round = 0; round < 20; round++) {
		play(&w, &shape, OCTAVO_MAX_DRAFT);
		for (size_t row = 1; row < w.tree.rows; row++) {
			size_t depth = octavo_tree_depth(&w.tree, row);
			deepest = depth > deepest ? depth : deepest;
			assert_true(w.tree.parent[row] < (int32_t)row);
			for (size_t other = 1; other < row; other++)
				assert_true(w.tree.parent[other] != w.tree.parent[row] ||
				            w.tree.token[other] != w.tree.token[row]);
		}
		most = w.tree.watched > most ? w.tree.watched : most;
		shared += w.tree.watched < WATCHED;
	}
	assert_int_equal(deepest, 4 + 2); /* column 4, level 2 */
	assert_int_equal(most, WATCHED);
	assert_true(shared > 0);
	/* Widths are the candidates', more than one. */
	struct octavo_shape wide = { .depth = 3, .width = { 4, 1, 1 } };
	for (int round = 0; round < 10; round++)
		play(&w, &wide, OCTAVO_MAX_DRAFT);
	assert_true(octavo_tree_deepest(&w.tree) <= 3);
	close_world(&w);
}

/* No more rows than there is room, whole columns, none behind the end of the context, none where nothing is drafted. */
static void window_keeps_its_bounds(void **state)
{
	(void)state;
	struct world w;
	struct octavo_shape shape = octavo_shape_chain(2), nothing = octavo_shape_chain(0);
	open_world(&w, 0);
	for (size_t room = 1; room <= 20; room++) {
		play(&w, &shape, room);
		assert_true(w.tree.rows <= room);
		assert_true(room < 7 || w.tree.watched >= 2); /* a column at least: its first level is the root */
	}
	play(&w, &nothing, OCTAVO_MAX_DRAFT);
	assert_int_equal(w.tree.rows, 1);
	play(&w, &shape, OCTAVO_MAX_DRAFT);
	assert_true(w.tree.watched > 0);
	close_world(&w);
	enum { CONTEXT = 32 };
	open_world(&w, CONTEXT);
	size_t cut = 0;
	for (struct octavo_shape one = octavo_shape_chain(1); w.pos + 1 < CONTEXT;) {
		size_t root = w.pos;
		play(&w, &one, OCTAVO_MAX_DRAFT);
		for (size_t row = 1; row < w.tree.rows; row++)
			if (row >= w.tree.rows - w.tree.watched)
				assert_true(root + octavo_tree_depth(&w.tree, row) < CONTEXT);
		cut += w.tree.watched < 4;
	}
	assert_true(cut > 0);
	close_world(&w);
}

/* ---- In sessions -------------------------------------------------------------------------------------------- */

/* Under every rule the tokens, or the law, are those that the rule promises, and drafts are kept where text repeats. */
static void sessions_keep_drafts(void **state)
{
	(void)state;
	static const int32_t prompt[] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_session_settings s = { .max_new = 120, .ignore_eos = 1 };
	struct output plain, out;
	for (int sampled = 0; sampled < 2; sampled++) {
		s.sampling.temperature = sampled ? 0.8f : 0.0f;
		s.drafter = "none";
		s.k = 0;
		decode(e, &s, prompt, 12, &plain);
		s.drafter = "lookahead";
		for (s.k = 1; s.k <= OCTAVO_MAX_K; s.k += 3) {
			decode(e, &s, prompt, 12, &out);
			expect_same(&plain, &out, "lookahead");
			assert_true(out.stats.drafted[0] > 0);
			assert_true(sampled || out.stats.accepted[0] > 0);
			size_t wide = 0;
			for (size_t rows = s.k + 2; rows <= OCTAVO_MAX_DRAFT; rows++)
				wide += out.stats.rows[rows];
			assert_true(wide > out.stats.steps / 2);
		}
	}
	/* The window is no part of what a rule for chains is shown. */
	s.k = 4;
	for (int rule = 0; rule < OCTAVO_ACCEPT_COUNT; rule++) {
		s.accept = (enum octavo_accept)rule;
		if (!octavo_drafter_suits(s.drafter, s.accept, NULL))
			continue;
		s.sampling.temperature = s.accept == OCTAVO_ACCEPT_GREEDY ? 0.0f : 0.8f;
		decode(e, &s, prompt, 12, &out);
		assert_int_equal(out.count, s.max_new);
	}
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(latest_grams_come_first),  cmocka_unit_test(old_grams_are_forgotten),
		cmocka_unit_test(window_finds_what_the_text_has_not), cmocka_unit_test(window_is_a_tree),
		cmocka_unit_test(window_keeps_its_bounds),  cmocka_unit_test(sessions_keep_drafts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
