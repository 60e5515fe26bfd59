/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine/load/safetensors.h"

#include "fp8/error.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Where in which file a check failed, and how it is told. */
struct place {
	const char *file;
	struct octavo_error *error;
};

static const struct dtype {
	const char *name;
	unsigned bits;
	enum octavo_dtype dtype;
} dtypes[] = {
        {"F4", 4, OCTAVO_NONE},          {"F6_E2M3", 6, OCTAVO_NONE},     {"F6_E3M2", 6, OCTAVO_NONE},
        {"BOOL", 8, OCTAVO_NONE},        {"U8", 8, OCTAVO_NONE},          {"I8", 8, OCTAVO_NONE},
        {"F8_E5M2", 8, OCTAVO_E5M2},     {"F8_E4M3", 8, OCTAVO_E4M3},     {"F8_E8M0", 8, OCTAVO_E8M0},
        {"F8_E4M3FNUZ", 8, OCTAVO_NONE}, {"F8_E5M2FNUZ", 8, OCTAVO_NONE}, {"I16", 16, OCTAVO_NONE},
        {"U16", 16, OCTAVO_NONE},        {"F16", 16, OCTAVO_F16},         {"BF16", 16, OCTAVO_BF16},
        {"I32", 32, OCTAVO_NONE},        {"U32", 32, OCTAVO_NONE},        {"F32", 32, OCTAVO_F32},
        {"C64", 64, OCTAVO_NONE},        {"F64", 64, OCTAVO_NONE},        {"I64", 64, OCTAVO_NONE},
        {"U64", 64, OCTAVO_NONE},
};

static const struct dtype *find_dtype(const char *name)
{
	for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
		if (strcmp(dtypes[i].name, name) == 0)
			return &dtypes[i];
	return NULL;
}

enum octavo_status octavo_safetensors_length(size_t *header_bytes, const unsigned char prefix[OCTAVO_PREFIX_BYTES],
                                             size_t file_bytes, const char *file, struct octavo_error *error)
{
	uint64_t length = 0;
	enum octavo_status status = octavo_file_refuse_pointer(file, prefix, OCTAVO_PREFIX_BYTES, error);
	if (status != OCTAVO_OK)
		return status;
	for (int i = OCTAVO_PREFIX_BYTES - 1; i >= 0; i--)
		length = length << 8 | prefix[i];
	if (length > OCTAVO_MAX_HEADER_BYTES)
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: header length: %ju bytes, more than the limit of %d",
		                   file, (uintmax_t)length, OCTAVO_MAX_HEADER_BYTES);
	if (length > file_bytes - OCTAVO_PREFIX_BYTES)
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: header length: %ju bytes, but only %zu follow", file,
		                   (uintmax_t)length, file_bytes - OCTAVO_PREFIX_BYTES);
	*header_bytes = (size_t)length;
	return OCTAVO_OK;
}

/* What a general JSON parser lets pass and this format does not: white space around the object, other than spaces
 * behind it; deep nesting; a sign, for "-0" would look like 0 afterwards. */
static enum octavo_status check_text(const char *json, size_t bytes, const struct place *at)
{
	enum { DEEPEST = 3 }; /* header, tensor, shape */
	size_t end = bytes, depth = 0;
	while (end > 0 && json[end - 1] == ' ')
		end--;
	if (end == 0 || json[0] != '{')
		return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: header: does not begin with '{'", at->file);
	if (json[end - 1] != '}')
		return octavo_fail(at->error, OCTAVO_EFORMAT,
		                   "%s: header: something other than spaces behind the closing brace", at->file);
	int in_string = 0;
	for (size_t i = 0; i < end; i++) {
		char c = json[i];
		if (c == '"')
			in_string = !in_string;
		else if (in_string)
			i += c == '\\';
		else if (c == '-')
			return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: header: a negative number at byte %zu",
			                   at->file, i);
		else if ((c == '{' || c == '[') && ++depth > DEEPEST)
			return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: header: nested deeper than %d at byte %zu",
			                   at->file, DEEPEST, i);
		else if ((c == '}' || c == ']') && depth > 0)
			depth--;
	}
	return OCTAVO_OK;
}

/* A plain integer; jansson has refused those above 2^63 - 1, check_text the negative ones. */
static int get_size(size_t *value, const json_t *json)
{
	if (!json_is_integer(json))
		return 0;
	*value = (size_t)json_integer_value(json);
	return (json_int_t)*value == json_integer_value(json);
}

static enum octavo_status parse_shape(struct octavo_tensor *tensor, const json_t *shape, const struct place *at)
{
	if (!json_is_array(shape))
		return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: %s: shape: not an array", at->file, tensor->name);
	tensor->rank = json_array_size(shape);
	if (tensor->rank > OCTAVO_MAX_RANK)
		return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: %s: shape: rank %zu, more than the limit of %d",
		                   at->file, tensor->name, tensor->rank, OCTAVO_MAX_RANK);
	for (size_t i = 0; i < tensor->rank; i++)
		if (!get_size(&tensor->shape[i], json_array_get(shape, i)))
			return octavo_fail(at->error, OCTAVO_EFORMAT,
			                   "%s: %s: shape: dimension %zu is not a plain integer", at->file,
			                   tensor->name, i);
	return OCTAVO_OK;
}

/* The bytes that dtype and shape ask for. */
static enum octavo_status size_of(size_t *bytes, const struct octavo_tensor *tensor, unsigned bits,
                                  const struct place *at)
{
	size_t elements = 1;
	for (size_t i = 0; i < tensor->rank; i++) {
		if (tensor->shape[i] != 0 && elements > SIZE_MAX / tensor->shape[i])
			return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: %s: shape: the number of elements overflows",
			                   at->file, tensor->name);
		elements *= tensor->shape[i];
	}
	if (elements > SIZE_MAX / bits)
		return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: %s: shape: the number of bits overflows", at->file,
		                   tensor->name);
	if (elements * bits % 8 != 0)
		return octavo_fail(at->error, OCTAVO_EFORMAT,
		                   "%s: %s: shape: %zu elements of %u bits are no whole bytes", at->file, tensor->name,
		                   elements, bits);
	*bytes = elements * bits / 8;
	return OCTAVO_OK;
}

static enum octavo_status parse_offsets(struct octavo_tensor *tensor, const json_t *offsets, unsigned bits,
                                        const unsigned char *data, size_t data_bytes, const struct place *at)
{
	size_t begin, end, bytes = 0;
	if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !get_size(&begin, json_array_get(offsets, 0)) ||
	    !get_size(&end, json_array_get(offsets, 1)))
		return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: %s: data_offsets: not two plain integers", at->file,
		                   tensor->name);
	if (begin > end)
		return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: %s: data_offsets: begin %zu lies behind end %zu",
		                   at->file, tensor->name, begin, end);
	if (end > data_bytes)
		return octavo_fail(at->error, OCTAVO_EFORMAT,
		                   "%s: %s: data_offsets: end %zu lies beyond the data, %zu bytes", at->file,
		                   tensor->name, end, data_bytes);
	enum octavo_status status = size_of(&bytes, tensor, bits, at);
	if (status != OCTAVO_OK)
		return status;
	if (end - begin != bytes)
		return octavo_fail(at->error, OCTAVO_EFORMAT,
		                   "%s: %s: data_offsets: %zu bytes, but %s of its shape takes %zu", at->file,
		                   tensor->name, end - begin, tensor->dtype_name, bytes);
	tensor->data = data + begin;
	tensor->bytes = bytes;
	return OCTAVO_OK;
}

static enum octavo_status parse_tensor(struct octavo_tensor *tensor, const json_t *entry, const unsigned char *data,
                                       size_t data_bytes, const struct place *at)
{
	static const char *const key[] = {"dtype", "shape", "data_offsets"};
	if (!json_is_object(entry))
		return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: %s: not an object", at->file, tensor->name);
	for (size_t i = 0; i < 3; i++)
		if (!json_object_get(entry, key[i]))
			return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: %s: %s: missing", at->file, tensor->name,
			                   key[i]);
	if (json_object_size(entry) != 3)
		return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: %s: a key other than dtype, shape, data_offsets",
		                   at->file, tensor->name);

	const char *name = json_string_value(json_object_get(entry, "dtype"));
	const struct dtype *dtype = name ? find_dtype(name) : NULL;
	if (!dtype)
		return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: %s: dtype: %.32s is not one of the format's",
		                   at->file, tensor->name, name ? name : "what is no string");
	tensor->dtype_name = dtype->name;
	tensor->dtype = dtype->dtype;
	enum octavo_status status = parse_shape(tensor, json_object_get(entry, "shape"), at);
	if (status != OCTAVO_OK)
		return status;
	return parse_offsets(tensor, json_object_get(entry, "data_offsets"), dtype->bits, data, data_bytes, at);
}

static enum octavo_status check_metadata(const json_t *metadata, const struct place *at)
{
	const char *key;
	json_t *value;
	if (!json_is_object(metadata))
		return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: __metadata__: not an object", at->file);
	json_object_foreach ((json_t *)metadata, key, value) {
		if (!json_is_string(value))
			return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: __metadata__: %.64s: not a string", at->file,
			                   key);
	}
	return OCTAVO_OK;
}

static const char metadata_key[] = "__metadata__";

/* Room for all tensors and their names. */
static enum octavo_status reserve(struct octavo_header *header, const json_t *root, const struct place *at)
{
	const char *key;
	json_t *value;
	size_t text = 0, count = json_object_size(root);
	if (count > OCTAVO_MAX_TENSORS)
		return octavo_fail(at->error, OCTAVO_ELIMIT, "%s: header: %zu entries, more than the limit of %d",
		                   at->file, count, OCTAVO_MAX_TENSORS);
	json_object_foreach ((json_t *)root, key, value) {
		size_t length = strlen(key);
		if (length == 0 || length > OCTAVO_MAX_NAME)
			return octavo_fail(at->error, OCTAVO_EFORMAT,
			                   "%s: %.32s…: a tensor's name of %zu bytes, not in 1 to %d", at->file, key,
			                   length, OCTAVO_MAX_NAME);
		text += length + 1;
	}
	header->tensor = calloc(count + 1, sizeof *header->tensor);
	header->names = malloc(text + 1);
	if (!header->tensor || !header->names)
		return octavo_fail(at->error, OCTAVO_ENOMEM, "%s: out of memory for %zu tensors", at->file, count);
	return OCTAVO_OK;
}

static enum octavo_status parse_entries(struct octavo_header *header, const json_t *root, const unsigned char *data,
                                        size_t data_bytes, const struct place *at)
{
	const char *key;
	json_t *value;
	char *name = header->names;
	json_object_foreach ((json_t *)root, key, value) {
		enum octavo_status status;
		if (strcmp(key, metadata_key) == 0) {
			status = check_metadata(value, at);
		} else {
			struct octavo_tensor *tensor = &header->tensor[header->count++];
			size_t size = strlen(key) + 1;
			tensor->name = memcpy(name, key, size);
			tensor->file = at->file;
			name += size;
			status = parse_tensor(tensor, value, data, data_bytes, at);
		}
		if (status != OCTAVO_OK)
			return status;
	}
	return OCTAVO_OK;
}

/* By begin, then end, so that a tensor without bytes comes before the one that begins where it lies. */
static int compare_places(const void *a, const void *b)
{
	const struct octavo_tensor *x = a, *y = b;
	const unsigned char *p = x->data, *q = y->data;
	if (p != q)
		return p < q ? -1 : 1;
	return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* No hole, no overlap, nothing behind the last tensor: so no byte can hide or be read twice. */
static enum octavo_status check_tiling(const struct octavo_header *header, const unsigned char *data, size_t data_bytes,
                                       const struct place *at)
{
	size_t next = 0;
	for (size_t i = 0; i < header->count; i++) {
		const struct octavo_tensor *tensor = &header->tensor[i];
		size_t begin = (size_t)((const unsigned char *)tensor->data - data);
		if (begin > next)
			return octavo_fail(at->error, OCTAVO_EFORMAT,
			                   "%s: %s: data_offsets: a hole of %zu bytes before its begin %zu", at->file,
			                   tensor->name, begin - next, begin);
		if (begin < next)
			return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: %s: data_offsets: overlaps %s", at->file,
			                   tensor->name, header->tensor[i - 1].name);
		next += tensor->bytes;
	}
	if (next != data_bytes)
		return octavo_fail(at->error, OCTAVO_EFORMAT, "%s: %zu trailing bytes behind the last tensor", at->file,
		                   data_bytes - next);
	return OCTAVO_OK;
}

enum octavo_status octavo_safetensors_parse(struct octavo_header *header, const char *json, size_t bytes,
                                            const unsigned char *data, size_t data_bytes, const char *file,
                                            struct octavo_error *error)
{
	struct place at = {file, error};
	*header = (struct octavo_header){0};
	enum octavo_status status = check_text(json, bytes, &at);
	if (status != OCTAVO_OK)
		return status;
	json_error_t detail;
	json_t *root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &detail);
	if (!root)
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: header: %s (byte %d)", file, detail.text,
		                   detail.position);
	status = reserve(header, root, &at);
	if (status == OCTAVO_OK)
		status = parse_entries(header, root, data, data_bytes, &at);
	json_decref(root);
	if (status == OCTAVO_OK) {
		qsort(header->tensor, header->count, sizeof *header->tensor, compare_places);
		status = check_tiling(header, data, data_bytes, &at);
	}
	if (status != OCTAVO_OK)
		octavo_safetensors_free(header);
	return status;
}

void octavo_safetensors_free(struct octavo_header *header)
{
	free(header->tensor);
	free(header->names);
	*header = (struct octavo_header){0};
}

/* The header is read into memory of our own, so that a file truncated under us cannot raise SIGBUS here. */
static enum octavo_status read_header(struct octavo_shard *shard, struct octavo_error *error)
{
	unsigned char prefix[OCTAVO_PREFIX_BYTES];
	size_t bytes;
	enum octavo_status status = octavo_file_read(&shard->file, prefix, sizeof prefix, 0, error);
	if (status == OCTAVO_OK)
		status = octavo_safetensors_length(&bytes, prefix, shard->map_bytes, shard->name, error);
	if (status != OCTAVO_OK)
		return status;
	char *json = malloc(bytes + 1);
	if (!json)
		return octavo_fail(error, OCTAVO_ENOMEM, "%s: out of memory for a header of %zu bytes", shard->name,
		                   bytes);
	status = octavo_file_read(&shard->file, json, bytes, OCTAVO_PREFIX_BYTES, error);
	if (status == OCTAVO_OK) {
		size_t start = OCTAVO_PREFIX_BYTES + bytes;
		status = octavo_safetensors_parse(&shard->header, json, bytes, shard->map + start,
		                                  shard->map_bytes - start, shard->name, error);
	}
	free(json);
	return status;
}

static enum octavo_status map_file(struct octavo_shard *shard, const struct octavo_copy *copy,
                                   struct octavo_error *error)
{
	size_t bytes = octavo_file_size(&shard->file);
	if (bytes < OCTAVO_PREFIX_BYTES)
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: %zu bytes, too short for a header", shard->name, bytes);
	shard->map_bytes = bytes;
	shard->copied = copy != NULL;
	if (copy)
		return octavo_copy_file(&shard->map, copy, &shard->file, error);
	void *map = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, shard->file.fd, 0);
	if (map == MAP_FAILED)
		return octavo_fail(error, OCTAVO_EIO, "%s: cannot map: %s", shard->name, strerror(errno));
	shard->map = map;
	return OCTAVO_OK;
}

enum octavo_status octavo_shard_open(struct octavo_shard *shard, const char *dir, const char *name,
                                     const struct octavo_copy *copy, struct octavo_error *error)
{
	*shard = (struct octavo_shard){.file.fd = -1};
	if (strlen(name) >= sizeof shard->name)
		return octavo_fail(error, OCTAVO_EFORMAT, "%.64s…: a file name of more than %zu bytes", name,
		                   sizeof shard->name - 1);
	strcpy(shard->name, name);
	enum octavo_status status = octavo_file_open(&shard->file, dir, shard->name, SIZE_MAX / 2, error);
	if (status == OCTAVO_OK)
		status = map_file(shard, copy, error);
	if (status == OCTAVO_OK)
		status = read_header(shard, error);
	if (status == OCTAVO_OK)
		status = octavo_file_unchanged(&shard->file, error);
	if (status != OCTAVO_OK)
		octavo_shard_close(shard);
	return status;
}

void octavo_shard_close(struct octavo_shard *shard)
{
	octavo_safetensors_free(&shard->header);
	if (shard->map && shard->copied)
		octavo_copy_free(shard->map, shard->map_bytes);
	else if (shard->map)
		munmap(shard->map, shard->map_bytes);
	shard->map = NULL;
	octavo_file_close(&shard->file);
}
