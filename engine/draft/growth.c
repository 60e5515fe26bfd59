/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/growth.h"

#include "engine/draft/outlook.h"

void octavo_growth_begin(struct octavo_growth *g, struct octavo_tree *tree)
{
	g->rows = 1;
	g->above = g->first = 0;
	g->depth = 0;
	g->token[0] = tree->token[0];
	g->parent[0] = -1;
	tree->run[0] = 0;
}

/* Where a node that was run lies in the tree; the tree's rows if it gave way. */
static size_t find(const struct octavo_tree *tree, size_t node)
{
	size_t row = 0;
	while (row < tree->rows && tree->run[row] != (int)node)
		row++;
	return row;
}

/* Whether a row is a child of the nodes [first, end). */
static int is_new(const struct octavo_tree *tree, size_t row, size_t first, size_t end)
{
	int parent = row ? tree->run[tree->parent[row]] : -1;
	return parent >= (int)first && parent < (int)end;
}

/* How many of the new rows are surer than this one. */
static unsigned surer(const struct octavo_tree *tree, size_t row, size_t first, size_t end)
{
	unsigned count = 0;
	for (size_t i = 1; i < tree->rows; i++)
		count += is_new(tree, i, first, end) &&
		         (tree->path[i] > tree->path[row] || (tree->path[i] == tree->path[row] && i < row));
	return count;
}

static size_t next_level(struct octavo_growth *g, const struct octavo_shape *shape, struct octavo_tree *tree)
{
	size_t first = g->first, end = g->rows;
	for (size_t row = 1; row < tree->rows && g->rows < OCTAVO_MAX_DRAFT; row++) {
		if (!is_new(tree, row, first, end))
			continue;
		if (shape->most && surer(tree, row, first, end) >= shape->width[g->depth])
			continue;
		g->token[g->rows] = tree->token[row];
		g->parent[g->rows] = tree->run[tree->parent[row]];
		tree->run[row] = (int16_t)g->rows++;
	}
	g->above = first;
	g->first = end;
	return g->rows - end;
}

size_t octavo_growth_next(struct octavo_growth *g, const struct octavo_shape *shape, struct octavo_tree *tree,
                          const float *logits, size_t ld, size_t vocab)
{
	unsigned width = shape->width[g->depth++];
	struct octavo_outlook c = { .logits = NULL };
	for (size_t node = g->first; node < g->rows; node++) {
		size_t row = find(tree, node);
		if (row == tree->rows)
			continue;
		if (ld || !c.logits)
			c = (struct octavo_outlook){ .logits = logits + (node - g->first) * ld, .vocab = vocab };
		if (shape->most)
			octavo_tree_offer(tree, row, &c, width);
		else
			octavo_tree_grow(tree, row, &c, width);
	}
	return g->depth < shape->depth && octavo_tree_goes_on(tree) ? next_level(g, shape, tree) : 0;
}
