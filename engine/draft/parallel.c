/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafting with parallel heads (Gloeckle et al., arXiv 2404.19737, section 2): all of them see the text up to the last
 * committed position and no draft, so the law at a depth is one for all nodes of that depth.
 *
 * Files: config.json of a model that attends as the main one does, with num_hidden_layers dense layers and as many
 * "parallel_heads"; model.layers.{i}.* as in the main checkpoint.
 */
#include "engine/draft/follow.h"
#include "engine/draft/growth.h"
#include "engine/draft/layers.h"

struct parallel {
	struct octavo_follower base;
	const struct octavo_draft_layers *heads;
};

static void read_parallel(struct octavo_fields *fields, const struct octavo_config *config)
{
	size_t heads = 0;
	octavo_field_size(fields, "parallel_heads", OCTAVO_REQUIRED, 1, OCTAVO_MAX_K, &heads);
	if (fields->status == OCTAVO_OK && heads != config->layers)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "parallel_heads", "%zu, but num_hidden_layers is %zu", heads,
		                   config->layers);
}

static const struct octavo_draft_layers_format format = {
	{ "parallel", sizeof(struct octavo_draft_layers), octavo_draft_layers_load, octavo_draft_layers_release },
	"model.layers", read_parallel, NULL, NULL,
};

static enum octavo_status forward(const struct octavo_follower *f, struct octavo_share *shares,
                                  struct octavo_error *error)
{
	const struct octavo_draft_layers *heads = ((const struct parallel *)f)->heads;
	return octavo_trunk_heads(f->engine, heads->layer, heads->count, f->kv, shares, error);
}

static enum octavo_status open_parallel(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                        const char *dir, struct octavo_error *error)
{
	struct octavo_draft_files *files;
	struct octavo_follower *f;
	enum octavo_status status = octavo_draft_files_open(&files, e, &format.base, dir, error);
	if (status != OCTAVO_OK)
		return status;
	struct octavo_draft_layers *heads = (struct octavo_draft_layers *)files;
	status = octavo_follower_open(&f, &octavo_drafter_parallel, sizeof(struct parallel), e, sequence, &heads->kv, 0,
	                              error);
	if (status != OCTAVO_OK)
		return status;
	((struct parallel *)f)->heads = heads;
	f->base.crew = heads;
	f->forward = forward;
	f->tap = OCTAVO_TAP_PRE_NORM;
	f->base.most[0] = (unsigned)heads->count;
	*out = &f->base;
	return OCTAVO_OK;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* All heads' rows, and as many of the laws behind the last as the draft is deep. */
static enum octavo_status draft_parallel(struct octavo_drafting *d, struct octavo_error *error)
{
	const struct octavo_follower *f = (const struct octavo_follower *)d->drafter;
	(void)error;
	if (!d->shape->depth)
		return OCTAVO_OK;
	d->share = octavo_follower_share(f);
	d->share.heads = least(d->shape->depth, least(f->base.most[0], d->tree->room - 1));
	return OCTAVO_OK;
}

static void grow_parallel(struct octavo_drafting *d)
{
	struct octavo_follower *f = (struct octavo_follower *)d->drafter;
	const struct octavo_engine *e = f->engine;
	const float *logits = e->mtp_logits + d->share.result * e->config.vocab;
	struct octavo_shape mine = *d->shape;
	struct octavo_growth growth;
	mine.depth = (unsigned)d->share.heads;
	octavo_follower_caught_up(f);
	octavo_growth_begin(&growth, d->tree);
	while (mine.depth && octavo_growth_next(&growth, &mine, d->tree, logits, 0, e->choosable))
		logits += e->config.vocab;
	d->share = (struct octavo_share){ 0 };
}

const struct octavo_drafter_ops octavo_drafter_parallel = {
	.name = "parallel", .laws = 1, .at_once = 1, .open = open_parallel, .close = octavo_follower_close,
	.begin = octavo_follower_begin, .commit = octavo_follower_commit, .draft = draft_parallel, .run = octavo_follower_run, .grow = grow_parallel,
	.argument = OCTAVO_OWN_DIRECTORY,
};
