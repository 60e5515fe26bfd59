/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/outlook.h"
#include "engine/verify/law.h"

#include <string.h>

struct octavo_shape octavo_shape_chain(unsigned k)
{
	struct octavo_shape shape = { .depth = k };
	for (unsigned i = 0; i < k; i++)
		shape.width[i] = 1;
	return shape;
}

struct octavo_shape octavo_shape_dynamic(const struct octavo_dynamic *dynamic)
{
	struct octavo_shape shape = { .depth = dynamic->depth, .most = dynamic->rows };
	for (unsigned i = 0; i < dynamic->depth; i++)
		shape.width[i] = dynamic->top_k;
	return shape;
}

size_t octavo_shape_rows(const struct octavo_shape *shape)
{
	size_t rows = 1, level = 1;
	if (shape->most)
		return shape->most;
	for (unsigned i = 0; i < shape->depth; i++) {
		if (shape->width[i] > OCTAVO_MAX_DRAFT)
			return OCTAVO_MAX_DRAFT + 1;
		level *= shape->width[i];
		rows += level;
		if (rows > OCTAVO_MAX_DRAFT)
			return OCTAVO_MAX_DRAFT + 1;
	}
	return rows;
}

void octavo_tree_begin(struct octavo_tree *tree, int32_t root, size_t room, const struct octavo_chance *chance)
{
	tree->rows = 1;
	tree->room = room;
	tree->watched = 0;
	tree->source = 0;
	tree->chance = chance;
	tree->token[0] = root;
	tree->parent[0] = -1;
	tree->path[0] = 1.0;
	tree->run[0] = -1;
}

size_t octavo_tree_child(struct octavo_tree *tree, size_t parent, int32_t token, unsigned width)
{
	unsigned children = 0;
	for (size_t row = parent + 1; row < tree->rows; row++) {
		if (tree->parent[row] != (int32_t)parent)
			continue;
		if (tree->token[row] == token)
			return row;
		children++;
	}
	if (children >= width || tree->rows >= tree->room)
		return 0;
	tree->token[tree->rows] = token;
	tree->parent[tree->rows] = (int32_t)parent;
	tree->drawn[tree->rows] = 0;
	tree->path[tree->rows] = tree->path[parent];
	tree->run[tree->rows] = -1;
	return tree->rows++;
}

enum octavo_status octavo_tree_make_law(const struct octavo_tree *tree, size_t parent, const float *logits,
                                        size_t vocab, double *law)
{
	const struct octavo_chance *c = tree->chance;
	const struct octavo_draft draft = { tree->rows, tree->token, tree->parent };
	struct octavo_prefix prefix = c->prefix;
	prefix.draft = &draft;
	prefix.row = parent;
	return octavo_law(c->sampling, &prefix, logits, vocab, law, c->order);
}

static void draw(struct octavo_tree *tree, size_t parent, const float *logits, size_t vocab, unsigned width)
{
	const struct octavo_chance *c = tree->chance;
	struct octavo_stream stream = c->stream;
	double *law = c->law + parent * c->vocab, mass[OCTAVO_MAX_DRAFT], path = tree->path[parent];
	size_t first = tree->rows;
	if (octavo_tree_make_law(tree, parent, logits, vocab, law) != OCTAVO_OK)
		return;
	if (octavo_tree_asks_confidence(tree))
		width = (unsigned)octavo_confident_width(&c->confidence, law, vocab, width, &path);
	while (tree->rows - first < width && tree->rows < tree->room) {
		int32_t token = octavo_pick(&stream, (uint32_t)c->prefix.count, OCTAVO_DRAW_DRAFT, (uint32_t)tree->rows, law, vocab);
		if (token < 0) /* the law has no more tokens */
			break;
		mass[tree->rows - first] = law[token];
		law[token] = 0.0;
		size_t row = octavo_tree_child(tree, parent, token, width);
		tree->drawn[row] = 1;
		tree->path[row] = path;
	}
	for (size_t row = first; row < tree->rows; row++)
		law[tree->token[row]] = mass[row - first];
}

static struct octavo_extent *extent_of(const struct octavo_tree *tree)
{
	return tree->chance && tree->chance->extent ? &tree->chance->extent[tree->source] : NULL;
}

int octavo_tree_goes_on(const struct octavo_tree *tree)
{
	const struct octavo_extent *extent = extent_of(tree);
	return !extent || octavo_extent_goes_on(extent);
}

static void choose(struct octavo_tree *tree, size_t parent, struct octavo_outlook *c, unsigned width)
{
	double path = tree->path[parent];
	struct octavo_extent *extent = extent_of(tree);
	enum octavo_shares shares = extent ? OCTAVO_SHARES_OF_TWO : OCTAVO_SHARES_UNASKED;
	size_t count = octavo_outlook_children(c, tree, parent, width, shares, &path);
	for (size_t i = 0; i < count; i++) {
		size_t row = octavo_tree_child(tree, parent, c->best[i], width);
		tree->path[row] = row ? path : 1.0;
		if (extent && row)
			octavo_extent_take(extent, c->share[i]);
	}
}

void octavo_tree_grow(struct octavo_tree *tree, size_t parent, struct octavo_outlook *c, unsigned width)
{
	if (tree->chance && tree->chance->law)
		draw(tree, parent, c->logits, c->vocab, width);
	else
		choose(tree, parent, c, width);
}

/* ---- Dynamic trees ------------------------------------------------------------------------------------------ */

/* The row that gives way first, a leaf: it is no surer than its parent, and behind it; 0 if there is the root alone. */
static size_t least_sure(const struct octavo_tree *tree)
{
	size_t least = 0;
	for (size_t row = 1; row < tree->rows; row++)
		if (!least || tree->path[row] <= tree->path[least])
			least = row;
	return least;
}

static void drop_leaf(struct octavo_tree *tree, size_t leaf)
{
	size_t behind = --tree->rows - leaf;
	memmove(tree->token + leaf, tree->token + leaf + 1, behind * sizeof *tree->token);
	memmove(tree->parent + leaf, tree->parent + leaf + 1, behind * sizeof *tree->parent);
	memmove(tree->path + leaf, tree->path + leaf + 1, behind * sizeof *tree->path);
	memmove(tree->run + leaf, tree->run + leaf + 1, behind * sizeof *tree->run);
	memmove(tree->drawn + leaf, tree->drawn + leaf + 1, behind * sizeof *tree->drawn);
	for (size_t row = leaf; row < tree->rows; row++)
		tree->parent[row] -= tree->parent[row] > (int32_t)leaf;
}

void octavo_tree_offer(struct octavo_tree *tree, size_t parent, struct octavo_outlook *c, unsigned width)
{
	double sure = tree->path[parent], path = sure;
	size_t count = octavo_outlook_children(c, tree, parent, width, OCTAVO_SHARES_OF_ALL, &path);
	for (size_t i = 0; i < count; i++) {
		double mine = sure * c->share[i];
		if (tree->rows == tree->room) {
			size_t least = least_sure(tree);
			if (!least || !(mine > tree->path[least])) /* nor are the others, which are no surer */
				return;
			drop_leaf(tree, least);
			parent -= parent > least;
		}
		tree->path[octavo_tree_child(tree, parent, c->best[i], width)] = mine;
	}
}

/* ---- What is in a tree ---------------------------------------------------------------------------------------- */

const double *octavo_tree_law(void *tree, size_t row)
{
	const struct octavo_tree *t = tree;
	return t->drawn[row] ? t->chance->law + (size_t)t->parent[row] * t->chance->vocab : NULL;
}

unsigned octavo_tree_depth(const struct octavo_tree *tree, size_t row)
{
	const struct octavo_draft draft = { tree->rows, tree->token, tree->parent };
	return octavo_depth(&draft, row);
}

struct octavo_draft octavo_tree_offered(const struct octavo_tree *tree)
{
	return (struct octavo_draft){ tree->rows - tree->watched, tree->token, tree->parent };
}

unsigned octavo_tree_deepest(const struct octavo_tree *tree)
{
	unsigned deepest = 0;
	for (size_t row = 1; row < tree->rows - tree->watched; row++) {
		unsigned depth = octavo_tree_depth(tree, row);
		deepest = depth > deepest ? depth : deepest;
	}
	return deepest;
}
