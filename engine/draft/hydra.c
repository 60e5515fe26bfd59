/* SPDX-License-Identifier: Apache-2.0
 *
 * Hydra (Ankner et al., arXiv 2402.05109): Medusa's heads made to depend on one another.  Head i sees the newest hidden
 * state and the embeddings of the root and of the i tokens drafted below it, so that in a tree what follows a node is
 * chosen for the path to it.  A level of the tree is one run of its head.
 */
#include "engine/draft/heads.h"

#include <string.h>

static enum octavo_status open_hydra(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                     const char *dir, struct octavo_error *error)
{
	static const struct octavo_heads_format format = {
		{ "hydra", sizeof(struct octavo_heads), octavo_heads_load, NULL },
		"hydra", "hydra_num_heads", "hydra_num_layers", 1,
	};
	(void)sequence;
	return octavo_heads_open(out, &octavo_drafter_hydra, &format, e, dir, error);
}

/* What its head sees of the growth's last level: hidden state | root | … | the node's own token. */
static float *lay_inputs(struct octavo_heads_drafter *d, float *in)
{
	const struct octavo_growth *growth = &d->growth;
	size_t hidden = d->engine->config.hidden;
	for (size_t node = growth->first; node < growth->rows; node++) {
		octavo_embed(d->engine, growth->token[node], d->embedded + node * hidden);
		memcpy(in, d->hidden, hidden * sizeof *in);
		size_t at = node;
		for (unsigned i = growth->depth + 1; i; i--, at = (size_t)growth->parent[at])
			memcpy(in + i * hidden, d->embedded + at * hidden, hidden * sizeof *in);
		in += (growth->depth + 2) * hidden;
	}
	return in;
}

static enum octavo_status draft_hydra(struct octavo_drafting *d, struct octavo_error *error)
{
	struct octavo_heads_drafter *drafter = (struct octavo_heads_drafter *)d->drafter;
	(void)error;
	if (!octavo_heads_shape(drafter, d->shape, d->tree).depth)
		return OCTAVO_OK;
	octavo_growth_begin(&drafter->growth, d->tree);
	d->share.rows = 1;
	return OCTAVO_OK;
}

static enum octavo_status run_hydra(struct octavo_drafting **d, size_t count, struct octavo_error *error)
{
	struct octavo_heads *h = ((struct octavo_heads_drafter *)d[0]->drafter)->heads;
	size_t rows[OCTAVO_MAX_K] = { 0 };
	const struct octavo_draftable **draftable = h->draftable;
	float *in = h->in;
	(void)error;
	for (size_t head = 0; head < OCTAVO_MAX_K; head++)
		for (size_t i = 0; i < count; i++) {
			struct octavo_heads_drafter *drafter = (struct octavo_heads_drafter *)d[i]->drafter;
			if (drafter->growth.depth != head)
				continue;
			in = lay_inputs(drafter, in);
			d[i]->share.result = rows[head];
			rows[head] += d[i]->share.rows;
			for (size_t row = 0; row < d[i]->share.rows; row++)
				*draftable++ = d[i]->draftable;
		}
	octavo_heads_run(h, rows);
	return OCTAVO_OK;
}

static void grow_hydra(struct octavo_drafting *d)
{
	struct octavo_heads_drafter *drafter = (struct octavo_heads_drafter *)d->drafter;
	const struct octavo_engine *e = drafter->engine;
	struct octavo_growth *growth = &drafter->growth;
	struct octavo_shape mine = octavo_heads_shape(drafter, d->shape, d->tree);
	d->share.rows = octavo_growth_next(growth, &mine, d->tree, octavo_heads_logits(d, growth->depth), e->config.vocab,
	                                   e->choosable);
}

const struct octavo_drafter_ops octavo_drafter_hydra = {
	.name = "hydra", .laws = 1, .open = open_hydra, .close = octavo_heads_close, .begin = octavo_heads_begin,
	.commit = octavo_heads_commit, .draft = draft_hydra, .run = run_hydra, .grow = grow_hydra,
	.argument = OCTAVO_OWN_DIRECTORY,
};
