/* SPDX-License-Identifier: Apache-2.0
 *
 * The definition of attention over one segment of 512 tokens, and of the merge of segments
 * (the online softmax of Milakov and Gimelshein, arXiv 1805.02867): see octavo_kernels.h.
 */
#include "kernels/arith.h"
#include "kernels/chunk_ref.h"
#include "kernels/sets.h"

/* Output columns that go over the tokens together. */
#define COLUMNS 64

static inline size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t slot_of(const struct octavo_attention *a, size_t t)
{
	return t < a->committed ? t : a->path[t - a->committed];
}

/* s_t = (q . k_t) * tau for one head and its tokens [t0, t1); returns the maximum. */
static float scores(const struct octavo_attention *a, size_t t1, const uint16_t *q, float *s)
{
	float max = -INFINITY;

	for (size_t t = a->t0; t < t1; t++) {
		const uint16_t *k = a->k + slot_of(a, t) * a->ldk;
		float acc = 0.0f;
		for (size_t i = 0; i < a->k_dim; i += OCTAVO_CHUNK) {
			float chunk[OCTAVO_CHUNK];
			size_t count = min(OCTAVO_CHUNK, a->k_dim - i);
			for (size_t j = 0; j < count; j++)
				chunk[j] = octavo_bf16_float(k[i + j]);
			acc = acc + octavo_chunk(q + i, chunk, count);
		}
		s[t - a->t0] = acc * a->tau;
		if (s[t - a->t0] > max)
			max = s[t - a->t0];
	}
	return max;
}

/* Turns scores into BF16 probabilities; returns the lane sum of the unrounded ones. */
static float probabilities(float *p, size_t tokens, float max)
{
	float lane[16] = {0};

	for (size_t t = 0; t < tokens; t++) {
		float e = octavo_exp(p[t] - max);
		lane[t % 16] = lane[t % 16] + e;
		p[t] = octavo_bf16_float(octavo_bf16_activation(e));
	}
	return octavo_lane_fold(lane);
}

/* o[j] for `columns` columns from j0 on. */
static void weigh(const struct octavo_attention *a, size_t t1, const float *p, size_t j0, size_t columns, float *o)
{
	float acc[COLUMNS] = {0};

	for (size_t c = a->t0; c < t1; c += OCTAVO_CHUNK) {
		float chain[2][COLUMNS] = {{0}, {0}}; /* even and odd tokens */
		size_t end = min(c + OCTAVO_CHUNK, t1);
		for (size_t t = c; t < end; t++) {
			const uint16_t *v = a->v + slot_of(a, t) * a->ldv + j0;
			float *sum = chain[(t - c) % 2];
			for (size_t j = 0; j < columns; j++)
				sum[j] = sum[j] + p[t - a->t0] * octavo_bf16_float(v[j]);
		}
		for (size_t j = 0; j < columns; j++)
			acc[j] = acc[j] + (chain[0][j] + chain[1][j]);
	}
	memcpy(o, acc, columns * sizeof *o);
}

static void attention_ref(const struct octavo_attention *a)
{
	for (size_t h = 0; h < a->heads; h++) {
		float *p = a->p + h * OCTAVO_SEGMENT;
		size_t t1 = a->end ? a->end[h] : a->t1;
		a->m[h] = scores(a, t1, a->q + h * a->ldq, p);
		a->l[h] = probabilities(p, t1 - a->t0, a->m[h]);
		for (size_t j = 0; j < a->v_dim; j += COLUMNS)
			weigh(a, t1, p, j, min(COLUMNS, a->v_dim - j), a->o + h * a->v_dim + j);
	}
}

static void attention_merge_ref(size_t heads, size_t v_dim, float *m1, float *l1, float *o1, const float *m2,
                                const float *l2, const float *o2)
{
	for (size_t h = 0; h < heads; h++) {
		float m = m1[h] > m2[h] ? m1[h] : m2[h];
		float a = octavo_exp(m1[h] - m), b = octavo_exp(m2[h] - m);
		m1[h] = m;
		l1[h] = fmaf(l2[h], b, l1[h] * a);
		for (size_t j = h * v_dim; j < (h + 1) * v_dim; j++)
			o1[j] = fmaf(o2[j], b, o1[j] * a);
	}
}

static void attention_finish_ref(size_t heads, size_t v_dim, float *o, const float *l)
{
	for (size_t h = 0; h < heads; h++)
		for (size_t j = 0; j < v_dim; j++)
			o[h * v_dim + j] = o[h * v_dim + j] / l[h];
}

const struct octavo_kernels octavo_set_attention_ref = {
        .attention = OCTAVO_KERNEL(attention, attention, "ref", 1, attention_ref),
        .attention_merge = OCTAVO_KERNEL(attention_merge, attention_merge, "ref", 1, attention_merge_ref),
        .attention_finish = OCTAVO_KERNEL(attention_finish, attention_finish, "ref", 1, attention_finish_ref),
};
