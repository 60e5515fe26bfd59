/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of drafters, and the one that never drafts: plain decoding.
 */
#include "engine/draft/drafter.h"

#include <string.h>

#define DRAFTERS(X) X(none) X(mtp) X(ngram)

static const struct octavo_drafter_ops *const drafters[] = {
#define DRAFTER_OPS(name) &octavo_drafter_##name,
	DRAFTERS(DRAFTER_OPS)
#undef DRAFTER_OPS
};

const struct octavo_drafter_ops *octavo_drafter_find(const char *name)
{
	for (size_t i = 0; i < sizeof drafters / sizeof *drafters; i++)
		if (!strcmp(drafters[i]->name, name))
			return drafters[i];
	return NULL;
}

const char *const *octavo_drafter_names(void)
{
	static const char *const names[] = {
#define DRAFTER_NAME(name) #name,
		DRAFTERS(DRAFTER_NAME)
#undef DRAFTER_NAME
		NULL
	};
	return names;
}

static enum octavo_status open_none(struct octavo_drafter **out, struct octavo_engine *engine, size_t sequence,
                                    struct octavo_error *error)
{
	(void)engine, (void)sequence, (void)error;
	*out = NULL;
	return OCTAVO_OK;
}

static void nothing(struct octavo_drafter *drafter)
{
	(void)drafter;
}

static enum octavo_status commit_none(struct octavo_drafter *drafter, size_t pos, const int32_t *token,
                                      const uint32_t *row, size_t count, struct octavo_error *error)
{
	(void)drafter, (void)pos, (void)token, (void)row, (void)count, (void)error;
	return OCTAVO_OK;
}

static enum octavo_status draft_none(struct octavo_drafter *drafter, size_t k, int32_t *token, size_t *count,
                                     struct octavo_error *error)
{
	(void)drafter, (void)k, (void)token, (void)error;
	*count = 0;
	return OCTAVO_OK;
}

const struct octavo_drafter_ops octavo_drafter_none = {
	"none", 0, open_none, nothing, nothing, commit_none, draft_none,
};
