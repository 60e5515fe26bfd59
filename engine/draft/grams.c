/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/grams.h"

#include <stdlib.h>
#include <string.h>

int octavo_grams_open(struct octavo_grams *g, size_t n, size_t vocab)
{
	*g = (struct octavo_grams){ .n = n, .vocab = vocab };
	g->token = calloc(OCTAVO_GRAMS * n, sizeof *g->token);
	g->before = calloc(OCTAVO_GRAMS, sizeof *g->before);
	g->latest = calloc(vocab, sizeof *g->latest);
	if (g->token && g->before && g->latest)
		return 0;
	octavo_grams_close(g);
	return -1;
}

void octavo_grams_close(struct octavo_grams *g)
{
	free(g->token);
	free(g->before);
	free(g->latest);
	*g = (struct octavo_grams){ 0 };
}

void octavo_grams_clear(struct octavo_grams *g)
{
	g->count = 0;
	memset(g->latest, 0, g->vocab * sizeof *g->latest);
}

/* Whether the i-th is still there. */
static size_t kept(const struct octavo_grams *g, size_t i)
{
	return i + OCTAVO_GRAMS > g->count ? i : 0;
}

void octavo_grams_put(struct octavo_grams *g, const int32_t *token)
{
	size_t i = ++g->count, at = i % OCTAVO_GRAMS;
	memcpy(g->token + at * g->n, token, g->n * sizeof *token);
	g->before[at] = g->latest[token[0]];
	g->latest[token[0]] = i;
}

size_t octavo_grams_latest(const struct octavo_grams *g, int32_t first)
{
	return kept(g, g->latest[first]);
}

size_t octavo_grams_before(const struct octavo_grams *g, size_t i)
{
	return kept(g, g->before[i % OCTAVO_GRAMS]);
}

const int32_t *octavo_grams_token(const struct octavo_grams *g, size_t i)
{
	return g->token + i % OCTAVO_GRAMS * g->n;
}
