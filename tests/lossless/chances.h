/* SPDX-License-Identifier: Apache-2.0
 *
 * All outcomes of a procedure that takes its chances through an octavo_pick_fn, each with its exact probability.
 *
 * The procedure is run again and again; each run takes another branch.  A random number is its counter (position,
 * purpose, index): at first it is uniform in [0, 1), and what a pick decided narrows it to the interval that decides so.
 * A counter that is used twice is therefore the same number twice, with all that follows for the law of the outcome.
 */
#ifndef OCTAVO_TEST_CHANCES_H
#define OCTAVO_TEST_CHANCES_H

#include "octavo_verify.h"

enum { MOST_PICKS = 128 };

struct chances {
	struct {
		uint32_t position, index;
		enum octavo_purpose purpose;
		double lo, hi;
	} number[MOST_PICKS]; /* of this run */
	size_t numbers;
	struct {
		int32_t outcome, next; /* next: the following outcome that is possible, or -1 */
	} trail[MOST_PICKS];
	size_t length, at;
	double weight; /* probability of this run */
};

/*	struct chances c = { 0 };
 *	do {
 *		chances_begin(&c);
 *		run(chances_pick, &c);    // then c.weight is its probability
 *	} while (chances_next(&c));
 */
void chances_begin(struct chances *c);
int chances_next(struct chances *c);
octavo_pick_fn chances_pick; /* the context is a struct chances */

#endif
