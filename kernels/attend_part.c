/* SPDX-License-Identifier: Apache-2.0
 *
 * A piece of attention over whole contexts: some queries, one segment.
 */
#include "kernels/attend.h"

#include <assert.h>
#include <string.h>

enum { CHAIN_ROWS = 32 }; /* of a block whose rows see different ends: each pays for the tokens of the last */

/* Where the segment's keys and values are; tokens count from t0. */
struct view {
	const uint16_t *k, *v;
	size_t ldk, ldv, committed, t0;
	const uint32_t *path;
};

static size_t first_token(const struct attend_part *part)
{
	return part->segment * OCTAVO_SEGMENT;
}

/* The end of what the row sees of the segment. */
static size_t end_of(const struct attend_part *part, size_t row)
{
	const struct octavo_attend_sequence *s = &part->a->sequence[part->sequence];
	return attend_smaller(s->pos[row] + 1, first_token(part) + OCTAVO_SEGMENT);
}

/* Whether all rows see all of the segment, in the slots of its positions. */
static int is_committed(const struct attend_part *part)
{
	return first_token(part) + OCTAVO_SEGMENT <= part->a->sequence[part->sequence].committed;
}

static const uint32_t *path_of(const struct octavo_attend_sequence *s, size_t row)
{
	return s->path ? s->path + row * s->path_ld : NULL;
}

/* ---- Latent entries, in the order of their tokens ------------------------------------------------------------- */

static void read_entry(const struct attend_part *part, size_t token, size_t row, uint16_t *to)
{
	const struct octavo_attend_sequence *s = &part->a->sequence[part->sequence];
	size_t latent = attend_latent(part->a), rope = attend_rope(part->a);
	size_t slot = token < s->committed ? token : path_of(s, row)[token - s->committed];
	if (part->a->cache == OCTAVO_CACHE_LATENT_FP8)
		octavo_kv_row_read(part->k, to, (const uint8_t *)s->cache + slot * octavo_kv_row_bytes(latent, rope),
		                   latent, rope);
	else
		memcpy(to, (const uint16_t *)s->cache + slot * (latent + rope), (latent + rope) * sizeof *to);
}

/* The segment up to t1 as `row` sees it, [tokens][latent + rope] bf16.  A task meets a segment once for each head that
 * is expanded, and a tree's paths differ at their ends only: what is there already stays. */
static const uint16_t *entries(const struct attend_part *part, struct attend_task *task, size_t row, size_t t1)
{
	const struct octavo_attend_sequence *s = &part->a->sequence[part->sequence];
	size_t width = attend_latent(part->a) + attend_rope(part->a), t0 = first_token(part), t = t0;
	if (part->a->cache == OCTAVO_CACHE_LATENT && t1 <= s->committed)
		return (const uint16_t *)s->cache + t0 * width;
	if (task->sequence == part->sequence && task->segment == part->segment) {
		if (task->row == row)
			return task->entry;
		t = s->committed > t0 ? s->committed : t0;
	}
	for (; t < t1; t++)
		read_entry(part, t, row, task->entry + (t - t0) * width);
	task->sequence = part->sequence;
	task->segment = part->segment;
	task->row = row;
	return task->entry;
}

static void expand(const struct attend_part *part, struct attend_task *task, const uint16_t *entry, size_t tokens)
{
	const struct octavo_attend *a = part->a;
	size_t each = a->kv_b->rows / a->kv_heads;
	struct octavo_matrix own = octavo_matrix_view(a->kv_b, part->head * each, each, 0, a->kv_b->cols);
	struct octavo_mla_up up = {.kv_b = &own,
	                           .heads = 1,
	                           .nope = each - a->v_dim,
	                           .rope = attend_rope(a),
	                           .v_dim = a->v_dim,
	                           .cache = entry,
	                           .tokens = tokens,
	                           .ld = a->kv_b->cols + attend_rope(a),
	                           .keys = task->keys,
	                           .values = task->values,
	                           .checked = 1};
	enum octavo_status status = octavo_mla_up_run(part->k, NULL, &up);
	assert(status == OCTAVO_OK);
	(void)status;
}

/* ---- One kernel call ------------------------------------------------------------------------------------------ */

/* Keys and values up to t1 for rows of which `row` sees most. */
static struct view view_of(const struct attend_part *part, struct attend_task *task, size_t row, size_t t1)
{
	const struct octavo_attend *a = part->a;
	const struct octavo_attend_sequence *s = &a->sequence[part->sequence];
	struct view view = {.ldk = a->k_dim, .committed = OCTAVO_SEGMENT};
	if (a->kv_b) {
		expand(part, task, entries(part, task, row, t1), t1 - first_token(part));
		view.k = task->keys;
		view.v = task->values;
		view.ldv = a->v_dim;
		return view;
	}
	if (a->cache == OCTAVO_CACHE_LATENT_FP8) {
		view.k = view.v = entries(part, task, row, t1);
		view.ldv = view.ldk;
		return view;
	}
	view.t0 = first_token(part);
	view.committed = s->committed;
	view.path = path_of(s, row);
	view.k = view.v = s->cache;
	view.ldv = view.ldk;
	if (a->cache == OCTAVO_CACHE_HEADS) {
		view.ldk = view.ldv = a->kv_heads * (a->k_dim + a->v_dim);
		view.k += part->head * a->k_dim;
		view.v += a->kv_heads * a->k_dim + part->head * a->v_dim;
	}
	return view;
}

void octavo_attend_settle(const struct attend_part *part, size_t row, size_t q0, size_t q1)
{
	const struct octavo_attend *a = part->a;
	if (a->sequence[part->sequence].pos[row] / OCTAVO_SEGMENT == part->segment)
		part->k->attention_finish->run(q1 - q0, a->v_dim, part->o + q0 * a->v_dim, part->l + q0);
}

/* Queries [q0, q1), at most ATTEND_BLOCK, of rows of which each sees what those before it see. */
static void run_block(const struct attend_part *part, struct attend_task *task, const struct view *view, size_t q0,
                      size_t q1)
{
	const struct octavo_attend *a = part->a;
	const struct octavo_attend_sequence *s = &a->sequence[part->sequence];
	size_t group = a->group, shift = first_token(part) - view->t0, apart = part->alone || part->segment == 0;
	struct octavo_attention call = {.q = s->q + (part->head * s->rows * group + q0) * a->k_dim,
	                                .heads = q1 - q0,
	                                .ldq = a->k_dim,
	                                .k_dim = a->k_dim,
	                                .v_dim = a->v_dim,
	                                .k = view->k,
	                                .v = view->v,
	                                .ldk = view->ldk,
	                                .ldv = view->ldv,
	                                .committed = view->committed,
	                                .path = view->path,
	                                .t0 = view->t0,
	                                .t1 = end_of(part, (q1 - 1) / group) - shift,
	                                .end = task->end,
	                                .tau = a->tau,
	                                .p = task->p,
	                                .m = apart ? part->m + q0 : task->m,
	                                .l = apart ? part->l + q0 : task->l,
	                                .o = apart ? part->o + q0 * a->v_dim : task->o};
	for (size_t q = q0; q < q1; q++)
		task->end[q - q0] = end_of(part, q / group) - shift;
	part->k->attention->run(&call);
	if (part->alone)
		return;
	if (!apart)
		part->k->attention_merge->run(q1 - q0, a->v_dim, part->m + q0, part->l + q0, part->o + q0 * a->v_dim,
		                              call.m, call.l, call.o);
	for (size_t q = q0, next; q < q1; q = next) {
		next = attend_smaller((q / group + 1) * group, q1);
		octavo_attend_settle(part, q / group, q, next);
	}
}

/* Queries of rows that are a chain, or of any rows where all see all of the segment; `row` sees most. */
static void run_chain(const struct attend_part *part, struct attend_task *task, size_t row, size_t q0, size_t q1)
{
	size_t group = part->a->group, rows = is_committed(part) ? ATTEND_BLOCK : CHAIN_ROWS;
	struct view view = view_of(part, task, row, end_of(part, row));
	for (size_t q = q0, next; q < q1; q = next) {
		next = attend_smaller(attend_smaller(q + ATTEND_BLOCK, (q / group + rows) * group), q1);
		run_block(part, task, &view, q, next);
	}
}

void octavo_attend_part_run(const struct attend_part *part, struct attend_task *task, size_t q0, size_t q1)
{
	const struct octavo_attend_sequence *s = &part->a->sequence[part->sequence];
	size_t group = part->a->group, end = (q1 - 1) / group + 1;
	if (is_committed(part)) {
		run_chain(part, task, 0, q0, q1);
		return;
	}
	for (size_t row = q0 / group, next; row < end; row = next) {
		size_t last = row;
		while (last + 1 < s->rows && s->chained && s->chained[last + 1])
			last++;
		next = last + 1;
		while (row < next && s->pos[row] < first_token(part)) /* it ends before */
			row++;
		size_t from = row * group > q0 ? row * group : q0, to = attend_smaller(next * group, q1);
		if (from < to)
			run_chain(part, task, last, from, to);
	}
}
