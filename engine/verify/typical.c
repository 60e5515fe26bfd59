/* SPDX-License-Identifier: Apache-2.0
 *
 * Typical acceptance: Cai et al., Medusa, arXiv 2401.10774, section 2.3.1.  LOSSY: what it keeps depends on the draft.
 */
#include "engine/verify/law.h"

#include "kernels/fpenv.h"

#include <math.h>

/* The paths kept so far. */
struct paths {
	double log_mass[OCTAVO_MAX_DRAFT]; /* sum of log p along the path; of refused rows NAN */
	uint32_t depth[OCTAVO_MAX_DRAFT];
	size_t best;
};

static double entropy(const struct octavo_mass *p, size_t vocab)
{
	double h = 0.0;
	for (size_t i = 0; i < vocab; i++)
		if (p->law[i] > 0.0)
			h -= p->law[i] / p->sum * log(p->law[i] / p->sum);
	return h;
}

/* Decides the children of a kept row. */
static enum octavo_status try_children(const struct octavo_draft *draft, const struct octavo_judge *judge, size_t row,
                                       struct paths *paths)
{
	struct octavo_mass p;
	double least = 0.0, epsilon = judge->epsilon > 0.0 ? judge->epsilon : 0.09;
	double delta = judge->delta > 0.0 ? judge->delta : 0.3;
	p.law = NULL;
	for (size_t child = row + 1; child < draft->rows; child++) {
		if ((size_t)draft->parent[child] != row)
			continue;
		if (!p.law) {
			enum octavo_status status = octavo_judge_target(judge, row, &p);
			if (status != OCTAVO_OK)
				return status;
			least = fmin(epsilon, delta * exp(-entropy(&p, judge->vocab)));
		}
		double mass = p.law[draft->token[child]] / p.sum;
		if (!(mass > least))
			continue;
		paths->log_mass[child] = paths->log_mass[row] + log(mass);
		paths->depth[child] = paths->depth[row] + 1;
		size_t best = paths->best;
		if (paths->depth[child] > paths->depth[best] ||
		    (paths->depth[child] == paths->depth[best] && paths->log_mass[child] > paths->log_mass[best]))
			paths->best = child;
	}
	return OCTAVO_OK;
}

enum octavo_status octavo_accept_typical(const struct octavo_draft *draft, const struct octavo_judge *judge,
                                         struct octavo_outcome *out)
{
	struct paths paths = { .best = 0 };
	struct octavo_mass p;
	enum octavo_status status = octavo_judge_check(draft, judge, 0, out);
	if (status != OCTAVO_OK)
		return status;
	octavo_fpenv saved = octavo_fpenv_enter();
	for (size_t row = 1; row < draft->rows; row++)
		paths.log_mass[row] = NAN;
	for (size_t row = 0; status == OCTAVO_OK && row < draft->rows; row++)
		if (!isnan(paths.log_mass[row]))
			status = try_children(draft, judge, row, &paths);
	if (status == OCTAVO_OK)
		status = octavo_judge_target(judge, paths.best, &p);
	if (status == OCTAVO_OK) {
		out->accepted = paths.depth[paths.best];
		size_t row = paths.best;
		for (size_t i = out->accepted; i--; row = (size_t)draft->parent[row])
			out->path[i] = (uint32_t)row;
		out->next = octavo_judge_next(draft, judge, paths.best, p.law);
		status = out->next < 0 ? OCTAVO_ENUMERIC : OCTAVO_OK;
	}
	octavo_fpenv_leave(saved);
	return status;
}
