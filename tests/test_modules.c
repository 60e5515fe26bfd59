/* SPDX-License-Identifier: Apache-2.0
 *
 * A checkpoint with several MTP modules: their laws and drafts against the oracle's, and drafts against those of a
 * fresh run over the same text.
 */
#include "engine/draft/drafter.h"
#include "tests/support/golden.h"
#include "tests/support/random.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static const double limit_kl = 1e-5, limit_margin = 1e-3;
enum { MODULES = 4, DEPTH = 6, LENGTH = 150, HIDDEN = 24 };

/* A text of the byte tokens. */
static void make_text(int32_t *token, size_t count, uint64_t seed)
{
	token[0] = 0;
	for (size_t i = 1; i < count; i++)
		token[i] = (int32_t)(random_bits(&seed) % 256) + 3;
}

/* ---- A drafter and the text that it is told of ------------------------------------------------------------------- */

struct reader {
	struct octavo_engine *e;
	struct octavo_drafter *d;
	const int32_t *text;
	size_t committed;
};

static struct reader open_reader(const struct octavo_engine_settings *settings, const int32_t *text)
{
	struct reader r = { .e = open_model("tiny-modules", settings), .text = text };
	assert_int_equal(r.e->config.mtp_layers, MODULES);
	assert_int_equal(r.e->info.mtp_layers, MODULES);
	assert_int_equal(r.e->config.hidden, HIDDEN);
	r.d = open_drafter(r.e, "mtp", text);
	return r;
}

static void close_reader(struct reader *r)
{
	octavo_drafter_close(&r->d);
	octavo_engine_close(&r->e);
}

static void restart(struct reader *r)
{
	struct octavo_error error;
	assert_int_equal(octavo_rewind(r->e, 0, 0, &error), OCTAVO_OK);
	r->d->ops->begin(r->d, r->text);
	r->committed = 0;
}

/* The next tokens, as many at a time as the engine has rows. */
static void read_on(struct reader *r, size_t count)
{
	struct octavo_error error = { "" };
	while (count) {
		size_t rows = count < r->e->settings.max_rows ? count : r->e->settings.max_rows;
		assert_int_equal(octavo_append(r->e, 0, r->text + r->committed, rows, 0, 0, &error), OCTAVO_OK);
		if (r->d->ops->commit(r->d, r->committed, r->e->staging.row, rows, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		r->committed += rows;
		count -= rows;
	}
}

static void draft_here(struct reader *r, const struct octavo_shape *shape, size_t room, struct octavo_chance *chance,
                       struct octavo_tree *tree)
{
	struct octavo_error error = { "" };
	octavo_tree_begin(tree, r->text[r->committed], room, chance);
	if (octavo_draft(r->d, shape, tree, &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
}

/* ---- The oracle -------------------------------------------------------------------------------------------------- */

static struct golden *open_golden(const int32_t **token, size_t *count)
{
	struct golden *golden = golden_open(source_path("tests/data/tiny-modules/golden.safetensors"));
	assert_non_null(golden);
	*token = golden_i32(golden, "tokens", count);
	assert_non_null(*token);
	assert_true(*count <= 64);
	return golden;
}

/* Each module over the whole text, fed with what the one before left. */
static void modules_agree(void **state)
{
	(void)state;
	const int32_t *token;
	size_t count, rows, vocab;
	struct golden *golden = open_golden(&token, &count);
	struct octavo_engine_settings settings = { .threads = 2 };
	struct octavo_engine *e = open_model("tiny-modules", &settings);
	float g[64 * HIDDEN];
	run_tokens(e, token, count, count, 0, NULL, g);
	for (size_t m = 0; m < MODULES; m++) {
		char name[32];
		struct octavo_error error;
		struct octavo_share all = { .rows = count - 1 - m, .token = token + 1 + m, .state = g };
		snprintf(name, sizeof name, "mtp.logits.%zu", m + 1);
		const float *wanted = golden_f32(golden, name, &rows, &vocab);
		assert_non_null(wanted);
		assert_int_equal(rows, all.rows);
		assert_int_equal(octavo_mtp_forward(e, &e->weights.mtp[m], &e->kv, e->config.layers + m, &all, &error),
		                 OCTAVO_OK);
		struct golden_distance d = golden_compare(e->mtp_logits, wanted, rows, vocab, limit_margin);
		if (!(d.kl < limit_kl && d.top1_changed == 0))
			fail_msg("module %zu: KL %g nats, %zu tokens differ in their best", m, d.kl, d.top1_changed);
		memcpy(g, e->mtp_hidden[OCTAVO_TAP_POST_NORM], rows * HIDDEN * sizeof *g);
	}
	octavo_engine_close(&e);
	golden_close(golden);
}

static void golden_drafts(const struct golden *golden, size_t rows, int32_t (*draft)[DEPTH])
{
	for (size_t k = 0; k < DEPTH; k++) {
		char name[32];
		size_t count;
		snprintf(name, sizeof name, "mtp.best.%zu", k + 1);
		const int32_t *best = golden_i32(golden, name, &count);
		assert_non_null(best);
		assert_int_equal(count, rows);
		for (size_t i = 0; i < rows; i++)
			draft[i][k] = best[i];
	}
}

/* Chains behind every position, in one pass for each depth: with as many modules as that takes, and beyond them the
 * last one's own states; a text of one or two tokens has only as many modules. */
static void drafts_agree(void **state)
{
	(void)state;
	const int32_t *token;
	size_t count;
	int32_t wanted[64][DEPTH];
	struct golden *golden = open_golden(&token, &count);
	struct octavo_engine_settings settings = { .threads = 1, .max_rows = 6 };
	struct reader r = open_reader(&settings, token);
	golden_drafts(golden, count - 1, wanted);
	for (unsigned depth = 1; depth <= DEPTH; depth++) {
		struct octavo_shape shape = octavo_shape_chain(depth);
		restart(&r);
		for (size_t i = 0; i + 1 < count; i++) {
			struct octavo_tree tree;
			read_on(&r, 1);
			draft_here(&r, &shape, 64, NULL, &tree);
			assert_int_equal(tree.rows, depth + 1);
			assert_memory_equal(tree.token + 1, wanted[i], depth * sizeof *wanted[i]);
		}
	}
	close_reader(&r);
	golden_close(golden);
}

enum mistake { THIRD_IS_FIRST, SECOND_IS_THIRD, OTHER_TAP, OTHER_PLACE, MISTAKES };

static void make_mistake(struct reader *r, enum mistake mistake, const int32_t *shifted)
{
	struct octavo_mtp *module = r->e->weights.mtp;
	if (mistake == THIRD_IS_FIRST)
		module[2] = module[0];
	if (mistake == SECOND_IS_THIRD)
		module[1] = module[2];
	if (mistake == OTHER_PLACE)
		r->d->ops->begin(r->d, shifted);
}

/* The test of the test: with another module in a place, or another tap, or a text that is off by one place, what is
 * drafted from there on differs. */
static void mistakes_are_noticed(void **state)
{
	static const struct {
		size_t depth; /* the first, from 0, that the mistake reaches */
		size_t least; /* drafts that it changes there, at least */
	} expected[MISTAKES] = { { 2, 8 }, { 1, 8 }, { 1, 3 }, { 0, 8 } };
	(void)state;
	const int32_t *token;
	size_t count;
	int32_t wanted[64][DEPTH], shifted[64] = { 0 };
	struct golden *golden = open_golden(&token, &count);
	struct octavo_shape shape = octavo_shape_chain(DEPTH);
	golden_drafts(golden, count - 1, wanted);
	memcpy(shifted + 1, token, (count - 1) * sizeof *token);
	for (enum mistake mistake = 0; mistake < MISTAKES; mistake++) {
		struct octavo_engine_settings settings = { .threads = 1, .mtp_recycle_tap = mistake == OTHER_TAP };
		struct reader r = open_reader(&settings, token);
		size_t differ[DEPTH] = { 0 };
		make_mistake(&r, mistake, shifted);
		for (size_t i = 0; i + 1 < count; i++) {
			struct octavo_tree tree;
			read_on(&r, 1);
			draft_here(&r, &shape, 64, NULL, &tree);
			for (size_t k = 0; k < DEPTH; k++)
				differ[k] += tree.token[k + 1] != wanted[i][k];
		}
		for (size_t k = 0; k < DEPTH; k++)
			assert_true(k < expected[mistake].depth ? !differ[k] : differ[k] >= expected[mistake].least);
		close_reader(&r);
	}
	golden_close(golden);
}

/* ---- Fresh runs -------------------------------------------------------------------------------------------------- */

static struct octavo_shape any_shape(uint64_t *seed)
{
	static const struct octavo_dynamic dynamic = { 9, 2, 4 }, wide = { 12, 3, 3 };
	static const struct octavo_shape fixed[] = {
		{ .depth = 3, .width = { 2, 2, 1 } },
		{ .depth = 5, .width = { 3, 1, 1, 1, 1 } },
		{ .depth = 2, .width = { 4, 2 } },
	};
	uint32_t kind = random_bits(seed) % 12;
	if (kind < 3)
		return fixed[kind];
	if (kind < 5)
		return octavo_shape_dynamic(kind == 3 ? &dynamic : &wide);
	return octavo_shape_chain(1 + random_bits(seed) % OCTAVO_MAX_K);
}

static void expect_same_tree(const struct octavo_tree *a, const struct octavo_tree *b)
{
	assert_int_equal(a->rows, b->rows);
	assert_memory_equal(a->token, b->token, a->rows * sizeof *a->token);
	assert_memory_equal(a->parent, b->parent, a->rows * sizeof *a->parent);
	assert_memory_equal(a->path, b->path, a->rows * sizeof *a->path);
}

/* Drafts of random shapes behind random places, in a text that the engine takes a few rows at a time. */
static void check_drafts(enum octavo_kv_format kv, size_t max_rows)
{
	static const struct octavo_sampling sampling = { .temperature = 1.0f };
	static double scratch[260];
	static uint32_t order[260];
	struct octavo_engine_settings whole = { .threads = 1, .kv = kv }, cut = whole;
	struct octavo_chance chance = { .sampling = &sampling, .vocab = 260, .scratch = scratch, .order = order };
	uint64_t seed = max_rows;
	size_t drafts = 0;
	int32_t text[LENGTH];
	make_text(text, LENGTH, 3);
	cut.max_rows = max_rows;
	struct reader fresh = open_reader(&whole, text), r = open_reader(&cut, text);
	while (r.committed + 8 < LENGTH) {
		struct octavo_tree a, b;
		read_on(&r, 1 + random_bits(&seed) % 8);
		struct octavo_shape shape = any_shape(&seed);
		if (random_bits(&seed) % 3 == 0)
			continue;
		if (shape.most && max_rows < 13) /* a dynamic tree's drafter runs more than fit */
			shape = octavo_shape_chain(4);
		draft_here(&r, &shape, shape.most ? shape.most : max_rows, &chance, &a);
		restart(&fresh);
		read_on(&fresh, r.committed);
		draft_here(&fresh, &shape, shape.most ? shape.most : max_rows, &chance, &b);
		expect_same_tree(&a, &b);
		assert_true(a.rows > 1);
		drafts++;
	}
	assert_true(drafts > 10);
	close_reader(&fresh);
	close_reader(&r);
}

/* Whatever was drafted before, how deep, and what of it was kept, and where the text is cut: what is drafted is what a
 * drafter would that was told of the text at once. */
static void drafts_are_those_of_a_fresh_run(void **state)
{
	check_drafts(cache_of(state), 64);
	check_drafts(cache_of(state), 13);
	check_drafts(cache_of(state), 6);
	check_drafts(cache_of(state), 3);
}

/* Two drafts that both have much to catch up on in the second module: with the nodes that follow, one row too many for
 * one forward. */
static void forwards_are_not_overfilled(void **state)
{
	static const size_t rows[2] = { 40, 24 };
	const struct octavo_shape first = octavo_shape_chain(1), second = octavo_shape_chain(2);
	struct octavo_engine_settings settings = { .threads = 1, .sequences = 2, .max_rows = 64 };
	struct octavo_drafting both[2], *d[2] = { &both[0], &both[1] };
	struct octavo_tree tree[2], alone;
	struct octavo_error error = { "" };
	int32_t text[LENGTH];
	(void)state;
	make_text(text, LENGTH, 13);
	struct octavo_engine *e = open_model("tiny-modules", &settings);
	for (size_t i = 0; i < 2; i++) {
		both[i] = (struct octavo_drafting){ .shapes = { second }, .tree = &tree[i] };
		assert_int_equal(octavo_drafter_open(&both[i].whole, "mtp", e, i, &error), OCTAVO_OK);
		struct octavo_drafter *mtp = both[i].whole;
		mtp->ops->begin(mtp, text);
		for (size_t pos = 0; pos <= rows[i]; pos += rows[i]) { /* all but one, and that one */
			size_t count = pos ? 1 : rows[i];
			assert_int_equal(octavo_append(e, i, text + pos, count, 0, 0, &error), OCTAVO_OK);
			assert_int_equal(mtp->ops->commit(mtp, pos, e->staging.row, count, &error), OCTAVO_OK);
			octavo_tree_begin(&tree[i], text[pos + count], 64, NULL);
			if (!pos)
				assert_int_equal(octavo_draft(mtp, &first, &tree[i], &error), OCTAVO_OK);
		}
	}
	if (octavo_draft_together(d, 2, &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
	for (size_t i = 0; i < 2; i++) {
		struct reader r = open_reader(&settings, text);
		read_on(&r, rows[i] + 1);
		draft_here(&r, &second, 64, NULL, &alone);
		assert_int_equal(alone.rows, 3);
		assert_int_equal(tree[i].rows, 3);
		assert_memory_equal(tree[i].token, alone.token, 3 * sizeof *alone.token);
		close_reader(&r);
		octavo_drafter_close(&both[i].whole);
	}
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(modules_agree),
		cmocka_unit_test(drafts_agree),
		cmocka_unit_test(mistakes_are_noticed),
		cmocka_unit_test(drafts_are_those_of_a_fresh_run),
		cmocka_unit_test(forwards_are_not_overfilled),
		{ "drafts_are_those_of_a_fresh_run, FP8 cache", drafts_are_those_of_a_fresh_run, NULL, NULL, "fp8" },
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
