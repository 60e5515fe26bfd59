/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors bound to the roles they play.  Every tensor of the checkpoint must have a role, every role its tensor.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine/load/load.h"

#include "engine/arena.h"
#include "fp8/error.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_ROOM = 192 };

/* The first failure sticks: later binds do nothing, so that a layer reads as the list of its tensors. */
struct binder {
	const struct octavo_config *config;
	struct octavo_checkpoint *checkpoint;
	enum octavo_status status;
	struct octavo_error *error;
	char prefix[64]; /* "model.layers.3." */
};

/* ---- One tensor ------------------------------------------------------------------------------------ */

static const struct octavo_tensor *look(struct binder *b, const char *stem, const char *suffix)
{
	char name[NAME_ROOM];
	if (b->status != OCTAVO_OK)
		return NULL;
	snprintf(name, sizeof name, "%s%s%s", b->prefix, stem, suffix);
	return octavo_checkpoint_find(b->checkpoint, name);
}

static const struct octavo_tensor *need(struct binder *b, const char *stem, const char *suffix)
{
	const struct octavo_tensor *tensor = look(b, stem, suffix);
	if (!tensor && b->status == OCTAVO_OK)
		b->status = octavo_fail(b->error, OCTAVO_EFORMAT, "%s%s%s: missing from the checkpoint", b->prefix,
		                        stem, suffix);
	return tensor;
}

static void shape_text(char text[64], size_t rank, const size_t *shape)
{
	size_t used = (size_t)snprintf(text, 64, "[");
	for (size_t i = 0; i < rank && used < 64; i++)
		used += (size_t)snprintf(text + used, 64 - used, i ? ", %zu" : "%zu", shape[i]);
	if (used < 64)
		snprintf(text + used, 64 - used, "]");
}

static int has_shape(struct binder *b, const struct octavo_tensor *tensor, size_t rank, const size_t *shape)
{
	if (tensor->rank == rank && memcmp(tensor->shape, shape, rank * sizeof *shape) == 0)
		return 1;
	char found[64], wanted[64];
	shape_text(found, tensor->rank, tensor->shape);
	shape_text(wanted, rank, shape);
	b->status = octavo_fail(b->error, OCTAVO_EFORMAT, "%s: %s: shape %s, but config.json makes it %s", tensor->file,
	                        tensor->name, found, wanted);
	return 0;
}

static void wrong_dtype(struct binder *b, const struct octavo_tensor *tensor, const char *wanted)
{
	b->status = octavo_fail(b->error, OCTAVO_EFORMAT, "%s: %s: dtype %s, not %s", tensor->file, tensor->name,
	                        tensor->dtype_name, wanted);
}

/* ---- Vectors --------------------------------------------------------------------------------------- */

/* Of F32, BF16 or E8M0 data, which need not be aligned. */
static float element(const struct octavo_tensor *tensor, size_t i)
{
	const unsigned char *at = (const unsigned char *)tensor->data + i * octavo_dtype_size(tensor->dtype);
	uint16_t half;
	float single;
	switch (tensor->dtype) {
	case OCTAVO_F32:
		memcpy(&single, at, sizeof single);
		return single;
	case OCTAVO_BF16:
		memcpy(&half, at, sizeof half);
		return octavo_bf16_decode(half);
	default:
		return octavo_e8m0_decode(*at);
	}
}

/* Norm gains and router biases: published in BF16 or F32, widened here. */
static void bind_vector(struct binder *b, float *out /* [size] */, const char *name, size_t size)
{
	const struct octavo_tensor *tensor = need(b, name, "");
	if (!tensor || !has_shape(b, tensor, 1, &size))
		return;
	if (tensor->dtype != OCTAVO_BF16 && tensor->dtype != OCTAVO_F32) {
		wrong_dtype(b, tensor, "BF16 or F32");
		return;
	}
	for (size_t i = 0; i < size; i++) {
		out[i] = element(tensor, i);
		if (!isfinite(out[i])) {
			b->status = octavo_fail(b->error, OCTAVO_ENUMERIC, "%s: %s: element %zu is not finite",
			                        tensor->file, tensor->name, i);
			return;
		}
	}
}

/* ---- Matrices -------------------------------------------------------------------------------------- */

static size_t blocks(size_t n)
{
	return n / OCTAVO_BLOCK + (n % OCTAVO_BLOCK != 0);
}

/* Names the first scale that octavo_matrix_check did not let pass. */
static void blame_scale(struct binder *b, const struct octavo_tensor *tensor)
{
	size_t i = 0, last = tensor->shape[0] * tensor->shape[1] - 1;
	while (i < last && element(tensor, i) >= 0 && element(tensor, i) <= 0x1p40f)
		i++;
	b->status =
	        octavo_fail(b->error, OCTAVO_ENUMERIC, "%s: %s: scale [%zu][%zu] is %g, not in 0 to 2^40", tensor->file,
	                    tensor->name, i / tensor->shape[1], i % tensor->shape[1], (double)element(tensor, i));
}

static void bind_scale(struct binder *b, struct octavo_matrix *m, const char *stem)
{
	const size_t shape[] = {blocks(m->rows), blocks(m->cols)};
	const struct octavo_tensor *tensor = need(b, stem, ".weight_scale_inv");
	if (!tensor || !has_shape(b, tensor, 2, shape))
		return;
	if (tensor->dtype != OCTAVO_F32 && tensor->dtype != OCTAVO_BF16 && tensor->dtype != OCTAVO_E8M0) {
		wrong_dtype(b, tensor, "F32, BF16 or F8_E8M0");
		return;
	}
	m->scale_dtype = tensor->dtype;
	m->scale = tensor->data;
	m->scale_ld = shape[1];
	if (octavo_matrix_check(m) != OCTAVO_OK)
		blame_scale(b, tensor);
}

/* Which matrices may be FP8: those that the model multiplies with, but neither the vocabulary's nor the router's. */
enum precision { ANY_PRECISION, NO_FP8 };

static void bind_matrix(struct binder *b, struct octavo_matrix *m, const char *stem, size_t rows, size_t cols,
                        enum precision precision)
{
	const size_t shape[] = {rows, cols};
	const struct octavo_tensor *tensor = need(b, stem, ".weight");
	if (!tensor || !has_shape(b, tensor, 2, shape))
		return;
	*m = (struct octavo_matrix){
	        .data = tensor->data, .rows = rows, .cols = cols, .ld = cols, .dtype = tensor->dtype};
	/* The stored dtype decides, not what the config says of quantisation. */
	switch (tensor->dtype) {
	case OCTAVO_E4M3:
	case OCTAVO_E5M2:
		if (precision == ANY_PRECISION)
			bind_scale(b, m, stem);
		else
			wrong_dtype(b, tensor, "BF16, F16 or F32");
		break;
	case OCTAVO_BF16:
	case OCTAVO_F16:
	case OCTAVO_F32:
		break;
	default:
		wrong_dtype(b, tensor,
		            precision == ANY_PRECISION ? "F8_E4M3, F8_E5M2, BF16, F16 or F32" : "BF16, F16 or F32");
	}
}

/* MTP modules are published with copies of the embedding and the head.  The main ones serve; a copy of another
 * shape would mean a model that is not understood. */
static void accept_copy(struct binder *b, const char *stem)
{
	const size_t shape[] = {b->config->vocab, b->config->hidden};
	const struct octavo_tensor *tensor = look(b, stem, ".weight");
	if (tensor)
		has_shape(b, tensor, 2, shape);
}

/* ---- Layers ---------------------------------------------------------------------------------------- */

static void bind_mlp(struct binder *b, struct octavo_mlp *mlp, const char *stem, size_t width)
{
	char name[NAME_ROOM / 2];
	snprintf(name, sizeof name, "%s.gate_proj", stem);
	bind_matrix(b, &mlp->gate, name, width, b->config->hidden, ANY_PRECISION);
	snprintf(name, sizeof name, "%s.up_proj", stem);
	bind_matrix(b, &mlp->up, name, width, b->config->hidden, ANY_PRECISION);
	snprintf(name, sizeof name, "%s.down_proj", stem);
	bind_matrix(b, &mlp->down, name, b->config->hidden, width, ANY_PRECISION);
}

static void bind_attention(struct binder *b, struct octavo_layer *layer)
{
	const struct octavo_config *c = b->config;
	size_t q_rows = c->heads * (c->nope + c->rope);
	if (c->q_lora == 0) {
		bind_matrix(b, &layer->q, "self_attn.q_proj", q_rows, c->hidden, ANY_PRECISION);
	} else {
		bind_matrix(b, &layer->q_a, "self_attn.q_a_proj", c->q_lora, c->hidden, ANY_PRECISION);
		bind_vector(b, layer->q_norm, "self_attn.q_a_layernorm.weight", c->q_lora);
		bind_matrix(b, &layer->q_b, "self_attn.q_b_proj", q_rows, c->q_lora, ANY_PRECISION);
	}
	bind_matrix(b, &layer->kv_a, "self_attn.kv_a_proj_with_mqa", c->kv_lora + c->rope, c->hidden, ANY_PRECISION);
	bind_vector(b, layer->kv_norm, "self_attn.kv_a_layernorm.weight", c->kv_lora);
	bind_matrix(b, &layer->kv_b, "self_attn.kv_b_proj", c->heads * (c->nope + c->v_dim), c->kv_lora, ANY_PRECISION);
	bind_matrix(b, &layer->o, "self_attn.o_proj", c->hidden, c->heads * c->v_dim, ANY_PRECISION);
}

static void bind_experts(struct binder *b, struct octavo_layer *layer)
{
	const struct octavo_config *c = b->config;
	bind_matrix(b, &layer->router, "mlp.gate", c->experts, c->hidden, NO_FP8);
	if (layer->router_bias)
		bind_vector(b, layer->router_bias, "mlp.gate.e_score_correction_bias", c->experts);
	for (size_t i = 0; i < c->experts; i++) {
		char stem[NAME_ROOM / 4];
		snprintf(stem, sizeof stem, "mlp.experts.%zu", i);
		bind_mlp(b, &layer->expert[i], stem, c->expert_width);
	}
	if (c->shared_experts > 0)
		bind_mlp(b, &layer->shared, "mlp.shared_experts", c->shared_experts * c->expert_width);
}

static void bind_layer(struct binder *b, struct octavo_layer *layer)
{
	bind_vector(b, layer->input_norm, "input_layernorm.weight", b->config->hidden);
	bind_attention(b, layer);
	bind_vector(b, layer->post_norm, "post_attention_layernorm.weight", b->config->hidden);
	if (layer->moe)
		bind_experts(b, layer);
	else
		bind_mlp(b, &layer->dense, "mlp", b->config->dense_width);
}

static void bind_mtp(struct binder *b, struct octavo_mtp *mtp)
{
	size_t hidden = b->config->hidden;
	if (b->status == OCTAVO_OK && !look(b, "enorm", ".weight"))
		b->status =
		        octavo_fail(b->error, OCTAVO_EFORMAT,
		                    "%senorm.weight: missing, though config.json gives num_nextn_predict_layers %zu "
		                    "(make it 0 for a copy that was saved without its MTP layers)",
		                    b->prefix, b->config->mtp_layers);
	bind_vector(b, mtp->enorm, "enorm.weight", hidden);
	bind_vector(b, mtp->hnorm, "hnorm.weight", hidden);
	bind_matrix(b, &mtp->eh_proj, "eh_proj", hidden, 2 * hidden, ANY_PRECISION);
	bind_layer(b, &mtp->layer);
	bind_vector(b, mtp->head_norm, "shared_head.norm.weight", hidden);
	accept_copy(b, "embed_tokens");
	accept_copy(b, "shared_head.head");
}

/* ---- The whole model ------------------------------------------------------------------------------- */

/* `layer` is written only in the second pass, when the arena has memory. */
static void carve_layer(struct octavo_arena *arena, const struct octavo_config *c, size_t index,
                        struct octavo_layer *layer)
{
	struct octavo_layer carved = {.moe = octavo_config_is_moe(c, index)};
	carved.input_norm = octavo_carve(arena, c->hidden, sizeof(float));
	carved.post_norm = octavo_carve(arena, c->hidden, sizeof(float));
	if (c->q_lora > 0)
		carved.q_norm = octavo_carve(arena, c->q_lora, sizeof(float));
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
		carve_layer(arena, c, i, arena->base ? &w->layer[i] : NULL);
	for (size_t i = 0; i < c->mtp_layers; i++) {
		struct octavo_mtp carved = {0};
		carved.enorm = octavo_carve(arena, c->hidden, sizeof(float));
		carved.hnorm = octavo_carve(arena, c->hidden, sizeof(float));
		carved.head_norm = octavo_carve(arena, c->hidden, sizeof(float));
		carve_layer(arena, c, c->layers + i, &carved.layer);
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

static void bind_all(struct binder *b, struct octavo_weights *w)
{
	const struct octavo_config *c = b->config;
	bind_matrix(b, &w->embed, "model.embed_tokens", c->vocab, c->hidden, NO_FP8);
	if (c->tied_head)
		w->head = w->embed;
	else
		bind_matrix(b, &w->head, "lm_head", c->vocab, c->hidden, NO_FP8);
	bind_vector(b, w->final_norm, "model.norm.weight", c->hidden);
	for (size_t i = 0; i < c->layers + c->mtp_layers && b->status == OCTAVO_OK; i++) {
		snprintf(b->prefix, sizeof b->prefix, "model.layers.%zu.", i);
		if (i < c->layers)
			bind_layer(b, &w->layer[i]);
		else
			bind_mtp(b, &w->mtp[i - c->layers]);
	}
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
		          elements(&l->kv_b) + elements(&l->o);
		active += mlp_elements(&l->dense) + elements(&l->router) + mlp_elements(&l->shared);
		if (l->moe) {
			active += c->top_k * mlp_elements(&l->expert[0]);
			idle += (c->experts - c->top_k) * mlp_elements(&l->expert[0]);
		}
	}
	w->active_parameters = active;
	w->parameters = active + idle;
}

enum octavo_status octavo_weights_bind(struct octavo_weights *weights, const struct octavo_config *config,
                                       struct octavo_checkpoint *checkpoint, struct octavo_error *error)
{
	*weights = (struct octavo_weights){0};
	struct binder b = {.config = config, .checkpoint = checkpoint, .error = error};
	b.status = refuse_foreign(checkpoint, error);
	if (b.status == OCTAVO_OK)
		b.status = allocate(weights, config, error);
	bind_all(&b, weights);
	size_t i = 0;
	const struct octavo_tensor *rest = NULL;
	if (b.status == OCTAVO_OK)
		rest = octavo_checkpoint_unused(checkpoint, &i);
	if (rest)
		b.status = octavo_fail(error, OCTAVO_EFORMAT, "%s: %s: unexpected: the model has no place for it",
		                       rest->file, rest->name);
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
