/* SPDX-License-Identifier: Apache-2.0
 *
 * How many tokens to draft, chosen from what they cost and how often they are kept.
 *
 * A step that drafts k tokens emits tau(k) = 1 + sum over i <= k of P(at least i are kept) tokens and costs
 *     t(k) = draft(k) + verify(k + 1) + accept * tau(k),
 * all measured; the k with the most tokens per time is taken, 0 included.  At that k every drafted position pays: its
 * P(kept) times the value of a token, t(k) / tau(k), exceeds what it adds to the time.  Looking at all k, and not
 * at the next position alone, also sees past a step in verify(M).
 *
 * Neither what is drafted nor what it takes is known but by doing it, so some steps are taken to learn: a k that
 * would be the best if its next tokens were all kept, and if its time were as much below the estimate as the
 * evidence leaves open.  Plain steps are tried like that as well: the cost curve says what they took when the
 * engine began, and that alone would remain all there is.  What a trial takes beyond the time in which the best k
 * would have emitted as much comes out of an account, which gets SPEND of all time: so learning costs no more than
 * that, however dear one trial is.  Part of the price is the wake of a trial: behind a forward of more rows the
 * next finds other weights in the caches than it had left there.
 *
 * Machines have slow times.  So all times are kept over the running speed of forwards, and no single one counts
 * for more than half as much again as usual.
 *
 * Evidence fades.  What was tried lately stands before what was tried earlier, of which the estimate remains when
 * drafting was given up; and with no evidence left a trial that succeeds counts.
 *
 * Pure functions of their arguments: no clock is read here.
 */
#ifndef OCTAVO_DEPTH_H
#define OCTAVO_DEPTH_H

#include "engine/draft/extent.h"

/* What one step did.  Times in ns; 0: unknown. */
struct octavo_step {
	unsigned drafted, submitted, accepted; /* tokens in a row: made, of them verified, of them kept */
	const double *share; /* [drafted] as in extent.h; NULL: not known */
	double draft_ns, verify_ns, accept_ns;
	size_t rows; /* of the forward */
	size_t watched; /* of them, those beside the session's draft */
	size_t late; /* tokens that drafting began with catching up on, but for the last step's */
};

/* The estimates of one source of drafts, after a step in which it drafted (took_part) or did not. */
void octavo_depth_update(struct octavo_depth_source *s, const struct octavo_cost *cost, const struct octavo_step *step,
                         int took_part);

/* What a choice is for. */
struct octavo_ahead {
	unsigned most;  /* k, at most OCTAVO_MAX_K */
	size_t company; /* sequences that draft alike side by side, at least 1 */
	size_t late;    /* tokens that the source would have to catch up on before it drafts, but for the last step's */
	int shares;     /* it will say how sure it is of each token */
	int at_once;    /* it makes all tokens in one go */
};

/* The k in [least, ahead->most] with the most tokens per time, or one that is to be learnt about; 0 if none has at
 * least *rate, in tokens per ns.  That becomes what the best one has.  It is extent->most; of a source with shares that
 * is the most that may come of it. */
void octavo_depth_choose(struct octavo_depth_source *s, const struct octavo_cost *cost,
                         const struct octavo_ahead *ahead, unsigned least, double *rate, struct octavo_extent *extent);

/* The same for all sources of a drafter: extent[i] for source i, of ahead[i].  Of a pair, the first drafts where it
 * promises no less than the second. */
void octavo_depth_plan(struct octavo_depth *depth, const struct octavo_cost *cost, const struct octavo_ahead *ahead,
                       unsigned sources, struct octavo_extent *extent);

/* Probability that the token drafted at depth i (0-based) is kept if it and all before it were drafted. */
double octavo_depth_reach(const struct octavo_depth_source *s, unsigned i);

#endif
