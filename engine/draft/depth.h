/* SPDX-License-Identifier: Apache-2.0
 *
 * How many tokens to draft, chosen from what they cost and how often they are kept.
 *
 * A step that drafts k tokens emits tau(k) = 1 + sum over i <= k of P(at least i are kept) tokens and costs
 *     t(k) = draft(k) + verify(k + 1) + accept * tau(k),
 * all measured; the k with the most tokens per time is taken, 0 included.  At that k every drafted position pays: its
 * P(kept) times the value of a token, t(k) / tau(k), exceeds what it adds to the time.  Looking at all k, and not at the
 * next position alone, also sees past a step in verify(M).
 *
 * Estimates fade, and what has not been tried for a while goes back to a guess.  So a depth that was given up is tried
 * again now and then: the cheaper it is to try, the more often, and at most (1 - FADE) of a token per step is spent on
 * it.
 *
 * Pure functions of their arguments: no clock is read here.
 */
#ifndef OCTAVO_DEPTH_H
#define OCTAVO_DEPTH_H

#include "octavo_engine.h"

/* What one step did.  Times in ns; 0: unknown. */
struct octavo_step {
	unsigned drafted, accepted; /* tokens in a row */
	double draft_ns, verify_ns, accept_ns;
	size_t rows; /* of the forward */
	size_t watched; /* of them, those beside the session's draft */
};

/* The estimates of one source of drafts, after a step in which it drafted (took_part) or did not. */
void octavo_depth_update(struct octavo_depth_source *s, const struct octavo_cost *cost, const struct octavo_step *step,
                         int took_part);

/* The k in [0, most] with the most tokens per second if `company` sequences draft alike side by side; *rate gets that,
 * in tokens per ns, and may be NULL. */
unsigned octavo_depth_choose(const struct octavo_depth_source *s, const struct octavo_cost *cost, size_t company,
                             unsigned most, double *rate);

/* Probability that the token drafted at depth i (0-based) is kept if it and all before it were drafted. */
double octavo_depth_reach(const struct octavo_depth_source *s, unsigned i);

#endif
