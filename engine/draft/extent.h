/* SPDX-License-Identifier: Apache-2.0
 *
 * How far one draft goes, by how sure the drafter is of each of its tokens.
 *
 * depth.h says what tokens and time are worth: `rate` tokens per ns are what else there is to do with the time.  A
 * drafter with laws also knows how sure it is of a token: the share of it between it and the runner-up (outlook.h),
 * from a half on.  How often tokens of such a share were kept is counted; that hardly depends on their depth.  So with
 * n tokens drafted, of which all up to the i-th are kept with probability S(i), the product of those, submitting m of
 * them is worth
 *     U(m) = sum of S(i), i <= m, times (1 - rate * accept) - rate * verify(m + 1).
 * What is submitted is the m with the largest U, 0 included: doubtful tokens at the end stay out of the forward.
 * (Where all do, verify(1) is what forwards take behind a draft, which has left other weights in the caches.)  One more
 * token is drafted where that pays,
 *     E[max(U(n + 1) - max U, 0)] > rate * draft,
 * over the shares that tokens lately had, or where several more would, each kept as often as tokens of its depth are.
 *
 * Nothing here looks at what the target says, so it changes no token where the drafts change none (rules of
 * SAME_TOKENS).  Where drafts are drawn, leaving out drawn tokens for what they are would change the law: there are
 * no shares then, and every draft is as long as was asked for.
 *
 * Pure functions of their arguments.
 */
#ifndef OCTAVO_EXTENT_H
#define OCTAVO_EXTENT_H

#include "octavo_engine.h"

struct octavo_extent {
	unsigned most; /* tokens that the drafter is asked for */
	int weighs;    /* 0: all of them are drafted and submitted */
	int at_once;   /* the drafter makes all tokens in one go */
	/* What tokens and time are worth */
	double rate, token;              /* tokens per ns; of a kept token, what accepting it leaves */
	double verify[OCTAVO_MAX_K + 1]; /* ns, by tokens submitted */
	double left_out;                 /* ns, with none submitted of those that were drafted */
	double draft[OCTAVO_MAX_K + 1];  /* ns, by tokens drafted */
	double kept[OCTAVO_MAX_K];       /* of the tokens of a depth that are reached, whatever their share */
	double chance[OCTAVO_SHARES];    /* of those of a share */
	double often[OCTAVO_SHARES];     /* how often there is one; sums to 1, or 0: not known */
	/* The draft */
	unsigned drafted, submitted;
	double share[OCTAVO_MAX_K]; /* of each drafted token; 0: not known */
	double reach, gain, best;   /* S(drafted), U(drafted) + rate * verify(drafted + 1), the largest U */
};

/* Which of the OCTAVO_SHARES classes a share is of. */
unsigned octavo_share_class(double share);

/* Before the first token; what tokens and time are worth is set. */
void octavo_extent_begin(struct octavo_extent *extent);
/* Whether one more token pays, and whether one is to be drafted. */
int octavo_extent_pays(const struct octavo_extent *extent);
int octavo_extent_goes_on(const struct octavo_extent *extent);
/* Another token was drafted, of this share. */
void octavo_extent_take(struct octavo_extent *extent, double share);

#endif
