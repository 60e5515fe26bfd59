/* SPDX-License-Identifier: Apache-2.0
 *
 * The FP8 latent cache in the engine: what lies in it, that the batch changes nothing, how far it moves the logits; and
 * W8A8 as a tensor core would add it.
 */
#include "tests/support/golden.h"
#include "tests/support/model.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

enum { TOKENS = 40 };

static void make_tokens(int32_t *token)
{
	token[0] = 0;
	for (int32_t i = 1; i < TOKENS; i++)
		token[i] = i * i * 37 % 240 + 3;
}

static float *logits_of(const char *model, const struct octavo_engine_settings *settings, size_t chunk, size_t *count)
{
	int32_t token[TOKENS];
	struct octavo_engine *e = open_model(model, settings);
	make_tokens(token);
	*count = TOKENS * e->config.vocab;
	float *logits = test_malloc(*count * sizeof *logits);
	run_tokens(e, token, TOKENS, chunk, 0, logits, NULL);
	octavo_engine_close(&e);
	return logits;
}

/* The first layer's latents do not depend on the cache, so its entries are those of a BF16 cache, quantised. */
static void check_entries(const char *model)
{
	int32_t token[TOKENS];
	struct octavo_engine *fp8 = open_model(model, &(struct octavo_engine_settings){ .threads = 1,
	                                                                                .kv = OCTAVO_KV_FP8 });
	struct octavo_engine *bf16 = open_model(model, &(struct octavo_engine_settings){ .threads = 1 });
	size_t latent = fp8->config.kv_lora, rope = fp8->config.rope, groups = (latent + 127) / 128;
	make_tokens(token);
	run_tokens(fp8, token, TOKENS, 7, 0, NULL, NULL);
	run_tokens(bf16, token, TOKENS, 7, 0, NULL, NULL);
	assert_int_equal(fp8->kv.bytes, latent + 4 * groups + 2 * rope);
	for (size_t t = 0; t < TOKENS; t++) {
		const unsigned char *entry = octavo_kv_slots(&fp8->kv, 0, 0) + t * fp8->kv.bytes;
		const uint16_t *row = (const uint16_t *)(const void *)octavo_kv_slots(&bf16->kv, 0, 0) + t * bf16->kv.width;
		uint8_t code[512];
		float scale[4];
		octavo_quantise_1x128(code, scale, row, latent, OCTAVO_SCALE_AMAX);
		assert_memory_equal(entry, code, latent);
		assert_memory_equal(entry + latent, scale, 4 * groups);
		assert_memory_equal(entry + latent + 4 * groups, row + latent, 2 * rope);
	}
	octavo_engine_close(&bf16);
	octavo_engine_close(&fp8);
}

static void entries_are_quantised_rows(void **state)
{
	(void)state;
	check_entries("tiny-ragged");
	check_entries("tiny-blocks");
}

static int ascending(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* Of `count` logits of TOKENS positions against others: the median KL. */
static double middle_kl(const float *x, const float *reference, size_t count)
{
	double kl[TOKENS];
	size_t vocab = count / TOKENS;
	for (size_t t = 0; t < TOKENS; t++)
		kl[t] = golden_kl(x + t * vocab, reference + t * vocab, vocab);
	qsort(kl, TOKENS, sizeof *kl, ascending);
	return kl[TOKENS / 2];
}

/* Bits do not depend on batch, threads or kernels; they are near those of a BF16 cache, and not the same. */
static void check_logits(const char *model)
{
	struct octavo_kernels reference;
	octavo_kernels_init(&reference, 0);
	struct octavo_engine_settings plain = { .threads = 1 }, one = { .threads = 1, .kv = OCTAVO_KV_FP8 },
	                              two = { .threads = 2, .kv = OCTAVO_KV_FP8 },
	                              quantised = { .threads = 1, .arithmetic = OCTAVO_W8A8 },
	                              ref = { .threads = 1, .kv = OCTAVO_KV_FP8, .kernels = &reference };
	size_t count;
	float *bf16 = logits_of(model, &plain, 8, &count), *fp8 = logits_of(model, &one, 1, &count);
	for (size_t chunk = 5; chunk <= TOKENS; chunk += 35) {
		float *other = logits_of(model, chunk == 5 ? &two : &ref, chunk, &count);
		assert_memory_equal(fp8, other, count * sizeof *fp8);
		test_free(other);
	}
	/* Where rounding moves the choice of an expert, a random model's logits jump: the middle of the distances
	 * tells. */
	double middle = middle_kl(fp8, bf16, count), w8a8_middle;
	float *w8a8 = logits_of(model, &quantised, 8, &count);
	w8a8_middle = middle_kl(w8a8, bf16, count);
	print_message("%s: median KL of an FP8 cache's logits: %.2g, of W8A8's: %.2g\n", model, middle, w8a8_middle);
	assert_true(middle > 0 && middle < w8a8_middle);
	test_free(w8a8);
	test_free(fp8);
	test_free(bf16);
}

static void logits_are_near_and_the_same_in_any_batch(void **state)
{
	(void)state;
	check_logits("tiny-ragged");
	check_logits("tiny-blocks");
}

/* W8A8 with emulated accumulation: near W8A8, not the same, another with another promotion interval, and the same bits
 * in any batch. */
static void emulation_is_near(void **state)
{
	(void)state;
	struct octavo_kernels emulated = *octavo_kernels_get(), often = emulated;
	assert_int_equal(octavo_kernels_emulate(&emulated, "hopper"), OCTAVO_OK);
	assert_int_equal(octavo_kernels_emulate(&often, "hopper:32"), OCTAVO_OK);
	struct octavo_engine_settings settings = { .threads = 2, .arithmetic = OCTAVO_W8A8 };
	size_t count;
	float *plain = logits_of("tiny-blocks", &settings, 8, &count);
	settings.kernels = &emulated;
	float *hopper = logits_of("tiny-blocks", &settings, 8, &count);
	float *single = logits_of("tiny-blocks", &settings, 1, &count);
	settings.kernels = &often;
	float *hopper32 = logits_of("tiny-blocks", &settings, 8, &count);
	assert_memory_equal(hopper, single, count * sizeof *hopper);
	double far = golden_relative_l2(hopper, plain, count), near = golden_relative_l2(hopper32, plain, count);
	print_message("tiny-blocks: relative distance of emulated logits: %.3g, promoted every 32: %.3g\n", far, near);
	assert_true(far > 0 && far < 0.1);
	assert_true(near > 0 && near < 0.1 && memcmp(hopper, hopper32, count * sizeof *hopper) != 0);
	test_free(hopper32);
	test_free(single);
	test_free(hopper);
	test_free(plain);
}

static void unknown_format_is_refused(void **state)
{
	(void)state;
	struct octavo_engine *e;
	struct octavo_error error;
	struct octavo_engine_settings s = { .model_dir = source_path("tests/data/tiny-blocks"),
		                            .kv = (enum octavo_kv_format)7 };
	assert_int_equal(octavo_engine_open(&e, &s, &error), OCTAVO_EINVAL);
	assert_non_null(strstr(error.text, "KV cache"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_are_quantised_rows),
		cmocka_unit_test(logits_are_near_and_the_same_in_any_batch),
		cmocka_unit_test(emulation_is_near),
		cmocka_unit_test(unknown_format_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
