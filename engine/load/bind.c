/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine/load/bind.h"

#include "fp8/error.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_ROOM = 192 };

/* ---- One tensor ------------------------------------------------------------------------------------ */

static const struct octavo_tensor *look(const struct octavo_binder *b, const char *stem, const char *suffix)
{
	char name[NAME_ROOM];
	if (b->status != OCTAVO_OK)
		return NULL;
	snprintf(name, sizeof name, "%s%s%s", b->prefix, stem, suffix);
	return octavo_checkpoint_find(b->checkpoint, name);
}

static const struct octavo_tensor *need(struct octavo_binder *b, const char *stem, const char *suffix)
{
	const struct octavo_tensor *tensor = look(b, stem, suffix);
	if (!tensor && b->status == OCTAVO_OK)
		b->status = octavo_fail(b->error, OCTAVO_EFORMAT, "%s%s%s: missing from the checkpoint", b->prefix,
		                        stem, suffix);
	return tensor;
}

static void shape_text(char text[64], size_t rank, const size_t *shape)
{
	size_t used = (size_t)snprintf(text, 64, "[");
	for (size_t i = 0; i < rank && used < 64; i++)
		used += (size_t)snprintf(text + used, 64 - used, i ? ", %zu" : "%zu", shape[i]);
	if (used < 64)
		snprintf(text + used, 64 - used, "]");
}

static int has_shape(struct octavo_binder *b, const struct octavo_tensor *tensor, size_t rank, const size_t *shape)
{
	if (tensor->rank == rank && memcmp(tensor->shape, shape, rank * sizeof *shape) == 0)
		return 1;
	char found[64], wanted[64];
	shape_text(found, tensor->rank, tensor->shape);
	shape_text(wanted, rank, shape);
	b->status = octavo_fail(b->error, OCTAVO_EFORMAT, "%s: %s: shape %s, but config.json makes it %s", tensor->file,
	                        tensor->name, found, wanted);
	return 0;
}

static void wrong_dtype(struct octavo_binder *b, const struct octavo_tensor *tensor, const char *wanted)
{
	b->status = octavo_fail(b->error, OCTAVO_EFORMAT, "%s: %s: dtype %s, not %s", tensor->file, tensor->name,
	                        tensor->dtype_name, wanted);
}

/* ---- Vectors --------------------------------------------------------------------------------------- */

/* The i-th of all the tensor's values. */
static float element(const struct octavo_tensor *tensor, size_t i)
{
	const struct octavo_matrix all = {.data = tensor->data, .dtype = tensor->dtype};
	return octavo_matrix_value(&all, 0, i);
}

void octavo_bind_vector(struct octavo_binder *b, float *out /* [size] */, const char *name, size_t size)
{
	const struct octavo_tensor *tensor = need(b, name, "");
	if (!tensor || !has_shape(b, tensor, 1, &size))
		return;
	if (tensor->dtype != OCTAVO_BF16 && tensor->dtype != OCTAVO_F16 && tensor->dtype != OCTAVO_F32) {
		wrong_dtype(b, tensor, "BF16, F16 or F32");
		return;
	}
	for (size_t i = 0; i < size; i++) {
		out[i] = element(tensor, i);
		if (!isfinite(out[i])) {
			b->status = octavo_fail(b->error, OCTAVO_ENUMERIC, "%s: %s: element %zu is not finite",
			                        tensor->file, tensor->name, i);
			return;
		}
	}
}

/* ---- Matrices -------------------------------------------------------------------------------------- */

static size_t blocks(size_t n)
{
	return n / OCTAVO_BLOCK + (n % OCTAVO_BLOCK != 0);
}

/* Names the first scale that octavo_matrix_check did not let pass. */
static void blame_scale(struct octavo_binder *b, const struct octavo_tensor *tensor)
{
	size_t i = 0, last = tensor->shape[0] * tensor->shape[1] - 1;
	while (i < last && element(tensor, i) >= 0 && element(tensor, i) <= 0x1p40f)
		i++;
	b->status =
	        octavo_fail(b->error, OCTAVO_ENUMERIC, "%s: %s: scale [%zu][%zu] is %g, not in 0 to 2^40", tensor->file,
	                    tensor->name, i / tensor->shape[1], i % tensor->shape[1], (double)element(tensor, i));
}

static void bind_scale(struct octavo_binder *b, struct octavo_matrix *m, const char *stem)
{
	const size_t shape[] = {blocks(m->rows), blocks(m->cols)};
	const struct octavo_tensor *tensor = need(b, stem, ".weight_scale_inv");
	if (!tensor || !has_shape(b, tensor, 2, shape))
		return;
	if (tensor->dtype != OCTAVO_F32 && tensor->dtype != OCTAVO_BF16 && tensor->dtype != OCTAVO_E8M0) {
		wrong_dtype(b, tensor, "F32, BF16 or F8_E8M0");
		return;
	}
	m->scale_dtype = tensor->dtype;
	m->scale = tensor->data;
	m->scale_ld = shape[1];
	if (octavo_matrix_check(m) != OCTAVO_OK)
		blame_scale(b, tensor);
}

void octavo_bind_matrix(struct octavo_binder *b, struct octavo_matrix *m, const char *stem, size_t rows, size_t cols,
                        enum octavo_precision precision)
{
	const size_t shape[] = {rows, cols};
	const struct octavo_tensor *tensor = need(b, stem, ".weight");
	if (!tensor || !has_shape(b, tensor, 2, shape))
		return;
	*m = (struct octavo_matrix){
	        .data = tensor->data, .rows = rows, .cols = cols, .ld = cols, .dtype = tensor->dtype};
	/* The stored dtype decides, not what the config says of quantisation. */
	switch (tensor->dtype) {
	case OCTAVO_E4M3:
	case OCTAVO_E5M2:
		if (precision == OCTAVO_ANY_PRECISION)
			bind_scale(b, m, stem);
		else
			wrong_dtype(b, tensor, "BF16, F16 or F32");
		break;
	case OCTAVO_BF16:
	case OCTAVO_F16:
	case OCTAVO_F32:
		break;
	default:
		wrong_dtype(b, tensor,
		            precision == OCTAVO_ANY_PRECISION ? "F8_E4M3, F8_E5M2, BF16, F16 or F32" : "BF16, F16 or F32");
	}
}

/* ---- What is there beside ----------------------------------------------------------------------------- */

int octavo_bind_has(const struct octavo_binder *b, const char *name)
{
	return look(b, name, "") != NULL;
}

void octavo_bind_idle(struct octavo_binder *b, const char *stem, size_t rows, size_t cols)
{
	const size_t shape[] = {rows, cols};
	const struct octavo_tensor *tensor = look(b, stem, ".weight");
	if (tensor)
		has_shape(b, tensor, 2, shape);
}

static int same_row(const struct octavo_matrix *a, const struct octavo_matrix *b, size_t row)
{
	for (size_t i = 0; i < a->cols; i++)
		if (octavo_matrix_value(a, row, i) != octavo_matrix_value(b, row, i))
			return 0;
	return 1;
}

void octavo_bind_copy(struct octavo_binder *b, const char *stem, const struct octavo_matrix *original)
{
	enum { COMPARED = 64 }; /* rows: two matrices that were trained apart differ in each */
	const struct octavo_tensor *tensor = look(b, stem, ".weight");
	struct octavo_matrix copy = {0};
	if (!tensor)
		return;
	octavo_bind_matrix(b, &copy, stem, original->rows, original->cols, OCTAVO_NO_FP8);
	size_t step = (original->rows + COMPARED - 1) / COMPARED;
	for (size_t row = 0; b->status == OCTAVO_OK && row < original->rows; row += step)
		if (!same_row(&copy, original, row))
			b->status = octavo_fail(b->error, OCTAVO_EFORMAT,
			                        "%s: %s: row %zu is not the embedding's, but config.json says "
			                        "tie_word_embeddings", tensor->file, tensor->name, row);
}

void octavo_bind_end(struct octavo_binder *b)
{
	size_t i = 0;
	const struct octavo_tensor *rest = NULL;
	if (b->status == OCTAVO_OK)
		rest = octavo_checkpoint_unused(b->checkpoint, &i);
	if (rest)
		b->status = octavo_fail(b->error, OCTAVO_EFORMAT, "%s: %s: unexpected: the model has no place for it",
		                        rest->file, rest->name);
}
