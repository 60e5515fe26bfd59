/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/golden.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct golden {
	char *path;
	unsigned char *bytes; /* the file; its data starts 8-byte aligned, as the writer pads the header */
	size_t size, data;
	json_t *header;
};

static void die(const struct golden *golden, const char *name, const char *reason)
{
	fprintf(stderr, "%s: %s: %s\n", golden->path, name, reason);
	abort();
}

static void read_file(struct golden *golden, FILE *file)
{
	long size = fseek(file, 0, SEEK_END) ? -1 : ftell(file);
	if (size < 8 || fseek(file, 0, SEEK_SET))
		die(golden, "file", "cannot tell its size, or it is too short");
	golden->size = (size_t)size;
	golden->bytes = malloc(golden->size);
	if (!golden->bytes || fread(golden->bytes, 1, golden->size, file) != golden->size)
		die(golden, "file", "cannot be read");
}

static void read_header(struct golden *golden)
{
	uint64_t length = 0;
	for (int i = 7; i >= 0; i--)
		length = length << 8 | golden->bytes[i];
	if (length > golden->size - 8 || length % 8)
		die(golden, "header", "longer than the file, or not padded");
	golden->data = 8 + (size_t)length;
	golden->header = json_loadb((const char *)golden->bytes + 8, (size_t)length, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(golden->header))
		die(golden, "header", "not a JSON object");
}

struct golden *golden_open(const char *path)
{
	FILE *file = fopen(path, "rb");
	if (!file)
		return NULL;
	struct golden *golden = calloc(1, sizeof *golden);
	if (!golden || !(golden->path = strdup(path)))
		abort();
	read_file(golden, file);
	fclose(file);
	read_header(golden);
	return golden;
}

void golden_close(struct golden *golden)
{
	if (!golden)
		return;
	json_decref(golden->header);
	free(golden->bytes);
	free(golden->path);
	free(golden);
}

/* Bytes of a tensor of 4-byte elements, its shape folded to rows x cols; NULL if there is none. */
static const void *find(const struct golden *golden, const char *name, const char *dtype, size_t *rows, size_t *cols)
{
	json_t *entry = json_object_get(golden->header, name);
	if (!entry)
		return NULL;
	const char *stored;
	json_t *shape;
	json_int_t begin, end;
	if (json_unpack(entry, "{s:s, s:o, s:[I,I]}", "dtype", &stored, "shape", &shape, "data_offsets", &begin, &end))
		die(golden, name, "malformed entry");
	if (strcmp(stored, dtype) != 0)
		die(golden, name, "unexpected dtype");
	size_t rank = json_array_size(shape);
	if (rank < 1 || rank > 2)
		die(golden, name, "rank is neither 1 nor 2");
	*rows = (size_t)json_integer_value(json_array_get(shape, 0));
	*cols = rank == 2 ? (size_t)json_integer_value(json_array_get(shape, 1)) : 1;
	if (begin < 0 || end < begin || (size_t)end > golden->size - golden->data || begin % 4 ||
	    (size_t)(end - begin) != *rows * *cols * 4)
		die(golden, name, "offsets do not fit its shape or the file");
	return golden->bytes + golden->data + begin;
}

const float *golden_f32(const struct golden *golden, const char *name, size_t *rows, size_t *cols)
{
	return find(golden, name, "F32", rows, cols);
}

const int32_t *golden_i32(const struct golden *golden, const char *name, size_t *count)
{
	size_t cols;
	const int32_t *value = find(golden, name, "I32", count, &cols);
	if (value)
		*count *= cols;
	return value;
}

double golden_relative_l2(const float *x, const float *reference, size_t n)
{
	double difference = 0, size = 0;
	for (size_t i = 0; i < n; i++) {
		double d = (double)x[i] - (double)reference[i];
		difference += d * d;
		size += (double)reference[i] * (double)reference[i];
	}
	return sqrt(difference / size);
}

static double log_sum_exp(const float *x, size_t n)
{
	double top = -INFINITY, sum = 0;
	for (size_t i = 0; i < n; i++)
		if (x[i] > top)
			top = x[i];
	for (size_t i = 0; i < n; i++)
		sum += exp((double)x[i] - top);
	return top + log(sum);
}

double golden_kl(const float *x, const float *reference, size_t n)
{
	double x_total = log_sum_exp(x, n), total = log_sum_exp(reference, n), kl = 0;
	for (size_t i = 0; i < n; i++) {
		double log_p = (double)reference[i] - total, log_q = (double)x[i] - x_total;
		kl += exp(log_p) * (log_p - log_q);
	}
	return kl;
}

size_t golden_top(const float *x, size_t n, double *margin)
{
	size_t best = 0;
	double second = -INFINITY;
	for (size_t i = 1; i < n; i++) {
		if (x[i] > x[best]) {
			second = x[best];
			best = i;
		} else if (x[i] > second) {
			second = x[i];
		}
	}
	*margin = (double)x[best] - second;
	return best;
}

struct golden_distance golden_compare(const float *x, const float *reference, size_t rows, size_t cols, double margin)
{
	struct golden_distance distance = {.relative_l2 = golden_relative_l2(x, reference, rows * cols)};
	for (size_t row = 0; row < rows; row++) {
		const float *mine = x + row * cols, *theirs = reference + row * cols;
		double kl = golden_kl(mine, theirs, cols), gap, unused;
		if (kl > distance.kl || isnan(kl)) /* once NaN, it stays */
			distance.kl = kl;
		if (golden_top(mine, cols, &unused) != golden_top(theirs, cols, &gap) && gap > margin)
			distance.top1_changed++;
	}
	return distance;
}
