/* SPDX-License-Identifier: Apache-2.0
 *
 * The oracle's operations on single rows, and its router.
 */
#include "oracle.h"

#include "kernels/arith.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

void oracle_norm(float *y, const float *x, const float *g, size_t n, float eps)
{
	float lane[16] = {0};

	for (size_t j = 0; j < 16; j++)
		for (size_t i = j; i < n; i += 16)
			lane[j] = oracle_fma(x[i], x[i], lane[j]);
	for (size_t width = 16; width > 1; width /= 2)
		for (size_t j = 0; j < width / 2; j++)
			lane[j] = oracle_add(lane[j], lane[j + width / 2]);
	float mean = oracle_add(oracle_divide(lane[0], (float)n), eps);
	/* Rounded from double: a square root has no false ties either (Figueroa, 1995). */
	float r = oracle_divide(1.0f, (float)sqrt((double)mean));
	for (size_t i = 0; i < n; i++)
		y[i] = oracle_multiply(oracle_multiply(x[i], r), g[i]);
}

void oracle_rope(float *x, const float *cs, size_t n)
{
	for (size_t i = 0; i < n; i += 2) {
		float x0 = x[i], x1 = x[i + 1];
		x[i] = oracle_fma(x0, cs[i], -oracle_multiply(x1, cs[i + 1]));
		x[i + 1] = oracle_fma(x0, cs[i + 1], oracle_multiply(x1, cs[i]));
	}
}

void oracle_swiglu(float *y, const float *gate, const float *up, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = oracle_multiply(oracle_divide(gate[i], oracle_add(1.0f, octavo_exp(-gate[i]))), up[i]);
}

void oracle_round(uint16_t *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = fabsf(x[i]) < 0x1p-40f ? 0 : oracle_bf16(x[i]);
}

/* Figure 2 of the paper: two Feistel boxes side by side, whose outputs change places. */
void oracle_numbers(uint32_t number[OCTAVO_NUMBERS], const uint32_t counter[4], const uint32_t key[2])
{
	static const uint64_t multiplier[2] = {0xD2511F53, 0xCD9E8D57}, step[2] = {0x9E3779B9, 0xBB67AE85};

	for (uint32_t i = 0; i < OCTAVO_NUMBERS / 4; i++) {
		uint32_t right[2] = {counter[0], counter[2]}, left[2] = {counter[1], counter[3] + i};
		for (uint32_t round = 0; round < 10; round++) {
			uint32_t next[2][2];
			for (uint32_t box = 0; box < 2; box++) {
				uint64_t product = multiplier[box] * right[box];
				next[0][box] = (uint32_t)(product >> 32) ^ left[box ^ 1] ^ (uint32_t)(key[box ^ 1] + round * step[box ^ 1]);
				next[1][box] = (uint32_t)product;
			}
			for (uint32_t box = 0; box < 2; box++) {
				right[box ^ 1] = next[0][box];
				left[box ^ 1] = next[1][box];
			}
		}
		for (uint32_t w = 0; w < 4; w++)
			number[w * (OCTAVO_NUMBERS / 4) + i] = w % 2 ? left[w / 2] : right[w / 2];
	}
}

/* The value of the E4M3 code nearest to x, at most 448; ties to the even code. */
static float nearest_e4m3(float x)
{
	if (isnan(x) || x == 0.0f)
		return x;
	if (isinf(x))
		return copysignf(448.0f, x);
	int exponent = ilogbf(x) < -6 ? -6 : ilogbf(x);
	double ulp = ldexp(1.0, exponent - 3);
	double rounded = nearbyint(x / ulp) * ulp;
	return (float)copysign(fmin(fabs(rounded), 448.0), x);
}

static float group_scale(const float *x, size_t count, enum octavo_scale_rule rule)
{
	float largest = 1e-4f;
	for (size_t i = 0; i < count; i++)
		largest = fmaxf(largest, fabsf(x[i]));
	float scale = oracle_divide(largest, 448.0f);
	int exponent;
	if (rule == OCTAVO_SCALE_E8M0 && frexpf(scale, &exponent) != 0.5f)
		scale = ldexpf(1.0f, exponent);
	return scale;
}

void oracle_quantise(uint16_t *y, float *scale, const float *x, size_t n, enum octavo_scale_rule rule)
{
	for (size_t from = 0; from < n; from += 128) {
		size_t count = n - from < 128 ? n - from : 128;
		float group[128];
		bool finite = true;
		for (size_t i = 0; i < count; i++) {
			uint16_t rounded = oracle_bf16(x[from + i]);
			group[i] = (float)oracle_element(OCTAVO_BF16, &rounded, 0);
			finite = finite && isfinite(group[i]);
		}
		scale[from / 128] = finite ? group_scale(group, count, rule) : 1.0f;
		for (size_t i = 0; i < count; i++)
			y[from + i] =
			        oracle_bf16(finite ? nearest_e4m3(oracle_divide(group[i], scale[from / 128])) : NAN);
	}
}

void oracle_decode(uint16_t *y, const uint8_t *code, float scale, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		double exact = oracle_element(OCTAVO_E4M3, code, i) * scale; /* 28 bits */
		y[i] = fabs(exact) < 0x1p-40 ? 0 : oracle_bf16(exact);
	}
}

/* By search among all codes. */
void oracle_encode(uint8_t *code, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		float nearest = fabsf(nearest_e4m3(x[i]));
		uint8_t at = 0;
		while (at < 0x7F && oracle_element(OCTAVO_E4M3, &at, 0) != nearest)
			at++;
		code[i] = at | (signbit(x[i]) ? 0x80 : 0);
	}
}

/* ---- Router ---- */

struct rank {
	float value;
	uint32_t index;
};

static int by_value(const void *a, const void *b)
{
	const struct rank *x = a, *y = b;
	if (x->value != y->value)
		return x->value < y->value ? 1 : -1;
	return x->index < y->index ? -1 : 1;
}

static int by_index(const void *a, const void *b)
{
	const struct rank *x = a, *y = b;
	return x->index < y->index ? -1 : 1;
}

static void scores(const struct octavo_router *r, const float *logits, float *s)
{
	float max = -INFINITY, lane[16] = {0};

	for (size_t e = 0; e < r->experts; e++)
		max = fmaxf(max, logits[e]);
	for (size_t e = 0; e < r->experts; e++) {
		if (r->scoring == OCTAVO_SCORE_SIGMOID) {
			s[e] = oracle_divide(1.0f, oracle_add(1.0f, octavo_exp(-logits[e])));
		} else {
			s[e] = octavo_exp(oracle_add(logits[e], -max));
			lane[e % 16] = oracle_add(lane[e % 16], s[e]);
		}
	}
	if (r->scoring == OCTAVO_SCORE_SOFTMAX) {
		float sum = octavo_lane_fold(lane);
		for (size_t e = 0; e < r->experts; e++)
			s[e] = oracle_divide(s[e], sum);
	}
}

/* The experts of the best groups, unsorted; returns how many. */
static size_t candidates(const struct octavo_router *r, const struct rank *choice, struct rank *out)
{
	struct rank group[OCTAVO_MAX_EXPERTS], member[OCTAVO_MAX_EXPERTS];
	size_t size = r->experts / r->groups, count = 0;

	for (size_t g = 0; g < r->groups; g++) {
		for (size_t i = 0; i < size; i++)
			member[i] = choice[g * size + i];
		qsort(member, size, sizeof *member, by_value);
		bool two = r->method == OCTAVO_TOPK_NOAUX_TC && size > 1;
		group[g].value = two ? oracle_add(member[0].value, member[1].value) : member[0].value;
		group[g].index = (uint32_t)g;
	}
	qsort(group, r->groups, sizeof *group, by_value);
	size_t kept = r->method == OCTAVO_TOPK_GREEDY ? r->groups : r->top_groups;
	for (size_t g = 0; g < kept; g++)
		for (size_t i = 0; i < size; i++)
			out[count++] = choice[group[g].index * size + i];
	return count;
}

void oracle_route(const struct octavo_router *r, const float *logits, uint32_t *expert, float *weight)
{
	float s[OCTAVO_MAX_EXPERTS], sum = 0.0f;
	struct rank choice[OCTAVO_MAX_EXPERTS], best[OCTAVO_MAX_EXPERTS];

	scores(r, logits, s);
	for (uint32_t e = 0; e < r->experts; e++) {
		bool biased = r->method == OCTAVO_TOPK_NOAUX_TC && r->bias;
		choice[e] = (struct rank){biased ? oracle_add(s[e], r->bias[e]) : s[e], e};
	}
	qsort(best, candidates(r, choice, best), sizeof *best, by_value);
	qsort(best, r->top_k, sizeof *best, by_index);
	for (size_t i = 0; i < r->top_k; i++) {
		expert[i] = best[i].index;
		weight[i] = s[best[i].index];
		sum = oracle_add(sum, weight[i]);
	}
	for (size_t i = 0; i < r->top_k; i++) {
		if (r->normalise && r->top_k > 1)
			weight[i] = oracle_divide(weight[i], oracle_add(sum, 1e-20f));
		weight[i] = oracle_multiply(weight[i], r->factor);
	}
}
