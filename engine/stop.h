/* SPDX-License-Identifier: Apache-2.0
 *
 * Stop strings: where the text of a session's tokens first holds one of them.  The text is seen byte by byte, so the
 * answer depends neither on where tokens end nor on how many of them come at a time.
 */
#ifndef OCTAVO_STOP_H
#define OCTAVO_STOP_H

#include "fp8/arena.h"
#include "octavo_engine.h"

/* Knuth, Morris and Pratt's automaton for each string. */
struct octavo_stopper {
	const struct octavo_stop *stop; /* [count] borrowed */
	size_t count;
	uint32_t *border;  /* of every byte of every string: the longest shorter beginning of the string that ends there */
	uint32_t *matched; /* [count] how much of each string's beginning the text ends with */
};

/* EINVAL for a missing list, text or length. */
enum octavo_status octavo_stops_check(const struct octavo_stop *stop, size_t count, struct octavo_error *error);
/* Takes memory for s->stop[s->count]; octavo_stopper_open, with the memory there, makes it ready. */
void octavo_stopper_carve(struct octavo_arena *a, struct octavo_stopper *s);
void octavo_stopper_open(struct octavo_stopper *s);

/* The text begins anew. */
void octavo_stopper_begin(struct octavo_stopper *s);
/* Goes on with text[length]: 1 if a string becomes complete, with *used bytes up to its end and *which it is, the
 * longest of those that end there. */
int octavo_stopper_feed(struct octavo_stopper *s, const char *text, size_t length, size_t *used, size_t *which);
/* Bytes at the end of the text that may be the beginning of a string. */
size_t octavo_stopper_held(const struct octavo_stopper *s);

#endif
