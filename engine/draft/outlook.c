/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/outlook.h"

#include "engine/verify/law.h"

#include <math.h>

/* Of a race: those who come first have a chance in proportion to 1 / time, were the target's law the drafter's but for
 * some noise.  On the bundled model this is what happens, for temperatures of 0.6 to 1.2 and within a few percent. */
enum { RUNNERS = 8 };

int octavo_tree_asks_confidence(const struct octavo_tree *tree)
{
	const struct octavo_confidence *c = tree->chance ? &tree->chance->confidence : NULL;
	return c && (c->best > 0.0 || c->path > 0.0 || c->mass > 0.0);
}

/* At temperature 1; NULL if there is none. */
static const double *softmax(const struct octavo_tree *tree, struct octavo_outlook *c)
{
	static const struct octavo_sampling plain = { .temperature = 1.0f };
	double *law = tree->chance->scratch;
	if (!c->softmax && octavo_law(&plain, NULL, c->logits, c->vocab, law, NULL) == OCTAVO_OK)
		c->softmax = law;
	return c->softmax;
}

/* What the softmax holds likely goes on the list of whoever asks. */
static void list_candidates(const struct octavo_tree *tree, size_t parent, struct octavo_outlook *c)
{
	struct octavo_candidate_list *list = tree->chance->candidates;
	if (!list || tree->run[parent] < 0)
		return;
	if (!(c->listed > 0.0)) {
		const double *law = softmax(tree, c);
		c->listed = law ? octavo_candidate_list_add(list, law) : 0.0;
	}
	list->mass[tree->run[parent]] = c->listed;
}

/* ---- The target's race --------------------------------------------------------------------------------------- */

static size_t run_race(const struct octavo_tree *tree, size_t parent, struct octavo_outlook *c, size_t count)
{
	const struct octavo_chance *chance = tree->chance;
	uint32_t position = (uint32_t)chance->prefix.count + octavo_tree_depth(tree, parent);
	c->softmax = NULL; /* its place is needed */
	if (octavo_tree_make_law(tree, parent, c->logits, c->vocab, chance->scratch) != OCTAVO_OK)
		return 0;
	return octavo_race(&chance->stream, position, chance->scratch, c->vocab, count, c->best, c->share);
}

/* From times of arrival. */
static void make_shares(double *share, size_t count)
{
	double first = count ? share[0] : 0.0, sum = 0.0;
	for (size_t i = 0; i < count; i++)
		sum += share[i] = first / share[i];
	for (size_t i = 0; i < count; i++)
		share[i] /= sum;
}

/* Penalties look at the path to the node, so its siblings' outlooks are others.  A race is longer with more to wait
 * for: it ends with those that are wanted, or that the shares are to be of. */
static size_t choose_by_race(const struct octavo_tree *tree, size_t parent, struct octavo_outlook *c, unsigned width,
                             enum octavo_shares shares, double *path)
{
	int asks = octavo_tree_asks_confidence(tree);
	unsigned runners = asks || shares == OCTAVO_SHARES_OF_ALL ? RUNNERS : shares == OCTAVO_SHARES_OF_TWO ? 2 : 1;
	if (c->asked < width || octavo_law_penalises(tree->chance->sampling)) {
		c->asked = width < runners ? runners : width;
		c->found = run_race(tree, parent, c, c->asked);
		make_shares(c->share, c->found);
	}
	if (asks)
		width = (unsigned)octavo_confident_width(&tree->chance->confidence, c->share, c->found, width, path);
	return c->found < width ? c->found : width;
}

/* ---- The best -------------------------------------------------------------------------------------------------- */

/* Of the best two alone: the softmax of all logits takes longer than to find them. */
static void share_by_lead(struct octavo_outlook *c)
{
	double lead = c->found > 1 ? (double)c->logits[c->best[0]] - (double)c->logits[c->best[1]] : INFINITY;
	c->share[0] = 1.0 / (1.0 + exp(-lead));
	c->share[1] = 1.0 - c->share[0];
}

static size_t choose_best(const struct octavo_tree *tree, struct octavo_outlook *c, unsigned width,
                          enum octavo_shares shares, double *path)
{
	int asks = octavo_tree_asks_confidence(tree), of_all = shares == OCTAVO_SHARES_OF_ALL;
	const double *law = asks || of_all ? softmax(tree, c) : NULL;
	if (!law && (asks || of_all))
		return 0;
	if (asks)
		width = (unsigned)octavo_confident_width(&tree->chance->confidence, law, c->vocab, width, path);
	unsigned wanted = shares == OCTAVO_SHARES_OF_TWO && width == 1 ? 2 : width;
	if (c->asked < wanted) {
		c->found = octavo_best_tokens(c->logits, c->vocab, wanted, c->best);
		c->asked = wanted;
	}
	for (size_t i = 0; of_all && i < c->found; i++)
		c->share[i] = law[c->best[i]];
	if (shares == OCTAVO_SHARES_OF_TWO)
		share_by_lead(c);
	return c->found < width ? c->found : width;
}

size_t octavo_outlook_children(struct octavo_outlook *c, const struct octavo_tree *tree, size_t parent, unsigned width,
                               enum octavo_shares shares, double *path)
{
	if (tree->chance)
		list_candidates(tree, parent, c);
	if (tree->chance && tree->chance->race)
		return choose_by_race(tree, parent, c, width, shares, path);
	return choose_best(tree, c, width, shares, path);
}

size_t octavo_best_tokens(const float *logits, size_t n, size_t count, int32_t *token)
{
	size_t have = 0;
	for (size_t i = 0; i < n; i++) {
		if (logits[i] != logits[i])
			return 0;
		if (!(logits[i] > -__builtin_inff())) /* may not be drafted */
			continue;
		if (have == count && (!count || !(logits[i] > logits[token[have - 1]])))
			continue;
		size_t at = have < count ? have++ : have - 1;
		for (; at && logits[i] > logits[token[at - 1]]; at--)
			token[at] = token[at - 1];
		token[at] = (int32_t)i;
	}
	return have;
}
