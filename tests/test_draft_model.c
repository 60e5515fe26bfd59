/* SPDX-License-Identifier: Apache-2.0
 *
 * A draft model of its own: it changes no token, forgets what was refused, agrees with itself, ends where its context
 * does, and is refused where it does not fit.
 */
#include "tests/support/ckpt.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int32_t prompt[12] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };

/* FORMAT with tests/data/NAME in the place of %s; valid until the next call. */
static const char *spec(const char *format, const char *name)
{
	static char text[PATH_MAX];
	char relative[64];
	snprintf(relative, sizeof relative, "tests/data/%s", name);
	const char *path = source_path(relative);
	size_t before = strcspn(format, "%");
	snprintf(text, sizeof text, "%.*s%s%s", (int)before, format, path, format + before + 2);
	return text;
}

static const struct {
	const char *format;
	unsigned k, tree[OCTAVO_MAX_K];
	struct octavo_dynamic dynamic;
	double confidence;
} configurations[] = {
	{ .format = "model:%s", .k = 1 },
	{ .format = "model:%s", .k = 8 },
	{ .format = "model:%s" },
	{ .format = "model:%s", .k = 6, .confidence = 0.1 },
	{ .format = "model:%s", .tree = { 3, 2, 1 } },
	{ .format = "model:%s", .dynamic = { 10, 3, 4 } },
	{ .format = "ngram+model:%s", .k = 3 },
	{ .format = "model:%s+ngram", .tree = { 2, 1, 1, 1 } },
};
enum { CONFIGURATIONS = sizeof configurations / sizeof *configurations };

static struct octavo_session_settings configure(struct octavo_session_settings s, size_t i, const char *draft)
{
	s.drafter = spec(configurations[i].format, draft);
	s.k = configurations[i].k;
	s.dynamic = configurations[i].dynamic;
	s.confidence.best = configurations[i].confidence;
	memcpy(s.tree, configurations[i].tree, sizeof s.tree);
	return s;
}

static void check_streams(const char *model, const char *draft, const struct octavo_engine_settings *settings,
                          const int32_t *text, size_t length)
{
	struct octavo_engine *e = open_model(model, settings);
	for (int warm = 0; warm < 2; warm++) {
		struct octavo_session_settings s = { .max_new = 60, .ignore_eos = 1,
			                             .sampling = { .temperature = warm ? 0.8f : 0.0f } };
		struct output plain, out;
		decode(e, &s, text, length, &plain);
		for (size_t i = 0; i < CONFIGURATIONS; i++) {
			struct octavo_session_settings drafting = configure(s, i, draft);
			decode(e, &drafting, text, length, &out);
			expect_same(&plain, &out, configurations[i].format);
			assert_true(out.stats.drafted[0] > 0);
		}
	}
	octavo_engine_close(&e);
}

static void streams_are_identical(void **state)
{
	enum { LENGTH = 600 };
	static int32_t text[LENGTH];
	struct octavo_engine_settings one = { .threads = 1 }, two = { .threads = 2, .kv = OCTAVO_KV_FP8 };
	struct octavo_engine_settings few = { .threads = 2, .max_rows = 16, .arithmetic = OCTAVO_W8A8 };
	(void)state;
	for (size_t i = 0; i < LENGTH; i++)
		text[i] = (int32_t)(i * i * 31 % 250) + 2;
	check_streams("tiny-ragged", "tiny-llama", &one, prompt, 12);
	check_streams("tiny-ragged", "tiny-qwen2", &two, prompt, 12);
	check_streams("tiny-llama", "tiny-noq", &one, prompt, 1); /* nothing before the root */
	check_streams("tiny-ragged", "tiny-llama", &few, text, LENGTH);
}

/* A draft model that is the target: everything is kept, under match, whose drafts run the target's race, and under
 * rejection with drawn tokens. */
static void a_model_agrees_with_itself(void **state)
{
	struct octavo_engine_settings settings = { .threads = 2 };
	static const struct octavo_session_settings ways[] = {
		{ .k = 4 },
		{ .tree = { 2, 2, 1 } },
		{ .k = 4, .sampling = { .temperature = 0.8f } },
		{ .k = 8, .sampling = { .temperature = 1.5f, .top_p = 0.9f, .repetition = 1.2f, .presence = 0.5f } },
		{ .k = 8, .sampling = { .temperature = 1.0f, .top_k = 20, .min_p = 0.01f } },
		{ .tree = { 3, 2, 1 }, .sampling = { .temperature = 1.2f, .repetition = 1.3f, .frequency = 0.2f } },
		{ .k = 4, .accept = OCTAVO_ACCEPT_REJECTION, .sampling = { .temperature = 0.8f } },
		{ .k = 8, .accept = OCTAVO_ACCEPT_REJECTION,
		  .sampling = { .temperature = 0.8f, .top_p = 0.9f, .repetition = 1.2f } },
		{ .k = 3, .accept = OCTAVO_ACCEPT_BLOCK, .sampling = { .temperature = 0.8f } },
	};
	(void)state;
	struct octavo_engine *e = open_model("tiny-llama", &settings);
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		struct octavo_session_settings s = ways[i];
		struct output out;
		s.drafter = spec("model:%s", "tiny-llama");
		s.max_new = 100;
		s.ignore_eos = 1;
		decode(e, &s, prompt, 12, &out);
		for (size_t depth = 0; depth < OCTAVO_MAX_K; depth++)
			assert_int_equal(out.stats.accepted[depth], out.stats.drafted[depth]);
		assert_true(out.stats.drafted[2] > 10);
	}
	octavo_engine_close(&e);
}

/* What is drafted after a history of drafts, kept and refused, is what is drafted right after a prompt of the same
 * text. */
static void drafts_do_not_remember_refusals(void **state)
{
	struct octavo_engine_settings settings = { .threads = 1, .sequences = 2 };
	size_t kept = 0, refused = 0;
	(void)state;
	/* The target itself: its best tokens are typical now and then at this temperature. */
	struct octavo_engine *e = open_model("tiny-llama", &settings);
	for (size_t i = 0; i < CONFIGURATIONS; i++) {
		struct octavo_session_settings s = { .max_new = 200, .ignore_eos = 1,
		                                     .sampling = { .temperature = 0.4f },
			                             .accept = OCTAVO_ACCEPT_TYPICAL };
		struct octavo_error error;
		struct octavo_emitted emitted;
		int32_t text[12 + 200];
		size_t length = 12;
		s = configure(s, i, "tiny-llama");
		if (!s.k && !s.tree[0] && !s.dynamic.rows)
			continue; /* chooses its k by times */
		memcpy(text, prompt, sizeof prompt);
		struct octavo_session *a = open_session(e, &s);
		assert_int_equal(octavo_session_prompt(a, prompt, 12, &error), OCTAVO_OK);
		for (size_t round = 0; round < 12; round++) {
			s.drafter = spec(configurations[i].format, "tiny-llama");
			struct octavo_session *b = open_session(e, &s);
			assert_int_equal(octavo_session_prompt(b, text, length, &error), OCTAVO_OK);
			assert_int_equal(octavo_sessions_step(&b, 1, &emitted, &error), OCTAVO_OK);
			assert_int_equal(octavo_sessions_step(&a, 1, &emitted, &error), OCTAVO_OK);
			assert_int_equal(a->tree.rows, b->tree.rows);
			assert_memory_equal(a->tree.token, b->tree.token, a->tree.rows * sizeof *a->tree.token);
			assert_memory_equal(a->tree.parent, b->tree.parent, a->tree.rows * sizeof *a->tree.parent);
			kept += a->outcome.accepted;
			refused += a->tree.rows - 1 - a->outcome.accepted;
			memcpy(text + length, emitted.token, emitted.count * sizeof *text);
			length += emitted.count;
			octavo_session_close(&b);
		}
		octavo_session_close(&a);
	}
	assert_true(kept > 50 && refused > 50);
	octavo_engine_close(&e);
}

/* Sessions share the draft model, and each has its own text in it. */
static void company_changes_nothing(void **state)
{
	enum { CROWD = 3 };
	struct octavo_engine_settings settings = { .threads = 2, .sequences = CROWD };
	struct octavo_session *s[CROWD];
	struct octavo_emitted got[CROWD];
	static struct output alone[CROWD], together[CROWD];
	struct octavo_error error;
	(void)state;
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	for (size_t i = 0; i < CROWD; i++) {
		struct octavo_session_settings wish = { .drafter = spec("model:%s", "tiny-llama"), .k = 2 + (unsigned)i,
			                                .max_new = 40, .ignore_eos = 1, .stream = { 1, i },
			                                .sampling = { .temperature = 0.8f } };
		struct octavo_session_settings plain = wish;
		plain.drafter = NULL;
		plain.k = 0;
		decode(e, &plain, prompt, 12 - i, &alone[i]);
		together[i].count = 0;
		s[i] = open_session(e, &wish);
		assert_int_equal(octavo_session_prompt(s[i], prompt, 12 - i, &error), OCTAVO_OK);
	}
	for (size_t tokens = 1; tokens;) {
		tokens = 0;
		if (octavo_sessions_step(s, CROWD, got, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		for (size_t i = 0; i < CROWD; i++) {
			memcpy(together[i].token + together[i].count, got[i].token,
			       got[i].count * sizeof *got[i].token);
			together[i].count += got[i].count;
			tokens += got[i].count;
		}
	}
	for (size_t i = 0; i < CROWD; i++) {
		together[i].stats = *octavo_session_stats(s[i]);
		expect_same(&alone[i], &together[i], "company");
		octavo_session_close(&s[i]);
	}
	octavo_engine_close(&e);
}

/* ---- Directories of this test's own --------------------------------------------------------------------------- */

/* A copy of tiny-llama with another value in config.json and, if `swap`, two tokens exchanged. */
static char *bend(const char *field, json_t *value, int swap)
{
	char from[PATH_MAX];
	size_t bytes;
	char *dir = ckpt_dir_new();
	snprintf(from, sizeof from, "%s", source_path("tests/data/tiny-llama"));
	static const char *const files[] = { "model.safetensors", "tokenizer_config.json", "config.json",
		                             "tokenizer.json" };
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		unsigned char *data = ckpt_read_file(from, files[i], &bytes);
		json_t *json = i < 2 ? NULL : json_loadb((const char *)data, bytes, 0, NULL);
		if (i == 2)
			json_object_set(json, field, value);
		if (i == 3 && swap) {
			json_t *vocab = json_object_get(json_object_get(json, "model"), "vocab");
			json_t *x = json_incref(json_object_get(vocab, "x"));
			json_object_set(vocab, "x", json_object_get(vocab, "y"));
			json_object_set_new(vocab, "y", x);
		}
		char *text = json ? json_dumps(json, 0) : NULL;
		ckpt_write_file(dir, files[i], text ? (const void *)text : data, text ? strlen(text) : bytes);
		free(text);
		json_decref(json);
		free(data);
	}
	json_decref(value);
	return dir;
}

static void refuse(struct octavo_engine *e, const char *drafter, enum octavo_status status, const char *says)
{
	struct octavo_session *s;
	struct octavo_error error = { "" };
	struct octavo_session_settings settings = { .drafter = drafter };
	assert_int_equal(octavo_session_open(&s, e, &settings, &error), status);
	if (!strstr(error.text, says) || !strstr(error.text, "drafter model"))
		fail_msg("%s: %s", drafter, error.text);
}

static void misfits_are_refused(void **state)
{
	static const struct {
		const char *field;
		int value, swap;
		enum octavo_status status;
		const char *says;
	} bent[] = {
		{ "vocab_size", 261, 0, OCTAVO_EFORMAT, "vocab_size: 261, but the model's is 260" },
		{ "num_hidden_layers", 2, 1, OCTAVO_EFORMAT, "tokenizer.json: token " },
		{ "num_hidden_layers", 3, 0, OCTAVO_EFORMAT, "model.layers.2.input_layernorm.weight: missing" },
		{ "model_type", 5, 0, OCTAVO_EFORMAT, "model_type: not a string" },
	};
	struct octavo_engine_settings settings = { .threads = 1 };
	char text[PATH_MAX];
	(void)state;
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	for (size_t i = 0; i < sizeof bent / sizeof *bent; i++) {
		char *dir = bend(bent[i].field, json_integer(bent[i].value), bent[i].swap);
		snprintf(text, sizeof text, "model:%s", dir);
		refuse(e, text, bent[i].status, bent[i].says);
		ckpt_dir_free(dir);
	}
	refuse(e, "model:/nowhere/at/all", OCTAVO_EIO, "/nowhere/at/all");
	refuse(e, "model", OCTAVO_EIO, "drafters/model");
	octavo_engine_close(&e);
}

/* Where the draft model's context ends, drafting does; the tokens go on, also when a prompt is longer than it. */
static void a_short_context_ends_drafts(void **state)
{
	struct octavo_engine_settings settings = { .threads = 1 };
	struct output plain, out;
	int32_t text[100];
	char drafter[PATH_MAX];
	(void)state;
	char *dir = bend("max_position_embeddings", json_integer(64), 0);
	snprintf(drafter, sizeof drafter, "model:%s", dir);
	struct octavo_engine *e = open_model("tiny-llama", &settings);
	for (unsigned k = 1; k <= 8; k += 7) {
		struct octavo_session_settings s = { .max_new = 100, .ignore_eos = 1 };
		decode(e, &s, prompt, 12, &plain);
		s.drafter = drafter;
		s.k = k;
		decode(e, &s, prompt, 12, &out);
		expect_same(&plain, &out, "short context");
		/* The same model: all is kept, so up to 64 tokens nothing else happens, and then nothing is drafted. */
		size_t drafted = 0;
		for (size_t depth = 0; depth < OCTAVO_MAX_K; depth++)
			drafted += out.stats.drafted[depth];
		assert_true(drafted >= (64 - 12) * k / (k + 1) && drafted <= 64 - 12 + 1);
		assert_true(out.stats.zero_draft_steps >= 100 - (64 - 12) - 2);
	}
	for (int32_t i = 0; i < 100; i++)
		text[i] = 30 + i;
	struct octavo_session_settings s = { .max_new = 20, .ignore_eos = 1 };
	decode(e, &s, text, 100, &plain);
	s.drafter = drafter;
	s.k = 2;
	decode(e, &s, text, 100, &out);
	expect_same(&plain, &out, "a prompt longer than the draft model's context");
	assert_int_equal(out.stats.drafted[0], 0);
	octavo_engine_close(&e);
	ckpt_dir_free(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams_are_identical),
		cmocka_unit_test(a_model_agrees_with_itself),
		cmocka_unit_test(drafts_do_not_remember_refusals),
		cmocka_unit_test(company_changes_nothing),
		cmocka_unit_test(misfits_are_refused),
		cmocka_unit_test(a_short_context_ends_drafts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
