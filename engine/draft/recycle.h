/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafting with modules that go on from a hidden state and a token: DeepSeek's MTP modules and EAGLE's head.  A draft
 * grows by levels (growth.h), each of them one forward of a module.
 *
 * Module m, from 0, makes one row per position i, from token i + 1 + m and the state that module m - 1 left at i, or,
 * for m = 0, the main model.  So it is m rows behind the first one, and its row of a token is made from what the module
 * before it left behind the token before.  The laws below the nodes of depth m are module m's, behind their rows, which
 * see the rows of all nodes above them.  Levels deeper than there are modules go on in the last one, from states that
 * it makes itself: recycling.
 *
 * What waits for the modules is one state per position, that of the last module which has been there: each replaces it
 * by its own.
 */
#ifndef OCTAVO_RECYCLE_H
#define OCTAVO_RECYCLE_H

#include "engine/draft/follow.h"
#include "engine/draft/growth.h"

struct octavo_modules {
	const struct octavo_mtp *module; /* [count] */
	size_t count;                    /* at most OCTAVO_MAX_K */
	struct octavo_kv *kv;            /* whose layer `layer` + m holds module m's rows */
	size_t layer;
};

struct octavo_recycler {
	struct octavo_follower base; /* the last module's rows are the valid ones */
	struct octavo_modules modules;
	size_t made[OCTAVO_MAX_K];   /* positions whose rows a module has made from true states */
	size_t at;                   /* the module that runs next */
	enum octavo_tap recycled;    /* which of a module's states goes on */
	struct octavo_growth growth;
	float *state; /* [OCTAVO_MAX_DRAFT][hidden] of the growth's nodes: what they left last, or are to be run with */
};

/* Drafters of the same modules are a crew at the same one. */
enum octavo_status octavo_recycler_open(struct octavo_recycler **out, const struct octavo_drafter_ops *ops,
                                        const struct octavo_modules *modules, struct octavo_engine *engine,
                                        size_t sequence, struct octavo_error *error);
/* The drafter's close, begin, draft and grow; the rest is the follower's. */
void octavo_recycler_close(struct octavo_drafter *drafter);
void octavo_recycler_begin(struct octavo_drafter *drafter, const int32_t *text);
enum octavo_status octavo_recycler_draft(struct octavo_drafting *d, struct octavo_error *error);
void octavo_recycler_grow(struct octavo_drafting *d);

#endif
