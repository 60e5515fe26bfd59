/* SPDX-License-Identifier: Apache-2.0
 *
 * Medusa (Cai et al., arXiv 2401.10774, section 2.1): independent heads on the newest hidden state, each for one more
 * token ahead.  They do not know one another's choices: in a tree all nodes of a depth get the same candidates,
 * which is the Cartesian product of the heads' best (or drawn) tokens.  All heads run at once.
 */
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

/* One row of each head, as far as the draft is to go. */
static enum octavo_status draft_medusa(struct octavo_drafting *d, struct octavo_error *error)
{
	(void)error;
	d->share.rows = octavo_heads_shape((struct octavo_heads_drafter *)d->drafter, d->shape, d->tree).depth;
	return OCTAVO_OK;
}

/* The deepest drafts come first, so that a draft has the same row of every head. */
static void sort(struct octavo_drafting **d, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		struct octavo_drafting *one = d[i];
		size_t at = i;
		for (; at && d[at - 1]->share.rows < one->share.rows; at--)
			d[at] = d[at - 1];
		d[at] = one;
	}
}

static enum octavo_status run_medusa(struct octavo_drafting **d, size_t count, struct octavo_error *error)
{
	struct octavo_heads *h = ((struct octavo_heads_drafter *)d[0]->drafter)->heads;
	size_t rows[OCTAVO_MAX_K] = { 0 }, hidden = h->engine->config.hidden;
	const struct octavo_draftable **draftable = h->draftable;
	float *in = h->in;
	(void)error;
	sort(d, count);
	for (size_t head = 0; head < d[0]->share.rows; head++)
		for (size_t i = 0; i < count && d[i]->share.rows > head; i++) {
			d[i]->share.result = i;
			memcpy(in, ((const struct octavo_heads_drafter *)d[i]->drafter)->hidden, hidden * sizeof *in);
			in += hidden;
			*draftable++ = d[i]->draftable;
			rows[head]++;
		}
	octavo_heads_run(h, rows);
	return OCTAVO_OK;
}

static void grow_medusa(struct octavo_drafting *d)
{
	struct octavo_heads_drafter *drafter = (struct octavo_heads_drafter *)d->drafter;
	struct octavo_growth *growth = &drafter->growth;
	struct octavo_shape mine = octavo_heads_shape(drafter, d->shape, d->tree);
	octavo_growth_begin(growth, d->tree);
	while (octavo_growth_next(growth, &mine, d->tree, octavo_heads_logits(d, growth->depth), 0,
	                          drafter->engine->choosable))
		;
	d->share.rows = 0;
}

const struct octavo_drafter_ops octavo_drafter_medusa = {
	.name = "medusa", .laws = 1, .at_once = 1, .open = open_medusa, .close = octavo_heads_close,
	.begin = octavo_heads_begin, .commit = octavo_heads_commit, .draft = draft_medusa, .run = run_medusa, .grow = grow_medusa,
	.argument = OCTAVO_OWN_DIRECTORY,
};
