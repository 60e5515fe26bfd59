/* SPDX-License-Identifier: Apache-2.0
 *
 * The operations on single rows for AVX-512.
 */
#include "kernels/simd_avx512.h"

#include "kernels/sets.h"
#include "kernels/simd_rows.h"

const struct octavo_kernels octavo_set_rows_avx512 = {
        .norm = OCTAVO_KERNEL(norm, norm, "avx512", 1, norm),
        .rope = OCTAVO_KERNEL(rope, rope, "avx512", 1, rope),
        .swiglu = OCTAVO_KERNEL(swiglu, swiglu, "avx512", 1, swiglu),
        .round = OCTAVO_KERNEL(round, round, "avx512", 1, round_row),
        .quantise = OCTAVO_KERNEL(quantise, quantise, "avx512", 1, quantise),
        .axpy = OCTAVO_KERNEL(axpy, axpy, "avx512", 1, axpy),
        .exp_row = OCTAVO_KERNEL(exp_row, exp_row, "avx512", 1, exp_row),
        .numbers = OCTAVO_KERNEL(numbers, numbers, "avx512", 1, numbers),
};
