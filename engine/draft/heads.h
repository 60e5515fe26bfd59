/* SPDX-License-Identifier: Apache-2.0
 *
 * What Medusa's and Hydra's draft heads have in common: files, buffers, and the arithmetic of residual blocks below a
 * head over the vocabulary.  Head i predicts the token i + 2 places behind the newest position whose hidden state is
 * known, since the main model's own head has predicted the one in between: i + 1 places behind the draft's root.
 */
#ifndef OCTAVO_HEADS_H
#define OCTAVO_HEADS_H

#include "engine/draft/drafter.h"
#include "engine/draft/files.h"
#include "engine/draft/growth.h"

/* y = res(x) + silu(linear(x) + bias); res is the identity, or a product and a bias of its own. */
struct octavo_head_block {
	struct octavo_matrix linear; /* [hidden][in] */
	struct octavo_matrix res;    /* [hidden][in]; data NULL: the identity */
	float *bias, *res_bias;      /* [hidden] */
};

struct octavo_head {
	struct octavo_head_block *block; /* [blocks] */
	struct octavo_matrix out;        /* [vocab][hidden] */
};

/* R: the engine's max_rows; W: the widest first block's input. */
struct octavo_heads {
	struct octavo_draft_files base;
	struct octavo_engine *engine;
	size_t heads, blocks;
	struct octavo_head *head; /* [heads] */
	/* Of the last run of all sessions' rows. */
	size_t first[OCTAVO_MAX_K]; /* where each head's rows begin */
	float *in;          /* [R][W] what first blocks see, packed */
	float *x, *y, *res; /* [R][hidden] */
	float *ones;        /* [hidden] */
	const struct octavo_draftable **draftable; /* [R] */
	uint16_t *act;      /* [R][W] bf16 */
	float *act_scale;   /* [R][ceil(W / 128)] */
};

/* How the two differ in their files. */
struct octavo_heads_format {
	struct octavo_draft_format base;
	const char *model_type, *num_heads, *num_layers; /* in config.json */
	int embeddings; /* head i's first block sees those of i + 1 tokens beside the hidden state, and has a res matrix */
};
/* The load() of both. */
enum octavo_status octavo_heads_load(struct octavo_draft_files *files, struct octavo_engine *engine,
                                     struct octavo_error *error);

struct octavo_heads_drafter {
	struct octavo_drafter base;
	struct octavo_engine *engine;
	struct octavo_heads *heads;
	size_t known;    /* positions committed; hidden is the last one's state, after the final norm */
	float *hidden;   /* [hidden] */
	float *embedded; /* [OCTAVO_MAX_DRAFT][hidden], by nodes of the growth; NULL without embeddings */
	struct octavo_growth growth;
	void *arena;
};

/* The operations of both but for draft, run and grow. */
enum octavo_status octavo_heads_open(struct octavo_drafter **out, const struct octavo_drafter_ops *ops,
                                     const struct octavo_heads_format *format, struct octavo_engine *engine,
                                     const char *dir, struct octavo_error *error);
void octavo_heads_close(struct octavo_drafter *drafter);
void octavo_heads_begin(struct octavo_drafter *drafter, const int32_t *text);
enum octavo_status octavo_heads_commit(struct octavo_drafter *drafter, size_t pos, const uint32_t *row, size_t count,
                                       struct octavo_error *error);

/* The shape of a draft that the heads can make; depth 0: none. */
struct octavo_shape octavo_heads_shape(const struct octavo_heads_drafter *d, const struct octavo_shape *shape,
                                       const struct octavo_tree *tree);
/* Runs rows[i] rows of h->in, packed in the order of the heads, through head i; R at most in all, each for the tokens
 * that h->draftable[row] says.  Leaves their logits in the engine's mtp_logits, head i's from row h->first[i] on. */
void octavo_heads_run(struct octavo_heads *h, const size_t rows[OCTAVO_MAX_K]);
/* The logits that head i made of a draft's share, whose rows begin at share.result of the head's. */
const float *octavo_heads_logits(const struct octavo_drafting *d, size_t i);

#endif
