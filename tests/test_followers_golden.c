/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafters with layers and a cache of their own, eagle and parallel, against the oracle: their laws, and what they
 * propose.
 */
#include "engine/draft/follow.h"
#include "tests/support/golden.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static const double limit_kl = 1e-5, limit_margin = 1e-3;
enum { DEPTH = 3, MOST_ROWS = 64 };

/* A text that the main model has run, in one forward, so that all its states are there. */
struct text {
	struct octavo_engine *e;
	struct golden *golden;
	const int32_t *token; /* [count] */
	size_t count;
};

static struct text open_text(const char *model, const struct octavo_engine_settings *settings)
{
	char path[256];
	struct text t = { .e = open_model(model, settings) };
	snprintf(path, sizeof path, "tests/data/%s/drafters/golden.safetensors", model);
	t.golden = golden_open(source_path(path));
	assert_non_null(t.golden);
	t.token = golden_i32(t.golden, "tokens", &t.count);
	assert_non_null(t.token);
	assert_true(t.count <= MOST_ROWS);
	run_tokens(t.e, t.token, t.count, t.count, 0, NULL, NULL);
	return t;
}

static void close_text(struct text *t)
{
	golden_close(t->golden);
	octavo_engine_close(&t->e);
}

/* How the drafter is told of positions: as it should be, or with a mistake, of which the last lies in its text. */
enum mistake { NO_MISTAKE, STATE_BEFORE, TOKEN_ITSELF };

/* Commits positions [pos, end) at once, then drafts a chain of `depth`. */
static void draft_at(const struct text *t, struct octavo_drafter *d, size_t pos, size_t end, unsigned depth,
                     enum mistake mistake, struct octavo_tree *tree)
{
	struct octavo_error error = { "" };
	struct octavo_shape shape = octavo_shape_chain(depth);
	uint32_t row[MOST_ROWS];
	for (size_t i = pos; i < end; i++)
		row[i - pos] = (uint32_t)(mistake == STATE_BEFORE && i ? i - 1 : i);
	assert_int_equal(d->ops->commit(d, pos, row, end - pos, &error), OCTAVO_OK);
	octavo_tree_begin(tree, t->token[end], OCTAVO_MAX_DRAFT, NULL);
	assert_int_equal(octavo_draft(d, &shape, tree, &error), OCTAVO_OK);
	assert_int_equal(tree->rows, depth + 1);
}

static void expect_rows(const char *what, const float *logits, const float *golden, size_t rows, size_t vocab)
{
	struct golden_distance d = golden_compare(logits, golden, rows, vocab, limit_margin);
	if (!(d.kl < limit_kl && d.top1_changed == 0))
		fail_msg("%s: KL %g nats, %zu of %zu tokens differ in their best", what, d.kl, d.top1_changed, rows);
}

static const float *golden_rows(const struct text *t, const char *name, size_t number, size_t rows)
{
	char tensor[64];
	size_t found, vocab;
	snprintf(tensor, sizeof tensor, "%s.%zu", name, number);
	const float *x = golden_f32(t->golden, tensor, &found, &vocab);
	assert_non_null(x);
	assert_int_equal(found, rows);
	assert_int_equal(vocab, t->e->config.vocab);
	return x;
}

/* Behind every position the heads' laws are the oracle's, and head i's best token is drafted at depth i + 1. */
static void parallel_agrees(void **state)
{
	(void)state;
	struct octavo_engine_settings settings = { .threads = 2 };
	struct text t = open_text("tiny-ragged", &settings);
	struct octavo_drafter *d = open_drafter(t.e, "parallel", t.token);
	size_t vocab = t.e->config.vocab, rows = t.count - 1;
	float *logits = test_malloc(DEPTH * rows * vocab * sizeof *logits);
	assert_int_equal(d->most[0], DEPTH);
	for (size_t i = 0; i < rows; i++) {
		struct octavo_tree tree;
		draft_at(&t, d, i, i + 1, DEPTH, NO_MISTAKE, &tree);
		for (size_t h = 0; h < DEPTH; h++) {
			const float *law = t.e->mtp_logits + h * vocab;
			memcpy(logits + (h * rows + i) * vocab, law, vocab * sizeof *law);
			assert_int_equal(tree.token[h + 1], octavo_argmax(law, vocab));
			assert_int_equal(tree.parent[h + 1], (int32_t)h);
		}
	}
	for (size_t h = 0; h < DEPTH; h++)
		expect_rows("parallel", logits + h * rows * vocab, golden_rows(&t, "parallel.logits", h, t.count), rows,
		            vocab);
	test_free(logits);
	octavo_drafter_close(&d);
	close_text(&t);
}

/* The oracle's best tokens of chains from position i. */
static const int32_t *golden_best(const struct text *t, size_t depth)
{
	char tensor[64];
	size_t count;
	snprintf(tensor, sizeof tensor, "eagle.best.%zu", depth);
	const int32_t *best = golden_i32(t->golden, tensor, &count);
	assert_non_null(best);
	assert_int_equal(count, t->count - 1);
	return best;
}

/* Greedy chains from every position, in one pass per depth: each draft leaves rows of its own behind, and the next one
 * must not see them. */
static void check_eagle(const char *model)
{
	struct octavo_engine_settings settings = { .threads = 2 };
	struct text t = open_text(model, &settings);
	size_t vocab = t.e->config.vocab, rows = t.count - 1;
	float *logits = test_malloc(rows * vocab * sizeof *logits);
	for (unsigned depth = 1; depth <= DEPTH; depth++) {
		struct octavo_drafter *d = open_drafter(t.e, "eagle", t.token);
		for (size_t i = 0; i < rows; i++) {
			struct octavo_tree tree;
			draft_at(&t, d, i, i + 1, depth, NO_MISTAKE, &tree);
			for (unsigned k = 1; k <= depth; k++)
				assert_int_equal(tree.token[k], golden_best(&t, k)[i]);
			memcpy(logits + i * vocab, t.e->mtp_logits, vocab * sizeof *logits); /* of the last level */
		}
		expect_rows("eagle", logits, golden_rows(&t, "eagle.logits", depth, rows), rows, vocab);
		octavo_drafter_close(&d);
	}
	test_free(logits);
	close_text(&t);
}

static void eagle_agrees(void **state)
{
	(void)state;
	check_eagle("tiny-ragged"); /* fc BF16 with a bias, no norm at the layer's input, a wide dense layer */
	check_eagle("tiny-blocks"); /* fc FP8, no bias, a norm */
}

/* Tokens of chains of DEPTH from all positions. */
static void draft_all(const struct text *t, const char *name, enum mistake mistake, int32_t (*token)[DEPTH])
{
	int32_t text[MOST_ROWS];
	for (size_t i = 0; i < t->count; i++)
		text[i] = t->token[mistake == TOKEN_ITSELF && i ? i - 1 : i];
	struct octavo_drafter *d = open_drafter(t->e, name, text);
	for (size_t i = 0; i + 1 < t->count; i++) {
		struct octavo_tree tree;
		draft_at(t, d, i, i + 1, DEPTH, mistake, &tree);
		memcpy(token[i], tree.token + 1, sizeof *token);
	}
	octavo_drafter_close(&d);
}

static size_t differing(int32_t (*a)[DEPTH], int32_t (*b)[DEPTH], size_t count, int shift)
{
	size_t differ = 0;
	for (size_t i = 0; i < count; i++)
		for (int k = 0; k + shift < DEPTH; k++)
			differ += a[i][k] != b[i][k + shift];
	return differ;
}

/* The test of the test: a state or a token that is off by one place changes most of what is drafted. */
static void places_off_by_one_are_noticed(void **state)
{
	(void)state;
	static const char *const drafters[] = { "parallel", "eagle" };
	struct octavo_engine_settings settings = { .threads = 1 };
	struct text t = open_text("tiny-ragged", &settings);
	size_t rows = t.count - 1;
	for (size_t i = 0; i < 2; i++) {
		int32_t good[MOST_ROWS][DEPTH], bad[MOST_ROWS][DEPTH];
		draft_all(&t, drafters[i], NO_MISTAKE, good);
		draft_all(&t, drafters[i], STATE_BEFORE, bad);
		assert_true(differing(good, bad, rows, 0) > rows * DEPTH * 2 / 3);
		assert_true(differing(good, good, rows, 1) > rows); /* a neighbouring head */
		draft_all(&t, drafters[i], TOKEN_ITSELF, bad);
		if (i == 1)
			assert_true(differing(good, bad, rows, 0) > rows * DEPTH * 2 / 3);
		else /* parallel heads see no token behind the trunk */
			assert_int_equal(differing(good, bad, rows, 0), 0);
	}
	close_text(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parallel_agrees),
		cmocka_unit_test(eagle_agrees),
		cmocka_unit_test(places_off_by_one_are_noticed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
