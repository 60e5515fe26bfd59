/* SPDX-License-Identifier: Apache-2.0
 *
 * Directories of Medusa and Hydra heads, random or made by a test; heads made of a model's own layers; and a model
 * whose text is known beforehand.
 */
#ifndef OCTAVO_TESTS_HEADS_H
#define OCTAVO_TESTS_HEADS_H

#include "tests/support/ckpt.h"

struct heads_options {
	int hydra;
	size_t heads, layers, hidden, vocab;
	const char *dtype; /* of all matrices: "BF16", "F16" (zeros only), "F32" or "F8_E4M3" with scales */
	int zero;          /* all values 0; else random, of a size that keeps activations near 1 */
	uint64_t seed;
};

/* Heads in the format of their drafter: config and tensors. */
struct ckpt *heads_new(const struct heads_options *options);
/* Writes them to a directory as config.json and medusa_lm_head.safetensors (or hydra_…). */
void heads_write(const struct ckpt *heads, const char *dir);
/* Both, in a fresh directory; ckpt_dir_free. */
char *heads_dir_new(struct heads_options options);
/* Three random heads for the tiny models of hidden size 136 and 260 tokens. */
struct heads_options tiny_heads(int hydra, size_t layers, const char *dtype);
/* "medusa:DIR" or "hydra:DIR" behind what stands before it ("ngram+"); valid until the next call. */
const char *heads_spec(const char *before, int hydra, const char *dir);
/* A tensor's values as doubles, block scales applied; the caller frees. */
double *heads_values(struct ckpt *heads, const char *name);
/* Sets element i of a BF16 tensor. */
void heads_set(struct ckpt_tensor *tensor, size_t i, float value);

/* Of the model in `dir` one layer alone, as STEM.0.*, with what stands around the layers or without it. */
struct ckpt *ckpt_layer(const char *dir, size_t layer, const char *stem, int around);
/* A parallel head and an EAGLE head, made of the second layer of the dense model in `dir`.  EAGLE's fc passes the
 * token's embedding on, and `state` times the state. */
struct ckpt *parallel_head(const char *dir);
struct ckpt *eagle_head(const char *dir, float state);

/* A model of hidden size 160 and 300 tokens, of which 260 can be chosen, that says after token t, whatever stood
 * before, t + 1 (at temperature 0).  Its state after the final norm at a position is the embedding of the token there,
 * whose values are 1 and -1.  Written to `dir`; the caller frees. */
struct ckpt *counting_model(const char *dir);

#endif
