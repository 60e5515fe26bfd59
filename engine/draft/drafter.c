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

static const struct octavo_drafter_ops *find(const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof drafters / sizeof *drafters; i++)
		if (strlen(drafters[i]->name) == length && !strncmp(drafters[i]->name, name, length))
			return drafters[i];
	return NULL;
}

/* A name's drafters, one or two; 0 for a name that stands for none.  A pair holds two different ones that draft. */
static size_t parse(const char *name, const struct octavo_drafter_ops *ops[OCTAVO_MAX_SOURCES])
{
	const char *plus = strchr(name, '+');
	ops[0] = find(name, plus ? (size_t)(plus - name) : strlen(name));
	ops[1] = plus ? find(plus + 1, strlen(plus + 1)) : NULL;
	if (!ops[0] || (plus && !ops[1]))
		return 0;
	if (plus && (ops[0] == ops[1] || ops[0] == &octavo_drafter_none || ops[1] == &octavo_drafter_none))
		return 0;
	return plus ? 2 : 1;
}

int octavo_drafter_known(const char *name)
{
	const struct octavo_drafter_ops *ops[OCTAVO_MAX_SOURCES];
	return name && parse(name, ops);
}

enum octavo_status octavo_drafter_open(struct octavo_drafter **out, const char *name, struct octavo_engine *engine,
                                       size_t sequence, struct octavo_error *error)
{
	const struct octavo_drafter_ops *ops[OCTAVO_MAX_SOURCES];
	struct octavo_drafter *part[OCTAVO_MAX_SOURCES] = { NULL };
	*out = NULL;
	size_t count = parse(name ? name : "none", ops);
	if (!count)
		return octavo_fail(error, OCTAVO_EINVAL, "drafter: there is none called \"%s\"", name);
	for (size_t i = 0; i < count; i++) {
		enum octavo_status status = ops[i]->open(&part[i], engine, sequence, error);
		if (status != OCTAVO_OK) {
			octavo_drafter_close(&part[0]);
			return status;
		}
	}
	if (count == 2)
		return octavo_pair_open(out, part[0], part[1], error);
	*out = part[0];
	return OCTAVO_OK;
}

void octavo_drafter_close(struct octavo_drafter **drafter)
{
	if (*drafter)
		(*drafter)->ops->close(*drafter);
	*drafter = NULL;
}

static enum octavo_status open_none(struct octavo_drafter **out, struct octavo_engine *engine, size_t sequence,
                                    struct octavo_error *error)
{
	static struct octavo_drafter none = { &octavo_drafter_none, 0 }; /* it has no state */
	(void)engine, (void)sequence, (void)error;
	*out = &none;
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

static enum octavo_status draft_none(struct octavo_drafter *drafter, const struct octavo_shape *shape,
                                     struct octavo_tree *tree, struct octavo_error *error)
{
	(void)drafter, (void)shape, (void)tree, (void)error;
	return OCTAVO_OK;
}

const struct octavo_drafter_ops octavo_drafter_none = {
	"none", open_none, nothing, nothing, commit_none, draft_none,
};
