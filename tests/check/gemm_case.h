/* SPDX-License-Identifier: Apache-2.0
 *
 * Random operands for the checks of matrix products.
 */
#ifndef OCTAVO_CHECK_GEMM_CASE_H
#define OCTAVO_CHECK_GEMM_CASE_H

#include "harness.h"

/* What the operands hold.  Everything that no product may read (the padding of rows and of scales) is NaN. */
enum gemm_fill {
	FILL_PLAIN,   /* numbers over some twenty binary orders, so that nearly every addition rounds */
	FILL_NAN,     /* and a few NaN weights */
	FILL_TINY,    /* the smallest legal magnitudes: 2^-40 in x, subnormal codes in w, scales around 2^-40 */
	FILL_LARGE,   /* the largest weights, scales up to 2^40, x so large that sums overflow */
	FILL_ZERO,    /* zeros of both signs in whole rows and scattered */
	FILL_SPECIAL, /* and infinities and NaN in x */
	FILL_COUNT
};

struct gemm_shape {
	size_t m, n, k;
	enum octavo_dtype dtype, scale_dtype;
	unsigned row0, col0;
	bool row_scales; /* W8A8 */
	bool transposed; /* x is [m][n] and y [m][k] */
	enum gemm_fill fill;
	size_t ld; /* of w, or 0: drawn */
};

struct gemm_case {
	struct octavo_matrix w;
	struct octavo_rows x;
	size_t width, ldy; /* of y */
	float *want, *got; /* [m][ldy], canary bytes so far */
	bool transposed;
	enum gemm_fill fill;
};

/* Starts a case (check_case) and makes its operands.  w, x, their scales and y lie in guarded buffers and end with
 * their last element; the leading dimensions are the widths or some more. */
struct gemm_case gemm_case_make(struct check *check, const struct gemm_shape *shape);
/* The same beside the buffers of the current case. */
struct gemm_case gemm_case_add(struct check *check, const struct gemm_shape *shape);

/* Fails unless `got` equals `want`. */
void gemm_case_equal(struct check *check, const struct gemm_case *c);

/* Level two: sets `want` by the oracle's chain rule; fails if `got` is too far from the double-precision sum or if an
 * intermediate result is subnormal. */
void gemm_case_oracle(struct check *check, const struct gemm_case *c);

/* The row of one case as a product of its own. */
struct octavo_rows gemm_case_row(const struct gemm_case *c, size_t m);

#endif
