/* SPDX-License-Identifier: Apache-2.0
 *
 * Files of Medusa and Hydra heads: how they are asked for, shared between sessions, and refused where they do not fit.
 */
#include "engine/draft/files.h"
#include "tests/support/heads.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PROMPT = 12 };
static const int32_t prompt[PROMPT] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };

/* What is asked for: names, directories, pairs. */
static void specs_are_parsed(void **state)
{
	(void)state;
	static const char *const good[] = { "none", "mtp", "medusa", "medusa:a", "medusa:/a+b/c", "ngram+medusa:/a+b/c",
		                            "medusa:/a/b+ngram", "medusa:a:b+hydra:c" };
	static const struct {
		const char *spec, *text;
	} bad[] = {
		{ "", "none called \"\"" },         { "oracle", "none called \"oracle\"" },  { "medusa+", "none called \"\"" },
		{ "medusa:", "needs a directory" }, { "ngram:x", "takes no argument" },      { "mtp+oracle:x", "\"oracle\"" },
		{ "none+mtp", "no pair" },          { "medusa:a+medusa:b", "no pair" },      { "mtp+ngram+medusa", "two parts" },
		{ "+mtp", "none called \"\"" },
	};
	struct octavo_error error;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (!octavo_drafter_known(good[i], &error))
			fail_msg("%s: %s", good[i], error.text);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_false(octavo_drafter_known(bad[i].spec, &error));
		if (!strstr(error.text, bad[i].text))
			fail_msg("%s: %s", bad[i].spec, error.text);
	}
	assert_false(octavo_drafter_known(NULL, NULL));
}

/* Sessions side by side: the same files, states of their own. */
static void sessions_share_files(void **state)
{
	(void)state;
	struct octavo_engine_settings settings = { .threads = 1, .sequences = 3 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_error error;
	struct octavo_session *s[3];
	struct output alone[3];
	char *dir[2] = { heads_dir_new(tiny_heads(0, 1, "BF16")), heads_dir_new(tiny_heads(1, 1, "BF16")) };
	for (size_t i = 0; i < 3; i++) {
		struct octavo_session_settings wish = { .drafter = heads_spec("", i == 2, dir[i == 2]), .k = 3,
		                                        .max_new = 30,
			                                .ignore_eos = 1, .stream = { 1, i },
			                                .sampling = { .temperature = 0.8f } };
		struct octavo_session_settings plain = wish;
		plain.drafter = NULL;
		decode(e, &plain, prompt, PROMPT - i, &alone[i]);
		s[i] = open_session(e, &wish);
		assert_int_equal(octavo_session_prompt(s[i], prompt, PROMPT - i, &error), OCTAVO_OK);
	}
	assert_non_null(e->draft_files->next);
	assert_null(e->draft_files->next->next); /* two directories, three sessions */
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(alone[i].count, 30);
	finish_together(s, 3, alone);
	octavo_engine_close(&e);
	for (int i = 0; i < 2; i++)
		ckpt_dir_free(dir[i]);
}

static void set_config(struct ckpt *c, const char *field, json_int_t value)
{
	json_object_set_new(c->config, field, json_integer(value));
}

static void other_type(struct ckpt *c) { json_object_set_new(c->config, "model_type", json_string("eagle")); }
static void other_hidden(struct ckpt *c) { set_config(c, "hidden_size", 137); }
static void other_vocab(struct ckpt *c) { set_config(c, "vocab_size", 259); }
static void no_count(struct ckpt *c) { json_object_del(c->config, "hydra_num_heads"); }
static void no_heads(struct ckpt *c) { set_config(c, "hydra_num_heads", 0); }
static void no_layers(struct ckpt *c) { set_config(c, "hydra_num_layers", 0); }
static void more_heads(struct ckpt *c) { set_config(c, "hydra_num_heads", 4); }
static void fewer_heads(struct ckpt *c) { set_config(c, "hydra_num_heads", 2); }
static void more_layers(struct ckpt *c) { set_config(c, "hydra_num_layers", 2); }
static void no_out(struct ckpt *c) { ckpt_remove(c, "2.1.weight"); }
static void no_bias(struct ckpt *c) { ckpt_remove(c, "0.0.linear.bias"); }
static void no_res(struct ckpt *c) { ckpt_remove(c, "1.0.res_connection.weight"); }
static void no_scale(struct ckpt *c) { ckpt_remove(c, "1.0.linear.weight_scale_inv"); }
static void reshape(struct ckpt *c, const char *name, const char *dtype, size_t rows, size_t cols)
{
	ckpt_reshape(ckpt_find(c, name), dtype, cols ? 2 : 1, (size_t[]){ rows, cols });
}
static void wide_out(struct ckpt *c) { reshape(c, "0.1.weight", "BF16", 260, 137); }
static void long_out(struct ckpt *c) { reshape(c, "0.1.weight", "BF16", 261, 136); }
static void narrow_linear(struct ckpt *c) { reshape(c, "1.0.linear.weight", "BF16", 136, 272); }
static void long_bias(struct ckpt *c) { reshape(c, "2.0.res_connection.bias", "F32", 137, 0); }
static void integers(struct ckpt *c) { reshape(c, "1.0.res_connection.weight", "I8", 136, 408); }
static void mixed(struct ckpt *c)
{
	reshape(c, "1.0.res_connection.weight", "BF16", 136, 408);
	ckpt_remove(c, "1.0.res_connection.weight_scale_inv");
}
static void bad_scale(struct ckpt *c) { memset(ckpt_find(c, "2.1.weight_scale_inv")->data, 0xFF, 4); }
static void bad_bias(struct ckpt *c) { memset(ckpt_find(c, "2.0.linear.bias")->data, 0xFF, 4); }

static const struct {
	void (*bend)(struct ckpt *heads);
	enum octavo_status status;
	const char *text[2];
} faults[] = {
	{ other_type, OCTAVO_EFORMAT, { "config.json: model_type: eagle, not hydra", "" } },
	{ other_hidden, OCTAVO_EFORMAT, { "config.json: hidden_size: 137, but the model's is 136", "" } },
	{ other_vocab, OCTAVO_EFORMAT, { "config.json: vocab_size: 259, but the model's is 260", "" } },
	{ no_count, OCTAVO_EFORMAT, { "config.json: hydra_num_heads: missing", "" } },
	{ no_heads, OCTAVO_EFORMAT, { "config.json: hydra_num_heads: 0 is not in 1 to 64", "" } },
	{ no_layers, OCTAVO_EFORMAT, { "config.json: hydra_num_layers: 0 is not in 1 to 16", "" } },
	{ more_heads, OCTAVO_EFORMAT, { "3.0.linear.weight: missing", "" } },
	{ fewer_heads, OCTAVO_EFORMAT, { "hydra_lm_head.safetensors: 2.", "unexpected" } },
	{ more_layers, OCTAVO_EFORMAT, { "0.1.linear.weight: missing", "" } },
	{ no_out, OCTAVO_EFORMAT, { "2.1.weight: missing", "" } },
	{ no_bias, OCTAVO_EFORMAT, { "0.0.linear.bias: missing", "" } },
	{ no_res, OCTAVO_EFORMAT, { "1.0.res_connection.weight: missing", "" } },
	{ no_scale, OCTAVO_EFORMAT, { "1.0.linear.weight_scale_inv: missing", "" } },
	{ wide_out, OCTAVO_EFORMAT, { "hydra_lm_head.safetensors: 0.1.weight: shape [260, 137]", "makes it [260, 136]" } },
	{ long_out, OCTAVO_EFORMAT, { "0.1.weight: shape [261, 136]", "makes it [260, 136]" } },
	{ narrow_linear, OCTAVO_EFORMAT, { "1.0.linear.weight: shape [136, 272]", "makes it [136, 408]" } },
	{ long_bias, OCTAVO_EFORMAT, { "2.0.res_connection.bias: shape [137]", "makes it [136]" } },
	{ integers, OCTAVO_EFORMAT, { "1.0.res_connection.weight: dtype I8", "" } },
	{ mixed, OCTAVO_ENOTSUP, { "1.0.linear and 1.0.res_connection differ in FP8", "" } },
	{ bad_scale, OCTAVO_ENUMERIC, { "2.1.weight_scale_inv: scale [0][0] is", "" } },
	{ bad_bias, OCTAVO_ENUMERIC, { "2.0.linear.bias: element 0 is not finite", "" } },
};

static void refuse(struct octavo_engine *e, const char *spec, enum octavo_status status, const char *const text[2])
{
	struct octavo_error error = { "" };
	struct octavo_session *s;
	struct octavo_session_settings settings = { .drafter = spec };
	enum octavo_status got = octavo_session_open(&s, e, &settings, &error);
	if (got != status || !strstr(error.text, text[0]) || !strstr(error.text, text[1]))
		fail_msg("%s: status %d, %s", text[0], (int)got, error.text);
	assert_null(s);
	assert_null(e->draft_files);
}

static void misfits_are_refused(void **state)
{
	(void)state;
	const struct heads_options options = tiny_heads(1, 1, "F8_E4M3");
	struct octavo_engine_settings one = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &one);
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		struct ckpt *heads = heads_new(&options);
		char *dir = ckpt_dir_new();
		faults[i].bend(heads);
		heads_write(heads, dir);
		refuse(e, heads_spec("", 1, dir), faults[i].status, faults[i].text);
		refuse(e, heads_spec("ngram+", 1, dir), faults[i].status,
		       (const char *const[]){ "drafter hydra: ", dir });
		ckpt_free(heads);
		ckpt_dir_free(dir);
	}
	octavo_engine_close(&e);
}

/* Files and directories that are broken or not there. */
static void broken_files_are_refused(void **state)
{
	(void)state;
	struct octavo_engine_settings one = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &one);
	char *dir = heads_dir_new(tiny_heads(0, 1, "BF16")), file[PATH_MAX];
	struct stat status;
	refuse(e, "medusa", OCTAVO_EIO,
	       (const char *const[]){ "tiny-ragged/drafters/medusa is no directory", "medusa:DIR" });
	refuse(e, "medusa:/no/such", OCTAVO_EIO,
	       (const char *const[]){ "drafter medusa: /no/such is no directory", "" });
	refuse(e, "medusa:", OCTAVO_EINVAL, (const char *const[]){ "needs a directory", "" });
	refuse(e, heads_spec("", 1, dir), OCTAVO_EFORMAT, (const char *const[]){ "hydra_num_heads: missing", "" });
	snprintf(file, sizeof file, "%s/medusa_lm_head.safetensors", dir);
	assert_int_equal(stat(file, &status), 0);
	assert_int_equal(truncate(file, status.st_size - 10), 0);
	refuse(e, heads_spec("", 0, dir), OCTAVO_EFORMAT,
	       (const char *const[]){ "medusa_lm_head.safetensors", "data_offsets" });
	assert_int_equal(truncate(file, 4), 0);
	refuse(e, heads_spec("", 0, dir), OCTAVO_EFORMAT,
	       (const char *const[]){ "medusa_lm_head.safetensors", "too short" });
	assert_int_equal(unlink(file), 0);
	refuse(e, heads_spec("", 0, dir), OCTAVO_EIO, (const char *const[]){ "no *.safetensors file", "" });
	snprintf(file, sizeof file, "%s/config.json", dir);
	assert_int_equal(truncate(file, 5), 0);
	refuse(e, heads_spec("", 0, dir), OCTAVO_EFORMAT, (const char *const[]){ "config.json: line", "" });
	assert_int_equal(unlink(file), 0);
	refuse(e, heads_spec("", 0, dir), OCTAVO_EIO, (const char *const[]){ "config.json: cannot open", "" });
	octavo_engine_close(&e);
	ckpt_dir_free(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(specs_are_parsed),
		cmocka_unit_test(sessions_share_files),
		cmocka_unit_test(misfits_are_refused),
		cmocka_unit_test(broken_files_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
