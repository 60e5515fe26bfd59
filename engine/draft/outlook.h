/* SPDX-License-Identifier: Apache-2.0
 *
 * Logits of a next token, and what they say of it.
 */
#ifndef OCTAVO_OUTLOOK_H
#define OCTAVO_OUTLOOK_H

#include "engine/draft/tree.h"

/* What is found out of the logits stays here, for all nodes of a tree that share them: they are equally deep. */
struct octavo_outlook {
	const float *logits; /* [vocab] */
	size_t vocab;
	size_t asked, found; /* the best: how many were asked for, and how many there are */
	int32_t best[OCTAVO_MAX_DRAFT];
	double share[OCTAVO_MAX_DRAFT]; /* how likely each of them is the target's token; only where somebody asks */
	const double *softmax; /* in the chance's scratch; NULL: not there */
	double listed; /* what it holds of those of its tokens that went on the chance's list; 0: not asked for */
};

/* What a token's share is of. */
enum octavo_shares {
	OCTAVO_SHARES_UNASKED,
	OCTAVO_SHARES_OF_TWO, /* of a chain's token: of it and the runner-up */
	OCTAVO_SHARES_OF_ALL, /* tokens, or runners */
};

/* The children that a node should get, at most `width`: c->best, in this order.  Fewer or none where confidence
 * asks for that; *path, the product of the best chances up to the node, becomes that of the children.  With
 * `shares` c->share is there too.  None if there is a NaN: what the target makes of it is the target's business. */
size_t octavo_outlook_children(struct octavo_outlook *c, const struct octavo_tree *tree, size_t parent, unsigned width,
                               enum octavo_shares shares, double *path);

/* The law[vocab] that the target's sampling parameters make of the logits behind `parent`, by the row's own path. */
enum octavo_status octavo_tree_make_law(const struct octavo_tree *tree, size_t parent, const float *logits,
                                        size_t vocab, double *law);

/* Whether it matters how sure the drafter is. */
int octavo_tree_asks_confidence(const struct octavo_tree *tree);

/* The `count` largest of logits[n], best first, ties by lowest id; returns how many there are: less than count if n
 * is, or so many that are not -infinity; none if there is a NaN. */
size_t octavo_best_tokens(const float *logits, size_t n, size_t count, int32_t *token);

#endif
