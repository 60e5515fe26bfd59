/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lossless/chances.h"

#include <assert.h>

/* Intervals below this are roundings of empty ones. */
#define SLIVER 1e-15

void chances_begin(struct chances *c)
{
	c->numbers = c->at = 0;
	c->weight = 1.0;
}

int chances_next(struct chances *c)
{
	assert(c->at == c->length); /* the procedure depends on its picks alone */
	while (c->length && c->trail[c->length - 1].next < 0)
		c->length--;
	if (!c->length)
		return 0;
	c->trail[c->length - 1].outcome = c->trail[c->length - 1].next;
	return 1;
}

static size_t find(struct chances *c, uint32_t position, enum octavo_purpose purpose, uint32_t index)
{
	size_t i = 0;
	while (i < c->numbers && !(c->number[i].position == position && c->number[i].purpose == purpose &&
	                           c->number[i].index == index))
		i++;
	if (i < c->numbers)
		return i;
	assert(i < MOST_PICKS);
	c->number[i].position = position;
	c->number[i].purpose = purpose;
	c->number[i].index = index;
	c->number[i].lo = 0.0;
	c->number[i].hi = 1.0;
	c->numbers++;
	return i;
}

/* The part of [*lo, *hi) in which a quantile is `outcome`. */
static void narrow(const double *law, size_t n, int32_t outcome, double *lo, double *hi)
{
	double total = 0.0, below = 0.0;
	for (size_t i = 0; i < n; i++) {
		total += law[i];
		if (i < (size_t)outcome)
			below += law[i];
	}
	double first = below / total, end = (below + law[outcome]) / total;
	*lo = first > *lo ? first : *lo;
	*hi = end < *hi ? end : *hi;
}

static int32_t possible_from(const double *law, size_t n, size_t outcome, double lo, double hi)
{
	for (; outcome < n; outcome++) {
		double a = lo, b = hi;
		if (!(law[outcome] > 0.0))
			continue;
		narrow(law, n, (int32_t)outcome, &a, &b);
		if (b - a > SLIVER)
			return (int32_t)outcome;
	}
	return -1;
}

int32_t chances_pick(void *context, uint32_t position, enum octavo_purpose purpose, uint32_t index, const double *law,
                     size_t n)
{
	struct chances *c = context;
	size_t i = find(c, position, purpose, index);
	double lo = c->number[i].lo, hi = c->number[i].hi;
	assert(c->at < MOST_PICKS);
	if (c->at == c->length)
		c->trail[c->length++].outcome = possible_from(law, n, 0, lo, hi);
	int32_t outcome = c->trail[c->at].outcome;
	if (outcome < 0) {
		c->trail[c->at++].next = -1;
		return -1;
	}
	c->trail[c->at++].next = possible_from(law, n, (size_t)outcome + 1, lo, hi);
	narrow(law, n, outcome, &c->number[i].lo, &c->number[i].hi);
	c->weight *= (c->number[i].hi - c->number[i].lo) / (hi - lo);
	return outcome;
}
