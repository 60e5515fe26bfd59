/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/tokfile.h"

#include "tests/support/ckpt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "tokfile: %s\n", what);
		abort();
	}
}

json_t *tokfile_load(void)
{
	const char *source = getenv("OCTAVO_SRCDIR");
	char path[4096];
	snprintf(path, sizeof path, "%s/tests/data/tokenizer/tokenizer.json", source ? source : ".");
	json_t *root = json_load_file(path, 0, NULL);
	must(root != NULL, path);
	return root;
}

void tokfile_set(json_t *root, const char *path, const char *json)
{
	char part[64];
	const char *slash;
	for (; (slash = strchr(path, '/')); path = slash + 1) {
		must((size_t)(slash - path) < sizeof part, path);
		memcpy(part, path, (size_t)(slash - path));
		part[slash - path] = '\0';
		root = json_is_array(root) ? json_array_get(root, (size_t)atoi(part)) : json_object_get(root, part);
		must(root != NULL, path);
	}
	json_t *value = json ? json_loads(json, JSON_DECODE_ANY, NULL) : NULL;
	must(!json == !value, json ? json : "");
	int failed;
	if (json_is_array(root)) {
		size_t index = (size_t)atoi(path);
		failed = index < json_array_size(root) ? json_array_set_new(root, index, value)
		                                       : json_array_append_new(root, value);
	} else {
		failed = value ? json_object_set_new(root, path, value) : json_object_del(root, path);
	}
	must(!failed, path);
}

enum octavo_status tokfile_open_text(struct octavo_tokenizer **out, const char *text, const char *config, size_t vocab,
                                     struct octavo_error *error)
{
	char *dir = ckpt_dir_new();
	ckpt_write_file(dir, "tokenizer.json", text, strlen(text));
	if (config)
		ckpt_write_file(dir, "tokenizer_config.json", config, strlen(config));
	enum octavo_status status = octavo_tokenizer_open(out, dir, vocab, error);
	ckpt_dir_free(dir);
	return status;
}

enum octavo_status tokfile_open(struct octavo_tokenizer **out, const json_t *root, const char *config, size_t vocab,
                                struct octavo_error *error)
{
	char *text = json_dumps(root, 0);
	must(text != NULL, "out of memory");
	enum octavo_status status = tokfile_open_text(out, text, config, vocab, error);
	free(text);
	return status;
}
