/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafters with decoder layers, whose cache follows the committed text: it holds one row per committed position,
 * made from the main model's true state there.  States wait until a draft needs them, or until no more fit; then
 * their rows are made, all in one forward, with those of other sessions.  What a drafter writes behind them from
 * states of its own is overwritten.  Where several modules follow one another, a state is done with when all of them
 * have their row of it (recycle.h).
 */
#ifndef OCTAVO_FOLLOW_H
#define OCTAVO_FOLLOW_H

#include "engine/draft/drafter.h"

struct octavo_follower {
	struct octavo_drafter base;
	struct octavo_engine *engine;
	struct octavo_kv *kv;    /* where the rows lie: the engine's cache, or that of the drafter's files */
	size_t sequence;
	enum octavo_tap tap;     /* which of the main model's states it is fed with */
	size_t valid;   /* positions whose rows were made from true states */
	size_t waiting; /* positions after `valid` whose states wait in g */
	float *g;       /* [max_rows + held][hidden] */
	const int32_t *text;
	/* Runs rows of the crew. */
	enum octavo_status (*forward)(const struct octavo_follower *follower, struct octavo_share *shares,
	                              struct octavo_error *error);
	/* Makes the rows of all that waits and can have one: octavo_follower_catch_up, or a drafter's own. */
	enum octavo_status (*catch_up)(struct octavo_follower *follower, struct octavo_error *error);
};

/* Allocates a drafter of `size` bytes that begins with a follower, for the caller to complete: its crew, its forward.
 * `held` states at most still wait when it has caught up. */
enum octavo_status octavo_follower_open(struct octavo_follower **out, const struct octavo_drafter_ops *ops, size_t size,
                                        struct octavo_engine *engine, size_t sequence, struct octavo_kv *kv,
                                        size_t held, struct octavo_error *error);
/* The drafter's close, begin, commit and run. */
void octavo_follower_close(struct octavo_drafter *drafter);
void octavo_follower_begin(struct octavo_drafter *drafter, const int32_t *text);
enum octavo_status octavo_follower_commit(struct octavo_drafter *drafter, size_t pos, const uint32_t *row, size_t count,
                                          struct octavo_error *error);
enum octavo_status octavo_follower_run(struct octavo_drafting **d, size_t count, struct octavo_error *error);
enum octavo_status octavo_follower_catch_up(struct octavo_follower *follower, struct octavo_error *error);
/* The rows that wait; none if there is nothing to draft from, no committed position. */
struct octavo_share octavo_follower_share(const struct octavo_follower *follower);
/* They have been run. */
void octavo_follower_caught_up(struct octavo_follower *follower);

#endif
