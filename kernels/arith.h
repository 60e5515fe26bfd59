/* SPDX-License-Identifier: Apache-2.0
 *
 * The scalar definitions that every reference kernel shares: exp, sigmoid and the lane sum.
 * They define the bits; vector sets reproduce the same operations lane by lane.
 */
#ifndef OCTAVO_ARITH_H
#define OCTAVO_ARITH_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* exp(x): +0 below -87, the argument clamped to 88 above; NaN stays NaN.
 * n = rint(x * log2 e); r = x - n * ln 2 in two FMAs (Cody and Waite); a degree-6 polynomial (Cephes' expf
 * coefficients); times 2^n by exponent arithmetic, exact since n is in [-126, 127]. */
static inline float octavo_exp(float x)
{
	if (x != x)
		return x;
	if (x < -87.0f)
		return 0.0f;
	if (x > 88.0f)
		x = 88.0f;
	float n = rintf(x * 1.44269504088896341f);
	float r = fmaf(n, -0.693359375f, x);
	r = fmaf(n, 2.12194440e-4f, r);
	float p = 1.9875691500e-4f;
	p = fmaf(p, r, 1.3981999507e-3f);
	p = fmaf(p, r, 8.3334519073e-3f);
	p = fmaf(p, r, 4.1665795894e-2f);
	p = fmaf(p, r, 1.6666665459e-1f);
	p = fmaf(p, r, 5.0000001201e-1f);
	p = fmaf(p, r * r, r);
	p = p + 1.0f;
	uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
	float scale;
	memcpy(&scale, &bits, sizeof scale);
	return p * scale;
}

/* The sum of the contract: element i has gone to lane i % 16; lanes fold 8-4-2-1. */
static inline float octavo_lane_fold(float lane[16])
{
	for (size_t half = 8; half > 0; half /= 2)
		for (size_t i = 0; i < half; i++)
			lane[i] = lane[i] + lane[i + half];
	return lane[0];
}

#endif
