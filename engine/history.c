/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/history.h"

#include "fp8/error.h"

#include <stdlib.h>
#include <string.h>

enum octavo_status octavo_history_open(struct octavo_history **out, struct octavo_error *error)
{
	if (!out)
		return octavo_fail(error, OCTAVO_EINVAL, "history: a null argument");
	*out = calloc(1, sizeof **out);
	return *out ? OCTAVO_OK : octavo_fail(error, OCTAVO_ENOMEM, "history: out of memory");
}

void octavo_history_close(struct octavo_history **history)
{
	if (!history || !*history)
		return;
	free((*history)->token);
	free((*history)->row);
	free((*history)->round);
	free(*history);
	*history = NULL;
}

/* Room for `more` items of `size` behind `used`; NULL, and the list as it was, if there is no memory. */
static void *grow(void *list, size_t used, size_t *room, size_t more, size_t size)
{
	if (used + more <= *room)
		return list;
	size_t wanted = 2 * (used + more);
	void *grown = realloc(list, wanted * size);
	*room = grown ? wanted : *room;
	return grown;
}

static void add_tokens(struct octavo_history *h, const int32_t *token, size_t count)
{
	int32_t *grown = grow(h->token, h->tokens, &h->token_room, count, sizeof *grown);
	h->lost |= !grown;
	if (h->lost)
		return;
	h->token = grown;
	memcpy(h->token + h->tokens, token, count * sizeof *token);
	h->tokens += count;
}

void octavo_history_begin(struct octavo_history *h, const int32_t *token, size_t count)
{
	h->tokens = h->rows = h->rounds = 0;
	h->lost = 0;
	h->prompt = count;
	add_tokens(h, token, count);
}

void octavo_history_note(struct octavo_history *h, const struct octavo_tree *tree, const int32_t *token, size_t count)
{
	struct octavo_past *round = grow(h->round, h->rounds, &h->round_room, 1, sizeof *round);
	if (round)
		h->round = round;
	int32_t *row = grow(h->row, 2 * h->rows, &h->row_room, 2 * tree->rows, sizeof *row);
	if (row)
		h->row = row;
	h->lost |= !round || !row;
	if (h->lost)
		return;
	h->round[h->rounds++] = (struct octavo_past){ tree->rows, count };
	for (size_t i = 0; i < tree->rows; i++, h->rows++) {
		h->row[2 * h->rows] = tree->token[i];
		h->row[2 * h->rows + 1] = tree->parent[i];
	}
	add_tokens(h, token, count);
}
