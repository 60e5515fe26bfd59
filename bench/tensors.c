/* SPDX-License-Identifier: Apache-2.0
 *
 * safetensors: eight bytes of header length, a JSON header, the tensors.  Every length and offset is checked.
 */
#include "bench/tensors.h"

#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8 };

static bool refuse(const struct tensors *t, const char *name, const char *reason)
{
	complain("%s: %s: %s", t->path, name, reason);
	return false;
}

static uint64_t little_endian(const unsigned char *at, size_t bytes)
{
	uint64_t value = 0;
	for (size_t i = bytes; i-- > 0;)
		value = value << 8 | at[i];
	return value;
}

bool tensors_open(struct tensors *t, const char *path)
{
	json_error_t why;
	*t = (struct tensors){.path = path};
	t->data = read_file(path, &t->size);
	if (!t->data)
		return false;
	uint64_t length = t->size < LENGTH_BYTES ? UINT64_MAX : little_endian(t->data, LENGTH_BYTES);
	if (length > t->size - LENGTH_BYTES) {
		refuse(t, "header", "the file is too short for it");
	} else {
		t->body = LENGTH_BYTES + (size_t)length;
		t->header =
		        json_loadb((const char *)t->data + LENGTH_BYTES, (size_t)length, JSON_REJECT_DUPLICATES, &why);
		if (json_is_object(t->header))
			return true;
		refuse(t, "header", "not a JSON object");
	}
	tensors_close(t);
	return false;
}

void tensors_close(struct tensors *t)
{
	json_decref(t->header);
	free(t->data);
	*t = (struct tensors){0};
}

/* Element i of a JSON array as a size no larger than the file; SIZE_MAX if it is none. */
static size_t size_at(const struct tensors *t, const json_t *array, size_t i)
{
	const json_t *item = json_array_get(array, i);
	json_int_t value = json_is_integer(item) ? json_integer_value(item) : -1;
	return value >= 0 && (uint64_t)value <= t->size ? (size_t)value : SIZE_MAX;
}

static bool check_dtype(const struct tensors *t, const char *name, const char *wanted, const char *dtype, bool *half)
{
	bool is_float = !strcmp(wanted, "float");
	*half = is_float && dtype && !strcmp(dtype, "F16");
	if (dtype && (*half || !strcmp(dtype, is_float ? "F32" : wanted)))
		return true;
	return refuse(t, name, is_float ? "dtype is neither F32 nor F16" : "dtype is not I32");
}

bool tensors_find(const struct tensors *t, const char *name, const char *dtype, size_t rank, struct tensor *out)
{
	const json_t *entry = json_object_get(t->header, name), *shape = json_object_get(entry, "shape");
	const json_t *offsets = json_object_get(entry, "data_offsets");
	size_t begin = size_at(t, offsets, 0), end = size_at(t, offsets, 1), room = t->size - t->body;
	*out = (struct tensor){.shape = {1, 1}};
	if (!entry)
		return refuse(t, name, "missing");
	if (!check_dtype(t, name, dtype, json_string_value(json_object_get(entry, "dtype")), &out->half))
		return false;
	if (json_array_size(shape) != rank)
		return refuse(t, name, "shape: not of the expected rank");
	for (size_t i = 0; i < rank; i++) {
		out->shape[i] = size_at(t, shape, i);
		if (out->shape[i] == SIZE_MAX || !out->shape[i])
			return refuse(t, name, "shape: a dimension that the file cannot hold");
	}
	if (json_array_size(offsets) != 2 || begin > end || end > room)
		return refuse(t, name, "data_offsets: outside the file");
	if (out->shape[0] > room / out->shape[1] ||
	    end - begin != out->shape[0] * out->shape[1] * (out->half ? 2u : 4u))
		return refuse(t, name, "data_offsets: not the size that shape and dtype give");
	out->data = t->data + t->body + begin;
	return true;
}

int32_t tensor_int(const struct tensor *t, size_t i)
{
	return (int32_t)(uint32_t)little_endian((const unsigned char *)t->data + 4 * i, 4);
}

float tensor_float(const struct tensor *t, size_t i)
{
	size_t bytes = t->half ? 2 : 4;
	uint32_t bits = (uint32_t)little_endian((const unsigned char *)t->data + bytes * i, bytes);
	float value;
	if (t->half)
		return octavo_f16_decode((uint16_t)bits);
	memcpy(&value, &bits, sizeof value);
	return value;
}
