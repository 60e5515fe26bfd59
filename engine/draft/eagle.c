/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafting with an autoregressive head over features (EAGLE, Li et al., arXiv 2401.15077, section 4): from the main
 * model's last hidden state and the next token's embedding it makes the next hidden state, which goes to the main
 * model's head and comes back as its own input.  Chains, fixed trees, and the dynamic trees of EAGLE-2 (growth.h).
 *
 * Files: config.json of a model that attends as the main one does, of one dense layer, with "eagle": true; fc.weight
 * [hidden][2 * hidden] over [embedding | state], fc.bias (optional), layers.0.* (layers.0.input_layernorm optional,
 * EAGLE-1 has none).
 */
#include "engine/draft/layers.h"
#include "engine/draft/recycle.h"

struct eagle {
	struct octavo_draft_layers base;
	struct octavo_mtp module;
};

static void read_eagle(struct octavo_fields *fields, const struct octavo_config *config)
{
	int eagle = 0;
	octavo_field_bool(fields, "eagle", OCTAVO_REQUIRED, &eagle);
	if (fields->status == OCTAVO_OK && !eagle)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "eagle", "false: not an EAGLE head");
	else if (fields->status == OCTAVO_OK && config->layers != 1)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "num_hidden_layers", "%zu, but an EAGLE head has 1", config->layers);
}

static void carve_eagle(struct octavo_arena *arena, struct octavo_draft_layers *layers, const struct octavo_config *c)
{
	((struct eagle *)layers)->module.bias = octavo_carve(arena, c->hidden, sizeof(float));
}

static void bind_eagle(struct octavo_binder *b, struct octavo_draft_layers *layers)
{
	struct octavo_mtp *module = &((struct eagle *)layers)->module;
	size_t hidden = b->config->hidden;
	octavo_bind_matrix(b, &module->eh_proj, "fc", hidden, 2 * hidden, OCTAVO_ANY_PRECISION);
	if (octavo_bind_has(b, "fc.bias"))
		octavo_bind_vector(b, module->bias, "fc.bias", hidden);
	else
		module->bias = NULL;
	if (!octavo_bind_has(b, "layers.0.input_layernorm.weight"))
		layers->layer[0].input_norm = NULL;
}

static enum octavo_status load(struct octavo_draft_files *files, struct octavo_engine *e, struct octavo_error *error)
{
	struct eagle *eagle = (struct eagle *)files;
	enum octavo_status status = octavo_draft_layers_load(files, e, error);
	if (status == OCTAVO_OK)
		eagle->module.layer = eagle->base.layer[0];
	return status;
}

static const struct octavo_draft_layers_format format = {
	{ "eagle", sizeof(struct eagle), load, octavo_draft_layers_release }, "layers", read_eagle, carve_eagle, bind_eagle,
};

static enum octavo_status open_eagle(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                     const char *dir, struct octavo_error *error)
{
	struct octavo_draft_files *files;
	struct octavo_recycler *d;
	enum octavo_status status = octavo_draft_files_open(&files, e, &format.base, dir, error);
	if (status != OCTAVO_OK)
		return status;
	struct eagle *eagle = (struct eagle *)files;
	const struct octavo_modules modules = { &eagle->module, 1, &eagle->base.kv, 0 };
	status = octavo_recycler_open(&d, &octavo_drafter_eagle, &modules, e, sequence, error);
	if (status == OCTAVO_OK)
		*out = &d->base.base; /* fed after the final norm; without one of its own, its taps are one */
	return status;
}

const struct octavo_drafter_ops octavo_drafter_eagle = {
	.name = "eagle", .laws = 1, .open = open_eagle, .close = octavo_recycler_close, .begin = octavo_recycler_begin,
	.commit = octavo_follower_commit, .draft = octavo_recycler_draft, .run = octavo_follower_run,
	.grow = octavo_recycler_grow, .argument = OCTAVO_OWN_DIRECTORY,
};
