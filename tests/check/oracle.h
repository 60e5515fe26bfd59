/* SPDX-License-Identifier: Apache-2.0
 *
 * The contract of octavo_kernels.h stated a second time, to catch a wrong reference.
 *
 * Nothing here shares code with kernels/ or fp8/ except the exp polynomial, which is its own definition.  Codes are
 * decoded from the formats' fields, each FP32 rounding is done explicitly on an exact value held in two doubles, and
 * beside the FP32 result stands the plain double-precision sum with a bound on the distance between the two.
 */
#ifndef OCTAVO_CHECK_ORACLE_H
#define OCTAVO_CHECK_ORACLE_H

#include "octavo_kernels.h"

#include <stdbool.h>

/* What an output must be near: |y - sum| <= bound, with bound = depth * 2^-24 * sum |a||b|, where depth is the number
 * of roundings that the first product goes through. */
struct oracle_near {
	double sum, bound;
};

/* The value of element `index` of an array of any dtype. */
double oracle_element(enum octavo_dtype dtype, const void *array, size_t index);
/* Rounded to BF16 at once, ties to even; subnormal results included. */
uint16_t oracle_bf16(double x);

/* FP32 operations, each one correct rounding (of a normal result) of the exact value. */
float oracle_fma(float a, float b, float c);
float oracle_add(float a, float b);
float oracle_multiply(float a, float b);
float oracle_divide(float a, float b);

/* How many of the results above were subnormal since the last call of this. */
size_t oracle_take_subnormals(void);

/* Columns [from, to) of y, by the chain rule; near is [x->rows][to - from].  Transposed: columns of w. */
void oracle_gemm(const struct octavo_matrix *w, bool transposed, size_t from, size_t to, const struct octavo_rows *x,
                 float *y, size_t ldy, struct oracle_near *near);

/* One segment: a->m, a->l and a->o.  a->p is not used. */
void oracle_attention(const struct octavo_attention *a);
void oracle_merge(size_t heads, size_t v_dim, float *m1, float *l1, float *o1, const float *m2, const float *l2,
                  const float *o2);
/* Softmax attention over the tokens [0, tokens) of head h in double precision: out is [v_dim]. */
void oracle_softmax_attention(const struct octavo_attention *a, size_t h, size_t tokens, struct oracle_near *out);

void oracle_norm(float *y, const float *x, const float *g, size_t n, float eps);
void oracle_rope(float *x, const float *cs, size_t n);
void oracle_swiglu(float *y, const float *gate, const float *up, size_t n);
void oracle_round(uint16_t *y, const float *x, size_t n);
void oracle_numbers(uint32_t number[OCTAVO_NUMBERS], const uint32_t counter[4], const uint32_t key[2]);
void oracle_quantise(uint16_t *y, float *scale, const float *x, size_t n, enum octavo_scale_rule rule);
void oracle_decode(uint16_t *y, const uint8_t *code, float scale, size_t n);
void oracle_encode(uint8_t *code, const float *x, size_t n);
void oracle_route(const struct octavo_router *r, const float *logits, uint32_t *expert, float *weight);

#endif
