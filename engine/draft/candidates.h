/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokens that a draft's laws hold likely, gathered while it grows: what the acceptance rule `candidates`
 * evaluates the model's head for.
 */
#ifndef OCTAVO_CANDIDATES_H
#define OCTAVO_CANDIDATES_H

#include "octavo_verify.h"

struct octavo_candidate_list {
	size_t most;      /* of each law */
	size_t vocab;     /* tokens that can be chosen */
	uint64_t *listed; /* [ceil(vocab / 64)] a bit for each */
	int32_t *best;    /* scratch [most] */
	int32_t *token;   /* [room] ascending, once the list is closed; of them */
	size_t room, count;
	double mass[OCTAVO_MAX_DRAFT]; /* by the nodes that the drafter runs (growth.h): what its law holds of its own; 0: none */
};

/* Empty again. */
void octavo_candidate_list_begin(struct octavo_candidate_list *list);
/* Takes in the likeliest tokens of law[vocab], whose sum is 1; ties by lowest id.  Returns what the law holds of
 * them, for the caller to enter as the mass of its nodes. */
double octavo_candidate_list_add(struct octavo_candidate_list *list, const double *law);
/* Closes the list, with token[count] on it too.  It never holds more than `room` tokens if that is no less than
 * vocab, or than `most` for each law and `count` together. */
void octavo_candidate_list_end(struct octavo_candidate_list *list, const int32_t *token, size_t count);

#endif
