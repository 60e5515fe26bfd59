/* SPDX-License-Identifier: Apache-2.0
 *
 * FP8 by arithmetic alone, for any vectors: see simd_transposed.h.
 */
#ifndef OCTAVO_SIMD_DECODE_H
#define OCTAVO_SIMD_DECODE_H

#include "kernels/simd.h"

struct codes {
	char none; /* no tables */
};

static struct codes codes_for(enum octavo_dtype dtype)
{
	(void)dtype;
	return (struct codes){0};
}

ALWAYS_INLINE void decode(const enum kind kind, const struct codes *codes, vi d, vf w[4])
{
	const vi top[4] = {vi_left(d, 24), vi_left(d, 16), vi_left(d, 8), d};

	(void)codes;
#pragma GCC unroll 4
	for (int j = 0; j < 4; j++)
		w[j] = kind == E4M3 ? vf_decode_e4m3(top[j]) : vf_decode_e5m2(top[j]);
}

#endif
