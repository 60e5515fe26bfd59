/* SPDX-License-Identifier: Apache-2.0
 *
 * Medusa (Cai et al., arXiv 2401.10774, section 2.1): independent heads on the newest hidden state, each for one more
 * token ahead.  They do not know one another's choices: in a tree all nodes of a depth get the same candidates, which is
 * the Cartesian product of the heads' best (or drawn) tokens.  All heads run at once.
 */
#include "engine/draft/growth.h"
#include "engine/draft/heads.h"

#include <string.h>

static enum octavo_status open_medusa(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                      const char *dir, struct octavo_error *error)
{
	static const struct octavo_heads_format format = {
		{ "medusa", sizeof(struct octavo_heads), octavo_heads_load, NULL },
		"medusa", "medusa_num_heads", "medusa_num_layers", 0,
	};
	(void)sequence;
	return octavo_heads_open(out, &octavo_drafter_medusa, &format, e, dir, error);
}

static enum octavo_status draft_medusa(struct octavo_drafter *drafter, const struct octavo_shape *shape,
                                       struct octavo_tree *tree, struct octavo_error *error)
{
	struct octavo_heads_drafter *d = (struct octavo_heads_drafter *)drafter;
	const struct octavo_engine *e = d->engine;
	const float *logits = e->mtp_logits;
	size_t hidden = e->config.hidden, vocab = e->config.vocab;
	struct octavo_shape mine = octavo_heads_shape(d, shape, tree);
	struct octavo_growth growth;
	(void)error;
	if (!mine.depth)
		return OCTAVO_OK;
	for (unsigned i = 0; i < mine.depth; i++)
		memcpy(d->in + i * hidden, d->hidden, hidden * sizeof *d->in);
	octavo_heads_run(d, 0, mine.depth, 1);
	octavo_growth_begin(&growth, tree);
	while (octavo_growth_next(&growth, &mine, tree, logits, 0, e->choosable))
		logits += vocab;
	return OCTAVO_OK;
}

const struct octavo_drafter_ops octavo_drafter_medusa = {
	.name = "medusa", .open = open_medusa, .close = octavo_heads_close, .begin = octavo_heads_begin,
	.commit = octavo_heads_commit, .draft = draft_medusa, .argument = OCTAVO_OWN_DIRECTORY,
};
