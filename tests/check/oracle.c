/* SPDX-License-Identifier: Apache-2.0
 *
 * The oracle's arithmetic and its sums of products: GEMM and attention.
 */
#include "oracle.h"

#include "kernels/arith.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(FLT_EVAL_METHOD == 0, "the oracle needs float and double without excess precision");

#define UNIT 0x1p-24 /* half an ulp of 1 in FP32 */

static size_t subnormals;

size_t oracle_take_subnormals(void)
{
	size_t count = subnormals;
	subnormals = 0;
	return count;
}

/* ---- Formats ---- */

/* Sign, exponent and mantissa of an IEEE-like format; E4M3 keeps its top exponent for numbers. */
static double minifloat(uint32_t bits, int exponent_bits, int mantissa_bits, bool all_finite)
{
	int bias = (1 << (exponent_bits - 1)) - 1;
	int top = (1 << exponent_bits) - 1;
	int mantissa = (int)(bits & ((1u << mantissa_bits) - 1));
	int exponent = (int)(bits >> mantissa_bits) & top;
	double sign = bits >> (exponent_bits + mantissa_bits) & 1 ? -1.0 : 1.0;

	if (exponent == top && all_finite && mantissa == (1 << mantissa_bits) - 1)
		return NAN;
	if (exponent == top && !all_finite)
		return mantissa ? NAN : sign * INFINITY;
	if (exponent == 0)
		return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
	return sign * ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

double oracle_element(enum octavo_dtype dtype, const void *array, size_t index)
{
	const uint8_t *bytes = array;
	float single;

	switch (dtype) {
	case OCTAVO_F32:
		memcpy(&single, bytes + 4 * index, sizeof single);
		return single;
	case OCTAVO_BF16:
		return minifloat(bytes[2 * index] | (uint32_t)bytes[2 * index + 1] << 8, 8, 7, false);
	case OCTAVO_F16:
		return minifloat(bytes[2 * index] | (uint32_t)bytes[2 * index + 1] << 8, 5, 10, false);
	case OCTAVO_E4M3:
		return minifloat(bytes[index], 4, 3, true);
	case OCTAVO_E5M2:
		return minifloat(bytes[index], 5, 2, false);
	case OCTAVO_E8M0:
		return bytes[index] == 255 ? NAN : ldexp(1.0, bytes[index] - 127);
	case OCTAVO_NONE:
		break;
	}
	return NAN;
}

uint16_t oracle_bf16(double x)
{
	int exponent;
	double mantissa = frexp(x, &exponent);
	/* 8 significant bits, or fewer below the smallest normal number: the last place is worth 2^-133 there. */
	int last = exponent - 8 < -133 ? -133 : exponent - 8;
	float rounded = isfinite(x) ? (float)ldexp(nearbyint(ldexp(mantissa, exponent - last)), last) : (float)x;
	uint32_t bits;
	memcpy(&bits, &rounded, sizeof bits);
	return (uint16_t)(bits >> 16 | (isnan(x) ? 0x40 : 0));
}

/* ---- Rounding ---- */

/* Rounds high + low to FP32, where high is the double nearest to that exact sum.  A double whose last bit is odd stands
 * for "not exact, and between its neighbours", so the second rounding cannot meet a false tie (Boldo and Melquiond,
 * "Emulation of FMA and correctly rounded sums", IEEE TC 57:4, 2008). */
static float nearest(double high, double low)
{
	if (low != 0.0 && isfinite(high)) {
		uint64_t bits;
		memcpy(&bits, &high, sizeof bits);
		if (bits % 2 == 0)
			high = nextafter(high, low > 0.0 ? INFINITY : -INFINITY);
	}
	float result = (float)high;
	subnormals += result != 0.0f && fabsf(result) < FLT_MIN;
	return result;
}

/* a + b, for a product a that is exact in double. */
static float sum_rounded(double a, double b)
{
	double high = a + b;
	double part = high - a;
	double low = (a - (high - part)) + (b - part); /* Knuth's TwoSum */
	return nearest(high, low);
}

float oracle_fma(float a, float b, float c)
{
	return sum_rounded((double)a * b, c);
}

float oracle_add(float a, float b)
{
	return sum_rounded(a, b);
}

float oracle_multiply(float a, float b)
{
	return nearest((double)a * b, 0.0);
}

/* Two roundings are as good as one here: a double has more than twice as many bits, and two to spare. */
float oracle_divide(float a, float b)
{
	return nearest((double)a / b, 0.0);
}

/* ---- Sums of products ---- */

/* The chain over every other element of a chunk, as the recursion that defines it. */
static float chain(const double *a, const double *b, ptrdiff_t last)
{
	return last < 0 ? 0.0f : sum_rounded(a[last] * b[last], chain(a, b, last - 2));
}

static float chunk(const double *a, const double *b, size_t count)
{
	ptrdiff_t last = (ptrdiff_t)count - 1;
	ptrdiff_t even = last % 2 == 0 ? last : last - 1, odd = last % 2 == 0 ? last - 1 : last;
	return oracle_add(chain(a, b, even), chain(a, b, odd));
}

/* Chunks of 32, added in ascending order to +0. */
static float piece(const double *a, const double *b, size_t count)
{
	float acc = 0.0f;
	for (size_t at = 0; at < count; at += 32)
		acc = oracle_add(acc, chunk(a + at, b + at, count - at < 32 ? count - at : 32));
	return acc;
}

/* The scale of the block of element (n, k): below 2^-40 it is zero. */
static float scale_of(const struct octavo_matrix *w, size_t n, size_t k)
{
	if (w->scale_dtype == OCTAVO_NONE)
		return 1.0f;
	size_t index = (w->row0 + n) / 128 * w->scale_ld + (w->col0 + k) / 128;
	float scale = (float)oracle_element(w->scale_dtype, w->scale, index);
	return scale >= 0x1p-40f ? scale : 0.0f;
}

/* One output: a is a row of x, b the weights along the sum, `fixed` their index on the other axis. */
static float dot(const struct octavo_matrix *w, bool transposed, size_t fixed, const double *a, const double *b,
                 const float *row_scale, struct oracle_near *near)
{
	size_t length = transposed ? w->rows : w->cols;
	size_t offset = transposed ? w->row0 : w->col0;
	double magnitude = 0.0, depth = 16 + 1 + 1; /* the longest chain, E + O, the product of two scales */
	float y = 0.0f;

	near->sum = 0.0;
	for (size_t from = 0, to; from < length; from = to) {
		/* Up to the next multiple of 128 of the whole matrix. */
		to = w->scale_dtype == OCTAVO_NONE ? length : (from + offset) / 128 * 128 + 128 - offset;
		if (to > length)
			to = length;
		float scale = transposed ? scale_of(w, from, fixed) : scale_of(w, fixed, from);
		double exact = scale;
		if (row_scale) {
			exact *= row_scale[from / 128];
			scale = oracle_multiply(row_scale[from / 128], scale);
		}
		y = oracle_fma(scale, piece(a + from, b + from, to - from), y);
		for (size_t i = from; i < to; i++) {
			near->sum += exact * a[i] * b[i];
			magnitude += fabs(exact * a[i] * b[i]);
		}
		depth += (double)((to - from + 31) / 32) + 1;
	}
	near->bound = depth * UNIT * 1.001 * magnitude;
	return y;
}

void oracle_gemm(const struct octavo_matrix *w, bool transposed, size_t from, size_t to, const struct octavo_rows *x,
                 float *y, size_t ldy, struct oracle_near *near)
{
	size_t length = transposed ? w->rows : w->cols;
	double *a = malloc(x->rows * length * sizeof *a); /* [x->rows][length] */
	double *b = malloc(length * sizeof *b);
	if (!a || !b)
		abort();
	for (size_t m = 0; m < x->rows; m++)
		for (size_t i = 0; i < length; i++)
			a[m * length + i] = oracle_element(OCTAVO_BF16, x->x + m * x->ld, i);
	for (size_t j = from; j < to; j++) {
		for (size_t i = 0; i < length; i++)
			b[i] = oracle_element(w->dtype, w->data, transposed ? i * w->ld + j : j * w->ld + i);
		for (size_t m = 0; m < x->rows; m++)
			y[m * ldy + j] =
			        dot(w, transposed, j, a + m * length, b, x->scale ? x->scale + m * x->scale_ld : NULL,
			            &near[m * (to - from) + j - from]);
	}
	free(a);
	free(b);
}

/* ---- Attention ---- */

static size_t slot_of(const struct octavo_attention *a, size_t t)
{
	return t >= a->committed ? a->path[t - a->committed] : t;
}

static float score(const struct octavo_attention *a, size_t h, size_t t)
{
	double q[1024], k[1024]; /* the check's k_dim is less */
	for (size_t i = 0; i < a->k_dim; i++) {
		q[i] = oracle_element(OCTAVO_BF16, a->q + h * a->ldq, i);
		k[i] = oracle_element(OCTAVO_BF16, a->k + slot_of(a, t) * a->ldk, i);
	}
	return oracle_multiply(piece(q, k, a->k_dim), a->tau);
}

void oracle_attention(const struct octavo_attention *a)
{
	float s[OCTAVO_SEGMENT];
	double p[OCTAVO_SEGMENT], v[OCTAVO_SEGMENT];

	for (size_t h = 0; h < a->heads; h++) {
		size_t tokens = (a->end ? a->end[h] : a->t1) - a->t0;
		float lane[16] = {0};
		a->m[h] = -INFINITY;
		for (size_t i = 0; i < tokens; i++) {
			s[i] = score(a, h, a->t0 + i);
			a->m[h] = s[i] > a->m[h] ? s[i] : a->m[h];
		}
		for (size_t i = 0; i < tokens; i++) {
			float e = octavo_exp(oracle_add(s[i], -a->m[h]));
			uint16_t rounded = oracle_bf16(e < 0x1p-40f ? 0.0f : e);
			lane[i % 16] = oracle_add(lane[i % 16], e);
			p[i] = oracle_element(OCTAVO_BF16, &rounded, 0);
		}
		a->l[h] = octavo_lane_fold(lane);
		for (size_t j = 0; j < a->v_dim; j++) {
			for (size_t i = 0; i < tokens; i++)
				v[i] = oracle_element(OCTAVO_BF16, a->v + slot_of(a, a->t0 + i) * a->ldv, j);
			a->o[h * a->v_dim + j] = piece(p, v, tokens);
		}
	}
}

void oracle_merge(size_t heads, size_t v_dim, float *m1, float *l1, float *o1, const float *m2, const float *l2,
                  const float *o2)
{
	for (size_t h = 0; h < heads; h++) {
		float m = m2[h] > m1[h] ? m2[h] : m1[h];
		float a = octavo_exp(oracle_add(m1[h], -m)), b = octavo_exp(oracle_add(m2[h], -m));
		m1[h] = m;
		l1[h] = oracle_fma(l2[h], b, oracle_multiply(l1[h], a));
		for (size_t j = 0; j < v_dim; j++)
			o1[h * v_dim + j] = oracle_fma(o2[h * v_dim + j], b, oracle_multiply(o1[h * v_dim + j], a));
	}
}

void oracle_softmax_attention(const struct octavo_attention *a, size_t h, size_t tokens, struct oracle_near *out)
{
	double *s = malloc(tokens * sizeof *s);
	double max = -INFINITY, sum = 0.0, error = 0.0, largest = 0.0;
	if (!s)
		abort();
	for (size_t t = 0; t < tokens; t++) {
		double dot = 0.0, magnitude = 0.0;
		for (size_t i = 0; i < a->k_dim; i++) {
			double product = oracle_element(OCTAVO_BF16, a->q + h * a->ldq, i) *
			                 oracle_element(OCTAVO_BF16, a->k + slot_of(a, t) * a->ldk, i);
			dot += product;
			magnitude += fabs(product);
		}
		s[t] = dot * a->tau;
		max = fmax(max, s[t]);
		error = fmax(error, magnitude * fabs((double)a->tau));
	}
	for (size_t t = 0; t < tokens; t++)
		sum += s[t] = exp(s[t] - max);
	for (size_t j = 0; j < a->v_dim; j++) {
		out[j].sum = 0.0;
		for (size_t t = 0; t < tokens; t++) {
			double v = oracle_element(OCTAVO_BF16, a->v + slot_of(a, t) * a->ldv, j);
			out[j].sum += s[t] / sum * v;
			largest = fmax(largest, fabs(v));
		}
	}
	/* Scores are off by their depth of roundings, which exp turns into a relative error (twice: numerator and
	 * denominator); BF16 probabilities add 2^-9, exp, sums and flushed probabilities less than 2^-11. */
	double relative = 2 * error * UNIT * (20.0 + (double)a->k_dim / 32) + 0x1p-9 + 0x1p-11;
	for (size_t j = 0; j < a->v_dim; j++)
		out[j].bound = relative * largest;
	free(s);
}
