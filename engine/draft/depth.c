/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/depth.h"

#include <math.h>

static const double FADE = 0.987;    /* of evidence of acceptance, per step: about the last eighty steps count */
static const double LASTING = 0.997; /* of what stands behind it, and of evidence for the shape of verify(M): machines
                                      * change less than texts */
static const double GUESS = 1.0;     /* a first token kept, before anything was tried */
static const double HABIT = 4.0;     /* tokens tried lately that count as much as all before them do */
static const double FOLLOW = 0.05;   /* how quickly running means of times follow the machine's */
static const double STRAY = 1.5;     /* times what is usual: the most that one time counts for */
static const double TRUST = 3.0;     /* forwards of one size that count as much as the cost curve does */
static const double DOUBT = 0.4;     /* of a time that no forward has shown: so much less it may be */
static const double SURE = 8.0;      /* forwards of one size after which their time is known */
static const double COLD = 1.05;    /* times a plain forward: one behind a draft that it leaves out, as a guess */
static const double KIN = 16.0;      /* forwards of one size that those of nearly as many rows can stand for */
static const double HORIZON = 64.0;  /* steps that share the price of catching up: as many as may follow */
static const double SPEND = 0.006;   /* of all time, on steps that are not expected to be the best */
static const double SAVE = 20.0;     /* forwards of one row: the most that is saved up for that, or owed */

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

/* Of a token whose depth is reached: what was seen lately counts, and where that is little, what was seen before that.
 * Each depth's guess is the estimate of the one before it, worth one observation. */
static double kept_at(const struct octavo_depth_source *s, unsigned depth, double guess)
{
	double before = (s->ever_kept[depth] + guess) / (s->ever_tried[depth] + 1.0);
	return (s->kept[depth] + HABIT * before) / (s->tried[depth] + HABIT);
}

double octavo_depth_reach(const struct octavo_depth_source *s, unsigned depth)
{
	double kept = GUESS, reach = 1.0;
	for (unsigned i = 0; i <= depth; i++) {
		kept = kept_at(s, i, kept);
		reach *= kept;
	}
	return reach;
}

/* The same if the next token to be tried at each depth were kept. */
static double hope_at(const struct octavo_depth_source *s, unsigned depth)
{
	return (s->kept[depth] + 1.0) / (s->tried[depth] + 1.0);
}

/* Of tokens of a share. */
static double chance_of(const struct octavo_depth_source *s, unsigned class)
{
	return (s->sure_kept[class] + GUESS) / (s->sure_tried[class] + 1.0);
}

static void judge(struct octavo_depth_source *s, unsigned depth, double weight, double kept)
{
	s->tried[depth] += weight;
	s->kept[depth] += weight * kept;
	s->ever_tried[depth] += weight;
	s->ever_kept[depth] += weight * kept;
}

static void judge_share(struct octavo_depth_source *s, double share, double kept)
{
	unsigned class = octavo_share_class(share);
	s->sure_tried[class] += 1.0;
	s->sure_kept[class] += kept;
}

/* What is known of shares is true of the drafter rather than of the text, and remains while it does not draft. */
static void fade_shares(struct octavo_depth_source *s)
{
	for (unsigned i = 0; i < OCTAVO_SHARES; i++) {
		s->sure_tried[i] *= LASTING;
		s->sure_kept[i] *= LASTING;
		s->sure[i] *= FADE;
	}
}

/* A window that was paid for and gave no draft is a first token that was not kept.  Tokens that were left out are
 * those that seemed doubtful: they count as much as they would probably have been reached and kept, or their depth
 * would look better than it is. */
static void count(struct octavo_depth_source *s, const struct octavo_step *step)
{
	double reach = 1.0;
	fade_shares(s);
	if (!step->drafted)
		judge(s, 0, 1.0, 0.0);
	for (unsigned i = 0; i < step->drafted; i++) {
		int sure = step->share && step->share[i] > 0.0;
		unsigned class = sure ? octavo_share_class(step->share[i]) : 0;
		double kept = i < step->accepted;
		if (i < step->submitted && i > step->accepted)
			return;
		if (i < step->submitted && sure)
			judge_share(s, step->share[i], kept);
		if (i >= step->submitted)
			kept = chance_of(s, class);
		judge(s, i, reach, kept);
		if (sure)
			s->sure[class] += reach;
		reach *= i < step->submitted ? 1.0 : kept;
	}
}

/* ---- Times ------------------------------------------------------------------------------------------------- */

/* A running mean of what was seen `seen` times, which one stray time, say of a thread that was not running, cannot
 * carry far away. */
static void follow(double *mean, double *seen, double value)
{
	if (!(value > 0.0))
		return;
	double bounded = *seen > 0.0 && value > STRAY * *mean ? STRAY * *mean : value;
	*seen += 1.0;
	*mean += (bounded - *mean) * (*seen * FOLLOW < 1.0 ? 1.0 / *seen : FOLLOW);
}

/* In place of a k: nothing is submitted of what was drafted.  Such a forward takes longer than a plain one, since the
 * draft left other weights in the caches. */
enum { LEFT_OUT = OCTAVO_MAX_K + 1 };

/* Forwards against the curve: all of them, and besides, in so far as there is evidence, those of k tokens submitted. */
static double speed(const struct octavo_depth_source *s)
{
	return s->forwards > 0.0 ? s->speed : 1.0;
}

static double shape(const struct octavo_depth_source *s, unsigned k)
{
	double guess = k == LEFT_OUT ? COLD * shape(s, 0) : 1.0;
	return (s->shape[k] + TRUST * guess) / (s->seen[k] + TRUST);
}

/* A forward behind one of more rows finds less of what it reads in the caches.  How much longer it takes for that, the
 * sizes show whose time is known; of the others, which would look dearer than they are, it is taken off. */
static double without_wake(struct octavo_depth_source *s, unsigned k, size_t rows, double factor, double usual)
{
	int behind = rows < s->rows && s->forwards > 0.0;
	s->rows = rows;
	if (behind && s->seen[k] > SURE)
		follow(&s->wake, &s->wakes, factor / usual);
	return behind && s->wake > 1.0 ? factor / s->wake : factor;
}

static void time_forward(struct octavo_depth_source *s, const struct octavo_cost *cost, const struct octavo_step *step)
{
	if (!step->rows || !(step->verify_ns > 0.0))
		return;
	unsigned k = step->drafted && !step->submitted ? LEFT_OUT : step->submitted;
	int alone = step->rows == step->submitted + 1u + step->watched; /* no others in the batch */
	double factor = step->verify_ns / octavo_cost_at(cost, step->rows), own = alone ? shape(s, k) : 1.0;
	if (s->forwards > 0.0 && factor > STRAY * s->speed * own)
		factor = STRAY * s->speed * own;
	if (alone)
		factor = without_wake(s, k, step->rows, factor, s->speed * own);
	follow(&s->speed, &s->forwards, factor / own);
	if (!alone)
		return;
	s->seen[k] += 1.0;
	s->shape[k] += factor / s->speed;
}

/* Evidence is worth less with every step, but for that of acceptance where the source was asked and had nothing. */
static void fade(struct octavo_depth_source *s, int silent)
{
	for (unsigned i = 0; i <= OCTAVO_MAX_K; i++)
		s->drafts[i] *= LASTING;
	for (unsigned i = 0; i <= LEFT_OUT; i++) {
		s->seen[i] *= LASTING;
		s->shape[i] *= LASTING;
	}
	for (unsigned i = 0; !silent && i < OCTAVO_MAX_K; i++) {
		s->tried[i] *= FADE;
		s->kept[i] *= FADE;
		s->ever_tried[i] *= LASTING;
		s->ever_kept[i] *= LASTING;
	}
}

/* Of drafting n tokens: as it was seen, and where that was not often, in proportion to the count that was seen most. */
static double draft_time(const struct octavo_depth_source *s, unsigned n)
{
	unsigned most = 1;
	for (unsigned i = 2; i <= OCTAVO_MAX_K; i++)
		if (s->drafts[i] > s->drafts[most])
			most = i;
	double usual = s->draft_ns[most] * n / most;
	return (s->draft_ns[n] * s->drafts[n] + TRUST * usual) / (s->drafts[n] + TRUST);
}

static double verify_time(const struct octavo_depth_source *s, const struct octavo_cost *cost, size_t company,
                          unsigned k)
{
	size_t watched = k ? (size_t)(s->watched + 0.5) : 0, rows = k == LEFT_OUT ? 1 : k + 1 + watched;
	double ns = octavo_cost_at(cost, company * rows) / (double)company;
	return ns * speed(s) * (company == 1 ? shape(s, k) : 1.0);
}

/* The first window counts at once. */
static void follow_rows(struct octavo_depth_source *s, size_t watched)
{
	s->watched += (s->watched > 0.0 ? FOLLOW : 1.0) * ((double)watched - s->watched);
}

/* What catching up adds to a draft, per token: side by side they take no longer than drafted ones, whatever a stray
 * time says. */
static void time_late(struct octavo_depth_source *s, const struct octavo_step *step, double ns, double usual)
{
	double late = (double)step->late, most = usual / step->drafted, each = (ns - usual) / late;
	s->lates = (1.0 - FOLLOW) * s->lates + late;
	s->late_ns += ((each < 0.0 ? 0.0 : each > most ? most : each) - s->late_ns) * late / s->lates;
}

/* Drafting, and in so far as that began later than usual, catching up. */
static void time_draft(struct octavo_depth_source *s, const struct octavo_step *step)
{
	unsigned k = step->drafted;
	double usual = draft_time(s, k), ns = step->draft_ns / speed(s);
	if (k && !step->late)
		follow(&s->draft_ns[k], &s->drafts[k], usual > 0.0 && ns > STRAY * usual ? STRAY * usual : ns);
	if (k && step->late && usual > 0.0)
		time_late(s, step, ns, usual);
}

static double within(double x, double bound)
{
	return x > bound ? bound : x < -bound ? -bound : x;
}

/* The account gets its share of the step, and pays for what a trial took beyond the best k's time for its tokens. */
static void settle(struct octavo_depth_source *s, const struct octavo_cost *cost, const struct octavo_step *step,
                   int took_part)
{
	double rows = step->submitted + 1.0 + (double)step->watched, others = (double)step->rows - rows;
	double ns = step->draft_ns + step->verify_ns * (others > 0.0 ? rows / (rows + others) : 1.0) + step->accept_ns;
	s->spare_ns += SPEND * ns;
	if (took_part && s->trial_ns > 0.0 && step->drafted == s->trial && ns > s->trial_ns)
		s->spare_ns -= ns - s->trial_ns;
	s->spare_ns = within(s->spare_ns, SAVE * cost->ns[0]);
}

void octavo_depth_update(struct octavo_depth_source *s, const struct octavo_cost *cost, const struct octavo_step *step,
                         int took_part)
{
	int drafted = took_part && step->drafted + step->watched;
	fade(s, s->trial && !drafted);
	time_forward(s, cost, step);
	follow(&s->accept_ns, &s->accepts, step->accept_ns / (step->accepted + 1.0) / speed(s));
	settle(s, cost, step, took_part);
	if (!drafted)
		return;
	count(s, step);
	follow_rows(s, step->watched);
	time_draft(s, step);
}

/* ---- The choice --------------------------------------------------------------------------------------------- */

/* What steps of k tokens bring and cost, and what they would at best. */
struct prospect {
	double tokens, ns, verify_ns, most_tokens, least_ns;
};

/* Forwards that tell how far the curve is off for k drafted tokens: its own, and some of its neighbours'.  A single row
 * takes another way through the kernels, and is on its own. */
static double evidence(const struct octavo_depth_source *s, unsigned k)
{
	double kin = 0.0;
	for (unsigned i = 1; k && i <= OCTAVO_MAX_K; i++)
		if (i != k)
			kin += s->seen[i] / (double)(1u << (i > k ? i - k : k - i));
	return s->seen[k] + (kin < KIN ? kin : KIN);
}

static void look(const struct octavo_depth_source *s, const struct octavo_cost *cost, const struct octavo_ahead *ahead,
                 struct prospect p[OCTAVO_MAX_K + 1])
{
	double hope = 1.0, drafts = 0.0;
	for (unsigned k = 1; k <= OCTAVO_MAX_K; k++)
		drafts += s->drafts[k];
	for (unsigned k = ahead->most + 1; k--;) { /* more rows never cost less */
		p[k].verify_ns = verify_time(s, cost, ahead->company, k);
		if (k < ahead->most && p[k].verify_ns > p[k + 1].verify_ns)
			p[k].verify_ns = p[k + 1].verify_ns;
	}
	for (unsigned k = 0; k <= ahead->most; k++) {
		p[k].tokens = k ? p[k - 1].tokens + octavo_depth_reach(s, k - 1) : 1.0;
		p[k].most_tokens = k ? p[k - 1].most_tokens + (hope *= hope_at(s, k - 1)) : 1.0;
		p[k].ns = (draft_time(s, k) + s->accept_ns * p[k].tokens) * speed(s) + p[k].verify_ns;
		p[k].least_ns = p[k].ns - DOUBT / sqrt(evidence(s, k) + 1.0) * p[k].verify_ns -
		                draft_time(s, k) * speed(s) / sqrt(drafts + 1.0);
	}
}

/* The k from `least` on with the most tokens per time, if that is at least `rate`, which it then becomes; else 0. */
static unsigned best_of(const struct octavo_depth_source *s, const struct prospect *p, const struct octavo_ahead *ahead,
                        unsigned least, double *rate)
{
	unsigned best = 0;
	for (unsigned k = least; k <= ahead->most; k++) {
		double late = k ? s->late_ns * speed(s) * (double)ahead->late / HORIZON : 0.0;
		if (p[k].tokens / (p[k].ns + late) >= *rate) {
			*rate = p[k].tokens / (p[k].ns + late);
			best = k;
		}
	}
	return best;
}

/* The k from `least` on that may gain most over `rate` for its price, as soon as that can be afforded; till then
 * `best`.  Prices are in time beyond what the best k takes for as many tokens, and above nothing. */
static unsigned try_one(struct octavo_depth_source *s, const struct prospect *p, const struct octavo_ahead *ahead,
                        unsigned least, double rate, unsigned best)
{
	double most = 0.0;
	unsigned k = best;
	for (unsigned i = least; i <= ahead->most; i++) {
		double gain = p[i].most_tokens / p[i].least_ns / rate - 1.0;
		double price = p[i].ns - p[i].tokens / rate + 0.02 * p[0].ns;
		if (i != best && gain / price > most) {
			most = gain / price;
			k = i;
		}
	}
	double late = k ? s->late_ns * speed(s) * (double)ahead->late : 0.0;
	double wake = k > best && s->wake > 1.0 ? (s->wake - 1.0) * p[best].ns : 0.0; /* of the step behind it */
	double free = p[k].tokens / rate - wake;
	int trial = k != best && p[k].ns + late - free <= s->spare_ns;
	s->trial_ns = trial ? free : 0.0;
	return trial ? k : best;
}

/* What the source knows of shares, for one draft. */
static void weigh(const struct octavo_depth_source *s, const struct octavo_cost *cost, const struct octavo_ahead *ahead,
                  const struct prospect *p, double rate, struct octavo_extent *x)
{
	double all = 0.0, late = s->late_ns * speed(s) * (double)ahead->late / HORIZON, kept = GUESS;
	x->weighs = 1;
	x->left_out = verify_time(s, cost, ahead->company, LEFT_OUT);
	if (x->left_out < p[0].verify_ns)
		x->left_out = p[0].verify_ns;
	x->rate = rate;
	x->token = 1.0 - rate * s->accept_ns * speed(s);
	for (unsigned k = 0; k <= ahead->most; k++) {
		x->verify[k] = p[k].verify_ns;
		x->draft[k] = k ? draft_time(s, k) * speed(s) + late : 0.0;
		if (k && x->draft[k] < x->draft[k - 1])
			x->draft[k] = x->draft[k - 1];
	}
	for (unsigned i = 0; i < ahead->most; i++)
		x->kept[i] = kept = kept_at(s, i, kept);
	for (unsigned i = 0; i < OCTAVO_SHARES; i++) {
		x->chance[i] = chance_of(s, i);
		all += s->sure[i];
	}
	for (unsigned i = 0; i < OCTAVO_SHARES; i++)
		x->often[i] = all > 0.0 ? s->sure[i] / all : 0.0;
}

void octavo_depth_choose(struct octavo_depth_source *s, const struct octavo_cost *cost,
                         const struct octavo_ahead *ahead, unsigned least, double *rate, struct octavo_extent *x)
{
	struct prospect p[OCTAVO_MAX_K + 1];
	look(s, cost, ahead, p);
	unsigned best = best_of(s, p, ahead, least, rate), k = try_one(s, p, ahead, least, *rate, best);
	*x = (struct octavo_extent){ .most = k, .at_once = ahead->at_once };
	if (ahead->shares && !(s->trial_ns > 0.0) && (best || !least)) {
		weigh(s, cost, ahead, p, *rate, x);
		x->most = ahead->most;
		octavo_extent_begin(x);
		if (!octavo_extent_pays(x))
			x->most = 0;
		else if (ahead->at_once)
			x->most = best ? best : 1;
	}
	s->trial = x->most;
	octavo_extent_begin(x);
}

void octavo_depth_plan(struct octavo_depth *depth, const struct octavo_cost *cost, const struct octavo_ahead *ahead,
                       unsigned sources, struct octavo_extent *extent)
{
	double rate = 0.0;
	for (unsigned i = sources; i--;)
		octavo_depth_choose(&depth->source[i], cost, &ahead[i], i + 1 < sources, &rate, &extent[i]);
}
