/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafters with layers and a cache of their own, eagle and parallel: their caches, the streams they take part in, and
 * directories that are refused.
 */
#include "engine/draft/follow.h"
#include "tests/support/ckpt.h"
#include "tests/support/oracle.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Caches ------------------------------------------------------------------------------------------------------ */

static const struct octavo_follower *follower_of(const struct octavo_session *s)
{
	return (const struct octavo_follower *)s->drafter;
}

static void expect_same_cache(const struct octavo_follower *a, const struct octavo_follower *b, size_t least)
{
	size_t valid = a->valid < b->valid ? a->valid : b->valid;
	assert_true(valid >= least);
	assert_int_equal(a->kv->layers, b->kv->layers);
	for (size_t layer = 0; layer < a->kv->layers; layer++)
		assert_memory_equal(octavo_kv_slots(a->kv, a->sequence, layer),
		                    octavo_kv_slots(b->kv, b->sequence, layer), valid * a->kv->bytes);
}

/* After random patterns of accepted and refused rows, scattered over the batch, and of drafts that left rows of their
 * own, the drafter's cache is that of a prompt of the same text, whatever rows it was cut into. */
static void caches_follow_the_text(void **state)
{
	static const char *const drafters[] = { "parallel", "eagle" };
	static const int32_t prompt[12] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };
	enum { NEW = 120, LENGTH = 12 + NEW };
	struct octavo_engine_settings settings = { .threads = 1, .sequences = 2, .kv = cache_of(state) };
	struct octavo_engine_settings few = settings;
	few.max_rows = 9;
	struct octavo_engine *e = open_model("tiny-ragged", &settings), *small = open_model("tiny-ragged", &few);
	struct octavo_error error;
	struct output plain;
	struct octavo_session_settings s = { .sampling = { .temperature = 0.8f }, .max_new = NEW, .ignore_eos = 1 };
	decode(e, &s, prompt, 12, &plain);
	int32_t truth[LENGTH];
	memcpy(truth, prompt, sizeof prompt);
	memcpy(truth + 12, plain.token, NEW * sizeof *truth);
	for (uint32_t seed = 1; seed <= 6; seed++) {
		size_t accepted = 0, refused = 0;
		struct output out;
		struct oracle oracle;
		s.drafter = drafters[seed % 2];
		s.k = seed < 5 ? 8 : 0;
		s.dynamic = seed < 5 ? (struct octavo_dynamic){ 0 } : (struct octavo_dynamic){ 20, 3, 5 };
		struct octavo_session *a = open_session(e, &s);
		oracle_take(&oracle, a, truth, LENGTH, seed);
		assert_int_equal(octavo_session_prompt(a, prompt, 12, &error), OCTAVO_OK);
		while (a->stats.finish == OCTAVO_RUNNING) {
			const int32_t *token;
			size_t count;
			assert_int_equal(octavo_session_step(a, &token, &count, &error), OCTAVO_OK);
			accepted += a->outcome.accepted;
			refused += a->tree.rows - 1 - a->outcome.accepted;
		}
		assert_true(accepted > 30 && refused > 50);
		a->drafter = oracle.inner;
		s.dynamic = (struct octavo_dynamic){ 0 };
		s.k = 1;
		for (int i = 0; i < 2; i++) { /* rounds catch up with what waits */
			struct octavo_session *b = open_session(i ? small : e, &s);
			assert_int_equal(octavo_session_prompt(b, truth, LENGTH - 1, &error), OCTAVO_OK);
			const int32_t *token;
			size_t count;
			assert_int_equal(octavo_session_step(b, &token, &count, &error), OCTAVO_OK);
			expect_same_cache(follower_of(a), follower_of(b), LENGTH - 2 - 9);
			octavo_session_close(&b);
		}
		octavo_session_close(&a);
		s.k = 0;
		s.drafter = NULL;
		decode(e, &s, prompt, 12, &out);
		expect_same(&plain, &out, "a plain run afterwards");
	}
	octavo_engine_close(&small);
	octavo_engine_close(&e);
}

/* ---- Streams ----------------------------------------------------------------------------------------------------- */

static const struct {
	const char *drafter;
	unsigned k, tree[OCTAVO_MAX_K];
	struct octavo_dynamic dynamic;
} configurations[] = {
	{ .drafter = "eagle", .k = 1 },
	{ .drafter = "eagle", .k = 8 },
	{ .drafter = "eagle" },
	{ .drafter = "eagle", .tree = { 4, 2, 1 } },
	{ .drafter = "eagle", .dynamic = { 16, 3, 5 } },
	{ .drafter = "parallel", .k = 2 },
	{ .drafter = "parallel", .k = 8 },
	{ .drafter = "parallel" },
	{ .drafter = "parallel", .tree = { 3, 2, 1, 1 } },
	{ .drafter = "parallel", .dynamic = { 12, 2, 4 } },
	{ .drafter = "ngram+eagle", .k = 3 },
	{ .drafter = "parallel+ngram", .dynamic = { 9, 4, 2 } },
};

static struct octavo_session_settings settings_of(size_t i, const struct octavo_session_settings *base)
{
	struct octavo_session_settings s = *base;
	s.drafter = configurations[i].drafter;
	s.k = configurations[i].k;
	memcpy(s.tree, configurations[i].tree, sizeof s.tree);
	s.dynamic = configurations[i].dynamic;
	return s;
}

static void streams_are_identical(void **state)
{
	static const int32_t prompt[12] = { 0, 12, 13, 12, 13, 12, 13, 12, 13, 12, 13, 12 };
	for (size_t threads = 1; threads <= 2; threads++) {
		struct octavo_engine_settings settings = { .threads = (unsigned)threads, .kv = cache_of(state),
			                                   .max_rows = threads == 1 ? 64 : 22 };
		struct octavo_engine *e = open_model("tiny-ragged", &settings);
		for (int hot = 0; hot < 2; hot++) {
			struct octavo_session_settings base = { .sampling = { .temperature = hot ? 0.8f : 0.0f },
				                                .stream = { 5, 1 }, .max_new = 40, .ignore_eos = 1 };
			struct output plain, out;
			decode(e, &base, prompt, 12, &plain);
			for (size_t i = 0; i < sizeof configurations / sizeof *configurations; i++) {
				struct octavo_session_settings s = settings_of(i, &base);
				decode(e, &s, prompt, 12, &out);
				expect_same(&plain, &out, s.drafter);
				if (s.k || s.dynamic.rows)
					assert_true(out.stats.drafted[0] > 0);
			}
		}
		octavo_engine_close(&e);
	}
}

/* With rules that compare laws, tokens are drawn from the heads' laws: nothing but a law to be kept, so only that it
 * runs and drafts is looked at here. */
static void drawn_drafts_run(void **state)
{
	(void)state;
	static const int32_t prompt[4] = { 0, 40, 41, 42 };
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	static const char *const drafters[] = { "eagle", "parallel" };
	for (size_t i = 0; i < 2; i++) {
		struct octavo_session_settings s = { .drafter = drafters[i], .accept = OCTAVO_ACCEPT_MULTIROUND,
			                             .sampling = { .temperature = 1.0f }, .tree = { 3, 2 },
			                             .max_new = 24,
			                             .ignore_eos = 1 };
		struct output out;
		decode(e, &s, prompt, 4, &out);
		assert_int_equal(out.count, 24);
		assert_true(out.stats.drafted[1] > 0);
	}
	octavo_engine_close(&e);
}

/* Sessions side by side have caches of their own: each emits what it emits alone, whatever ends or joins beside it. */
static void sessions_are_apart(void **state)
{
	enum { SESSIONS = 3 };
	static const char *const drafters[SESSIONS] = { "eagle", "parallel", "eagle" };
	static const int32_t prompt[SESSIONS][8] = { { 0, 40, 41, 42, 43, 40, 41, 42 }, { 0, 9, 9, 9, 9, 31, 250, 100 },
		                                     { 0, 200, 3, 77, 150, 9, 9, 9 } };
	struct octavo_engine_settings settings = { .threads = 1, .sequences = SESSIONS, .kv = cache_of(state) };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct output alone[SESSIONS];
	struct octavo_session *s[SESSIONS];
	struct octavo_error error;
	for (size_t i = 0; i < SESSIONS; i++) {
		struct octavo_session_settings one = { .drafter = drafters[i], .k = 3, .max_new = 16 + 6 * i,
		                                       .ignore_eos = 1,
			                               .sampling = { .temperature = 0.8f }, .stream = { 1, i } };
		decode(e, &one, prompt[i], 8, &alone[i]);
	}
	for (size_t i = 0; i < SESSIONS; i++) {
		struct octavo_session_settings one = { .drafter = drafters[i], .k = 3, .max_new = 16 + 6 * i,
		                                       .ignore_eos = 1,
			                               .sampling = { .temperature = 0.8f }, .stream = { 1, i } };
		s[i] = open_session(e, &one);
		assert_int_equal(octavo_session_prompt(s[i], prompt[i], 8, &error), OCTAVO_OK);
	}
	finish_together(s, SESSIONS, alone);
	octavo_engine_close(&e);
}

/* ---- Directories ------------------------------------------------------------------------------------------------- */

/* A main model and drafters for it, of the sizes of tests/support/ckpt.h, in directories of their own. */
static struct octavo_engine *open_ckpt(char **dir)
{
	struct octavo_engine_settings settings = { .threads = 1 };
	struct ckpt *ckpt = ckpt_new(&(struct ckpt_options){ .seed = 5 });
	size_t bytes;
	*dir = ckpt_dir_new();
	ckpt_write(ckpt, *dir);
	unsigned char *tokenizer = ckpt_read_file(source_path("tests/data/tiny-ragged"), "tokenizer.json", &bytes);
	ckpt_write_file(*dir, "tokenizer.json", tokenizer, bytes);
	free(tokenizer);
	ckpt_free(ckpt);
	return open_model(*dir, &settings);
}

/* Three dense layers: parallel heads, or one of them an EAGLE head. */
static struct ckpt *new_drafter(int eagle)
{
	struct ckpt *ckpt = ckpt_new(&(struct ckpt_options){ .dense = 1, .seed = 6 });
	const size_t hidden = ckpt_find(ckpt, "model.norm.weight")->shape[0];
	ckpt_remove(ckpt, "model.embed_tokens.weight");
	ckpt_remove(ckpt, "model.norm.weight");
	ckpt_remove(ckpt, "lm_head.weight");
	if (!eagle) {
		json_object_set_new(ckpt->config, "parallel_heads", json_integer(3));
		return ckpt;
	}
	for (size_t i = ckpt->count; i--;)
		if (strncmp(ckpt->tensor[i].name, "model.layers.0.", 15))
			ckpt_remove(ckpt, ckpt->tensor[i].name);
		else
			memmove(ckpt->tensor[i].name, ckpt->tensor[i].name + 6, strlen(ckpt->tensor[i].name) - 5);
	ckpt_add(ckpt, "fc.weight", "BF16", 2, (size_t[]){ hidden, 2 * hidden });
	json_object_set_new(ckpt->config, "eagle", json_true());
	json_object_set_new(ckpt->config, "num_hidden_layers", json_integer(1));
	return ckpt;
}

/* Writes and frees the drafter; NULL for one that is opened, else the part of the message behind its directory. */
static void expect_opening(struct octavo_engine *e, int eagle, struct ckpt *ckpt, const char *says)
{
	struct octavo_error error = { "" };
	struct octavo_session *s;
	char *dir = ckpt_dir_new(), spec[300], whole[900];
	snprintf(spec, sizeof spec, "%s:%s", eagle ? "eagle" : "parallel", dir);
	snprintf(whole, sizeof whole, "drafter %s: %s: %s", eagle ? "eagle" : "parallel", dir, says ? says : "");
	ckpt_write(ckpt, dir);
	ckpt_free(ckpt);
	struct octavo_session_settings settings = { .drafter = spec, .k = 2 };
	enum octavo_status status = octavo_session_open(&s, e, &settings, &error);
	octavo_session_close(&s);
	ckpt_dir_free(dir);
	if (says)
		assert_string_equal(error.text, whole);
	else if (status != OCTAVO_OK)
		fail_msg("%s", error.text);
}

static void refuse_field(struct octavo_engine *e, int eagle, const char *field, json_t *value, const char *says)
{
	struct ckpt *ckpt = new_drafter(eagle);
	if (value)
		json_object_set_new(ckpt->config, field, value);
	else
		json_object_del(ckpt->config, field);
	expect_opening(e, eagle, ckpt, says);
}

static void misfit_configs_are_refused(void **state)
{
	char *dir;
	struct octavo_engine *e = open_ckpt(&dir);
	(void)state;
	expect_opening(e, 0, new_drafter(0), NULL);
	expect_opening(e, 1, new_drafter(1), NULL);
	refuse_field(e, 0, "hidden_size", json_integer(128), "config.json: hidden_size: 128, but the model's is 160");
	refuse_field(e, 1, "vocab_size", json_integer(301), "config.json: vocab_size: 301, but the model's is 300");
	refuse_field(e, 1, "num_attention_heads", json_integer(4),
	             "config.json: num_attention_heads: 4, but the model's is 2");
	refuse_field(e, 0, "qk_rope_head_dim", json_integer(16),
	             "config.json: qk_rope_head_dim: 16, but the model's is 32");
	refuse_field(e, 0, "q_lora_rank", json_null(), "config.json: q_lora_rank: 0, but the model's is 144");
	refuse_field(e, 0, "rms_norm_eps", json_real(1e-5),
	             "config.json: rms_norm_eps: 1e-05, but the model's is 1e-06");
	refuse_field(e, 0, "rope_theta", json_real(5e4), "config.json: rope_theta: not the model's");
	refuse_field(e, 1, "rope_scaling", json_null(), "config.json: rope_scaling: not the model's");
	refuse_field(e, 1, "num_nextn_predict_layers", json_integer(1),
	             "config.json: num_nextn_predict_layers: 1, but drafters have none");
	refuse_field(e, 0, "n_routed_experts", json_integer(8),
	             "config.json: first_k_dense_replace: 1: layer 1 has experts, but drafters' layers are dense");
	refuse_field(e, 0, "parallel_heads", NULL, "config.json: parallel_heads: missing");
	refuse_field(e, 0, "parallel_heads", json_integer(2),
	             "config.json: parallel_heads: 2, but num_hidden_layers is 3");
	refuse_field(e, 1, "eagle", json_false(), "config.json: eagle: false: not an EAGLE head");
	refuse_field(e, 1, "num_hidden_layers", json_integer(2),
	             "config.json: num_hidden_layers: 2, but an EAGLE head has 1");
	octavo_engine_close(&e);
	ckpt_dir_free(dir);
}

/* Layers that attend in another way than the model's. */
static void another_attention_is_refused(void **state)
{
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *llama = open_model("tiny-llama", &settings);
	char *dir;
	struct octavo_engine *e = open_ckpt(&dir);
	struct ckpt *ckpt = new_drafter(1), *grouped = ckpt_load(source_path("tests/data/tiny-llama"));
	(void)state;
	json_object_set_new(ckpt->config, "hidden_size", json_integer(136));
	json_object_set_new(ckpt->config, "vocab_size", json_integer(260));
	expect_opening(llama, 1, ckpt,
	               "config.json: model_type: deepseek_v3: layers of drafters attend as the model's do, which is of type "
	               "llama");
	json_object_set_new(grouped->config, "eagle", json_true());
	json_object_set_new(grouped->config, "num_hidden_layers", json_integer(1));
	json_object_set_new(grouped->config, "hidden_size", json_integer(160));
	json_object_set_new(grouped->config, "vocab_size", json_integer(300));
	expect_opening(e, 1, grouped,
	               "config.json: model_type: llama: layers of drafters attend as the model's do, which is of type "
	               "deepseek_v3");
	octavo_engine_close(&e);
	octavo_engine_close(&llama);
	ckpt_dir_free(dir);
}

static void misshapen_tensors_are_refused(void **state)
{
	static const struct {
		int eagle;
		const char *name, *dtype; /* NULL: the tensor is taken away */
		size_t rows, cols;
		const char *says;
	} bad[] = {
		{ 0, "model.layers.2.mlp.up_proj.weight", NULL, 0, 0,
		  "model.layers.2.mlp.up_proj.weight: missing from the checkpoint" },
		{ 0, "model.layers.1.input_layernorm.weight", NULL, 0, 0,
		  "model.layers.1.input_layernorm.weight: missing from the checkpoint" },
		{ 0, "model.layers.0.self_attn.o_proj.weight", "F8_E4M3", 160, 81,
		  "model.safetensors: model.layers.0.self_attn.o_proj.weight: shape [160, 81], but config.json makes it "
		  "[160, 80]" },
		{ 0, "model.layers.0.self_attn.kv_b_proj.weight_scale_inv", "F32", 2, 2,
		  "model.safetensors: model.layers.0.self_attn.kv_b_proj.weight_scale_inv: shape [2, 2], but config.json makes "
		  "it [2, 1]" },
		{ 1, "fc.weight", NULL, 0, 0, "fc.weight: missing from the checkpoint" },
		{ 1, "fc.weight", "BF16", 160, 160,
		  "model.safetensors: fc.weight: shape [160, 160], but config.json makes it [160, 320]" },
		{ 1, "fc.weight", "I8", 160, 320,
		  "model.safetensors: fc.weight: dtype I8, not F8_E4M3, F8_E5M2, BF16, F16 or F32" },
		{ 1, "layers.0.self_attn.q_b_proj.weight", NULL, 0, 0,
		  "layers.0.self_attn.q_b_proj.weight: missing from the checkpoint" },
		{ 1, "layers.0.mlp.gate_proj.weight", "BF16", 200, 160,
		  "layer 0: gate_proj and up_proj differ in FP8 against wider weights" },
	};
	char *dir;
	struct octavo_engine *e = open_ckpt(&dir);
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct ckpt *ckpt = new_drafter(bad[i].eagle);
		if (bad[i].dtype)
			ckpt_reshape(ckpt_find(ckpt, bad[i].name), bad[i].dtype, 2,
			             (size_t[]){ bad[i].rows, bad[i].cols });
		else
			ckpt_remove(ckpt, bad[i].name);
		expect_opening(e, bad[i].eagle, ckpt, bad[i].says);
	}
	/* What EAGLE-1 does without may be left out, but nothing may be left over. */
	struct ckpt *ckpt = new_drafter(1);
	ckpt_remove(ckpt, "layers.0.input_layernorm.weight");
	ckpt_add(ckpt, "fc.bias", "F32", 1, (size_t[]){ 160 });
	expect_opening(e, 1, ckpt, NULL);
	ckpt = new_drafter(1);
	ckpt_add(ckpt, "fc.bias", "F32", 1, (size_t[]){ 161 });
	expect_opening(e, 1, ckpt, "model.safetensors: fc.bias: shape [161], but config.json makes it [160]");
	ckpt = new_drafter(1);
	ckpt_add(ckpt, "lm_head.weight", "BF16", 2, (size_t[]){ 300, 160 });
	expect_opening(e, 1, ckpt, "model.safetensors: lm_head.weight: unexpected: the model has no place for it");
	octavo_engine_close(&e);
	ckpt_dir_free(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(caches_follow_the_text),
		cmocka_unit_test(streams_are_identical),
		cmocka_unit_test(drawn_drafts_run),
		cmocka_unit_test(sessions_are_apart),
		cmocka_unit_test(misfit_configs_are_refused),
		cmocka_unit_test(another_attention_is_refused),
		cmocka_unit_test(misshapen_tensors_are_refused),
		{ "caches_follow_the_text, FP8 cache", caches_follow_the_text, NULL, NULL, "fp8" },
		{ "streams_are_identical, FP8 cache", streams_are_identical, NULL, NULL, "fp8" },
		{ "sessions_are_apart, FP8 cache", sessions_are_apart, NULL, NULL, "fp8" },
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
