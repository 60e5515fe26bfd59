/* SPDX-License-Identifier: Apache-2.0
 *
 * What a session did, as far as it takes to do it again: its tokens, and the rows that each round verified.
 */
#ifndef OCTAVO_HISTORY_H
#define OCTAVO_HISTORY_H

#include "engine/draft/tree.h"

struct octavo_history {
	int32_t *token; /* [tokens] the prompt, then what was emitted */
	size_t tokens, token_room, prompt;
	int32_t *row;   /* [rows][2] of all rounds' trees: token and parent */
	size_t rows, row_room;
	struct octavo_past {
		size_t rows, emitted;
	} *round; /* [rounds] */
	size_t rounds, round_room;
	int lost; /* out of memory: it does not hold all */
};

/* A prompt: what was before is forgotten. */
void octavo_history_begin(struct octavo_history *h, const int32_t *token, size_t count);
/* A round that verified `tree` and emitted token[count]. */
void octavo_history_note(struct octavo_history *h, const struct octavo_tree *tree, const int32_t *token, size_t count);

#endif
