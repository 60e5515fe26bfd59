/* SPDX-License-Identifier: Apache-2.0
 *
 * Damaged files: the directories of two models and of every drafter that has one, those with layers beside both models,
 * bent in thousands of ways: other values in the JSON of configs, tokenizers and headers, bits, lost and doubled bytes,
 * short files.  Each is refused by a message that says what is wrong where, or decodes a few tokens; sanitizers see the
 * rest.
 * OCTAVO_FUZZ_ROUNDS=N sets the rounds per directory, OCTAVO_FUZZ_SEED=N the first of their seeds.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "tests/support/heads.h"
#include "tests/support/random.h"
#include "tests/support/session.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FILES = 4, ROUNDS = 500 };

static const char RAGGED[] = "tests/data/tiny-ragged", DENSE[] = "tests/data/tiny-llama";

struct file {
	const char *name;
	unsigned char *data; /* [bytes] as it should be */
	size_t bytes;
};

struct fixture {
	const char *drafter; /* whose directory it is; NULL: a model's */
	const char *model;   /* that the drafter is beside */
	char *dir;
	struct file file[MOST_FILES];
	size_t files, refused, passed;
};

static void demand(int condition, const char *what, const char *detail)
{
	if (!condition) {
		fprintf(stderr, "fuzz_files: %s: %s\n", what, detail);
		abort();
	}
}

/* ---- Mutations ----------------------------------------------------------------------------------------------- */

/* Replaces text[at, at + old) of *bytes, for which there is room. */
static void replace(char *text, size_t *bytes, size_t at, size_t old, const char *by)
{
	size_t length = strlen(by);
	memmove(text + at + length, text + at + old, *bytes - at - old);
	memcpy(text + at, by, length);
	*bytes += length - old;
}

/* Another value for the first number, string or word that begins a value behind a random place. */
static void bend_value(char *text, size_t *bytes, uint64_t *random)
{
	static const char *const values[] = {
		"0",    "1",     "-1",    "2",       "3",          "7",          "16",
		"127",  "129",   "4096",  "65537",   "2147483647", "4294967296", "9223372036854775807",
		"1e30", "1e-30", "0.5",   "null",    "true",       "\"x\"",      "\"\"",
		"[]",   "{}",    "[1,2]", "\"F32\"", "\"BF16\""
	};
	size_t at = random_bits(random) % *bytes;
	while (at + 1 < *bytes && !(strchr(":[", text[at]) && text[at] && !strchr("{[]", text[at + 1])))
		at++;
	for (at++; at < *bytes && isspace((unsigned char)text[at]); at++)
		;
	size_t end = at;
	if (end < *bytes && text[end] == '"')
		for (end++; end < *bytes && text[end] != '"'; end++)
			;
	while (end < *bytes && !strchr(",]}\n", text[end]))
		end++;
	if (end < *bytes)
		replace(text, bytes, at, end - at, values[random_bits(random) % (sizeof values / sizeof *values)]);
}

/* Bends JSON text[bytes], which has room for 64 bytes more. */
static void bend_json(char *text, size_t *bytes, uint64_t *random)
{
	size_t at = random_bits(random) % *bytes, run = 1 + random_bits(random) % 8;
	switch (random_bits(random) % 8) {
	case 0:
		text[at] ^= (char)(1u << random_bits(random) % 8);
		break;
	case 1:
		if (at + run < *bytes)
			replace(text, bytes, at, run, "");
		break;
	case 2:
		replace(text, bytes, at, 0, "9");
		break;
	default:
		bend_value(text, bytes, random);
		if (random_bits(random) % 4 == 0)
			bend_value(text, bytes, random);
	}
}

static size_t header_bytes(const struct file *f)
{
	size_t bytes = 0;
	for (int i = 7; i >= 0; i--)
		bytes = bytes << 8 | f->data[i];
	return bytes;
}

/* A bent copy of a file, to be freed. */
static unsigned char *bend(const struct file *f, size_t *bytes, uint64_t *random)
{
	unsigned char *copy = malloc(f->bytes + 64);
	demand(copy != NULL, f->name, "out of memory");
	memcpy(copy, f->data, f->bytes);
	*bytes = f->bytes;
	if (random_bits(random) % 16 == 0) {
		*bytes = random_bits(random) % 2 ? random_bits(random) % f->bytes : random_bits(random) % 16;
		return copy;
	}
	if (strstr(f->name, ".json")) {
		bend_json((char *)copy, bytes, random);
		return copy;
	}
	size_t header = header_bytes(f), length = header;
	if (random_bits(random) % 4 == 0) { /* a bit of the length, the header or the data */
		size_t most = random_bits(random) % 2 ? 8 + header : f->bytes;
		copy[random_bits(random) % most] ^= (unsigned char)(1u << random_bits(random) % 8);
		return copy;
	}
	char *text = malloc(header + 64);
	demand(text != NULL, f->name, "out of memory");
	memcpy(text, f->data + 8, header);
	bend_json(text, &length, random);
	*bytes = f->bytes - header + length;
	for (int i = 0; i < 8; i++)
		copy[i] = (unsigned char)(length >> 8 * i);
	memcpy(copy + 8, text, length);
	memcpy(copy + 8 + length, f->data + 8 + header, f->bytes - 8 - header);
	free(text);
	return copy;
}

/* ---- Use of what may be damaged ---------------------------------------------------------------------------------- */

/* Decodes a few tokens; *error says what failed. */
static enum octavo_status speak(struct octavo_engine *e, const char *drafter, struct octavo_error *error)
{
	struct octavo_session *s;
	const struct octavo_session_settings settings = { .drafter = drafter, .k = 3, .max_new = 6, .ignore_eos = 1 };
	static const char text[] = "The 3 \xC3\xA9";
	int32_t id[64];
	const int32_t *token;
	size_t count, step;
	enum octavo_status status = octavo_encode(e, text, sizeof text - 1, OCTAVO_ENCODE_BOS, id, 64, &count, error);
	if (status == OCTAVO_OK)
		status = octavo_session_open(&s, e, &settings, error);
	if (status != OCTAVO_OK)
		return status;
	status = octavo_session_prompt(s, id, count, error);
	do
		status = status == OCTAVO_OK ? octavo_session_step(s, &token, &step, error) : status;
	while (status == OCTAVO_OK && step);
	octavo_session_close(&s);
	return status;
}

/* Whether a message names what is wrong: a file, a tensor that no file has, a context that config.json made too short
 * for this test, or where logits ceased to be numbers. */
static int is_clear(const struct fixture *f, const char *message)
{
	static const char *const clear[] = { ".json: ", ".safetensors: ", ": missing from the checkpoint",
		                             "config.json gives", "exceeds the model's" };
	char begin[PATH_MAX];
	snprintf(begin, sizeof begin, "drafter %s: %s: ", f->drafter ? f->drafter : "", f->dir);
	if (strstr(message, "position ") == message)
		return 1;
	if (f->drafter && strstr(message, begin) != message)
		return 0;
	for (size_t i = 0; i < sizeof clear / sizeof *clear; i++)
		if (strstr(message, clear[i]))
			return 1;
	return 0;
}

static void attempt(struct fixture *f)
{
	char drafter[PATH_MAX];
	struct octavo_engine *e;
	struct octavo_error error = { "" };
	struct octavo_engine_settings settings = { .threads = 1, .max_context = 48, .max_rows = 16 };
	snprintf(drafter, sizeof drafter, f->drafter ? "%s:%s" : "mtp", f->drafter, f->dir);
	settings.model_dir = f->drafter ? source_path(f->model) : f->dir;
	enum octavo_status status = octavo_engine_open(&e, &settings, &error);
	int opened = status == OCTAVO_OK;
	demand(!f->drafter || opened, "the model", error.text);
	if (opened) {
		int feeds = octavo_engine_feeds(e, drafter);
		status = speak(e, f->drafter || feeds ? drafter : "ngram", &error);
		octavo_engine_close(&e);
	}
	demand(status == OCTAVO_OK || is_clear(f, error.text), "a message that does not say what is wrong", error.text);
	*(status == OCTAVO_OK ? &f->passed : &f->refused) += 1;
	if (getenv("OCTAVO_FUZZ_VERBOSE"))
		printf("%s %d %s\n", f->drafter ? f->drafter : "model", (int)status, error.text);
}

static void fuzz(struct fixture *f)
{
	const char *rounds = getenv("OCTAVO_FUZZ_ROUNDS"), *seed = getenv("OCTAVO_FUZZ_SEED");
	uint64_t first = seed ? strtoull(seed, NULL, 10) : 0, count = rounds ? strtoull(rounds, NULL, 10) : ROUNDS;
	attempt(f);
	demand(f->passed == 1, f->dir, "does not decode undamaged");
	for (uint64_t i = first; i < first + count; i++) {
		uint64_t random = i * 0x9E3779B97F4A7C15u + 1;
		size_t bytes;
		random_bits(&random);
		struct file *file = &f->file[random_bits(&random) % f->files];
		unsigned char *data = bend(file, &bytes, &random);
		ckpt_write_file(f->dir, file->name, data, bytes);
		if (seed)
			fprintf(stderr, "seed %llu: %s\n", (unsigned long long)i, file->name);
		attempt(f);
		ckpt_write_file(f->dir, file->name, file->data, file->bytes);
		free(data);
	}
	printf("%-8s %zu refused, %zu decoded\n", f->drafter ? f->drafter : "model", f->refused, f->passed);
	demand(f->refused * 3 > count, f->dir, "nothing refuses the damage");
}

/* ---- Directories ------------------------------------------------------------------------------------------------- */

/* A copy of some files of a directory. */
static struct fixture copy_of(const char *drafter, const char *from, const char *const name[])
{
	struct fixture f = { .drafter = drafter, .dir = ckpt_dir_new() };
	for (; *name; name++) {
		struct file *file = &f.file[f.files++];
		file->name = *name;
		file->data = ckpt_read_file(from, *name, &file->bytes);
		ckpt_write_file(f.dir, *name, file->data, file->bytes);
	}
	return f;
}

static void fuzz_and_free(struct fixture f, const char *model)
{
	f.model = model;
	fuzz(&f);
	for (size_t i = 0; i < f.files; i++)
		free(f.file[i].data);
	ckpt_dir_free(f.dir);
}

static void fuzz_data(const char *drafter, const char *from)
{
	static const char *const all[] = { "config.json", "model.safetensors", "tokenizer.json",
		                           "generation_config.json", NULL };
	static const char *const model[] = { "config.json", "model.safetensors", "tokenizer.json", NULL };
	static const char *const layers[] = { "config.json", "model.safetensors", NULL };
	fuzz_and_free(copy_of(drafter, source_path(from), !drafter ? all : !strcmp(drafter, "model") ? model : layers),
	              RAGGED);
}

/* Heads of grouped-query attention beside the model that their layer is taken from. */
static void fuzz_dense(const char *drafter)
{
	static const char *const name[] = { "config.json", "model.safetensors", NULL };
	const char *model = source_path(DENSE);
	struct ckpt *head = !strcmp(drafter, "eagle") ? eagle_head(model, 0.5f) : parallel_head(model);
	char *dir = ckpt_dir_new();
	ckpt_write(head, dir);
	fuzz_and_free(copy_of(drafter, dir, name), DENSE);
	ckpt_dir_free(dir);
	ckpt_free(head);
}

static void fuzz_heads(const char *drafter)
{
	const struct heads_options options = { .hydra = !strcmp(drafter, "hydra"), .heads = 2, .layers = 1,
	                                       .hidden = 136,
		                               .vocab = 260, .dtype = "F8_E4M3", .seed = 3 };
	const char *const name[] = { "config.json",
		                     options.hydra ? "hydra_lm_head.safetensors" : "medusa_lm_head.safetensors", NULL };
	char *dir = heads_dir_new(options);
	fuzz_and_free(copy_of(drafter, dir, name), RAGGED);
	ckpt_dir_free(dir);
}

int main(void)
{
	fuzz_data(NULL, RAGGED);
	fuzz_data(NULL, DENSE);
	fuzz_data("parallel", "tests/data/tiny-ragged/drafters/parallel");
	fuzz_data("eagle", "tests/data/tiny-ragged/drafters/eagle");
	fuzz_data("model", DENSE);
	fuzz_dense("parallel");
	fuzz_dense("eagle");
	fuzz_heads("medusa");
	fuzz_heads("hydra");
	return EXIT_SUCCESS;
}
