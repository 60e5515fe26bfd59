/* SPDX-License-Identifier: Apache-2.0
 *
 * Which experts the rows of a step choose.  Each row draws 8 of 256 without regard to the others; then each of its
 * experts that no row before it has is exchanged, with probability F, for one that some row before it has.  So a step
 * of T rows chooses on average 256 - (256 - 8) * (1 - 8 * (1 - F) / 256)^(T - 1) different experts, which for F = 0 is
 * 256 * (1 - (1 - 8/256)^T), the formula for independent rows.
 *
 * The union of a step is then laid on experts that have weights: the bytes are those of 256 experts as long as the
 * largest union finds room.
 */
#include "bench/layer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double routes_expected(size_t rows, double overlap)
{
	double all = V3_EXPERTS, most = all - V3_TOP_K;
	return all - most * pow(1.0 - V3_TOP_K * (1.0 - overlap) / all, (double)rows - 1.0);
}

/* ---- Random numbers -------------------------------------------------------------------------------------------- */

/* splitmix64 (Steele, Lea and Flood, 2014) */
static uint64_t next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* In [0, count), count far below 2^32. */
static size_t below(uint64_t *state, size_t count)
{
	return (size_t)((next(state) >> 32) * count >> 32);
}

static bool happens(uint64_t *state, double chance)
{
	return (double)(next(state) >> 11) * 0x1p-53 < chance;
}

/* item[0 .. count) becomes a random choice, in random order, of item[0 .. from). */
static void choose(uint64_t *state, uint16_t *item, size_t count, size_t from)
{
	for (size_t i = 0; i < count; i++) {
		size_t j = i + below(state, from - i);
		uint16_t swap = item[i];
		item[i] = item[j];
		item[j] = swap;
	}
}

static void count_up(uint16_t *item, size_t count)
{
	for (size_t i = 0; i < count; i++)
		item[i] = (uint16_t)i;
}

/* ---- One step ---------------------------------------------------------------------------------------------------- */

/* What the rows so far chose, in the order in which it came. */
struct chosen {
	uint16_t expert[V3_EXPERTS];
	size_t count;
};

static bool has(const uint16_t *list, size_t count, uint16_t expert)
{
	for (size_t i = 0; i < count; i++)
		if (list[i] == expert)
			return true;
	return false;
}

/* One of `before` that the row has not got; there is one, since `before` holds a whole row and `own` less. */
static uint16_t shared_one(uint64_t *state, const struct chosen *before, const uint16_t own[V3_TOP_K])
{
	uint16_t expert;
	do
		expert = before->expert[below(state, before->count)];
	while (has(own, V3_TOP_K, expert));
	return expert;
}

static void draw_row(uint64_t *state, double overlap, struct chosen *chosen, uint16_t own[V3_TOP_K])
{
	const struct chosen before = *chosen;
	uint16_t all[V3_EXPERTS];
	count_up(all, V3_EXPERTS);
	choose(state, all, V3_TOP_K, V3_EXPERTS);
	memcpy(own, all, V3_TOP_K * sizeof *own);
	for (size_t i = 0; i < V3_TOP_K; i++) {
		if (has(before.expert, before.count, own[i]))
			continue;
		if (before.count && happens(state, overlap))
			own[i] = shared_one(state, &before, own);
		else
			chosen->expert[chosen->count++] = own[i];
	}
}

/* The rows' experts are numbered anew: each of the union gets one of the plan's. */
static void draw_step(uint64_t *state, const struct layer_plan *plan, size_t rows, uint16_t (*expert)[V3_TOP_K])
{
	struct chosen chosen = {.count = 0};
	uint16_t real[V3_EXPERTS];
	for (size_t row = 0; row < rows; row++)
		draw_row(state, plan->overlap, &chosen, expert[row]);
	count_up(real, plan->experts);
	choose(state, real, chosen.count, plan->experts);
	for (size_t row = 0; row < rows; row++)
		for (size_t i = 0; i < V3_TOP_K; i++) {
			size_t at = 0;
			while (chosen.expert[at] != expert[row][i])
				at++;
			expert[row][i] = real[at];
		}
}

/* ---- All steps --------------------------------------------------------------------------------------------------- */

static size_t rows_before(const struct layer_plan *plan, size_t index)
{
	size_t rows = 0;
	for (size_t i = 0; i < index; i++)
		rows += plan->rows[i];
	return rows;
}

size_t routes_step(const struct layer_routes *r, const struct layer_plan *plan, size_t round, size_t index)
{
	return r->cover + round * rows_before(plan, plan->rows_count) + rows_before(plan, index);
}

bool routes_draw(struct layer_routes *r, const struct layer_plan *plan)
{
	uint64_t state = plan->seed;
	r->cover = plan->experts / V3_TOP_K;
	r->tokens = routes_step(r, plan, plan->repeats, 0);
	r->expert = calloc(r->tokens, sizeof *r->expert);
	if (!r->expert) {
		complain("layer: out of memory");
		return false;
	}
	for (size_t i = 0; i < plan->experts; i++)
		r->expert[i / V3_TOP_K][i % V3_TOP_K] = (uint16_t)i;
	for (size_t round = 0; round < plan->repeats; round++)
		for (size_t i = 0; i < plan->rows_count; i++)
			draw_step(&state, plan, plan->rows[i], r->expert + routes_step(r, plan, round, i));
	return true;
}

void routes_free(struct layer_routes *r)
{
	free(r->expert);
	r->expert = NULL;
}
