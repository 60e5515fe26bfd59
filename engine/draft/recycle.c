/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/recycle.h"

#include <string.h>

static enum octavo_status forward(const struct octavo_follower *f, struct octavo_share *shares,
                                  struct octavo_error *error)
{
	const struct octavo_recycler *r = (const struct octavo_recycler *)f;
	return octavo_mtp_forward(f->engine, r->module, f->kv, r->layer, shares, error);
}

enum octavo_status octavo_recycler_open(struct octavo_recycler **out, const struct octavo_drafter_ops *ops,
                                        const struct octavo_mtp *module, struct octavo_engine *e, size_t sequence,
                                        struct octavo_kv *kv, size_t layer, struct octavo_error *error)
{
	struct octavo_follower *f;
	enum octavo_status status = octavo_follower_open(&f, ops, sizeof **out, e, sequence, kv, module, error);
	if (status != OCTAVO_OK)
		return status;
	f->forward = forward;
	*out = (struct octavo_recycler *)f;
	(*out)->module = module;
	(*out)->layer = layer;
	return OCTAVO_OK;
}

/* The draft begins behind the last waiting row. */
enum octavo_status octavo_recycler_draft(struct octavo_drafting *d, struct octavo_error *error)
{
	struct octavo_recycler *r = (struct octavo_recycler *)d->drafter;
	(void)error;
	if (!d->shape->depth || !r->base.waiting)
		return OCTAVO_OK;
	octavo_growth_begin(&r->growth, d->tree);
	d->share = octavo_follower_share(&r->base);
	d->share.quiet = d->share.rows - 1;
	return OCTAVO_OK;
}

/* The growth's last level, each node with the state that its parent left behind row `result` of the last forward. */
static struct octavo_share next_level(struct octavo_recycler *r, size_t result)
{
	struct octavo_follower *f = &r->base;
	const struct octavo_growth *growth = &r->growth;
	const struct octavo_engine *e = f->engine;
	size_t hidden = e->config.hidden, first = growth->first;
	const float *recycled = e->mtp_hidden[r->recycled] + result * hidden; /* of the level above */
	for (size_t node = first; node < growth->rows; node++)
		memcpy(f->g + (node - first) * hidden, recycled + ((size_t)growth->parent[node] - growth->above) * hidden,
		       hidden * sizeof *f->g);
	return (struct octavo_share){ .seq = f->sequence, .pos = f->valid, .rows = growth->rows - first,
		                          .token = growth->token + first, .state = f->g, .parent = growth->parent,
		                          .first = first };
}

void octavo_recycler_grow(struct octavo_drafting *d)
{
	struct octavo_recycler *r = (struct octavo_recycler *)d->drafter;
	const struct octavo_engine *e = r->base.engine;
	const float *logits = e->mtp_logits + d->share.result * e->config.vocab;
	octavo_follower_caught_up(&r->base); /* if the last forward was not a level's */
	size_t rows = octavo_growth_next(&r->growth, d->shape, d->tree, logits, e->config.vocab, e->choosable);
	d->share = rows ? next_level(r, d->share.result) : (struct octavo_share){ 0 };
}
