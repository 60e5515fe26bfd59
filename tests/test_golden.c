/* SPDX-License-Identifier: Apache-2.0
 *
 * The forward pass against the oracle's goldens (tests/oracle): layer by layer and on the logits, for both
 * arithmetics, both MLA forms, the MTP chain, and one golden of Hugging Face transformers.  Then the classic errors
 * are put in one by one, and each must be caught by the same comparison.
 */
#include "tests/support/faults.h"
#include "tests/support/golden.h"
#include "tests/support/model.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LAYERS = 8 };
static const double limit_l2 = 1e-3, limit_kl = 1e-5, limit_margin = 1e-3;

static const char *const models[] = { "tiny-ragged", "tiny-noq",   "tiny-blocks", "tiny-v2",
	                              "tiny-llama",  "tiny-qwen2", "tiny-qwen3" };
enum { MLA_MODELS = 4 }; /* of them, the first; the others are dense */

struct reference {
	struct golden *golden;
	const int32_t *token;
	size_t count;
};

static struct reference open_reference(const char *model, const char *file)
{
	char path[256];
	struct reference r = { 0 };
	snprintf(path, sizeof path, "tests/data/%s/%s", model, file);
	r.golden = golden_open(source_path(path));
	if (!r.golden) {
		print_message("%s is not there\n", path);
		skip();
	}
	r.token = golden_i32(r.golden, "tokens", &r.count);
	assert_non_null(r.token);
	return r;
}

/* ---- Layers ---------------------------------------------------------------------------------------------------- */

struct capture {
	float *x[MOST_LAYERS]; /* [count][hidden] */
	size_t hidden, at[MOST_LAYERS];
};

static void capture_layer(void *context, size_t layer, enum octavo_operation operation, const float *x, size_t rows,
                          size_t cols)
{
	struct capture *c = context;
	if (operation != OCTAVO_AT_LAYER)
		return;
	assert_int_equal(cols, c->hidden);
	assert_true(layer < MOST_LAYERS);
	memcpy(c->x[layer] + c->at[layer] * c->hidden, x, rows * c->hidden * sizeof *x);
	c->at[layer] += rows;
}

static void check_layers(struct octavo_engine *e, const struct reference *r)
{
	struct capture c = { .hidden = e->config.hidden };
	float *logits = test_malloc(r->count * e->config.vocab * sizeof *logits);
	for (size_t i = 0; i < e->config.layers; i++)
		c.x[i] = test_malloc(r->count * c.hidden * sizeof **c.x);
	e->observe = capture_layer;
	e->observe_context = &c;
	run_tokens(e, r->token, r->count, 8, 0, logits, NULL);
	for (size_t i = 0; i < e->config.layers; i++) {
		char name[32];
		size_t rows, cols;
		snprintf(name, sizeof name, "hidden.%zu", i);
		const float *golden = golden_f32(r->golden, name, &rows, &cols);
		assert_non_null(golden);
		assert_int_equal(rows, r->count);
		assert_int_equal(cols, c.hidden);
		for (size_t row = 0; row < rows; row++) {
			double l2 = golden_relative_l2(c.x[i] + row * cols, golden + row * cols, cols);
			if (!(l2 < limit_l2))
				fail_msg("layer %zu, token %zu: relative L2 %g", i, row, l2);
		}
		test_free(c.x[i]);
	}
	test_free(logits);
	e->observe = NULL;
}

/* ---- Logits ------------------------------------------------------------------------------------------------------ */

/* How far the main model's logits are from a golden tensor; false if the golden lacks it. */
static int main_distance(struct octavo_engine *e, const struct reference *r, const char *tensor, uint8_t flags,
                         struct golden_distance *d)
{
	size_t rows, cols;
	const float *golden = golden_f32(r->golden, tensor, &rows, &cols);
	if (!golden)
		return 0;
	assert_int_equal(rows, r->count);
	assert_int_equal(cols, e->config.vocab);
	float *logits = test_malloc(rows * cols * sizeof *logits);
	run_tokens(e, r->token, rows, 8, flags, logits, NULL);
	*d = golden_compare(logits, golden, rows, cols, limit_margin);
	test_free(logits);
	return 1;
}

static int within(const struct golden_distance *d)
{
	return d->kl < limit_kl && d->top1_changed == 0; /* false for NaN */
}

static void close_reference(struct reference *r)
{
	golden_close(r->golden);
	r->golden = NULL;
}

static void check_logits(const char *model, const char *tensor, enum octavo_arithmetic arithmetic, uint8_t flags)
{
	struct golden_distance d;
	struct octavo_engine_settings settings = { .threads = 2, .arithmetic = arithmetic };
	struct reference r = open_reference(model, "golden.safetensors");
	struct octavo_engine *e = open_model(model, &settings);
	if (!main_distance(e, &r, tensor, flags, &d))
		fail_msg("%s has no %s", model, tensor);
	if (!within(&d))
		fail_msg("%s %s: KL %g nats, %zu tokens differ in their best", model, tensor, d.kl, d.top1_changed);
	octavo_engine_close(&e);
	close_reference(&r);
}

/* A run past the first attention segment of 512 tokens. */
static void check_long(const char *model)
{
	struct octavo_engine_settings settings = { .threads = 2 };
	struct reference r = open_reference(model, "golden.safetensors");
	size_t rows, cols;
	r.token = golden_i32(r.golden, "long.tokens", &r.count);
	const float *golden = golden_f32(r.golden, "long.logits", &rows, &cols);
	assert_non_null(r.token);
	assert_non_null(golden);
	assert_true(r.count > OCTAVO_SEGMENT && rows <= r.count);
	struct octavo_engine *e = open_model(model, &settings);
	float *logits = test_malloc(r.count * cols * sizeof *logits);
	run_tokens(e, r.token, r.count, 64, 0, logits, NULL);
	struct golden_distance d = golden_compare(logits + (r.count - rows) * cols, golden, rows, cols, limit_margin);
	if (!within(&d))
		fail_msg("%s long.logits: KL %g nats, %zu tokens differ in their best", model, d.kl, d.top1_changed);
	test_free(logits);
	octavo_engine_close(&e);
	close_reference(&r);
}

/* The oracle's chains: chain i runs depths 1.. from slot i on true tokens, its own states recycled; every chain finds
 * rows of true states before it. */
static void mtp_distance(struct octavo_engine *e, const struct reference *r, struct golden_distance out[3])
{
	size_t hidden = e->config.hidden, vocab = e->config.vocab;
	float *post = test_malloc(r->count * hidden * sizeof *post);
	float *logits[3];
	for (size_t d = 0; d < 3; d++)
		logits[d] = test_malloc(r->count * vocab * sizeof **logits);
	run_tokens(e, r->token, r->count, 8, 0, NULL, post);
	for (size_t i = 0; i + 1 < r->count; i++) {
		float *g = post + i * hidden;
		for (size_t d = 0; d < 3 && i + d + 1 < r->count; d++) {
			struct octavo_error error;
			struct octavo_share row = { .pos = i + d, .rows = 1, .token = r->token + i + d + 1,
			                            .state = g };
			assert_int_equal(
			        octavo_mtp_forward(e, &e->weights.mtp[0], &e->kv, e->config.layers, &row, &error),
			        OCTAVO_OK);
			memcpy(logits[d] + i * vocab, e->mtp_logits, vocab * sizeof **logits);
			memcpy(g, e->mtp_hidden[OCTAVO_TAP_POST_NORM], hidden * sizeof *g);
		}
	}
	for (size_t d = 0; d < 3; d++) {
		char name[32];
		size_t rows, cols;
		snprintf(name, sizeof name, "mtp.logits.%zu", d + 1);
		const float *golden = golden_f32(r->golden, name, &rows, &cols);
		assert_non_null(golden);
		assert_int_equal(rows, r->count - d - 1);
		out[d] = golden_compare(logits[d], golden, rows, cols, limit_margin);
		test_free(logits[d]);
	}
	test_free(post);
}

/* ---- Cases ------------------------------------------------------------------------------------------------------- */

static void layers_agree(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		struct octavo_engine_settings settings = { .threads = 2 };
		struct reference r = open_reference(models[i], "golden.safetensors");
		struct octavo_engine *e = open_model(models[i], &settings);
		check_layers(e, &r);
		octavo_engine_close(&e);
		close_reference(&r);
	}
}

static void logits_agree(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof models / sizeof *models; i++)
		check_logits(models[i], "logits", OCTAVO_W8A16, 0);
}

static void logits_agree_w8a8(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof models / sizeof *models; i++)
		check_logits(models[i], "logits_a8", OCTAVO_W8A8, 0);
}

static void logits_agree_naive(void **state)
{
	(void)state;
	for (size_t i = 0; i < MLA_MODELS; i++)
		check_logits(models[i], "logits_naive", OCTAVO_W8A16, OCTAVO_ROW_NAIVE);
	/* Dense models have one form of attention, whatever the rows ask for. */
	for (size_t i = MLA_MODELS; i < sizeof models / sizeof *models; i++)
		check_logits(models[i], "logits", OCTAVO_W8A16, OCTAVO_ROW_NAIVE);
}

static void long_runs_agree(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof models / sizeof *models; i++)
		check_long(models[i]);
}

static void mtp_agrees(void **state)
{
	(void)state;
	static const char *const with_mtp[] = { "tiny-ragged", "tiny-blocks" };
	for (size_t i = 0; i < 2; i++) {
		struct octavo_engine_settings settings = { .threads = 2 };
		struct golden_distance d[3];
		struct reference r = open_reference(with_mtp[i], "golden.safetensors");
		struct octavo_engine *e = open_model(with_mtp[i], &settings);
		mtp_distance(e, &r, d);
		for (size_t depth = 0; depth < 3; depth++)
			if (!within(&d[depth]))
				fail_msg("%s depth %zu: KL %g nats, %zu tokens differ in their best", with_mtp[i],
				         depth + 1, d[depth].kl, d[depth].top1_changed);
		octavo_engine_close(&e);
		close_reference(&r);
	}
}

/* transformers computes in F32 throughout; our BF16 operands keep 8 bits, so the bound is that of the format. */
static void transformers_agree(void **state)
{
	(void)state;
	static const char *const with_hf[] = { "tiny-ragged", "tiny-llama" };
	for (size_t i = 0; i < sizeof with_hf / sizeof *with_hf; i++) {
		struct octavo_engine_settings settings = { .threads = 2 };
		struct reference r = open_reference(with_hf[i], "hf_golden.safetensors");
		struct octavo_engine *e = open_model(with_hf[i], &settings);
		struct golden_distance d;
		assert_true(main_distance(e, &r, "logits", 0, &d));
		print_message("%s against transformers in F32: relative L2 %g, KL %g nats\n", with_hf[i], d.relative_l2,
		              d.kl);
		if (!(d.relative_l2 < 2e-2 && d.kl < 2e-3))
			fail_msg("%s: relative L2 %g, KL %g nats", with_hf[i], d.relative_l2, d.kl);
		octavo_engine_close(&e);
		close_reference(&r);
	}
}

/* ---- The test of the test ---------------------------------------------------------------------------------------- */

static void faults_are_caught(void **state)
{
	(void)state;
	struct reference r = open_reference("tiny-ragged", "golden.safetensors");
	for (size_t i = 0; i < fault_count; i++) {
		struct octavo_kernels table = *octavo_kernels_get();
		struct octavo_engine_settings settings = { .threads = 1, .kernels = &table };
		struct octavo_engine *e = open_model("tiny-ragged", &settings);
		struct golden_distance d, mtp[3];
		faults[i].inject(e, &table);
		if (faults[i].only_mtp) {
			mtp_distance(e, &r, mtp);
			d = mtp[0];
		} else {
			main_distance(e, &r, "logits", 0, &d);
		}
		print_message("  %-24s relative L2 %.3g, KL %.3g nats\n", faults[i].name, d.relative_l2, d.kl);
		if (within(&d))
			fail_msg("%s goes unnoticed: KL %g nats", faults[i].name, d.kl);
		octavo_engine_close(&e);
	}
	faults_free();
	close_reference(&r);
}

/* A NaN code must surface as NaN logits and an error, never as a number (shift decoders make it 480). */
static void nan_code_surfaces(void **state)
{
	(void)state;
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_matrix *w = &e->weights.layer[0].o;
	uint8_t *code = test_malloc(w->rows * w->ld);
	memcpy(code, w->data, w->rows * w->ld);
	w->data = code;
	int32_t prompt[] = { 5, 6, 7 };
	const int32_t *token;
	size_t count;
	struct octavo_error error;
	struct octavo_session *s;
	struct octavo_session_settings ss = { .max_new = 4 };
	for (int nan = 0; nan < 2; nan++) {
		code[3 * w->ld + 5] = nan ? 0x7f : 0x7e;
		assert_int_equal(octavo_session_open(&s, e, &ss, &error), OCTAVO_OK);
		assert_int_equal(octavo_session_prompt(s, prompt, 3, &error), OCTAVO_OK);
		assert_int_equal(octavo_session_step(s, &token, &count, &error), nan ? OCTAVO_ENUMERIC : OCTAVO_OK);
		octavo_session_close(&s);
	}
	assert_non_null(strstr(error.text, "NaN"));
	octavo_engine_close(&e);
	test_free(code);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layers_agree),       cmocka_unit_test(logits_agree),
		cmocka_unit_test(logits_agree_w8a8),  cmocka_unit_test(logits_agree_naive),
		cmocka_unit_test(long_runs_agree),    cmocka_unit_test(mtp_agrees),
		cmocka_unit_test(transformers_agree),
		cmocka_unit_test(faults_are_caught),  cmocka_unit_test(nan_code_surfaces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
