/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "tests/support/ckpt.h"

#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	VOCAB = 300,
	HIDDEN = 160,
	LAYERS = 3,
	HEADS = 2,
	NOPE = 48,
	ROPE = 32,
	V_DIM = 40,
	KV_LORA = 128,
	Q_LORA = 144,
	DENSE_WIDTH = 200,
	EXPERT_WIDTH = 136,
	EXPERTS = 8,
	TOP_K = 3,
	GROUPS = 4,
	TOP_GROUPS = 2,
	FIRST_DENSE = 1
};

void *ckpt_must(void *pointer)
{
	if (!pointer) {
		perror("ckpt");
		abort();
	}
	return pointer;
}

/* ---- Tensors --------------------------------------------------------------------------------------- */

static size_t dtype_bytes(const char *dtype)
{
	if (dtype[1] == '8')
		return 1;
	if (strstr(dtype, "16"))
		return 2;
	return strstr(dtype, "64") ? 8 : 4;
}

void ckpt_reshape(struct ckpt_tensor *tensor, const char *dtype, size_t rank, const size_t *shape)
{
	snprintf(tensor->dtype, sizeof tensor->dtype, "%s", dtype);
	tensor->rank = rank;
	tensor->bytes = dtype_bytes(dtype);
	for (size_t i = 0; i < rank; i++) {
		tensor->shape[i] = shape[i];
		tensor->bytes *= shape[i];
	}
	free(tensor->data);
	tensor->data = ckpt_must(calloc(tensor->bytes + 1, 1));
}

struct ckpt_tensor *ckpt_add(struct ckpt *ckpt, const char *name, const char *dtype, size_t rank, const size_t *shape)
{
	ckpt_must(ckpt->count < CKPT_MAX_TENSORS ? ckpt : NULL);
	struct ckpt_tensor *tensor = &ckpt->tensor[ckpt->count++];
	*tensor = (struct ckpt_tensor){0};
	snprintf(tensor->name, sizeof tensor->name, "%s", name);
	ckpt_reshape(tensor, dtype, rank, shape);
	return tensor;
}

struct ckpt_tensor *ckpt_find(struct ckpt *ckpt, const char *name)
{
	size_t i = 0;
	while (i < ckpt->count && strcmp(ckpt->tensor[i].name, name) != 0)
		i++;
	return ckpt_must(i < ckpt->count ? &ckpt->tensor[i] : NULL);
}

void ckpt_remove(struct ckpt *ckpt, const char *name)
{
	struct ckpt_tensor *tensor = ckpt_find(ckpt, name);
	free(tensor->data);
	*tensor = ckpt->tensor[--ckpt->count];
}

/* ---- Random weights -------------------------------------------------------------------------------- */

/* splitmix64 (Steele, Lea and Flood, OOPSLA 2014). */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9E3779B97F4A7C15u;
	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
	z = (z ^ z >> 27) * 0x94D049BB133111EBu;
	return z ^ z >> 31;
}

/* Near normal, variance 1: the sum of four uniform numbers. */
static float next_normal(uint64_t *state)
{
	uint64_t bits = next_random(state);
	float sum = 0;
	for (int i = 0; i < 4; i++, bits >>= 16)
		sum += (float)(bits & 0xFFFF) / 65536.0f - 0.5f;
	return sum * sqrtf(3.0f);
}

struct builder {
	struct ckpt *ckpt;
	const struct ckpt_options *options;
	uint64_t random;
	char prefix[64];
};

static void name_in(char name[160], const struct builder *b, const char *stem, const char *suffix)
{
	snprintf(name, 160, "%s%s%s", b->prefix, stem, suffix);
}

static void add_vector(struct builder *b, const char *stem, const char *dtype, size_t size, float mean, float spread)
{
	char name[160];
	name_in(name, b, stem, "");
	struct ckpt_tensor *tensor = ckpt_add(b->ckpt, name, dtype, 1, &size);
	for (size_t i = 0; i < size; i++) {
		float value = mean + spread * next_normal(&b->random);
		uint16_t bits = octavo_bf16_encode(value);
		if (strcmp(dtype, "F32") == 0)
			memcpy(tensor->data + 4 * i, &value, 4);
		else
			memcpy(tensor->data + 2 * i, &bits, 2);
	}
}

static void add_bf16(struct builder *b, const char *stem, size_t rows, size_t cols, float spread)
{
	char name[160];
	name_in(name, b, stem, ".weight");
	struct ckpt_tensor *tensor = ckpt_add(b->ckpt, name, "BF16", 2, (size_t[]){rows, cols});
	for (size_t i = 0; i < rows * cols; i++) {
		uint16_t bits = octavo_bf16_encode(spread * next_normal(&b->random));
		memcpy(tensor->data + 2 * i, &bits, 2);
	}
}

static void add_linear(struct builder *b, const char *stem, size_t rows, size_t cols)
{
	float spread = 1.0f / sqrtf((float)cols);
	if (b->options->bf16) {
		add_bf16(b, stem, rows, cols, spread);
		return;
	}
	char name[160];
	size_t blocks[] = {(rows + 127) / 128, (cols + 127) / 128};
	name_in(name, b, stem, ".weight");
	struct ckpt_tensor *weight = ckpt_add(b->ckpt, name, "F8_E4M3", 2, (size_t[]){rows, cols});
	name_in(name, b, stem, ".weight_scale_inv");
	struct ckpt_tensor *scale = ckpt_add(b->ckpt, name, "F32", 2, blocks);
	float *values = ckpt_must(malloc(rows * cols * sizeof *values)); /* [rows][cols] */
	for (size_t i = 0; i < rows * cols; i++)
		values[i] = spread * next_normal(&b->random);
	enum octavo_status status =
	        octavo_quantise_128x128(weight->data, (float *)scale->data, values, rows, cols, cols,
	                                b->options->e8m0 ? OCTAVO_SCALE_E8M0 : OCTAVO_SCALE_AMAX);
	ckpt_must(status == OCTAVO_OK ? b : NULL);
	free(values);
}

static void add_mlp(struct builder *b, const char *stem, size_t width)
{
	char name[96];
	snprintf(name, sizeof name, "%s.gate_proj", stem);
	add_linear(b, name, width, HIDDEN);
	snprintf(name, sizeof name, "%s.up_proj", stem);
	add_linear(b, name, width, HIDDEN);
	snprintf(name, sizeof name, "%s.down_proj", stem);
	add_linear(b, name, HIDDEN, width);
}

static void add_layer(struct builder *b, int moe)
{
	add_vector(b, "input_layernorm.weight", "BF16", HIDDEN, 1, 0.1f);
	add_vector(b, "post_attention_layernorm.weight", "BF16", HIDDEN, 1, 0.1f);
	if (b->options->no_q_lora) {
		add_linear(b, "self_attn.q_proj", HEADS * (NOPE + ROPE), HIDDEN);
	} else {
		add_linear(b, "self_attn.q_a_proj", Q_LORA, HIDDEN);
		add_vector(b, "self_attn.q_a_layernorm.weight", "BF16", Q_LORA, 1, 0.1f);
		add_linear(b, "self_attn.q_b_proj", HEADS * (NOPE + ROPE), Q_LORA);
	}
	add_linear(b, "self_attn.kv_a_proj_with_mqa", KV_LORA + ROPE, HIDDEN);
	add_vector(b, "self_attn.kv_a_layernorm.weight", "F32", KV_LORA, 1, 0.1f);
	add_linear(b, "self_attn.kv_b_proj", HEADS * (NOPE + V_DIM), KV_LORA);
	add_linear(b, "self_attn.o_proj", HIDDEN, HEADS * V_DIM);
	if (!moe) {
		add_mlp(b, "mlp", DENSE_WIDTH);
		return;
	}
	add_bf16(b, "mlp.gate", EXPERTS, HIDDEN, 1.0f / sqrtf(HIDDEN));
	add_vector(b, "mlp.gate.e_score_correction_bias", "F32", EXPERTS, 0, 0.05f);
	for (int i = 0; i < EXPERTS; i++) {
		char stem[32];
		snprintf(stem, sizeof stem, "mlp.experts.%d", i);
		add_mlp(b, stem, EXPERT_WIDTH);
	}
	add_mlp(b, "mlp.shared_experts", EXPERT_WIDTH);
}

static void add_mtp(struct builder *b)
{
	add_layer(b, !b->options->dense);
	add_vector(b, "enorm.weight", "BF16", HIDDEN, 1, 0.1f);
	add_vector(b, "hnorm.weight", "BF16", HIDDEN, 1, 0.1f);
	add_bf16(b, "eh_proj", HIDDEN, 2 * HIDDEN, 1.0f / sqrtf(2 * HIDDEN));
	add_vector(b, "shared_head.norm.weight", "BF16", HIDDEN, 1, 0.1f);
	static const char *const copy[][2] = {{"model.embed_tokens.weight", "embed_tokens.weight"},
	                                      {"lm_head.weight", "shared_head.head.weight"}};
	for (size_t i = 0; i < 2; i++) {
		char name[160];
		name_in(name, b, copy[i][1], "");
		struct ckpt_tensor *to = ckpt_add(b->ckpt, name, "BF16", 2, (size_t[]){VOCAB, HIDDEN});
		memcpy(to->data, ckpt_find(b->ckpt, copy[i][0])->data, to->bytes);
	}
}

/* ---- The model ------------------------------------------------------------------------------------- */

json_t *ckpt_config(const struct ckpt_options *o)
{
	json_t *config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "model_type",
	                           "deepseek_v3", "vocab_size", VOCAB, "hidden_size", HIDDEN, "intermediate_size",
	                           DENSE_WIDTH, "num_hidden_layers", LAYERS, "num_nextn_predict_layers", (int)o->mtp,
	                           "num_attention_heads", HEADS, "kv_lora_rank", KV_LORA, "qk_nope_head_dim", NOPE,
	                           "qk_rope_head_dim", ROPE, "v_head_dim", V_DIM, "max_position_embeddings", 4096);
	json_t *more = json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:b, s:s, s:s, s:f, s:i, s:i, s:f}",
	                         "moe_intermediate_size", EXPERT_WIDTH, "n_shared_experts", 1, "num_experts_per_tok",
	                         TOP_K, "n_group", GROUPS, "topk_group", TOP_GROUPS, "first_k_dense_replace",
	                         FIRST_DENSE, "routed_scaling_factor", 1.5, "norm_topk_prob", 1, "scoring_func",
	                         "sigmoid", "topk_method", "noaux_tc", "rms_norm_eps", 1e-6, "bos_token_id", 0,
	                         "eos_token_id", 1, "rope_theta", 10000.0);
	ckpt_must(config && more ? config : NULL);
	json_object_update(config, more);
	json_decref(more);
	json_object_set_new(config, "q_lora_rank", o->no_q_lora ? json_null() : json_integer(Q_LORA));
	json_object_set_new(config, "n_routed_experts", o->dense ? json_null() : json_integer(EXPERTS));
	json_object_set_new(config, "rope_scaling",
	                    json_pack("{s:s, s:i, s:i, s:i, s:i, s:f, s:f}", "type", "yarn", "factor", 4,
	                              "original_max_position_embeddings", 1024, "beta_fast", 32, "beta_slow", 1,
	                              "mscale", 1.0, "mscale_all_dim", 1.0));
	if (!o->bf16)
		json_object_set_new(config, "quantization_config",
		                    json_pack("{s:s, s:s, s:s, s:[i,i], s:s*}", "quant_method", "fp8", "fmt", "e4m3",
		                              "activation_scheme", "dynamic", "weight_block_size", 128, 128,
		                              "scale_fmt", o->e8m0 ? "ue8m0" : NULL));
	return config;
}

struct ckpt *ckpt_new(const struct ckpt_options *options)
{
	struct ckpt *ckpt = ckpt_must(calloc(1, sizeof *ckpt));
	struct builder b = {.ckpt = ckpt, .options = options, .random = options->seed};
	ckpt->shards = 1;
	ckpt->config = ckpt_config(options);
	add_bf16(&b, "model.embed_tokens", VOCAB, HIDDEN, 1);
	for (unsigned i = 0; i < LAYERS; i++) {
		snprintf(b.prefix, sizeof b.prefix, "model.layers.%u.", i);
		add_layer(&b, !options->dense && i >= FIRST_DENSE);
	}
	b.prefix[0] = '\0';
	add_vector(&b, "model.norm.weight", "BF16", HIDDEN, 1, 0.1f);
	add_bf16(&b, "lm_head", VOCAB, HIDDEN, 2.0f / sqrtf(HIDDEN));
	for (unsigned i = 0; i < options->mtp; i++) {
		snprintf(b.prefix, sizeof b.prefix, "model.layers.%u.", LAYERS + i);
		add_mtp(&b);
	}
	return ckpt;
}

void ckpt_free(struct ckpt *ckpt)
{
	for (size_t i = 0; i < ckpt->count; i++)
		free(ckpt->tensor[i].data);
	json_decref(ckpt->config);
	json_decref(ckpt->generation);
	free(ckpt);
}

/* ---- Files ----------------------------------------------------------------------------------------- */

static FILE *open_file(const char *dir, const char *name, const char *mode)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return ckpt_must(fopen(path, mode));
}

void ckpt_write_file(const char *dir, const char *name, const void *data, size_t bytes)
{
	FILE *file = open_file(dir, name, "wb");
	ckpt_must(fwrite(data, 1, bytes, file) == bytes && fclose(file) == 0 ? file : NULL);
}

unsigned char *ckpt_read_file(const char *dir, const char *name, size_t *bytes)
{
	FILE *file = open_file(dir, name, "rb");
	fseek(file, 0, SEEK_END);
	*bytes = (size_t)ftell(file);
	rewind(file);
	unsigned char *data = ckpt_must(malloc(*bytes + 1));
	ckpt_must(fread(data, 1, *bytes, file) == *bytes ? data : NULL);
	fclose(file);
	return data;
}

struct ckpt *ckpt_load(const char *dir)
{
	struct ckpt *ckpt = ckpt_must(calloc(1, sizeof *ckpt));
	size_t bytes, length = 0;
	const char *name;
	json_t *about;
	unsigned char *config = ckpt_read_file(dir, "config.json", &bytes);
	ckpt->config = ckpt_must(json_loadb((const char *)config, bytes, 0, NULL));
	ckpt->shards = 1;
	unsigned char *file = ckpt_read_file(dir, "model.safetensors", &bytes);
	for (unsigned i = 8; i--;)
		length = length << 8 | file[i];
	json_t *header = ckpt_must(json_loadb((const char *)file + 8, length, 0, NULL));
	json_object_del(header, "__metadata__");
	json_object_foreach(header, name, about) {
		json_t *dims = json_object_get(about, "shape"), *offsets = json_object_get(about, "data_offsets");
		size_t shape[CKPT_MAX_RANK], rank = json_array_size(dims);
		for (size_t i = 0; i < rank; i++)
			shape[i] = (size_t)json_integer_value(json_array_get(dims, i));
		struct ckpt_tensor *tensor =
		        ckpt_add(ckpt, name, json_string_value(json_object_get(about, "dtype")), rank, shape);
		memcpy(tensor->data, file + 8 + length + json_integer_value(json_array_get(offsets, 0)), tensor->bytes);
	}
	json_decref(header);
	free(file);
	free(config);
	return ckpt;
}

static void write_json(const char *dir, const char *name, const json_t *json)
{
	char *text = ckpt_must(json_dumps(json, JSON_INDENT(1)));
	ckpt_write_file(dir, name, text, strlen(text));
	free(text);
}

static json_t *header_of(const struct ckpt *ckpt, unsigned shard)
{
	json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
	size_t next = 0;
	for (size_t i = 0; i < ckpt->count; i++) {
		const struct ckpt_tensor *t = &ckpt->tensor[i];
		if (t->shard != shard)
			continue;
		json_t *shape = json_array();
		for (size_t j = 0; j < t->rank; j++)
			json_array_append_new(shape, json_integer((json_int_t)t->shape[j]));
		json_object_set_new(header, t->name,
		                    json_pack("{s:s, s:o, s:[I,I]}", "dtype", t->dtype, "shape", shape, "data_offsets",
		                              (json_int_t)next, (json_int_t)(next + t->bytes)));
		next += t->bytes;
	}
	return header;
}

static void write_shard(const struct ckpt *ckpt, unsigned shard, const char *dir, const char *name)
{
	json_t *header = header_of(ckpt, shard);
	char *text = ckpt_must(json_dumps(header, JSON_COMPACT));
	size_t length = strlen(text);
	FILE *file = open_file(dir, name, "wb");
	for (int i = 0; i < 8; i++)
		putc((int)((uint64_t)(length + ckpt->pad) >> 8 * i & 0xFF), file);
	fwrite(text, 1, length, file);
	for (unsigned i = 0; i < ckpt->pad; i++)
		putc(' ', file);
	for (size_t i = 0; i < ckpt->count; i++)
		if (ckpt->tensor[i].shard == shard)
			fwrite(ckpt->tensor[i].data, 1, ckpt->tensor[i].bytes, file);
	ckpt_must(!ferror(file) && fclose(file) == 0 ? file : NULL);
	free(text);
	json_decref(header);
}

void ckpt_write(const struct ckpt *ckpt, const char *dir)
{
	write_json(dir, "config.json", ckpt->config);
	if (ckpt->generation)
		write_json(dir, "generation_config.json", ckpt->generation);
	if (ckpt->shards == 1) {
		write_shard(ckpt, 0, dir, "model.safetensors");
		return;
	}
	char name[64];
	json_t *map = json_object();
	for (unsigned i = 0; i < ckpt->shards; i++) {
		snprintf(name, sizeof name, "model-%05u-of-%05u.safetensors", i + 1, ckpt->shards);
		write_shard(ckpt, i, dir, name);
		for (size_t j = 0; j < ckpt->count; j++)
			if (ckpt->tensor[j].shard == i)
				json_object_set_new(map, ckpt->tensor[j].name, json_string(name));
	}
	/* A wrong total_size, as published files have it. */
	json_t *index = json_pack("{s:{s:i}, s:o}", "metadata", "total_size", 1, "weight_map", map);
	write_json(dir, "model.safetensors.index.json", index);
	json_decref(index);
}

char *ckpt_dir_new(void)
{
	const char *base = getenv("TMPDIR");
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/octavo-test-XXXXXX", base && *base ? base : "/tmp");
	return ckpt_must(strdup(ckpt_must(mkdtemp(path))));
}

void ckpt_dir_free(char *dir)
{
	DIR *stream = ckpt_must(opendir(dir));
	const struct dirent *entry;
	while ((entry = readdir(stream))) {
		char path[PATH_MAX];
		int length = snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
		if (entry->d_name[0] != '.' && length < PATH_MAX)
			unlink(path);
	}
	closedir(stream);
	rmdir(dir);
	free(dir);
}

int ckpt_dir_setup(void **state)
{
	*state = ckpt_dir_new();
	return 0;
}

int ckpt_dir_teardown(void **state)
{
	ckpt_dir_free(*state);
	return 0;
}
