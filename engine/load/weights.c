/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors bound to the roles they play.  Every tensor of the checkpoint must have a role, every role its tensor.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine/load/bind.h"

#include "fp8/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Layers ---------------------------------------------------------------------------------------- */

static void bind_mlp(struct octavo_binder *b, struct octavo_mlp *mlp, const char *stem, size_t width)
{
	char name[96];
	snprintf(name, sizeof name, "%s.gate_proj", stem);
	octavo_bind_matrix(b, &mlp->gate, name, width, b->config->hidden, OCTAVO_ANY_PRECISION);
	snprintf(name, sizeof name, "%s.up_proj", stem);
	octavo_bind_matrix(b, &mlp->up, name, width, b->config->hidden, OCTAVO_ANY_PRECISION);
	snprintf(name, sizeof name, "%s.down_proj", stem);
	octavo_bind_matrix(b, &mlp->down, name, b->config->hidden, width, OCTAVO_ANY_PRECISION);
}

static void bind_grouped_attention(struct octavo_binder *b, struct octavo_layer *layer)
{
	const struct octavo_config *c = b->config;
	size_t q_rows = c->heads * c->v_dim, kv_rows = c->kv_heads * c->v_dim;
	octavo_bind_matrix(b, &layer->q, "self_attn.q_proj", q_rows, c->hidden, OCTAVO_ANY_PRECISION);
	octavo_bind_matrix(b, &layer->k, "self_attn.k_proj", kv_rows, c->hidden, OCTAVO_ANY_PRECISION);
	octavo_bind_matrix(b, &layer->v, "self_attn.v_proj", kv_rows, c->hidden, OCTAVO_ANY_PRECISION);
	octavo_bind_matrix(b, &layer->o, "self_attn.o_proj", c->hidden, q_rows, OCTAVO_ANY_PRECISION);
	if (c->qkv_bias) {
		octavo_bind_vector(b, layer->q_bias, "self_attn.q_proj.bias", q_rows);
		octavo_bind_vector(b, layer->k_bias, "self_attn.k_proj.bias", kv_rows);
		octavo_bind_vector(b, layer->v_bias, "self_attn.v_proj.bias", kv_rows);
	}
	if (c->qk_norm) {
		octavo_bind_vector(b, layer->q_head_norm, "self_attn.q_norm.weight", c->v_dim);
		octavo_bind_vector(b, layer->k_head_norm, "self_attn.k_norm.weight", c->v_dim);
	}
}

static void bind_latent_attention(struct octavo_binder *b, struct octavo_layer *layer)
{
	const struct octavo_config *c = b->config;
	size_t q_rows = c->heads * (c->nope + c->rope);
	if (c->q_lora == 0) {
		octavo_bind_matrix(b, &layer->q, "self_attn.q_proj", q_rows, c->hidden, OCTAVO_ANY_PRECISION);
	} else {
		octavo_bind_matrix(b, &layer->q_a, "self_attn.q_a_proj", c->q_lora, c->hidden, OCTAVO_ANY_PRECISION);
		octavo_bind_vector(b, layer->q_norm, "self_attn.q_a_layernorm.weight", c->q_lora);
		octavo_bind_matrix(b, &layer->q_b, "self_attn.q_b_proj", q_rows, c->q_lora, OCTAVO_ANY_PRECISION);
	}
	octavo_bind_matrix(b, &layer->kv_a, "self_attn.kv_a_proj_with_mqa", c->kv_lora + c->rope, c->hidden,
	                   OCTAVO_ANY_PRECISION);
	octavo_bind_vector(b, layer->kv_norm, "self_attn.kv_a_layernorm.weight", c->kv_lora);
	octavo_bind_matrix(b, &layer->kv_b, "self_attn.kv_b_proj", c->heads * (c->nope + c->v_dim), c->kv_lora,
	                   OCTAVO_ANY_PRECISION);
	octavo_bind_matrix(b, &layer->o, "self_attn.o_proj", c->hidden, c->heads * c->v_dim, OCTAVO_ANY_PRECISION);
}

static void bind_experts(struct octavo_binder *b, struct octavo_layer *layer)
{
	const struct octavo_config *c = b->config;
	octavo_bind_matrix(b, &layer->router, "mlp.gate", c->experts, c->hidden, OCTAVO_NO_FP8);
	if (layer->router_bias)
		octavo_bind_vector(b, layer->router_bias, "mlp.gate.e_score_correction_bias", c->experts);
	for (size_t i = 0; i < c->experts; i++) {
		char stem[48];
		snprintf(stem, sizeof stem, "mlp.experts.%zu", i);
		bind_mlp(b, &layer->expert[i], stem, c->expert_width);
	}
	if (c->shared_experts > 0)
		bind_mlp(b, &layer->shared, "mlp.shared_experts", c->shared_experts * c->expert_width);
}

void octavo_layer_bind(struct octavo_binder *b, struct octavo_layer *layer)
{
	if (layer->input_norm)
		octavo_bind_vector(b, layer->input_norm, "input_layernorm.weight", b->config->hidden);
	if (b->config->kv_heads)
		bind_grouped_attention(b, layer);
	else
		bind_latent_attention(b, layer);
	octavo_bind_vector(b, layer->post_norm, "post_attention_layernorm.weight", b->config->hidden);
	if (layer->moe)
		bind_experts(b, layer);
	else
		bind_mlp(b, &layer->dense, "mlp", b->config->dense_width);
}

static void bind_mtp(struct octavo_binder *b, struct octavo_mtp *mtp)
{
	size_t hidden = b->config->hidden;
	octavo_bind_vector(b, mtp->enorm, "enorm.weight", hidden);
	octavo_bind_vector(b, mtp->hnorm, "hnorm.weight", hidden);
	octavo_bind_matrix(b, &mtp->eh_proj, "eh_proj", hidden, 2 * hidden, OCTAVO_ANY_PRECISION);
	octavo_layer_bind(b, &mtp->layer);
	octavo_bind_vector(b, mtp->head_norm, "shared_head.norm.weight", hidden);
	/* Published with copies of the embedding and the head; the main ones serve. */
	octavo_bind_idle(b, "embed_tokens", b->config->vocab, hidden);
	octavo_bind_idle(b, "shared_head.head", b->config->vocab, hidden);
}

/* ---- The whole model ------------------------------------------------------------------------------- */

static void carve_grouped_attention(struct octavo_arena *arena, const struct octavo_config *c, struct octavo_layer *layer)
{
	if (c->qkv_bias) {
		layer->q_bias = octavo_carve(arena, c->heads * c->v_dim, sizeof(float));
		layer->k_bias = octavo_carve(arena, c->kv_heads * c->v_dim, sizeof(float));
		layer->v_bias = octavo_carve(arena, c->kv_heads * c->v_dim, sizeof(float));
	}
	if (c->qk_norm) {
		layer->q_head_norm = octavo_carve(arena, c->v_dim, sizeof(float));
		layer->k_head_norm = octavo_carve(arena, c->v_dim, sizeof(float));
	}
}

void octavo_layer_carve(struct octavo_arena *arena, const struct octavo_config *c, size_t index,
                        struct octavo_layer *layer)
{
	struct octavo_layer carved = {.moe = octavo_config_is_moe(c, index)};
	carved.input_norm = octavo_carve(arena, c->hidden, sizeof(float));
	carved.post_norm = octavo_carve(arena, c->hidden, sizeof(float));
	if (c->q_lora > 0)
		carved.q_norm = octavo_carve(arena, c->q_lora, sizeof(float));
	if (c->kv_heads)
		carve_grouped_attention(arena, c, &carved);
	else
		carved.kv_norm = octavo_carve(arena, c->kv_lora, sizeof(float));
	if (carved.moe) {
		if (c->topk_method == OCTAVO_TOPK_NOAUX_TC)
			carved.router_bias = octavo_carve(arena, c->experts, sizeof(float));
		carved.expert = octavo_carve(arena, c->experts, sizeof *carved.expert);
	}
	if (arena->base)
		*layer = carved;
}

static void carve(struct octavo_arena *arena, const struct octavo_config *c, struct octavo_weights *w)
{
	w->final_norm = octavo_carve(arena, c->hidden, sizeof(float));
	w->layer = octavo_carve(arena, c->layers, sizeof *w->layer);
	w->mtp = octavo_carve(arena, c->mtp_layers, sizeof *w->mtp);
	for (size_t i = 0; i < c->layers; i++)
		octavo_layer_carve(arena, c, i, arena->base ? &w->layer[i] : NULL);
	for (size_t i = 0; i < c->mtp_layers; i++) {
		struct octavo_mtp carved = {0};
		carved.enorm = octavo_carve(arena, c->hidden, sizeof(float));
		carved.hnorm = octavo_carve(arena, c->hidden, sizeof(float));
		carved.head_norm = octavo_carve(arena, c->hidden, sizeof(float));
		octavo_layer_carve(arena, c, c->layers + i, &carved.layer);
		if (arena->base)
			w->mtp[i] = carved;
	}
}

static enum octavo_status allocate(struct octavo_weights *w, const struct octavo_config *c, struct octavo_error *error)
{
	struct octavo_arena arena = {0};
	carve(&arena, c, w);
	/* calloc: pages of a config that promises more than its files hold are never touched. */
	if (!arena.overflow && arena.used <= SIZE_MAX - OCTAVO_ALIGNMENT)
		w->arena = calloc(arena.used + OCTAVO_ALIGNMENT, 1);
	if (!w->arena)
		return octavo_fail(error, OCTAVO_ENOMEM, "weights: out of memory for norms and tables of %zu bytes",
		                   arena.used);
	uintptr_t start = (uintptr_t)w->arena + OCTAVO_ALIGNMENT - 1;
	arena = (struct octavo_arena){.base = (char *)(start - start % OCTAVO_ALIGNMENT)};
	carve(&arena, c, w);
	return OCTAVO_OK;
}

static void bind_all(struct octavo_binder *b, struct octavo_weights *w)
{
	const struct octavo_config *c = b->config;
	octavo_bind_matrix(b, &w->embed, "model.embed_tokens", c->vocab, c->hidden, OCTAVO_NO_FP8);
	if (c->tied_head) {
		w->head = w->embed;
		octavo_bind_copy(b, "lm_head", &w->embed); /* published with some, for example Qwen3-0.6B */
	} else {
		octavo_bind_matrix(b, &w->head, "lm_head", c->vocab, c->hidden, OCTAVO_NO_FP8);
	}
	octavo_bind_vector(b, w->final_norm, "model.norm.weight", c->hidden);
	for (size_t i = 0; i < c->layers + c->mtp_layers && b->status == OCTAVO_OK; i++) {
		snprintf(b->prefix, sizeof b->prefix, "model.layers.%zu.", i);
		if (i < c->layers)
			octavo_layer_bind(b, &w->layer[i]);
		else
			bind_mtp(b, &w->mtp[i - c->layers]);
	}
}

static int has_layer(const struct octavo_checkpoint *checkpoint, size_t layer)
{
	char prefix[64];
	size_t length = (size_t)snprintf(prefix, sizeof prefix, "model.layers.%zu.", layer);
	for (size_t i = 0; i < octavo_checkpoint_count(checkpoint); i++)
		if (strncmp(octavo_checkpoint_at(checkpoint, i)->name, prefix, length) == 0)
			return 1;
	return 0;
}

/* Copies that were saved without their MTP modules, as transformers saves them, or without the last of these, keep the
 * field that promises them. */
static size_t count_mtp(const struct octavo_checkpoint *checkpoint, const struct octavo_config *c)
{
	size_t modules = c->mtp_layers;
	while (modules && !has_layer(checkpoint, c->layers + modules - 1))
		modules--;
	return modules;
}

/* Schemes of other producers, named before their tensors are reported as missing or unexpected. */
static enum octavo_status refuse_foreign(const struct octavo_checkpoint *checkpoint, struct octavo_error *error)
{
	static const struct {
		const char *part, *reason;
	} foreign[] = {
	        {".weight_packed", "compressed-tensors weights are not supported"},
	        {".weight_shape", "compressed-tensors weights are not supported"},
	        {".qweight", "integer-quantised weights are not supported"},
	        {".input_scale", "static activation scales are not supported"},
	        {".weight_scale", "only weight_scale_inv of 128x128 blocks is supported"},
	        {".self_attn.indexer.", "the indexer of DeepSeek sparse attention is not implemented"},
	};
	for (size_t i = 0; i < octavo_checkpoint_count(checkpoint); i++) {
		const struct octavo_tensor *tensor = octavo_checkpoint_at(checkpoint, i);
		for (size_t j = 0; j < sizeof foreign / sizeof *foreign; j++) {
			const char *found = strstr(tensor->name, foreign[j].part);
			/* ".weight_scale" is also how ".weight_scale_inv" begins. */
			if (found && found[strlen(foreign[j].part)] != '_')
				return octavo_fail(error, OCTAVO_ENOTSUP, "%s: %s: %s", tensor->file, tensor->name,
				                   foreign[j].reason);
		}
	}
	return OCTAVO_OK;
}

static size_t elements(const struct octavo_matrix *m)
{
	return m->rows * m->cols;
}

static size_t mlp_elements(const struct octavo_mlp *mlp)
{
	return elements(&mlp->gate) + elements(&mlp->up) + elements(&mlp->down);
}

static void count_parameters(struct octavo_weights *w, const struct octavo_config *c)
{
	size_t active = elements(&w->head), idle = c->tied_head ? 0 : elements(&w->embed);
	for (size_t i = 0; i < c->layers; i++) {
		const struct octavo_layer *l = &w->layer[i];
		active += elements(&l->q) + elements(&l->q_a) + elements(&l->q_b) + elements(&l->kv_a) +
		          elements(&l->kv_b) + elements(&l->k) + elements(&l->v) + elements(&l->o);
		active += mlp_elements(&l->dense) + elements(&l->router) + mlp_elements(&l->shared);
		if (l->moe) {
			active += c->top_k * mlp_elements(&l->expert[0]);
			idle += (c->experts - c->top_k) * mlp_elements(&l->expert[0]);
		}
	}
	w->active_parameters = active;
	w->parameters = active + idle;
}

enum octavo_status octavo_weights_bind(struct octavo_weights *weights, struct octavo_config *config,
                                       struct octavo_checkpoint *checkpoint, struct octavo_error *error)
{
	*weights = (struct octavo_weights){0};
	config->mtp_layers = count_mtp(checkpoint, config);
	struct octavo_binder b = {.config = config, .checkpoint = checkpoint, .error = error};
	b.status = refuse_foreign(checkpoint, error);
	if (b.status == OCTAVO_OK)
		b.status = allocate(weights, config, error);
	bind_all(&b, weights);
	octavo_bind_end(&b);
	if (b.status == OCTAVO_OK)
		count_parameters(weights, config);
	else
		octavo_weights_release(weights);
	return b.status;
}

void octavo_weights_release(struct octavo_weights *weights)
{
	free(weights->arena);
	*weights = (struct octavo_weights){0};
}
