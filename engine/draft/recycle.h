/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafting with one module that goes on from a hidden state and a token, chained by recycling the state that it makes
 * itself: DeepSeek's MTP module and EAGLE's head.  A draft grows by levels (growth.h), each of them one forward of the
 * module.  Its cache holds one row per position i, made from (state of i, token i + 1).
 */
#ifndef OCTAVO_RECYCLE_H
#define OCTAVO_RECYCLE_H

#include "engine/draft/follow.h"
#include "engine/draft/growth.h"

struct octavo_recycler {
	struct octavo_follower base;
	const struct octavo_mtp *module;
	size_t layer;             /* of the cache: where the module's rows lie */
	enum octavo_tap recycled; /* which of the module's states goes on */
	struct octavo_growth growth;
};

/* Drafters of one module are a crew. */
enum octavo_status octavo_recycler_open(struct octavo_recycler **out, const struct octavo_drafter_ops *ops,
                                        const struct octavo_mtp *module, struct octavo_engine *engine, size_t sequence,
                                        struct octavo_kv *kv, size_t layer, struct octavo_error *error);
/* The drafter's draft and grow. */
enum octavo_status octavo_recycler_draft(struct octavo_drafting *d, struct octavo_error *error);
void octavo_recycler_grow(struct octavo_drafting *d);

#endif
