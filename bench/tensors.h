/* SPDX-License-Identifier: Apache-2.0
 *
 * A small reader of safetensors files, for reference results that come with a model.
 */
#ifndef OCTAVO_TENSORS_H
#define OCTAVO_TENSORS_H

#include "bench/bench.h"

struct tensors {
	const char *path;    /* borrowed */
	unsigned char *data; /* [size] the whole file */
	size_t size, body;   /* body: where the tensors begin */
	json_t *header;
};

struct tensor {
	const void *data; /* row-major, little-endian; no alignment */
	size_t shape[2];  /* 1 beyond the rank */
	bool half;        /* F16, else four bytes per element */
};

/* Reads the file; complains and returns false if it cannot be read or is no safetensors file. */
bool tensors_open(struct tensors *t, const char *path);
void tensors_close(struct tensors *t);
/* The tensor of this name, which must have `rank` 1 or 2 dimensions and the dtype "I32", or F32 or F16 for "float";
 * complains and returns false if not. */
bool tensors_find(const struct tensors *t, const char *name, const char *dtype, size_t rank, struct tensor *out);
int32_t tensor_int(const struct tensor *t, size_t i);
float tensor_float(const struct tensor *t, size_t i);

#endif
