/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention for any vectors.  Scores are a GEMM whose outputs are tokens, the weighing of v is one whose outputs
 * are v's columns; all heads share each panel, and a handful of them do without.  The including file has included what
 * multiplies rows by panels that are two vectors wide, simd_wide.h or its own:
 *
 *	void multiply_wide(const struct octavo_rows *x, size_t k0, size_t count, const float *panel, struct fold f);
 *		columns [k0, k0 + count) of x, count <= PANEL, meet panel [WIDE / LANES][PANEL][LANES], whose elements
 *		behind count are zeros up to a multiple of 32; f.count is up to WIDE, and y = acc is all that f asks for
 */
#ifndef OCTAVO_SIMD_ATTENTION_H
#define OCTAVO_SIMD_ATTENTION_H

#include "kernels/simd_panel.h"
#include "kernels/simd_softmax.h"

#define WIDE (2 * LANES) /* outputs of a panel */

/* ---- many queries ------------------------------------------------------------------------------------------ */

/* Columns [k0, k1) of 16 tokens' keys; `next` are the keys that will be wanted in their place. */
static inline void fill_keys(const uint8_t *const *row, const uint8_t *const *next, size_t k0, size_t k1, float *panel)
{
	for (size_t k = k0; k < k1; k += CHUNK) {
		vi d[LANES];
#pragma GCC unroll 16
		for (size_t i = 0; i < LANES; i++)
			__builtin_prefetch(next[i] + 2 * k, 0, 2);
		load_transposed(row, 2 * k, 2 * smaller(CHUNK, k1 - k), d);
		for (size_t i = 0; i < LANES; i++) {
			vf w[2];
			split_bf16(d[i], w);
			vf_store(panel + (k - k0 + 2 * i) * LANES, w[0]);
			vf_store(panel + (k - k0 + 2 * i + 1) * LANES, w[1]);
		}
	}
}

/* q . k_t of all heads for up to 32 tokens from t on, into p[head][t - t0]. */
static void scores(const struct octavo_attention *a, size_t t)
{
	alignas(64) float panel[PANEL * WIDE];
	size_t count = smaller(WIDE, a->t1 - t);
	const uint8_t *row[WIDE], *next[WIDE];
	struct octavo_rows q = {.x = a->q, .rows = a->heads, .ld = a->ldq};
	struct fold f = {.y = a->p + (t - a->t0), .ldy = OCTAVO_SEGMENT, .count = count};

	for (size_t i = 0; i < WIDE; i++) { /* lanes without a token repeat the last one */
		row[i] = (const uint8_t *)(a->k + slot_of(a, t + smaller(i, count - 1)) * a->ldk);
		next[i] = (const uint8_t *)(a->k + slot_of(a, smaller(t + WIDE + i, a->t1 - 1)) * a->ldk);
	}
	for (size_t k0 = 0, k1; k0 < a->k_dim; k0 = k1) {
		k1 = k0 + smaller(PANEL, a->k_dim - k0);
		for (size_t i = 0; i < count; i += LANES)
			fill_keys(row + i, next + i, k0, k1, panel + i * PANEL);
		f.first = k0 == 0;
		multiply_wide(&q, k0, k1 - k0, panel, f);
	}
}

/* o[head][j..j + count) over all tokens. */
static void weigh(const struct octavo_attention *a, const uint16_t *const *v, size_t j, size_t count)
{
	alignas(64) float panel[PANEL * WIDE];
	struct octavo_rows p = {.x = (const uint16_t *)(const void *)a->p, .rows = a->heads, .ld = 2 * OCTAVO_SEGMENT};
	struct fold f = {.y = a->o + j, .ldy = a->v_dim, .count = count};
	size_t tokens = a->t1 - a->t0;

	for (size_t t0 = 0, t1; t0 < tokens; t0 = t1) {
		t1 = t0 + smaller(PANEL, tokens - t0);
		for (size_t i = 0; i < count; i += LANES) {
			float *at = panel + i * PANEL;
			size_t t = t0;
			for (; t < t1; t++, at += LANES)
				vf_store(at, vf_load_bf16(v[t] + j + i, count - i));
			for (; t % CHUNK; t++, at += LANES)
				vf_store(at, vf_zero());
		}
		f.first = t0 == 0;
		multiply_wide(&p, t0, t1 - t0, panel, f);
	}
}

/* ---- few queries ------------------------------------------------------------------------------------------ */

/* Up to so many, keys and values go from the cache straight to the chains: a panel would cost more than it saves. */
#define FEW_QUERIES (FEW < 4 ? FEW : 4)

/* acc = acc + (E + O) for 32 columns or fewer of 16 keys. */
ALWAYS_INLINE void few_keys(const size_t heads, const uint8_t *const *row, size_t k, size_t count, const float *q,
                            vf *acc)
{
	vf even[FEW_QUERIES], odd[FEW_QUERIES];
	vi d[LANES];

	load_transposed(row, 2 * k, 2 * count, d);
#pragma GCC unroll 4
	for (size_t h = 0; h < heads; h++)
		even[h] = odd[h] = vf_zero();
#pragma GCC unroll 16
	for (size_t i = 0; i < LANES; i++) {
		vf w[2];
		split_bf16(d[i], w);
#pragma GCC unroll 4
		for (size_t h = 0; h < heads; h++) {
			even[h] = vf_fma(w[0], vf_set1(q[h * PANEL + 2 * i]), even[h]);
			odd[h] = vf_fma(w[1], vf_set1(q[h * PANEL + 2 * i + 1]), odd[h]);
		}
	}
#pragma GCC unroll 4
	for (size_t h = 0; h < heads; h++)
		acc[h] = vf_add(acc[h], vf_add(even[h], odd[h]));
}

ALWAYS_INLINE void few_scores(const size_t heads, const struct octavo_attention *a)
{
	alignas(64) float q[FEW_QUERIES * PANEL];

	for (size_t k0 = 0, k1; k0 < a->k_dim; k0 = k1) {
		k1 = k0 + smaller(PANEL, a->k_dim - k0);
		for (size_t h = 0; h < heads; h++)
			widen_row(a->q + h * a->ldq + k0, k1 - k0, 0, q + h * PANEL);
		for (size_t t = a->t0; t < a->t1; t += LANES) {
			const size_t count = smaller(LANES, a->t1 - t);
			const uint8_t *row[LANES];
			float *p = a->p + (t - a->t0);
			vf acc[FEW_QUERIES];
			for (size_t i = 0; i < LANES; i++) /* lanes without a token repeat the last one */
				row[i] = (const uint8_t *)(a->k + slot_of(a, t + smaller(i, count - 1)) * a->ldk);
#pragma GCC unroll 4
			for (size_t h = 0; h < heads; h++)
				acc[h] = k0 == 0 ? vf_zero() : vf_load_first(p + h * OCTAVO_SEGMENT, count);
			for (size_t k = k0; k < k1; k += CHUNK)
				few_keys(heads, row, k, smaller(CHUNK, k1 - k), q + (k - k0), acc);
#pragma GCC unroll 4
			for (size_t h = 0; h < heads; h++)
				vf_store_first(p + h * OCTAVO_SEGMENT, count, acc[h]);
		}
	}
}

/* sum[h][i] = fma(v[i], p[h], sum[h][i]) for one token and up to 32 columns. */
ALWAYS_INLINE void few_token(const size_t heads, const uint16_t *v, size_t count, const float *p, vf *sum)
{
	const vf w[2] = {vf_load_bf16(v, count), count > LANES ? vf_load_bf16(v + LANES, count - LANES) : vf_zero()};

#pragma GCC unroll 4
	for (size_t h = 0; h < heads; h++)
#pragma GCC unroll 2
		for (size_t i = 0; i < 2; i++)
			sum[2 * h + i] = vf_fma(w[i], vf_set1(p[h * PANEL]), sum[2 * h + i]);
}

/* o[head][j..j + count) joined by `tokens` <= PANEL tokens, the segment's first ones if `first`. */
ALWAYS_INLINE void few_values(const size_t heads, const uint16_t *const *v, size_t tokens, size_t j, size_t count,
                              const float *p, const int first, float *o, size_t ldo)
{
	vf acc[2 * FEW_QUERIES];
	const size_t columns[2] = {count, count > LANES ? count - LANES : 0};

#pragma GCC unroll 8
	for (size_t i = 0; i < 2 * heads; i++)
		acc[i] = first ? vf_zero() : vf_load_first(o + i / 2 * ldo + i % 2 * LANES, columns[i % 2]);
	for (size_t t = 0; t < tokens; t += CHUNK) {
		const size_t end = smaller(t + CHUNK, tokens);
		vf even[2 * FEW_QUERIES], odd[2 * FEW_QUERIES];
#pragma GCC unroll 8
		for (size_t i = 0; i < 2 * heads; i++)
			even[i] = odd[i] = vf_zero();
		size_t u = t;
		for (; u + 1 < end; u += 2) {
			few_token(heads, v[u] + j, count, p + u, even);
			few_token(heads, v[u + 1] + j, count, p + u + 1, odd);
		}
		if (u < end)
			few_token(heads, v[u] + j, count, p + u, even);
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
	alignas(64) float p[FEW_QUERIES * PANEL];
	const size_t tokens = a->t1 - a->t0;

	for (size_t t = 0, count; t < tokens; t += count) {
		count = smaller(PANEL, tokens - t);
		for (size_t h = 0; h < heads; h++)
			widen_row((const uint16_t *)(const void *)(a->p + h * OCTAVO_SEGMENT) + t, count, 0,
			          p + h * PANEL);
		size_t j = 0;
		for (; j + WIDE <= a->v_dim; j += WIDE)
			few_values(heads, v + t, count, j, WIDE, p, t == 0, a->o + j, a->v_dim);
		if (j < a->v_dim)
			few_values(heads, v + t, count, j, a->v_dim - j, p, t == 0, a->o + j, a->v_dim);
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

static void attention_merge(size_t heads, size_t v_dim, float *m1, float *l1, float *o1, const float *m2,
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

static void attention_finish(size_t heads, size_t v_dim, float *o, const float *l)
{
	for (size_t h = 0; h < heads; h++)
		for (size_t j = 0; j < v_dim; j += LANES) {
			float *p = o + h * v_dim + j;
			vf_store_first(p, v_dim - j, vf_div(vf_load_first(p, v_dim - j), vf_set1(l[h])));
		}
}

#endif
