/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole checkpoints that deviate from what config.json says, or are damaged: every deviation named.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/support/loaded.h"
#include "tests/support/random.h"

#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT "model.safetensors: "
#define L0 "model.layers.0."

static void test_missing(void **state)
{
	(void)state;
	struct ckpt *ckpt = tiny();
	ckpt_remove(ckpt, "model.layers.2.mlp.experts.5.up_proj.weight");
	expect_bad(ckpt, OCTAVO_EFORMAT, "model.layers.2.mlp.experts.5.up_proj.weight: missing from the checkpoint");
	ckpt = tiny();
	ckpt_remove(ckpt, L0 "self_attn.kv_b_proj.weight_scale_inv");
	expect_bad(ckpt, OCTAVO_EFORMAT, L0 "self_attn.kv_b_proj.weight_scale_inv: missing from the checkpoint");
	ckpt = tiny();
	ckpt_remove(ckpt, "model.layers.1.mlp.gate.e_score_correction_bias");
	expect_bad(ckpt, OCTAVO_EFORMAT,
	           "model.layers.1.mlp.gate.e_score_correction_bias: missing from the checkpoint");
	ckpt = tiny();
	ckpt_remove(ckpt, "model.layers.3.enorm.weight");
	expect_bad(ckpt, OCTAVO_EFORMAT, "model.layers.3.enorm.weight: missing from the checkpoint");
}

static void test_unexpected(void **state)
{
	(void)state;
	struct ckpt *ckpt = tiny();
	ckpt_add(ckpt, L0 "self_attn.q_proj.bias", "BF16", 1, (size_t[]){160});
	expect_bad(ckpt, OCTAVO_EFORMAT, AT L0 "self_attn.q_proj.bias: unexpected: the model has no place for it");
	ckpt = tiny();
	ckpt_add(ckpt, "empty", "F32", 1, (size_t[]){0});
	expect_bad(ckpt, OCTAVO_EFORMAT, AT "empty: unexpected: the model has no place for it");
	ckpt = ckpt_new(&(struct ckpt_options){.bf16 = 1});
	ckpt_add(ckpt, L0 "self_attn.o_proj.weight_scale_inv", "F32", 2, (size_t[]){2, 1});
	expect_bad(ckpt, OCTAVO_EFORMAT,
	           AT L0 "self_attn.o_proj.weight_scale_inv: unexpected: the model has no place for it");
}

static void test_foreign(void **state)
{
	(void)state;
	static const struct {
		const char *name, *text;
	} foreign[] = {
	        {L0 "mlp.up_proj.weight_scale", "only weight_scale_inv of 128x128 blocks is supported"},
	        {L0 "mlp.up_proj.input_scale", "static activation scales are not supported"},
	        {L0 "mlp.up_proj.weight_packed", "compressed-tensors weights are not supported"},
	        {L0 "self_attn.indexer.wk.weight", "the indexer of DeepSeek sparse attention is not implemented"},
	};
	for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
		char text[256];
		struct ckpt *ckpt = tiny();
		ckpt_add(ckpt, foreign[i].name, "F32", 1, (size_t[]){1});
		snprintf(text, sizeof text, AT "%s: %s", foreign[i].name, foreign[i].text);
		expect_bad(ckpt, OCTAVO_ENOTSUP, text);
	}
}

struct reshape_case {
	const char *name, *dtype;
	size_t rank, shape[3];
	const char *text;
};

static const struct reshape_case reshapes[] = {
        {"model.embed_tokens.weight", "BF16", 2, {301, 160}, "shape [301, 160], but config.json makes it [300, 160]"},
        {"lm_head.weight", "BF16", 2, {299, 160}, "shape [299, 160], but config.json makes it [300, 160]"},
        {"lm_head.weight", "F8_E4M3", 2, {300, 160}, "dtype F8_E4M3, not BF16, F16 or F32"},
        {"model.norm.weight", "BF16", 2, {160, 1}, "shape [160, 1], but config.json makes it [160]"},
        {"model.norm.weight", "F8_E4M3", 1, {160}, "dtype F8_E4M3, not BF16, F16 or F32"},
        {L0 "self_attn.q_a_proj.weight",
         "F8_E4M3",
         2,
         {160, 144},
         "shape [160, 144], but config.json makes it [144, 160]"},
        {L0 "self_attn.kv_b_proj.weight", "F8_E4M3", 1, {22528}, "shape [22528], but config.json makes it [176, 128]"},
        {L0 "self_attn.o_proj.weight", "I8", 2, {160, 80}, "dtype I8, not F8_E4M3, F8_E5M2, BF16, F16 or F32"},
        {L0 "self_attn.o_proj.weight",
         "F8_E4M3FNUZ",
         2,
         {160, 80},
         "dtype F8_E4M3FNUZ, not F8_E4M3, F8_E5M2, BF16, F16 or F32"},
        {L0 "self_attn.kv_a_proj_with_mqa.weight_scale_inv",
         "F32",
         2,
         {1, 2},
         "shape [1, 2], but config.json makes it [2, 2]"},
        {L0 "mlp.down_proj.weight_scale_inv", "F32", 3, {2, 2, 1}, "shape [2, 2, 1], but config.json makes it [2, 2]"},
        {L0 "mlp.down_proj.weight_scale_inv", "F16", 2, {2, 2}, "dtype F16, not F32, BF16 or F8_E8M0"},
        {"model.layers.1.mlp.gate.weight", "F8_E4M3", 2, {8, 160}, "dtype F8_E4M3, not BF16, F16 or F32"},
        {"model.layers.1.mlp.gate.e_score_correction_bias", "F32", 1, {7}, "shape [7], but config.json makes it [8]"},
        {"model.layers.3.eh_proj.weight",
         "BF16",
         2,
         {160, 160},
         "shape [160, 160], but config.json makes it [160, 320]"},
        {"model.layers.3.embed_tokens.weight",
         "BF16",
         2,
         {300, 80},
         "shape [300, 80], but config.json makes it [300, 160]"},
        {"model.layers.3.shared_head.head.weight", "BF16", 0, {0}, "shape [], but config.json makes it [300, 160]"},
};

static void test_reshaped(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof reshapes / sizeof *reshapes; i++) {
		const struct reshape_case *c = &reshapes[i];
		char text[256];
		struct ckpt *ckpt = tiny();
		ckpt_reshape(ckpt_find(ckpt, c->name), c->dtype, c->rank, c->shape);
		snprintf(text, sizeof text, AT "%s: %s", c->name, c->text);
		expect_bad(ckpt, OCTAVO_EFORMAT, text);
	}
}

static void test_numbers(void **state)
{
	(void)state;
	static const char name[] = "model.layers.2.mlp.experts.6.down_proj.weight_scale_inv";
	static const struct {
		float scale;
		const char *text;
	} bad[] = {{NAN, "nan"}, {-1, "-1"}, {INFINITY, "inf"}, {0x1.000002p40f, "1.09951e+12"}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char text[256];
		struct ckpt *ckpt = tiny();
		memcpy(ckpt_find(ckpt, name)->data + 12, &bad[i].scale, 4);
		snprintf(text, sizeof text, AT "%s: scale [1][1] is %s, not in 0 to 2^40", name, bad[i].text);
		expect_bad(ckpt, OCTAVO_ENUMERIC, text);
	}
	static const float good[] = {0, 0x1p-41f, 0x1p40f};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		struct ckpt *ckpt = tiny();
		memcpy(ckpt_find(ckpt, name)->data + 12, &good[i], 4);
		expect_good(ckpt);
	}
	struct ckpt *ckpt = tiny();
	memcpy(ckpt_find(ckpt, "model.norm.weight")->data + 2 * 159, "\x80\x7F", 2);
	expect_bad(ckpt, OCTAVO_ENUMERIC, AT "model.norm.weight: element 159 is not finite");
}

/* ---- Damage ---------------------------------------------------------------------------------------- */

static void test_truncated(void **state)
{
	(void)state;
	struct ckpt *ckpt = tiny();
	struct loaded l;
	char path[PATH_MAX];
	size_t bytes;
	char *dir = ckpt_dir_new();
	ckpt_write(ckpt, dir);
	free(ckpt_read_file(dir, "model.safetensors", &bytes));
	snprintf(path, sizeof path, "%s/model.safetensors", dir);
	for (int i = 15; i >= 0; i--) {
		l = (struct loaded){0};
		assert_int_equal(truncate(path, (off_t)(bytes * (size_t)i / 16)), 0);
		assert_int_equal(load_dir(&l, dir), OCTAVO_EFORMAT);
		assert_ptr_equal(strstr(l.error.text, AT), l.error.text);
		unload(&l);
	}
	ckpt_dir_free(dir);
	ckpt_free(ckpt);
}

/* One bit of the header at a time.  A flip may leave a legal file (in the free text of the metadata); whatever it
 * does, there is a status, and a message with every failure. */
static void test_bit_flips(void **state)
{
	(void)state;
	enum { FLIPS = 600 };
	struct ckpt *ckpt = tiny();
	char *dir = ckpt_dir_new(), path[PATH_MAX];
	uint64_t random = 42;
	size_t bytes, failures = 0;
	ckpt_write(ckpt, dir);
	unsigned char *file = ckpt_read_file(dir, "model.safetensors", &bytes);
	size_t header = 8 + (file[0] | (size_t)file[1] << 8 | (size_t)file[2] << 16);
	snprintf(path, sizeof path, "%s/model.safetensors", dir);
	int fd = open(path, O_WRONLY);
	for (int i = 0; i < FLIPS; i++) {
		/* The first flips go through the length, bit by bit. */
		size_t bit = i < 64 ? (size_t)i : random_bits(&random) % (8 * header);
		unsigned char flipped = file[bit / 8] ^ (unsigned char)(1u << bit % 8);
		struct loaded l = {0};
		assert_int_equal(pwrite(fd, &flipped, 1, (off_t)(bit / 8)), 1);
		enum octavo_status status = load_dir(&l, dir);
		assert_true(status == OCTAVO_OK || l.error.text[0] != '\0');
		failures += status != OCTAVO_OK;
		unload(&l);
		assert_int_equal(pwrite(fd, &file[bit / 8], 1, (off_t)(bit / 8)), 1);
	}
	close(fd);
	assert_true(failures > FLIPS * 9 / 10);
	free(file);
	ckpt_dir_free(dir);
	ckpt_free(ckpt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_missing),
	        cmocka_unit_test(test_unexpected),
	        cmocka_unit_test(test_foreign),
	        cmocka_unit_test(test_reshaped),
	        cmocka_unit_test(test_numbers),
	        cmocka_unit_test(test_truncated),
	        cmocka_unit_test(test_bit_flips),
	};
	return cmocka_run_group_tests_name("weights, errors", tests, NULL, NULL);
}
