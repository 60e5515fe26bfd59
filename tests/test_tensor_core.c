/* SPDX-License-Identifier: Apache-2.0
 *
 * The tensor-core model against a second statement of it in 128-bit integers: every number is a count of 2^-64, cutting
 * off is integer division.  Nothing of it is shared with fp8/tensor_core.h, which computes in floating point.
 */
#include "octavo_kernels.h"
#include "tests/fp8_oracle.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

enum { UNIT = 64, MMA = 32 };
__extension__ typedef __int128 wide;

struct term {
	wide value; /* in units of 2^-64 */
	int exponent;
};

/* From the code's fields. */
static struct term term_of(const struct format *f, uint8_t code)
{
	int field = (code & 0x7F) >> f->mantissa, fraction = code & ((1 << f->mantissa) - 1);
	int exponent = (field ? field : 1) - f->bias;
	wide significand = fraction + (field ? 1 << f->mantissa : 0);
	return (struct term){code & 0x80 ? -significand : significand, exponent};
}

static int top_bit(wide magnitude)
{
	int bit = -1;
	for (; magnitude; magnitude >>= 1)
		bit++;
	return bit;
}

static wide cut(wide value, int bit)
{
	wide quantum = (wide)1 << bit;
	return value / quantum * quantum; /* C's division goes towards zero */
}

/* One step on finite codes; c and the result in units of 2^-64. */
static wide oracle_step(int fraction, wide c, const uint8_t *a, const struct format *fb, const uint8_t *b, size_t count)
{
	struct term term[MMA + 1];
	int largest = -1000;
	for (size_t i = 0; i < count; i++) {
		struct term x = term_of(&format_e4m3, a[i]), y = term_of(fb, b[i]);
		int exponent = x.exponent + y.exponent, last = exponent - 3 - (int)fb->mantissa;
		term[i] = (struct term){x.value * y.value * ((wide)1 << (last + UNIT)), exponent};
	}
	term[count] = (struct term){c, top_bit(c < 0 ? -c : c) - UNIT};
	for (size_t i = 0; i <= count; i++)
		if (term[i].value && term[i].exponent > largest)
			largest = term[i].exponent;
	wide sum = 0;
	for (size_t i = 0; i <= count; i++)
		if (term[i].value)
			sum += cut(term[i].value, largest - fraction + UNIT);
	int top = top_bit(sum < 0 ? -sum : sum);
	return sum ? cut(sum, top - fraction < 0 ? 0 : top - fraction) : 0;
}

static float float_of_wide(wide x)
{
	return (float)ldexp((double)x, -UNIT);
}

static float oracle_dot(const struct octavo_tensor_core *t, const uint8_t *a, const uint8_t *b, size_t count)
{
	float y = 0;
	wide c = 0;
	size_t done = 0;
	for (size_t k = 0; k < count;) {
		size_t left = count - k, group = left < t->group ? left : t->group;
		if (t->promotion && group > t->promotion - done)
			group = t->promotion - done;
		c = oracle_step((int)t->fraction, c, a + k, &format_e4m3, b + k, group);
		k += group;
		done += group;
		if (done == t->promotion || k == count) {
			y += float_of_wide(c);
			c = 0;
			done = 0;
		}
	}
	return y;
}

/* Any finite code; or, for `narrow`, one of a few binades around 1, where all bits of all products matter. */
static uint8_t random_code(uint64_t *state, unsigned nan, int narrow)
{
	uint8_t code = (uint8_t)random_bits(state);
	if (narrow)
		code = (uint8_t)((code & 0x87) | (0x28 + (random_bits(state) % 4 << 3)));
	return (code & 0x7F) >= nan ? (uint8_t)(code & 0xB0) : code;
}

static void same_bits(float want, float got, const char *what, size_t at)
{
	if (bits_of(want) != bits_of(got))
		fail_msg("%s %zu: %.9g (0x%08x), must be %.9g (0x%08x)", what, at, (double)got, bits_of(got),
		         (double)want, bits_of(want));
}

static void steps_agree(void **state)
{
	uint64_t random = 1;
	uint8_t a[MMA], b[MMA];
	(void)state;
	for (size_t i = 0; i < 60000; i++) {
		unsigned fraction = 1 + (unsigned)random_below(&random, 23);
		size_t count = 1 + random_below(&random, MMA);
		wide c = 0;
		for (size_t repeat = 0; repeat < 3; repeat++) { /* the second and third find an accumulator */
			for (size_t j = 0; j < count; j++) {
				a[j] = random_code(&random, 0x7F, i % 2);
				b[j] = random_code(&random, 0x7F, i % 2);
			}
			float before = float_of_wide(c);
			c = oracle_step((int)fraction, c, a, &format_e4m3, b, count);
			same_bits(float_of_wide(c), octavo_tensor_core_step(fraction, before, a, b, count), "step", i);
		}
	}
}

static void dots_agree(void **state)
{
	static const unsigned groups[] = {32, 16, 4, 1, 32, 32}, fractions[] = {13, 14, 23, 8};
	static const size_t lengths[] = {1, 31, 32, 33, 127, 128, 129, 300, 1024, 4096};
	uint8_t a[4096], b[4096];
	uint64_t random = 2;
	(void)state;
	for (size_t i = 0; i < 600; i++) {
		struct octavo_tensor_core t = {groups[i % 6], fractions[i / 6 % 4], 0};
		size_t count = lengths[i % 10];
		t.promotion = t.group * random_below(&random, 6);
		for (size_t k = 0; k < count; k++) {
			a[k] = random_code(&random, 0x7F, i % 3);
			b[k] = random_code(&random, 0x7F, i % 3);
		}
		float got;
		assert_int_equal(octavo_tensor_core_dot(&t, a, b, count, &got), OCTAVO_OK);
		same_bits(oracle_dot(&t, a, b, count), got, "dot", i);
	}
}

/* Codes of powers of two, 2^-9 to 2^8. */
static uint8_t two_to(int exponent)
{
	return (uint8_t)(exponent < -6 ? 1 << (exponent + 9) : (exponent + 7) << 3);
}

/* What the sources say, one sentence each, by hand. */
static void known_behaviour(void **state)
{
	uint8_t a[MMA], b[MMA];
	(void)state;
	/* 13 bits below the largest product count, the 14th does not: 1 + 31 * 2^-13, 1 + 31 * 2^-14 */
	memset(a, two_to(-7), sizeof a);
	memset(b, two_to(-6), sizeof b);
	a[0] = b[0] = two_to(0);
	assert_true(octavo_tensor_core_step(13, 0, a, b, MMA) == 1.0f + 31 * 0x1p-13f);
	memset(b + 1, two_to(-7), sizeof b - 1);
	assert_true(octavo_tensor_core_step(13, 0, a, b, MMA) == 1.0f);
	assert_true(octavo_tensor_core_step(14, 0, a, b, MMA) == 1.0f + 31 * 0x1p-14f);
	/* towards zero, not down: 1 - 31 * 2^-14 */
	memset(b + 1, two_to(-7) | 0x80, sizeof b - 1);
	assert_true(octavo_tensor_core_step(13, 0, a, b, MMA) == 1.0f);
	/* a product is not normalised: beside 1.75 * 1.75, above 2, a bit of 2^-13 counts (and two of them stay) */
	memset(a, 0, sizeof a);
	a[0] = b[0] = 0x3E;
	a[1] = a[2] = two_to(-7);
	b[1] = b[2] = two_to(-6);
	assert_true(octavo_tensor_core_step(13, 0, a, b, MMA) == 3.0625f + 0x1p-12f);
	/* the accumulator keeps 13 fraction bits and aligns what is added */
	memset(a, 0, sizeof a);
	assert_true(octavo_tensor_core_step(13, 1.0f + 0x1p-13f, a, b, MMA) == 1.0f + 0x1p-13f);
	assert_true(octavo_tensor_core_step(13, -1.0f - 0x1.cp-14f, a, b, MMA) == -1.0f);
	a[0] = two_to(0);
	b[0] = two_to(-1);
	assert_true(octavo_tensor_core_step(13, 0x1p13f, a, b, 1) == 0x1p13f);
	/* sums that cancel leave +0 */
	a[1] = a[0] | 0x80;
	b[1] = b[0];
	same_bits(0.0f, octavo_tensor_core_step(13, 0, a, b, 2), "cancelled", 0);
	/* NaN stays NaN, beside zeros too */
	a[5] = 0x7F;
	b[5] = 0;
	assert_true(isnan(octavo_tensor_core_step(13, 1, a, b, MMA)));
	assert_true(isnan(octavo_tensor_core_step(13, NAN, b, b, MMA)));
	assert_true(octavo_tensor_core_step(13, INFINITY, b, b, MMA) == INFINITY);
}

/* With all bits that the sum needs there is no error at all. */
static void enough_bits_are_exact(void **state)
{
	uint8_t a[MMA], b[MMA];
	uint64_t random = 3;
	(void)state;
	for (size_t i = 0; i < 1000; i++) {
		double exact = 0;
		for (size_t k = 0; k < MMA; k++) {
			a[k] = (uint8_t)(random_code(&random, 0x7F, 1) & 0x9F) | 0x20; /* 2^-3 to below 2 */
			b[k] = (uint8_t)(random_code(&random, 0x7F, 1) & 0x9F) | 0x20;
			exact += (double)octavo_e4m3_decode(a[k]) * octavo_e4m3_decode(b[k]);
		}
		assert_true(octavo_tensor_core_step(23, 0, a, b, MMA) == exact);
	}
}

static void bad_arguments(void **state)
{
	const uint8_t a[1] = {0x38};
	float y = 5;
	struct octavo_tensor_core good = {32, 13, 128}, bad[] = {{0, 13, 128}, {33, 13, 0}, {32, 0, 128},
	                                                        {32, 24, 128}, {32, 13, 100}};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(octavo_tensor_core_dot(&bad[i], a, a, 1, &y), OCTAVO_EINVAL);
	assert_int_equal(octavo_tensor_core_dot(NULL, a, a, 1, &y), OCTAVO_EINVAL);
	assert_int_equal(octavo_tensor_core_dot(&good, NULL, a, 1, &y), OCTAVO_EINVAL);
	assert_int_equal(octavo_tensor_core_dot(&good, a, NULL, 1, &y), OCTAVO_EINVAL);
	assert_int_equal(octavo_tensor_core_dot(&good, a, a, 1, NULL), OCTAVO_EINVAL);
	assert_true(y == 5);
	assert_int_equal(octavo_tensor_core_dot(&good, a, a, 0, &y), OCTAVO_OK);
	assert_true(y == 0);
}

/* ---- The GEMM slot ----------------------------------------------------------------------------------------------- */

enum { M = 19, N = 21, K = 300, BLOCKS = 3 };

struct product {
	uint8_t w[N * K], code[M * K];          /* [N][K], [M][K] */
	float w_scale[BLOCKS], x_scale[M * BLOCKS]; /* [1][BLOCKS], [M][BLOCKS] */
	uint16_t x[M * K];                      /* [M][K] */
	float y[M * N], want[M * N];            /* [M][N] */
	struct octavo_matrix matrix;
	struct octavo_rows rows;
};

static void fill_product(struct product *p, enum octavo_dtype dtype, uint64_t *random)
{
	for (size_t i = 0; i < N * K; i++)
		p->w[i] = random_code(random, dtype == OCTAVO_E4M3 ? 0x7F : 0x7C, 0);
	for (size_t i = 0; i < M * K; i++) {
		p->code[i] = random_code(random, 0x7F, i % 2);
		p->x[i] = octavo_bf16_encode(octavo_e4m3_decode(p->code[i]));
	}
	for (size_t i = 0; i < BLOCKS; i++)
		p->w_scale[i] = fabsf(random_float(random, -8, 2));
	for (size_t i = 0; i < M * BLOCKS; i++)
		p->x_scale[i] = fabsf(random_float(random, -8, 2));
	p->matrix = (struct octavo_matrix){p->w, N, K, K, dtype, OCTAVO_F32, p->w_scale, BLOCKS, 0, 0};
	p->rows = (struct octavo_rows){p->x, M, K, p->x_scale, BLOCKS};
}

static void oracle_product(struct product *p, size_t promotion)
{
	const struct format *f = p->matrix.dtype == OCTAVO_E4M3 ? &format_e4m3 : &format_e5m2;
	for (size_t m = 0; m < M; m++)
		for (size_t n = 0; n < N; n++) {
			float y = 0;
			for (size_t from = 0, to; from < K; from = to) {
				wide c = 0;
				size_t block = from / 128, end = block * 128 + 128;
				to = from + promotion < end ? from + promotion : end;
				to = to < K ? to : K;
				for (size_t k = from; k < to; k += MMA)
					c = oracle_step(13, c, p->code + m * K + k, f, p->w + n * K + k,
					                to - k < MMA ? to - k : MMA);
				y = fmaf(p->x_scale[m * BLOCKS + block] * p->w_scale[block], float_of_wide(c), y);
			}
			p->want[m * N + n] = y;
		}
}

static void products_agree(void **state)
{
	static const struct {
		const char *name;
		size_t promotion;
	} modes[] = {{"hopper", 128}, {"hopper:32", 32}, {"hopper:64", 64}, {"hopper:96", 96}, {"hopper:128", 128}};
	static struct product p;
	uint64_t random = 4;
	(void)state;
	for (size_t i = 0; i < 10; i++) {
		struct octavo_kernels table = *octavo_kernels_get();
		assert_int_equal(octavo_kernels_emulate(&table, modes[i % 5].name), OCTAVO_OK);
		assert_true(table.gemm_fp8->flags & OCTAVO_APPROXIMATE);
		fill_product(&p, i < 5 ? OCTAVO_E4M3 : OCTAVO_E5M2, &random);
		oracle_product(&p, modes[i % 5].promotion);
		assert_int_equal(octavo_gemm(&table, NULL, &p.matrix, &p.rows, p.y, N), OCTAVO_OK);
		for (size_t j = 0; j < M * N; j++)
			same_bits(p.want[j], p.y[j], modes[i % 5].name, j);
		/* a slice of one row is what it is among others */
		float alone[N];
		struct octavo_rows one = {p.x + 7 * K, 1, K, p.x_scale + 7 * BLOCKS, BLOCKS};
		table.gemm_fp8->run(&p.matrix, 5, 18, &one, alone, N);
		assert_memory_equal(alone + 5, p.y + 7 * N + 5, 13 * sizeof *alone);
		/* one NaN code makes one column NaN */
		p.w[3 * K + 200] = 0x7F;
		assert_int_equal(octavo_gemm(&table, NULL, &p.matrix, &p.rows, p.y, N), OCTAVO_OK);
		for (size_t j = 0; j < M * N; j++)
			if (j % N == 3)
				assert_true(isnan(p.y[j]));
			else
				same_bits(p.want[j], p.y[j], "beside a NaN", j);
	}
}

/* Rows of BF16 are no FP8 product: they take the usual kernel. */
static void bf16_rows_are_exact(void **state)
{
	static struct product p;
	struct octavo_kernels table = *octavo_kernels_get();
	uint64_t random = 5;
	(void)state;
	fill_product(&p, OCTAVO_E4M3, &random);
	p.rows.scale = NULL;
	assert_int_equal(octavo_gemm(&table, NULL, &p.matrix, &p.rows, p.want, N), OCTAVO_OK);
	assert_int_equal(octavo_kernels_emulate(&table, "hopper"), OCTAVO_OK);
	assert_int_equal(octavo_gemm(&table, NULL, &p.matrix, &p.rows, p.y, N), OCTAVO_OK);
	assert_memory_equal(p.want, p.y, sizeof p.y);
}

static void unknown_names(void **state)
{
	static const char *const names[] = {"",           "hopper:", "hopper:0",   "hopper:33",
	                                    "hopper:256", "ampere",  "hopper:128 "};
	struct octavo_kernels table = *octavo_kernels_get(), before = table;
	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		assert_int_equal(octavo_kernels_emulate(&table, names[i]), OCTAVO_EINVAL);
	assert_int_equal(octavo_kernels_emulate(NULL, "hopper"), OCTAVO_EINVAL);
	assert_int_equal(octavo_kernels_emulate(&table, NULL), OCTAVO_EINVAL);
	assert_memory_equal(&table, &before, sizeof table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(steps_agree),         cmocka_unit_test(dots_agree),
	        cmocka_unit_test(known_behaviour),     cmocka_unit_test(enough_bits_are_exact),
	        cmocka_unit_test(bad_arguments),       cmocka_unit_test(products_agree),
	        cmocka_unit_test(bf16_rows_are_exact), cmocka_unit_test(unknown_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
