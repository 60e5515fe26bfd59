/* SPDX-License-Identifier: Apache-2.0
 *
 * The logits of a random tiny model as a hash: one constant for every set of kernels that this machine can choose,
 * with one row at a time and with 64 rows in one batch.
 *
 * The models are tests/data/tiny-*, each a pure function of its name (tests/oracle/tiny.py).  A golden changes with
 * a model, with the contract, or with a C library whose sine, cosine or power differ (RoPE's tables); the failure
 * message prints the new hash, which must be the same for all sets before it may replace the constant.
 */
#include "tests/support/hash.h"
#include "tests/support/model.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

enum { TOKENS = 64, MOST_TABLES = 64 };

static const struct golden_hash {
	const char *model;
	enum octavo_arithmetic arithmetic;
	uint8_t flags; /* of the rows */
	uint64_t hash;
} goldens[] = {
	{ "tiny-ragged", OCTAVO_W8A16, 0, UINT64_C(0xd5a531b95ae0b8ef) },
	{ "tiny-ragged", OCTAVO_W8A8, 0, UINT64_C(0x5a150a8e167f4cdd) },
	{ "tiny-blocks", OCTAVO_W8A16, OCTAVO_ROW_NAIVE, UINT64_C(0xb1c45bceb637d58c) },
	{ "tiny-llama", OCTAVO_W8A16, 0, UINT64_C(0x2abd823b8bb286e7) },
	{ "tiny-llama", OCTAVO_W8A8, 0, UINT64_C(0xcf02cd978907119c) },
	{ "tiny-qwen3", OCTAVO_W8A16, 0, UINT64_C(0x99852bd86974b2a1) },
	{ "tiny-v2", OCTAVO_W8A8, 0, UINT64_C(0x4ee40011a04e1e88) },
};

static uint64_t run(const struct golden_hash *golden, const struct octavo_kernels *table, size_t rows)
{
	struct octavo_engine_settings settings = {
		.threads = rows > 1 ? 2 : 1, .kernels = table, .arithmetic = golden->arithmetic, .max_rows = TOKENS,
	};
	struct octavo_engine *e = open_model(golden->model, &settings);
	float *logits = test_malloc(TOKENS * e->config.vocab * sizeof *logits);
	int32_t token[TOKENS];

	for (size_t i = 0; i < TOKENS; i++)
		token[i] = (int32_t)((i * i * 7 + i * 31 + 5) % e->choosable);
	run_tokens(e, token, TOKENS, rows, golden->flags, logits, NULL);
	uint64_t hash = hash_floats(HASH_START, logits, TOKENS * e->config.vocab);
	test_free(logits);
	octavo_engine_close(&e);
	return hash;
}

/* Every distinct table over the subsets of this machine's features. */
static size_t tables(struct octavo_kernels table[MOST_TABLES], uint32_t mask[MOST_TABLES])
{
	uint32_t have = octavo_cpu_detect_all(), subset = 0;
	size_t count = 0;

	do {
		size_t i = 0;
		octavo_kernels_init(&table[count], subset);
		while (memcmp(&table[i], &table[count], sizeof *table) != 0)
			i++;
		if (i == count)
			mask[count++] = subset;
		subset = (subset - have) & have;
	} while (subset && count < MOST_TABLES);
	return count;
}

static void logits_have_one_hash(void **state)
{
	static struct octavo_kernels table[MOST_TABLES];
	uint32_t mask[MOST_TABLES];
	size_t count = tables(table, mask), wrong = 0;

	(void)state;
	for (size_t g = 0; g < sizeof goldens / sizeof *goldens; g++)
		for (size_t i = 0; i < count; i++)
			for (size_t rows = 1; rows <= TOKENS; rows += TOKENS - 1) {
				uint64_t got = run(&goldens[g], &table[i], rows);
				if (got == goldens[g].hash)
					continue;
				print_error(
				        "%s, %s, %s with features 0x%x, %zu rows at a time: 0x%016llx, must be 0x%016llx\n",
				        goldens[g].model, goldens[g].arithmetic == OCTAVO_W8A8 ? "W8A8" : "W8A16",
				        octavo_cpu_name(mask[i]), (unsigned)mask[i], rows, (unsigned long long)got,
				        (unsigned long long)goldens[g].hash);
				wrong++;
			}
	assert_int_equal(wrong, 0);
	print_message("%zu tables of kernels, the best %s\n", count, octavo_cpu_name(octavo_cpu_detect()));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(logits_have_one_hash) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
