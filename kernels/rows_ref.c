/* SPDX-License-Identifier: Apache-2.0
 *
 * The definitions of the operations on single rows: see octavo_kernels.h.
 */
#include "fp8/philox.h"
#include "kernels/arith.h"
#include "kernels/chunk_ref.h"
#include "kernels/sets.h"

static void norm_ref(float *y, const float *x, const float *g, size_t n, float eps)
{
	float lane[16] = {0};

	for (size_t i = 0; i < n; i++)
		lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
	float r = 1.0f / sqrtf(octavo_lane_fold(lane) / (float)n + eps);
	for (size_t i = 0; i < n; i++)
		y[i] = (x[i] * r) * g[i];
}

static void rope_ref(float *x, const float *cs, size_t n)
{
	for (size_t i = 0; i + 1 < n; i += 2) {
		float x0 = x[i], x1 = x[i + 1], c = cs[i], s = cs[i + 1];
		x[i] = fmaf(x0, c, -(x1 * s));
		x[i + 1] = fmaf(x0, s, x1 * c);
	}
}

static void swiglu_ref(float *y, const float *gate, const float *up, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = gate[i] / (1.0f + octavo_exp(-gate[i])) * up[i];
}

static void round_ref(uint16_t *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = octavo_bf16_activation(x[i]);
}

static void quantise_ref(uint16_t *y, float *scale, const float *x, size_t n, enum octavo_scale_rule rule)
{
	for (size_t i = 0; i < n; i += OCTAVO_BLOCK) {
		uint16_t rounded[OCTAVO_BLOCK];
		uint8_t code[OCTAVO_BLOCK];
		size_t count = n - i < OCTAVO_BLOCK ? n - i : OCTAVO_BLOCK;
		for (size_t j = 0; j < count; j++)
			rounded[j] = octavo_bf16_encode(x[i + j]);
		octavo_quantise_1x128(code, scale + i / OCTAVO_BLOCK, rounded, count, rule);
		for (size_t j = 0; j < count; j++)
			y[i + j] = octavo_bf16_encode(octavo_e4m3_decode(code[j]));
	}
}

static void axpy_ref(float *acc, const float *x, float w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		acc[i] = fmaf(w, x[i], acc[i]);
}

static void exp_row_ref(float *y, const float *x, float max, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = octavo_exp(x[i] - max);
}

static void numbers_ref(uint32_t number[OCTAVO_NUMBERS], const uint32_t counter[4], uint64_t key)
{
	for (uint32_t i = 0; i < OCTAVO_NUMBERS / 4; i++) {
		struct octavo_philox bits = {{counter[0], counter[1], counter[2], counter[3] + i}};
		bits = octavo_philox(bits, key);
		for (size_t w = 0; w < 4; w++)
			number[OCTAVO_NUMBERS / 4 * w + i] = bits.word[w];
	}
}

const struct octavo_kernels octavo_set_rows_ref = {
        .norm = OCTAVO_KERNEL(norm, norm, "ref", 1, norm_ref),
        .rope = OCTAVO_KERNEL(rope, rope, "ref", 1, rope_ref),
        .swiglu = OCTAVO_KERNEL(swiglu, swiglu, "ref", 1, swiglu_ref),
        .round = OCTAVO_KERNEL(round, round, "ref", 1, round_ref),
        .quantise = OCTAVO_KERNEL(quantise, quantise, "ref", 1, quantise_ref),
        .axpy = OCTAVO_KERNEL(axpy, axpy, "ref", 1, axpy_ref),
        .exp_row = OCTAVO_KERNEL(exp_row, exp_row, "ref", 1, exp_row_ref),
        .numbers = OCTAVO_KERNEL(numbers, numbers, "ref", 1, numbers_ref),
};
