/* SPDX-License-Identifier: Apache-2.0
 *
 * The KV cache: where rows go, which earlier rows they see, commit and rewind.
 */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

static enum octavo_status bad_row(struct octavo_error *error, size_t row, const char *reason)
{
	return octavo_fail(error, OCTAVO_EINVAL, "batch row %zu: %s", row, reason);
}

/* Row `row`'s path is its parent's plus its own slot. */
static void extend_path(struct octavo_geometry *g, size_t row, int32_t parent)
{
	uint32_t *path = g->path + row * g->path_ld;
	size_t length = 0;
	if (parent >= 0) {
		length = g->pos[parent] + 1 - g->committed[parent];
		memcpy(path, g->path + (size_t)parent * g->path_ld, length * sizeof *path);
	}
	path[length] = (uint32_t)g->slot[row];
}

enum octavo_status octavo_geometry_of(struct octavo_engine *e, const struct octavo_batch *b,
                                      struct octavo_error *error)
{
	struct octavo_geometry *g = &e->geometry;
	e->last_rows = 0; /* the last forward's rows lose their slots here, also if this batch is refused */
	if (b->rows == 0 || b->rows > e->settings.max_rows)
		return octavo_fail(error, OCTAVO_ELIMIT, "batch: %zu rows, the engine was opened for 1 to %zu", b->rows,
		                   e->settings.max_rows);
	g->kv = &e->kv;
	g->rows = b->rows;
	for (size_t row = 0; row < b->rows; row++) {
		int32_t seq = b->seq[row], parent = b->parent[row];
		if (seq < 0 || (size_t)seq >= e->kv.sequences)
			return bad_row(error, row, "no such sequence");
		if (b->token[row] < 0 || (size_t)b->token[row] >= e->config.vocab)
			return bad_row(error, row, "token outside the vocabulary");
		if (parent < -1 || parent >= (int32_t)row || (parent >= 0 && b->seq[parent] != seq))
			return bad_row(error, row, "parent must be an earlier row of the same sequence, or -1");
		size_t committed = e->kv.length[seq];
		size_t expected = parent >= 0 ? (size_t)b->pos[parent] + 1 : committed;
		if (b->pos[row] < 0 || (size_t)b->pos[row] != expected)
			return bad_row(error, row, "position must follow its parent's, or the committed tokens");
		if (expected >= e->settings.max_context)
			return octavo_fail(error, OCTAVO_ELIMIT, "batch row %zu: position %zu, the context holds %zu tokens",
			                   row, expected, e->settings.max_context);
		size_t before = 0;
		for (size_t i = 0; i < row; i++)
			before += b->seq[i] == seq;
		g->sequence[row] = (size_t)seq;
		g->pos[row] = expected;
		g->slot[row] = committed + before;
		g->committed[row] = committed;
		g->naive[row] = !e->config.kv_heads && (b->flags[row] & OCTAVO_ROW_NAIVE);
		g->chained[row] = row > 0 && parent == (int32_t)row - 1;
		extend_path(g, row, parent);
	}
	return OCTAVO_OK;
}

/* ---- Drafters' rows ---------------------------------------------------------------------------------- */

enum octavo_status octavo_shares_check(const struct octavo_engine *e, const struct octavo_kv *kv,
                                       const struct octavo_share *shares, struct octavo_error *error)
{
	size_t rows = 0;
	for (const struct octavo_share *s = shares; s; s = s->beside) {
		size_t end = s->pos + s->rows + (s->parent ? s->first - 1 : 0);
		if (s->rows == 0 || end > kv->slots)
			return octavo_fail(error, OCTAVO_ELIMIT, "draft: %zu rows at position %zu do not fit", s->rows, s->pos);
		rows += s->rows;
	}
	return rows && rows <= e->settings.max_rows
	               ? OCTAVO_OK
	               : octavo_fail(error, OCTAVO_ELIMIT, "draft: %zu rows, the engine was opened for 1 to %zu", rows,
	                             e->settings.max_rows);
}

void octavo_geometry_begin(struct octavo_engine *e, struct octavo_kv *kv)
{
	e->geometry.kv = kv;
	e->geometry.rows = 0;
}

static void add_chain(struct octavo_geometry *g, const struct octavo_share *s, size_t from, size_t rows)
{
	for (size_t i = 0; i < rows; i++) {
		size_t row = g->rows++;
		g->sequence[row] = s->seq;
		g->pos[row] = g->slot[row] = s->pos + from + i;
		g->committed[row] = s->pos + from;
		g->naive[row] = 0;
		g->chained[row] = i > 0;
		extend_path(g, row, i ? (int32_t)row - 1 : -1);
	}
}

static void add_nodes(struct octavo_geometry *g, const struct octavo_share *s, size_t from, size_t rows)
{
	for (size_t i = s->first + from; i < s->first + from + rows; i++) {
		size_t row = g->rows++, depth = 0;
		for (size_t node = i; node; node = (size_t)s->parent[node])
			depth++;
		g->sequence[row] = s->seq;
		g->pos[row] = s->pos + depth - 1;
		g->slot[row] = s->pos + i - 1;
		g->committed[row] = s->pos;
		g->naive[row] = g->chained[row] = 0;
		for (size_t node = i; node; node = (size_t)s->parent[node])
			g->path[row * g->path_ld + --depth] = (uint32_t)(s->pos + node - 1);
	}
}

void octavo_geometry_add(struct octavo_engine *e, const struct octavo_share *s, size_t from, size_t rows)
{
	if (s->parent)
		add_nodes(&e->geometry, s, from, rows);
	else
		add_chain(&e->geometry, s, from, rows);
}

/* ---- Drafters' caches -------------------------------------------------------------------------------- */

enum octavo_status octavo_kv_open(struct octavo_kv *kv, const struct octavo_engine *e, size_t layers,
                                  struct octavo_error *error)
{
	size_t bytes;
	*kv = (struct octavo_kv){ .sequences = e->kv.sequences, .layers = layers, .slots = e->kv.slots,
		                  .width = e->kv.width, .bytes = e->kv.bytes };
	int overflow = __builtin_mul_overflow(kv->slots * kv->bytes, layers, &bytes) ||
	               __builtin_mul_overflow(bytes, kv->sequences, &bytes) ||
	               __builtin_add_overflow(bytes, (size_t)OCTAVO_ALIGNMENT, &bytes);
	/* Zeroed: unused slots must hold finite values, and untouched pages cost nothing. */
	kv->memory = overflow ? NULL : calloc(1, bytes);
	if (!kv->memory)
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory for a cache of %zu layers and %zu sequences", layers,
		                   kv->sequences);
	kv->data = (unsigned char *)octavo_aligned(kv->memory);
	return OCTAVO_OK;
}

void octavo_kv_close(struct octavo_kv *kv)
{
	free(kv->memory);
	kv->memory = NULL;
}

/* ---- The rows' contents ---------------------------------------------------------------------------- */

void octavo_kv_store(const struct octavo_engine *e, size_t layer, size_t row, const float *x)
{
	const struct octavo_geometry *g = &e->geometry;
	unsigned char *entry = octavo_kv_slots(g->kv, g->sequence[row], layer) + g->slot[row] * g->kv->bytes;
	if (e->settings.kv == OCTAVO_KV_FP8)
		octavo_kv_row_write(e->k, entry, x, e->config.kv_lora, e->config.rope);
	else
		e->k->round->run((uint16_t *)(void *)entry, x, g->kv->width);
}

/* ---- Commit and rewind ------------------------------------------------------------------------------- */

static void move_slot(struct octavo_engine *e, size_t seq, size_t to, size_t from)
{
	for (size_t layer = 0; layer < e->config.layers && to != from; layer++) {
		unsigned char *slots = octavo_kv_slots(&e->kv, seq, layer);
		memcpy(slots + to * e->kv.bytes, slots + from * e->kv.bytes, e->kv.bytes);
	}
}

enum octavo_status octavo_commit(struct octavo_engine *e, int32_t seq, const uint32_t *row, size_t count,
                                 struct octavo_error *error)
{
	if (!e || seq < 0 || (size_t)seq >= e->kv.sequences || (count && !row))
		return octavo_fail(error, OCTAVO_EINVAL, "commit: no such sequence");
	size_t committed = e->kv.length[seq];
	int32_t parent = -1;
	for (size_t i = 0; i < count; i++) {
		if (row[i] >= e->last_rows || e->last_seq[row[i]] != seq || e->last_parent[row[i]] != parent ||
		    e->last_pos[row[i]] != committed + i)
			return octavo_fail(error, OCTAVO_EINVAL,
			                   "commit: row %u is not the next of a path of the last forward", row[i]);
		parent = (int32_t)row[i];
	}
	/* Slots ascend along a path and never lie before their target: moving in order overwrites nothing needed. */
	for (size_t i = 0; i < count; i++)
		move_slot(e, (size_t)seq, committed + i, e->geometry.slot[row[i]]);
	e->kv.length[seq] = committed + count;
	for (size_t i = 0; i < e->last_rows; i++) /* the rest of this forward is gone */
		if (e->last_seq[i] == seq)
			e->last_seq[i] = -1;
	return OCTAVO_OK;
}

void octavo_commit_nodes(struct octavo_engine *e, size_t seq, const size_t *node, size_t count)
{
	size_t committed = e->kv.length[seq];
	for (size_t i = 0; i < count; i++)
		move_slot(e, seq, committed + i, committed + node[i] - 1);
	e->kv.length[seq] = committed + count;
}

enum octavo_status octavo_rewind(struct octavo_engine *e, int32_t seq, size_t length, struct octavo_error *error)
{
	if (!e || seq < 0 || (size_t)seq >= e->kv.sequences || length > e->kv.length[seq])
		return octavo_fail(error, OCTAVO_EINVAL, "rewind: no such sequence, or longer than it is");
	e->kv.length[seq] = length;
	for (size_t i = 0; i < e->last_rows; i++)
		if (e->last_seq[i] == seq)
			e->last_seq[i] = -1;
	return OCTAVO_OK;
}

size_t octavo_sequence_length(const struct octavo_engine *e, int32_t seq)
{
	return e && seq >= 0 && (size_t)seq < e->kv.sequences ? e->kv.length[seq] : 0;
}
