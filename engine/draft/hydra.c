/* SPDX-License-Identifier: Apache-2.0
 *
 * Hydra (Ankner et al., arXiv 2402.05109): Medusa's heads made to depend on one another.  Head i sees the newest hidden
 * state and the embeddings of the root and of the i tokens drafted below it, so that in a tree what follows a node is
 * chosen for the path to it.  A level of the tree is one run of its head.
 */
#include "engine/draft/growth.h"
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
static void lay_inputs(struct octavo_heads_drafter *d, const struct octavo_growth *growth)
{
	size_t hidden = d->engine->config.hidden, width = (growth->depth + 2) * hidden;
	for (size_t node = growth->first; node < growth->rows; node++) {
		float *in = d->in + (node - growth->first) * width;
		octavo_embed(d->engine, growth->token[node], d->embedded + node * hidden);
		memcpy(in, d->hidden, hidden * sizeof *in);
		size_t at = node;
		for (unsigned i = growth->depth + 1; i; i--, at = (size_t)growth->parent[at])
			memcpy(in + i * hidden, d->embedded + at * hidden, hidden * sizeof *in);
	}
}

static enum octavo_status draft_hydra(struct octavo_drafter *drafter, const struct octavo_shape *shape,
                                      struct octavo_tree *tree, struct octavo_error *error)
{
	struct octavo_heads_drafter *d = (struct octavo_heads_drafter *)drafter;
	const struct octavo_engine *e = d->engine;
	struct octavo_shape mine = octavo_heads_shape(d, shape, tree);
	struct octavo_growth growth;
	(void)error;
	if (!mine.depth)
		return OCTAVO_OK;
	octavo_growth_begin(&growth, tree);
	do {
		lay_inputs(d, &growth);
		octavo_heads_run(d, growth.depth, 1, growth.rows - growth.first);
	} while (octavo_growth_next(&growth, &mine, tree, e->mtp_logits, e->config.vocab, e->choosable));
	return OCTAVO_OK;
}

const struct octavo_drafter_ops octavo_drafter_hydra = {
	.name = "hydra", .open = open_hydra, .close = octavo_heads_close, .begin = octavo_heads_begin,
	.commit = octavo_heads_commit, .draft = draft_hydra, .argument = OCTAVO_OWN_DIRECTORY,
};
