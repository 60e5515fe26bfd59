/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors of a checkpoint bound to roles one by one, for whatever reads a directory of weights: the model and drafters
 * with files of their own.
 */
#ifndef OCTAVO_BIND_H
#define OCTAVO_BIND_H

#include "fp8/arena.h"
#include "engine/load/load.h"

/* The first failure sticks: later binds do nothing, so that a layer reads as the list of its tensors. */
struct octavo_binder {
	struct octavo_checkpoint *checkpoint;
	const struct octavo_config *config; /* of layers; NULL where none are bound */
	enum octavo_status status;
	struct octavo_error *error;
	char prefix[64]; /* of all names: "model.layers.3." */
};

/* Whether there is such a tensor; 0 after a failure.  It counts as used. */
int octavo_bind_has(const struct octavo_binder *b, const char *name);
/* Tensor `name`, [size] of BF16, F16 or F32, widened into out.  ENUMERIC for elements that are not finite. */
void octavo_bind_vector(struct octavo_binder *b, float *out /* [size] */, const char *name, size_t size);
/* Matrices that the model multiplies with may be FP8, but neither the vocabulary's nor the router's. */
enum octavo_precision { OCTAVO_ANY_PRECISION, OCTAVO_NO_FP8 };
/* Tensor `stem`.weight, [rows][cols], as it lies in the file; of FP8 with its scales, `stem`.weight_scale_inv, which are
 * checked (octavo_matrix_check). */
void octavo_bind_matrix(struct octavo_binder *b, struct octavo_matrix *m, const char *stem, size_t rows, size_t cols,
                        enum octavo_precision precision);
/* `stem`.weight may be there, and is not used; of another shape it would mean a model that is not understood. */
void octavo_bind_idle(struct octavo_binder *b, const char *stem, size_t rows, size_t cols);
/* `stem`.weight may be there as a copy of `original`, which serves in its place.  Not all of it is read: rows spread over
 * it are compared. */
void octavo_bind_copy(struct octavo_binder *b, const char *stem, const struct octavo_matrix *original);
/* Refuses a checkpoint that holds more than was bound. */
void octavo_bind_end(struct octavo_binder *b);

/* weights.c: a decoder layer of b->config's sizes, all its tensors below b->prefix.  Vectors are carved first (twice,
 * see arena.h; `layer` is written only where the arena has memory); `index` decides between dense and experts.  Without
 * input_norm the layer has none. */
void octavo_layer_carve(struct octavo_arena *arena, const struct octavo_config *config, size_t index,
                        struct octavo_layer *layer);
void octavo_layer_bind(struct octavo_binder *b, struct octavo_layer *layer);

#endif
