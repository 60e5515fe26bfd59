/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/extent.h"

/* Where classes begin: at odds of 1.41, 2, 2.83, 4, 8, 16 and 32. */
static const double classes[OCTAVO_SHARES - 1] = { 0.5858, 2.0 / 3, 0.7388, 0.8, 8.0 / 9, 16.0 / 17, 32.0 / 33 };

unsigned octavo_share_class(double share)
{
	unsigned i = 0;
	while (i < OCTAVO_SHARES - 1 && share >= classes[i])
		i++;
	return i;
}

void octavo_extent_begin(struct octavo_extent *x)
{
	x->drafted = x->submitted = 0;
	x->reach = 1.0;
	x->gain = 0.0;
	x->best = -x->rate * x->verify[0];
}

/* The largest U with another token drafted, but not submitted. */
static double without_next(const struct octavo_extent *x)
{
	return x->drafted ? x->best : -x->rate * x->left_out;
}

/* What one more token may bring, if it is left out where it is not worth its row. */
static double option(const struct octavo_extent *x)
{
	unsigned n = x->drafted;
	double sum = 0.0, without = without_next(x);
	for (unsigned i = 0; i < OCTAVO_SHARES; i++) {
		double with = x->gain + x->token * x->reach * x->chance[i] - x->rate * x->verify[n + 1];
		sum += x->often[i] * ((with > without ? with : without) - x->best);
	}
	return sum - x->rate * (x->draft[n + 1] - x->draft[n]);
}

/* Whether it pays to draft and submit some more tokens, whatever their shares. */
static int several_pay(const struct octavo_extent *x)
{
	double reach = x->reach, gain = x->gain;
	for (unsigned n = x->drafted; n < x->most; n++) {
		gain += x->token * (reach *= x->kept[n]);
		if (gain - x->rate * (x->verify[n + 1] + x->draft[n + 1] - x->draft[x->drafted]) >= x->best)
			return 1;
	}
	return 0;
}

int octavo_extent_pays(const struct octavo_extent *x)
{
	return x->drafted < x->most && (option(x) > 0.0 || several_pay(x));
}

int octavo_extent_goes_on(const struct octavo_extent *x)
{
	return x->weighs && !x->at_once ? octavo_extent_pays(x) : x->drafted < x->most;
}

void octavo_extent_take(struct octavo_extent *x, double share)
{
	unsigned n = x->drafted;
	x->best = without_next(x);
	x->drafted++;
	x->share[n] = share;
	x->reach *= share > 0.0 ? x->chance[octavo_share_class(share)] : x->kept[n];
	x->gain += x->token * x->reach;
	double worth = x->gain - x->rate * x->verify[n + 1];
	if (worth >= x->best || !x->weighs) {
		x->best = worth;
		x->submitted = x->drafted;
	}
}
