/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafting with an autoregressive head over features (EAGLE, Li et al., arXiv 2401.15077, section 4): from the main
 * model's last hidden state and the next token's embedding it makes the next hidden state, which goes to the main model's
 * head and comes back as its own input.  Chains, fixed trees, and the dynamic trees of EAGLE-2 (growth.h).
 *
 * Files: config.json of a deepseek_v3 model of one dense layer with "eagle": true; fc.weight [hidden][2 * hidden] over
 * [embedding | state], fc.bias (optional), layers.0.* (layers.0.input_layernorm optional, EAGLE-1 has none).
 */
#include "engine/draft/layers.h"
#include "engine/draft/recycle.h"

struct eagle {
	struct octavo_draft_files base;
	struct octavo_mtp module;
};

static void read_eagle(struct octavo_fields *fields, struct octavo_config *config)
{
	int eagle = 0;
	octavo_field_bool(fields, "eagle", OCTAVO_REQUIRED, &eagle);
	if (fields->status == OCTAVO_OK && !eagle)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "eagle", "false: not an EAGLE head");
	else if (fields->status == OCTAVO_OK && config->layers != 1)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "num_hidden_layers", "%zu, but an EAGLE head has 1", config->layers);
}

/* `norm`, `bias`: whether the files hold the optional vectors. */
static void carve(struct octavo_arena *arena, struct eagle *eagle, const struct octavo_config *c, int norm, int bias)
{
	struct octavo_layer layer = { 0 };
	octavo_layer_carve(arena, c, 0, &layer);
	if (!norm)
		layer.input_norm = NULL;
	eagle->module.layer = layer;
	eagle->module.bias = bias ? octavo_carve(arena, c->hidden, sizeof(float)) : NULL;
}

static enum octavo_status load(struct octavo_draft_files *files, struct octavo_engine *e, struct octavo_error *error)
{
	struct eagle *eagle = (struct eagle *)files;
	struct octavo_mtp *module = &eagle->module;
	struct octavo_config config;
	struct octavo_binder b;
	struct octavo_arena arena = { 0 };
	enum octavo_status status = octavo_draft_layers_config(&config, files, e, read_eagle, error);
	if (status == OCTAVO_OK)
		status = octavo_draft_layers_begin(&b, files, e, &config, error);
	if (status != OCTAVO_OK)
		return status;
	int bias = octavo_bind_has(&b, "fc.bias"), norm = octavo_bind_has(&b, "layers.0.input_layernorm.weight");
	carve(&arena, eagle, &config, norm, bias);
	status = octavo_draft_layers_allocate(files, &arena, error);
	if (status != OCTAVO_OK)
		return status;
	carve(&arena, eagle, &config, norm, bias);
	octavo_bind_matrix(&b, &module->eh_proj, "fc", config.hidden, 2 * config.hidden, OCTAVO_ANY_PRECISION);
	if (module->bias)
		octavo_bind_vector(&b, module->bias, "fc.bias", config.hidden);
	octavo_draft_layer_bind(&b, &module->layer, "layers", 0);
	octavo_draft_layers_end(&b, e);
	return b.status;
}

static const struct octavo_draft_format format = { "eagle", sizeof(struct eagle), load, NULL };

static enum octavo_status open_eagle(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                     const char *dir, struct octavo_error *error)
{
	struct octavo_draft_files *files;
	struct octavo_recycler *d;
	enum octavo_status status = octavo_draft_files_open(&files, e, &format, dir, error);
	if (status == OCTAVO_OK)
		status = octavo_recycler_open(&d, &octavo_drafter_eagle, &((struct eagle *)files)->module, e, sequence, 1, error);
	if (status == OCTAVO_OK)
		*out = &d->base.base; /* fed after the final norm; without one of its own, its taps are one */
	return status;
}

const struct octavo_drafter_ops octavo_drafter_eagle = {
	.name = "eagle", .open = open_eagle, .close = octavo_follower_close, .begin = octavo_follower_begin,
	.commit = octavo_follower_commit, .draft = octavo_recycler_draft, .argument = OCTAVO_OWN_DIRECTORY,
};
