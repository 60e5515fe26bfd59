/* SPDX-License-Identifier: Apache-2.0
 *
 * What the rules ask of their caller, checked: drafts, laws and choices.
 */
#include "engine/verify/law.h"

int octavo_draft_is_sound(const struct octavo_draft *draft)
{
	if (!draft || !draft->rows || draft->rows > OCTAVO_MAX_DRAFT || !draft->token || !draft->parent)
		return 0;
	for (size_t row = 1; row < draft->rows; row++)
		if (draft->parent[row] < 0 || (size_t)draft->parent[row] >= row)
			return 0;
	return 1;
}

enum octavo_status octavo_judge_check(const struct octavo_draft *draft, const struct octavo_judge *judge, int chain,
                                      const struct octavo_outcome *out)
{
	if (!octavo_draft_is_sound(draft) || !judge || !judge->target || !judge->vocab || !judge->pick || !out)
		return OCTAVO_EINVAL;
	for (size_t row = 1; row < draft->rows; row++) {
		if (draft->token[row] < 0 || (size_t)draft->token[row] >= judge->vocab)
			return OCTAVO_EINVAL;
		if (chain && (size_t)draft->parent[row] != row - 1)
			return OCTAVO_EINVAL;
	}
	return OCTAVO_OK;
}

/* The sum of a law; negative if an entry is none. */
static double sum_of(const double *law, size_t vocab)
{
	double sum = 0.0;
	for (size_t i = 0; i < vocab; i++) {
		if (!(law[i] >= 0.0)) /* NaN too */
			return -1.0;
		sum += law[i];
	}
	return sum;
}

static enum octavo_status weigh(struct octavo_mass *m, size_t vocab)
{
	m->sum = sum_of(m->law, vocab);
	return m->sum > 0.0 && m->sum <= 0x1p1000 ? OCTAVO_OK : OCTAVO_ENUMERIC;
}

enum octavo_status octavo_judge_target(const struct octavo_judge *judge, size_t row, struct octavo_mass *p)
{
	p->law = judge->target(judge->target_context, row);
	return p->law ? weigh(p, judge->vocab) : OCTAVO_ENUMERIC;
}

enum octavo_status octavo_judge_drafted(const struct octavo_draft *draft, const struct octavo_judge *judge, size_t row,
                                        struct octavo_mass *q)
{
	q->law = judge->drafted ? judge->drafted(judge->drafted_context, row) : NULL;
	q->sum = 1.0;
	if (!q->law)
		return OCTAVO_OK;
	enum octavo_status status = weigh(q, judge->vocab);
	if (status == OCTAVO_OK && !(q->law[draft->token[row]] > 0.0))
		return OCTAVO_EINVAL; /* a q that is not the one of this draw */
	return status;
}

int32_t octavo_judge_next(const struct octavo_draft *draft, const struct octavo_judge *judge, size_t row,
                          const double *p)
{
	return judge->pick(judge->pick_context, judge->position + octavo_depth(draft, row), OCTAVO_DRAW_TARGET, 0, p,
	                   judge->vocab);
}

int octavo_judge_keeps(const struct octavo_judge *judge, size_t row, double keep, double refuse)
{
	const double outcome[2] = { keep > 0.0 ? keep : 0.0, refuse > 0.0 ? refuse : 0.0 };
	return judge->pick(judge->pick_context, judge->position, OCTAVO_DRAW_ACCEPT, (uint32_t)row, outcome, 2) == 0;
}

const double *octavo_scored_law(void *scored, size_t row)
{
	struct octavo_scored *s = scored;
	if (!s || !s->logits || s->ld < s->vocab)
		return NULL;
	s->prefix.row = row;
	enum octavo_status status =
		octavo_law(s->sampling, &s->prefix, s->logits + row * s->ld, s->vocab, s->law, s->order);
	return status == OCTAVO_OK ? s->law : NULL;
}
