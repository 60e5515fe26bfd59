/* SPDX-License-Identifier: Apache-2.0
 *
 * What proposes tokens.  One file per method; a session holds one drafter.
 *
 * The session tells a drafter everything that became certain: for every committed position i, in order and
 * without gaps, the token at i, the one after it, and the main model's hidden state of i.  The text itself is the
 * session's.  A draft is a tree below
 * the token after the last committed one; a chain is a tree of width one.
 *
 * Drafts of many sessions are made together (together.c): those that run rows of one kind, say of an MTP module,
 * meet in one forward for each depth.
 */
#ifndef OCTAVO_DRAFTER_H
#define OCTAVO_DRAFTER_H

#include "engine/draft/tree.h"
#include "engine/internal.h"

/* The drafters of a pair ("ngram+mtp"); any other drafter is the only source of its drafts. */
enum { OCTAVO_MAX_SOURCES = 2 };

struct octavo_drafter {
	const struct octavo_drafter_ops *ops; /* a method's own struct begins with this one */
	unsigned sources;                     /* 0: never drafts; 2: a pair; otherwise 1 */
	unsigned most[OCTAVO_MAX_SOURCES];    /* tokens in a row that a source can draft; 0: as many as are asked for */
	struct octavo_drafter *pair[OCTAVO_MAX_SOURCES]; /* a pair's drafters, in the order of their turns; otherwise NULL */
	/* What it runs its next rows through: drafters with the same one can be run in one forward, of at most
	 * crew_rows rows.  NULL: it runs none. */
	const void *crew;
	size_t crew_rows;
};

/* One session's draft while it is made. */
struct octavo_drafting {
	struct octavo_drafter *whole; /* the session's: of one source, or a pair */
	struct octavo_shape shapes[OCTAVO_MAX_SOURCES]; /* by source */
	struct octavo_tree *tree;
	const struct octavo_draftable *draftable; /* what may be drafted; NULL: all tokens */
	unsigned turns;                   /* of sources, that have begun */
	struct octavo_drafter *drafter;   /* whose turn it is: of a pair's, the second's where the first proposes nothing */
	const struct octavo_shape *shape; /* its own */
	struct octavo_share share, more;  /* the rows to be run next, and more of them; none in `share`: complete */
	uint64_t ns;                      /* its time; of what is run together, its even share */
	enum octavo_status status;
};

/* What may follow a drafter's name and a colon. */
enum octavo_drafter_argument {
	OCTAVO_NO_ARGUMENT,
	OCTAVO_OWN_DIRECTORY, /* where its files are; without it <model_dir>/drafters/NAME */
};

struct octavo_drafter_ops {
	const char *name;
	/* `dir` exists, and is borrowed for the call; NULL for a drafter without argument.  What goes wrong with what is
	 * in it is told by file and reason: the caller puts the drafter's name and `dir` before it. */
	enum octavo_status (*open)(struct octavo_drafter **out, struct octavo_engine *engine, size_t sequence,
	                           const char *dir, struct octavo_error *error);
	void (*close)(struct octavo_drafter *drafter);
	/* A new prompt starts at position 0.  text[i] is the token at position i, as far as the text has been told of;
	 * it grows where it is. */
	void (*begin)(struct octavo_drafter *drafter, const int32_t *text);
	/* Positions [pos, pos + count) are committed; text[pos + count] is the next, not yet committed token.  Hidden
	 * states are those of rows row[i] of the engine's last forward. */
	enum octavo_status (*commit)(struct octavo_drafter *drafter, size_t pos, const uint32_t *row, size_t count,
	                             struct octavo_error *error);
	/* Adds nodes below the root of d->tree, which is the next, not yet committed token: at most shape->width[d]
	 * children to each node of depth d, while there is room; or fewer, or none.  Drafters with laws leave the
	 * growing to growth.h, which also makes dynamic trees.  What needs rows of the crew to be run first is left to
	 * grow(), and d->share says which rows.  NULL: it never drafts, or is a pair. */
	enum octavo_status (*draft)(struct octavo_drafting *d, struct octavo_error *error);
	/* One forward of the shares of `count` drafts of a crew, in any order; NULL without a crew. */
	enum octavo_status (*run)(struct octavo_drafting **d, size_t count, struct octavo_error *error);
	/* Adds nodes by the laws that run() left, and sets d->share anew; with share.rows 0 the draft is complete. */
	void (*grow)(struct octavo_drafting *d);
	enum octavo_drafter_argument argument;
	int laws; /* whether it has laws over all tokens, which it chooses or draws from (growth.h) */
	int at_once; /* whether what it drafts takes the same time wherever it stops growing */
	/* Whether the model, apart from directories, has what it needs; NULL: always. */
	int (*feeds)(const struct octavo_engine *engine);
	/* Adds nodes that run with the tree but are not offered to acceptance, anywhere below its root and behind all that
	 * was drafted, while there is room and the context reaches: for what the model makes of them, in the engine's
	 * logits when the round is committed.  None where shape->depth is 0.  NULL: the method does not. */
	void (*watch)(struct octavo_drafter *drafter, const struct octavo_shape *shape, struct octavo_tree *tree);
};

/* All drafters: one line here, and octavo_drafter_NAME in a file of its own. */
#define OCTAVO_DRAFTERS(X) \
	X(none) \
	X(mtp) \
	X(ngram) \
	X(lookahead) \
	X(model) \
	X(medusa) \
	X(hydra) \
	X(parallel) \
	X(eagle)

#define OCTAVO_DRAFTER_OPS(name) extern const struct octavo_drafter_ops octavo_drafter_##name;
OCTAVO_DRAFTERS(OCTAVO_DRAFTER_OPS)
#undef OCTAVO_DRAFTER_OPS

/* What `spec` asks for: NAME, NAME:DIR, or a pair of these with a + between them; NULL is "none".  EINVAL says what is
 * wrong with it, EIO which directory is not there; otherwise what a drafter's open says. */
enum octavo_status octavo_drafter_open(struct octavo_drafter **out, const char *spec, struct octavo_engine *engine,
                                       size_t sequence, struct octavo_error *error);
/* Closes and nulls. */
void octavo_drafter_close(struct octavo_drafter **drafter);

/* together.c: makes the drafts of `count` sessions of one engine, of which the caller set `whole`, `shapes`, `tree` and
 * `draftable`.  Reorders d.  A draft that fails takes no other with it that it was not run with; the first failure is
 * returned. */
enum octavo_status octavo_draft_together(struct octavo_drafting **d, size_t count, struct octavo_error *error);
/* One draft; shape[i] is for source i. */
enum octavo_status octavo_draft(struct octavo_drafter *drafter, const struct octavo_shape *shape,
                                struct octavo_tree *tree, struct octavo_error *error);
/* For run(): the shares of d[count], linked, a draft's `more`, if it has one, behind its `share`; with what each may
 * draft. */
struct octavo_share *octavo_draft_shares(struct octavo_drafting **d, size_t count);

/* pair.c: drafts with `first`, and with `second` where that has nothing to propose.  Takes both over, also if it
 * fails. */
enum octavo_status octavo_pair_open(struct octavo_drafter **out, struct octavo_drafter *first,
                                    struct octavo_drafter *second, struct octavo_error *error);

#endif
