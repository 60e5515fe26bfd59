/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafting with parallel heads (Gloeckle et al., arXiv 2404.19737, section 2): all of them see the text up to the last
 * committed position and no draft, so the law at a depth is one for all nodes of that depth.
 *
 * Files: config.json of a deepseek_v3 model with num_hidden_layers dense layers and as many "parallel_heads";
 * model.layers.{i}.* as in the main checkpoint.
 */
#include "engine/draft/follow.h"
#include "engine/draft/growth.h"
#include "engine/draft/layers.h"

struct heads {
	struct octavo_draft_files base;
	struct octavo_layer *layer; /* [count] */
	size_t count;
};

struct parallel {
	struct octavo_follower base;
	const struct heads *heads;
};

static void read_parallel(struct octavo_fields *fields, struct octavo_config *config)
{
	size_t heads = 0;
	octavo_field_size(fields, "parallel_heads", OCTAVO_REQUIRED, 1, OCTAVO_MAX_K, &heads);
	if (fields->status == OCTAVO_OK && heads != config->layers)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "parallel_heads", "%zu, but num_hidden_layers is %zu", heads,
		                   config->layers);
}

static void carve(struct octavo_arena *arena, struct heads *heads, const struct octavo_config *c)
{
	heads->layer = octavo_carve(arena, c->layers, sizeof *heads->layer);
	for (size_t i = 0; i < c->layers; i++)
		octavo_layer_carve(arena, c, i, arena->base ? &heads->layer[i] : NULL);
}

static enum octavo_status load(struct octavo_draft_files *files, struct octavo_engine *e, struct octavo_error *error)
{
	struct heads *heads = (struct heads *)files;
	struct octavo_config config;
	struct octavo_binder b;
	struct octavo_arena arena = { 0 };
	enum octavo_status status = octavo_draft_layers_config(&config, files, e, read_parallel, error);
	if (status == OCTAVO_OK)
		status = octavo_draft_layers_begin(&b, files, e, &config, error);
	if (status != OCTAVO_OK)
		return status;
	carve(&arena, heads, &config);
	status = octavo_draft_layers_allocate(files, &arena, error);
	if (status != OCTAVO_OK)
		return status;
	carve(&arena, heads, &config);
	heads->count = config.layers;
	for (size_t i = 0; i < heads->count; i++)
		octavo_draft_layer_bind(&b, &heads->layer[i], "model.layers", i);
	octavo_draft_layers_end(&b, e);
	return b.status;
}

/* All heads' rows; the engine then holds the logits of as many of them as the draft is deep. */
static enum octavo_status catch_up(struct octavo_follower *f, const struct octavo_shape *shape, struct octavo_error *error)
{
	const struct heads *heads = ((const struct parallel *)f)->heads;
	struct octavo_trunk_batch b = { .kv = f->kv, .pos = f->valid, .rows = f->waiting, .x = f->g,
		                        .wanted = shape ? shape->depth : 0 };
	return octavo_trunk_heads(f->engine, heads->layer, heads->count, &b, error);
}

static const struct octavo_draft_format format = { "parallel", sizeof(struct heads), load, NULL };

static enum octavo_status open_parallel(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                        const char *dir, struct octavo_error *error)
{
	struct octavo_draft_files *files;
	struct octavo_follower *f;
	enum octavo_status status = octavo_draft_files_open(&files, e, &format, dir, error);
	if (status != OCTAVO_OK)
		return status;
	const struct heads *heads = (const struct heads *)files;
	status = octavo_follower_open(&f, &octavo_drafter_parallel, sizeof(struct parallel), e, sequence, heads->count, error);
	if (status != OCTAVO_OK)
		return status;
	((struct parallel *)f)->heads = heads;
	f->catch_up = catch_up;
	f->tap = OCTAVO_TAP_PRE_NORM;
	f->base.most[0] = (unsigned)heads->count;
	*out = &f->base;
	return OCTAVO_OK;
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static enum octavo_status draft_parallel(struct octavo_drafter *drafter, const struct octavo_shape *shape,
                                         struct octavo_tree *tree, struct octavo_error *error)
{
	struct octavo_follower *f = (struct octavo_follower *)drafter;
	const struct octavo_engine *e = f->engine;
	size_t vocab = e->config.vocab;
	struct octavo_shape mine = *shape;
	struct octavo_growth growth;
	int ready;
	mine.depth = least(mine.depth, least(f->base.most[0], (unsigned)tree->room - 1));
	octavo_growth_begin(&growth, tree);
	enum octavo_status status = octavo_follower_catch_up(f, &mine, &ready, error);
	if (status != OCTAVO_OK || !ready)
		return status;
	while (octavo_growth_next(&growth, &mine, tree, e->mtp_logits + growth.depth * vocab, 0, e->choosable))
		;
	return OCTAVO_OK;
}

const struct octavo_drafter_ops octavo_drafter_parallel = {
	.name = "parallel", .open = open_parallel, .close = octavo_follower_close, .begin = octavo_follower_begin,
	.commit = octavo_follower_commit, .draft = draft_parallel, .argument = OCTAVO_OWN_DIRECTORY,
};
