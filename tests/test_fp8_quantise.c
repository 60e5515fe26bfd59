/* SPDX-License-Identifier: Apache-2.0
 *
 * The quantisers against their formulas, element by element, and against the error that the format allows.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <float.h>

#include "octavo_fp8.h"
#include "tests/fp8_oracle.h"

enum { GUARD = 0xA5 }; /* what output buffers hold beyond their end */

static const enum octavo_scale_rule rules[] = {OCTAVO_SCALE_AMAX, OCTAVO_SCALE_E8M0};

/* The smallest power of two that is no smaller, within the normal floats. */
static float power_of_two_above(float s)
{
	int exponent;
	if (frexpf(s, &exponent) == 0.5f)
		exponent--;
	return exponent < -126 ? 0x1p-126f : ldexpf(1, exponent);
}

static float expected_scale(float amax, enum octavo_scale_rule rule)
{
	return rule == OCTAVO_SCALE_E8M0 ? power_of_two_above(amax / 448) : amax / 448;
}

static unsigned expected_code(float x, float scale)
{
	float quotient = x / scale;
	unsigned code = format_nearest(&format_e4m3, fabs((double)quotient));
	return (code < format_e4m3.finite ? code : format_e4m3.finite - 1) | (signbit(x) ? 0x80 : 0);
}

/* The code is right, and its value is off by at most half a step of the format: 1/16 of the number, or half a
 * subnormal.  The quotient's own rounding adds a little. */
static void assert_quantised(uint8_t code, float x, float scale)
{
	assert_int_equal(code, expected_code(x, scale));
	double value = (double)octavo_e4m3_decode(code) * (double)scale;
	double bound = fmax(fabs((double)x) * 0x1p-4, (double)scale * 0x1p-10);
	assert_true(fabs(value - (double)x) <= bound * (1 + 0x1p-20));
}

/* ---- 1x128 ------------------------------------------------------------------------------------------- */

static float group_amax(const uint16_t *x, size_t count)
{
	float amax = 0;
	for (size_t i = 0; i < count; i++)
		amax = fmaxf(amax, fabsf(octavo_bf16_decode(x[i])));
	return amax;
}

static void assert_row(const uint16_t *x, size_t cols, enum octavo_scale_rule rule)
{
	size_t groups = (cols + 127) / 128;
	uint8_t *code = test_malloc(cols + 1);
	float *scale = test_malloc((groups + 1) * sizeof *scale);
	code[cols] = GUARD;
	scale[groups] = -1;
	octavo_quantise_1x128(code, scale, x, cols, rule);
	for (size_t k = 0; k < cols; k += 128) {
		size_t count = cols - k < 128 ? cols - k : 128;
		assert_true(scale[k / 128] == expected_scale(fmaxf(group_amax(x + k, count), 1e-4f), rule));
		for (size_t i = k; i < k + count; i++)
			assert_quantised(code[i], octavo_bf16_decode(x[i]), scale[k / 128]);
	}
	assert_int_equal(code[cols], GUARD);
	assert_true(scale[groups] == -1);
	test_free(scale);
	test_free(code);
}

static void rows(void **state)
{
	(void)state;
	static const size_t widths[] = {1, 2, 127, 128, 129, 255, 256, 300, 1408};
	static uint16_t x[1408];
	uint64_t random = 8;
	for (int repeat = 0; repeat < 50; repeat++) {
		int span = 1 + (int)random_below(&random, 20), low = (int)random_below(&random, 40) - 30;
		for (size_t i = 0; i < sizeof x / sizeof *x; i++)
			x[i] = octavo_bf16_encode(random_float(&random, low, low + span));
		for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
			for (size_t r = 0; r < 2; r++)
				assert_row(x, widths[w], rules[r]);
	}
}

static void row_extremes(void **state)
{
	(void)state;
	/* One group of each: the largest BF16 numbers, zeros of both signs, subnormals, below the floor. */
	static uint16_t x[4 * 128];
	for (size_t i = 0; i < 128; i++) {
		x[i] = (uint16_t)(0x7F7F - i);
		x[128 + i] = (uint16_t)(i % 2 << 15);
		x[256 + i] = (uint16_t)(i + 1);
		x[384 + i] = octavo_bf16_encode(1e-5f * (float)i / 128);
	}
	for (size_t r = 0; r < 2; r++)
		assert_row(x, 512, rules[r]);
}

static void row_scales(void **state)
{
	(void)state;
	static const struct {
		float x, scale, power;
		uint8_t code, power_code;
	} cases[] = {
	        {1, 0.0022321429f, 0x1p-8f, 0x7E, 0x78},  /* 1 / 448, and 1 / 2^-8 = 256 */
	        {448, 1, 1, 0x7E, 0x7E},                  /* a power already */
	        {450, 450.0f / 448, 2, 0x7E, 0x76},       /* 225 rounds to 224 */
	        {0, 2.2321429e-7f, 0x1p-22f, 0x00, 0x00}, /* the floor */
	        {-896, 2, 2, 0xFE, 0xFE},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint16_t x = octavo_bf16_encode(cases[i].x);
		uint8_t code;
		float scale;
		octavo_quantise_1x128(&code, &scale, &x, 1, OCTAVO_SCALE_AMAX);
		assert_true(scale == cases[i].scale);
		assert_int_equal(code, cases[i].code);
		octavo_quantise_1x128(&code, &scale, &x, 1, OCTAVO_SCALE_E8M0);
		assert_true(scale == cases[i].power);
		assert_int_equal(code, cases[i].power_code);
	}
}

/* NaN or infinity anywhere in a group makes the group NaN, and no other. */
static void row_not_finite(void **state)
{
	(void)state;
	static const uint16_t bad[] = {0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0xFFFF};
	static const size_t places[] = {128, 200, 255};
	uint16_t x[300];
	uint8_t code[300];
	float scale[3];
	for (size_t b = 0; b < sizeof bad / sizeof *bad; b++)
		for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
			for (size_t i = 0; i < 300; i++)
				x[i] = 0x3F80;
			x[places[p]] = bad[b];
			octavo_quantise_1x128(code, scale, x, 300, OCTAVO_SCALE_AMAX);
			for (size_t i = 0; i < 300; i++)
				assert_int_equal(code[i] & 0x7F, i / 128 == 1 ? 0x7F : 0x7E);
			assert_true(scale[0] == 1.0f / 448 && scale[1] == 1 && scale[2] == 1.0f / 448);
		}
}

/* ---- 128x128 ----------------------------------------------------------------------------------------- */

struct weights {
	size_t rows, cols, ld;
	float *w;      /* [rows][ld], NaN in the padding */
	uint8_t *code; /* [rows][cols], then a guard */
	float *scale;  /* [ceil][ceil], then -1 */
	size_t scale_rows, scale_cols;
};

static struct weights weights_new(size_t rows, size_t cols, size_t padding)
{
	struct weights m = {.rows = rows, .cols = cols, .ld = cols + padding};
	m.scale_rows = (rows + 127) / 128;
	m.scale_cols = (cols + 127) / 128;
	m.w = test_malloc(rows * m.ld * sizeof *m.w);
	m.code = test_malloc(rows * cols + 1);
	m.scale = test_malloc((m.scale_rows * m.scale_cols + 1) * sizeof *m.scale);
	m.code[rows * cols] = GUARD;
	m.scale[m.scale_rows * m.scale_cols] = -1;
	for (size_t i = 0; i < rows * m.ld; i++)
		m.w[i] = NAN;
	return m;
}

static void weights_free(struct weights *m)
{
	assert_int_equal(m->code[m->rows * m->cols], GUARD);
	assert_true(m->scale[m->scale_rows * m->scale_cols] == -1);
	test_free(m->w);
	test_free(m->code);
	test_free(m->scale);
}

/* Every block of its own magnitude, so that a scale in the wrong place shows. */
static void weights_fill(struct weights *m, uint64_t seed)
{
	for (size_t n = 0; n < m->rows; n++)
		for (size_t k = 0; k < m->cols; k++) {
			int block = (int)(n / 128 * m->scale_cols + k / 128);
			m->w[n * m->ld + k] = random_float(&seed, -14 + block % 20, -6 + block % 20);
		}
}

static enum octavo_status weights_quantise(struct weights *m, enum octavo_scale_rule rule)
{
	return octavo_quantise_128x128(m->code, m->scale, m->w, m->rows, m->cols, m->ld, rule);
}

static float block_amax(const struct weights *m, size_t i, size_t j)
{
	float amax = 0;
	for (size_t n = i * 128; n < m->rows && n < (i + 1) * 128; n++)
		for (size_t k = j * 128; k < m->cols && k < (j + 1) * 128; k++)
			amax = fmaxf(amax, fabsf(m->w[n * m->ld + k]));
	return amax;
}

static void blocks(void **state)
{
	(void)state;
	/* 576 rows are those of kv_a_proj_with_mqa: four blocks and a half. */
	static const size_t shapes[][2] = {{576, 256}, {128, 128}, {1, 1}, {1, 300}, {300, 1}, {127, 129}, {129, 127}};
	for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
		for (size_t r = 0; r < 2; r++) {
			struct weights m = weights_new(shapes[s][0], shapes[s][1], s % 3);
			weights_fill(&m, s);
			assert_int_equal(weights_quantise(&m, rules[r]), OCTAVO_OK);
			for (size_t i = 0; i < m.scale_rows; i++)
				for (size_t j = 0; j < m.scale_cols; j++)
					assert_true(m.scale[i * m.scale_cols + j] ==
					            expected_scale(block_amax(&m, i, j), rules[r]));
			for (size_t n = 0; n < m.rows; n++)
				for (size_t k = 0; k < m.cols; k++)
					assert_quantised(m.code[n * m.cols + k], m.w[n * m.ld + k],
					                 m.scale[n / 128 * m.scale_cols + k / 128]);
			weights_free(&m);
		}
}

/* What the quantiser writes is a matrix that the library accepts and reads back within half a step. */
static void blocks_as_matrix(void **state)
{
	(void)state;
	struct weights m = weights_new(576, 200, 0);
	weights_fill(&m, 9);
	assert_int_equal(m.scale_rows, 5);
	assert_int_equal(weights_quantise(&m, OCTAVO_SCALE_AMAX), OCTAVO_OK);
	struct octavo_matrix w = {m.code, 576, 200, 200, OCTAVO_E4M3, OCTAVO_F32, m.scale, 2, 0, 0};
	assert_int_equal(octavo_matrix_check(&w), OCTAVO_OK);
	for (size_t n = 0; n < 576; n++)
		for (size_t k = 0; k < 200; k++) {
			double x = (double)m.w[n * m.ld + k], value = (double)octavo_matrix_value(&w, n, k);
			double step = fmax(fabs(x) * 0x1p-4, (double)octavo_matrix_scale(&w, n, k) * 0x1p-10);
			assert_true(fabs(value - x) <= step * (1 + 0x1p-20));
		}
	weights_free(&m);
}

/* A block that the contract counts as zero: all zeros, or so small that its scale is below 2^-40. */
static void blocks_of_zeros(void **state)
{
	(void)state;
	static const float amax[] = {0, -0.0f, FLT_TRUE_MIN, FLT_MIN, 447 * 0x1p-40f};
	for (size_t a = 0; a < sizeof amax / sizeof *amax; a++) {
		struct weights m = weights_new(130, 130, 1);
		weights_fill(&m, 10);
		for (size_t n = 0; n < 128; n++)
			for (size_t k = 0; k < 128; k++)
				m.w[n * m.ld + k] = (n + k) % 2 ? amax[a] : -amax[a];
		assert_int_equal(weights_quantise(&m, OCTAVO_SCALE_AMAX), OCTAVO_OK);
		assert_true(m.scale[0] == 1);
		for (size_t n = 0; n < 128; n++)
			for (size_t k = 0; k < 128; k++)
				assert_int_equal(m.code[n * m.cols + k] & 0x7F, 0);
		assert_true(m.scale[1] == block_amax(&m, 0, 1) / 448);
		weights_free(&m);
	}
	float w = 448 * 0x1p-40f, scale; /* the smallest block that counts */
	uint8_t code;
	assert_int_equal(octavo_quantise_128x128(&code, &scale, &w, 1, 1, 1, OCTAVO_SCALE_AMAX), OCTAVO_OK);
	assert_true(scale == 0x1p-40f);
	assert_int_equal(code, 0x7E);
}

/* Midpoints of the format times a scale of few bits: the division is exact and the tie goes to the even code.  A
 * multiplication by the rounded reciprocal would miss some of them. */
static void blocks_of_ties(void **state)
{
	(void)state;
	float w[127], scale;
	uint8_t code[127];
	for (int i = 0; i < 64; i++) {
		float s = 1 + (float)i / 64;
		for (unsigned k = 0; k < 126; k++)
			w[k] = (float)format_midpoint(&format_e4m3, k) * s;
		w[126] = 448 * s;
		assert_int_equal(octavo_quantise_128x128(code, &scale, w, 1, 127, 127, OCTAVO_SCALE_AMAX), OCTAVO_OK);
		assert_true(scale == s);
		for (unsigned k = 0; k < 126; k++)
			assert_int_equal(code[k], k + k % 2);
		assert_int_equal(code[126], 126);
	}
}

static void blocks_refused(void **state)
{
	(void)state;
	static const float bad[] = {NAN, INFINITY, -INFINITY, FLT_MAX, 449 * 0x1p40f};
	static const size_t places[][2] = {{0, 0}, {127, 127}, {0, 129}, {129, 0}, {129, 129}};
	struct weights m = weights_new(130, 130, 3);
	for (size_t b = 0; b < sizeof bad / sizeof *bad; b++)
		for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
			weights_fill(&m, 11);
			m.w[places[p][0] * m.ld + places[p][1]] = bad[b];
			assert_int_equal(weights_quantise(&m, OCTAVO_SCALE_AMAX), OCTAVO_ENUMERIC);
			assert_int_equal(weights_quantise(&m, OCTAVO_SCALE_E8M0), OCTAVO_ENUMERIC);
			m.w[places[p][0] * m.ld + places[p][1]] = 448 * 0x1p40f;
			assert_int_equal(weights_quantise(&m, OCTAVO_SCALE_AMAX), OCTAVO_OK);
		}
	weights_free(&m);
}

static void blocks_arguments(void **state)
{
	(void)state;
	float w = 1, scale;
	uint8_t code;
	enum octavo_scale_rule rule = OCTAVO_SCALE_AMAX;
	assert_int_equal(octavo_quantise_128x128(NULL, &scale, &w, 1, 1, 1, rule), OCTAVO_EINVAL);
	assert_int_equal(octavo_quantise_128x128(&code, NULL, &w, 1, 1, 1, rule), OCTAVO_EINVAL);
	assert_int_equal(octavo_quantise_128x128(&code, &scale, NULL, 1, 1, 1, rule), OCTAVO_EINVAL);
	assert_int_equal(octavo_quantise_128x128(&code, &scale, &w, 0, 1, 1, rule), OCTAVO_EINVAL);
	assert_int_equal(octavo_quantise_128x128(&code, &scale, &w, 1, 0, 1, rule), OCTAVO_EINVAL);
	assert_int_equal(octavo_quantise_128x128(&code, &scale, &w, 1, 2, 1, rule), OCTAVO_EINVAL);
	assert_int_equal(octavo_quantise_128x128(&code, &scale, &w, 4, 1, SIZE_MAX / 4, rule), OCTAVO_EINVAL);
	assert_int_equal(octavo_quantise_128x128(&code, &scale, &w, SIZE_MAX, 1, 1, rule), OCTAVO_EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(rows),
	        cmocka_unit_test(row_extremes),
	        cmocka_unit_test(row_scales),
	        cmocka_unit_test(row_not_finite),
	        cmocka_unit_test(blocks),
	        cmocka_unit_test(blocks_as_matrix),
	        cmocka_unit_test(blocks_of_zeros),
	        cmocka_unit_test(blocks_refused),
	        cmocka_unit_test(blocks_of_ties),
	        cmocka_unit_test(blocks_arguments),
	};
	return cmocka_run_group_tests_name("fp8, quantisers", tests, NULL, NULL);
}
