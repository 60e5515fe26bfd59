/* SPDX-License-Identifier: Apache-2.0
 *
 * How a draft grows under a drafter with laws of its own: level by level, the laws below all nodes of a level from one
 * forward of the drafter.  Of a fixed tree every node is run.  A dynamic tree (EAGLE-2, Li et al., arXiv 2406.16858,
 * sections 4.1 and 4.2) values a node by the product of its tokens' probabilities from the root on, in the drafter's
 * eyes: the surest nodes of each level are run, and in the end the surest of all stay, with their ancestors, which
 * are no less sure.  It keeps no more than that from the start: a node that is not among them cannot come back,
 * nor can what would grow from it.
 */
#ifndef OCTAVO_GROWTH_H
#define OCTAVO_GROWTH_H

#include "engine/draft/tree.h"

/* The nodes that the drafter runs, in the order in which it runs them: a tree of its own, since a dynamic draft's
 * rows move up where others give way. */
struct octavo_growth {
	size_t rows;         /* the root, 0, among them */
	size_t above, first; /* where the level before the last, and the last one, begin */
	unsigned depth;      /* of the last one */
	int32_t token[OCTAVO_MAX_DRAFT], parent[OCTAVO_MAX_DRAFT];
};

/* The root is run first, by a drafter's own means. */
void octavo_growth_begin(struct octavo_growth *growth, struct octavo_tree *tree);
/* Gives the nodes of the last level their children, from logits[i * ld], those of node first + i; ld 0: one row
 * for all of them.  Returns how many nodes are to be run next, as the new last level [first, rows); 0: the draft
 * is complete. */
size_t octavo_growth_next(struct octavo_growth *growth, const struct octavo_shape *shape, struct octavo_tree *tree,
                          const float *logits, size_t ld, size_t vocab);

#endif
