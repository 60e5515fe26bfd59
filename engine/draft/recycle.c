/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/recycle.h"

#include <stdlib.h>
#include <string.h>

static enum octavo_status forward(const struct octavo_follower *f, struct octavo_share *shares,
                                  struct octavo_error *error)
{
	const struct octavo_recycler *r = (const struct octavo_recycler *)f;
	const struct octavo_modules *m = &r->modules;
	return octavo_mtp_forward(f->engine, &m->module[r->at], m->kv, m->layer + r->at, shares, error);
}

/* ---- Rows of true states ----------------------------------------------------------------------------------------- */

/* Where module `m` ends when it has caught up: behind the last position whose token for it is known. */
static size_t end_of(const struct octavo_recycler *r, size_t m)
{
	size_t committed = r->base.valid + r->base.waiting;
	return committed > m ? committed - m : 0;
}

/* The rows that module `m` can make, the one before having caught up.  Those of the last module leave nothing that is
 * needed, the others' states. */
static struct octavo_share true_rows(const struct octavo_recycler *r, size_t m)
{
	const struct octavo_follower *f = &r->base;
	size_t first = r->made[m], rows = end_of(r, m) - first;
	int last = m + 1 == r->modules.count;
	return (struct octavo_share){ .seq = f->sequence, .pos = first, .rows = rows, .token = f->text + first + 1 + m,
		                          .state = f->g + (first - f->valid) * f->engine->config.hidden,
		                          .quiet = last ? rows : 0, .mute = last ? 0 : rows };
}

/* The present module has made them: their states wait for the next, or no longer. */
static void keep_true_rows(struct octavo_recycler *r, const struct octavo_share *share)
{
	struct octavo_follower *f = &r->base;
	size_t hidden = f->engine->config.hidden, first = r->made[r->at] - f->valid;
	const float *left = f->engine->mtp_hidden[r->recycled] + share->left * hidden;
	r->made[r->at] += share->rows;
	if (share->rows > share->quiet) /* the root's is the last */
		memcpy(r->state, left + (share->rows - share->quiet - 1) * hidden, hidden * sizeof *left);
	if (r->at + 1 < r->modules.count) {
		memcpy(f->g + first * hidden, left, share->rows * hidden * sizeof *left);
		return;
	}
	f->valid += share->rows;
	f->waiting -= share->rows;
	memmove(f->g, f->g + share->rows * hidden, f->waiting * hidden * sizeof *f->g);
}

/* Module after module. */
static enum octavo_status catch_up(struct octavo_follower *f, struct octavo_error *error)
{
	struct octavo_recycler *r = (struct octavo_recycler *)f;
	for (size_t m = 0; m < r->modules.count; m++) {
		struct octavo_share share = true_rows(r, m);
		if (!share.rows)
			continue;
		r->at = m;
		enum octavo_status status = forward(f, &share, error);
		if (status != OCTAVO_OK)
			return status;
		keep_true_rows(r, &share);
	}
	return OCTAVO_OK;
}

/* ---- Open, close, begin ------------------------------------------------------------------------------------------ */

enum octavo_status octavo_recycler_open(struct octavo_recycler **out, const struct octavo_drafter_ops *ops,
                                        const struct octavo_modules *modules, struct octavo_engine *e, size_t sequence,
                                        struct octavo_error *error)
{
	struct octavo_follower *f;
	enum octavo_status status = octavo_follower_open(&f, ops, sizeof **out, e, sequence, modules->kv,
	                                                 modules->count - 1, error);
	if (status != OCTAVO_OK)
		return status;
	struct octavo_recycler *r = (struct octavo_recycler *)f;
	f->forward = forward;
	f->catch_up = catch_up;
	r->modules = *modules;
	r->state = calloc(OCTAVO_MAX_DRAFT * e->config.hidden, sizeof *r->state);
	if (!r->state) {
		octavo_recycler_close(&f->base);
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory");
	}
	*out = r;
	return OCTAVO_OK;
}

void octavo_recycler_close(struct octavo_drafter *drafter)
{
	free(((struct octavo_recycler *)drafter)->state);
	octavo_follower_close(drafter);
}

void octavo_recycler_begin(struct octavo_drafter *drafter, const int32_t *text)
{
	struct octavo_recycler *r = (struct octavo_recycler *)drafter;
	octavo_follower_begin(drafter, text);
	memset(r->made, 0, sizeof r->made);
}

/* ---- Levels ------------------------------------------------------------------------------------------------------ */

/* How many modules have a row of the root's token: in a text shorter than there are modules, not all.  So many levels
 * of a draft have a module of their own; those below share the last of these. */
static size_t levels(const struct octavo_recycler *r)
{
	size_t committed = end_of(r, 0);
	return committed < r->modules.count ? committed : r->modules.count;
}

/* The first of the nodes that the last level's forward takes: all below the root, of which its module has no rows yet,
 * or those of the level alone. */
static size_t first_node(const struct octavo_recycler *r)
{
	return r->growth.depth < levels(r) ? 1 : r->growth.first;
}

/* The states of nodes above the last level are for the next one's module, if it is another. */
static struct octavo_share nodes_of(const struct octavo_recycler *r, const struct octavo_shape *shape)
{
	const struct octavo_growth *growth = &r->growth;
	size_t first = first_node(r), above = growth->first - first, next = growth->depth + 1;
	int go_on = next < levels(r) && next < shape->depth;
	return (struct octavo_share){ .seq = r->base.sequence, .pos = end_of(r, r->at), .rows = growth->rows - first,
		                          .token = growth->token + first, .parent = growth->parent, .first = first,
		                          .state = r->state + first * r->base.engine->config.hidden,
		                          .quiet = go_on ? 0 : above, .mute = go_on ? above : 0 };
}

/* The rows of the growth's last level, in the level's module: behind the true rows, which end with the root's.  Where
 * they do not all fit a forward, the true rows go first. */
static void ask(struct octavo_drafting *d)
{
	struct octavo_recycler *r = (struct octavo_recycler *)d->drafter;
	size_t depth = r->growth.depth, last = levels(r) - 1;
	r->at = depth < last ? depth : last;
	r->base.base.crew = &r->modules.module[r->at];
	d->more = (struct octavo_share){ 0 };
	d->share = true_rows(r, r->at);
	if (!depth) { /* the root's law is wanted */
		d->share.quiet -= d->share.quiet > 0;
		d->share.mute -= d->share.mute > 0;
		return;
	}
	struct octavo_share nodes = nodes_of(r, d->shape);
	if (!d->share.rows)
		d->share = nodes;
	else if (d->share.rows + nodes.rows <= r->base.base.crew_rows)
		d->more = nodes;
}

/* The draft begins behind the last true row. */
enum octavo_status octavo_recycler_draft(struct octavo_drafting *d, struct octavo_error *error)
{
	struct octavo_recycler *r = (struct octavo_recycler *)d->drafter;
	(void)error;
	if (!d->shape->depth || r->made[0] == end_of(r, 0))
		return OCTAVO_OK;
	octavo_growth_begin(&r->growth, d->tree);
	ask(d);
	return OCTAVO_OK;
}

/* What nodes left, to their places. */
static void keep_nodes(struct octavo_recycler *r, const struct octavo_share *share)
{
	const struct octavo_engine *e = r->base.engine;
	size_t hidden = e->config.hidden;
	memcpy(r->state + (share->first + share->quiet) * hidden, e->mtp_hidden[r->recycled] + share->left * hidden,
	       (share->rows - share->quiet) * hidden * sizeof *r->state);
}

/* The nodes to be run next get what their parents left.  Those come before them, so that none is lost. */
static void hand_down(struct octavo_recycler *r)
{
	size_t hidden = r->base.engine->config.hidden;
	for (size_t node = r->growth.rows, first = first_node(r); node-- > first;)
		memcpy(r->state + node * hidden, r->state + (size_t)r->growth.parent[node] * hidden,
		       hidden * sizeof *r->state);
}

void octavo_recycler_grow(struct octavo_drafting *d)
{
	struct octavo_recycler *r = (struct octavo_recycler *)d->drafter;
	const struct octavo_engine *e = r->base.engine;
	const struct octavo_share *heard = d->more.rows ? &d->more : &d->share;
	if (!d->share.parent)
		keep_true_rows(r, &d->share);
	if (heard->parent)
		keep_nodes(r, heard);
	if (heard->laws) {
		const float *logits = e->mtp_logits + heard->result * e->config.vocab;
		if (!octavo_growth_next(&r->growth, d->shape, d->tree, logits, e->config.vocab, e->choosable)) {
			d->share = d->more = (struct octavo_share){ 0 };
			return;
		}
		hand_down(r);
	}
	ask(d);
}
