/* SPDX-License-Identifier: Apache-2.0
 *
 * Rejection sampling with residual, for one child per row (speculative sampling) or several (multi-round).
 *
 * Why it is exact: a child x ~ q is kept with min(1, p(x) / q(x)), so keeping emits min(p, q); refusing happens with
 * probability 1 - sum min(p, q) = sum max(p - q, 0), and what is left to emit is max(p - q, 0), the residual.  It takes
 * p's place for the next child, whose q must be the law of that child given its earlier siblings.
 */
#include "engine/verify/law.h"

#include "kernels/fpenv.h"

#include <string.h>

/* q of a child given its earlier siblings: without replacement, the drafter's law with their tokens struck out. */
static enum octavo_status propose(const struct octavo_draft *draft, const struct octavo_judge *judge, size_t child,
                                  struct octavo_mass *q)
{
	size_t siblings = 0, parent = (size_t)draft->parent[child];
	enum octavo_status status = octavo_judge_drafted(draft, judge, child, q);
	if (status != OCTAVO_OK || !q->law || judge->siblings == OCTAVO_WITH_REPLACEMENT)
		return status;
	double *left = judge->scratch + judge->vocab;
	for (size_t row = parent + 1; row < child; row++) {
		if ((size_t)draft->parent[row] != parent)
			continue;
		if (!siblings++)
			memcpy(left, q->law, judge->vocab * sizeof *left);
		left[draft->token[row]] = 0.0;
	}
	if (!siblings)
		return OCTAVO_OK;
	q->law = left;
	q->sum = 0.0;
	for (size_t i = 0; i < judge->vocab; i++)
		q->sum += left[i];
	return left[draft->token[child]] > 0.0 ? OCTAVO_OK : OCTAVO_EINVAL; /* drawn twice, or never */
}

/* p = max(p - q, 0), to scratch, both normalised.  Where p equals q up to rounding nothing is left: p stays as it
 * is. */
static void refuse(const struct octavo_judge *judge, size_t token, const struct octavo_mass *q, struct octavo_mass *p)
{
	double *rest = judge->scratch, sum = 0.0;
	for (size_t i = 0; !q->law && i < judge->vocab; i++)
		sum += i == token ? 0.0 : p->law[i];
	for (size_t i = 0; q->law && i < judge->vocab; i++) {
		double left = p->law[i] / p->sum - q->law[i] / q->sum;
		sum += left > 0.0 ? left : 0.0;
	}
	if (!(sum > 0.0))
		return;
	for (size_t i = 0; i < judge->vocab; i++) {
		double left = q->law ? p->law[i] / p->sum - q->law[i] / q->sum : i == token ? 0.0 : p->law[i];
		rest[i] = left > 0.0 ? left : 0.0;
	}
	*p = (struct octavo_mass){ rest, sum };
}

/* Whether the child is kept; if not, p becomes what is left of it. */
static enum octavo_status try_child(const struct octavo_draft *draft, const struct octavo_judge *judge, size_t child,
                                    struct octavo_mass *p, int *kept)
{
	struct octavo_mass q;
	size_t token = (size_t)draft->token[child];
	enum octavo_status status = propose(draft, judge, child, &q);
	if (status != OCTAVO_OK)
		return status;
	double wanted = p->law[token] / p->sum, offered = q.law ? q.law[token] / q.sum : 1.0;
	double keep = wanted < offered ? wanted : offered;
	*kept = octavo_judge_keeps(judge, child, keep, offered - keep);
	if (!*kept)
		refuse(judge, token, &q, p);
	return OCTAVO_OK;
}

/* One row: descends to the child that is kept, or picks the next token. */
static enum octavo_status descend(const struct octavo_draft *draft, const struct octavo_judge *judge, size_t *at,
                                  int *more, struct octavo_outcome *out)
{
	struct octavo_mass p;
	size_t refused = 0, row = *at;
	enum octavo_status status = octavo_judge_target(judge, row, &p);
	for (size_t child = row + 1; status == OCTAVO_OK && child < draft->rows; child++) {
		if ((size_t)draft->parent[child] != row)
			continue;
		status = try_child(draft, judge, child, &p, more);
		if (status == OCTAVO_OK && *more) {
			out->path[out->accepted++] = (uint32_t)child;
			*at = child;
			return OCTAVO_OK;
		}
		refused++;
	}
	*more = 0;
	if (status != OCTAVO_OK)
		return status;
	out->next = refused ? judge->pick(judge->pick_context, judge->position, OCTAVO_DRAW_RESIDUAL, (uint32_t)row,
	                                  p.law, judge->vocab)
	                    : octavo_judge_next(draft, judge, row, p.law);
	return out->next < 0 ? OCTAVO_ENUMERIC : OCTAVO_OK;
}

static enum octavo_status judge_rows(const struct octavo_draft *draft, const struct octavo_judge *judge, int chain,
                                     struct octavo_outcome *out)
{
	enum octavo_status status = octavo_judge_check(draft, judge, chain, out);
	if (status == OCTAVO_OK && !judge->scratch)
		status = OCTAVO_EINVAL;
	if (status != OCTAVO_OK)
		return status;
	octavo_fpenv saved = octavo_fpenv_enter();
	out->accepted = 0;
	for (size_t at = 0, more = 1; status == OCTAVO_OK && more;) {
		int kept = 0;
		status = descend(draft, judge, &at, &kept, out);
		more = kept != 0;
	}
	octavo_fpenv_leave(saved);
	return status;
}

enum octavo_status octavo_accept_multiround(const struct octavo_draft *draft, const struct octavo_judge *judge,
                                            struct octavo_outcome *out)
{
	return judge_rows(draft, judge, 0, out);
}

enum octavo_status octavo_accept_rejection(const struct octavo_draft *draft, const struct octavo_judge *judge,
                                           struct octavo_outcome *out)
{
	return judge_rows(draft, judge, 1, out);
}
