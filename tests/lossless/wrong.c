/* SPDX-License-Identifier: Apache-2.0
 *
 * Rules with one defect each: what the exact enumeration must notice.  Without a defect they are right, which shows
 * that it is the defect that is noticed.
 */
#include "tests/lossless/trial.h"

#include <math.h>
#include <string.h>

enum defect {
#define WRONG_NAME(name, what, kind) name,
	WRONG_RULES(WRONG_NAME)
#undef WRONG_NAME
};

static void normalise(double *law, size_t n)
{
	double sum = 0.0;
	for (size_t i = 0; i < n; i++)
		sum += law[i];
	for (size_t i = 0; i < n && sum > 0.0; i++)
		law[i] /= sum;
}

static double target(const struct octavo_judge *j, size_t row, double *p)
{
	memcpy(p, j->target(j->target_context, row), j->vocab * sizeof *p);
	normalise(p, j->vocab);
	return 1.0;
}

/* q of the child, one-hot where it was chosen, without its elder siblings' tokens where drawn so. */
static void drafted(const struct octavo_draft *draft, const struct octavo_judge *j, size_t child, double *q)
{
	const double *law = j->drafted(j->drafted_context, child);
	for (size_t i = 0; i < j->vocab; i++)
		q[i] = law ? law[i] : (size_t)draft->token[child] == i;
	for (size_t row = 1; law && j->siblings == OCTAVO_WITHOUT_REPLACEMENT && row < child; row++)
		if (draft->parent[row] == draft->parent[child])
			q[draft->token[row]] = 0.0;
	normalise(q, j->vocab);
}

static size_t best_of(const double *law, size_t n)
{
	size_t best = 0;
	for (size_t i = 1; i < n; i++)
		best = law[i] > law[best] ? i : best;
	return best;
}

static int keeps(enum defect defect, const struct octavo_draft *draft, const struct octavo_judge *j, size_t child,
                 const double *p, const double *q)
{
	size_t x = (size_t)draft->token[child];
	double odds = defect == RATIO_INVERTED ? q[x] / p[x] : p[x] / q[x];
	if (defect == FIRST_UNVERIFIED && child == 1)
		return 1;
	if (defect == ARGMAX)
		return x == best_of(p, j->vocab);
	if (defect == REDRAWN) /* sample-and-match, but for what follows a mismatch */
		return (size_t)j->pick(j->pick_context, j->position, OCTAVO_DRAW_ACCEPT, (uint32_t)child, p, j->vocab) == x;
	const double outcome[2] = { fmin(odds, 1.0), 1.0 - fmin(odds, 1.0) };
	return j->pick(j->pick_context, j->position, OCTAVO_DRAW_ACCEPT, (uint32_t)child, outcome, 2) == 0;
}

static void refuse(enum defect defect, const struct octavo_judge *j, size_t x, int chosen, double *p, const double *q)
{
	if (defect == NO_RESIDUAL || defect == REDRAWN || defect == ARGMAX || (defect == CHOSEN_NOT_STRUCK && chosen))
		return;
	for (size_t i = 0; i < j->vocab; i++) {
		double left = p[i] - q[i];
		p[i] = defect == RESIDUAL_MIRRORED ? fabs(left) : left > 1e-15 ? left : 0.0;
	}
	if (chosen)
		p[x] = 0.0;
	if (defect != P_UNNORMALISED)
		normalise(p, j->vocab);
}

static enum octavo_status rounds(enum defect defect, const struct octavo_draft *draft, const struct octavo_judge *j,
                                 struct octavo_outcome *out)
{
	double first[MOST_VOCAB], p[MOST_VOCAB], q[MOST_VOCAB];
	size_t at = 0;
	out->accepted = 0;
	for (size_t child = 1;; child++) {
		if (child == at + 1) {
			target(j, at, first);
			memcpy(p, first, sizeof p);
		}
		if (child == draft->rows)
			break;
		if ((size_t)draft->parent[child] != at)
			continue;
		drafted(draft, j, child, q);
		if (keeps(defect, draft, j, child, defect == P_STALE ? first : p, q)) {
			out->path[out->accepted++] = (uint32_t)child;
			at = child;
			continue;
		}
		int chosen = !j->drafted(j->drafted_context, child);
		refuse(defect, j, (size_t)draft->token[child], chosen, p, q);
	}
	if (defect == BONUS_STALE && at && at == draft->rows - 1)
		target(j, at - 1, p);
	out->next = defect == ARGMAX ? (int32_t)best_of(p, j->vocab)
	                             : j->pick(j->pick_context, j->position, OCTAVO_DRAW_RESIDUAL, (uint32_t)at, p, j->vocab);
	return out->next < 0 ? OCTAVO_ENUMERIC : OCTAVO_OK;
}

/* ---- Block verification ------------------------------------------------------------------------------------------ */

static double residual(enum defect defect, const struct octavo_judge *j, double weight, const double *p, const double *q,
                       double *rest)
{
	double sum = 0.0;
	for (size_t i = 0; i < j->vocab; i++) {
		rest[i] = fmax((defect == BLOCK_PLAIN_RESIDUAL ? 1.0 : weight) * p[i] - q[i], 0.0);
		sum += fmax(weight * p[i] - q[i], 0.0);
	}
	return sum;
}

static enum octavo_status block(enum defect defect, const struct octavo_draft *draft, const struct octavo_judge *j,
                                struct octavo_outcome *out)
{
	double p[MOST_ROWS][MOST_VOCAB], rest[MOST_ROWS][MOST_VOCAB], q[MOST_VOCAB], weight = 1.0;
	size_t last = draft->rows - 1;
	int open = 1;
	out->accepted = 0;
	for (size_t i = 0; i <= last; i++) {
		target(j, i, p[i]);
		memcpy(rest[i], p[i], sizeof rest[i]);
		double h = weight;
		if (i < last) {
			drafted(draft, j, i + 1, q);
			double surplus = residual(defect, j, weight, p[i], q, rest[i]);
			double formula = surplus + 1.0 - weight > 0.0 ? surplus / (surplus + 1.0 - weight) : 1.0;
			h = defect == BLOCK_WEIGHT_ONLY ? weight : formula;
		} else if (defect == BLOCK_LAST_BY_SURPLUS) {
			h = weight / (weight + 1.0 - weight * weight);
		}
		const double outcome[2] = { fmin(h, 1.0), fmax(1.0 - h, 0.0) };
		if (i && open) {
			int kept = j->pick(j->pick_context, j->position, OCTAVO_DRAW_ACCEPT, (uint32_t)i, outcome, 2) == 0;
			out->accepted = kept ? i : out->accepted;
			open = kept || defect != BLOCK_SMALLEST;
		}
		if (i < last) {
			weight *= p[i][draft->token[i + 1]] / q[draft->token[i + 1]];
			weight = defect == BLOCK_UNCAPPED ? weight : fmin(weight, 1.0);
		}
	}
	for (size_t i = 0; i < out->accepted; i++)
		out->path[i] = (uint32_t)i + 1;
	normalise(rest[out->accepted], j->vocab);
	out->next = j->pick(j->pick_context, j->position, OCTAVO_DRAW_RESIDUAL, (uint32_t)out->accepted,
	                    rest[out->accepted], j->vocab);
	return out->next < 0 ? OCTAVO_ENUMERIC : OCTAVO_OK;
}

#define ROUNDS rounds
#define BLOCK block
#define WRONG_DEFINE(name, what, kind)                                                                                 \
	enum octavo_status wrong_##name(const struct octavo_draft *draft, const struct octavo_judge *judge,            \
	                                struct octavo_outcome *out)                                                    \
	{                                                                                                              \
		return kind(name, draft, judge, out);                                                                  \
	}
WRONG_RULES(WRONG_DEFINE)
