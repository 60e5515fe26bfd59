/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing an engine, and what it tells about itself.
 */
#include "engine/draft/files.h"
#include "engine/load/copy.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_CONTEXT = 4096, DEFAULT_ROWS = 64, MOST_ROWS = 4096, MOST_SEQUENCES = 4096 };

static enum octavo_status check_settings(struct octavo_engine *e, struct octavo_error *error)
{
	struct octavo_engine_settings *s = &e->settings;
	if (!s->model_dir)
		return octavo_fail(error, OCTAVO_EINVAL, "settings: model_dir is missing");
	if (s->max_rows > MOST_ROWS || s->sequences > MOST_SEQUENCES || s->threads > 4096)
		return octavo_fail(error, OCTAVO_ELIMIT, "settings: at most %d rows, %d sequences and 4096 threads",
		                   MOST_ROWS, MOST_SEQUENCES);
	if (s->arithmetic != OCTAVO_W8A16 && s->arithmetic != OCTAVO_W8A8)
		return octavo_fail(error, OCTAVO_EINVAL, "settings: unknown arithmetic %d", (int)s->arithmetic);
	if (s->kv != OCTAVO_KV_BF16 && s->kv != OCTAVO_KV_FP8)
		return octavo_fail(error, OCTAVO_EINVAL, "settings: unknown KV cache format %d", (int)s->kv);
	if (s->weights != OCTAVO_WEIGHTS_MAP && s->weights != OCTAVO_WEIGHTS_COPY)
		return octavo_fail(error, OCTAVO_EINVAL, "settings: unknown place %d for the weights", (int)s->weights);
	if ((unsigned)s->mtp_first_tap > OCTAVO_TAP_PRE_NORM || (unsigned)s->mtp_recycle_tap > OCTAVO_TAP_PRE_NORM)
		return octavo_fail(error, OCTAVO_EINVAL, "settings: unknown MTP tap");
	s->max_rows = s->max_rows ? s->max_rows : DEFAULT_ROWS;
	s->sequences = s->sequences ? s->sequences : 1;
	s->naive_min = s->naive_min ? s->naive_min : SIZE_MAX;
	e->k = s->kernels ? s->kernels : octavo_kernels_get();
	e->profiler = s->profiler;
	return octavo_threads_open(&e->threads, s->threads, s->parallel, s->profiler, error);
}

static enum octavo_status size_caches(struct octavo_engine *e, struct octavo_error *error)
{
	struct octavo_engine_settings *s = &e->settings;
	const struct octavo_config *c = &e->config;
	if (s->max_context > c->max_position)
		return octavo_fail(error, OCTAVO_ELIMIT, "settings: max_context %zu exceeds the model's %zu positions",
		                   s->max_context, c->max_position);
	if (c->kv_heads && s->kv == OCTAVO_KV_FP8)
		return octavo_fail(error, OCTAVO_ENOTSUP,
		                   "settings: an FP8 KV cache is for latent attention; models of type %s keep keys and values "
		                   "in BF16",
		                   c->architecture);
	if (!s->max_context)
		s->max_context = c->max_position < DEFAULT_CONTEXT ? c->max_position : DEFAULT_CONTEXT;
	e->kv.sequences = s->sequences;
	e->kv.layers = c->layers + c->mtp_layers;
	e->kv.slots = s->max_context + s->max_rows;
	e->kv.width = c->kv_heads ? 2 * c->kv_heads * c->v_dim : c->kv_lora + c->rope;
	e->kv.bytes = s->kv == OCTAVO_KV_FP8 ? octavo_kv_row_bytes(c->kv_lora, c->rope) : e->kv.width * sizeof(uint16_t);
	return octavo_work_allocate(e, error);
}

/* A layer's experts share one left operand, and so do its projections: they must agree on whether it is quantised. */
enum octavo_status octavo_layer_check(const struct octavo_layer *layer, size_t index, size_t experts,
                                      struct octavo_error *error)
{
	for (size_t x = 0; layer->moe && x < experts; x++)
		if (octavo_is_fp8(&layer->expert[x].gate) != octavo_is_fp8(&layer->expert[0].gate) ||
		    octavo_is_fp8(&layer->expert[x].up) != octavo_is_fp8(&layer->expert[0].gate) ||
		    octavo_is_fp8(&layer->expert[x].down) != octavo_is_fp8(&layer->expert[0].down))
			return octavo_fail(error, OCTAVO_ENOTSUP,
			                   "layer %zu: expert %zu and expert 0 differ in FP8 against wider weights", index, x);
	const struct octavo_mlp *pair = layer->moe ? &layer->shared : &layer->dense;
	if (pair->gate.data && octavo_is_fp8(&pair->gate) != octavo_is_fp8(&pair->up))
		return octavo_fail(error, OCTAVO_ENOTSUP, "layer %zu: gate_proj and up_proj differ in FP8 against wider weights",
		                   index);
	if (layer->k.data && (octavo_is_fp8(&layer->q) != octavo_is_fp8(&layer->k) ||
	                      octavo_is_fp8(&layer->q) != octavo_is_fp8(&layer->v)))
		return octavo_fail(error, OCTAVO_ENOTSUP,
		                   "layer %zu: q_proj, k_proj and v_proj differ in FP8 against wider weights", index);
	return OCTAVO_OK;
}

static enum octavo_status check_layers(const struct octavo_engine *e, struct octavo_error *error)
{
	enum octavo_status status = OCTAVO_OK;
	for (size_t i = 0; i < e->config.layers && status == OCTAVO_OK; i++)
		status = octavo_layer_check(&e->weights.layer[i], i, e->config.experts, error);
	for (size_t i = 0; i < e->config.mtp_layers && status == OCTAVO_OK; i++)
		status = octavo_layer_check(&e->weights.mtp[i].layer, e->config.layers + i, e->config.experts, error);
	return status;
}

static void describe(struct octavo_engine *e)
{
	const struct octavo_config *c = &e->config;
	size_t length;
	e->choosable = c->vocab;
	while (e->choosable > 1 && !octavo_tokenizer_text(e->tokenizer, (int32_t)e->choosable - 1, &length))
		e->choosable--;
	e->info = (struct octavo_model_info){
		.architecture = c->architecture,
		.layers = c->layers,
		.mtp_layers = c->mtp_layers,
		.hidden = c->hidden,
		.vocab = c->vocab,
		.heads = c->heads,
		.experts = c->experts,
		.experts_per_token = c->experts ? c->top_k : 0,
		.context = e->settings.max_context,
		.parameters = e->weights.parameters,
		.active_parameters = e->weights.active_parameters,
		.weight_bytes = octavo_checkpoint_bytes(e->checkpoint),
		.kv_bytes = e->kv.slots * e->kv.layers * e->kv.bytes,
		.bos = octavo_tokenizer_bos(e->tokenizer),
		.eos = c->eos,
		.eos_count = c->eos_count,
		.recommended = { .temperature = c->temperature, .top_k = (uint32_t)c->sample_top_k, .top_p = c->top_p,
		                 .min_p = c->min_p, .repetition = c->repetition },
	};
}

static enum octavo_status open_parts(struct octavo_engine *e, struct octavo_error *error)
{
	const char *dir = e->settings.model_dir;
	const struct octavo_copy copy = { &octavo_numa, &e->threads };
	const struct octavo_copy *how = e->settings.weights == OCTAVO_WEIGHTS_COPY ? &copy : NULL;
	enum octavo_status status = check_settings(e, error);
	if (status == OCTAVO_OK)
		status = octavo_config_load(&e->config, dir, error);
	if (status == OCTAVO_OK)
		status = octavo_tokenizer_open(&e->tokenizer, dir, e->config.vocab, error);
	if (status == OCTAVO_OK)
		status = octavo_checkpoint_open(&e->checkpoint, dir, how, error);
	if (status == OCTAVO_OK)
		status = octavo_weights_bind(&e->weights, &e->config, e->checkpoint, error);
	if (status == OCTAVO_OK)
		status = check_layers(e, error);
	if (status == OCTAVO_OK)
		status = size_caches(e, error);
	if (status != OCTAVO_OK)
		return status;
	octavo_rope_tables(e->rope, e->settings.max_context + e->settings.max_rows, &e->config);
	e->tau = octavo_softmax_scale(&e->config);
	describe(e);
	e->settings.model_dir = NULL; /* borrowed for the call only */
	e->model_dir = strdup(dir);
	return e->model_dir ? OCTAVO_OK : octavo_fail(error, OCTAVO_ENOMEM, "engine: out of memory");
}

enum octavo_status octavo_engine_open(struct octavo_engine **out, const struct octavo_engine_settings *settings,
                                      struct octavo_error *error)
{
	if (!out || !settings)
		return octavo_fail(error, OCTAVO_EINVAL, "engine: a null argument");
	*out = NULL;
	struct octavo_engine *e = calloc(1, sizeof *e);
	if (!e)
		return octavo_fail(error, OCTAVO_ENOMEM, "engine: out of memory");
	e->settings = *settings;
	enum octavo_status status = open_parts(e, error);
	if (status != OCTAVO_OK)
		octavo_engine_close(&e);
	*out = e;
	return status;
}

void octavo_engine_close(struct octavo_engine **engine)
{
	if (!engine || !*engine)
		return;
	struct octavo_engine *e = *engine;
	octavo_draft_files_close(e);
	octavo_weights_release(&e->weights);
	octavo_checkpoint_close(&e->checkpoint);
	octavo_tokenizer_close(&e->tokenizer);
	octavo_threads_close(&e->threads);
	free(e->model_dir);
	free(e->work.wider);
	free(e->arena);
	free(e);
	*engine = NULL;
}

const struct octavo_model_info *octavo_engine_model(const struct octavo_engine *e)
{
	return e ? &e->info : NULL;
}

enum octavo_status octavo_encode(const struct octavo_engine *e, const char *text, size_t length, unsigned flags,
                                 int32_t *id, size_t cap, size_t *count, struct octavo_error *error)
{
	if (!e || (!text && length) || (!id && cap) || !count)
		return octavo_fail(error, OCTAVO_EINVAL, "encode: a null argument");
	return octavo_tokenizer_encode(e->tokenizer, text, length, flags, id, cap, count, error);
}

const char *octavo_token_text(const struct octavo_engine *e, int32_t id, size_t *length)
{
	return e ? octavo_tokenizer_text(e->tokenizer, id, length) : NULL;
}
