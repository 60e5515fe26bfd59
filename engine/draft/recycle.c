/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/recycle.h"

#include "engine/draft/growth.h"

#include <string.h>

/* Afterwards the engine holds the last waiting row's state and logits. */
static enum octavo_status catch_up(struct octavo_follower *f, const struct octavo_shape *shape, struct octavo_error *error)
{
	const struct octavo_recycler *d = (const struct octavo_recycler *)f;
	struct octavo_mtp_batch b = { .kv = f->kv, .layer = f->layer, .seq = f->sequence, .pos = f->valid, .rows = f->waiting,
		                      .next = f->next, .g = f->g, .logits_from = f->waiting - 1 };
	(void)shape;
	return octavo_mtp_forward(f->engine, d->module, &b, error);
}

enum octavo_status octavo_recycler_open(struct octavo_recycler **out, const struct octavo_drafter_ops *ops,
                                        const struct octavo_mtp *module, struct octavo_engine *e, size_t sequence,
                                        size_t layers, struct octavo_error *error)
{
	struct octavo_follower *f;
	enum octavo_status status = octavo_follower_open(&f, ops, sizeof **out, e, sequence, layers, error);
	if (status != OCTAVO_OK)
		return status;
	f->catch_up = catch_up;
	*out = (struct octavo_recycler *)f;
	(*out)->module = module;
	return OCTAVO_OK;
}

/* Runs the module over the growth's last level, each node with the state of its parent. */
static enum octavo_status run_level(struct octavo_recycler *d, const struct octavo_growth *growth,
                                    struct octavo_error *error)
{
	struct octavo_follower *f = &d->base;
	struct octavo_engine *e = f->engine;
	size_t hidden = e->config.hidden, first = growth->first;
	const float *recycled = e->mtp_hidden[d->recycled]; /* of the level above */
	for (size_t node = first; node < growth->rows; node++)
		memcpy(f->g + (node - first) * hidden, recycled + ((size_t)growth->parent[node] - growth->above) * hidden,
		       hidden * sizeof *f->g);
	struct octavo_mtp_batch b = { .kv = f->kv, .layer = f->layer, .seq = f->sequence, .pos = f->valid,
		                      .rows = growth->rows - first, .next = growth->token + first, .g = f->g,
		                      .parent = growth->parent, .first = first };
	return octavo_mtp_forward(e, d->module, &b, error);
}

enum octavo_status octavo_recycler_draft(struct octavo_drafter *drafter, const struct octavo_shape *shape,
                                         struct octavo_tree *tree, struct octavo_error *error)
{
	struct octavo_recycler *d = (struct octavo_recycler *)drafter;
	const struct octavo_engine *e = d->base.engine;
	struct octavo_growth growth;
	int ready;
	octavo_growth_begin(&growth, tree);
	enum octavo_status status = octavo_follower_catch_up(&d->base, shape, &ready, error);
	while (status == OCTAVO_OK && ready &&
	       octavo_growth_next(&growth, shape, tree, e->mtp_logits, e->config.vocab, e->choosable))
		status = run_level(d, &growth, error);
	return status;
}
