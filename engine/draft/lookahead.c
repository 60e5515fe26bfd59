/* SPDX-License-Identifier: Apache-2.0
 *
 * Lookahead decoding (Fu et al., arXiv 2402.02057): beside every verification the model also runs over a window of
 * guesses about the tokens to come, and what it makes of them are the guesses of the next step (Jacobi iteration).
 * The n-grams that arise are kept in a pool; drafts are those that begin with the last token.  No other model, nothing
 * trained: it is paid with rows, (WINDOW * LEVELS - 1) more in every forward, which is cheap only where compute is.
 *
 * The window is a tree, since a guess is to see what the paper's attention mask shows it:
 *
 *     root ---- t[0][1] -- t[0][2] -- …     level 0: guessed LEVELS - 1 steps ago
 *       |          |          |
 *     t[1][0]   t[1][1]    t[1][2]
 *       |          |          |
 *     t[2][0]   t[2][1]    t[2][2]          the last level: guessed in the last step
 *       |          |          |
 *     next[0]   next[1]    next[2]          the model's best tokens behind the last level, known after the forward
 *
 * t[l][c] stands c + l tokens behind the root, whose column is 0.  Each column with what came out below it is an n-gram
 * of N = LEVELS + 1 tokens.  When m tokens were emitted the root moves by m, and the new t[l][c] is the t[l + 1]
 * or next of the same position, in column c + m - 1; behind the last column guesses start anew.
 *
 * In terms of the paper: N = LEVELS + 1, W = WINDOW; the G candidates are the children of the root that the shape
 * of the draft allows (one for a chain of k, which goes on from n-gram to n-gram where k exceeds N - 1).
 * Candidates come first; the window takes what room they leave of the batch, whole columns at a time, and shares
 * the rows where it agrees with them.  The pool also takes in the n-grams of the text.
 */
#include "engine/draft/drafter.h"
#include "engine/draft/grams.h"

#include <stdlib.h>
#include <string.h>

enum { WINDOW = 5, LEVELS = 3, GRAM = LEVELS + 1 };

struct lookahead {
	struct octavo_drafter base;
	struct octavo_engine *engine;
	const int32_t *text; /* [length] the next, not yet committed token included */
	size_t length;
	struct octavo_grams pool;
	int32_t guess[LEVELS + 1][WINDOW]; /* t, and next as the last; NONE: there is none yet */
	uint32_t node[WINDOW]; /* the tree's row of each column's last level, of the round's */
	size_t columns;        /* of the window that are in the round's tree */
};

static const int32_t NONE = -1;

/* ---- Open and close ---------------------------------------------------------------------------------------- */

static enum octavo_status open_lookahead(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                         const char *dir, struct octavo_error *error)
{
	(void)sequence, (void)dir;
	struct lookahead *d = calloc(1, sizeof *d);
	if (!d || octavo_grams_open(&d->pool, GRAM, e->config.vocab)) {
		free(d);
		return octavo_fail(error, OCTAVO_ENOMEM, "drafter lookahead: out of memory");
	}
	d->base = (struct octavo_drafter){ .ops = &octavo_drafter_lookahead, .sources = 1 };
	d->engine = e;
	*out = &d->base;
	return OCTAVO_OK;
}

static void close_lookahead(struct octavo_drafter *drafter)
{
	struct lookahead *d = (struct lookahead *)drafter;
	octavo_grams_close(&d->pool);
	free(d);
}

static void forget_guesses(struct lookahead *d, size_t level, size_t first)
{
	for (size_t c = first; c < WINDOW; c++)
		d->guess[level][c] = NONE;
}

static void begin_lookahead(struct octavo_drafter *drafter, const int32_t *text)
{
	struct lookahead *d = (struct lookahead *)drafter;
	d->text = text;
	d->length = d->columns = 0;
	octavo_grams_clear(&d->pool);
	for (size_t level = 0; level <= LEVELS; level++)
		forget_guesses(d, level, 0);
}

/* ---- What became of the last round -------------------------------------------------------------------------- */

/* The model's best token behind each column, and the n-gram that ends with it.  `root` is the root's row in the
 * engine's last main forward, whose logits no drafter overwrites. */
static void read_window(struct lookahead *d, uint32_t root)
{
	const struct octavo_engine *e = d->engine;
	for (size_t c = 0; c < d->columns; c++) {
		int32_t gram[GRAM], from = e->logit_row[root + d->node[c]];
		int32_t best = from < 0 ? NONE : octavo_argmax(e->logits + (size_t)from * e->config.vocab, e->choosable);
		d->guess[LEVELS][c] = best; /* a NaN has none: what the target makes of it is the target's business */
		for (size_t level = 0; level <= LEVELS; level++)
			gram[level] = d->guess[level][c];
		if (best >= 0)
			octavo_grams_put(&d->pool, gram);
	}
	d->columns = 0;
}

/* The root has moved by `count` tokens. */
static void move_window(struct lookahead *d, size_t count)
{
	for (size_t level = 0; level < LEVELS; level++) {
		size_t kept = count - 1 < WINDOW ? WINDOW - (count - 1) : 0;
		memmove(d->guess[level], d->guess[level + 1] + WINDOW - kept, kept * sizeof **d->guess);
		forget_guesses(d, level, kept);
	}
	forget_guesses(d, LEVELS, 0);
}

static enum octavo_status commit_lookahead(struct octavo_drafter *drafter, size_t pos, const uint32_t *row, size_t count,
                                           struct octavo_error *error)
{
	struct lookahead *d = (struct lookahead *)drafter;
	size_t end = pos + count + 1;
	(void)error;
	read_window(d, row[0]);
	move_window(d, count);
	for (size_t at = d->length < GRAM ? GRAM : d->length + 1; at <= end; at++)
		octavo_grams_put(&d->pool, d->text + at - GRAM);
	d->length = end;
	return OCTAVO_OK;
}

/* ---- Drafting ----------------------------------------------------------------------------------------------- */

/* Lays n-gram i into the tree, and where it is too short what follows its end in the pool. */
static void lay(const struct lookahead *d, size_t i, const struct octavo_shape *shape, struct octavo_tree *tree)
{
	const int32_t *gram = octavo_grams_token(&d->pool, i);
	size_t row = 0, next = 1;
	for (unsigned depth = 0; depth < shape->depth; depth++, next++) {
		if (next == GRAM) {
			i = octavo_grams_latest(&d->pool, gram[GRAM - 1]);
			if (!i)
				return;
			gram = octavo_grams_token(&d->pool, i);
			next = 1;
		}
		row = octavo_tree_child(tree, row, gram[next], shape->width[depth]);
		if (!row)
			return;
	}
}

static enum octavo_status draft_lookahead(struct octavo_drafting *drafting, struct octavo_error *error)
{
	const struct lookahead *d = (const struct lookahead *)drafting->drafter;
	const struct octavo_shape *shape = drafting->shape;
	struct octavo_tree *tree = drafting->tree;
	size_t most = octavo_shape_rows(shape), i = octavo_grams_latest(&d->pool, tree->token[0]);
	(void)error;
	most = most < tree->room ? most : tree->room;
	for (; i && tree->rows < most; i = octavo_grams_before(&d->pool, i))
		lay(d, i, shape, tree);
	return OCTAVO_OK;
}

/* ---- The window --------------------------------------------------------------------------------------------- */

/* A guess at what follows `token`: by the pool, else some token of the text, another for every place. */
static int32_t any_guess(const struct lookahead *d, int32_t token, size_t level, size_t column)
{
	size_t i = octavo_grams_latest(&d->pool, token);
	return i ? octavo_grams_token(&d->pool, i)[1] : d->text[(d->length * 31 + column * 7 + level) % d->length];
}

/* Every place of the window gets a guess; the root's is known. */
static void fill_window(struct lookahead *d, int32_t root)
{
	d->guess[0][0] = root;
	for (size_t level = 0; level < LEVELS; level++)
		for (size_t c = level ? 0 : 1; c < WINDOW; c++)
			if (d->guess[level][c] == NONE)
				d->guess[level][c] = any_guess(d, level ? d->guess[level - 1][c] : d->guess[0][c - 1], level, c);
}

static void watch_lookahead(struct octavo_drafter *drafter, const struct octavo_shape *shape, struct octavo_tree *tree)
{
	struct lookahead *d = (struct lookahead *)drafter;
	size_t left = d->engine->settings.max_context - d->length; /* tokens that the context holds behind the root */
	if (!shape->depth || !d->length)
		return;
	fill_window(d, tree->token[0]);
	for (size_t c = 0, top = 0; c < WINDOW && c + LEVELS - 1 <= left && tree->rows + LEVELS <= tree->room; c++) {
		if (c)
			top = octavo_tree_child(tree, top, d->guess[0][c], OCTAVO_MAX_DRAFT);
		size_t row = top;
		for (size_t level = 1; level < LEVELS; level++)
			row = octavo_tree_child(tree, row, d->guess[level][c], OCTAVO_MAX_DRAFT);
		d->node[d->columns++] = (uint32_t)row;
	}
}

const struct octavo_drafter_ops octavo_drafter_lookahead = {
	.name = "lookahead", .open = open_lookahead, .close = close_lookahead, .begin = begin_lookahead,
	.commit = commit_lookahead, .draft = draft_lookahead, .watch = watch_lookahead,
};
