/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts that config.c reads config.json with, and what they share.
 */
#ifndef OCTAVO_CONFIG_PARTS_H
#define OCTAVO_CONFIG_PARTS_H

#include "engine/load/fields.h"
#include "engine/load/load.h"

/* Bounds that keep every product of two or three sizes far from overflow; the largest published models have a
 * vocabulary of 2^18, 7168 hidden values and 128 heads. */
enum { MAX_VOCAB = 1 << 22, MAX_WIDTH = 1 << 18, MAX_HEADS = 1 << 12, MAX_HEAD_DIM = 1 << 12, MAX_LAYERS = 1 << 12 };

/* What a config means by leaving a field out: the defaults of the architecture's class in transformers. */
struct octavo_architecture {
	const char *name;
	int dense; /* grouped-query attention and no experts; else MLA */
	/* MLA */
	enum octavo_topk_method method;
	enum octavo_scoring scoring;
	int normalise;
	int grouped; /* n_group and topk_group have no neutral default and must be given */
	/* Dense */
	int qkv_bias, qk_norm;
	int explicit_heads;  /* num_key_value_heads has another default than num_attention_heads, head_dim than the quotient */
	int optional_window; /* sliding_window counts only with use_sliding_window */
};

/* config_dense.c: what dense models have that others have not; all common sizes are read. */
void octavo_config_dense(struct octavo_config *c, const struct octavo_architecture *architecture,
                         struct octavo_fields *fields);

/* config_rope.c: rotary positions. */
void octavo_config_rope(struct octavo_config *c, struct octavo_fields *fields);

#endif
