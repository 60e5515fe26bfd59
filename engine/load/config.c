/* SPDX-License-Identifier: Apache-2.0
 *
 * config.json and generation_config.json.  What would change the arithmetic and is not implemented is refused,
 * never ignored.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine/load/config_parts.h"

#include "fp8/error.h"
#include "engine/load/file.h"

#include <math.h>
#include <string.h>

static const char config_name[] = "config.json";
static const char generation_name[] = "generation_config.json";

/* ---- Architectures --------------------------------------------------------------------------------- */

static const struct octavo_architecture architectures[] = {
        {.name = "deepseek_v3", .method = OCTAVO_TOPK_NOAUX_TC, .scoring = OCTAVO_SCORE_SIGMOID, .normalise = 1, .grouped = 1},
        {.name = "kimi_k2", .method = OCTAVO_TOPK_NOAUX_TC, .scoring = OCTAVO_SCORE_SIGMOID, .normalise = 1, .grouped = 1},
        {.name = "glm4_moe_lite", .method = OCTAVO_TOPK_NOAUX_TC, .scoring = OCTAVO_SCORE_SIGMOID, .normalise = 1},
        {.name = "deepseek_v2", .method = OCTAVO_TOPK_GREEDY, .scoring = OCTAVO_SCORE_SOFTMAX},
        {.name = "llama", .dense = 1},
        {.name = "mistral", .dense = 1, .explicit_heads = 1},
        {.name = "qwen2", .dense = 1, .qkv_bias = 1, .explicit_heads = 1, .optional_window = 1},
        {.name = "qwen3", .dense = 1, .qk_norm = 1, .explicit_heads = 1, .optional_window = 1},
};

static const struct octavo_architecture *read_architecture(struct octavo_fields *fields)
{
	if (octavo_field(fields, "text_config")) {
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "text_config",
		                   "a multimodal wrapper; only plain language models are supported");
		return NULL;
	}
	const char *name = NULL;
	octavo_field_string(fields, "model_type", OCTAVO_REQUIRED, &name);
	if (!name)
		return NULL;
	for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
		if (strcmp(architectures[i].name, name) == 0)
			return &architectures[i];
	if (strcmp(name, "deepseek_v32") == 0 || strcmp(name, "glm_moe_dsa") == 0)
		octavo_fields_fail(
		        fields, OCTAVO_ENOTSUP, "model_type",
		        "%s attends through the indexer of DeepSeek sparse attention, which is not implemented", name);
	else
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "model_type",
		                   "%.64s is not supported (deepseek_v3, deepseek_v2, kimi_k2, glm4_moe_lite, llama, mistral, "
		                   "qwen2 and qwen3 are)",
		                   name);
	return NULL;
}

/* ---- Sizes ----------------------------------------------------------------------------------------- */

static void read_sizes(struct octavo_config *c, struct octavo_fields *fields)
{
	octavo_field_size(fields, "vocab_size", OCTAVO_REQUIRED, 2, MAX_VOCAB, &c->vocab);
	octavo_field_size(fields, "hidden_size", OCTAVO_REQUIRED, 1, MAX_WIDTH, &c->hidden);
	octavo_field_size(fields, "num_hidden_layers", OCTAVO_REQUIRED, 1, MAX_LAYERS, &c->layers);
	octavo_field_size(fields, "num_nextn_predict_layers", OCTAVO_OPTIONAL, 0, 16, &c->mtp_layers);
	octavo_field_size(fields, "num_attention_heads", OCTAVO_REQUIRED, 1, MAX_HEADS, &c->heads);
	octavo_field_size(fields, "max_position_embeddings", OCTAVO_REQUIRED, 1, 1 << 30, &c->max_position);
	double eps = 1e-6;
	octavo_field_number(fields, "rms_norm_eps", OCTAVO_OPTIONAL, 1e-12, 1e-2, &eps);
	c->norm_eps = (float)eps;
	octavo_field_bool(fields, "tie_word_embeddings", OCTAVO_OPTIONAL, &c->tied_head);
}

static void read_mla(struct octavo_config *c, struct octavo_fields *fields)
{
	octavo_field_size(fields, "q_lora_rank", OCTAVO_OPTIONAL, 1, MAX_WIDTH, &c->q_lora);
	octavo_field_size(fields, "kv_lora_rank", OCTAVO_REQUIRED, 1, MAX_WIDTH, &c->kv_lora);
	octavo_field_size(fields, "qk_nope_head_dim", OCTAVO_REQUIRED, 1, MAX_HEAD_DIM, &c->nope);
	octavo_field_size(fields, "qk_rope_head_dim", OCTAVO_REQUIRED, 2, MAX_HEAD_DIM, &c->rope);
	octavo_field_size(fields, "v_head_dim", OCTAVO_REQUIRED, 1, MAX_HEAD_DIM, &c->v_dim);
	size_t kv_heads = c->heads;
	octavo_field_size(fields, "num_key_value_heads", OCTAVO_OPTIONAL, 1, MAX_HEADS, &kv_heads);
	c->latent_norm_eps = 1e-6f;
	if (fields->status != OCTAVO_OK)
		return;
	if (c->rope % 2 != 0)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "qk_rope_head_dim", "%zu is odd, but pairs are rotated",
		                   c->rope);
	else if (kv_heads != c->heads)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "num_key_value_heads",
		                   "%zu differs from num_attention_heads; MLA shares its latent rows instead",
		                   kv_heads);
}

/* Fields whose usual value is the only one implemented. */
static void check_variants(const struct octavo_architecture *architecture, struct octavo_fields *fields)
{
	const char *act = "silu";
	int bias = 0, interleave = !architecture->dense;
	double partial = 1;
	octavo_field_string(fields, "hidden_act", OCTAVO_OPTIONAL, &act);
	octavo_field_bool(fields, "attention_bias", OCTAVO_OPTIONAL, &bias);
	octavo_field_bool(fields, "rope_interleave", OCTAVO_OPTIONAL, &interleave);
	octavo_field_number(fields, "partial_rotary_factor", OCTAVO_OPTIONAL, 0, 1, &partial);
	if (fields->status != OCTAVO_OK)
		return;
	if (strcmp(act, "silu") != 0)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "hidden_act", "%.64s is not supported, only silu is", act);
	else if (bias)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "attention_bias",
		                   "projections with a bias are not supported");
	else if (interleave == architecture->dense)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "rope_interleave", "only %s are supported",
		                   architecture->dense ? "halves (false)" : "adjacent pairs (true)");
	else if (partial != 1)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "partial_rotary_factor", "%g is not supported, only 1 is",
		                   partial);
	else if (octavo_field(fields, "index_topk"))
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "index_topk",
		                   "the indexer of DeepSeek sparse attention is not implemented");
}

/* ---- Mixture of experts ---------------------------------------------------------------------------- */

static void read_routing(struct octavo_config *c, const struct octavo_architecture *architecture, struct octavo_fields *fields)
{
	static const char *const methods[] = {
	        [OCTAVO_TOPK_NOAUX_TC] = "noaux_tc",
	        [OCTAVO_TOPK_GREEDY] = "greedy",
	        [OCTAVO_TOPK_GROUP_GREEDY] = "group_limited_greedy",
	};
	static const char *const scorings[] = {[OCTAVO_SCORE_SIGMOID] = "sigmoid", [OCTAVO_SCORE_SOFTMAX] = "softmax"};
	const char *method = methods[architecture->method], *scoring = scorings[architecture->scoring];
	octavo_field_string(fields, "topk_method", OCTAVO_OPTIONAL, &method);
	octavo_field_string(fields, "scoring_func", OCTAVO_OPTIONAL, &scoring);
	if (fields->status != OCTAVO_OK)
		return;
	int m = 2, s = 1;
	while (m >= 0 && strcmp(methods[m], method) != 0)
		m--;
	while (s >= 0 && strcmp(scorings[s], scoring) != 0)
		s--;
	if (m < 0)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "topk_method", "%.64s is not supported", method);
	else if (s < 0)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "scoring_func", "%.64s is not supported", scoring);
	else if ((m == OCTAVO_TOPK_NOAUX_TC) != (s == OCTAVO_SCORE_SIGMOID))
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "scoring_func", "%s with topk_method %s is not supported",
		                   scoring, method);
	c->topk_method = (enum octavo_topk_method)m;
	c->scoring = (enum octavo_scoring)s;
}

/* The newer spelling of first_k_dense_replace: one string per layer. */
static void read_layer_types(struct octavo_config *c, const json_t *types, struct octavo_fields *fields)
{
	static const char field[] = "mlp_layer_types";
	if (json_array_size(types) != c->layers) {
		octavo_fields_fail(fields, OCTAVO_EFORMAT, field, "not an array of num_hidden_layers strings");
		return;
	}
	size_t dense = 0, sparse = 0;
	for (size_t i = 0; i < c->layers; i++) {
		const char *type = json_string_value(json_array_get(types, i));
		if (type && strcmp(type, "dense") == 0 && sparse == 0)
			dense++;
		else if (type && strcmp(type, "sparse") == 0)
			sparse++;
	}
	if (dense + sparse != c->layers)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, field,
		                   "only \"dense\" layers followed by \"sparse\" ones are supported");
	c->first_dense = dense;
}

static void check_experts(const struct octavo_config *c, struct octavo_fields *fields)
{
	size_t per_group = c->experts / c->groups;
	if (c->experts % c->groups != 0)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "n_group", "%zu does not divide n_routed_experts %zu",
		                   c->groups, c->experts);
	else if (c->top_groups > c->groups)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "topk_group", "%zu is more than n_group %zu", c->top_groups,
		                   c->groups);
	else if (c->topk_method == OCTAVO_TOPK_NOAUX_TC && c->groups > 1 && per_group < 2)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "n_group",
		                   "groups of %zu expert, but the two best make its score", per_group);
	else if (c->top_k > per_group * c->top_groups)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "num_experts_per_tok",
		                   "%zu is more than the %zu in topk_group groups", c->top_k,
		                   per_group * c->top_groups);
}

static void read_experts(struct octavo_config *c, const struct octavo_architecture *architecture, struct octavo_fields *fields)
{
	enum octavo_presence grouped = architecture->grouped ? OCTAVO_REQUIRED : OCTAVO_OPTIONAL;
	double factor = 1;
	c->normalise = architecture->normalise;
	c->groups = c->top_groups = c->moe_every = 1;
	octavo_field_size(fields, "moe_intermediate_size", OCTAVO_REQUIRED, 1, MAX_WIDTH, &c->expert_width);
	octavo_field_size(fields, "n_shared_experts", OCTAVO_OPTIONAL, 0, 64, &c->shared_experts);
	octavo_field_size(fields, "num_experts_per_tok", OCTAVO_REQUIRED, 1, c->experts, &c->top_k);
	octavo_field_size(fields, "moe_layer_freq", OCTAVO_OPTIONAL, 1, MAX_LAYERS, &c->moe_every);
	octavo_field_bool(fields, "norm_topk_prob", OCTAVO_OPTIONAL, &c->normalise);
	octavo_field_number(fields, "routed_scaling_factor", OCTAVO_REQUIRED, 1e-6, 1e6, &factor);
	c->routed_factor = (float)factor;
	read_routing(c, architecture, fields);
	const json_t *types = octavo_field(fields, "mlp_layer_types");
	if (types && fields->status == OCTAVO_OK)
		read_layer_types(c, types, fields);
	else
		octavo_field_size(fields, "first_k_dense_replace", OCTAVO_REQUIRED, 0, c->layers, &c->first_dense);
	/* Greedy choice knows no groups, whatever the file says of them. */
	if (c->topk_method != OCTAVO_TOPK_GREEDY) {
		octavo_field_size(fields, "n_group", grouped, 1, c->experts, &c->groups);
		octavo_field_size(fields, "topk_group", grouped, 1, c->experts, &c->top_groups);
	}
	if (fields->status == OCTAVO_OK)
		check_experts(c, fields);
	if (fields->status == OCTAVO_OK && c->scoring == OCTAVO_SCORE_SOFTMAX && c->normalise && factor != 1)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "norm_topk_prob",
		                   "true with routed_scaling_factor %g: implementations of deepseek_v2 disagree on it",
		                   factor);
}

static void read_mlp(struct octavo_config *c, const struct octavo_architecture *architecture, struct octavo_fields *fields)
{
	octavo_field_size(fields, "n_routed_experts", OCTAVO_OPTIONAL, 1, OCTAVO_MAX_EXPERTS, &c->experts);
	if (fields->status == OCTAVO_OK && !json_object_get(fields->object, "n_routed_experts"))
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "n_routed_experts",
		                   "missing (null would say: a dense model)");
	if (fields->status == OCTAVO_OK && c->experts > 0)
		read_experts(c, architecture, fields);
	/* A model may be all experts; then there is no dense width to give. */
	int some_dense = c->experts == 0 || c->first_dense > 0 || c->moe_every > 1;
	octavo_field_size(fields, "intermediate_size", some_dense ? OCTAVO_REQUIRED : OCTAVO_OPTIONAL, 1, MAX_WIDTH,
	                  &c->dense_width);
}

int octavo_config_is_moe(const struct octavo_config *config, size_t layer)
{
	if (config->experts == 0)
		return 0;
	if (layer >= config->layers) /* the block of an MTP module */
		return 1;
	return layer >= config->first_dense && layer % config->moe_every == 0;
}

/* ---- Quantisation ---------------------------------------------------------------------------------- */

static int is_128_block(const json_t *block)
{
	return json_array_size(block) == 2 && json_integer_value(json_array_get(block, 0)) == OCTAVO_BLOCK &&
	       json_integer_value(json_array_get(block, 1)) == OCTAVO_BLOCK;
}

/* The stored dtypes decide which matrices are FP8; this only makes sure that the scales mean what we take them
 * for. */
static void read_scheme(struct octavo_config *c, struct octavo_fields *fields)
{
	const char *method = NULL, *scheme = "dynamic", *scale = "float", *format = "e4m3";
	octavo_field_string(fields, "quant_method", OCTAVO_REQUIRED, &method);
	octavo_field_string(fields, "activation_scheme", OCTAVO_OPTIONAL, &scheme);
	octavo_field_string(fields, "scale_fmt", OCTAVO_OPTIONAL, &scale);
	octavo_field_string(fields, "fmt", OCTAVO_OPTIONAL, &format);
	if (fields->status != OCTAVO_OK)
		return;
	if (strcmp(method, "fp8") != 0)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "quant_method",
		                   "%.64s is not supported, only fp8 with 128x128 blocks is", method);
	else if (!is_128_block(octavo_field(fields, "weight_block_size")))
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "weight_block_size", "only [128, 128] is supported");
	else if (strcmp(scheme, "dynamic") != 0)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "activation_scheme",
		                   "%.64s is not supported, only dynamic is", scheme);
	else if (strcmp(format, "e4m3") != 0 && strcmp(format, "e5m2") != 0)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "fmt", "%.64s is not supported", format);
	else if (strcmp(scale, "ue8m0") != 0 && strcmp(scale, "float") != 0)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "scale_fmt", "%.64s is not supported", scale);
	c->activation_scale = strcmp(scale, "ue8m0") == 0 ? OCTAVO_SCALE_E8M0 : OCTAVO_SCALE_AMAX;
}

static void read_quantisation(struct octavo_config *c, struct octavo_fields *fields)
{
	const json_t *object = octavo_field(fields, "quantization_config");
	if (fields->status != OCTAVO_OK)
		return;
	if (octavo_field(fields, "compression_config")) {
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "compression_config",
		                   "compressed tensors are not supported");
	} else if (object && !json_is_object(object)) {
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "quantization_config", "not an object");
	} else if (object) {
		struct octavo_fields inner = *fields;
		inner.object = object;
		inner.prefix = "quantization_config.";
		read_scheme(c, &inner);
		fields->status = inner.status;
	}
}

/* ---- Special tokens and sampling hints ------------------------------------------------------------- */

static int is_token(const json_t *id, size_t vocab)
{
	return json_is_integer(id) && json_integer_value(id) >= 0 && (uintmax_t)json_integer_value(id) < vocab;
}

static void add_eos(struct octavo_config *c, const json_t *id, struct octavo_fields *fields)
{
	if (!is_token(id, c->vocab)) {
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "eos_token_id", "not a token id below vocab_size %zu",
		                   c->vocab);
		return;
	}
	int32_t token = (int32_t)json_integer_value(id);
	for (size_t i = 0; i < c->eos_count; i++)
		if (c->eos[i] == token)
			return;
	if (c->eos_count == OCTAVO_MAX_EOS)
		octavo_fields_fail(fields, OCTAVO_ELIMIT, "eos_token_id", "more than %d tokens", OCTAVO_MAX_EOS);
	else
		c->eos[c->eos_count++] = token;
}

/* The field stands in both files, and generation stops at an end token of either.  Of BOS the tokenizer's files decide. */
static void read_tokens(struct octavo_config *c, struct octavo_fields *fields)
{
	const json_t *eos = octavo_field(fields, "eos_token_id");
	if (fields->status != OCTAVO_OK)
		return;
	if (eos && !json_is_array(eos))
		add_eos(c, eos, fields);
	for (size_t i = 0; i < json_array_size(eos) && fields->status == OCTAVO_OK; i++)
		add_eos(c, json_array_get(eos, i), fields);
}

static void read_generation(struct octavo_config *c, struct octavo_fields *fields)
{
	double temperature = -1, top_p = 0, min_p = 0, repetition = 0;
	int sample = 1;
	read_tokens(c, fields);
	octavo_field_bool(fields, "do_sample", OCTAVO_OPTIONAL, &sample);
	octavo_field_number(fields, "temperature", OCTAVO_OPTIONAL, 0, 100, &temperature);
	octavo_field_number(fields, "top_p", OCTAVO_OPTIONAL, 0, 1, &top_p);
	octavo_field_number(fields, "min_p", OCTAVO_OPTIONAL, 0, 0.999999, &min_p);
	octavo_field_number(fields, "repetition_penalty", OCTAVO_OPTIONAL, 0, 100, &repetition);
	octavo_field_size(fields, "top_k", OCTAVO_OPTIONAL, 0, UINT32_MAX, &c->sample_top_k);
	c->repetition = (float)repetition; /* of greedy decoding too */
	c->temperature = sample ? (float)temperature : 0;
	c->top_p = sample ? (float)top_p : 0;
	c->min_p = sample ? (float)min_p : 0;
	c->sample_top_k = sample ? c->sample_top_k : 0;
}

/* ---- The two files --------------------------------------------------------------------------------- */

static void read_config(struct octavo_config *c, struct octavo_fields *fields)
{
	const struct octavo_architecture *architecture = read_architecture(fields);
	if (!architecture)
		return;
	strcpy(c->architecture, architecture->name);
	read_sizes(c, fields);
	if (architecture->dense)
		octavo_config_dense(c, architecture, fields);
	else
		read_mla(c, fields);
	check_variants(architecture, fields);
	if (fields->status == OCTAVO_OK && !architecture->dense)
		read_mlp(c, architecture, fields);
	if (fields->status != OCTAVO_OK)
		return;
	octavo_config_rope(c, fields);
	read_quantisation(c, fields);
	read_tokens(c, fields);
}

static enum octavo_status read_file(struct octavo_config *config, const char *dir, const char *name,
                                    void (*read)(struct octavo_config *, struct octavo_fields *),
                                    struct octavo_error *error)
{
	json_t *root;
	enum octavo_status status = octavo_json_load(&root, dir, name, error);
	if (status != OCTAVO_OK)
		return status;
	struct octavo_fields fields = {.object = root, .file = name, .prefix = "", .error = error};
	read(config, &fields);
	json_decref(root);
	return fields.status;
}

enum octavo_status octavo_config_load(struct octavo_config *config, const char *dir, struct octavo_error *error)
{
	*config = (struct octavo_config){.temperature = -1};
	enum octavo_status status = read_file(config, dir, config_name, read_config, error);
	if (status == OCTAVO_OK && octavo_file_exists(dir, generation_name))
		status = read_file(config, dir, generation_name, read_generation, error);
	return status;
}
