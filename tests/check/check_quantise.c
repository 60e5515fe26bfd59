/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of the 1x128 quantiser of activations.
 */
#include "harness.h"
#include "oracle.h"

#include <math.h>

static void compare(struct check *check, const float *x, size_t n, enum octavo_scale_rule rule)
{
	size_t groups = (n + 127) / 128;
	uint16_t *want = check_alloc(check, n * sizeof *want, sizeof *want);
	uint16_t *got = check_alloc(check, n * sizeof *got, sizeof *got);
	float *want_scale = check_alloc(check, groups * sizeof *want_scale, sizeof *want_scale);
	float *got_scale = check_alloc(check, groups * sizeof *got_scale, sizeof *got_scale);

	check_run(check, check->new->quantise, got, got_scale, x, n, rule);
	if (check->level_two)
		oracle_quantise(want, want_scale, x, n, rule);
	else
		check_run(check, check->ref->quantise, want, want_scale, x, n, rule);
	check_equal_f32(check, "scale", want_scale, got_scale, 1, groups);
	check_equal_bf16(check, "y", want, got, n);
}

static const enum octavo_scale_rule rules[] = {OCTAVO_SCALE_AMAX, OCTAVO_SCALE_E8M0};

static void lengths(struct check *check)
{
	static const size_t length[] = {1,   2,   15,  16,  17,  31,  32,  33,   63,   64,  65,
	                                127, 128, 129, 160, 192, 255, 256, 1000, 1536, 7168};

	for (size_t i = 0; i < sizeof length / sizeof *length * 4; i++) {
		size_t n = length[i / 4];
		check_case(check, "n=%zu rule=%d", n, (int)rules[i % 2]);
		float *x = check_alloc(check, n * sizeof *x, sizeof *x);
		for (size_t j = 0; j < n; j++)
			x[j] = i & 2 ? check_float(check, -30, 8) : check_float(check, -6, 2);
		compare(check, x, n, rules[i % 2]);
	}
}

/* Groups at the edges: zeros of both signs, below and at the floor of the scale, subnormal inputs, ties between codes,
 * values that round beyond BF16's range, NaN and infinity in one place of a group. */
static void values(struct check *check)
{
	static const float special[] = {0.0f,   -0.0f,    1e-4f, 0.9e-4f,   0x1p-140f,
	                                448.0f, 3.39e38f, NAN,   -INFINITY, 3.4e38f};

	for (size_t i = 0; i < 10 * 2 * 6; i++) {
		float value = special[i / 2 % 10];
		check_case(check, "%g among others, variant %zu rule=%d", (double)value, i / 20, (int)rules[i % 2]);
		float *x = check_alloc(check, 300 * sizeof *x, sizeof *x);
		for (size_t j = 0; j < 300; j++) {
			switch (i / 20) {
			case 0: /* nothing else */
				x[j] = value;
				break;
			case 1: /* multiples of half a step where the scale is one */
				x[j] = (float)(int)(check_random(check) % 897) * 0.5f - 224.0f;
				break;
			case 2:
				x[j] = check_float(check, -150 + 24, -20);
				break;
			default:
				x[j] = check_float(check, -20, 5);
			}
		}
		for (size_t j = i % 128; j < 300; j += 128 + i % 3)
			x[j] = i / 20 == 1 && isfinite(value) ? 448.0f : value;
		compare(check, x, 300, rules[i % 2]);
	}
}

const struct check_entry check_quantise_entries[] = {
        {"quantise.lengths", SLOT_quantise, lengths},
        {"quantise.values", SLOT_quantise, values},
        {0},
};
