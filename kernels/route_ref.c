/* SPDX-License-Identifier: Apache-2.0
 *
 * The definition of the router: DeepSeek-V3 report (arXiv 2412.19437), equations 12 to 16, and
 * DeepSeek-V2 (arXiv 2405.04434), section 2.2.
 */
#include "kernels/arith.h"
#include "kernels/sets.h"

/* Index of the largest value not yet taken, ties to the lowest.  One is always found while one is left,
 * NaN or not, so that a bad row cannot lead anyone out of bounds. */
static size_t take_best(const float *value, uint8_t *taken, size_t count)
{
	size_t best = count;

	for (size_t i = 0; i < count; i++)
		if (!taken[i] && (best == count || value[i] > value[best]))
			best = i;
	taken[best] = 1;
	return best;
}

static void score(const struct octavo_router *r, const float *logits, float *s)
{
	if (r->scoring == OCTAVO_SCORE_SIGMOID) {
		for (size_t e = 0; e < r->experts; e++)
			s[e] = 1.0f / (1.0f + octavo_exp(-logits[e]));
		return;
	}
	float lane[16] = {0};
	float max = logits[0];
	for (size_t e = 1; e < r->experts; e++)
		if (logits[e] > max)
			max = logits[e];
	for (size_t e = 0; e < r->experts; e++) {
		s[e] = octavo_exp(logits[e] - max);
		lane[e % 16] = lane[e % 16] + s[e];
	}
	float sum = octavo_lane_fold(lane);
	for (size_t e = 0; e < r->experts; e++)
		s[e] = s[e] / sum;
}

/* A group's rank: the sum of its two best choices (noaux_tc), or its best one. */
static float group_score(const struct octavo_router *r, const float *choice, size_t size)
{
	uint8_t taken[OCTAVO_MAX_EXPERTS] = {0};
	float best = choice[take_best(choice, taken, size)];

	if (r->method != OCTAVO_TOPK_NOAUX_TC || size < 2)
		return best;
	return best + choice[take_best(choice, taken, size)];
}

/* Marks every expert outside the best groups as taken. */
static void exclude_groups(const struct octavo_router *r, const float *choice, uint8_t *taken)
{
	size_t size = r->experts / r->groups;
	float rank[OCTAVO_MAX_EXPERTS];
	uint8_t kept[OCTAVO_MAX_EXPERTS] = {0};

	for (size_t g = 0; g < r->groups; g++)
		rank[g] = group_score(r, choice + g * size, size);
	for (size_t i = 0; i < r->top_groups; i++)
		take_best(rank, kept, r->groups);
	for (size_t e = 0; e < r->experts; e++)
		taken[e] = !kept[e / size];
}

static void route_ref(const struct octavo_router *r, const float *logits, uint32_t *expert, float *weight)
{
	float s[OCTAVO_MAX_EXPERTS], choice[OCTAVO_MAX_EXPERTS];
	uint8_t taken[OCTAVO_MAX_EXPERTS] = {0}, chosen[OCTAVO_MAX_EXPERTS] = {0};

	score(r, logits, s);
	for (size_t e = 0; e < r->experts; e++)
		choice[e] = r->method == OCTAVO_TOPK_NOAUX_TC && r->bias ? s[e] + r->bias[e] : s[e];
	if (r->groups > 1 && r->method != OCTAVO_TOPK_GREEDY)
		exclude_groups(r, choice, taken);
	for (size_t i = 0; i < r->top_k; i++)
		chosen[take_best(choice, taken, r->experts)] = 1;

	float sum = 0.0f;
	for (size_t e = 0, i = 0; e < r->experts; e++) {
		if (!chosen[e])
			continue;
		expert[i] = (uint32_t)e;
		weight[i++] = s[e];
		sum = sum + s[e];
	}
	for (size_t i = 0; i < r->top_k; i++) {
		if (r->normalise && r->top_k > 1)
			weight[i] = weight[i] / (sum + 1e-20f);
		weight[i] = weight[i] * r->factor;
	}
}

const struct octavo_kernels octavo_set_route_ref = {
        .route = OCTAVO_KERNEL(route, route, "ref", 1, route_ref),
};
