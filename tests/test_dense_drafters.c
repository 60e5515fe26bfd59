/* SPDX-License-Identifier: Apache-2.0
 *
 * Draft heads with layers of grouped-query attention, for dense models.  The models here have two layers.  With the
 * second one taken off, a parallel head made of it gives, to the bit, the laws of the whole model; and an EAGLE head
 * that passes embeddings on does what a model of that one layer does.
 */
#include "engine/draft/follow.h"
#include "tests/support/heads.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const models[] = { "tiny-llama", "tiny-qwen2", "tiny-qwen3" };
enum { MODELS = sizeof models / sizeof *models, TOKENS = 41, SPEC = 512 };

/* ---- Parts of models --------------------------------------------------------------------------------------------- */

static const char *path_of(const char *model)
{
	char relative[64];
	snprintf(relative, sizeof relative, "tests/data/%s", model);
	return source_path(relative);
}

/* Written to a directory of its own, and freed. */
static char *write_new(struct ckpt *ckpt, const char *tokenizer_of)
{
	char *dir = ckpt_dir_new();
	ckpt_write(ckpt, dir);
	ckpt_free(ckpt);
	if (tokenizer_of) {
		size_t bytes;
		unsigned char *data = ckpt_read_file(path_of(tokenizer_of), "tokenizer.json", &bytes);
		ckpt_write_file(dir, "tokenizer.json", data, bytes);
		free(data);
	}
	return dir;
}

static char *one_layer_model(const char *model, size_t layer)
{
	return write_new(ckpt_layer(path_of(model), layer, "model.layers", 1), model);
}

static char *parallel_dir(const char *model)
{
	return write_new(parallel_head(path_of(model)), NULL);
}

static char *eagle_dir(const char *model, float state)
{
	return write_new(eagle_head(path_of(model), state), NULL);
}

static void invent_text(int32_t token[TOKENS])
{
	for (size_t i = 0; i < TOKENS; i++)
		token[i] = (int32_t)(i * i * 37 % 240 + 3);
}

static struct octavo_drafter *open_drafter_in(struct octavo_engine *e, const char *name, const char *dir,
                                              const int32_t *text)
{
	char spec[SPEC];
	snprintf(spec, sizeof spec, "%s:%s", name, dir);
	return open_drafter(e, spec, text);
}

/* Commits positions [pos, end) of a text that the engine has run at once, and drafts one token behind `root`. */
static void draft_one(struct octavo_drafter *d, int32_t root, size_t pos, size_t end)
{
	struct octavo_error error = { "" };
	struct octavo_shape shape = octavo_shape_chain(1);
	struct octavo_tree tree;
	uint32_t row[TOKENS];
	for (size_t i = pos; i < end; i++)
		row[i - pos] = (uint32_t)i;
	assert_int_equal(d->ops->commit(d, pos, row, end - pos, &error), OCTAVO_OK);
	octavo_tree_begin(&tree, root, OCTAVO_MAX_DRAFT, NULL);
	assert_int_equal(octavo_draft(d, &shape, &tree, &error), OCTAVO_OK);
	assert_int_equal(tree.rows, 2);
}

/* ---- Against the models ------------------------------------------------------------------------------------------ */

static const struct octavo_kv *cache_of_drafter(const struct octavo_drafter *d)
{
	return ((const struct octavo_follower *)d)->kv;
}

/* In steps of 1, 2, 3, … positions, all of which but the last of each step leave their entries alone. */
static void check_parallel(const char *model)
{
	struct octavo_engine_settings settings = { .threads = 2 };
	int32_t token[TOKENS];
	char *lower = one_layer_model(model, 0), *head = parallel_dir(model);
	struct octavo_engine *whole = open_model(model, &settings), *e = open_model(lower, &settings);
	size_t vocab = whole->config.vocab;
	float *logits = test_malloc(TOKENS * vocab * sizeof *logits);
	invent_text(token);
	run_tokens(whole, token, TOKENS, TOKENS, 0, logits, NULL);
	run_tokens(e, token, TOKENS, TOKENS, 0, NULL, NULL);
	struct octavo_drafter *d = open_drafter_in(e, "parallel", head, token);
	size_t pos = 0;
	for (size_t step = 1; pos + step < TOKENS; pos += step++) {
		draft_one(d, token[pos + step], pos, pos + step);
		assert_memory_equal(e->mtp_logits, logits + (pos + step - 1) * vocab, e->choosable * sizeof *logits);
	}
	assert_memory_equal(octavo_kv_slots(cache_of_drafter(d), 0, 0), octavo_kv_slots(&whole->kv, 0, 1),
	                    pos * e->kv.bytes);
	octavo_drafter_close(&d);
	test_free(logits);
	octavo_engine_close(&e);
	octavo_engine_close(&whole);
	ckpt_dir_free(head);
	ckpt_dir_free(lower);
}

/* Row s of the head sees token s + 1, so the model of the same layer runs the text without its first token. */
static void check_eagle(const char *model)
{
	struct octavo_engine_settings settings = { .threads = 2 };
	int32_t token[TOKENS];
	char *upper = one_layer_model(model, 1), *head = eagle_dir(model, 0.0f);
	struct octavo_engine *same = open_model(upper, &settings), *e = open_model(model, &settings);
	size_t hidden = e->config.hidden;
	invent_text(token);
	run_tokens(same, token + 1, TOKENS - 1, TOKENS - 1, 0, NULL, NULL);
	run_tokens(e, token, TOKENS, TOKENS, 0, NULL, NULL);
	struct octavo_drafter *d = open_drafter_in(e, "eagle", head, token);
	size_t pos = 0;
	for (size_t step = 1; pos + step < TOKENS; pos += step++) {
		draft_one(d, token[pos + step], pos, pos + step);
		assert_memory_equal(e->mtp_hidden[OCTAVO_TAP_PRE_NORM],
		                    same->hidden[OCTAVO_TAP_PRE_NORM] + (pos + step - 1) * hidden,
		                    hidden * sizeof(float));
	}
	assert_memory_equal(octavo_kv_slots(cache_of_drafter(d), 0, 0), octavo_kv_slots(&same->kv, 0, 0),
	                    pos * e->kv.bytes);
	octavo_drafter_close(&d);
	octavo_engine_close(&e);
	octavo_engine_close(&same);
	ckpt_dir_free(head);
	ckpt_dir_free(upper);
}

static void heads_are_layers_of_the_model(void **state)
{
	(void)state;
	for (size_t i = 0; i < MODELS; i++) {
		check_parallel(models[i]);
		check_eagle(models[i]);
	}
}

/* ---- Streams ----------------------------------------------------------------------------------------------------- */

static void streams_are_identical(void **state)
{
	static const int32_t prompt[] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };
	static const struct octavo_session_settings drafts[] = {
		{ .k = 1 }, { .k = 5 }, { .k = 0 }, { .tree = { 3, 2, 1 } }, { .dynamic = { 12, 3, 4 } },
	};
	(void)state;
	for (size_t i = 0; i < 2 * MODELS; i++) {
		const char *model = models[i / 2];
		char *dir = i % 2 ? eagle_dir(model, 0.5f) : parallel_dir(model), spec[SPEC];
		struct octavo_engine_settings settings = { .threads = 1, .max_rows = 24 };
		struct octavo_engine *e = open_model(model, &settings);
		struct octavo_session_settings base = { .max_new = 50, .ignore_eos = 1,
		                                        .sampling = { .temperature = 0.8f } };
		struct output plain, out;
		snprintf(spec, sizeof spec, "%s:%s", i % 2 ? "eagle" : "parallel", dir);
		decode(e, &base, prompt, 12, &plain);
		for (size_t j = 0; j < sizeof drafts / sizeof *drafts; j++) {
			struct octavo_session_settings s = drafts[j];
			s.drafter = spec;
			s.max_new = base.max_new;
			s.ignore_eos = base.ignore_eos;
			s.sampling = base.sampling;
			decode(e, &s, prompt, 12, &out);
			expect_same(&plain, &out, spec);
			assert_true(out.stats.drafted[0] > 0);
		}
		octavo_engine_close(&e);
		ckpt_dir_free(dir);
	}
}

/* ---- What does not fit ------------------------------------------------------------------------------------------- */

static void misfits_are_refused(void **state)
{
	static const struct {
		const char *field, *value, *says;
	} bent[] = {
		{ "num_key_value_heads", "3", "config.json: num_key_value_heads: 3, but the model's is 2" },
		{ "head_dim", "22", "config.json: head_dim: 22, but the model's is 20" },
		{ "rope_scaling", "null", "config.json: rope_scaling: not the model's" },
		{ "intermediate_size", "160", "layers.0.mlp.gate_proj.weight: shape [152, 136], but config.json makes it [160, 136]" },
	};
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-llama", &settings);
	(void)state;
	for (size_t i = 0; i < sizeof bent / sizeof *bent; i++) {
		struct octavo_error error = { "" };
		struct octavo_drafter *d;
		char *dir = eagle_dir("tiny-llama", 0.0f), spec[SPEC];
		struct ckpt *ckpt = ckpt_load(dir);
		json_object_set_new(ckpt->config, bent[i].field, json_loads(bent[i].value, JSON_DECODE_ANY, NULL));
		ckpt_write(ckpt, dir);
		ckpt_free(ckpt);
		snprintf(spec, sizeof spec, "eagle:%s", dir);
		assert_int_equal(octavo_drafter_open(&d, spec, e, 0, &error), OCTAVO_EFORMAT);
		if (!strstr(error.text, bent[i].says))
			fail_msg("%s = %s: %s", bent[i].field, bent[i].value, error.text);
		ckpt_dir_free(dir);
	}
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(heads_are_layers_of_the_model),
		cmocka_unit_test(streams_are_identical),
		cmocka_unit_test(misfits_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
