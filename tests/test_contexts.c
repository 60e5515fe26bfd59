/* SPDX-License-Identifier: Apache-2.0
 *
 * Contexts of several segments in the engine: a tree and a chain behind them get what each of their rows gets when its
 * path is decoded plainly on one thread, whatever the threads, the order of their tasks and the prompts' batches.
 */
#include "tests/support/model.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

enum { SEQUENCES = 2, ROWS = 9, LONGEST = 1300 };

/* The tree's rows lie on both sides of a segment's end. */
static const size_t length[SEQUENCES] = { 1022, 530 };
static const int32_t seq_of[ROWS] = { 0, 0, 0, 0, 0, 0, 1, 1, 1 };
static const int32_t parent_of[ROWS] = { -1, 0, 1, 0, 3, -1, -1, 6, 7 };

static int32_t token_at(size_t seq, size_t i)
{
	return (int32_t)((i * i * 37 + i / 7 * (seq + 2)) % 240 + 3);
}

static void fill(struct octavo_engine *e, size_t chunk, uint8_t flags)
{
	struct octavo_error error;
	int32_t token[64];
	for (size_t seq = 0; seq < SEQUENCES; seq++)
		for (size_t done = 0, rows; done < length[seq]; done += rows) {
			rows = length[seq] - done < chunk ? length[seq] - done : chunk;
			for (size_t i = 0; i < rows; i++)
				token[i] = token_at(seq, done + i);
			if (octavo_append(e, seq, token, rows, flags, flags, &error) != OCTAVO_OK)
				fail_msg("%s", error.text);
		}
}

/* Row `row`'s path one token at a time; leaves its logits. */
static void run_path(struct octavo_engine *e, size_t row, float *logits)
{
	struct octavo_error error;
	size_t seq = (size_t)seq_of[row], depth = 0, path[ROWS];
	for (int32_t at = (int32_t)row; at >= 0; at = parent_of[at])
		path[depth++] = (size_t)at;
	while (depth--) {
		int32_t token = token_at(9, path[depth]);
		if (octavo_append(e, seq, &token, 1, OCTAVO_ROW_LOGITS, OCTAVO_ROW_LOGITS, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
	}
	memcpy(logits, e->logits, e->config.vocab * sizeof *logits);
	assert_int_equal(octavo_rewind(e, (int32_t)seq, length[seq], &error), OCTAVO_OK);
}

static void run_batch(struct octavo_engine *e, float *logits)
{
	struct octavo_error error;
	int32_t token[ROWS], pos[ROWS];
	uint8_t flags[ROWS];
	for (size_t row = 0; row < ROWS; row++) {
		token[row] = token_at(9, row);
		pos[row] = parent_of[row] < 0 ? (int32_t)length[seq_of[row]] : pos[parent_of[row]] + 1;
		flags[row] = OCTAVO_ROW_LOGITS;
	}
	struct octavo_batch batch = { ROWS, token, pos, seq_of, parent_of, flags };
	if (octavo_forward(e, &batch, &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
	for (size_t row = 0; row < ROWS; row++)
		memcpy(logits + row * e->config.vocab, octavo_logits(e, row), e->config.vocab * sizeof *logits);
}

/* A pool of many threads that has only the caller, who takes the last task first. */
static void run_backwards(void *context, size_t tasks, octavo_task_fn *fn, void *arg)
{
	(void)context;
	while (tasks--)
		fn(arg, tasks);
}

static void check(const char *model, enum octavo_kv_format kv, uint8_t flags)
{
	static const struct octavo_parallel many = { run_backwards, NULL, 64 };
	struct octavo_engine_settings settings = { .threads = 1, .sequences = SEQUENCES, .max_context = LONGEST, .kv = kv };
	struct octavo_engine *e = open_model(model, &settings);
	size_t vocab = e->config.vocab;
	float *want = test_malloc(ROWS * vocab * sizeof *want), *got = test_malloc(ROWS * vocab * sizeof *got);
	fill(e, 64, flags);
	for (size_t row = 0; row < ROWS; row++)
		run_path(e, row, want + row * vocab);
	octavo_engine_close(&e);
	for (unsigned threads = 1; threads <= 5; threads++) {
		settings.threads = threads;
		settings.parallel = threads == 5 ? &many : NULL;
		e = open_model(model, &settings);
		fill(e, 64 - 9 * threads, flags);
		run_batch(e, got);
		assert_memory_equal(got, want, ROWS * vocab * sizeof *got);
		octavo_engine_close(&e);
	}
	test_free(got);
	test_free(want);
}

static void latent(void **state)
{
	(void)state;
	check("tiny-blocks", OCTAVO_KV_BF16, 0);
	check("tiny-ragged", OCTAVO_KV_BF16, 0);
}

static void latent_fp8(void **state)
{
	(void)state;
	check("tiny-blocks", OCTAVO_KV_FP8, 0);
	check("tiny-ragged", OCTAVO_KV_FP8, 0);
}

static void expanded(void **state)
{
	(void)state;
	check("tiny-blocks", OCTAVO_KV_BF16, OCTAVO_ROW_NAIVE);
	check("tiny-blocks", OCTAVO_KV_FP8, OCTAVO_ROW_NAIVE);
}

static void grouped(void **state)
{
	(void)state;
	check("tiny-llama", OCTAVO_KV_BF16, 0);
	check("tiny-qwen3", OCTAVO_KV_BF16, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(latent),
		cmocka_unit_test(latent_fp8),
		cmocka_unit_test(expanded),
		cmocka_unit_test(grouped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
