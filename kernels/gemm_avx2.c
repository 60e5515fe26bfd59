/* SPDX-License-Identifier: Apache-2.0
 *
 * GEMM for AVX2 with FMA and F16C: FP8 is decoded by arithmetic.
 */
#include "kernels/simd_avx2.h"

#include "kernels/sets.h"
#include "kernels/simd_fma.h"
#include "kernels/simd_transposed.h"

#include "kernels/simd_many.h"

#include "kernels/simd_gemm.h"

const struct octavo_kernels octavo_set_gemm_avx2 = {
        .gemm_fp8 = OCTAVO_KERNEL(gemm, gemm_fp8, "avx2", LANES, gemm_fp8),
        .gemm_bf16 = OCTAVO_KERNEL(gemm, gemm_bf16, "avx2", LANES, gemm_bf16),
        .gemm_f32 = OCTAVO_KERNEL(gemm, gemm_f32, "avx2", LANES, gemm_f32),
};
