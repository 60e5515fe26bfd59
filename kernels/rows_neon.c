/* SPDX-License-Identifier: Apache-2.0
 *
 * The operations on single rows for Advanced SIMD.
 */
#include "kernels/simd_neon.h"

#include "kernels/sets.h"
#include "kernels/simd_rows.h"

const struct octavo_kernels octavo_set_rows_neon = {
        .norm = OCTAVO_KERNEL(norm, norm, "neon", 1, norm),
        .rope = OCTAVO_KERNEL(rope, rope, "neon", 1, rope),
        .swiglu = OCTAVO_KERNEL(swiglu, swiglu, "neon", 1, swiglu),
        .round = OCTAVO_KERNEL(round, round, "neon", 1, round_row),
        .quantise = OCTAVO_KERNEL(quantise, quantise, "neon", 1, quantise),
        .axpy = OCTAVO_KERNEL(axpy, axpy, "neon", 1, axpy),
        .exp_row = OCTAVO_KERNEL(exp_row, exp_row, "neon", 1, exp_row),
        .numbers = OCTAVO_KERNEL(numbers, numbers, "neon", 1, numbers),
};
