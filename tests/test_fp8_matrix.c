/* SPDX-License-Identifier: Apache-2.0
 *
 * Block-scaled matrix views: values, sub-views at any offset, unaligned storage, and everything that
 * octavo_matrix_check must refuse.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "octavo_fp8.h"
#include "tests/fp8_oracle.h"

enum {
	ROWS = 300, /* three block rows, the last of 44 rows */
	COLS = 270, /* three block columns, the last of 14 columns */
	LD = 275,
	BLOCK_ROWS = 3,
	BLOCK_COLS = 3,
	SCALE_LD = 4,
};

/* Storage that starts at an odd address, as tensors in a file may; padding holds NaN codes. */
static unsigned char data[1 + ROWS * LD * 4];
static unsigned char scales[1 + BLOCK_ROWS * SCALE_LD * 4];

/* The scale of block (i, j): different for every block, so that no confusion of rows and columns can hide;
 * a power of two where only those exist. */
static float block_scale(enum octavo_dtype dtype, size_t i, size_t j)
{
	if (dtype == OCTAVO_NONE)
		return 1;
	float power = ldexpf(1, (int)(i * SCALE_LD + j) - 6);
	return dtype == OCTAVO_E8M0 ? power : power * 1.25f;
}

/* The raw code of element (n, k): any finite one. */
static unsigned element_code(enum octavo_dtype dtype, size_t n, size_t k)
{
	uint64_t seed = n * COLS + k;
	unsigned code = (unsigned)(random_bits(&seed) >> 48);
	switch (dtype) {
	case OCTAVO_E4M3:
		return (code & 0x80) | (code & 0x7F) % format_e4m3.finite;
	case OCTAVO_E5M2:
		return (code & 0x80) | (code & 0x7F) % format_e5m2.finite;
	case OCTAVO_F16:
		return (code & 0x8000) | (code & 0x7FFF) % format_f16.finite;
	default:
		return (code & 0x8000) | (code & 0x7FFF) % format_bf16.finite;
	}
}

static double element_value(enum octavo_dtype dtype, size_t n, size_t k)
{
	static const struct format *const formats[] = {
	        [OCTAVO_E4M3] = &format_e4m3, [OCTAVO_E5M2] = &format_e5m2, [OCTAVO_F16] = &format_f16,
	        [OCTAVO_BF16] = &format_bf16, [OCTAVO_F32] = &format_bf16, /* the test's floats have BF16 values */
	};
	const struct format *f = formats[dtype];
	unsigned sign = octavo_dtype_size(dtype) == 1 ? 0x80 : 0x8000, code = element_code(dtype, n, k);
	double magnitude = format_value(f, code & ~sign);
	return code & sign ? -magnitude : magnitude;
}

static void store(unsigned char *at, enum octavo_dtype dtype, size_t index, unsigned code)
{
	uint32_t word = (uint32_t)code << 16;
	uint16_t half = (uint16_t)code;
	if (dtype == OCTAVO_F32)
		memcpy(at + index * 4, &word, 4);
	else if (octavo_dtype_size(dtype) == 2)
		memcpy(at + index * 2, &half, 2);
	else
		at[index] = (unsigned char)code;
}

static struct octavo_matrix make(enum octavo_dtype dtype, enum octavo_dtype scale_dtype)
{
	memset(data, 0xFF, sizeof data);
	memset(scales, 0xFF, sizeof scales);
	for (size_t n = 0; n < ROWS; n++)
		for (size_t k = 0; k < COLS; k++)
			store(data + 1, dtype, n * LD + k, element_code(dtype, n, k));
	for (size_t i = 0; i < BLOCK_ROWS; i++)
		for (size_t j = 0; j < BLOCK_COLS; j++) {
			float s = block_scale(scale_dtype, i, j);
			uint32_t bits = bits_of(s);
			if (scale_dtype == OCTAVO_F32)
				memcpy(scales + 1 + (i * SCALE_LD + j) * 4, &s, 4);
			else if (scale_dtype != OCTAVO_NONE)
				store(scales + 1, scale_dtype, i * SCALE_LD + j,
				      scale_dtype == OCTAVO_BF16 ? bits >> 16 : bits >> 23);
		}
	return (struct octavo_matrix){
	        .data = data + 1,
	        .rows = ROWS,
	        .cols = COLS,
	        .ld = LD,
	        .dtype = dtype,
	        .scale_dtype = scale_dtype,
	        .scale = scale_dtype == OCTAVO_NONE ? NULL : scales + 1,
	        .scale_ld = scale_dtype == OCTAVO_NONE ? 0 : SCALE_LD,
	};
}

static const struct pair {
	enum octavo_dtype dtype, scale_dtype;
} pairs[] = {
        {OCTAVO_E4M3, OCTAVO_F32},  {OCTAVO_E4M3, OCTAVO_BF16}, {OCTAVO_E4M3, OCTAVO_E8M0}, {OCTAVO_E4M3, OCTAVO_NONE},
        {OCTAVO_E5M2, OCTAVO_F32},  {OCTAVO_E5M2, OCTAVO_BF16}, {OCTAVO_E5M2, OCTAVO_E8M0}, {OCTAVO_E5M2, OCTAVO_NONE},
        {OCTAVO_BF16, OCTAVO_NONE}, {OCTAVO_F16, OCTAVO_NONE},  {OCTAVO_F32, OCTAVO_NONE},
};
enum { PAIRS = sizeof pairs / sizeof *pairs };

/* Element (n, k) of the view is element (n0 + n, k0 + k) of the matrix that make() laid out. */
static void assert_element(const struct octavo_matrix *view, size_t n, size_t k, size_t n0, size_t k0)
{
	float scale = block_scale(view->scale_dtype, (n0 + n) / 128, (k0 + k) / 128);
	double value = element_value(view->dtype, n0 + n, k0 + k);
	assert_true(octavo_matrix_scale(view, n, k) == scale);
	assert_true((double)octavo_matrix_value(view, n, k) == value * (double)scale); /* the product is exact */
}

static void values(void **state)
{
	(void)state;
	for (size_t p = 0; p < PAIRS; p++) {
		struct octavo_matrix w = make(pairs[p].dtype, pairs[p].scale_dtype);
		assert_int_equal(octavo_matrix_check(&w), OCTAVO_OK);
		for (size_t n = 0; n < ROWS; n++)
			for (size_t k = 0; k < COLS; k++)
				assert_element(&w, n, k, 0, 0);
	}
}

/* A view of a view of a view, each at a random place in the one before. */
static void assert_nested_views(struct octavo_matrix view, uint64_t *random)
{
	size_t n0 = 0, k0 = 0;
	for (int depth = 0; depth < 3; depth++) {
		size_t n = random_below(random, view.rows), k = random_below(random, view.cols);
		size_t rows = 1 + random_below(random, view.rows - n);
		size_t cols = 1 + random_below(random, view.cols - k);
		view = octavo_matrix_view(&view, n, rows, k, cols);
		n0 += n;
		k0 += k;
		assert_int_equal(view.rows, rows);
		assert_int_equal(view.cols, cols);
		assert_int_equal(octavo_matrix_check(&view), OCTAVO_OK);
		assert_element(&view, 0, 0, n0, k0);
		assert_element(&view, rows - 1, cols - 1, n0, k0);
		assert_element(&view, random_below(random, rows), random_below(random, cols), n0, k0);
	}
}

static void views(void **state)
{
	(void)state;
	uint64_t random = 7;
	for (size_t p = 0; p < PAIRS; p++) {
		struct octavo_matrix w = make(pairs[p].dtype, pairs[p].scale_dtype);
		for (int i = 0; i < 2000; i++)
			assert_nested_views(w, &random);
	}
}

/* The second half of a head that has 192 rows of keys, as in kv_b: it starts inside a scale block. */
static void offsets(void **state)
{
	(void)state;
	struct octavo_matrix w = make(OCTAVO_E4M3, OCTAVO_F32);
	struct octavo_matrix inside = octavo_matrix_view(&w, 192, 64, 5, 256);
	assert_int_equal(inside.row0, 64);
	assert_int_equal(inside.col0, 5);
	assert_ptr_equal(inside.data, data + 1 + 192 * LD + 5);
	assert_ptr_equal(inside.scale, scales + 1 + SCALE_LD * 4);
	struct octavo_matrix aligned = octavo_matrix_view(&w, 256, 44, 128, 142);
	assert_int_equal(aligned.row0, 0);
	assert_int_equal(aligned.col0, 0);
	assert_ptr_equal(aligned.scale, scales + 1 + (2 * SCALE_LD + 1) * 4);
}

static void tiny_scales(void **state)
{
	(void)state;
	uint8_t code = 0x38; /* 1 */
	float scale;
	struct octavo_matrix w = {&code, 1, 1, 1, OCTAVO_E4M3, OCTAVO_F32, &scale, 1, 0, 0};
	static const float zeros[] = {0.0f, -0.0f, 0x1p-149f, 0x1p-126f, 0x1.FFFFFEp-41f};
	for (size_t i = 0; i < sizeof zeros / sizeof *zeros; i++) {
		scale = zeros[i];
		assert_int_equal(octavo_matrix_check(&w), OCTAVO_OK);
		assert_int_equal(bits_of(octavo_matrix_scale(&w, 0, 0)), 0);
		assert_true(octavo_matrix_value(&w, 0, 0) == 0);
	}
	scale = 0x1p-40f;
	assert_true(octavo_matrix_scale(&w, 0, 0) == scale);
	assert_true(octavo_matrix_value(&w, 0, 0) == scale);
	code = 0x7F; /* NaN stays NaN, whatever the scale */
	assert_true(isnan(octavo_matrix_value(&w, 0, 0)));
	scale = 0;
	assert_true(isnan(octavo_matrix_value(&w, 0, 0)));
}

/* ---- octavo_matrix_check ----------------------------------------------------------------------------- */

#define assert_refused(expected, ...)                                                                                  \
	do {                                                                                                           \
		struct octavo_matrix w = make(OCTAVO_E4M3, OCTAVO_F32);                                                \
		__VA_ARGS__;                                                                                           \
		assert_int_equal(octavo_matrix_check(&w), expected);                                                   \
	} while (0)

static void check_arguments(void **state)
{
	(void)state;
	assert_int_equal(octavo_matrix_check(NULL), OCTAVO_EINVAL);
	assert_refused(OCTAVO_EINVAL, w.data = NULL);
	assert_refused(OCTAVO_EINVAL, w.scale = NULL);
	assert_refused(OCTAVO_EINVAL, w.rows = 0);
	assert_refused(OCTAVO_EINVAL, w.cols = 0);
	assert_refused(OCTAVO_EINVAL, w.ld = w.cols - 1);
	assert_refused(OCTAVO_EINVAL, w.scale_ld = BLOCK_COLS - 1);
	assert_refused(OCTAVO_EINVAL, w.row0 = 128);
	assert_refused(OCTAVO_EINVAL, w.col0 = 128);
	/* A view that starts later in its first block reaches into one block column more. */
	assert_refused(OCTAVO_EINVAL, w.scale_ld = 3, w.col0 = 127);
}

static void check_overflow(void **state)
{
	(void)state;
	assert_refused(OCTAVO_EINVAL, w.ld = SIZE_MAX);
	assert_refused(OCTAVO_EINVAL, w.rows = SIZE_MAX);
	assert_refused(OCTAVO_EINVAL, w.rows = SIZE_MAX / LD + 1); /* rows * ld wraps to a small number */
	assert_refused(OCTAVO_EINVAL, w.cols = SIZE_MAX, w.ld = SIZE_MAX);
	assert_refused(OCTAVO_EINVAL, w.cols = PTRDIFF_MAX, w.ld = PTRDIFF_MAX);
	assert_refused(OCTAVO_EINVAL, w.scale_ld = SIZE_MAX);
	/* These fit as elements, but not as bytes. */
	assert_refused(OCTAVO_EINVAL, w.scale_ld = PTRDIFF_MAX / 8);
	assert_refused(OCTAVO_EINVAL, w.dtype = OCTAVO_F32, w.scale_dtype = OCTAVO_NONE, w.rows = 1,
	               w.ld = PTRDIFF_MAX / 2);
}

static void check_dtypes(void **state)
{
	(void)state;
	for (int dtype = OCTAVO_NONE - 1; dtype <= OCTAVO_E8M0 + 1; dtype++)
		for (int scale_dtype = OCTAVO_NONE - 1; scale_dtype <= OCTAVO_E8M0 + 1; scale_dtype++) {
			int possible = 0;
			for (size_t p = 0; p < PAIRS; p++)
				possible |= (int)pairs[p].dtype == dtype && (int)pairs[p].scale_dtype == scale_dtype;
			if (!possible)
				assert_refused(OCTAVO_EINVAL, w.dtype = (enum octavo_dtype)dtype,
				               w.scale_dtype = (enum octavo_dtype)scale_dtype);
		}
}

static void put_scale(size_t i, size_t j, float scale)
{
	memcpy(scales + 1 + (i * SCALE_LD + j) * 4, &scale, 4);
}

static void check_scale_values(void **state)
{
	(void)state;
	static const float bad[] = {NAN, INFINITY, -INFINITY, -1, -0x1p-149f, 0x1.000002p40f};
	static const float good[] = {0x1p40f, 0x1p-149f, 0, -0.0f};
	for (size_t i = 0; i < BLOCK_ROWS; i++)
		for (size_t j = 0; j < BLOCK_COLS; j++) {
			for (size_t b = 0; b < sizeof bad / sizeof *bad; b++)
				assert_refused(OCTAVO_ENUMERIC, put_scale(i, j, bad[b]));
			for (size_t g = 0; g < sizeof good / sizeof *good; g++)
				assert_refused(OCTAVO_OK, put_scale(i, j, good[g]));
		}
	/* A view reads the scales of its own blocks only. */
	assert_refused(OCTAVO_OK, put_scale(2, 2, NAN), w.rows = 256);
	assert_refused(OCTAVO_OK, put_scale(2, 2, NAN), w.cols = 256);
	assert_refused(OCTAVO_ENUMERIC, put_scale(2, 2, NAN), w.rows = 200, w.row0 = 57);
	assert_refused(OCTAVO_OK, put_scale(2, 2, NAN), w.rows = 200, w.row0 = 56);
}

static void check_e8m0_scales(void **state)
{
	(void)state;
	uint8_t code = 0x38, scale;
	struct octavo_matrix w = {&code, 1, 1, 1, OCTAVO_E4M3, OCTAVO_E8M0, &scale, 1, 0, 0};
	for (unsigned c = 0; c < 256; c++) {
		scale = (uint8_t)c;
		assert_int_equal(octavo_matrix_check(&w), c <= 127 + 40 ? OCTAVO_OK : OCTAVO_ENUMERIC);
		if (c < 127 - 40)
			assert_true(octavo_matrix_value(&w, 0, 0) == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(values),
	        cmocka_unit_test(views),
	        cmocka_unit_test(offsets),
	        cmocka_unit_test(tiny_scales),
	        cmocka_unit_test(check_arguments),
	        cmocka_unit_test(check_overflow),
	        cmocka_unit_test(check_dtypes),
	        cmocka_unit_test(check_scale_values),
	        cmocka_unit_test(check_e8m0_scales),
	};
	return cmocka_run_group_tests_name("fp8, matrices", tests, NULL, NULL);
}
