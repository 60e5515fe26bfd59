/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompt lookup: what followed the latest earlier occurrence of the last few tokens is proposed again
 * (A. Saxena, Prompt Lookup Decoding, 2023).  Longer matches are tried first; a tree also takes what followed
 * earlier and shorter ones.
 */
#include "engine/draft/drafter.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST = 5, SHORTEST = 2 };

struct ngram {
	struct octavo_drafter base;
	const int32_t *text; /* [length] the next, not yet committed token included */
	size_t length;
};

static enum octavo_status open_ngram(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                     const char *dir, struct octavo_error *error)
{
	(void)e, (void)sequence, (void)dir;
	struct ngram *d = calloc(1, sizeof *d);
	if (!d)
		return octavo_fail(error, OCTAVO_ENOMEM, "drafter ngram: out of memory");
	d->base = (struct octavo_drafter){ .ops = &octavo_drafter_ngram, .sources = 1 };
	*out = &d->base;
	return OCTAVO_OK;
}

static void close_ngram(struct octavo_drafter *drafter)
{
	free(drafter);
}

static void begin_ngram(struct octavo_drafter *drafter, const int32_t *text)
{
	struct ngram *d = (struct ngram *)drafter;
	d->text = text;
	d->length = 0;
}

static enum octavo_status commit_ngram(struct octavo_drafter *drafter, size_t pos, const uint32_t *row, size_t count,
                                       struct octavo_error *error)
{
	(void)row, (void)error;
	((struct ngram *)drafter)->length = pos + count + 1;
	return OCTAVO_OK;
}

/* The end of the latest occurrence of the last n tokens that ends before `end`, or 0. */
static size_t find(const struct ngram *d, size_t n, size_t end)
{
	const int32_t *suffix = d->text + d->length - n;
	for (end--; end >= n; end--)
		if (!memcmp(d->text + end - n, suffix, n * sizeof *suffix))
			return end;
	return 0;
}

/* Lays what followed position `end` into the tree.  A match that overlaps the end goes on with itself. */
static void lay(const struct ngram *d, size_t end, const struct octavo_shape *shape, struct octavo_tree *tree)
{
	size_t row = 0, period = d->length - end;
	for (unsigned i = 0; i < shape->depth; i++) {
		row = octavo_tree_child(tree, row, d->text[end + i % period], shape->width[i]);
		if (!row)
			return;
	}
}

static enum octavo_status draft_ngram(struct octavo_drafting *drafting, struct octavo_error *error)
{
	const struct ngram *d = (const struct ngram *)drafting->drafter;
	const struct octavo_shape *shape = drafting->shape;
	struct octavo_tree *tree = drafting->tree;
	size_t most = octavo_shape_rows(shape);
	(void)error;
	most = most < tree->room ? most : tree->room;
	for (size_t n = LONGEST; n >= SHORTEST && tree->rows < most; n--) {
		if (n >= d->length)
			continue;
		for (size_t end = find(d, n, d->length); end && tree->rows < most; end = find(d, n, end))
			lay(d, end, shape, tree);
	}
	return OCTAVO_OK;
}

const struct octavo_drafter_ops octavo_drafter_ngram = {
	.name = "ngram", .open = open_ngram, .close = close_ngram, .begin = begin_ngram, .commit = commit_ngram,
	.draft = draft_ngram,
};
