/* SPDX-License-Identifier: Apache-2.0
 *
 * What attention kernels for any vectors share besides their products: see simd.h.
 */
#ifndef OCTAVO_SIMD_SOFTMAX_H
#define OCTAVO_SIMD_SOFTMAX_H

#include "kernels/simd.h"

static inline size_t slot_of(const struct octavo_attention *a, size_t t)
{
	return t < a->committed ? t : a->path[t - a->committed];
}

/* One head's products to BF16 probabilities, which take the front half of its row; sets *m and *l.  The head sees
 * `tokens` tokens; up to `all` the probabilities are +0, which changes no sum. */
static void probabilities(float *p, size_t tokens, size_t all, float tau, float *m, float *l)
{
	vf max = vf_set1(-__builtin_inff()), sum = vf_zero();
	float lane[LANES];

	for (size_t t = 0; t < tokens; t += LANES) {
		vf s = vf_mul(vf_load_first(p + t, tokens - t), vf_set1(tau));
		vf_store_first(p + t, tokens - t, s);
		/* in this order a NaN loses */
		max = vf_choose(vm_first(tokens - t), vf_max(s, max), max);
	}
	vf_store_first(lane, LANES, max);
	*m = lane[0];
	for (size_t i = 1; i < LANES; i++)
		*m = lane[i] > *m ? lane[i] : *m;
	for (size_t t = 0; t < tokens; t += LANES) {
		vf e = vf_exp(vf_sub(vf_load_first(p + t, tokens - t), vf_set1(*m)));
		e = vf_choose(vm_first(tokens - t), e, vf_zero());
		sum = vf_add(sum, e);
		vf_store_high((uint16_t *)(void *)p + t, LANES, vf_round_activation(e));
	}
	for (size_t t = (tokens + LANES - 1) / LANES * LANES; t < all; t += LANES)
		vf_store_high((uint16_t *)(void *)p + t, LANES, vf_zero());
	*l = vf_fold(sum);
}

/* All heads' products in a->p to probabilities, +0 to the end of the last chunk of 32 tokens; sets a->m and a->l. */
static void softmax(const struct octavo_attention *a)
{
	size_t all = (a->t1 - a->t0 + 31) / 32 * 32;

	for (size_t h = 0; h < a->heads; h++)
		probabilities(a->p + h * OCTAVO_SEGMENT, (a->end ? a->end[h] : a->t1) - a->t0, all, a->tau, &a->m[h],
		              &a->l[h]);
}

#endif
