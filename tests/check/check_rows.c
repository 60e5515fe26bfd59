/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of the operations on single rows: norm, RoPE, SwiGLU, axpy, exp and rounding to BF16.
 */
#include "harness.h"
#include "oracle.h"

#include "kernels/arith.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* The lengths of rows: all tails of a vector, then models' sizes and their neighbours. */
static const size_t lengths[] = {1,  2,  3,  4,  5,  6,  7,   8,   9,   10,  11,  12,  13,   14,   15,   16,   17,  18,
                                 19, 20, 21, 22, 23, 24, 25,  26,  27,  28,  29,  30,  31,   32,   33,   47,   48,  49,
                                 63, 64, 65, 95, 96, 97, 127, 128, 129, 255, 257, 576, 1000, 1536, 2047, 2048, 7168};
#define LENGTHS (sizeof lengths / sizeof *lengths)

static float *random_row(struct check *check, size_t n, int low, int high)
{
	float *x = check_alloc(check, n * sizeof *x, sizeof *x);
	for (size_t i = 0; i < n; i++)
		x[i] = check_float(check, low, high);
	return x;
}

/* Every fifth element or so from the edges of FP32: IEEE says what comes of each. */
static void add_specials(struct check *check, float *x, size_t n)
{
	static const float special[] = {0.0f,      -0.0f,      INFINITY, -INFINITY, NAN,
	                                0x1p-149f, -0x1p-130f, FLT_MAX,  -FLT_MAX};

	for (size_t i = check_pick(check, 0, 4); i < n; i += check_pick(check, 1, 9))
		x[i] = special[check_pick(check, 0, sizeof special / sizeof *special - 1)];
}

/* Uninitialised: canary bytes. */
static float *blank_row(struct check *check, size_t n)
{
	return check_alloc(check, n * sizeof(float), sizeof(float));
}

static float *copy_row(struct check *check, const float *x, size_t n)
{
	return memcpy(blank_row(check, n), x, n * sizeof *x);
}

static void norm(struct check *check)
{
	static const float eps[] = {1e-6f, 1e-5f, 0.0f};

	for (size_t i = 0; i < LENGTHS * 2; i++) {
		size_t n = lengths[i % LENGTHS];
		check_case(check, "n=%zu eps=%g", n, (double)eps[i % 3]);
		float *x = random_row(check, n, -12, i % 2 ? 3 : 12), *g = random_row(check, n, -3, 2);
		float *want = blank_row(check, n), *got = blank_row(check, n);
		if (i % 16 == 15)
			add_specials(check, x, n);
		check_run(check, check->new->norm, got, x, g, n, eps[i % 3]);
		if (check->level_two)
			oracle_norm(want, x, g, n, eps[i % 3]);
		else
			check_run(check, check->ref->norm, want, x, g, n, eps[i % 3]);
		check_equal_f32(check, "y", want, got, 1, n);
	}
}

/* Against the formula in double precision; and rows of zeros and of values whose squares overflow. */
static void norm_values(struct check *check)
{
	for (size_t i = 0; i < LENGTHS; i++) {
		size_t n = lengths[i];
		check_case(check, "n=%zu", n);
		float *x = random_row(check, n, -6, 6), *g = random_row(check, n, -3, 2), *y = blank_row(check, n);
		double squares = 0.0;
		for (size_t j = 0; j < n; j++)
			squares += (double)x[j] * x[j];
		double r = 1.0 / sqrt(squares / (double)n + 1e-6);
		check_run(check, check->new->norm, y, x, g, n, 1e-6f);
		for (size_t j = 0; j < n; j++) /* n/16 + 4 roundings of the sum, halved by the root, and 6 more */
			check_close(check, "y", j, x[j] * r * g[j], y[j],
			            fabs(x[j] * r * g[j]) * ((double)n / 32 + 8) * 0x1p-24 * 1.001);
		memset(x, 0, n * sizeof *x);
		check_run(check, check->new->norm, y, x, g, n, 1e-6f);
		for (size_t j = 0; j < n; j++)
			check_close(check, "y of zeros", j, 0.0, y[j], 0.0);
		x[n / 2] = 0x1p100f;
		check_run(check, check->new->norm, y, x, g, n, 1e-6f);
		for (size_t j = 0; j < n; j++)
			check_close(check, "y of an infinite norm", j, 0.0, y[j], 0.0);
	}
}

static void rope(struct check *check)
{
	for (size_t i = 0; i < LENGTHS * 2; i++) {
		size_t n = 2 * lengths[i % LENGTHS];
		check_case(check, "n=%zu", n);
		float *cs = blank_row(check, n), *got = random_row(check, n, -12, 6);
		if (i % 4 == 3)
			add_specials(check, got, n);
		float *want = copy_row(check, got, n);
		for (size_t j = 0; j < n; j += 2) {
			double angle = check_float(check, -10, 12);
			cs[j] = (float)cos(angle);
			cs[j + 1] = (float)sin(angle);
		}
		check_run(check, check->new->rope, got, cs, n);
		if (check->level_two)
			oracle_rope(want, cs, n);
		else
			check_run(check, check->ref->rope, want, cs, n);
		check_equal_f32(check, "x", want, got, 1, n);
	}
}

static void swiglu(struct check *check)
{
	for (size_t i = 0; i < LENGTHS * 2; i++) {
		size_t n = lengths[i % LENGTHS];
		check_case(check, "n=%zu", n);
		float *gate = random_row(check, n, i % 2 ? -20 : -3, i % 2 ? 12 : 6);
		float *up = random_row(check, n, -8, 8), *want = blank_row(check, n), *got = blank_row(check, n);
		if (i % 4 == 3)
			add_specials(check, gate, n);
		check_run(check, check->new->swiglu, got, gate, up, n);
		if (check->level_two)
			oracle_swiglu(want, gate, up, n);
		else
			check_run(check, check->ref->swiglu, want, gate, up, n);
		check_equal_f32(check, "y", want, got, 1, n);
		for (size_t j = 0; i % 4 != 3 && j < n; j++) { /* exp is clamped at 88: silu is tiny below -88 */
			double exact = gate[j] / (1.0 + exp(-(double)gate[j])) * up[j];
			check_close(check, "y", j, exact, got[j], fabs(exact) * 0x1p-20 + 1e-30);
		}
	}
}

static void axpy(struct check *check)
{
	for (size_t i = 0; i < LENGTHS * 2; i++) {
		size_t n = lengths[i % LENGTHS];
		check_case(check, "n=%zu", n);
		float *x = random_row(check, n, -12, 6), *got = random_row(check, n, -12, 6);
		if (i % 4 == 3)
			add_specials(check, x, n);
		float *want = copy_row(check, got, n), w = i % 7 ? check_float(check, -6, 1) : 0.0f;
		check_run(check, check->new->axpy, got, x, w, n);
		for (size_t j = 0; check->level_two && j < n; j++)
			want[j] = oracle_fma(w, x[j], want[j]);
		if (!check->level_two)
			check_run(check, check->ref->axpy, want, x, w, n);
		check_equal_f32(check, "acc", want, got, 1, n);
	}
}

/* Arguments around every edge of exp: 0, the cut at -87, tiny and masked ones. */
static void exp_row(struct check *check)
{
	static const float edges[] = {0.0f,      -0.0f,     -0x1p-30f, -86.9999f, -87.0f,
	                              -87.0001f, -INFINITY, -1e30f,    -103.0f,   -0x1p-140f};

	for (size_t i = 0; i < LENGTHS * 2; i++) {
		size_t n = lengths[i % LENGTHS];
		check_case(check, "n=%zu", n);
		float *x = random_row(check, n, -10, i % 2 ? 3 : 7), *want = blank_row(check, n),
		      *got = blank_row(check, n);
		float max = i % 5 == 0 ? 0.0f : 3.25f;
		for (size_t j = 0; j < n; j++)
			x[j] = j % 3 == i % 3 ? max + edges[check_pick(check, 0, 9)] : max - fabsf(x[j]);
		check_run(check, check->new->exp_row, got, x, max, n);
		for (size_t j = 0; check->level_two && j < n; j++)
			want[j] = octavo_exp(oracle_add(x[j], -max));
		if (!check->level_two)
			check_run(check, check->ref->exp_row, want, x, max, n);
		check_equal_f32(check, "y", want, got, 1, n);
		for (size_t j = 0; j < n; j++) { /* the polynomial is good to two ulps */
			float difference = x[j] - max;
			double exact = difference < -87.0f ? 0.0 : exp((double)difference);
			check_close(check, "y", j, exact, got[j], exact * 0x1p-22);
		}
	}
}

/* ---- Random numbers ---- */

static void numbers(struct check *check)
{
	for (size_t i = 0; i < 50; i++) {
		uint32_t counter[4], key[2];
		for (size_t j = 0; j < 4; j++)
			counter[j] = i ? check_random(check) : 0;
		for (size_t j = 0; j < 2; j++)
			key[j] = i ? check_random(check) : 0;
		if (i % 3 == 1)
			counter[3] = UINT32_MAX - (uint32_t)check_pick(check, 0, 70); /* i + 63 goes around */
		check_case(check, "counter %08x %08x %08x %08x", (unsigned)counter[0], (unsigned)counter[1], (unsigned)counter[2],
		           (unsigned)counter[3]);
		uint32_t *want = check_alloc(check, OCTAVO_NUMBERS * sizeof *want, sizeof *want);
		uint32_t *got = check_alloc(check, OCTAVO_NUMBERS * sizeof *got, sizeof *got);
		check_run(check, check->new->numbers, got, counter, (uint64_t)key[1] << 32 | key[0]);
		if (check->level_two)
			oracle_numbers(want, counter, key);
		else
			check_run(check, check->ref->numbers, want, counter, (uint64_t)key[1] << 32 | key[0]);
		check_equal_u32(check, "number", want, got, OCTAVO_NUMBERS);
	}
}

/* ---- Rounding to BF16 ---- */

static void compare_round(struct check *check, const float *x, size_t n)
{
	uint16_t *want = check_alloc(check, n * sizeof *want, sizeof *want);
	uint16_t *got = check_alloc(check, n * sizeof *got, sizeof *got);
	check_run(check, check->new->round, got, x, n);
	if (check->level_two)
		oracle_round(want, x, n);
	else
		check_run(check, check->ref->round, want, x, n);
	check_equal_bf16(check, "y", want, got, n);
}

static void rounding(struct check *check)
{
	for (size_t i = 0; i < LENGTHS; i++) {
		check_case(check, "n=%zu", lengths[i]);
		compare_round(check, random_row(check, lengths[i], i % 2 ? -45 : -10, i % 2 ? -35 : 10), lengths[i]);
	}
}

/* Every upper half with the lower halves that decide the rounding: exact, just above, around and at the tie. */
static void rounding_values(struct check *check)
{
	static const uint32_t low[] = {0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF};
	enum { LOW = sizeof low / sizeof *low, STEP = 1 << 12 };

	for (uint32_t high = 0; high < 1 << 16; high += STEP) {
		check_case(check, "upper halves from 0x%04x", (unsigned)high);
		float *x = blank_row(check, STEP * LOW);
		for (uint32_t i = 0; i < STEP * LOW; i++) {
			uint32_t bits = (high + i / LOW) << 16 | low[i % LOW];
			memcpy(&x[i], &bits, sizeof bits);
		}
		compare_round(check, x, STEP * LOW);
	}
}

const struct check_entry check_rows_entries[] = {
        {"norm.lengths", SLOT_norm, norm},
        {"norm.values", SLOT_norm, norm_values},
        {"rope", SLOT_rope, rope},
        {"swiglu", SLOT_swiglu, swiglu},
        {"axpy", SLOT_axpy, axpy},
        {"exp_row", SLOT_exp_row, exp_row},
        {"numbers", SLOT_numbers, numbers},
        {"round.lengths", SLOT_round, rounding},
        {"round.values", SLOT_round, rounding_values},
        {0},
};
