/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention for any vectors.  Scores are a GEMM whose outputs are tokens, the weighing of v is one whose outputs
 * are v's columns; all heads share each panel, and a handful of them do without.  The including file has included what
 * lays keys and values, simd_attention_fma.h or its own:
 *
 *	lay_keys     up to 32 columns of 16 keys, lane by lane, into a panel
 *	lay_values   up to 32 tokens' values, up to WIDE columns of them, into panels of 16 columns
 *	step_keys    sums over up to 32 columns of 16 keys, for a constant number of queries
 *	step_values  sums over up to 32 tokens of up to FEW_WIDE columns of values, for a constant number of queries
 *
 * and what multiplies rows by panels, simd_wide.h or its own:
 *
 *	void multiply_wide(const struct octavo_rows *x, size_t k0, size_t count, const term *panel, struct fold f);
 *		columns [k0, k0 + count) of x, count <= PANEL, meet panel [WIDE / LANES][TERMS(PANEL)][LANES], whose
 *		elements behind count are zeros up to a multiple of 32; f.count is up to WIDE, and y = acc is all that
 *		f asks for
 */
#ifndef OCTAVO_SIMD_ATTENTION_H
#define OCTAVO_SIMD_ATTENTION_H

#include "kernels/simd_panel.h"
#include "kernels/simd_softmax.h"

/* The keys of `count` tokens from t on; the last token's in place of those behind it. */
static inline void keys_of(const struct octavo_attention *a, size_t t, size_t count, const uint8_t **row)
{
	for (size_t i = 0; i < count; i++)
		row[i] = (const uint8_t *)(a->k + slot_of(a, smaller(t + i, a->t1 - 1)) * a->ldk);
}

/* Columns [k, k + 32) of 16 keys that will be wanted. */
ALWAYS_INLINE void prefetch_keys(const uint8_t *const *row, size_t k)
{
#pragma GCC unroll 16
	for (size_t i = 0; i < LANES; i++)
		__builtin_prefetch(row[i] + 2 * k, 0, 2);
}

/* How many tokens a panel from the segment's token t on takes whose values were not keys a moment ago. */
static inline size_t cold_values(const struct octavo_attention *a, size_t t)
{
	return a->v == a->k ? 0 : smaller(PANEL, a->t1 - a->t0 - t);
}

/* Columns [j, j + count) of values that will be wanted. */
static inline void prefetch_values(const uint16_t *const *v, size_t tokens, size_t j, size_t count)
{
	for (size_t t = 0; t < tokens; t++)
		for (size_t i = 0; i < count; i += 32)
			__builtin_prefetch(v[t] + j + i, 0, 2);
}

/* ---- many queries ------------------------------------------------------------------------------------------ */

/* Columns [k0, k1) of 16 tokens' keys; `next` are the keys that will be wanted in their place. */
static inline void fill_keys(const uint8_t *const *row, const uint8_t *const *next, size_t k0, size_t k1, term *panel)
{
	for (size_t k = k0; k < k1; k += CHUNK) {
		prefetch_keys(next, k);
		lay_keys(row, k, smaller(CHUNK, k1 - k), panel + TERMS(k - k0) * LANES);
	}
}

/* q . k_t of all heads for up to WIDE tokens from t on, into p[head][t - t0]. */
static void scores(const struct octavo_attention *a, size_t t)
{
	alignas(64) term panel[TERMS(PANEL) * WIDE];
	size_t count = smaller(WIDE, a->t1 - t);
	const uint8_t *row[WIDE], *next[WIDE];
	struct octavo_rows q = {.x = a->q, .rows = a->heads, .ld = a->ldq};
	struct fold f = {.y = a->p + (t - a->t0), .ldy = OCTAVO_SEGMENT, .count = count};

	keys_of(a, t, WIDE, row);
	keys_of(a, t + WIDE, WIDE, next);
	for (size_t k0 = 0, k1; k0 < a->k_dim; k0 = k1) {
		k1 = k0 + smaller(PANEL, a->k_dim - k0);
		for (size_t i = 0; i < count; i += LANES)
			fill_keys(row + i, next + i, k0, k1, panel + i * TERMS(PANEL));
		f.first = k0 == 0;
		multiply_wide(&q, k0, k1 - k0, panel, f);
	}
}

/* o[head][j..j + count) over all tokens. */
static void weigh(const struct octavo_attention *a, const uint16_t *const *v, size_t j, size_t count)
{
	alignas(64) term panel[TERMS(PANEL) * WIDE];
	struct octavo_rows p = {.x = (const uint16_t *)(const void *)a->p, .rows = a->heads, .ld = 2 * OCTAVO_SEGMENT};
	struct fold f = {.y = a->o + j, .ldy = a->v_dim, .count = count};
	size_t tokens = a->t1 - a->t0;

	for (size_t t0 = 0, t1; t0 < tokens; t0 = t1) {
		t1 = t0 + smaller(PANEL, tokens - t0);
		for (size_t t = t0; t < t1; t += CHUNK)
			lay_values(v + t, smaller(CHUNK, t1 - t), j, count, panel + TERMS(t - t0) * LANES);
		if (t1 < tokens)
			prefetch_values(v + t1, cold_values(a, t1), j, count);
		else
			prefetch_values(v, cold_values(a, 0), j + count, smaller(WIDE, a->v_dim - j - count));
		f.first = t0 == 0;
		multiply_wide(&p, t0, t1 - t0, panel, f);
	}
}

/* ---- few queries ------------------------------------------------------------------------------------------ */

/* Up to so many, keys and values go from the cache straight to the chains: a panel would cost more than it saves. */
#define FEW_QUERIES (FEW < 4 ? FEW : 4)

/* acc = acc + (E + O) for 32 columns or fewer of 16 keys. */
ALWAYS_INLINE void few_keys(const size_t heads, const uint8_t *const *row, size_t k, size_t count, const term *q,
                            vf *acc)
{
	vf even[FEW_QUERIES], odd[FEW_QUERIES];

#pragma GCC unroll 4
	for (size_t h = 0; h < heads; h++)
		even[h] = odd[h] = vf_zero();
	step_keys(heads, row, k, count, q, even, odd);
#pragma GCC unroll 4
	for (size_t h = 0; h < heads; h++)
		acc[h] = vf_add(acc[h], vf_add(even[h], odd[h]));
}

ALWAYS_INLINE void few_scores(const size_t heads, const struct octavo_attention *a)
{
	alignas(64) term q[FEW_QUERIES * TERMS(PANEL)];

	for (size_t k0 = 0, k1; k0 < a->k_dim; k0 = k1) {
		k1 = k0 + smaller(PANEL, a->k_dim - k0);
		for (size_t h = 0; h < heads; h++)
			widen_row(a->q + h * a->ldq + k0, k1 - k0, 0, q + h * TERMS(PANEL));
		for (size_t t = a->t0; t < a->t1; t += LANES) {
			const size_t count = smaller(LANES, a->t1 - t);
			const uint8_t *row[LANES], *next[LANES];
			float *p = a->p + (t - a->t0);
			vf acc[FEW_QUERIES];
			keys_of(a, t, LANES, row);
			keys_of(a, t + LANES, LANES, next);
#pragma GCC unroll 4
			for (size_t h = 0; h < heads; h++)
				acc[h] = k0 == 0 ? vf_zero() : vf_load_first(p + h * OCTAVO_SEGMENT, count);
			for (size_t k = k0; k < k1; k += CHUNK) {
				prefetch_keys(next, k);
				few_keys(heads, row, k, smaller(CHUNK, k1 - k), q + TERMS(k - k0), acc);
			}
#pragma GCC unroll 4
			for (size_t h = 0; h < heads; h++)
				vf_store_first(p + h * OCTAVO_SEGMENT, count, acc[h]);
		}
	}
}

/* o[head][j..j + count) joined by `tokens` <= PANEL tokens, the segment's first ones if `first`; `ahead` tokens of
 * the next panel are fetched meanwhile. */
ALWAYS_INLINE void few_values(const size_t heads, const uint16_t *const *v, size_t tokens, size_t ahead, size_t j,
                              size_t count, const term *p, const int first, float *o, size_t ldo)
{
	vf acc[2 * FEW_QUERIES];
	const size_t columns[2] = {count, count > LANES ? count - LANES : 0};

#pragma GCC unroll 8
	for (size_t i = 0; i < 2 * heads; i++)
		acc[i] = first ? vf_zero() : vf_load_first(o + i / 2 * ldo + i % 2 * LANES, columns[i % 2]);
	for (size_t t = 0; t < tokens; t += CHUNK) {
		vf even[2 * FEW_QUERIES], odd[2 * FEW_QUERIES];
#pragma GCC unroll 8
		for (size_t i = 0; i < 2 * heads; i++)
			even[i] = odd[i] = vf_zero();
		prefetch_values(v + PANEL + t, smaller(CHUNK, ahead - smaller(t, ahead)), j, count);
		step_values(heads, v + t, smaller(CHUNK, tokens - t), j, count, p + TERMS(t), even, odd);
#pragma GCC unroll 8
		for (size_t i = 0; i < 2 * heads; i++)
			acc[i] = vf_add(acc[i], vf_add(even[i], odd[i]));
	}
#pragma GCC unroll 8
	for (size_t i = 0; i < 2 * heads; i++)
		vf_store_first(o + i / 2 * ldo + i % 2 * LANES, columns[i % 2], acc[i]);
}

ALWAYS_INLINE void few_weigh(const size_t heads, const struct octavo_attention *a, const uint16_t *const *v)
{
	alignas(64) term p[FEW_QUERIES * TERMS(PANEL)];
	const size_t tokens = a->t1 - a->t0;

	for (size_t t = 0, count; t < tokens; t += count) {
		count = smaller(PANEL, tokens - t);
		for (size_t h = 0; h < heads; h++)
			widen_row((const uint16_t *)(const void *)(a->p + h * OCTAVO_SEGMENT) + t, count, 0,
			          p + h * TERMS(PANEL));
		const size_t ahead = cold_values(a, t + count);
		size_t j = 0;
		for (; j + FEW_WIDE <= a->v_dim; j += FEW_WIDE)
			few_values(heads, v + t, count, ahead, j, FEW_WIDE, p, t == 0, a->o + j, a->v_dim);
		if (j < a->v_dim)
			few_values(heads, v + t, count, ahead, j, a->v_dim - j, p, t == 0, a->o + j, a->v_dim);
	}
}

ALWAYS_INLINE void few_queries(const size_t heads, const struct octavo_attention *a, const uint16_t *const *v)
{
	few_scores(heads, a);
	softmax(a);
	few_weigh(heads, a, v);
}

/* ---- all -------------------------------------------------------------------------------------------------- */

static void attention(const struct octavo_attention *a)
{
	const uint16_t *v[OCTAVO_SEGMENT];

	for (size_t t = a->t0; t < a->t1; t++)
		v[t - a->t0] = a->v + slot_of(a, t) * a->ldv;
	switch (a->heads) {
	case 1:
		few_queries(1, a, v);
		return;
	case 2:
		few_queries(2, a, v);
		return;
#if FEW > 2
	case 3:
		few_queries(3, a, v);
		return;
	case 4:
		few_queries(4, a, v);
		return;
#endif
	}
	for (size_t t = a->t0; t < a->t1; t += WIDE)
		scores(a, t);
	softmax(a);
	for (size_t j = 0; j < a->v_dim; j += WIDE)
		weigh(a, v, j, smaller(WIDE, a->v_dim - j));
}

static inline void attention_merge(size_t heads, size_t v_dim, float *m1, float *l1, float *o1, const float *m2,
                                   const float *l2, const float *o2)
{
	for (size_t h = 0; h < heads; h++) {
		float m = m1[h] > m2[h] ? m1[h] : m2[h];
		vf a = vf_exp(vf_set1(m1[h] - m)), b = vf_exp(vf_set1(m2[h] - m));
		m1[h] = m;
		vf_store_first(l1 + h, 1, vf_fma(vf_set1(l2[h]), b, vf_mul(vf_set1(l1[h]), a)));
		for (size_t j = 0; j < v_dim; j += LANES) {
			float *o = o1 + h * v_dim + j;
			vf first = vf_mul(vf_load_first(o, v_dim - j), a);
			vf second = vf_load_first(o2 + h * v_dim + j, v_dim - j);
			vf_store_first(o, v_dim - j, vf_fma(second, b, first));
		}
	}
}

static inline void attention_finish(size_t heads, size_t v_dim, float *o, const float *l)
{
	for (size_t h = 0; h < heads; h++)
		for (size_t j = 0; j < v_dim; j += LANES) {
			float *p = o + h * v_dim + j;
			vf_store_first(p, v_dim - j, vf_div(vf_load_first(p, v_dim - j), vf_set1(l[h])));
		}
}

#endif
