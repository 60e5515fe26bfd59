/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafters with decoder layers of their own, whose cache follows the committed text: it holds one row per committed
 * position, made from the main model's true state there.  States wait until a draft needs them, or until no more fit;
 * then their rows are made, all in one forward.  What a drafter writes behind them from states of its own is overwritten.
 */
#ifndef OCTAVO_FOLLOW_H
#define OCTAVO_FOLLOW_H

#include "engine/draft/drafter.h"

struct octavo_follower {
	struct octavo_drafter base;
	struct octavo_engine *engine;
	struct octavo_kv *kv;    /* where the rows lie: the engine's cache, or `own` */
	struct octavo_kv own;
	size_t sequence, layer;  /* of kv: the first of the drafter's layers */
	enum octavo_tap tap;     /* which of the main model's states it is fed with */
	size_t valid;   /* positions whose rows were made from true states */
	size_t waiting; /* positions after `valid` whose states wait in g */
	float *g;       /* [max_rows][hidden] */
	int32_t *next;  /* [max_rows] token after each waiting position */
	/* Makes the rows of all waiting positions, and the laws behind the last if there is a tree to grow from them, then
	 * of this shape. */
	enum octavo_status (*catch_up)(struct octavo_follower *follower, const struct octavo_shape *shape,
	                               struct octavo_error *error);
};

/* Allocates a drafter of `size` bytes that begins with a follower, for the caller to complete; with a cache of its own
 * for `layers` layers, or with 0 in the engine's. */
enum octavo_status octavo_follower_open(struct octavo_follower **out, const struct octavo_drafter_ops *ops, size_t size,
                                        struct octavo_engine *engine, size_t sequence, size_t layers,
                                        struct octavo_error *error);
/* The drafter's close, begin and commit. */
void octavo_follower_close(struct octavo_drafter *drafter);
void octavo_follower_begin(struct octavo_drafter *drafter);
enum octavo_status octavo_follower_commit(struct octavo_drafter *drafter, size_t pos, const int32_t *token,
                                          const uint32_t *row, size_t count, struct octavo_error *error);
/* Before a draft: brings the cache up to date.  *ready is 0 if there is nothing to draft from: no committed position. */
enum octavo_status octavo_follower_catch_up(struct octavo_follower *follower, const struct octavo_shape *shape, int *ready,
                                            struct octavo_error *error);

#endif
