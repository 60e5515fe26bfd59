/* SPDX-License-Identifier: Apache-2.0
 *
 * Explaining a divergence: kernels that give other bits when they get several rows, in one matrix at a time, must be
 * told by row, layer and operation; with the contract's kernels there is nothing to tell.
 */
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

static const int32_t prompt[] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };
enum { PROMPT = sizeof prompt / sizeof *prompt };

/* ---- Kernels that depend on the batch ------------------------------------------------------------------------- */

static struct octavo_kernels good, bad;
static struct octavo_gemm_kernel wrong[3];
static const void *victim; /* the matrix that is multiplied wrongly; NULL: none */
static float error_of_one;

/* Of several rows, the last product of every one but the first is a little too large. */
static void spoil(const struct octavo_matrix *w, size_t n1, const struct octavo_rows *x, float *y, size_t ldy)
{
	if (w->data != victim || n1 != w->rows)
		return;
	for (size_t m = 1; m < x->rows; m++)
		y[m * ldy + n1 - 1] += error_of_one;
}

#define WRONG(slot)                                                                                                    \
	static void wrong_##slot(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x,     \
	                         float *y, size_t ldy)                                                                 \
	{                                                                                                              \
		good.slot->run(w, n0, n1, x, y, ldy);                                                                  \
		spoil(w, n1, x, y, ldy);                                                                               \
	}
WRONG(gemm_fp8)
WRONG(gemm_bf16)
WRONG(gemm_f32)

static void make_kernels(void)
{
	octavo_kernels_init(&good, octavo_cpu_detect());
	bad = good;
	wrong[0] = *good.gemm_fp8;
	wrong[1] = *good.gemm_bf16;
	wrong[2] = *good.gemm_f32;
	wrong[0].run = wrong_gemm_fp8;
	wrong[1].run = wrong_gemm_bf16;
	wrong[2].run = wrong_gemm_f32;
	bad.gemm_fp8 = &wrong[0];
	bad.gemm_bf16 = &wrong[1];
	bad.gemm_f32 = &wrong[2];
}

/* ---- One history ---------------------------------------------------------------------------------------------- */

static struct octavo_history *decode_history(struct octavo_engine *e, struct octavo_session_settings s,
                                             struct output *out)
{
	struct octavo_error error;
	assert_int_equal(octavo_history_open(&s.history, &error), OCTAVO_OK);
	decode(e, &s, prompt, PROMPT, out);
	return s.history;
}

static void one_matrix(struct octavo_engine *e, const struct octavo_matrix *w, size_t layer, const char *operation)
{
	struct octavo_session_settings s = { .drafter = "ngram", .k = 3, .max_new = 60, .ignore_eos = 1 };
	struct octavo_explanation why;
	struct octavo_error error;
	struct output out;
	victim = w->data;
	error_of_one = 0.01f;
	struct octavo_history *h = decode_history(e, s, &out);
	assert_true(out.stats.accepted[0] > 0); /* otherwise only first rows would have been kept */
	struct octavo_parting end = { .at = out.count, .plain = 2 }; /* all of it is run again */
	if (octavo_explain(e, h, &end, &why, &error) != OCTAVO_OK)
		fail_msg("%s: %s", operation, error.text);
	print_message("%s: position %zu, row %zu of %zu, layer %zu, %s, element %zu of %zu: %g, %g; %g, logits %g\n",
	              operation, why.position, why.row, why.rows, why.layer, why.found ? why.operation : "nothing",
	              why.element, why.elements, (double)why.alone, (double)why.together, why.largest, why.logits);
	assert_int_equal(why.found, 1);
	assert_string_equal(why.operation, operation);
	assert_int_equal(why.layer, layer);
	assert_in_range(why.row, 1, why.rows - 1);
	assert_in_range(why.rows, 2, 4);
	assert_in_range(why.position, PROMPT, PROMPT + out.count - 1);
	assert_true(why.element < why.elements && why.alone != why.together && why.largest > 0.0 && why.logits > 0.0);
	assert_int_equal(why.choice.known, 0);
	/* The same run without the error is explained by nothing. */
	victim = NULL;
	octavo_history_close(&h);
	h = decode_history(e, s, &out);
	assert_int_equal(octavo_explain(e, h, &end, &why, &error), OCTAVO_OK);
	assert_true(!why.found && !why.choice.known);
	octavo_history_close(&h);
}

static void wrong_operations_are_named(void **state)
{
	(void)state;
	make_kernels();
	struct octavo_engine_settings settings = { .threads = 2, .kernels = &bad, .sequences = 2 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	const struct octavo_weights *w = &e->weights;
	size_t last = e->config.layers - 1;
	one_matrix(e, e->config.q_lora ? &w->layer[0].q_b : &w->layer[0].q, 0, "query projection");
	one_matrix(e, &w->layer[last].kv_a, last, "key-value projection");
	one_matrix(e, &w->layer[0].o, 0, "output projection");
	one_matrix(e, w->layer[last].moe ? &w->layer[last].shared.down : &w->layer[last].dense.down, last,
	           "feed-forward part");
	one_matrix(e, &w->head, e->config.layers, "logits");
	octavo_engine_close(&e);
}

/* Where the error is large enough for another token, the logits behind which it was chosen must say so: at temperature
 * 0 each way has its own best. */
static void choices_are_told(void **state)
{
	(void)state;
	make_kernels();
	struct octavo_engine_settings settings = { .threads = 2, .kernels = &bad, .sequences = 2 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_session_settings s = { .drafter = "ngram", .k = 3, .max_new = 60, .ignore_eos = 1 }, none = s;
	struct octavo_explanation why;
	struct octavo_error error;
	struct output plain, out;
	size_t at = 0;
	none.drafter = NULL;
	victim = e->weights.layer[0].kv_a.data;
	error_of_one = 4.0f;
	decode(e, &none, prompt, PROMPT, &plain);
	struct octavo_history *h = decode_history(e, s, &out);
	while (at < plain.count && plain.token[at] == out.token[at])
		at++;
	assert_true(at < plain.count);
	struct octavo_parting parting = { .at = at, .plain = plain.token[at] };
	if (octavo_explain(e, h, &parting, &why, &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
	const struct octavo_choice *c = &why.choice;
	print_message("token %zu: position %zu, row %zu of %zu, %g and %g alone, %g and %g in the batch\n", at,
	              c->position, c->row, c->rows, (double)c->plain[0], (double)c->got[0], (double)c->plain[1],
	              (double)c->got[1]);
	assert_true(why.found && c->known);
	assert_string_equal(why.operation, "key-value projection");
	assert_int_equal(c->position, PROMPT + at - 1);
	assert_true(why.position <= c->position && c->row < c->rows && c->rows <= 4);
	assert_true(c->plain[0] > c->got[0] && c->plain[1] < c->got[1]);
	assert_true(2 * c->logits >= (double)c->plain[0] - (double)c->got[0]); /* one of the two had to move so far */
	/* Had plain decoding ended there, it would have no logit. */
	parting.plain = -1;
	assert_int_equal(octavo_explain(e, h, &parting, &why, &error), OCTAVO_OK);
	assert_true(isinf(why.choice.plain[0]) && isinf(why.choice.plain[1]) && isfinite(why.choice.got[0]));
	octavo_history_close(&h);
	octavo_engine_close(&e);
}

/* Trees, rows beside the draft, drafts of any length: replayed as they were, and nothing to tell. */
static void right_kernels_leave_nothing(void **state)
{
	struct octavo_engine_settings settings = { .threads = 1, .sequences = 3, .kv = cache_of(state) };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	const struct octavo_session_settings asked[] = {
		{ .drafter = "mtp", .tree = { 3, 2, 1 } }, { .drafter = "lookahead", .k = 3 }, { .drafter = "ngram+mtp" }, { 0 },
	};
	for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
		struct octavo_session_settings s = asked[i];
		struct octavo_explanation why = { .found = 1 };
		struct octavo_error error = { "" };
		struct output out;
		s.max_new = 40;
		s.ignore_eos = 1;
		s.sampling.temperature = 0.8f;
		struct octavo_history *h = decode_history(e, s, &out);
		if (octavo_explain(e, h, &(struct octavo_parting){ .at = 39 }, &why, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		assert_int_equal(why.found, 0);
		assert_true(why.choice.known && why.choice.position == PROMPT + 38 && why.choice.logits == 0.0);
		assert_true(why.choice.plain[0] == why.choice.plain[1] && why.choice.got[0] == why.choice.got[1]);
		octavo_history_close(&h);
	}
	octavo_engine_close(&e);
}

static void bad_requests_are_refused(void **state)
{
	(void)state;
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_session_settings s = { .drafter = "ngram", .k = 2, .max_new = 5, .ignore_eos = 1 };
	struct octavo_explanation why;
	struct octavo_error error;
	struct octavo_history *h;
	struct output out;
	assert_int_equal(octavo_history_open(NULL, &error), OCTAVO_EINVAL);
	assert_int_equal(octavo_history_open(&h, &error), OCTAVO_OK);
	struct octavo_parting parting = { .at = 0, .plain = 2 };
	assert_int_equal(octavo_explain(e, h, &parting, &why, &error), OCTAVO_EINVAL);
	assert_non_null(strstr(error.text, "empty"));
	octavo_history_close(&h);
	assert_null(h);
	h = decode_history(e, s, &out);
	assert_int_equal(octavo_explain(e, h, &parting, NULL, &error), OCTAVO_EINVAL);
	assert_int_equal(octavo_explain(e, h, NULL, &why, &error), OCTAVO_EINVAL);
	for (int i = 0; i < 2; i++) {
		parting.plain = i ? -2 : (int32_t)e->config.vocab;
		assert_int_equal(octavo_explain(e, h, &parting, &why, &error), OCTAVO_EINVAL);
		assert_non_null(strstr(error.text, "vocabulary"));
	}
	parting.plain = 2;
	assert_int_equal(octavo_explain(e, h, &parting, &why, &error), OCTAVO_ELIMIT); /* one sequence only */
	assert_true(octavo_sequence_length(e, 0) == 0);
	octavo_engine_close(&e);
	/* Room for sequences, but not for the rounds' rows. */
	settings = (struct octavo_engine_settings){ .threads = 1, .sequences = 2, .max_rows = 1 };
	e = open_model("tiny-ragged", &settings);
	assert_int_equal(octavo_explain(e, h, &parting, &why, &error), OCTAVO_ELIMIT);
	assert_non_null(strstr(error.text, "explain: round 0 has"));
	octavo_history_close(&h);
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_operations_are_named),
		cmocka_unit_test(choices_are_told),
		cmocka_unit_test(right_kernels_leave_nothing),
		{ "right_kernels_leave_nothing, FP8 cache", right_kernels_leave_nothing, NULL, NULL, "fp8" },
		cmocka_unit_test(bad_requests_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
