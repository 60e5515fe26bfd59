/* SPDX-License-Identifier: Apache-2.0
 *
 * All tensors of a directory, whichever file they lie in.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine/load/load.h"

#include "fp8/error.h"
#include "engine/load/fields.h"
#include "engine/load/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SHARDS = 4096 };

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";
static const char extension[] = ".safetensors";

struct octavo_checkpoint {
	struct octavo_shard *shard; /* [shards] */
	size_t shards;
	struct octavo_tensor *tensor; /* [count], sorted by name */
	unsigned char *used;          /* [count] */
	size_t count, bytes;
};

/* File names, in ascending order and each once. */
struct names {
	char **name; /* [count] */
	size_t count, room;
};

static int ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);
	return length >= tail && strcmp(text + length - tail, end) == 0;
}

static void names_free(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->name[i]);
	free(names->name);
}

/* Where `name` stands, or belongs. */
static size_t names_place(const struct names *names, const char *name)
{
	size_t low = 0, high = names->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (strcmp(names->name[middle], name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static enum octavo_status names_add(struct names *names, const char *name, struct octavo_error *error)
{
	size_t place = names_place(names, name);
	if (place < names->count && strcmp(names->name[place], name) == 0)
		return OCTAVO_OK;
	if (names->count == MAX_SHARDS)
		return octavo_fail(error, OCTAVO_ELIMIT, "%s: more than %d files", name, MAX_SHARDS);
	if (names->count == names->room) {
		size_t room = names->room ? 2 * names->room : 16;
		char **grown = realloc(names->name, room * sizeof *grown);
		if (!grown)
			return octavo_fail(error, OCTAVO_ENOMEM, "%s: out of memory", name);
		names->name = grown;
		names->room = room;
	}
	char *copy = strdup(name);
	if (!copy)
		return octavo_fail(error, OCTAVO_ENOMEM, "%s: out of memory", name);
	memmove(names->name + place + 1, names->name + place, (names->count - place) * sizeof *names->name);
	names->name[place] = copy;
	names->count++;
	return OCTAVO_OK;
}

/* A shard must lie in the model's own directory: no separator, no leading dot (so neither "." nor ".."). */
static int is_plain_basename(const char *name)
{
	return name[0] != '\0' && name[0] != '.' && !strpbrk(name, "/\\") && ends_with(name, extension);
}

static enum octavo_status index_files(struct names *names, const json_t *map, struct octavo_error *error)
{
	const char *tensor;
	json_t *file;
	if (!json_is_object(map) || json_object_size(map) == 0)
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: weight_map: not an object with tensors", index_name);
	json_object_foreach ((json_t *)map, tensor, file) {
		const char *name = json_string_value(file);
		if (!name || !is_plain_basename(name))
			return octavo_fail(error, OCTAVO_EFORMAT,
			                   "%s: weight_map: %s: %.64s is not the plain name of a %s file", index_name,
			                   tensor, name ? name : "its value", extension);
		enum octavo_status status = names_add(names, name, error);
		if (status != OCTAVO_OK)
			return status;
	}
	return OCTAVO_OK;
}

static enum octavo_status directory_files(struct names *names, const char *dir, struct octavo_error *error)
{
	DIR *stream = opendir(dir);
	if (!stream)
		return octavo_fail(error, OCTAVO_EIO, "%s: cannot open: %s", dir, strerror(errno));
	enum octavo_status status = OCTAVO_OK;
	const struct dirent *entry;
	while (status == OCTAVO_OK && (entry = readdir(stream)))
		if (is_plain_basename(entry->d_name))
			status = names_add(names, entry->d_name, error);
	closedir(stream);
	if (status == OCTAVO_OK && names->count == 0)
		return octavo_fail(error, OCTAVO_EIO, "%s: no *%s file", dir, extension);
	return status;
}

/* The index decides; without one model.safetensors, or else every *.safetensors. */
static enum octavo_status list_files(struct names *names, json_t **index, const char *dir, struct octavo_error *error)
{
	if (octavo_file_exists(dir, index_name)) {
		enum octavo_status status = octavo_json_load(index, dir, index_name, error);
		if (status != OCTAVO_OK)
			return status;
		return index_files(names, json_object_get(*index, "weight_map"), error);
	}
	if (octavo_file_exists(dir, single_name))
		return names_add(names, single_name, error);
	return directory_files(names, dir, error);
}

/* All at once, before the first is read: the last of many would be told late. */
static enum octavo_status check_room(const struct names *names, const char *dir, struct octavo_error *error)
{
	size_t bytes = 0;
	for (size_t i = 0; i < names->count; i++) {
		struct octavo_file file;
		enum octavo_status status = octavo_file_open(&file, dir, names->name[i], SIZE_MAX / 2, error);
		if (status != OCTAVO_OK)
			return status;
		bytes += octavo_file_size(&file);
		octavo_file_close(&file);
	}
	return octavo_copy_room(bytes, error);
}

static enum octavo_status open_shards(struct octavo_checkpoint *checkpoint, const struct names *names, const char *dir,
                                      const struct octavo_copy *copy, struct octavo_error *error)
{
	enum octavo_status room = copy ? check_room(names, dir, error) : OCTAVO_OK;
	if (room != OCTAVO_OK)
		return room;
	checkpoint->shard = calloc(names->count, sizeof *checkpoint->shard);
	if (!checkpoint->shard)
		return octavo_fail(error, OCTAVO_ENOMEM, "%s: out of memory for %zu files", dir, names->count);
	for (size_t i = 0; i < names->count; i++) {
		enum octavo_status status = octavo_shard_open(&checkpoint->shard[i], dir, names->name[i], copy, error);
		if (status != OCTAVO_OK)
			return status;
		checkpoint->shards++;
		checkpoint->count += checkpoint->shard[i].header.count;
		if (checkpoint->count > OCTAVO_MAX_TENSORS)
			return octavo_fail(error, OCTAVO_ELIMIT, "%s: more than %d tensors", dir, OCTAVO_MAX_TENSORS);
	}
	return OCTAVO_OK;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct octavo_tensor *)a)->name, ((const struct octavo_tensor *)b)->name);
}

/* All headers as one sorted list; a name in two files is refused, for which of them would count? */
static enum octavo_status merge(struct octavo_checkpoint *checkpoint, struct octavo_error *error)
{
	checkpoint->tensor = calloc(checkpoint->count + 1, sizeof *checkpoint->tensor);
	checkpoint->used = calloc(checkpoint->count + 1, 1);
	if (!checkpoint->tensor || !checkpoint->used)
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory for %zu tensors", checkpoint->count);
	struct octavo_tensor *next = checkpoint->tensor;
	for (size_t i = 0; i < checkpoint->shards; i++) {
		const struct octavo_header *header = &checkpoint->shard[i].header;
		memcpy(next, header->tensor, header->count * sizeof *next);
		next += header->count;
	}
	qsort(checkpoint->tensor, checkpoint->count, sizeof *checkpoint->tensor, compare_names);
	for (size_t i = 0; i < checkpoint->count; i++) {
		const struct octavo_tensor *tensor = &checkpoint->tensor[i];
		checkpoint->bytes += tensor->bytes;
		if (i > 0 && strcmp(tensor->name, tensor[-1].name) == 0)
			return octavo_fail(error, OCTAVO_EFORMAT, "%s: %s: also in %s", tensor->file, tensor->name,
			                   tensor[-1].file);
	}
	return OCTAVO_OK;
}

static struct octavo_tensor *search(const struct octavo_checkpoint *checkpoint, const char *name)
{
	struct octavo_tensor key = {.name = name};
	return bsearch(&key, checkpoint->tensor, checkpoint->count, sizeof key, compare_names);
}

/* The index and the files must agree in both directions.  Its total_size is not looked at: it is wrong in
 * published files. */
static enum octavo_status check_index(const struct octavo_checkpoint *checkpoint, const json_t *map,
                                      struct octavo_error *error)
{
	const char *name;
	json_t *file;
	json_object_foreach ((json_t *)map, name, file) {
		const struct octavo_tensor *tensor = search(checkpoint, name);
		if (!tensor)
			return octavo_fail(error, OCTAVO_EFORMAT, "%s: weight_map: %s: not in %s", index_name, name,
			                   json_string_value(file));
		if (strcmp(tensor->file, json_string_value(file)) != 0)
			return octavo_fail(error, OCTAVO_EFORMAT,
			                   "%s: weight_map: %s: said to be in %s, but lies in %s", index_name, name,
			                   json_string_value(file), tensor->file);
	}
	for (size_t i = 0; i < checkpoint->count; i++)
		if (!json_object_get(map, checkpoint->tensor[i].name))
			return octavo_fail(error, OCTAVO_EFORMAT, "%s: %s: not in the weight_map of %s",
			                   checkpoint->tensor[i].file, checkpoint->tensor[i].name, index_name);
	return OCTAVO_OK;
}

enum octavo_status octavo_checkpoint_open(struct octavo_checkpoint **out, const char *dir,
                                          const struct octavo_copy *copy, struct octavo_error *error)
{
	struct names names = {0};
	json_t *index = NULL;
	struct octavo_checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
	if (!checkpoint)
		return octavo_fail(error, OCTAVO_ENOMEM, "%s: out of memory", dir);
	enum octavo_status status = list_files(&names, &index, dir, error);
	if (status == OCTAVO_OK)
		status = open_shards(checkpoint, &names, dir, copy, error);
	if (status == OCTAVO_OK)
		status = merge(checkpoint, error);
	if (status == OCTAVO_OK && index)
		status = check_index(checkpoint, json_object_get(index, "weight_map"), error);
	json_decref(index);
	names_free(&names);
	if (status != OCTAVO_OK)
		octavo_checkpoint_close(&checkpoint);
	else
		*out = checkpoint;
	return status;
}

void octavo_checkpoint_close(struct octavo_checkpoint **checkpoint)
{
	if (!*checkpoint)
		return;
	for (size_t i = 0; i < (*checkpoint)->shards; i++)
		octavo_shard_close(&(*checkpoint)->shard[i]);
	free((*checkpoint)->shard);
	free((*checkpoint)->tensor);
	free((*checkpoint)->used);
	free(*checkpoint);
	*checkpoint = NULL;
}

const struct octavo_tensor *octavo_checkpoint_find(struct octavo_checkpoint *checkpoint, const char *name)
{
	const struct octavo_tensor *tensor = search(checkpoint, name);
	if (tensor)
		checkpoint->used[tensor - checkpoint->tensor] = 1;
	return tensor;
}

size_t octavo_checkpoint_count(const struct octavo_checkpoint *checkpoint)
{
	return checkpoint->count;
}

const struct octavo_tensor *octavo_checkpoint_at(const struct octavo_checkpoint *checkpoint, size_t i)
{
	return &checkpoint->tensor[i];
}

/* What published checkpoints carry beside the weights: tables that follow from the config, scales for a quantised
 * cache. */
static int is_ignorable(const char *name)
{
	static const char *const end[] = {".rotary_emb.inv_freq", ".k_scale", ".v_scale"};
	for (size_t i = 0; i < sizeof end / sizeof *end; i++)
		if (ends_with(name, end[i]))
			return 1;
	return 0;
}

const struct octavo_tensor *octavo_checkpoint_unused(const struct octavo_checkpoint *checkpoint, size_t *i)
{
	while (*i < checkpoint->count) {
		const struct octavo_tensor *tensor = &checkpoint->tensor[(*i)++];
		if (!checkpoint->used[tensor - checkpoint->tensor] && !is_ignorable(tensor->name))
			return tensor;
	}
	return NULL;
}

size_t octavo_checkpoint_bytes(const struct octavo_checkpoint *checkpoint)
{
	return checkpoint->bytes;
}
