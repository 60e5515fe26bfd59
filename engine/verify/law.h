/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of this room share.
 */
#ifndef OCTAVO_LAW_H
#define OCTAVO_LAW_H

#include "octavo_verify.h"

/* Whether a law needs the tokens in order of their mass. */
static inline int octavo_law_truncates(const struct octavo_sampling *s, size_t vocab)
{
	return (s->top_k && s->top_k < vocab) || (s->top_p > 0.0f && s->top_p < 1.0f);
}

/* Whether it looks at the prefix. */
static inline int octavo_law_penalises(const struct octavo_sampling *s)
{
	return (s->repetition != 0.0f && s->repetition != 1.0f) || s->frequency != 0.0f || s->presence != 0.0f;
}

/* Whether the law is all on the logits' argmax. */
static inline int octavo_law_is_argmax(const struct octavo_sampling *s)
{
	return s->temperature == 0.0f && !s->biases && !octavo_law_penalises(s);
}

/* adjust.c: adjusted[vocab] = the logits, each a float, after bias and penalties.  order[vocab] is scratch, used by
 * penalties only. */
void octavo_adjust(const struct octavo_sampling *s, const struct octavo_prefix *prefix, const float *logits,
                   size_t vocab, double *adjusted, uint32_t *order);

/* Depth of a draft's row below the root. */
static inline uint32_t octavo_depth(const struct octavo_draft *draft, size_t row)
{
	uint32_t depth = 0;
	for (; row; row = (size_t)draft->parent[row])
		depth++;
	return depth;
}

/* judge.c: whether rows and parents are what they must be. */
int octavo_draft_is_sound(const struct octavo_draft *draft);
/* EINVAL as octavo_verify.h says it of all rules; with `chain`, for a tree too. */
enum octavo_status octavo_judge_check(const struct octavo_draft *draft, const struct octavo_judge *judge, int chain,
                                      const struct octavo_outcome *out);

/* A law that passed its checks. */
struct octavo_mass {
	const double *law; /* NULL: for q, the token was chosen */
	double sum;
};
enum octavo_status octavo_judge_target(const struct octavo_judge *judge, size_t row, struct octavo_mass *p);
/* q of the token of `row`, whose token it must be able to give. */
enum octavo_status octavo_judge_drafted(const struct octavo_draft *draft, const struct octavo_judge *judge, size_t row,
                                        struct octavo_mass *q);
/* The token after `row` from p, with the numbers plain decoding would take. */
int32_t octavo_judge_next(const struct octavo_draft *draft, const struct octavo_judge *judge, size_t row,
                          const double *p);
/* Whether the row on trial is kept, with probability keep / (keep + refuse). */
int octavo_judge_keeps(const struct octavo_judge *judge, size_t row, double keep, double refuse);

#endif
