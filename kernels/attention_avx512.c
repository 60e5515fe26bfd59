/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention for AVX-512.  Scores are a GEMM whose outputs are tokens, the weighing of v is one whose outputs
 * are v's columns; all heads share each panel.
 */
#include "kernels/arith_avx512.h"
#include "kernels/panel_avx512.h"
#include "kernels/sets.h"

static inline size_t slot_of(const struct octavo_attention *a, size_t t)
{
	return t < a->committed ? t : a->path[t - a->committed];
}

/* q . k_t of all heads for up to 16 tokens from t on, into p[head][t - t0]. */
static void scores(const struct octavo_attention *a, size_t t)
{
	_Alignas(64) float panel[PANEL * LANES];
	size_t count = smaller(LANES, a->t1 - t);
	const uint8_t *row[LANES];
	struct octavo_rows q = {.x = a->q, .rows = a->heads, .ld = a->ldq};
	struct fold f = {.y = a->p + (t - a->t0), .ldy = OCTAVO_SEGMENT, .lanes = first_lanes(count)};

	for (size_t i = 0; i < LANES; i++) /* lanes without a token repeat the last one */
		row[i] = (const uint8_t *)(a->k + slot_of(a, t + smaller(i, count - 1)) * a->ldk);
	for (size_t k0 = 0, k1; k0 < a->k_dim; k0 = k1) {
		k1 = k0 + smaller(PANEL, a->k_dim - k0);
		for (size_t k = k0; k < k1; k += CHUNK) {
			__m512i d[LANES];
			load_transposed(row, 2 * k, 2 * smaller(CHUNK, k1 - k), d);
			for (size_t i = 0; i < LANES; i++) {
				__m512 w[2];
				split_bf16(d[i], w);
				_mm512_store_ps(panel + (k - k0 + 2 * i) * LANES, w[0]);
				_mm512_store_ps(panel + (k - k0 + 2 * i + 1) * LANES, w[1]);
			}
		}
		f.first = k0 == 0;
		multiply_rows(&q, k0, k1 - k0, panel, f);
	}
}

/* One head's products to BF16 probabilities, which take the front half of its row; sets *m and *l. */
static void probabilities(float *p, size_t tokens, float tau, float *m, float *l)
{
	__m512 max = _mm512_set1_ps(-__builtin_inff()), sum = _mm512_setzero_ps();

	for (size_t t = 0; t < tokens; t += LANES) {
		__mmask16 lanes = first_lanes(tokens - t);
		__m512 s = _mm512_mul_ps(_mm512_loadu_ps(p + t), _mm512_set1_ps(tau));
		_mm512_storeu_ps(p + t, s);
		max = _mm512_mask_max_ps(max, lanes, s, max); /* in this order a NaN loses */
	}
	*m = _mm512_reduce_max_ps(max);
	for (size_t t = 0; t < tokens; t += LANES) {
		__m512 e = exp_ps(_mm512_sub_ps(_mm512_loadu_ps(p + t), _mm512_set1_ps(*m)));
		e = _mm512_maskz_mov_ps(first_lanes(tokens - t), e);
		sum = _mm512_add_ps(sum, e);
		_mm256_storeu_si256((__m256i *)((uint8_t *)p + 2 * t), high_halves(round_activation(e)));
	}
	*l = lane_fold(sum);
}

/* o[head][j..j + count) over all tokens. */
static void weigh(const struct octavo_attention *a, const uint16_t *const *v, size_t j, size_t count)
{
	_Alignas(64) float panel[PANEL * LANES];
	struct octavo_rows p = {.x = (const void *)a->p, .rows = a->heads, .ld = 2 * OCTAVO_SEGMENT};
	struct fold f = {.y = a->o + j, .ldy = a->v_dim, .lanes = first_lanes(count)};
	size_t tokens = a->t1 - a->t0;

	for (size_t t0 = 0, t1; t0 < tokens; t0 = t1) {
		size_t t = t0;
		t1 = t0 + smaller(PANEL, tokens - t0);
		for (; t < t1; t++)
			_mm512_store_ps(panel + (t - t0) * LANES, widen(_mm256_maskz_loadu_epi16(f.lanes, v[t] + j)));
		for (; t % CHUNK; t++)
			_mm512_store_ps(panel + (t - t0) * LANES, _mm512_setzero_ps());
		f.first = t0 == 0;
		multiply_rows(&p, t0, t1 - t0, panel, f);
	}
}

static void attention(const struct octavo_attention *a)
{
	const uint16_t *v[OCTAVO_SEGMENT];

	for (size_t t = a->t0; t < a->t1; t += LANES)
		scores(a, t);
	for (size_t h = 0; h < a->heads; h++)
		probabilities(a->p + h * OCTAVO_SEGMENT, a->t1 - a->t0, a->tau, &a->m[h], &a->l[h]);
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
		__m512 a = exp_ps(_mm512_set1_ps(m1[h] - m)), b = exp_ps(_mm512_set1_ps(m2[h] - m));
		m1[h] = m;
		l1[h] = _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(l2[h]), _mm512_castps512_ps128(b),
		                                   _mm_mul_ss(_mm_set_ss(l1[h]), _mm512_castps512_ps128(a))));
		for (size_t j = 0; j < v_dim; j += LANES) {
			__mmask16 lanes = first_lanes(v_dim - j);
			float *o = o1 + h * v_dim + j;
			__m512 first = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, o), a);
			__m512 second = _mm512_maskz_loadu_ps(lanes, o2 + h * v_dim + j);
			_mm512_mask_storeu_ps(o, lanes, _mm512_fmadd_ps(second, b, first));
		}
	}
}

static void attention_finish(size_t heads, size_t v_dim, float *o, const float *l)
{
	for (size_t h = 0; h < heads; h++)
		for (size_t j = 0; j < v_dim; j += LANES) {
			__mmask16 lanes = first_lanes(v_dim - j);
			float *p = o + h * v_dim + j;
			__m512 value = _mm512_div_ps(_mm512_maskz_loadu_ps(lanes, p), _mm512_set1_ps(l[h]));
			_mm512_mask_storeu_ps(p, lanes, value);
		}
}

const struct octavo_kernels octavo_set_attention_avx512 = {
        .attention = OCTAVO_KERNEL(attention, attention, "avx512", 1, attention),
        .attention_merge = OCTAVO_KERNEL(attention_merge, attention_merge, "avx512", 1, attention_merge),
        .attention_finish = OCTAVO_KERNEL(attention_finish, attention_finish, "avx512", 1, attention_finish),
};
