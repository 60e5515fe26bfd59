/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafts of many sessions, made together: whatever rows drafters of one crew have to run meet in one forward, up
 * to what it holds, whether they catch up with a prompt or go on from a depth.  A row has the same bits in any
 * company, so a draft is what it would be alone.
 */
#include "engine/draft/drafter.h"

/* ns since *at, which becomes now. */
static uint64_t lap(uint64_t *at)
{
	uint64_t then = *at;
	*at = octavo_now_ns();
	return *at - then;
}

static void swap(struct octavo_drafting **a, struct octavo_drafting **b)
{
	struct octavo_drafting *other = *a;
	*a = *b;
	*b = other;
}

static void keep_first(enum octavo_status *first, enum octavo_status status)
{
	if (*first == OCTAVO_OK)
		*first = status;
}

/* Moves those that go on to the front; returns how many. */
static size_t unfinished(struct octavo_drafting **d, size_t count)
{
	size_t found = 0;
	for (size_t i = 0; i < count; i++)
		if (d[i]->share.rows)
			swap(&d[found++], &d[i]);
	return found;
}

/* Moves those to the front that are run with the first: of its crew, as many as fit; returns how many. */
static size_t gather(struct octavo_drafting **d, size_t count)
{
	const struct octavo_drafter *first = d[0]->drafter;
	size_t found = 0, rows = 0;
	for (size_t i = 0; i < count; i++) {
		size_t more = octavo_larger(d[i]->share.rows, d[i]->share.heads) + d[i]->more.rows;
		if (d[i]->drafter->crew != first->crew || (found && rows + more > first->crew_rows))
			continue;
		rows += more;
		swap(&d[found++], &d[i]);
	}
	return found;
}

/* Gives source after source its turn, until one has rows to run or has drafted. */
static enum octavo_status take_turns(struct octavo_drafting *d, struct octavo_error *error)
{
	while (d->status == OCTAVO_OK && !d->share.rows && d->tree->rows == 1 && d->turns < d->whole->sources) {
		unsigned source = d->turns++;
		d->drafter = d->whole->pair[source] ? d->whole->pair[source] : d->whole;
		d->shape = &d->shapes[source];
		d->share = d->more = (struct octavo_share){ 0 };
		d->tree->source = source;
		d->status = d->drafter->ops->draft(d, error);
	}
	if (d->status != OCTAVO_OK)
		d->share.rows = 0;
	return d->status;
}

/* One forward, and what comes of it. */
static enum octavo_status step(struct octavo_drafting **d, size_t count, struct octavo_error *error)
{
	uint64_t at = octavo_now_ns();
	enum octavo_status status = d[0]->drafter->ops->run(d, count, error), first = status;
	uint64_t ns = lap(&at);
	for (size_t i = 0; i < count; i++) {
		d[i]->status = status;
		if (status == OCTAVO_OK)
			d[i]->drafter->ops->grow(d[i]);
		keep_first(&first, take_turns(d[i], first == OCTAVO_OK ? error : NULL));
		d[i]->ns += ns / count + lap(&at);
	}
	return first;
}

enum octavo_status octavo_draft_together(struct octavo_drafting **d, size_t count, struct octavo_error *error)
{
	enum octavo_status first = OCTAVO_OK;
	uint64_t at = octavo_now_ns();
	for (size_t i = 0; i < count; i++) {
		d[i]->turns = 0;
		d[i]->share.rows = 0;
		d[i]->status = OCTAVO_OK;
		keep_first(&first, take_turns(d[i], first == OCTAVO_OK ? error : NULL));
		d[i]->ns = lap(&at);
	}
	while ((count = unfinished(d, count)))
		keep_first(&first, step(d, gather(d, count), first == OCTAVO_OK ? error : NULL));
	return first;
}

enum octavo_status octavo_draft(struct octavo_drafter *drafter, const struct octavo_shape *shape,
                                struct octavo_tree *tree, struct octavo_error *error)
{
	struct octavo_drafting one = { .whole = drafter, .tree = tree }, *d = &one;
	for (unsigned i = 0; i < drafter->sources; i++)
		one.shapes[i] = shape[i];
	return octavo_draft_together(&d, 1, error);
}

struct octavo_share *octavo_draft_shares(struct octavo_drafting **d, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct octavo_share *next = i + 1 < count ? &d[i + 1]->share : NULL;
		d[i]->share.beside = d[i]->more.rows ? &d[i]->more : next;
		d[i]->more.beside = next;
		d[i]->share.draftable = d[i]->more.draftable = d[i]->draftable;
	}
	return &d[0]->share;
}
