/* SPDX-License-Identifier: Apache-2.0
 *
 * A session under the acceptance rule `candidates`: the forward ends before the head, which is then evaluated for the
 * tokens that the drafter held likely.  Where they do not decide, it is evaluated for all tokens, for all sessions of the
 * round that need it at once: its weights are read once more, or not at all.
 */
#ifndef OCTAVO_SCREEN_H
#define OCTAVO_SCREEN_H

#include "engine/session.h"

struct octavo_screen {
	struct octavo_candidate_list list;
	void *weights; /* [room of the list] rows of the head */
	float *logits; /* [rows][room of the list], of which list.count are used and are the row length */
	struct octavo_screened_row row[OCTAVO_MAX_DRAFT];
	size_t unsure; /* of the draft: the row behind which all logits are needed; as many as there are: none */
};

/* Whether what the settings ask for can be done; for all rules. */
enum octavo_status octavo_screen_check(const struct octavo_session_settings *settings, struct octavo_error *error);
/* For drafts of at most `rows` rows, the root included. */
void octavo_screen_carve(struct octavo_arena *arena, struct octavo_session *s, size_t rows);

/* The steps of a round, of sessions that have a screen. */
void octavo_screen_begin(struct octavo_session *s);
/* Behind the forward: the candidates' logits, and the walk as far as they decide. */
enum octavo_status octavo_screen_look(struct octavo_session *s, struct octavo_error *error);
/* Marks the rows, in the round's batch, whose logits are needed in full; returns how many. */
size_t octavo_screen_want(struct octavo_session *s, uint8_t *flags);
/* The outcome, when they are there. */
enum octavo_status octavo_screen_accept(struct octavo_session *s, struct octavo_error *error);
void octavo_screen_count(struct octavo_session *s);

#endif
