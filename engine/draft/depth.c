/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/depth.h"

static const double FADE = 0.987; /* of evidence, per step: about the last eighty steps count */
static const double GUESS = 1.0;  /* a first token kept, before anything was tried: what pays if that is true is tried */
static const double FOLLOW = 0.1; /* how quickly the times of drafting and accepting follow the machine's */
static const double TRUST = 20.0; /* forwards of one size that count as much as all the others do for its time */

double octavo_cost_at(const struct octavo_cost *cost, size_t rows)
{
	size_t i = 1;
	while (i < cost->count && cost->rows[i] < rows)
		i++;
	if (cost->count < 2)
		return cost->ns[0];
	if (i == cost->count)
		i--;
	double slope = (cost->ns[i] - cost->ns[i - 1]) / (double)(cost->rows[i] - cost->rows[i - 1]);
	return cost->ns[i - 1] + slope * ((double)rows - (double)cost->rows[i - 1]);
}

/* ---- Acceptance -------------------------------------------------------------------------------------------- */

/* Each depth's guess is the estimate of the one before it, worth one observation. */
double octavo_depth_reach(const struct octavo_depth_source *s, unsigned depth)
{
	double kept = GUESS, reach = 1.0;
	for (unsigned i = 0; i <= depth; i++) {
		kept = (s->kept[i] + kept) / (s->tried[i] + 1.0);
		reach *= kept;
	}
	return reach;
}

/* A window that was paid for and gave no draft is a first token that was not kept. */
static void count(struct octavo_depth_source *s, const struct octavo_step *step)
{
	if (!step->drafted)
		s->tried[0] += 1.0;
	for (unsigned i = 0; i < step->drafted && i <= step->accepted; i++) {
		s->tried[i] += 1.0;
		s->kept[i] += i < step->accepted;
	}
}

/* ---- Times ------------------------------------------------------------------------------------------------- */

/* A running mean that one stray time, say of a thread that was not running, cannot carry far away; 0: none yet. */
static void follow(double *mean, double value, double rate)
{
	if (!(value > 0.0))
		return;
	if (*mean == 0.0)
		*mean = value;
	double bounded = value > 2.0 * *mean ? 2.0 * *mean : value < 0.5 * *mean ? 0.5 * *mean : value;
	*mean += rate * (bounded - *mean);
}

/* Forwards against the curve: all of them, and in so far as there is evidence, those of k drafted tokens. */
static double speed(const struct octavo_depth_source *s)
{
	return (s->factors + 1.0) / (s->forwards + 1.0);
}

static double shape(const struct octavo_depth_source *s, unsigned k)
{
	return (s->factor[k] + TRUST * speed(s)) / (s->seen[k] + TRUST);
}

static void time_forward(struct octavo_depth_source *s, const struct octavo_cost *cost, const struct octavo_step *step)
{
	if (!step->rows || !(step->verify_ns > 0.0))
		return;
	double factor = step->verify_ns / octavo_cost_at(cost, step->rows), usual = speed(s);
	if (s->forwards > 0.0 && factor > 2.0 * usual)
		factor = 2.0 * usual;
	s->forwards += 1.0;
	s->factors += factor;
	if (step->rows != step->drafted + 1u + step->watched) /* others in the batch */
		return;
	s->seen[step->drafted] += 1.0;
	s->factor[step->drafted] += factor;
}

/* Evidence is worth less with every step. */
static void fade(struct octavo_depth_source *s)
{
	s->forwards *= FADE;
	s->factors *= FADE;
	for (unsigned i = 0; i <= OCTAVO_MAX_K; i++) {
		s->seen[i] *= FADE;
		s->factor[i] *= FADE;
		if (i == OCTAVO_MAX_K)
			break;
		s->tried[i] *= FADE;
		s->kept[i] *= FADE;
	}
}

/* ns of drafting n tokens; from the nearest count that was seen, in proportion. */
static double draft_time(const struct octavo_depth_source *s, unsigned n)
{
	for (unsigned distance = 0; distance <= OCTAVO_MAX_K; distance++) {
		if (distance < n && s->draft_ns[n - distance] > 0.0)
			return s->draft_ns[n - distance] * n / (n - distance);
		if (n + distance <= OCTAVO_MAX_K && s->draft_ns[n + distance] > 0.0)
			return s->draft_ns[n + distance] * n / (n + distance);
	}
	return 0.0;
}

static double verify_time(const struct octavo_depth_source *s, const struct octavo_cost *cost, size_t company,
                          unsigned k)
{
	size_t watched = k ? (size_t)(s->watched + 0.5) : 0;
	double ns = octavo_cost_at(cost, company * (k + 1 + watched)) / (double)company;
	return ns * (company == 1 ? shape(s, k) : speed(s));
}

void octavo_depth_update(struct octavo_depth_source *s, const struct octavo_cost *cost, const struct octavo_step *step,
                         int took_part)
{
	fade(s);
	time_forward(s, cost, step);
	follow(&s->accept_ns, step->accept_ns / (step->accepted + 1.0), FOLLOW);
	if (!took_part || !(step->drafted + step->watched))
		return;
	count(s, step);
	follow(&s->watched, (double)step->watched, FOLLOW);
	if (step->drafted)
		follow(&s->draft_ns[step->drafted], step->draft_ns, FOLLOW);
}

/* ---- The choice --------------------------------------------------------------------------------------------- */

unsigned octavo_depth_choose(const struct octavo_depth_source *s, const struct octavo_cost *cost, size_t company,
                             unsigned most, double *rate)
{
	double best_rate = 0.0, tokens = 1.0;
	unsigned best = 0;
	for (unsigned k = 0; k <= most && k <= OCTAVO_MAX_K; k++) {
		if (k)
			tokens += octavo_depth_reach(s, k - 1);
		double ns = draft_time(s, k) + verify_time(s, cost, company, k) + s->accept_ns * tokens;
		if (tokens / ns > best_rate) {
			best_rate = tokens / ns;
			best = k;
		}
	}
	if (rate)
		*rate = best_rate;
	return best;
}
