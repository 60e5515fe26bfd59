/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention for AVX512_BF16: pairs of a key's columns, and of the tokens' values.
 */
#include "kernels/simd_avx512.h"

#include "kernels/dot.h"
#include "kernels/sets.h"
#include "kernels/simd_wide.h"

ALWAYS_INLINE void lay_keys(const uint8_t *const *row, size_t k, size_t count, term *panel /* [CHUNK / 2][LANES] */)
{
	vi d[LANES];

	load_bf16_pairs(row, 2 * k, 2 * count, d);
#pragma GCC unroll 16
	for (size_t i = 0; i < LANES; i++)
		_mm512_store_si512(panel + i * LANES, d[i]);
}

ALWAYS_INLINE void lay_values(const uint16_t *const *v, size_t tokens, size_t j, size_t count,
                              term *panel /* [WIDE / LANES][PANEL / 2][LANES] */)
{
	for (size_t t = 0; t < CHUNK; t += 4, panel += TERMS(4) * LANES)
		for (size_t i = 0; i < count; i += 2 * LANES) {
			term *at = panel + i * TERMS(PANEL);
			vi pair[4];
			row_pairs(v + t, tokens - smaller(t, tokens), j + i, count - i, pair);
			_mm512_store_si512(at, pair[0]);
			_mm512_store_si512(at + LANES, pair[2]);
			_mm512_store_si512(at + TERMS(PANEL) * LANES, pair[1]);
			_mm512_store_si512(at + (TERMS(PANEL) + 1) * LANES, pair[3]);
		}
}

ALWAYS_INLINE void step_keys(const size_t queries, const uint8_t *const *row, size_t k, size_t count, const term *q,
                             vf *even, vf *odd)
{
	vi d[LANES];

	load_bf16_pairs(row, 2 * k, 2 * count, d);
#pragma GCC unroll 8
	for (size_t i = 0; i < LANES; i += 2)
#pragma GCC unroll 4
		for (size_t h = 0; h < queries; h++) {
			const term *at = q + h * TERMS(PANEL) + i;
			even[h] = vf_chain(d[i], at, even[h]);
			odd[h] = vf_chain(d[i + 1], at + 1, odd[h]);
		}
}

ALWAYS_INLINE void step_values(const size_t queries, const uint16_t *const *v, size_t tokens, size_t j, size_t count,
                               const term *p, vf *even, vf *odd)
{
	for (size_t t = 0; t < tokens; t += 4) {
		vi pair[4];
		row_pairs(v + t, tokens - t, j, count, pair);
#pragma GCC unroll 4
		for (size_t h = 0; h < queries; h++) {
			const term *at = p + h * TERMS(PANEL) + TERMS(t);
#pragma GCC unroll 2
			for (size_t i = 0; i < 2; i++) {
				even[2 * h + i] = vf_chain(pair[i], at, even[2 * h + i]);
				odd[2 * h + i] = vf_chain(pair[2 + i], at + 1, odd[2 * h + i]);
			}
		}
	}
}

#include "kernels/simd_attention.h"

const struct octavo_kernels octavo_set_attention_avx512bf16 = {
        .attention = OCTAVO_KERNEL(attention, attention, "avx512bf16", 1, attention),
};
