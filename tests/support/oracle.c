/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/oracle.h"

static uint32_t any(struct oracle *o, uint32_t below)
{
	o->state = o->state * 1664525u + 1013904223u;
	return (o->state >> 8) % below;
}

static void close_oracle(struct octavo_drafter *drafter)
{
	octavo_drafter_close(&((struct oracle *)drafter)->inner);
}

static void begin_oracle(struct octavo_drafter *drafter, const int32_t *text)
{
	struct octavo_drafter *inner = ((struct oracle *)drafter)->inner;
	inner->ops->begin(inner, text);
}

static enum octavo_status commit_oracle(struct octavo_drafter *drafter, size_t pos, const uint32_t *row, size_t count,
                                        struct octavo_error *error)
{
	struct oracle *o = (struct oracle *)drafter;
	o->pos = pos + count;
	return o->inner->ops->commit(o->inner, pos, row, count, error);
}

static void hide_truth(struct oracle *o, const struct octavo_shape *shape, struct octavo_tree *tree)
{
	size_t depth = 0, room = 1 + any(o, 20), at = 0;
	while (tree->rows < room) {
		size_t row = any(o, (uint32_t)tree->rows);
		size_t next = o->pos + depth + 1;
		int truth = any(o, 3) == 0;
		if (truth && depth < shape->depth && next < o->length) {
			at = octavo_tree_child(tree, at, o->truth[next], 64);
			depth++;
		} else if (octavo_tree_depth(tree, row) < shape->depth) {
			octavo_tree_child(tree, row, (int32_t)any(o, 250), 64);
		} else {
			break;
		}
	}
}

static enum octavo_status draft_oracle(struct octavo_drafting *d, struct octavo_error *error)
{
	struct oracle *o = (struct oracle *)d->drafter;
	struct octavo_tree unheard;
	octavo_tree_begin(&unheard, d->tree->token[0], d->tree->room, d->tree->chance);
	enum octavo_status status = octavo_draft(o->inner, d->shapes, &unheard, error);
	if (status == OCTAVO_OK)
		hide_truth(o, d->shape, d->tree);
	return status;
}

void oracle_take(struct oracle *oracle, struct octavo_session *session, const int32_t *truth, size_t length,
                 uint32_t seed)
{
	static const struct octavo_drafter_ops ops = { .name = "oracle", .close = close_oracle, .begin = begin_oracle,
		                                         .commit = commit_oracle, .draft = draft_oracle };
	*oracle = (struct oracle){ { .ops = &ops, .sources = 1 }, session->drafter, truth, length, 0, seed };
	session->drafter = &oracle->base;
}
