/* SPDX-License-Identifier: Apache-2.0
 *
 * Dense models with grouped-query attention: rows, threads, kernels and drafts change nothing, and what does not fit is
 * refused.  The goldens are in test_golden.c, trees in test_trees.c.
 */
#include "tests/support/ckpt.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const models[] = { "tiny-llama", "tiny-qwen2", "tiny-qwen3" };
enum { MODELS = sizeof models / sizeof *models, TOKENS = 530 /* past the first segment of 512 */ };

/* Logits of TOKENS tokens, and the cache that they leave. */
struct run {
	float *logits;        /* [TOKENS][vocab] */
	unsigned char *cache; /* [layers][TOKENS][bytes] */
	size_t logit_bytes, cache_bytes;
};

static struct run run(const char *model, const struct octavo_engine_settings *settings, size_t chunk)
{
	struct octavo_engine *e = open_model(model, settings);
	size_t layer_bytes = TOKENS * e->kv.bytes;
	int32_t token[TOKENS];
	struct run r = { .logit_bytes = TOKENS * e->config.vocab * sizeof(float),
		         .cache_bytes = e->config.layers * layer_bytes };
	r.logits = test_malloc(r.logit_bytes);
	r.cache = test_malloc(r.cache_bytes);
	for (size_t i = 0; i < TOKENS; i++)
		token[i] = (int32_t)(i * i * 37 % 240 + 3);
	run_tokens(e, token, TOKENS, chunk, 0, r.logits, NULL);
	for (size_t layer = 0; layer < e->config.layers; layer++)
		memcpy(r.cache + layer * layer_bytes, octavo_kv_slots(&e->kv, 0, layer), layer_bytes);
	octavo_engine_close(&e);
	return r;
}

static void drop(struct run *r)
{
	test_free(r->cache);
	test_free(r->logits);
}

static void batches_threads_and_kernels_change_nothing(void **state)
{
	struct octavo_kernels reference;
	(void)state;
	octavo_kernels_init(&reference, 0);
	const struct {
		struct octavo_engine_settings settings;
		size_t chunk;
	} ways[] = {
		{ { .threads = 1 }, 1 },
		{ { .threads = 2 }, 7 },
		{ { .threads = 5 }, 64 },
		{ { .threads = 2, .kernels = &reference }, 64 },
	};
	for (size_t i = 0; i < MODELS; i++) {
		struct run first = run(models[i], &ways[0].settings, ways[0].chunk);
		for (size_t w = 1; w < sizeof ways / sizeof *ways; w++) {
			struct run other = run(models[i], &ways[w].settings, ways[w].chunk);
			assert_memory_equal(first.logits, other.logits, first.logit_bytes);
			assert_memory_equal(first.cache, other.cache, first.cache_bytes);
			drop(&other);
		}
		drop(&first);
	}
}

static void streams_are_identical(void **state)
{
	static const int32_t prompt[] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };
	static const struct octavo_session_settings drafts[] = {
		{ .drafter = "ngram", .k = 3 }, { .drafter = "ngram" }, { .drafter = "ngram", .tree = { 3, 2, 1 } }
	};
	(void)state;
	for (size_t i = 0; i < MODELS; i++) {
		struct octavo_engine_settings settings = { .threads = 2 };
		struct octavo_engine *e = open_model(models[i], &settings);
		for (int warm = 0; warm < 2; warm++) {
			struct octavo_session_settings s = { .max_new = 60, .ignore_eos = 1,
				                             .sampling = { .temperature = warm ? 0.8f : 0.0f } };
			struct output plain, out;
			decode(e, &s, prompt, 12, &plain);
			assert_int_equal(plain.count, 60);
			for (size_t d = 0; d < sizeof drafts / sizeof *drafts; d++) {
				s.drafter = drafts[d].drafter;
				s.k = drafts[d].k;
				memcpy(s.tree, drafts[d].tree, sizeof s.tree);
				decode(e, &s, prompt, 12, &out);
				expect_same(&plain, &out, models[i]);
			}
		}
		octavo_engine_close(&e);
	}
}

static void an_fp8_cache_is_refused(void **state)
{
	struct octavo_engine *e;
	struct octavo_error error;
	struct octavo_engine_settings s = { .model_dir = source_path("tests/data/tiny-llama"), .kv = OCTAVO_KV_FP8 };
	(void)state;
	assert_int_equal(octavo_engine_open(&e, &s, &error), OCTAVO_ENOTSUP);
	assert_non_null(strstr(error.text, "FP8 KV cache"));
	assert_non_null(strstr(error.text, "llama"));
}

/* A checkpoint and a config that disagree: what is missing, misshapen or left over is named. */
static void misfits_are_refused(void **state)
{
	static const struct {
		const char *field, *value, *says;
	} bent[] = {
		{ "num_key_value_heads", "3", "self_attn.k_proj.weight: shape [40, 136], but config.json makes it [60, 136]" },
		{ "head_dim", "22", "self_attn.q_proj.weight: shape [120, 136], but config.json makes it [132, 136]" },
		{ "intermediate_size", "160", "mlp.gate_proj.weight: shape [152, 136]" },
		{ "tie_word_embeddings", "true", "lm_head.weight: row 0 is not the embedding's, but config.json says tie_word_embeddings" },
		{ "model_type", "\"qwen2\"", "self_attn.q_proj.bias: missing" },
		{ "model_type", "\"qwen3\"", "self_attn.q_norm.weight: missing" },
	};
	char from[4096];
	size_t bytes;
	(void)state;
	snprintf(from, sizeof from, "%s", source_path("tests/data/tiny-llama"));
	char *dir = ckpt_dir_new();
	static const char *const files[] = { "tokenizer.json", "tokenizer_config.json", "model.safetensors",
		                             "config.json" };
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		unsigned char *data = ckpt_read_file(from, files[i], &bytes);
		ckpt_write_file(dir, files[i], data, bytes);
		free(data);
	}
	for (size_t i = 0; i < sizeof bent / sizeof *bent; i++) {
		struct octavo_engine *e;
		struct octavo_error error = { "" };
		struct octavo_engine_settings s = { .model_dir = dir, .threads = 1 };
		unsigned char *data = ckpt_read_file(from, "config.json", &bytes);
		json_t *config = json_loadb((const char *)data, bytes, 0, NULL);
		json_object_set_new(config, bent[i].field, json_loads(bent[i].value, JSON_DECODE_ANY, NULL));
		char *text = json_dumps(config, 0);
		ckpt_write_file(dir, "config.json", text, strlen(text));
		assert_int_equal(octavo_engine_open(&e, &s, &error), OCTAVO_EFORMAT);
		if (!strstr(error.text, bent[i].says))
			fail_msg("%s = %s: %s", bent[i].field, bent[i].value, error.text);
		free(text);
		json_decref(config);
		free(data);
	}
	ckpt_dir_free(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(batches_threads_and_kernels_change_nothing),
		cmocka_unit_test(streams_are_identical),
		cmocka_unit_test(an_fp8_cache_is_refused),
		cmocka_unit_test(misfits_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
