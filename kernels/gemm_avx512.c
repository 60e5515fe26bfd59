/* SPDX-License-Identifier: Apache-2.0
 *
 * GEMM for AVX-512 F/BW/DQ/VL: FP8 is decoded by arithmetic.
 */
#include "kernels/simd_avx512.h"

#include "kernels/sets.h"
#include "kernels/simd_fma.h"
#include "kernels/simd_transposed.h"

#include "kernels/simd_many.h"

#include "kernels/simd_gemm.h"

const struct octavo_kernels octavo_set_gemm_avx512 = {
        .gemm_fp8 = OCTAVO_KERNEL(gemm, gemm_fp8, "avx512", LANES, gemm_fp8),
        .gemm_bf16 = OCTAVO_KERNEL(gemm, gemm_bf16, "avx512", LANES, gemm_bf16),
        .gemm_f32 = OCTAVO_KERNEL(gemm, gemm_f32, "avx512", LANES, gemm_f32),
};
