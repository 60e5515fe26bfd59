/* SPDX-License-Identifier: Apache-2.0
 *
 * Acceptance: which drafted tokens the target model keeps, and the random numbers and laws behind it.
 * Pure functions, part of liboctavo-kernels; any engine can use them with its own logits.
 *
 * Losslessness here means equality of streams: the token at a position is a function of the logits, the
 * sampling parameters and one keyed random number of that position, so it is the same token whether it was
 * decoded alone or accepted out of a draft.
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
 * draw depends on these alone, never on rounds or on how many rows were scored together. */
enum octavo_purpose { OCTAVO_DRAW_TARGET, OCTAVO_DRAW_DRAFT, OCTAVO_DRAW_ACCEPT, OCTAVO_DRAW_RESIDUAL };

struct octavo_stream {
	uint64_t seed;
	uint64_t stream; /* one per sequence, chosen by the caller */
};

/* Uniform in [0, 1), 53 bits.  index < 2^24. */
OCTAVO_API double octavo_draw(const struct octavo_stream *stream, uint32_t position, enum octavo_purpose purpose,
                              uint32_t index);

/* ---- Sampling ---------------------------------------------------------------------------------- */

/* Applied in this order: temperature, top-k, top-p, min-p.  Zero-initialised: greedy. */
struct octavo_sampling {
	float temperature; /* 0: the law is the argmax, lowest id on ties; otherwise > 0 and finite */
	uint32_t top_k;    /* 0: off */
	float top_p;       /* 0 or 1: off; otherwise in (0, 1): the smallest set of best tokens with that mass */
	float min_p;       /* 0: off; in (0, 1): drop tokens below min_p times the best */
};

/* EINVAL with a reason naming the field for values outside the ranges above. */
OCTAVO_API enum octavo_status octavo_sampling_check(const struct octavo_sampling *s, struct octavo_error *error);

/* The lowest id among the largest of logits[vocab]; -1 if any is NaN. */
OCTAVO_API int32_t octavo_argmax(const float *logits, size_t vocab);

/* law[vocab] = the probabilities that `s` makes of logits[vocab] (sum 1 up to rounding; exp in the
 * arithmetic contract's polynomial, sums in double in id order).  order[vocab] is scratch, needed only with
 * top_k or top_p.  EINVAL without it there; ENUMERIC for a NaN or +infinity among the logits or if all are -infinity. */
OCTAVO_API enum octavo_status octavo_law(const struct octavo_sampling *s, const float *logits, size_t vocab,
                                         double *law, uint32_t *order);

/* The token at quantile u in [0, 1) of an unnormalised law, ids ascending; never a token of zero mass. */
OCTAVO_API int32_t octavo_quantile(const double *law, size_t vocab, double u);

/* ---- Acceptance -------------------------------------------------------------------------------- */

/* A draft: row 0 is the root, the last committed token; parent[row] < row; siblings have distinct tokens.
 * A chain has parent[row] = row - 1. */
struct octavo_draft {
	size_t rows;
	const int32_t *token;  /* [rows] */
	const int32_t *parent; /* [rows]; parent[0] is ignored */
};

struct octavo_outcome {
	size_t accepted;                     /* drafted rows kept */
	uint32_t path[OCTAVO_MAX_DRAFT];     /* their row numbers, from the root's child down */
	int32_t next;                        /* the target's own token after the last kept row */
};

/* The target's token for a row; negative means failure and is passed on as ENUMERIC. */
typedef int32_t octavo_choose_fn(void *context, size_t row);

/* Sample-and-match: at the root, then at each kept row, take the target's token; keep the child that carries
 * it, or stop.  `greedy` and `match` are this walk with different choosers. */
OCTAVO_API enum octavo_status octavo_accept_walk(const struct octavo_draft *draft, octavo_choose_fn *choose,
                                                 void *context, struct octavo_outcome *out);

/* Greedy acceptance: the chooser is octavo_argmax of logits[row * ld + 0 .. vocab).  This and the next: EINVAL for
 * null pointers, ld below vocab, or a draft of no or more than OCTAVO_MAX_DRAFT rows or with a parent that is not an
 * earlier row; ENUMERIC for a row without a law: a NaN, or a best logit that is not finite. */
OCTAVO_API enum octavo_status octavo_accept_greedy(const struct octavo_draft *draft, const float *logits, size_t ld,
                                                   size_t vocab, struct octavo_outcome *out);

/* `match`: the chooser draws from octavo_law with the TARGET number of the row's next position;
 * `position` is that of the root's next token.  law and order are scratch of `vocab` elements. */
OCTAVO_API enum octavo_status octavo_accept_match(const struct octavo_draft *draft, const float *logits, size_t ld,
                                                  size_t vocab, const struct octavo_sampling *sampling,
                                                  const struct octavo_stream *stream, uint32_t position,
                                                  double *law, uint32_t *order, struct octavo_outcome *out);

#ifdef __cplusplus
}
#endif
#endif
