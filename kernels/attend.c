/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over whole contexts, cut over segments, sequences, heads and rows.
 *
 * A pass takes the next `lanes` segments of all sequences.  Each thread gets an equal part of them: with few queries
 * whole segments, so that it reads its own part of the cache, and turns it, once for all queries; with many, one
 * segment is cut by queries.  The first lane's results join the merged ones at once; the others' wait until the pass is
 * over and are merged in the order of their segments.  So the bits are those of one thread that goes through the
 * segments, and what waits takes a bounded place however long the context is.
 */
#include "kernels/attend.h"
#include "kernels/driver.h"
#include "kernels/line.h"

#include "fp8/arena.h"

enum {
	UNIT = 4, /* queries that are never cut apart */
	/* Of a thread in a pass.  A kernel call does well from some hundred queries on, that share the turning of keys
	 * into panels; and two calls' results stay in a core's cache until they are merged. */
	THREAD_QUERIES = 256,
};

struct sequence_state {
	size_t tokens;  /* that its rows see: positions below */
	size_t query;   /* its first in m and l */
	size_t waiting; /* its first in a lane of this pass */
};

/* Views into the scratch, and the pass. */
struct work {
	const struct octavo_kernels *k;
	const struct octavo_attend *a;
	struct sequence_state *state; /* [sequences] */
	float *m, *l;                 /* [queries] of all sequences: merged so far */
	struct attend_task *task;     /* [threads] */
	/* Of lanes behind the first: [capacity], for all of a pass's queries, lane by lane */
	float *lane_m, *lane_l, *lane_o;
	size_t threads, capacity;
	size_t segment, lanes, active; /* of the pass; the queries of sequences that reach it */
};

/* ---- Scratch -------------------------------------------------------------------------------------------------- */

static void carve_task(struct octavo_arena *arena, const struct octavo_attend *a, struct attend_task *t)
{
	size_t tokens = OCTAVO_SEGMENT, width = attend_latent(a) + attend_rope(a);
	t->m = octavo_carve(arena, ATTEND_BLOCK, sizeof *t->m);
	t->l = octavo_carve(arena, ATTEND_BLOCK, sizeof *t->l);
	t->o = octavo_carve(arena, a->v_dim, ATTEND_BLOCK * sizeof *t->o);
	t->p = octavo_carve(arena, ATTEND_BLOCK * tokens, sizeof *t->p);
	t->end = octavo_carve(arena, ATTEND_BLOCK, sizeof *t->end);
	if (a->kv_b || a->cache == OCTAVO_CACHE_LATENT_FP8)
		t->entry = octavo_carve(arena, width, tokens * sizeof *t->entry);
	if (a->kv_b) {
		t->keys = octavo_carve(arena, a->k_dim, tokens * sizeof *t->keys);
		t->values = octavo_carve(arena, a->v_dim, tokens * sizeof *t->values);
	}
	t->sequence = SIZE_MAX;
}

static void carve(struct octavo_arena *arena, struct work *w, size_t sequences, size_t queries, size_t threads)
{
	const struct octavo_attend *a = w->a;
	w->threads = threads;
	w->capacity = threads > 1 ? threads * THREAD_QUERIES : 0;
	w->state = octavo_carve(arena, sequences, sizeof *w->state);
	w->m = octavo_carve(arena, queries, sizeof *w->m);
	w->l = octavo_carve(arena, queries, sizeof *w->l);
	w->lane_m = octavo_carve(arena, w->capacity, sizeof *w->lane_m);
	w->lane_l = octavo_carve(arena, w->capacity, sizeof *w->lane_l);
	w->lane_o = octavo_carve(arena, a->v_dim, w->capacity * sizeof *w->lane_o);
	w->task = octavo_carve(arena, threads, sizeof *w->task);
	for (size_t i = 0; i < threads; i++) {
		struct attend_task task = {0};
		carve_task(arena, a, &task);
		if (arena->base)
			w->task[i] = task;
	}
}

size_t octavo_attend_scratch(const struct octavo_attend *a, size_t sequences, size_t rows, size_t threads)
{
	struct octavo_arena measure = {0};
	struct work w = {.a = a};
	size_t queries;
	if (__builtin_mul_overflow(a->kv_heads, a->group, &queries) || __builtin_mul_overflow(queries, rows, &queries))
		return SIZE_MAX;
	carve(&measure, &w, sequences, queries, threads ? threads : 1);
	return measure.overflow || measure.used > SIZE_MAX - OCTAVO_ALIGNMENT ? SIZE_MAX
	                                                                      : measure.used + OCTAVO_ALIGNMENT;
}

/* ---- A pass --------------------------------------------------------------------------------------------------- */

static size_t head_queries(const struct work *w, size_t sequence)
{
	return w->a->sequence[sequence].rows * w->a->group;
}

/* The items of a pass: sequence by sequence, lane by lane, head by head. */
static struct attend_part part_of(const struct work *w, size_t item)
{
	const struct octavo_attend *a = w->a;
	struct attend_part part = {.k = w->k, .a = a};
	part.head = item % a->kv_heads;
	size_t lane = item / a->kv_heads % w->lanes;
	part.sequence = item / a->kv_heads / w->lanes;
	part.segment = w->segment + lane;
	part.alone = lane > 0;
	const struct sequence_state *s = &w->state[part.sequence];
	size_t first = part.head * head_queries(w, part.sequence);
	if (lane) {
		size_t at = (lane - 1) * w->active + s->waiting + first;
		part.m = w->lane_m + at;
		part.l = w->lane_l + at;
		part.o = w->lane_o + at * a->v_dim;
		return part;
	}
	part.m = w->m + s->query + first;
	part.l = w->l + s->query + first;
	part.o = a->sequence[part.sequence].o + first * a->v_dim;
	return part;
}

static struct octavo_stretch stretch(const void *work, size_t item)
{
	const struct work *w = work;
	const struct octavo_attend *a = w->a;
	size_t sequence = item / a->kv_heads / w->lanes, segment = w->segment + item / a->kv_heads % w->lanes;
	size_t t0 = segment * OCTAVO_SEGMENT, all = w->state[sequence].tokens, queries = head_queries(w, sequence);
	if (all <= t0)
		return (struct octavo_stretch){0};
	double tokens = (double)attend_smaller(all - t0, OCTAVO_SEGMENT), each = (double)(a->k_dim + a->v_dim) * tokens;
	if (a->kv_b) /* never cut: each piece would expand the head for itself */
		return (struct octavo_stretch){1,
		                               (double)queries * each + tokens * (double)a->kv_b->cols *
		                                                                (double)(a->kv_b->rows / a->kv_heads)};
	return (struct octavo_stretch){(queries + UNIT - 1) / UNIT, UNIT * each};
}

static void run_item(const void *work, size_t task, size_t item, size_t first, size_t end)
{
	const struct work *w = work;
	struct attend_part part = part_of(w, item);
	size_t queries = head_queries(w, part.sequence);
	if (w->a->kv_b)
		octavo_attend_part_run(&part, &w->task[task], 0, queries);
	else
		octavo_attend_part_run(&part, &w->task[task], first * UNIT, attend_smaller(end * UNIT, queries));
}

/* ---- What waits ----------------------------------------------------------------------------------------------- */

/* Items: a sequence's heads, over all lanes but the first. */
static struct octavo_stretch waiting(const void *work, size_t item)
{
	const struct work *w = work;
	size_t sequence = item / w->a->kv_heads;
	if (w->state[sequence].tokens <= (w->segment + 1) * OCTAVO_SEGMENT)
		return (struct octavo_stretch){0};
	/* a query's o comes from another core's cache */
	double each = octavo_line_cost((double)w->a->v_dim, sizeof(float), 1) * (double)(w->lanes - 1);
	return (struct octavo_stretch){(head_queries(w, sequence) + UNIT - 1) / UNIT, UNIT * each};
}

static void merge_item(const void *work, size_t task, size_t item, size_t first, size_t end)
{
	const struct work *w = work;
	const struct octavo_attend *a = w->a;
	size_t sequence = item / a->kv_heads, head = item % a->kv_heads,
	       base = sequence * w->lanes * a->kv_heads + head;
	size_t q1 = attend_smaller(end * UNIT, head_queries(w, sequence)), v_dim = a->v_dim;
	struct attend_part merged = part_of(w, base);
	(void)task;
	for (size_t q = first * UNIT, next; q < q1; q = next) {
		size_t row = q / a->group, last = a->sequence[sequence].pos[row] / OCTAVO_SEGMENT;
		next = attend_smaller((row + 1) * a->group, q1);
		for (size_t lane = 1; lane < w->lanes && w->segment + lane <= last; lane++) {
			struct attend_part one = part_of(w, base + lane * a->kv_heads);
			w->k->attention_merge->run(next - q, v_dim, merged.m + q, merged.l + q, merged.o + q * v_dim,
			                           one.m + q, one.l + q, one.o + q * v_dim);
			one.o = merged.o;
			one.l = merged.l;
			octavo_attend_settle(&one, row, q, next);
		}
	}
}

/* ---- All ------------------------------------------------------------------------------------------------------ */

/* Sets up the pass from w->segment on; false if no sequence reaches it. */
static int begin_pass(struct work *w)
{
	size_t longest = 0;
	w->active = 0;
	for (size_t i = 0; i < w->a->sequences; i++) {
		struct sequence_state *s = &w->state[i];
		s->waiting = w->active;
		if (s->tokens > w->segment * OCTAVO_SEGMENT)
			w->active += head_queries(w, i) * w->a->kv_heads;
		longest = longest > s->tokens ? longest : s->tokens;
	}
	if (!w->active)
		return 0;
	size_t left = (longest - 1) / OCTAVO_SEGMENT + 1 - w->segment;
	w->lanes = attend_smaller(w->capacity / w->active, left);
	w->lanes += w->lanes == 0;
	return 1;
}

static void begin(struct work *w)
{
	size_t queries = 0;
	for (size_t i = 0; i < w->a->sequences; i++) {
		const struct octavo_attend_sequence *s = &w->a->sequence[i];
		w->state[i] = (struct sequence_state){.query = queries};
		queries += head_queries(w, i) * w->a->kv_heads;
		for (size_t row = 0; row < s->rows; row++)
			if (s->pos[row] >= w->state[i].tokens)
				w->state[i].tokens = s->pos[row] + 1;
	}
}

static int is_sequence_good(const struct octavo_attend *a, const struct octavo_attend_sequence *s)
{
	size_t entry = a->cache == OCTAVO_CACHE_LATENT_FP8 ? 1 : sizeof(uint16_t);
	if (!s->rows)
		return 1;
	if (!octavo_is_array(s->q, sizeof *s->q) || !octavo_is_array(s->cache, entry) ||
	    !octavo_is_array(s->pos, sizeof *s->pos) || !octavo_is_array(s->o, sizeof *s->o) ||
	    (uintptr_t)s->path % sizeof *s->path)
		return 0;
	for (size_t row = 0; row < s->rows; row++) {
		size_t seen = s->pos[row] + 1;
		if (!seen || seen < s->committed ||
		    (seen > s->committed && (!s->path || s->path_ld < seen - s->committed)))
			return 0;
		if (row && s->chained && s->chained[row] && s->pos[row] != s->pos[row - 1] + 1)
			return 0;
	}
	return 1;
}

static enum octavo_status check(const struct octavo_kernels *k, const struct octavo_attend *a)
{
	if (!k || !a || (a->sequences && (!a->sequence || !a->scratch)) || !a->kv_heads || !a->group || !a->k_dim ||
	    !a->v_dim || !(a->tau > 0) || (unsigned)a->cache > OCTAVO_CACHE_HEADS)
		return OCTAVO_EINVAL;
	if (a->kv_b) {
		size_t each = a->kv_b->rows / a->kv_heads;
		if (a->cache == OCTAVO_CACHE_HEADS || a->group != 1 || !a->kv_b->data || !a->kv_b->cols ||
		    each * a->kv_heads != a->kv_b->rows || each <= a->v_dim || a->k_dim < each - a->v_dim)
			return OCTAVO_EINVAL;
	} else if (a->cache != OCTAVO_CACHE_HEADS && (a->kv_heads != 1 || a->k_dim < a->v_dim)) {
		return OCTAVO_EINVAL;
	}
	for (size_t i = 0; i < a->sequences; i++)
		if (!is_sequence_good(a, &a->sequence[i]))
			return OCTAVO_EINVAL;
	return a->kv_b && !a->checked ? octavo_matrix_check(a->kv_b) : OCTAVO_OK;
}

static size_t rows_of(const struct octavo_attend *a)
{
	size_t rows = 0;
	for (size_t i = 0; i < a->sequences; i++)
		rows += a->sequence[i].rows;
	return rows;
}

enum octavo_status octavo_attend_run(const struct octavo_kernels *table, const struct octavo_parallel *parallel,
                                     const struct octavo_attend *a)
{
	enum octavo_status status = octavo_can_run(parallel) ? check(table, a) : OCTAVO_EINVAL;
	if (status != OCTAVO_OK || !a->sequences)
		return status;
	struct octavo_arena arena = {.base = octavo_aligned(a->scratch)};
	struct work w = {.k = table, .a = a};
	carve(&arena, &w, a->sequences, rows_of(a) * a->kv_heads * a->group,
	      parallel && parallel->threads > 1 ? parallel->threads : 1);
	begin(&w);
	for (; begin_pass(&w); w.segment += w.lanes) {
		struct octavo_line parts = {.work = &w,
		                            .count = a->sequences * w.lanes * a->kv_heads,
		                            .most = w.threads,
		                            .stretch = stretch,
		                            .run = run_item};
		octavo_line_run(&parts, parallel);
		struct octavo_line merges = {.work = &w,
		                             .count = a->sequences * a->kv_heads,
		                             .most = w.threads,
		                             .stretch = waiting,
		                             .run = merge_item};
		if (w.lanes > 1)
			octavo_line_run(&merges, parallel);
	}
	return OCTAVO_OK;
}
