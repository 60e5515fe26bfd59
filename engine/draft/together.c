/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafts of many sessions, made together: whatever rows drafters of one crew have to run meet in one forward, up to what it
 * holds, whether they catch up with a prompt or go on from a depth.  A row has the same bits in any company, so a draft is
 * what it would be alone.
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
		size_t more = octavo_larger(d[i]->share.rows, d[i]->share.heads);
		if (d[i]->drafter->crew != first->crew || (found && rows + more > first->crew_rows))
			continue;
		rows += more;
		swap(&d[found++], &d[i]);
	}
	return found;
}

/* One forward, and what comes of it. */
static enum octavo_status step(struct octavo_drafting **d, size_t count, struct octavo_error *error)
{
	uint64_t at = octavo_now_ns();
	enum octavo_status status = d[0]->drafter->ops->run(d, count, error);
	uint64_t ns = lap(&at);
	for (size_t i = 0; i < count; i++) {
		d[i]->ns += ns / count;
		d[i]->status = status;
		if (status == OCTAVO_OK)
			d[i]->drafter->ops->grow(d[i]);
		else
			d[i]->share.rows = 0;
		d[i]->ns += lap(&at);
	}
	return status;
}

/* Moves those to the front whose turn it is; returns how many. */
static size_t take_turns(struct octavo_drafting **d, size_t count, unsigned source)
{
	size_t found = 0;
	for (size_t i = 0; i < count; i++) {
		struct octavo_drafter *drafter = source ? NULL : d[i]->whole;
		if (d[i]->whole->pair[source])
			drafter = d[i]->whole->pair[source];
		/* The second drafts where the first has nothing to propose. */
		if (!drafter || d[i]->status != OCTAVO_OK || d[i]->tree->rows > 1)
			continue;
		d[i]->drafter = drafter;
		d[i]->shape = &d[i]->shapes[source];
		d[i]->tree->source = source;
		swap(&d[found++], &d[i]);
	}
	return found;
}

/* One turn of all of them. */
static enum octavo_status draft_all(struct octavo_drafting **d, size_t count, struct octavo_error *error)
{
	enum octavo_status first = OCTAVO_OK;
	uint64_t at = octavo_now_ns();
	for (size_t i = 0; i < count; i++) {
		d[i]->share = (struct octavo_share){ 0 };
		d[i]->status = d[i]->drafter->ops->draft(d[i], first == OCTAVO_OK ? error : NULL);
		if (d[i]->status != OCTAVO_OK)
			d[i]->share.rows = 0;
		if (first == OCTAVO_OK)
			first = d[i]->status;
		d[i]->ns += lap(&at);
	}
	while ((count = unfinished(d, count))) {
		enum octavo_status status = step(d, gather(d, count), first == OCTAVO_OK ? error : NULL);
		if (first == OCTAVO_OK)
			first = status;
	}
	return first;
}

enum octavo_status octavo_draft_together(struct octavo_drafting **d, size_t count, struct octavo_error *error)
{
	enum octavo_status first = OCTAVO_OK;
	for (size_t i = 0; i < count; i++) {
		d[i]->status = OCTAVO_OK;
		d[i]->ns = 0;
	}
	for (unsigned source = 0; source < OCTAVO_MAX_SOURCES; source++) {
		enum octavo_status status = draft_all(d, take_turns(d, count, source), first == OCTAVO_OK ? error : NULL);
		if (first == OCTAVO_OK)
			first = status;
	}
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
	for (size_t i = 0; i < count; i++)
		d[i]->share.beside = i + 1 < count ? &d[i + 1]->share : NULL;
	return &d[0]->share;
}
