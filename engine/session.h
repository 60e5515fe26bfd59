/* SPDX-License-Identifier: Apache-2.0
 *
 * A session: one sequence, its drafter and its sampling parameters.
 *
 * Between calls the sequence is `token[0 .. committed]`: the committed tokens and one more, the last emitted (or
 * the prompt's last), which is the root of the next draft.  So the first emitted token comes out of a round like
 * all others, and plain decoding is this loop with a drafter that never drafts.
 */
#ifndef OCTAVO_SESSION_H
#define OCTAVO_SESSION_H

#include "engine/draft/depth.h"
#include "engine/draft/drafter.h"
#include "engine/history.h"
#include "engine/stop.h"

struct octavo_screen;

struct octavo_session {
	struct octavo_engine *engine;
	struct octavo_drafter *drafter;
	struct octavo_session_settings settings; /* drafter not kept */
	struct octavo_shape shape[OCTAVO_MAX_SOURCES]; /* of a draft, per source; adaptive: of this round's */
	int adaptive;                /* k is chosen for each round */
	struct octavo_extent extent[OCTAVO_MAX_SOURCES]; /* adaptive: of this round's drafts */
	unsigned drafted;            /* tokens in a row; extents leave some of them out */
	struct octavo_depth *depth, own_depth;
	size_t late[OCTAVO_MAX_SOURCES]; /* committed tokens that a source has not seen, but for the last round's */
	size_t sequence, committed;
	int32_t *token;     /* [context + 1] the prompt and what was emitted */
	float *margin;      /* [context + 1] of emitted tokens, by absolute position */
	int32_t *second;    /* [context + 1] */
	double *law;        /* [vocab] */
	uint32_t *order;    /* [vocab] */
	double *residual;   /* [2][vocab] for the rules; NULL with rules that need none */
	struct octavo_draftable *draftable; /* what may be drafted; NULL: all tokens */
	struct octavo_screen *screen; /* of the candidates rule; NULL with all others */
	struct octavo_chance chance; /* how the drafter takes its tokens */
	struct octavo_stopper stopper;
	size_t text;                 /* bytes of the text of what was emitted */
	/* One round */
	struct octavo_tree tree;
	struct octavo_drafting drafting;
	size_t first_row;        /* where its root lies in the round's batch */
	size_t company;          /* sessions in the round, itself among them */
	size_t room;             /* rows of the forward that the session may take */
	struct octavo_outcome outcome;
	size_t first, emitted;   /* the round's tokens are token[first .. first + emitted) */
	struct octavo_session_stats stats;
	void *arena;
};

/* round.c: one round of `count` running sessions of one engine, their rows side by side in one forward.  A session that
 * fails takes no other with it, unless the forward fails; the first failure is reported. */
enum octavo_status octavo_round(struct octavo_session *const *session, size_t count, struct octavo_error *error);

/* The row that made the round's token i, in the session's tree. */
size_t octavo_session_maker(const struct octavo_session *s, size_t i);
/* What a rule could make nothing of. */
enum octavo_status octavo_logits_fail(const struct octavo_session *s, enum octavo_status status,
                                      struct octavo_error *error);

#endif
