/* SPDX-License-Identifier: Apache-2.0
 *
 * Two drafters in a chain: the first proposes, and the second where the first has nothing to say (together.c gives them
 * their turns).  Prompt lookup before an MTP module is the usual pair: what can be copied costs nothing to draft.
 */
#include "engine/draft/drafter.h"

#include <stdlib.h>

static void close_pair(struct octavo_drafter *drafter)
{
	octavo_drafter_close(&drafter->pair[1]);
	octavo_drafter_close(&drafter->pair[0]);
	free(drafter);
}

static void begin_pair(struct octavo_drafter *drafter, const int32_t *text)
{
	for (int i = 0; i < OCTAVO_MAX_SOURCES; i++)
		drafter->pair[i]->ops->begin(drafter->pair[i], text);
}

static enum octavo_status commit_pair(struct octavo_drafter *drafter, size_t pos, const uint32_t *row, size_t count,
                                      struct octavo_error *error)
{
	enum octavo_status status = OCTAVO_OK;
	for (int i = 0; i < OCTAVO_MAX_SOURCES && status == OCTAVO_OK; i++)
		status = drafter->pair[i]->ops->commit(drafter->pair[i], pos, row, count, error);
	return status;
}

static void watch_pair(struct octavo_drafter *drafter, const struct octavo_shape *shape, struct octavo_tree *tree)
{
	for (int i = 0; i < OCTAVO_MAX_SOURCES; i++)
		if (drafter->pair[i]->ops->watch)
			drafter->pair[i]->ops->watch(drafter->pair[i], &shape[i], tree);
}

static const struct octavo_drafter_ops ops = {
	.name = "pair", .close = close_pair, .begin = begin_pair, .commit = commit_pair, .watch = watch_pair,
};

enum octavo_status octavo_pair_open(struct octavo_drafter **out, struct octavo_drafter *first,
                                    struct octavo_drafter *second, struct octavo_error *error)
{
	struct octavo_drafter *p = calloc(1, sizeof *p);
	if (!p) {
		octavo_drafter_close(&second);
		octavo_drafter_close(&first);
		return octavo_fail(error, OCTAVO_ENOMEM, "drafter: out of memory");
	}
	*p = (struct octavo_drafter){ .ops = &ops, .sources = 2, .most = { first->most[0], second->most[0] },
		                      .pair = { first, second } };
	*out = p;
	return OCTAVO_OK;
}
