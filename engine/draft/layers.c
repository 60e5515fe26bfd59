/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sizes that the layers share with the model's scratch, cache and attention. */
static const struct {
	const char *field, *grouped; /* as latent attention calls it, and as grouped-query attention does */
	size_t offset;
} shared[] = {
	{ "num_attention_heads", "num_attention_heads", offsetof(struct octavo_config, heads) },
	{ "q_lora_rank", "", offsetof(struct octavo_config, q_lora) },
	{ "kv_lora_rank", "", offsetof(struct octavo_config, kv_lora) },
	{ "qk_nope_head_dim", "", offsetof(struct octavo_config, nope) },
	{ "qk_rope_head_dim", "head_dim", offsetof(struct octavo_config, rope) },
	{ "v_head_dim", "head_dim", offsetof(struct octavo_config, v_dim) },
	{ "", "num_key_value_heads", offsetof(struct octavo_config, kv_heads) },
};

static size_t size_at(const struct octavo_config *c, size_t i)
{
	size_t value;
	memcpy(&value, (const char *)c + shared[i].offset, sizeof value);
	return value;
}

/* Positions are rotated by the model's table, scores scaled by its factor. */
static int same_rotation(const struct octavo_config *a, const struct octavo_config *b)
{
	if (a->rope_theta != b->rope_theta || a->yarn != b->yarn || a->llama3 != b->llama3)
		return 0;
	if (a->llama3)
		return a->llama3_factor == b->llama3_factor && a->llama3_low == b->llama3_low &&
		       a->llama3_high == b->llama3_high && a->llama3_original == b->llama3_original;
	return !a->yarn || (a->yarn_factor == b->yarn_factor && a->yarn_beta_fast == b->yarn_beta_fast &&
	                    a->yarn_beta_slow == b->yarn_beta_slow && a->yarn_mscale == b->yarn_mscale &&
	                    a->yarn_mscale_all_dim == b->yarn_mscale_all_dim && a->yarn_original == b->yarn_original);
}

static void check_layers(const struct octavo_config *c, const struct octavo_config *model, struct octavo_fields *fields)
{
	size_t i = 0, sparse = 0, count = sizeof shared / sizeof *shared;
	while (i < count && size_at(c, i) == size_at(model, i))
		i++;
	while (sparse < c->layers && !octavo_config_is_moe(c, sparse))
		sparse++;
	if (fields->status != OCTAVO_OK)
		return;
	if (!c->kv_heads != !model->kv_heads)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "model_type",
		                   "%s: layers of drafters attend as the model's do, which is of type %s", c->architecture,
		                   model->architecture);
	else if (i < count)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, c->kv_heads ? shared[i].grouped : shared[i].field,
		                   "%zu, but the model's is %zu", size_at(c, i), size_at(model, i));
	else if (c->norm_eps != model->norm_eps)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "rms_norm_eps", "%g, but the model's is %g", (double)c->norm_eps,
		                   (double)model->norm_eps);
	else if (!same_rotation(c, model))
		octavo_fields_fail(fields, OCTAVO_EFORMAT, c->rope_theta != model->rope_theta ? "rope_theta" : "rope_scaling",
		                   "not the model's");
	else if (c->mtp_layers)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "num_nextn_predict_layers", "%zu, but drafters have none",
		                   c->mtp_layers);
	else if (sparse < c->layers)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "first_k_dense_replace",
		                   "%zu: layer %zu has experts, but drafters' layers are dense", c->first_dense, sparse);
}

static const struct octavo_draft_layers_format *format_of(const struct octavo_draft_layers *layers)
{
	return (const struct octavo_draft_layers_format *)layers->base.format;
}

static enum octavo_status read_config(struct octavo_config *config, const struct octavo_draft_layers *layers,
                                      const struct octavo_engine *e, struct octavo_error *error)
{
	const char *dir = layers->base.dir;
	json_t *root;
	enum octavo_status status = octavo_config_load(config, dir, error);
	if (status == OCTAVO_OK)
		status = octavo_draft_fits(e, config->hidden, config->vocab, error);
	if (status == OCTAVO_OK)
		status = octavo_json_load(&root, dir, "config.json", error);
	if (status != OCTAVO_OK)
		return status;
	struct octavo_fields fields = { .object = root, .file = "config.json", .prefix = "", .error = error };
	format_of(layers)->read(&fields, config);
	check_layers(config, &e->config, &fields);
	json_decref(root);
	return fields.status;
}

static void carve(struct octavo_arena *arena, struct octavo_draft_layers *layers, const struct octavo_config *c)
{
	layers->layer = octavo_carve(arena, c->layers, sizeof *layers->layer);
	for (size_t i = 0; i < c->layers; i++)
		octavo_layer_carve(arena, c, i, arena->base ? &layers->layer[i] : NULL);
	if (format_of(layers)->carve)
		format_of(layers)->carve(arena, layers, c);
}

static enum octavo_status allocate(struct octavo_draft_layers *layers, const struct octavo_config *c,
                                   struct octavo_error *error)
{
	struct octavo_arena arena = { 0 };
	carve(&arena, layers, c);
	layers->base.arena = arena.overflow ? NULL : calloc(1, arena.used + OCTAVO_ALIGNMENT);
	if (!layers->base.arena)
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory");
	arena = (struct octavo_arena){ .base = octavo_aligned(layers->base.arena) };
	carve(&arena, layers, c);
	layers->count = c->layers;
	return OCTAVO_OK;
}

static void bind(struct octavo_binder *b, struct octavo_draft_layers *layers)
{
	if (format_of(layers)->bind)
		format_of(layers)->bind(b, layers);
	for (size_t i = 0; i < layers->count; i++) {
		snprintf(b->prefix, sizeof b->prefix, "%s.%zu.", format_of(layers)->stem, i);
		octavo_layer_bind(b, &layers->layer[i]);
		b->prefix[0] = '\0';
		if (b->status == OCTAVO_OK)
			b->status = octavo_layer_check(&layers->layer[i], i, 0, b->error);
	}
	octavo_bind_end(b);
}

enum octavo_status octavo_draft_layers_load(struct octavo_draft_files *files, struct octavo_engine *e,
                                            struct octavo_error *error)
{
	struct octavo_draft_layers *layers = (struct octavo_draft_layers *)files;
	struct octavo_config config;
	enum octavo_status status = read_config(&config, layers, e, error);
	if (status == OCTAVO_OK)
		status = octavo_draft_checkpoint(files, e, error);
	if (status == OCTAVO_OK)
		status = allocate(layers, &config, error);
	if (status != OCTAVO_OK)
		return status;
	struct octavo_binder b = { .checkpoint = files->checkpoint, .config = &config, .error = error };
	bind(&b, layers);
	if (b.status == OCTAVO_OK)
		b.status = octavo_work_widen(e, config.dense_width, error);
	if (b.status == OCTAVO_OK)
		b.status = octavo_kv_open(&layers->kv, e, layers->count, error);
	return b.status;
}

void octavo_draft_layers_release(struct octavo_draft_files *files)
{
	octavo_kv_close(&((struct octavo_draft_layers *)files)->kv);
}
