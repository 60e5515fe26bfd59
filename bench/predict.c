/* SPDX-License-Identifier: Apache-2.0
 *
 * Is the speed-up understood?  With times in forwards of a single row, T(1), a step of a run emits tau tokens and costs
 *     draft + verify + accept,
 * and plain decoding's step, of one row, emits one and costs 1 + its own accept (with sequences side by side: as many
 * as there are, for r of them) (Leviathan et al., arXiv 2211.17192, theorem 3.8, with a measured price for the rows of
 * a verification in place of 1).  All terms come from the even prompts; the quotient is compared with what the odd
 * prompts took.  Beside verify stands what the cost curve, from which -k auto chooses, says of the same numbers of
 * rows: it is measured over one piece of text, forwards of each size by themselves.
 */
#include "bench/runs.h"

#include <math.h>

struct terms {
	double tau, draft, verify, accept;
	double plain_tau, plain; /* plain decoding's tokens per step, and what a step costs */
};

/* The mean of r(rows) over the steps. */
static double from_curve(const struct octavo_cost *cost, const struct half *h)
{
	double sum = 0.0;
	for (size_t rows = 1; rows <= MAX_ROWS; rows++)
		if (h->rows[rows])
			sum += (double)h->rows[rows] * (octavo_cost_at(cost, rows) / cost->ns[0]);
	return sum / (double)h->steps;
}

/* From one half of the prompts; verify as it was timed. */
static struct terms measure(const struct octavo_cost *cost, const struct run *run, const struct run *plain,
                            size_t which)
{
	const struct half *h = &run->half[which], *p = &plain->half[which];
	double plain_rows = from_curve(cost, p), steps = (double)h->steps;
	double one = p->verify_ns / (double)p->steps / plain_rows; /* forward of one row, as plain decoding shows it */
	return (struct terms){
		.tau = (double)h->tokens / steps,
		.draft = h->draft_ns / steps / one,
		.verify = h->verify_ns / steps / one,
		.accept = (h->ns - h->draft_ns - h->verify_ns) / steps / one,
		.plain_tau = (double)p->tokens / (double)p->steps,
		.plain = plain_rows + (p->ns - p->verify_ns) / (double)p->steps / one,
	};
}

/* A run's step against plain decoding's step. */
static double speedup(const struct terms *t)
{
	return t->tau / (t->draft + t->verify + t->accept) / (t->plain_tau / t->plain);
}

/* The term whose true value, put in alone, brings the prediction nearest to the measurement. */
static const char *blame(const struct terms *predicted, const struct terms *measured, double truth)
{
	struct terms t[4] = { *predicted, *predicted, *predicted, *predicted };
	static const char *const names[4] = { "tokens per step", "draft", "verify", "accept" };
	size_t best = 0;
	t[0].tau = measured->tau;
	t[0].plain_tau = measured->plain_tau;
	t[1].draft = measured->draft;
	t[2].verify = measured->verify;
	t[3].accept = measured->accept;
	t[3].plain = measured->plain;
	for (size_t i = 1; i < 4; i++)
		if (fabs(log(speedup(&t[i]) / truth)) < fabs(log(speedup(&t[best]) / truth)))
			best = i;
	return names[best];
}

struct prediction predict(const struct octavo_cost *cost, const struct run *run, const struct run *plain)
{
	struct prediction p = { 0 };
	for (size_t i = 0; i < 2; i++)
		if (!run->half[i].steps || !plain->half[i].steps || cost->count < 2)
			return p;
	struct terms even = measure(cost, run, plain, 0), odd = measure(cost, run, plain, 1);
	p = (struct prediction){ .known = true, .tau = even.tau, .draft = even.draft, .verify = even.verify,
		                 .curve = from_curve(cost, &run->half[0]), .accept = even.accept,
		                 .speedup = speedup(&even),
		                 .measured = plain->half[1].ns / run->half[1].ns *
		                             ((double)run->half[1].tokens / (double)plain->half[1].tokens) };
	if (fabs(p.speedup / p.measured - 1.0) > 0.1)
		p.off = blame(&even, &odd, p.measured);
	return p;
}
