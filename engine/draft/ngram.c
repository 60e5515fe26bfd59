/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompt lookup: what followed the latest earlier occurrence of the last few tokens is proposed again
 * (A. Saxena, Prompt Lookup Decoding, 2023).  Longer matches are tried first; a tree also takes what followed
 * earlier and shorter ones.  Where n-grams end is indexed as the text grows, so that a draft costs the same
 * however long that is.
 */
#include "engine/draft/drafter.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST = 5, SHORTEST = 2, LENGTHS = LONGEST - SHORTEST + 1, MOST_TRIES = 512 };

/* Of n-grams of one length, those of one hash as a chain. */
struct ends {
	uint32_t *latest; /* [slots] by hash; 0: none */
	uint32_t *before; /* [positions] by end; 0: none */
};

struct ngram {
	struct octavo_drafter base;
	const int32_t *text; /* [length] the next, not yet committed token included */
	size_t length;
	size_t positions; /* that a text of the context's length can end at, 0 included */
	unsigned bits;    /* of slots, which are no fewer */
	struct ends ends[LENGTHS];
	void *arena;
};

/* ---- Open and close ---------------------------------------------------------------------------------------- */

static void carve(struct octavo_arena *a, struct ngram *d)
{
	for (size_t i = 0; i < LENGTHS; i++) {
		d->ends[i].latest = octavo_carve(a, (size_t)1 << d->bits, sizeof *d->ends[i].latest);
		d->ends[i].before = octavo_carve(a, d->positions, sizeof *d->ends[i].before);
	}
}

static void close_ngram(struct octavo_drafter *drafter)
{
	free(((struct ngram *)drafter)->arena);
	free(drafter);
}

static enum octavo_status open_ngram(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                     const char *dir, struct octavo_error *error)
{
	(void)sequence, (void)dir;
	struct octavo_arena arena = { 0 };
	struct ngram *d = calloc(1, sizeof *d);
	if (!d)
		return octavo_fail(error, OCTAVO_ENOMEM, "drafter ngram: out of memory");
	d->base = (struct octavo_drafter){ .ops = &octavo_drafter_ngram, .sources = 1 };
	d->positions = e->settings.max_context + 2;
	while ((size_t)1 << d->bits < d->positions)
		d->bits++;
	carve(&arena, d);
	d->arena = arena.overflow ? NULL : calloc(1, arena.used + OCTAVO_ALIGNMENT);
	if (!d->arena) {
		close_ngram(&d->base);
		return octavo_fail(error, OCTAVO_ENOMEM, "drafter ngram: out of memory");
	}
	arena = (struct octavo_arena){ .base = octavo_aligned(d->arena) };
	carve(&arena, d);
	*out = &d->base;
	return OCTAVO_OK;
}

/* ---- The index --------------------------------------------------------------------------------------------- */

static void begin_ngram(struct octavo_drafter *drafter, const int32_t *text)
{
	struct ngram *d = (struct ngram *)drafter;
	d->text = text;
	d->length = 0;
	for (size_t i = 0; i < LENGTHS; i++)
		memset(d->ends[i].latest, 0, sizeof *d->ends[i].latest << d->bits);
}

/* Takes in the n-grams that end at `end`, the shortest first: the hash of each goes on from the one before. */
static void put(struct ngram *d, size_t end)
{
	uint64_t hash = 0;
	for (size_t n = 1; n <= LONGEST && n <= end; n++) {
		hash = (hash + (uint32_t)d->text[end - n] + 1) * 0x9E3779B97F4A7C15u; /* Fibonacci hashing: the top bits */
		if (n < SHORTEST)
			continue;
		struct ends *ends = &d->ends[n - SHORTEST];
		uint32_t *latest = &ends->latest[hash >> (64 - d->bits)];
		ends->before[end] = *latest;
		*latest = (uint32_t)end;
	}
}

static enum octavo_status commit_ngram(struct octavo_drafter *drafter, size_t pos, const uint32_t *row, size_t count,
                                       struct octavo_error *error)
{
	struct ngram *d = (struct ngram *)drafter;
	(void)row, (void)error;
	while (d->length < pos + count + 1)
		put(d, ++d->length);
	return OCTAVO_OK;
}

/* The end of the latest occurrence of the last n tokens that ends before `end`, at which one ends; or 0. */
static size_t find(const struct ngram *d, size_t n, size_t end)
{
	const int32_t *suffix = d->text + d->length - n;
	do
		end = d->ends[n - SHORTEST].before[end];
	while (end && memcmp(d->text + end - n, suffix, n * sizeof *suffix));
	return end;
}

/* ---- Drafting ---------------------------------------------------------------------------------------------- */

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
	size_t most = octavo_shape_rows(shape), tries = 0; /* the latest occurrences will do, where there are very many */
	(void)error;
	most = most < tree->room ? most : tree->room;
	for (size_t n = LONGEST; n >= SHORTEST && tree->rows < most; n--) {
		if (n >= d->length)
			continue;
		for (size_t end = find(d, n, d->length); end && tree->rows < most && tries < MOST_TRIES;
		     end = find(d, n, end), tries++)
			lay(d, end, shape, tree);
	}
	return OCTAVO_OK;
}

const struct octavo_drafter_ops octavo_drafter_ngram = {
	.name = "ngram", .open = open_ngram, .close = close_ngram, .begin = begin_ngram, .commit = commit_ngram,
	.draft = draft_ngram,
};
