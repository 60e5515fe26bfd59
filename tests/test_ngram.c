/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompt lookup: what its index finds is what looking through the whole text finds.
 */
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

enum { CONTEXT = 400 };

/* The same drafts without an index: what followed the latest, longest match, and so on back. */
static void look_through(const int32_t *text, size_t length, const struct octavo_shape *shape, struct octavo_tree *tree)
{
	size_t most = octavo_shape_rows(shape);
	most = most < tree->room ? most : tree->room;
	for (size_t n = 5; n >= 2; n--)
		for (size_t end = length - 1; length > n && end >= n && tree->rows < most; end--) {
			if (memcmp(text + end - n, text + length - n, n * sizeof *text))
				continue;
			size_t row = 0;
			for (unsigned i = 0; i < shape->depth && (i == 0 || row); i++)
				row = octavo_tree_child(tree, row, text[end + i % (length - end)], shape->width[i]);
		}
}

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* Texts of a few different tokens, which grow by runs of many lengths up to all that the context holds. */
static void grow_text(struct octavo_drafter *d, uint64_t seed, uint32_t letters, size_t *drafted)
{
	static const struct octavo_shape shapes[] = {
		{ .depth = 1, .width = { 1 } },
		{ .depth = 8, .width = { 1, 1, 1, 1, 1, 1, 1, 1 } },
		{ .depth = 3, .width = { 3, 2, 1 } },
		{ .depth = 4, .width = { 4, 1, 2, 1 } },
	};
	static const uint32_t row[CONTEXT] = { 0 };
	int32_t text[CONTEXT + 1];
	struct octavo_error error;
	uint64_t random = seed;
	for (size_t i = 0; i <= CONTEXT; i++)
		text[i] = (int32_t)(next_random(&random) % letters);
	d->ops->begin(d, text);
	for (size_t pos = 0, count; pos < CONTEXT; pos += count) {
		count = 1 + next_random(&random) % (pos ? 9 : 60);
		count = count < CONTEXT - pos ? count : CONTEXT - pos;
		assert_int_equal(d->ops->commit(d, pos, row, count, &error), OCTAVO_OK);
		size_t length = pos + count + 1;
		for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
			struct octavo_tree found, wanted;
			octavo_tree_begin(&found, text[length - 1], 20, NULL);
			octavo_tree_begin(&wanted, text[length - 1], 20, NULL);
			assert_int_equal(octavo_draft(d, &shapes[i], &found, &error), OCTAVO_OK);
			look_through(text, length, &shapes[i], &wanted);
			assert_int_equal(found.rows, wanted.rows);
			assert_memory_equal(found.token, wanted.token, wanted.rows * sizeof *wanted.token);
			assert_memory_equal(found.parent + 1, wanted.parent + 1,
			                    (wanted.rows - 1) * sizeof *wanted.parent);
			*drafted += found.rows - 1;
		}
	}
}

static void the_index_finds_what_is_there(void **state)
{
	struct octavo_engine_settings settings = { .threads = 1, .max_context = CONTEXT };
	struct octavo_engine *e = open_model("tiny-noq", &settings);
	struct octavo_drafter *d;
	struct octavo_error error;
	size_t drafted = 0;
	(void)state;
	assert_int_equal(octavo_drafter_open(&d, "ngram", e, 0, &error), OCTAVO_OK);
	for (uint32_t letters = 1; letters < 30; letters += 2)
		grow_text(d, letters, letters, &drafted); /* one after the other: nothing is left of a text before */
	assert_true(drafted > 10000);
	octavo_drafter_close(&d);
	octavo_engine_close(&e);
}

/* Where a match ends at the text's own end but one, what is proposed goes on with itself; and a prompt of one token has
 * nothing before it. */
static void short_texts(void **state)
{
	struct octavo_engine_settings settings = { .threads = 1, .max_context = CONTEXT };
	struct octavo_engine *e = open_model("tiny-noq", &settings);
	const struct octavo_shape shape = octavo_shape_chain(3);
	const int32_t text[] = { 7, 7, 7, 9 };
	struct octavo_drafter *d;
	struct octavo_tree tree;
	struct octavo_error error;
	(void)state;
	assert_int_equal(octavo_drafter_open(&d, "ngram", e, 0, &error), OCTAVO_OK);
	d->ops->begin(d, text);
	octavo_tree_begin(&tree, 7, 20, NULL);
	assert_int_equal(octavo_draft(d, &shape, &tree, &error), OCTAVO_OK);
	assert_int_equal(tree.rows, 1);
	assert_int_equal(d->ops->commit(d, 0, (const uint32_t[]){ 0, 0 }, 2, &error), OCTAVO_OK);
	assert_int_equal(octavo_draft(d, &shape, &tree, &error), OCTAVO_OK);
	assert_int_equal(tree.rows, 4);
	for (size_t i = 1; i < 4; i++)
		assert_int_equal(tree.token[i], 7);
	octavo_drafter_close(&d);
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_index_finds_what_is_there),
		cmocka_unit_test(short_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
