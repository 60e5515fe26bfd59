/* SPDX-License-Identifier: Apache-2.0
 *
 * The bundled model: every drafter of specbench's report emits the tokens of plain decoding, at temperature 0 and
 * 0.8, on 1 and 2 threads, with the reference kernels and with the best ones: one token stream in all of them.
 * 8 prompts; all of them with OCTAVO_LONG set (make check-long).
 */
#include "tests/support/bundled.h"
#include "tests/support/golden.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 64 };

static const struct {
	const char *drafter;
	unsigned k;
} configurations[] = { { "none", 0 }, { "mtp", 1 }, { "mtp", 2 }, { "mtp", 3 }, { "mtp", 4 }, { "ngram", 4 } };

static void decode(struct octavo_engine *e, const int32_t *prompt, size_t length, const char *drafter, unsigned k,
                   float temperature, uint64_t stream, int32_t *out)
{
	struct octavo_session_settings settings = { .drafter = drafter, .k = k, .max_new = TOKENS, .ignore_eos = 1,
		                                    .sampling = { .temperature = temperature },
		                                    .stream = { 0, stream } };
	struct octavo_session *s;
	struct octavo_error error;
	const int32_t *token;
	size_t count, total = 0;
	if (octavo_session_open(&s, e, &settings, &error) != OCTAVO_OK ||
	    octavo_session_prompt(s, prompt, length, &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
	do {
		if (octavo_session_step(s, &token, &count, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		memcpy(out + total, token, count * sizeof *token);
		total += count;
	} while (count);
	assert_int_equal(total, TOKENS);
	octavo_session_close(&s);
}

struct machine {
	const char *name;
	struct octavo_engine *engine;
};

/* All machines and configurations against the first: reference kernels, one thread, plain decoding. */
static void check_prompt(const struct machine *m, size_t machines, const int32_t *prompt, size_t length,
                         uint64_t stream)
{
	static const float temperatures[] = { 0.0f, 0.8f };
	for (size_t t = 0; t < 2; t++) {
		int32_t plain[TOKENS], got[TOKENS];
		decode(m[0].engine, prompt, length, "none", 0, temperatures[t], stream, plain);
		for (size_t i = 0; i < machines; i++)
			for (size_t c = i == 0; c < sizeof configurations / sizeof *configurations; c++) {
				decode(m[i].engine, prompt, length, configurations[c].drafter, configurations[c].k,
				       temperatures[t], stream, got);
				for (size_t at = 0; at < TOKENS; at++)
					if (got[at] != plain[at])
						fail_msg(
						        "prompt %u, temperature %g, %s, %s k=%u: token %zu is %d instead of %d",
						        (unsigned)stream, (double)temperatures[t], m[i].name,
						        configurations[c].drafter, configurations[c].k, at, got[at],
						        plain[at]);
			}
	}
}

static void streams_are_identical(void **state)
{
	(void)state;
	need_bundled();
	struct octavo_kernels reference;
	octavo_kernels_init(&reference, 0);
	struct octavo_engine_settings settings[] = { { .threads = 1, .kernels = &reference },
		                                     { .threads = 2, .kernels = &reference },
		                                     { .threads = 1 },
		                                     { .threads = 2 } };
	struct machine m[] = { { "reference kernels, 1 thread", NULL }, { "reference kernels, 2 threads", NULL },
		               { "best kernels, 1 thread", NULL },      { "best kernels, 2 threads", NULL } };
	char dir[PATH_MAX];
	snprintf(dir, sizeof dir, "%s", bundled_path(""));
	for (size_t i = 0; i < 4; i++)
		m[i].engine = open_model(dir, &settings[i]);

	size_t most = getenv("OCTAVO_LONG") ? SIZE_MAX : 8, prompts = 0;
	FILE *file = fopen(bundled_path("prompts.jsonl"), "rb");
	int32_t prompt[MOST_PROMPT];
	assert_non_null(file);
	for (size_t length; prompts < most && (length = read_prompt(file, m[0].engine, prompt)) > 0; prompts++)
		check_prompt(m, 4, prompt, length, prompts);
	assert_true(prompts >= 8);
	fclose(file);
	for (size_t i = 0; i < 4; i++)
		octavo_engine_close(&m[i].engine);
}

/* The oracle's logits for a text of the model's own. */
static void logits_agree(void **state)
{
	(void)state;
	need_bundled();
	struct golden *golden = golden_open(source_path("tests/data/bundled/golden.safetensors"));
	assert_non_null(golden); /* it comes with the model */
	char dir[PATH_MAX];
	size_t count, rows, cols, positions;
	struct octavo_engine_settings settings = { .threads = 2 };
	snprintf(dir, sizeof dir, "%s", bundled_path(""));
	struct octavo_engine *e = open_model(dir, &settings);
	const int32_t *token = golden_i32(golden, "tokens", &count);
	const int32_t *position = golden_i32(golden, "rows", &positions);
	const float *expected = golden_f32(golden, "logits", &rows, &cols);
	assert_non_null(token);
	assert_non_null(position);
	assert_non_null(expected);
	assert_int_equal(positions, rows);
	assert_int_equal(cols, e->config.vocab);
	float *logits = test_malloc(count * cols * sizeof *logits);
	run_tokens(e, token, count, 16, 0, logits, NULL);
	for (size_t i = 0; i < rows; i++) {
		size_t at = (size_t)position[i];
		struct golden_distance d = golden_compare(logits + at * cols, expected + i * cols, 1, cols, 1e-3);
		if (!(d.kl < 1e-5 && d.top1_changed == 0))
			fail_msg("position %zu: KL %g nats, best token %s", at, d.kl,
			         d.top1_changed ? "differs" : "agrees");
	}
	test_free(logits);
	octavo_engine_close(&e);
	golden_close(golden);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(logits_agree),
		cmocka_unit_test(streams_are_identical),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
