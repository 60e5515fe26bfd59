/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys and values for fused multiply-adds, for any vectors: see simd_attention.h.
 */
#ifndef OCTAVO_SIMD_ATTENTION_FMA_H
#define OCTAVO_SIMD_ATTENTION_FMA_H

#include "kernels/simd_panel.h"

ALWAYS_INLINE void lay_keys(const uint8_t *const *row, size_t k, size_t count, term *panel /* [CHUNK][LANES] */)
{
	vi d[LANES];

	load_transposed(row, 2 * k, 2 * count, d);
	for (size_t i = 0; i < LANES; i++) {
		vf w[2];
		split_bf16(d[i], w);
		vf_store(panel + 2 * i * LANES, w[0]);
		vf_store(panel + (2 * i + 1) * LANES, w[1]);
	}
}

ALWAYS_INLINE void lay_values(const uint16_t *const *v, size_t tokens, size_t j, size_t count,
                              term *panel /* [WIDE / LANES][PANEL][LANES] */)
{
	for (size_t i = 0; i < count; i += LANES) {
		term *at = panel + i * PANEL;
		size_t t = 0;
		for (; t < tokens; t++, at += LANES)
			vf_store(at, vf_load_bf16(v[t] + j + i, count - i));
		for (; t < CHUNK; t++, at += LANES)
			vf_store(at, vf_zero());
	}
}

ALWAYS_INLINE void step_keys(const size_t queries, const uint8_t *const *row, size_t k, size_t count, const term *q,
                             vf *even, vf *odd)
{
	vi d[LANES];

	load_transposed(row, 2 * k, 2 * count, d);
#pragma GCC unroll 16
	for (size_t i = 0; i < LANES; i++) {
		vf w[2];
		split_bf16(d[i], w);
#pragma GCC unroll 4
		for (size_t h = 0; h < queries; h++) {
			even[h] = vf_fma(w[0], vf_set1(q[h * PANEL + 2 * i]), even[h]);
			odd[h] = vf_fma(w[1], vf_set1(q[h * PANEL + 2 * i + 1]), odd[h]);
		}
	}
}

/* sum[h][i] = fma(v[i], p[h], sum[h][i]) for one token and up to 32 columns. */
ALWAYS_INLINE void step_token(const size_t queries, const uint16_t *v, size_t count, const term *p, vf *sum)
{
	const vf w[2] = {vf_load_bf16(v, count), count > LANES ? vf_load_bf16(v + LANES, count - LANES) : vf_zero()};

#pragma GCC unroll 4
	for (size_t h = 0; h < queries; h++)
#pragma GCC unroll 2
		for (size_t i = 0; i < 2; i++)
			sum[2 * h + i] = vf_fma(w[i], vf_set1(p[h * PANEL]), sum[2 * h + i]);
}

ALWAYS_INLINE void step_values(const size_t queries, const uint16_t *const *v, size_t tokens, size_t j, size_t count,
                               const term *p, vf *even, vf *odd)
{
	size_t t = 0;

	for (; t + 1 < tokens; t += 2) {
		step_token(queries, v[t] + j, count, p + t, even);
		step_token(queries, v[t + 1] + j, count, p + t + 1, odd);
	}
	if (t < tokens)
		step_token(queries, v[t] + j, count, p + t, even);
}

#endif
