/* SPDX-License-Identifier: Apache-2.0
 *
 * Two drafters in a chain: the first proposes, and the second where the first has nothing to say.  Prompt lookup before
 * an MTP module is the usual pair: what can be copied costs nothing to draft.
 */
#include "engine/draft/drafter.h"

#include <stdlib.h>

struct pair {
	struct octavo_drafter base;
	struct octavo_drafter *part[2];
};

static void close_pair(struct octavo_drafter *drafter)
{
	struct pair *p = (struct pair *)drafter;
	octavo_drafter_close(&p->part[1]);
	octavo_drafter_close(&p->part[0]);
	free(p);
}

static void begin_pair(struct octavo_drafter *drafter)
{
	struct pair *p = (struct pair *)drafter;
	for (int i = 0; i < 2; i++)
		p->part[i]->ops->begin(p->part[i]);
}

static enum octavo_status commit_pair(struct octavo_drafter *drafter, size_t pos, const int32_t *token,
                                      const uint32_t *row, size_t count, struct octavo_error *error)
{
	struct pair *p = (struct pair *)drafter;
	enum octavo_status status = p->part[0]->ops->commit(p->part[0], pos, token, row, count, error);
	if (status == OCTAVO_OK)
		status = p->part[1]->ops->commit(p->part[1], pos, token, row, count, error);
	return status;
}

static enum octavo_status draft_pair(struct octavo_drafter *drafter, const struct octavo_shape *shape,
                                     struct octavo_tree *tree, struct octavo_error *error)
{
	struct pair *p = (struct pair *)drafter;
	enum octavo_status status = p->part[0]->ops->draft(p->part[0], &shape[0], tree, error);
	if (status != OCTAVO_OK || tree->rows > 1)
		return status;
	status = p->part[1]->ops->draft(p->part[1], &shape[1], tree, error);
	tree->source = 1;
	return status;
}

static void watch_pair(struct octavo_drafter *drafter, const struct octavo_shape *shape, struct octavo_tree *tree)
{
	struct pair *p = (struct pair *)drafter;
	for (int i = 0; i < 2; i++)
		if (p->part[i]->ops->watch)
			p->part[i]->ops->watch(p->part[i], &shape[i], tree);
}

static const struct octavo_drafter_ops ops = {
	.name = "pair", .close = close_pair, .begin = begin_pair, .commit = commit_pair, .draft = draft_pair,
	.watch = watch_pair,
};

enum octavo_status octavo_pair_open(struct octavo_drafter **out, struct octavo_drafter *first,
                                    struct octavo_drafter *second, struct octavo_error *error)
{
	struct pair *p = calloc(1, sizeof *p);
	if (!p) {
		octavo_drafter_close(&second);
		octavo_drafter_close(&first);
		return octavo_fail(error, OCTAVO_ENOMEM, "drafter: out of memory");
	}
	*p = (struct pair){ { &ops, 2, { first->most[0], second->most[0] } }, { first, second } };
	*out = &p->base;
	return OCTAVO_OK;
}
