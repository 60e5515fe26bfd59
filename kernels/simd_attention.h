/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention for any vectors.  Scores are a GEMM whose outputs are tokens, the weighing of v is one whose outputs
 * are v's columns; all heads share each panel.
 */
#ifndef OCTAVO_SIMD_ATTENTION_H
#define OCTAVO_SIMD_ATTENTION_H

#include "kernels/simd_panel.h"
#include "kernels/simd_softmax.h"

/* q . k_t of all heads for up to 16 tokens from t on, into p[head][t - t0]. */
static void scores(const struct octavo_attention *a, size_t t)
{
	alignas(64) float panel[PANEL * LANES];
	size_t count = smaller(LANES, a->t1 - t);
	const uint8_t *row[LANES];
	struct octavo_rows q = {.x = a->q, .rows = a->heads, .ld = a->ldq};
	struct fold f = {.y = a->p + (t - a->t0), .ldy = OCTAVO_SEGMENT, .count = count};

	for (size_t i = 0; i < LANES; i++) /* lanes without a token repeat the last one */
		row[i] = (const uint8_t *)(a->k + slot_of(a, t + smaller(i, count - 1)) * a->ldk);
	for (size_t k0 = 0, k1; k0 < a->k_dim; k0 = k1) {
		k1 = k0 + smaller(PANEL, a->k_dim - k0);
		for (size_t k = k0; k < k1; k += CHUNK) {
			vi d[LANES];
			load_transposed(row, 2 * k, 2 * smaller(CHUNK, k1 - k), d);
			for (size_t i = 0; i < LANES; i++) {
				vf w[2];
				split_bf16(d[i], w);
				vf_store(panel + (k - k0 + 2 * i) * LANES, w[0]);
				vf_store(panel + (k - k0 + 2 * i + 1) * LANES, w[1]);
			}
		}
		f.first = k0 == 0;
		multiply_rows(&q, k0, k1 - k0, panel, f);
	}
}

/* o[head][j..j + count) over all tokens. */
static void weigh(const struct octavo_attention *a, const uint16_t *const *v, size_t j, size_t count)
{
	alignas(64) float panel[PANEL * LANES];
	struct octavo_rows p = {.x = (const uint16_t *)(const void *)a->p, .rows = a->heads, .ld = 2 * OCTAVO_SEGMENT};
	struct fold f = {.y = a->o + j, .ldy = a->v_dim, .count = count};
	size_t tokens = a->t1 - a->t0;

	for (size_t t0 = 0, t1; t0 < tokens; t0 = t1) {
		size_t t = t0;
		t1 = t0 + smaller(PANEL, tokens - t0);
		for (; t < t1; t++)
			vf_store(panel + (t - t0) * LANES, vf_load_bf16(v[t] + j, count));
		for (; t % CHUNK; t++)
			vf_store(panel + (t - t0) * LANES, vf_zero());
		f.first = t0 == 0;
		multiply_rows(&p, t0, t1 - t0, panel, f);
	}
}

static void attention(const struct octavo_attention *a)
{
	const uint16_t *v[OCTAVO_SEGMENT];

	for (size_t t = a->t0; t < a->t1; t += LANES)
		scores(a, t);
	softmax(a);
	for (size_t t = a->t0; t < a->t1; t++)
		v[t - a->t0] = a->v + slot_of(a, t) * a->ldv;
	for (size_t j = 0; j < a->v_dim; j += LANES)
		weigh(a, v, j, smaller(LANES, a->v_dim - j));
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
