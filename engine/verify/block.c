/* SPDX-License-Identifier: Apache-2.0
 *
 * Block verification: Sun et al., Block Verification Accelerates Speculative Decoding, arXiv 2403.10444.
 *
 *     w_0 = 1, w_i = min(1, w_{i-1} p_i(x_i) / q_i(x_i))
 *     z_i = sum max(w_i p_{i+1} - q_{i+1}, 0), h_i = z_i / (z_i + 1 - w_i) for i < n, h_n = w_n
 *
 * Each length i is kept with probability h_i, the largest kept one wins; then the next token comes from
 * max(w_i p_{i+1} - q_{i+1}, 0), or from p_{n+1} after the whole draft.
 */
#include "engine/verify/law.h"

#include "kernels/fpenv.h"

struct block {
	double weight[OCTAVO_MAX_DRAFT];  /* w_i */
	double surplus[OCTAVO_MAX_DRAFT]; /* z_i; not of the last */
};

/* The laws of the token of `row` + 1: what the target and what the drafter made it from. */
static enum octavo_status laws_after(const struct octavo_draft *draft, const struct octavo_judge *judge, size_t row,
                                     struct octavo_mass *p, struct octavo_mass *q)
{
	enum octavo_status status = octavo_judge_target(judge, row, p);
	return status == OCTAVO_OK ? octavo_judge_drafted(draft, judge, row + 1, q) : status;
}

static double surplus_at(double weight, const struct octavo_mass *p, const struct octavo_mass *q, size_t chosen, size_t i)
{
	double drafted = q->law ? q->law[i] / q->sum : i == chosen ? 1.0 : 0.0;
	double left = weight * (p->law[i] / p->sum) - drafted;
	return left > 0.0 ? left : 0.0;
}

static enum octavo_status weigh_rows(const struct octavo_draft *draft, const struct octavo_judge *judge, struct block *b)
{
	struct octavo_mass p, q;
	b->weight[0] = 1.0;
	for (size_t row = 0; row + 1 < draft->rows; row++) {
		size_t token = (size_t)draft->token[row + 1];
		enum octavo_status status = laws_after(draft, judge, row, &p, &q);
		if (status != OCTAVO_OK)
			return status;
		b->surplus[row] = 0.0;
		for (size_t i = 0; i < judge->vocab; i++)
			b->surplus[row] += surplus_at(b->weight[row], &p, &q, token, i);
		double wanted = b->weight[row] * (p.law[token] / p.sum), offered = q.law ? q.law[token] / q.sum : 1.0;
		b->weight[row + 1] = wanted < offered ? wanted / offered : 1.0;
	}
	return OCTAVO_OK;
}

/* The largest length whose test succeeds.  Where p equals q up to rounding neither outcome has mass: kept. */
static size_t keep(const struct octavo_draft *draft, const struct octavo_judge *judge, const struct block *b)
{
	size_t last = draft->rows - 1;
	for (size_t i = last; i; i--) {
		double keep = i == last ? b->weight[i] : b->surplus[i], refuse = 1.0 - b->weight[i];
		if (!(keep > 0.0 || refuse > 0.0) || octavo_judge_keeps(judge, i, keep, refuse))
			return i;
	}
	return 0;
}

static enum octavo_status next_token(const struct octavo_draft *draft, const struct octavo_judge *judge,
                                     const struct block *b, struct octavo_outcome *out)
{
	struct octavo_mass p, q;
	size_t row = out->accepted;
	enum octavo_status status = row + 1 == draft->rows ? octavo_judge_target(judge, row, &p)
	                                                   : laws_after(draft, judge, row, &p, &q);
	if (status != OCTAVO_OK)
		return status;
	if (row + 1 == draft->rows || !(b->surplus[row] > 0.0)) {
		out->next = octavo_judge_next(draft, judge, row, p.law);
	} else {
		for (size_t i = 0; i < judge->vocab; i++)
			judge->scratch[i] = surplus_at(b->weight[row], &p, &q, (size_t)draft->token[row + 1], i);
		out->next = judge->pick(judge->pick_context, judge->position, OCTAVO_DRAW_RESIDUAL, (uint32_t)row,
		                        judge->scratch, judge->vocab);
	}
	return out->next < 0 ? OCTAVO_ENUMERIC : OCTAVO_OK;
}

enum octavo_status octavo_accept_block(const struct octavo_draft *draft, const struct octavo_judge *judge,
                                       struct octavo_outcome *out)
{
	struct block b;
	enum octavo_status status = octavo_judge_check(draft, judge, 1, out);
	if (status != OCTAVO_OK || !judge->scratch)
		return OCTAVO_EINVAL;
	octavo_fpenv saved = octavo_fpenv_enter();
	status = weigh_rows(draft, judge, &b);
	if (status == OCTAVO_OK) {
		out->accepted = keep(draft, judge, &b);
		for (size_t i = 0; i < out->accepted; i++)
			out->path[i] = (uint32_t)i + 1;
		status = next_token(draft, judge, &b, out);
	}
	octavo_fpenv_leave(saved);
	return status;
}
