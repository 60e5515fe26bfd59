/* SPDX-License-Identifier: Apache-2.0
 *
 * The verify cost curve: what a forward of M rows takes on this machine, with this model.
 */
#include "engine/internal.h"

static const size_t knots[OCTAVO_MAX_KNOTS] = { 1, 2, 3, 4, 5, 6, 8, 16 };

enum { REPEATS = 9 };
/* Threads that slept may be woken on one processor, and it takes the system a while to part them. */
static const uint64_t warm_ns = 50000000;
static const uint64_t enough_ns = 1000000000; /* no further repeat after so long: a large model is timed once */

/* One forward of a chain of provisional rows; its time in ns. */
static enum octavo_status time_forward(struct octavo_engine *e, int32_t seq, const int32_t *token, size_t count,
                                       size_t rows, double *ns, struct octavo_error *error)
{
	struct octavo_staging *b = &e->staging;
	for (size_t i = 0; i < rows; i++) {
		b->token[i] = token[i % count];
		b->pos[i] = (int32_t)(e->kv.length[seq] + i);
		b->seq[i] = seq;
		b->parent[i] = (int32_t)i - 1;
		b->flags[i] = OCTAVO_ROW_LOGITS;
	}
	struct octavo_batch batch = { rows, b->token, b->pos, b->seq, b->parent, b->flags };
	uint64_t start = octavo_now_ns();
	enum octavo_status status = octavo_forward(e, &batch, error);
	*ns = (double)(octavo_now_ns() - start);
	return status;
}

size_t octavo_cost_knots(const struct octavo_engine *e, size_t committed)
{
	size_t room = e->settings.max_context - committed, n = 0;
	room = room < e->settings.max_rows ? room : e->settings.max_rows;
	while (n < OCTAVO_MAX_KNOTS && knots[n] <= room)
		n++;
	return n;
}

enum octavo_status octavo_measure_cost(struct octavo_engine *e, int32_t seq, const int32_t *token, size_t count,
                                       struct octavo_cost *cost, struct octavo_error *error)
{
	if (!e || !token || !count || !cost || seq < 0 || (size_t)seq >= e->kv.sequences)
		return octavo_fail(error, OCTAVO_EINVAL, "cost: a null argument, no token, or no such sequence");
	*cost = (struct octavo_cost){ .count = octavo_cost_knots(e, e->kv.length[seq]) };
	if (!cost->count)
		return octavo_fail(error, OCTAVO_ELIMIT, "cost: the sequence has no room for a row");
	uint64_t start = octavo_now_ns();
	do {
		double untold;
		enum octavo_status status = time_forward(e, seq, token, count, 1, &untold, error);
		if (status != OCTAVO_OK)
			return status;
	} while (octavo_now_ns() - start < warm_ns);
	start = octavo_now_ns();
	for (size_t repeat = 0; repeat < REPEATS && (!repeat || octavo_now_ns() - start < enough_ns); repeat++)
		for (size_t i = 0; i < cost->count; i++) { /* interleaved: a machine that slows down slows all of them */
			double ns;
			enum octavo_status status = time_forward(e, seq, token, count, knots[i], &ns, error);
			if (status != OCTAVO_OK)
				return status;
			cost->rows[i] = knots[i];
			if (!repeat || ns < cost->ns[i])
				cost->ns[i] = ns;
		}
	for (size_t i = 1; i < cost->count; i++) /* more rows never cost less: that was noise */
		if (cost->ns[i] < cost->ns[i - 1])
			cost->ns[i] = cost->ns[i - 1];
	e->cost = *cost;
	return OCTAVO_OK;
}
