/* SPDX-License-Identifier: Apache-2.0
 *
 * How sure a drafter must be to go on.
 */
#include "octavo_verify.h"

/* The masses of the `most` best tokens of q, descending; returns the sum of q. */
static double best_masses(const double *q, size_t vocab, size_t most, double *mass)
{
	double sum = 0.0;
	size_t have = 0;
	for (size_t i = 0; i < vocab; i++) {
		sum += q[i];
		if (have == most && !(q[i] > mass[have - 1]))
			continue;
		size_t at = have < most ? have++ : have - 1;
		for (; at && q[i] > mass[at - 1]; at--)
			mass[at] = mass[at - 1];
		mass[at] = q[i];
	}
	for (; have < most; have++)
		mass[have] = 0.0;
	return sum;
}

size_t octavo_confident_width(const struct octavo_confidence *c, const double *q, size_t vocab, size_t most, double *path)
{
	double mass[OCTAVO_MAX_DRAFT], held = 0.0;
	size_t width = 0;
	if (!c || !q || !path)
		return 0;
	most = most < OCTAVO_MAX_DRAFT ? most : OCTAVO_MAX_DRAFT;
	double sum = best_masses(q, vocab, most ? most : 1, mass);
	if (!(sum > 0.0)) /* NaN too */
		return 0;
	double best = mass[0] / sum, along = *path * best;
	if (best < c->best || along < c->path)
		return 0;
	*path = along;
	while (width < most && mass[width] > 0.0 && (!(c->mass > 0.0) || held < c->mass * sum))
		held += mass[width++];
	return width;
}
