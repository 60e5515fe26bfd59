/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of the router: shapes of published models, ties, and logits far apart.
 */
#include "harness.h"
#include "oracle.h"

#include <math.h>

static const struct octavo_router routers[] = {
        /* DeepSeek-V3, V2, V2-Lite */
        {256, 8, 8, 4, OCTAVO_TOPK_NOAUX_TC, OCTAVO_SCORE_SIGMOID, 1, 2.5f, NULL},
        {160, 6, 8, 3, OCTAVO_TOPK_GROUP_GREEDY, OCTAVO_SCORE_SOFTMAX, 0, 16.0f, NULL},
        {64, 6, 1, 1, OCTAVO_TOPK_GREEDY, OCTAVO_SCORE_SOFTMAX, 0, 1.0f, NULL},
        /* Every vector tail, one expert, all experts, groups of one, the largest. */
        {1, 1, 1, 1, OCTAVO_TOPK_NOAUX_TC, OCTAVO_SCORE_SIGMOID, 1, 2.5f, NULL},
        {8, 8, 4, 4, OCTAVO_TOPK_NOAUX_TC, OCTAVO_SCORE_SIGMOID, 1, 1.0f, NULL},
        {7, 3, 1, 1, OCTAVO_TOPK_NOAUX_TC, OCTAVO_SCORE_SOFTMAX, 1, 1.0f, NULL},
        {17, 2, 17, 5, OCTAVO_TOPK_NOAUX_TC, OCTAVO_SCORE_SIGMOID, 1, 1.0f, NULL},
        {33, 1, 3, 2, OCTAVO_TOPK_GROUP_GREEDY, OCTAVO_SCORE_SIGMOID, 1, 3.0f, NULL},
        {96, 12, 6, 2, OCTAVO_TOPK_GREEDY, OCTAVO_SCORE_SIGMOID, 1, 1.0f, NULL},
        {1024, 32, 32, 8, OCTAVO_TOPK_NOAUX_TC, OCTAVO_SCORE_SIGMOID, 1, 2.5f, NULL},
};
#define ROUTERS (sizeof routers / sizeof *routers)

static float *random_values(struct check *check, size_t n, bool ties, int low, int high)
{
	float *x = check_alloc(check, n * sizeof *x, sizeof *x);
	for (size_t i = 0; i < n; i++)
		x[i] = ties ? (float)check_pick(check, 0, 3) * 0.25f : check_float(check, low, high);
	return x;
}

static void compare(struct check *check, const struct octavo_router *r, const float *logits)
{
	uint32_t *want = check_alloc(check, r->top_k * sizeof *want, sizeof *want);
	uint32_t *got = check_alloc(check, r->top_k * sizeof *got, sizeof *got);
	float *want_weight = check_alloc(check, r->top_k * sizeof *want_weight, sizeof *want_weight);
	float *got_weight = check_alloc(check, r->top_k * sizeof *got_weight, sizeof *got_weight);

	check_run(check, check->new->route, r, logits, got, got_weight);
	if (check->level_two)
		oracle_route(r, logits, want, want_weight);
	else
		check_run(check, check->ref->route, r, logits, want, want_weight);
	check_equal_u32(check, "expert", want, got, r->top_k);
	check_equal_f32(check, "weight", want_weight, got_weight, 1, r->top_k);
}

static void sweep(struct check *check, bool ties, int low, int high)
{
	for (size_t i = 0; i < ROUTERS * 40; i++) {
		struct octavo_router r = routers[i % ROUTERS];
		bool biased = i / ROUTERS % 2;
		check_case(check, "experts=%zu top_k=%zu groups=%zu/%zu method=%d scoring=%d%s", r.experts, r.top_k,
		           r.top_groups, r.groups, (int)r.method, (int)r.scoring, biased ? " bias" : "");
		if (biased)
			r.bias = random_values(check, r.experts, ties, -8, 0);
		compare(check, &r, random_values(check, r.experts, ties, low, high));
	}
}

static void choices(struct check *check)
{
	sweep(check, false, -6, 2);
}

/* Four different values only: nearly every choice is between equals, and the lowest expert must win. */
static void tied(struct check *check)
{
	sweep(check, true, 0, 0);
}

/* Scores that saturate at 0 and 1, so that distinct logits tie. */
static void saturated(struct check *check)
{
	sweep(check, false, 3, 8);
}

/* A row with NaN has no right answer, but must not send the engine to experts that do not exist. */
static void spoilt(struct check *check)
{
	for (size_t i = 0; i < ROUTERS * 8; i++) {
		const struct octavo_router *r = &routers[i % ROUTERS];
		check_case(check, "NaN among the logits, experts=%zu top_k=%zu", r->experts, r->top_k);
		float *logits = random_values(check, r->experts, false, -6, 2);
		uint32_t *expert = check_alloc(check, r->top_k * sizeof *expert, sizeof *expert);
		float *weight = check_alloc(check, r->top_k * sizeof *weight, sizeof *weight);
		for (size_t j = 0; j < r->experts; j += i / ROUTERS + 1)
			logits[j] = NAN;
		check_run(check, check->new->route, r, logits, expert, weight);
		for (size_t j = 0; j < r->top_k; j++)
			check_that(check, expert[j] < r->experts && (j == 0 || expert[j] > expert[j - 1]),
			           "expert[%zu] is %u", j, (unsigned)expert[j]);
	}
}

/* The weights of DeepSeek-V3's rule add up to the factor, and are the scores of the best choices. */
static void formula(struct check *check)
{
	for (size_t i = 0; i < 20; i++) {
		const struct octavo_router *r = &routers[0];
		check_case(check, "experts=%zu", r->experts);
		float *logits = random_values(check, r->experts, false, -6, 2);
		uint32_t expert[8];
		float weight[8];
		double sum = 0.0, total = 0.0;
		check_run(check, check->new->route, r, logits, expert, weight);
		for (size_t j = 0; j < r->top_k; j++) {
			check_that(check, expert[j] < r->experts && (j == 0 || expert[j] > expert[j - 1]),
			           "expert[%zu] is %u, out of order", j, (unsigned)expert[j]);
			sum += 1.0 / (1.0 + exp(-(double)logits[expert[j]]));
		}
		for (size_t j = 0; j < r->top_k; j++) {
			double exact = 2.5 / (1.0 + exp(-(double)logits[expert[j]])) / sum;
			check_close(check, "weight", j, exact, weight[j], exact * 0x1p-20);
			total += weight[j];
		}
		check_close(check, "sum of weights", 0, 2.5, total, 2.5 * 0x1p-20);
	}
}

const struct check_entry check_route_entries[] = {
        {"route.choices", SLOT_route, choices},     {"route.tied", SLOT_route, tied},
        {"route.saturated", SLOT_route, saturated}, {"route.spoilt", SLOT_route, spoilt},
        {"route.formula", SLOT_route, formula},     {0},
};
