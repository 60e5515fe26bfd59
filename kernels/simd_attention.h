/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention for any vectors.  Scores are a GEMM whose outputs are tokens, the weighing of v is one whose outputs
 * are v's columns; all heads share each panel.  The including file has included what multiplies rows by panels that are
 * two vectors wide, simd_wide.h or its own:
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

static void attention(const struct octavo_attention *a)
{
	const uint16_t *v[OCTAVO_SEGMENT];

	for (size_t t = a->t0; t < a->t1; t += WIDE)
		scores(a, t);
	softmax(a);
	for (size_t t = a->t0; t < a->t1; t++)
		v[t - a->t0] = a->v + slot_of(a, t) * a->ldv;
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
