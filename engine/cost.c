/* SPDX-License-Identifier: Apache-2.0
 *
 * The verify cost curve: what a forward of M rows takes on this machine, with this model.
 */
#include "engine/internal.h"

#include <string.h>

static const size_t knots[OCTAVO_MAX_KNOTS] = { 1, 2, 3, 4, 5, 6, 8, 16 };

enum { ROUNDS = 2, RUN = 8, UNTIMED = 2, MOST = ROUNDS * RUN + 1, MOST_ROWS = 16 };
/* Threads that slept may be woken on one processor, and it takes the system a while to part them. */
static const uint64_t warm_ns = 50000000;
/* For all but the first forward of each size: a large model is timed once. */
static const uint64_t enough_ns = 1000000000;

/* Running over a text, as decoding does: caches then hold what they hold there. */
struct walk {
	struct octavo_engine *engine;
	int32_t seq;
	size_t start; /* tokens that the sequence holds */
	const int32_t *token; /* [count] */
	size_t count, at;
	size_t samples[OCTAVO_MAX_KNOTS];
	double ns[OCTAVO_MAX_KNOTS][MOST];
};

/* One forward of the text's next `rows` tokens, from its beginning again where it ends; its time in ns. */
static enum octavo_status time_forward(struct walk *w, size_t rows, double *ns, struct octavo_error *error)
{
	int32_t token[MOST_ROWS];
	enum octavo_status status = OCTAVO_OK;
	if (w->at && (w->at + rows > w->count || w->start + w->at + rows > w->engine->settings.max_context)) {
		status = octavo_rewind(w->engine, w->seq, w->start, error);
		w->at = 0;
	}
	if (status != OCTAVO_OK)
		return status;
	for (size_t i = 0; i < rows; i++)
		token[i] = w->token[(w->at + i) % w->count];
	uint64_t start = octavo_now_ns();
	status = octavo_append(w->engine, (size_t)w->seq, token, rows, OCTAVO_ROW_LOGITS, 0, error);
	*ns = (double)(octavo_now_ns() - start);
	w->at += rows;
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

/* A run of forwards for each of the first `count` knots, interleaved: a machine that slows down slows all of them. */
static enum octavo_status time_runs(struct walk *w, size_t count, size_t run, size_t untimed,
                                    struct octavo_error *error)
{
	enum octavo_status status = OCTAVO_OK;
	double ns;
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < run; j++) {
			status = time_forward(w, knots[i], &ns, error);
			if (status != OCTAVO_OK)
				return status;
			if (j >= untimed)
				w->ns[i][w->samples[i]++] = ns;
		}
	return status;
}

static enum octavo_status warm_up(struct walk *w, struct octavo_error *error)
{
	uint64_t start = octavo_now_ns();
	enum octavo_status status;
	double untold;
	do
		status = time_forward(w, 1, &untold, error);
	while (status == OCTAVO_OK && octavo_now_ns() - start < warm_ns);
	return status;
}

/* Forwards of all sizes once each, then as many as there is time for.  Of runs that are long enough the first ones are
 * not timed: they find in the caches what forwards of another size left there. */
static enum octavo_status time_all(struct walk *w, size_t count, struct octavo_error *error)
{
	enum octavo_status status = warm_up(w, error);
	uint64_t start = octavo_now_ns();
	if (status == OCTAVO_OK)
		status = time_runs(w, count, 1, 0, error);
	size_t run = enough_ns / ROUNDS / (octavo_now_ns() - start + 1), untimed = run > 2 * UNTIMED ? UNTIMED : 0;
	if (untimed)
		memset(w->samples, 0, sizeof w->samples);
	for (size_t round = 0; status == OCTAVO_OK && round < ROUNDS; round++)
		status = time_runs(w, count, run < RUN ? run : RUN, untimed, error);
	return status;
}

enum octavo_status octavo_measure_cost(struct octavo_engine *e, int32_t seq, const int32_t *token, size_t count,
                                       struct octavo_cost *cost, struct octavo_error *error)
{
	if (!e || !token || !count || !cost || seq < 0 || (size_t)seq >= e->kv.sequences)
		return octavo_fail(error, OCTAVO_EINVAL, "cost: a null argument, no token, or no such sequence");
	struct walk w = { .engine = e, .seq = seq, .start = e->kv.length[seq], .token = token, .count = count };
	*cost = (struct octavo_cost){ .count = octavo_cost_knots(e, w.start) };
	if (!cost->count)
		return octavo_fail(error, OCTAVO_ELIMIT, "cost: the sequence has no room for a row");
	enum octavo_status status = time_all(&w, cost->count, error), rewound = octavo_rewind(e, seq, w.start, error);
	if (status != OCTAVO_OK || rewound != OCTAVO_OK)
		return status != OCTAVO_OK ? status : rewound;
	for (size_t i = 0; i < cost->count; i++) {
		struct octavo_summary summary;
		if (octavo_summarise(w.ns[i], w.samples[i], &summary) != OCTAVO_OK)
			return octavo_fail(error, OCTAVO_ENOMEM, "cost: out of memory");
		cost->rows[i] = knots[i];
		cost->ns[i] = i && summary.median < cost->ns[i - 1] ? cost->ns[i - 1] : summary.median; /* that was noise */
	}
	e->cost = *cost;
	return OCTAVO_OK;
}
