/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/candidates.h"

#include <string.h>

enum { WORD = 64 };

static size_t words(const struct octavo_candidate_list *list)
{
	return (list->vocab + WORD - 1) / WORD;
}

static void mark(struct octavo_candidate_list *list, int32_t token)
{
	list->listed[token / WORD] |= (uint64_t)1 << token % WORD;
}

void octavo_candidate_list_begin(struct octavo_candidate_list *list)
{
	memset(list->listed, 0, words(list) * sizeof *list->listed);
	memset(list->mass, 0, sizeof list->mass);
	list->count = 0;
}

/* ---- The best of a law: a heap with the worst of them on top ------------------------------------------------ */

static int worse(const double *law, int32_t a, int32_t b)
{
	return law[a] < law[b] || (law[a] == law[b] && a > b);
}

static void sift(int32_t *heap, size_t size, size_t at, const double *law)
{
	for (size_t child; (child = 2 * at + 1) < size; at = child) {
		if (child + 1 < size && worse(law, heap[child + 1], heap[child]))
			child++;
		if (!worse(law, heap[child], heap[at]))
			return;
		int32_t t = heap[at];
		heap[at] = heap[child];
		heap[child] = t;
	}
}

/* Returns how many there are. */
static size_t find_best(const double *law, size_t vocab, size_t most, int32_t *heap)
{
	size_t have = most < vocab ? most : vocab;
	for (size_t i = 0; i < have; i++)
		heap[i] = (int32_t)i;
	for (size_t i = have / 2; i-- > 0;)
		sift(heap, have, i, law);
	for (size_t i = have; i < vocab; i++) {
		if (!(law[i] > law[heap[0]]))
			continue;
		heap[0] = (int32_t)i;
		sift(heap, have, 0, law);
	}
	return have;
}

double octavo_candidate_list_add(struct octavo_candidate_list *list, const double *law)
{
	size_t count = find_best(law, list->vocab, list->most, list->best);
	double mass = 0.0;
	for (size_t i = 0; i < count; i++) {
		mass += law[list->best[i]];
		mark(list, list->best[i]);
	}
	return mass < 1.0 && count < list->vocab ? mass : 1.0; /* whatever the sum rounds to */
}

void octavo_candidate_list_end(struct octavo_candidate_list *list, const int32_t *token, size_t count)
{
	for (size_t i = 0; i < count; i++)
		mark(list, token[i]);
	for (size_t i = 0; i < words(list); i++)
		for (uint64_t left = list->listed[i]; left; left &= left - 1)
			list->token[list->count++] = (int32_t)(i * WORD) + __builtin_ctzll(left);
}
