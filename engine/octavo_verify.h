/* SPDX-License-Identifier: Apache-2.0
 *
 * Acceptance: which drafted tokens the target model keeps, and the random numbers and laws behind it.
 * Pure functions, part of liboctavo-kernels; any engine can use them with its own logits or laws.
 *
 * Three promises (enum octavo_promise).  Rules that walk along the target's own tokens keep the stream: the token at
 * a position is a function of the logits, the sampling parameters and the keyed random numbers of that position, so it
 * is the same whether it was decoded alone or accepted out of a draft.  Rejection rules keep the law: other tokens,
 * distributed exactly as plain decoding's, jointly over all positions.  The rest is LOSSY.
 *
 * p is the target's law and q the one a draft was drawn from, both after warping: q is exactly what the token was drawn
 * from, not the drafter's raw softmax.
 */
#ifndef OCTAVO_VERIFY_H
#define OCTAVO_VERIFY_H

#include "octavo_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OCTAVO_MAX_DRAFT 64 /* rows of one verification, the root included */

/* ---- Random numbers ---------------------------------------------------------------------------
 * Philox4x32-10 (Salmon et al., SC 2011): counter = (position, stream, purpose and index), key = seed.  A
 * draw depends on these alone, never on how many rows were scored together.
 *
 *     purpose      position                  index
 *     TARGET       that of the token drawn   64 * (t / 256) + t % 64 of token t: word t / 64 % 4 is t's own
 *     TARGET_REST  the same                  the same: further bits
 *     DRAFT        of the root's next token  the drafted row
 *     ACCEPT       of the root's next token  the row on trial
 *     RESIDUAL     of the root's next token  the row whose children were all refused
 *
 * A round emits at least one token, so the position of the root's next token tells rounds apart: no number is used
 * twice, and what a refused draft has consumed is never drawn again. */
enum octavo_purpose {
	OCTAVO_DRAW_TARGET,
	OCTAVO_DRAW_DRAFT,
	OCTAVO_DRAW_ACCEPT,
	OCTAVO_DRAW_RESIDUAL,
	OCTAVO_DRAW_TARGET_REST
};

struct octavo_stream {
	uint64_t seed;
	uint64_t stream; /* one per sequence, chosen by the caller */
};

/* Uniform in [0, 1), 53 bits.  index < 2^24. */
OCTAVO_API double octavo_draw(const struct octavo_stream *stream, uint32_t position, enum octavo_purpose purpose,
                              uint32_t index);

/* A race: token i arrives at E_i / law[i], with E_i exponentially distributed, of mean 1, and made from the TARGET
 * numbers of (position, i) alone.  The first is a draw from the law: token i with probability law[i] / sum of law.
 * (Exponential clocks, or the Gumbel-max trick in other words.)
 *
 * This is how the target's tokens are drawn, and why: laws that are alike mostly have the same winner, with the
 * same numbers.  A drafter that lets its own law q run the target's race wins the target's token with probability
 * at least (1 - TV) / (1 + TV), TV the total variation between p and q, and nearly always more; no drafter that
 * does not know p can promise better (Daliri, Musco, Suresh, arXiv 2408.07978).  The target's token is a function
 * of p and its numbers as before, whoever drafts what.
 *
 * token[count], time[count]: the first arrivals of an unnormalised law[n], earliest first, ties by lowest id;
 * tokens of no mass never arrive.  Returns how many there are: fewer than count if fewer have mass; 0 for a null
 * pointer.  n <= 2^26. */
OCTAVO_API size_t octavo_race(const struct octavo_stream *stream, uint32_t position, const double *law, size_t n,
                              size_t count, int32_t *token, double *time);

/* A random choice: an outcome of the unnormalised law[n], 0 .. n - 1, never one of zero mass; negative if all are zero.
 * The rules below take all their chances through such a function, so a caller may bring numbers of its own, and a test
 * may walk through all outcomes. */
typedef int32_t octavo_pick_fn(void *context, uint32_t position, enum octavo_purpose purpose, uint32_t index,
                               const double *law, size_t n);
/* The usual one: TARGET's outcomes by octavo_race, the others the quantile at octavo_draw's number.  `stream` is a
 * const struct octavo_stream. */
OCTAVO_API int32_t octavo_pick(void *stream, uint32_t position, enum octavo_purpose purpose, uint32_t index,
                               const double *law, size_t n);

/* ---- Drafts -------------------------------------------------------------------------------------- */

/* Row 0 is the root, the last committed token; parent[row] < row.  A chain has parent[row] = row - 1.  Siblings have
 * distinct tokens, unless they were drawn with replacement: then every draw must stay a row of its own. */
struct octavo_draft {
	size_t rows;
	const int32_t *token;  /* [rows] */
	const int32_t *parent; /* [rows]; parent[0] is ignored */
};

struct octavo_outcome {
	size_t accepted;                 /* drafted rows kept */
	uint32_t path[OCTAVO_MAX_DRAFT]; /* their row numbers, from the root's child down */
	int32_t next;                    /* the token after the last kept row */
};

/* ---- Sampling ---------------------------------------------------------------------------------- */

struct octavo_bias {
	int32_t token;
	float bias; /* added to the logit; -INFINITY bans the token */
};

/* Applied in this order, which defines the target's law: bias, repetition, frequency and presence, temperature, top-k,
 * top-p, min-p.  Zero-initialised: greedy. */
struct octavo_sampling {
	float temperature; /* 0: the law is the argmax, lowest id on ties; otherwise > 0 and finite */
	uint32_t top_k;    /* 0: off */
	float top_p;       /* 0 or 1: off; otherwise in (0, 1): the smallest set of best tokens with that mass */
	float min_p;       /* 0: off; in (0, 1): drop tokens below min_p times the best */
	/* Of each token that occurs in the row's own prefix.  repetition (Keskar et al. 2019) looks at the prompt too and
	 * divides a positive logit, multiplies another; frequency is subtracted once per occurrence after the prompt,
	 * presence once if there is any. */
	float repetition; /* 0 or 1: off; otherwise in (0, 100] */
	float frequency, presence; /* in [-100, 100]; 0: off */
	const struct octavo_bias *bias; /* [biases] borrowed, for as long as the parameters are in use */
	size_t biases;
};

/* EINVAL with a reason naming the field for values outside the ranges above. */
OCTAVO_API enum octavo_status octavo_sampling_check(const struct octavo_sampling *s, struct octavo_error *error);

/* What stands before a row's next token: the committed tokens up to the root, then, with a draft, the row's own
 * path. */
struct octavo_prefix {
	const int32_t *token; /* [count] the root last */
	size_t count;
	size_t prompt; /* the first of them are the prompt */
	const struct octavo_draft *draft; /* NULL: none */
	size_t row;
};

/* The lowest id among the largest of logits[vocab]; -1 if any is NaN. */
OCTAVO_API int32_t octavo_argmax(const float *logits, size_t vocab);

/* law[vocab] = the probabilities that `s` makes of logits[vocab] after `prefix` (sum 1 up to rounding; exp in the
 * arithmetic contract's polynomial, sums in double, in eight lanes by id).  prefix is looked at for penalties only
 * and may be NULL without them.  order[vocab] is scratch, needed only with top_k, top_p or penalties.  EINVAL
 * without what is needed, or for a bias outside the vocabulary; ENUMERIC for a NaN or +infinity among the logits
 * or if all are -infinity. */
OCTAVO_API enum octavo_status octavo_law(const struct octavo_sampling *s, const struct octavo_prefix *prefix,
                                         const float *logits, size_t vocab, double *law, uint32_t *order);

/* The token at quantile u in [0, 1) of an unnormalised law, ids ascending; never a token of zero mass. */
OCTAVO_API int32_t octavo_quantile(const double *law, size_t vocab, double u);

/* ---- Drafting: when to stop -------------------------------------------------------------------------
 * A drafter that is unsure does better to stop (the fallback of BiLD, Kim et al., arXiv 2302.07863, in its
 * lossless form; the dynamic trees of EAGLE-2, Li et al., arXiv 2406.16858).  Lossless with every rule because it
 * is decided from q alone, before anything is drawn from it: a token that was drawn must stay in the draft,
 * however small its q. */
struct octavo_confidence {
	double best; /* stop where the best token of q has less than this; 0: never */
	double path; /* stop where the product of the best masses since the root has; 0: never */
	double mass; /* no more children than the fewest best tokens that hold this much of q; 0: no limit */
};

/* How many children a row should get, at most `most`, if theirs is the unnormalised law q[vocab]; 0: stop.  *path
 * is the product of best masses up to the row, 1 at the root; if the draft goes on it becomes that of the
 * children. */
OCTAVO_API size_t octavo_confident_width(const struct octavo_confidence *confidence, const double *q, size_t vocab,
                                         size_t most, double *path);

/* ---- Acceptance: rules -------------------------------------------------------------------------- */

enum octavo_accept {
	OCTAVO_ACCEPT_MATCH,      /* SAME_TOKENS: sample-and-match, chains and trees */
	OCTAVO_ACCEPT_GREEDY,     /* SAME_TOKENS: the same at temperature 0 */
	OCTAVO_ACCEPT_REJECTION,  /* SAME_LAW: chains */
	OCTAVO_ACCEPT_BLOCK,      /* SAME_LAW: chains */
	OCTAVO_ACCEPT_MULTIROUND, /* SAME_LAW: chains and trees; on a chain it is REJECTION */
	OCTAVO_ACCEPT_TYPICAL,    /* LOSSY: chains and trees */
	OCTAVO_ACCEPT_CANDIDATES, /* LOSSY, at temperature 0 too: chains and trees */
	OCTAVO_ACCEPT_COUNT
};

enum octavo_promise {
	OCTAVO_SAME_TOKENS, /* exactly the tokens of plain decoding with the same numbers */
	OCTAVO_SAME_LAW,    /* tokens with exactly the law of plain decoding's */
	OCTAVO_LOSSY        /* neither */
};

/* "match", "greedy", …; NULL for a value that is no rule.  octavo_accept_find returns OCTAVO_ACCEPT_COUNT for a name
 * that is none. */
OCTAVO_API const char *octavo_accept_name(enum octavo_accept rule);
OCTAVO_API enum octavo_accept octavo_accept_find(const char *name);
/* At temperature 0 every rule but candidates keeps the tokens. */
OCTAVO_API enum octavo_promise octavo_accept_promise(enum octavo_accept rule, const struct octavo_sampling *s);

/* A law [vocab] of a row, unnormalised, entries finite and at least 0; valid until the next call of the same
 * function. */
typedef const double *octavo_law_fn(void *context, size_t row);

/* How the siblings of a tree were drawn from q. */
enum octavo_siblings {
	OCTAVO_WITH_REPLACEMENT,    /* independently */
	OCTAVO_WITHOUT_REPLACEMENT, /* each from q without the tokens of all its earlier siblings */
};

/* What the rules see of a verification. */
struct octavo_judge {
	size_t vocab;
	octavo_law_fn *target; /* p of the token after `row`; NULL: there is none, ENUMERIC */
	void *target_context;
	octavo_law_fn *drafted; /* q of the token of `row`; NULL, the function or what it returns: the drafter did not
	                         * draw, it chose (n-grams, the best of a law), whatever probability it saw in it */
	void *drafted_context;
	enum octavo_siblings siblings;
	octavo_pick_fn *pick;
	void *pick_context;
	uint32_t position; /* of the root's next token */
	double *scratch;   /* [2][vocab]; not for match and typical */
	double epsilon, delta; /* typical only; 0: 0.09 and 0.3 */
};

/* All rules return EINVAL for null pointers, a draft of no or more than OCTAVO_MAX_DRAFT rows, a parent that is not an
 * earlier row, a token outside the vocabulary, or a drafted token whose q is zero, which cannot have been drawn
 * from it; ENUMERIC for a law with a negative, infinite or NaN entry, or of mass zero. */

/* The named rule.  `candidates` is `match` on the laws that it gets here: octavo_accept_candidates makes them. */
OCTAVO_API enum octavo_status octavo_accept(enum octavo_accept rule, const struct octavo_draft *draft,
                                            const struct octavo_judge *judge, struct octavo_outcome *out);

/* `match`: at the root, then at each kept row, draw the target's token with the TARGET numbers of its position;
 * keep the child that carries it, or stop.  Any drafter, no q needed: also one that draws with these same numbers
 * (octavo_race). */
OCTAVO_API enum octavo_status octavo_accept_match(const struct octavo_draft *draft, const struct octavo_judge *judge,
                                                  struct octavo_outcome *out);

/* `multiround`: at each row its children are tried in order.  A child is kept with probability min(1, p(x) / q(x)), and
 * tried next is p = norm(max(p - q, 0)); when none is left the next token is drawn from what p has become.  With one
 * child each: speculative sampling (Leviathan et al., arXiv 2211.17192, algorithm 1; Chen et al., arXiv 2302.01318,
 * algorithm 2).  On trees: SpecInfer, arXiv 2305.09781, algorithm 2; without replacement as in recursive rejection
 * sampling, Jeon et al., arXiv 2402.14160.  Chosen children have q = 1: kept with p(x), then struck out of p. */
OCTAVO_API enum octavo_status octavo_accept_multiround(const struct octavo_draft *draft, const struct octavo_judge *judge,
                                                       struct octavo_outcome *out);

/* `rejection`: multiround for a chain; EINVAL for a tree. */
OCTAVO_API enum octavo_status octavo_accept_rejection(const struct octavo_draft *draft, const struct octavo_judge *judge,
                                                      struct octavo_outcome *out);

/* `block`: block verification (Sun et al., arXiv 2403.10444): judges all prefixes of a chain jointly and keeps more of
 * them than rejection does; the same where tokens were chosen.  EINVAL for a tree. */
OCTAVO_API enum octavo_status octavo_accept_block(const struct octavo_draft *draft, const struct octavo_judge *judge,
                                                  struct octavo_outcome *out);

/* `typical`, LOSSY: Medusa's acceptance (Cai et al., arXiv 2401.10774, section 2.3.1).  A row is kept if its parent is
 * and p(x) > min(epsilon, delta * exp(-H(p))), H in nats; the longest such path wins, then the likelier, then the
 * first.  The token after it is drawn from p. */
OCTAVO_API enum octavo_status octavo_accept_typical(const struct octavo_draft *draft, const struct octavo_judge *judge,
                                                    struct octavo_outcome *out);

/* ---- Acceptance: from logits ----------------------------------------------------------------------- */

/* Rows' logits and what makes laws of them: octavo_scored_law is a `target` with this as its context.  Each row's
 * penalties see the row's own path. */
struct octavo_scored {
	const float *logits; /* [rows][ld], of which vocab are used */
	size_t ld, vocab;
	const struct octavo_sampling *sampling;
	struct octavo_prefix prefix; /* its draft the one on trial; row is filled in */
	double *law;                 /* scratch [vocab] */
	uint32_t *order;             /* scratch [vocab]; see octavo_law */
};
OCTAVO_API const double *octavo_scored_law(void *scored, size_t row);

/* Greedy acceptance: match with octavo_argmax of logits[row * ld + 0 .. vocab) as the target's token.  EINVAL also for
 * ld below vocab; ENUMERIC for a row with a NaN, or whose best logit is not finite. */
OCTAVO_API enum octavo_status octavo_accept_greedy(const struct octavo_draft *draft, const float *logits, size_t ld,
                                                   size_t vocab, struct octavo_outcome *out);

/* The target's token for a row; negative means failure and is passed on as ENUMERIC. */
typedef int32_t octavo_choose_fn(void *context, size_t row);

/* What `greedy` and `match` are: the walk along the tokens that `choose` names. */
OCTAVO_API enum octavo_status octavo_accept_walk(const struct octavo_draft *draft, octavo_choose_fn *choose,
                                                 void *context, struct octavo_outcome *out);

/* ---- Acceptance: from some tokens' logits ------------------------------------------------------------- */

/* `candidates`, LOSSY: match where the model's head was evaluated for a few tokens alone, those that the drafter held
 * likely, and for all of them only behind rows where the best of the few is unsure.  Behind a row, with both
 * softmaxes at temperature 1 whatever the sampling parameters are, let
 *     q  be what the drafter's law holds of its own K likeliest tokens there,
 *     p  the share of the best candidate in the softmax of the model's logits over all candidates.
 * The best is worth q * p: its probability in the model's eyes, if the model leaves as much to all other tokens as the
 * drafter does.  From `sure` on, the next token is drawn from the candidates by the sampling parameters, with the
 * numbers that plain decoding would take; else, or if the drafter has no law there, from all tokens.  If every
 * token is a candidate it is match, bit for bit. */
struct octavo_shortlist {
	unsigned most; /* K: so many tokens of each of the drafter's laws; candidates are those of all rows, and the draft */
	double sure;   /* in (0, 1]; 0: OCTAVO_USUAL_SURE */
};
#define OCTAVO_USUAL_SURE 0.5 /* likelier than all other tokens together */

struct octavo_screened_row {
	double mass;      /* q, in [0, 1]; 0: there is no law */
	const float *few; /* [count] the model's logits of the candidates, in their order; NULL if mass is 0 */
	const float *all; /* [vocab] those of all tokens; NULL: not known, and not needed while the candidates decide */
};

struct octavo_screened {
	size_t vocab;
	const int32_t *token; /* [count] the candidates, ascending */
	size_t count;
	const struct octavo_screened_row *row; /* [rows of the draft] */
	double sure;                            /* as in octavo_shortlist */
	const struct octavo_sampling *sampling; /* neither bias nor penalties, which would look at other tokens */
	octavo_pick_fn *pick; /* the law it gets is over all tokens; where the candidates decide, others have no mass */
	void *pick_context;
	uint32_t position; /* of the root's next token */
	double *law;       /* scratch [vocab] */
	uint32_t *order;   /* scratch [vocab]; needed only with top_k and top_p */
};

/* q * p; 0 if there is no law or a logit is no number. */
OCTAVO_API double octavo_screened_worth(const struct octavo_screened *screened, size_t row);
/* Whether that is enough. */
OCTAVO_API int octavo_screened_decides(const struct octavo_screened *screened, size_t row);
/* Walks as far as the candidates decide.  *unsure is the row behind which all logits are needed: give them and
 * call again, the walk begins anew and takes the same way.  If it is draft->rows the walk has ended and *out is
 * the outcome.  EINVAL as all rules, also for candidates that do not ascend or are outside the vocabulary, and for
 * parameters that do not fit. */
OCTAVO_API enum octavo_status octavo_accept_candidates(const struct octavo_draft *draft,
                                                       const struct octavo_screened *screened,
                                                       struct octavo_outcome *out, size_t *unsure);

#ifdef __cplusplus
}
#endif
#endif
