/* SPDX-License-Identifier: Apache-2.0
 *
 * The operations on single rows for AVX2.
 */
#include "kernels/simd_avx2.h"

#include "kernels/sets.h"
#include "kernels/simd_rows.h"

const struct octavo_kernels octavo_set_rows_avx2 = {
        .norm = OCTAVO_KERNEL(norm, norm, "avx2", 1, norm),
        .rope = OCTAVO_KERNEL(rope, rope, "avx2", 1, rope),
        .swiglu = OCTAVO_KERNEL(swiglu, swiglu, "avx2", 1, swiglu),
        .round = OCTAVO_KERNEL(round, round, "avx2", 1, round_row),
        .quantise = OCTAVO_KERNEL(quantise, quantise, "avx2", 1, quantise),
        .axpy = OCTAVO_KERNEL(axpy, axpy, "avx2", 1, axpy),
        .exp_row = OCTAVO_KERNEL(exp_row, exp_row, "avx2", 1, exp_row),
        .numbers = OCTAVO_KERNEL(numbers, numbers, "avx2", 1, numbers),
};
