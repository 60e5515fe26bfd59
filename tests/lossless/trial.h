/* SPDX-License-Identifier: Apache-2.0
 *
 * A toy language model, toy drafters, and the rounds of speculation over them: the law of what comes out against that of
 * plain decoding.
 */
#ifndef OCTAVO_TEST_TRIAL_H
#define OCTAVO_TEST_TRIAL_H

#include "octavo_verify.h"

enum { MOST_VOCAB = 5, MOST_ROWS = 8, MOST_LENGTH = 5, PROMPT = 3 };

/* What the drafter sees. */
enum adversary {
	INDEPENDENT, /* logits of its own */
	REVERSED,    /* the target's ranks upside down */
	SAME,        /* p == q */
	ZEROS,       /* q without some of the tokens, other ones after each prefix */
	DISJOINT,    /* q and p share no token */
	ADVERSARIES
};

enum mask {
	NO_MASK,
	BANNED,  /* a token is banned by bias */
	GRAMMAR, /* the prefix forbids a token, as a grammar would */
	MASKS
};

/* How a draft comes about. */
enum drafting {
	SAMPLED, /* from q, siblings as `siblings` says */
	CHOSEN,  /* the best of q */
	MIXED,   /* at each row the first child is chosen, the others sampled */
};

struct shape {
	size_t rows;
	int32_t parent[MOST_ROWS];
};

/* Mistakes that surround a rule which is right; the classic ones of speculative decoding. */
enum mistake {
	NO_MISTAKE,
	STALE_Q,           /* q of the row before */
	STALE_P,           /* p of the row before */
	Q_UNTEMPERED,      /* q at another temperature than the draw's */
	Q_UNTRUNCATED,     /* the draw had top-k, q has not */
	Q_OF_ARGMAX,       /* tokens chosen, q the softmax they were chosen from */
	TOKEN_OVERRIDDEN,  /* another token in the draft than the one drawn */
	DRAFT_DROPPED,     /* a token of little q is drawn and then left out */
	INVALID_DROPPED,   /* a token that the target forbids is drawn and then left out */
	DUPLICATE_DROPPED, /* a sibling drawn twice stands in the draft once */
	RESIDUAL_SHARED,   /* residual and draft share their number */
	ACCEPT_SHARED,     /* trial and draft share their number */
	ACCEPT_REPEATED,   /* one number for all trials of a round */
	REWOUND,           /* every round has the first one's numbers */
	TARGET_REPEATED,   /* one target number for all positions of a round */
	SIBLINGS_SWAPPED,  /* drawn with replacement and judged without, or the other way round */
	WARP_MISSING,      /* rows behind the root have their laws untruncated */
	PENALTY_OF_ROOT,   /* penalties of the root's prefix for all rows */
	PENALTY_TWICE,     /* the last committed token counts twice */
	MASK_OF_ROOT,      /* what the root's prefix forbids, for all rows */
};

struct trial {
	size_t vocab, length; /* tokens whose joint law is compared */
	size_t rounds;        /* after them the rest is decoded plainly */
	uint64_t model;
	enum adversary adversary;
	enum mask mask;
	struct octavo_sampling sampling, draft_sampling;
	enum drafting drafting;
	enum octavo_siblings siblings;
	struct shape shape;
	struct octavo_confidence confidence; /* all zero: drafts are never cut short */
	enum octavo_status (*rule)(const struct octavo_draft *, const struct octavo_judge *, struct octavo_outcome *);
	enum mistake mistake;
	octavo_pick_fn *pick;
	void *pick_context;
};

/* Plain decoding's law of the first `length` tokens: [vocab^length], the first token most significant. */
void trial_truth(const struct trial *t, double *truth);

/* Rounds until `length` tokens are there or t->rounds are over.  Returns the number of tokens in token[length], no more
 * than `length`, or SIZE_MAX if the rule failed; *kept counts drafted tokens kept. */
size_t trial_run(const struct trial *t, int32_t *token, size_t *kept);

/* Total variation between the law of t->rounds rounds and the truth, by exact enumeration, or 2 if the rule failed;
 * *tokens is the mean number of drafted tokens kept, and one. */
double trial_distance(struct trial *t, double *tokens);

size_t trial_cells(const struct trial *t);
/* Adds `weight` to the cells that begin with token[count], shared out as the truth has it. */
void trial_add(const struct trial *t, const double *truth, const int32_t *token, size_t count, double weight,
               double *law);

/* wrong.c: rules with one defect each.  R(name, what is wrong, kind) */
#define WRONG_RULES(R)                                                                                                 \
	R(NONE, "control", ROUNDS)                                                                                     \
	R(NO_RESIDUAL, "after a refusal the token is drawn from p", ROUNDS)                                            \
	R(RESIDUAL_MIRRORED, "residual |p - q|", ROUNDS)                                                               \
	R(RATIO_INVERTED, "kept with min(1, q / p)", ROUNDS)                                                           \
	R(FIRST_UNVERIFIED, "the first drafted token is never judged", ROUNDS)                                         \
	R(BONUS_STALE, "the token after a whole draft from the row before", ROUNDS)                                    \
	R(P_STALE, "the next sibling is tried against the p of the first", ROUNDS)                                     \
	R(P_UNNORMALISED, "the residual is not normalised before the next sibling", ROUNDS)                            \
	R(CHOSEN_NOT_STRUCK, "a refused chosen token stays in p", ROUNDS)                                              \
	R(ARGMAX, "judged by the argmax, whatever the temperature", ROUNDS)                                            \
	R(REDRAWN, "after a mismatch the token is drawn anew", ROUNDS)                                                 \
	R(BLOCK_NONE, "control", BLOCK)                                                                                \
	R(BLOCK_SMALLEST, "stops at the first length refused", BLOCK)                                                  \
	R(BLOCK_WEIGHT_ONLY, "h_i = w_i for all i", BLOCK)                                                             \
	R(BLOCK_UNCAPPED, "w_i not capped at 1", BLOCK)                                                                \
	R(BLOCK_PLAIN_RESIDUAL, "residual max(p - q, 0) whatever the weight", BLOCK)                                   \
	R(BLOCK_LAST_BY_SURPLUS, "the last length by the formula of the others", BLOCK)

#define WRONG_DECLARE(name, what, kind)                                                                                \
	enum octavo_status wrong_##name(const struct octavo_draft *draft, const struct octavo_judge *judge,            \
	                                struct octavo_outcome *out);
WRONG_RULES(WRONG_DECLARE)
#undef WRONG_DECLARE

#endif
