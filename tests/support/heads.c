/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "tests/support/heads.h"

#include "tests/support/model.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Uniform of variance 1; Knuth's MMIX generator. */
static float next_value(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return ((float)(*state >> 40) / 16777216.0f - 0.5f) * sqrtf(12.0f);
}

void heads_set(struct ckpt_tensor *tensor, size_t i, float value)
{
	uint16_t bits = octavo_bf16_encode(value);
	memcpy(tensor->data + 2 * i, &bits, 2);
}

struct builder {
	struct ckpt *ckpt;
	const struct heads_options *options;
	uint64_t random;
};

static void add_vector(struct builder *b, const char *name, size_t size)
{
	struct ckpt_tensor *tensor = ckpt_add(b->ckpt, name, "F32", 1, &size);
	for (size_t i = 0; i < size && !b->options->zero; i++) {
		float value = 0.5f * next_value(&b->random);
		memcpy(tensor->data + 4 * i, &value, 4);
	}
}

static void add_matrix(struct builder *b, const char *stem, size_t rows, size_t cols, float gain)
{
	const char *dtype = b->options->dtype;
	char name[160];
	snprintf(name, sizeof name, "%s.weight", stem);
	int fp8 = !strcmp(dtype, "F8_E4M3");
	ckpt_add(b->ckpt, name, dtype, 2, (size_t[]){ rows, cols });
	size_t index = b->ckpt->count - 1;
	if (fp8) {
		snprintf(name, sizeof name, "%s.weight_scale_inv", stem);
		ckpt_add(b->ckpt, name, "F32", 2, (size_t[]){ (rows + 127) / 128, (cols + 127) / 128 });
	}
	if (b->options->zero)
		return;
	float *values = ckpt_must(malloc(rows * cols * sizeof *values)); /* [rows][cols] */
	for (size_t i = 0; i < rows * cols; i++)
		values[i] = gain / sqrtf((float)cols) * next_value(&b->random);
	struct ckpt_tensor *tensor = &b->ckpt->tensor[index];
	if (fp8) {
		if (octavo_quantise_128x128(tensor->data, (float *)(void *)tensor[1].data, values, rows, cols, cols,
		                            OCTAVO_SCALE_AMAX) != OCTAVO_OK)
			abort();
	} else if (!strcmp(dtype, "F32")) {
		memcpy(tensor->data, values, tensor->bytes);
	} else {
		for (size_t i = 0; i < rows * cols; i++)
			heads_set(tensor, i, values[i]);
	}
	free(values);
}

static void add_head(struct builder *b, size_t i)
{
	const struct heads_options *o = b->options;
	char stem[64];
	for (size_t j = 0; j < o->layers; j++) {
		size_t in = o->hydra && !j ? (i + 2) * o->hidden : o->hidden;
		snprintf(stem, sizeof stem, "%zu.%zu.linear", i, j);
		add_matrix(b, stem, o->hidden, in, 1.5f);
		snprintf(stem, sizeof stem, "%zu.%zu.linear.bias", i, j);
		add_vector(b, stem, o->hidden);
		if (!o->hydra || j)
			continue;
		snprintf(stem, sizeof stem, "%zu.%zu.res_connection", i, j);
		add_matrix(b, stem, o->hidden, in, 1.0f);
		snprintf(stem, sizeof stem, "%zu.%zu.res_connection.bias", i, j);
		add_vector(b, stem, o->hidden);
	}
	snprintf(stem, sizeof stem, "%zu.%zu", i, o->layers);
	add_matrix(b, stem, o->vocab, o->hidden, 1.5f);
}

struct ckpt *heads_new(const struct heads_options *o)
{
	struct ckpt *ckpt = ckpt_must(calloc(1, sizeof *ckpt));
	struct builder b = { ckpt, o, o->seed };
	ckpt->shards = 1;
	ckpt->config = json_pack("{s:s, s:I, s:I, s:I, s:I}", "model_type", o->hydra ? "hydra" : "medusa",
	                         o->hydra ? "hydra_num_heads" : "medusa_num_heads", (json_int_t)o->heads,
	                         o->hydra ? "hydra_num_layers" : "medusa_num_layers", (json_int_t)o->layers,
	                         "hidden_size", (json_int_t)o->hidden, "vocab_size", (json_int_t)o->vocab);
	for (size_t i = 0; i < o->heads; i++)
		add_head(&b, i);
	return ckpt;
}

void heads_write(const struct ckpt *heads, const char *dir)
{
	char from[PATH_MAX], to[PATH_MAX];
	ckpt_write(heads, dir);
	snprintf(from, sizeof from, "%s/model.safetensors", dir);
	snprintf(to, sizeof to, "%s/%s_lm_head.safetensors", dir,
	         json_object_get(heads->config, "hydra_num_heads") ? "hydra" : "medusa");
	if (rename(from, to))
		abort();
}

char *heads_dir_new(struct heads_options options)
{
	struct ckpt *heads = heads_new(&options);
	char *dir = ckpt_dir_new();
	heads_write(heads, dir);
	ckpt_free(heads);
	return dir;
}

struct heads_options tiny_heads(int hydra, size_t layers, const char *dtype)
{
	return (struct heads_options){ .hydra = hydra, .heads = 3, .layers = layers, .hidden = 136, .vocab = 260,
		                       .dtype = dtype, .seed = 7 };
}

const char *heads_spec(const char *before, int hydra, const char *dir)
{
	static char spec[PATH_MAX];
	snprintf(spec, sizeof spec, "%s%s:%s", before, hydra ? "hydra" : "medusa", dir);
	return spec;
}

double *heads_values(struct ckpt *heads, const char *name)
{
	const struct ckpt_tensor *t = ckpt_find(heads, name);
	size_t cols = t->rank == 2 ? t->shape[1] : 1, n = t->shape[0] * cols;
	double *values = ckpt_must(malloc(n * sizeof *values));
	char scale_name[160];
	const struct ckpt_tensor *scale = NULL;
	if (!strcmp(t->dtype, "F8_E4M3")) {
		snprintf(scale_name, sizeof scale_name, "%s_scale_inv", name);
		scale = ckpt_find(heads, scale_name);
	}
	for (size_t i = 0; i < n; i++) {
		float single;
		uint32_t bits = 0;
		if (scale) {
			size_t block = i / cols / 128 * scale->shape[1] + i % cols / 128;
			memcpy(&single, scale->data + 4 * block, 4);
			values[i] = (double)octavo_e4m3_decode(t->data[i]) * (double)single;
			continue;
		}
		if (!strcmp(t->dtype, "F32"))
			memcpy(&bits, t->data + 4 * i, 4);
		else
			memcpy((unsigned char *)&bits + 2, t->data + 2 * i, 2); /* a BF16 is the upper half of an F32 */
		memcpy(&single, &bits, 4);
		values[i] = (double)single;
	}
	return values;
}

/* ---- A model's own layers ---------------------------------------------------------------------------------------- */

struct ckpt *ckpt_layer(const char *dir, size_t layer, const char *stem, int around)
{
	struct ckpt *ckpt = ckpt_load(dir);
	char mine[32], name[160];
	int length = snprintf(mine, sizeof mine, "model.layers.%zu.", layer);
	for (size_t i = ckpt->count; i--;) { /* one that is removed leaves its place to the last */
		const char *other = ckpt->tensor[i].name;
		if (strncmp(other, mine, (size_t)length) && (!around || !strncmp(other, "model.layers.", 13)))
			ckpt_remove(ckpt, other);
	}
	for (size_t i = 0; i < ckpt->count; i++) {
		struct ckpt_tensor *tensor = &ckpt->tensor[i];
		if (strncmp(tensor->name, mine, (size_t)length))
			continue;
		snprintf(name, sizeof name, "%s.0.%s", stem, tensor->name + length);
		memcpy(tensor->name, name, sizeof name);
	}
	json_object_set_new(ckpt->config, "num_hidden_layers", json_integer(1));
	return ckpt;
}

struct ckpt *parallel_head(const char *dir)
{
	struct ckpt *ckpt = ckpt_layer(dir, 1, "model.layers", 0);
	json_object_set_new(ckpt->config, "parallel_heads", json_integer(1));
	return ckpt;
}

struct ckpt *eagle_head(const char *dir, float state)
{
	struct ckpt *ckpt = ckpt_layer(dir, 1, "layers", 0);
	size_t hidden = (size_t)json_integer_value(json_object_get(ckpt->config, "hidden_size"));
	float *fc = (float *)(void *)ckpt_add(ckpt, "fc.weight", "F32", 2, (size_t[]){ hidden, 2 * hidden })->data;
	for (size_t i = 0; i < hidden; i++) {
		fc[i * 2 * hidden + i] = 1.0f;
		fc[i * 2 * hidden + hidden + i] = state;
	}
	json_object_set_new(ckpt->config, "eagle", json_true());
	return ckpt;
}

/* ---- A model whose text is known --------------------------------------------------------------------------------- */

static void copy_tokenizer(const char *dir)
{
	static const char *const names[] = { "tokenizer.json", "tokenizer_config.json" };
	for (size_t i = 0; i < 2; i++) {
		size_t bytes;
		unsigned char *data = ckpt_read_file(source_path("tests/data/tiny-ragged"), names[i], &bytes);
		ckpt_write_file(dir, names[i], data, bytes);
		free(data);
	}
}

struct ckpt *counting_model(const char *dir)
{
	const struct ckpt_options options = { .bf16 = 1, .dense = 1, .seed = 5 };
	struct ckpt *ckpt = ckpt_new(&options);
	/* Layers add nothing, gains are 1: the state after the final norm is the embedding, which has that norm. */
	for (size_t i = 0; i < ckpt->count; i++) {
		struct ckpt_tensor *t = &ckpt->tensor[i];
		if (strstr(t->name, "o_proj") || strstr(t->name, "down_proj"))
			memset(t->data, 0, t->bytes);
	}
	struct ckpt_tensor *embed = ckpt_find(ckpt, "model.embed_tokens.weight"),
	                   *head = ckpt_find(ckpt, "lm_head.weight");
	struct ckpt_tensor *norm = ckpt_find(ckpt, "model.norm.weight");
	size_t vocab = embed->shape[0], hidden = embed->shape[1];
	uint64_t random = 17;
	const uint16_t *value = (const uint16_t *)(void *)embed->data;
	for (size_t i = 0; i < vocab * hidden; i++)
		heads_set(embed, i, next_value(&random) < 0 ? -1.0f : 1.0f);
	for (size_t i = 0; i < hidden; i++)
		heads_set(norm, i, 1.0f);
	for (size_t token = 0; token < vocab; token++)
		for (size_t i = 0; i < hidden; i++)
			heads_set(head, token * hidden + i,
			          0.25f * octavo_bf16_decode(value[(token + vocab - 1) % vocab * hidden + i]));
	ckpt_write(ckpt, dir);
	copy_tokenizer(dir);
	return ckpt;
}
