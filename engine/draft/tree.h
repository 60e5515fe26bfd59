/* SPDX-License-Identifier: Apache-2.0
 *
 * A draft while it is made, and the shape that it may take.
 */
#ifndef OCTAVO_TREE_H
#define OCTAVO_TREE_H

#include "octavo_engine.h"
#include "engine/draft/candidates.h"
#include "engine/draft/extent.h"

/* How many children each node of a depth may get, the root's first; a chain of k tokens has depth k and width 1. */
struct octavo_shape {
	unsigned depth; /* 0: draft nothing */
	unsigned width[OCTAVO_MAX_K];
	unsigned most;  /* 0: a fixed tree; else a dynamic one, of which so many rows stay, the root included: growth.h */
};

/* How a drafter takes tokens from its logits, by the acceptance rule.  Where it compares with the law of the
 * draft, they are drawn from the law that the target's sampling parameters make of the logits, siblings without
 * replacement.  Where it asks for the target's own draw, they are the first of the target's race (octavo_race) if
 * that were its law: at temperature 0, and with the other rules, those with the largest logits. */
struct octavo_chance {
	const struct octavo_sampling *sampling;
	struct octavo_stream stream;
	struct octavo_prefix prefix; /* the committed tokens and the root */
	struct octavo_confidence confidence; /* in the law drawn from, the runners' chances, or the logits' softmax */
	size_t vocab;
	int race;        /* the target's race decides */
	struct octavo_extent *extent; /* [sources] how far a chain of chosen tokens goes; NULL: as its shape says */
	double *law;     /* [rows][vocab] of the children of each row; NULL: nothing is drawn from them */
	double *scratch; /* [vocab] */
	struct octavo_candidate_list *candidates; /* takes in what the laws hold likely; NULL: nobody asks */
	uint32_t *order; /* scratch [vocab] */
};

/* Row 0 is the root; parents come before their children, siblings carry different tokens. */
struct octavo_tree {
	size_t rows, room; /* room: the most rows, root included; at most OCTAVO_MAX_DRAFT */
	size_t watched;    /* the last of the rows: not offered to acceptance */
	unsigned source;   /* who drafted: 0, or 1 for the second of a pair */
	int32_t token[OCTAVO_MAX_DRAFT], parent[OCTAVO_MAX_DRAFT];
	double path[OCTAVO_MAX_DRAFT];      /* confidence along the path to the row; a dynamic tree's: the row's own */
	int16_t run[OCTAVO_MAX_DRAFT];      /* which of the rows that the drafter runs it is (growth.h); -1: none */
	const struct octavo_chance *chance; /* NULL: the best tokens are taken, however sure the drafter is */
	uint8_t drawn[OCTAVO_MAX_DRAFT];    /* whether the row's token was drawn from the law of its parent's children */
};

struct octavo_shape octavo_shape_chain(unsigned k);
struct octavo_shape octavo_shape_dynamic(const struct octavo_dynamic *dynamic);
/* The most rows that a draft of this shape has, the root included; saturates above OCTAVO_MAX_DRAFT. */
size_t octavo_shape_rows(const struct octavo_shape *shape);

/* A tree of its root alone. */
void octavo_tree_begin(struct octavo_tree *tree, int32_t root, size_t room, const struct octavo_chance *chance);
/* The child of `parent` that carries `token`; where there is none it is added, if fewer than `width` are there and the
 * tree has room.  0: neither. */
size_t octavo_tree_child(struct octavo_tree *tree, size_t parent, int32_t token, unsigned width);
struct octavo_outlook;
/* Up to `width` children of `parent`, from the outlook on its next token: chosen or drawn ones.  Fewer or none where
 * confidence asks for that; none if there is a NaN: what the target makes of it is the target's business. */
void octavo_tree_grow(struct octavo_tree *tree, size_t parent, struct octavo_outlook *c, unsigned width);
/* The same of a dynamic tree: the best children, each as sure as the outlook on it says times its parent.  In a
 * full tree they take the places of less sure rows: what remains are the surest, ties to the row that came first.  Rows
 * behind one that gave way move up.  The tree needs a chance. */
void octavo_tree_offer(struct octavo_tree *tree, size_t parent, struct octavo_outlook *c, unsigned width);
/* Whether a chain is to go on behind its last row: by the extent, if there is one. */
int octavo_tree_goes_on(const struct octavo_tree *tree);
/* The law that a row's token was drawn from, as an octavo_law_fn; NULL for one that was chosen.  Of siblings, the law
 * before any of them was drawn. */
const double *octavo_tree_law(void *tree, size_t row);
/* Tokens between the root and a row, the row's own included. */
unsigned octavo_tree_depth(const struct octavo_tree *tree, size_t row);
/* What acceptance sees of the tree. */
struct octavo_draft octavo_tree_offered(const struct octavo_tree *tree);
/* The depth of the deepest row offered. */
unsigned octavo_tree_deepest(const struct octavo_tree *tree);

#endif
