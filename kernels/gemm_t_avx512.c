/* SPDX-License-Identifier: Apache-2.0
 *
 * Transposed GEMM for AVX-512.
 */
#include "kernels/simd_avx512.h"

#include "kernels/sets.h"
#include "kernels/simd_fma.h"

#include "kernels/simd_gemm_t_fma.h"

#include "kernels/simd_gemm_t.h"

const struct octavo_kernels octavo_set_gemm_t_avx512 = {
        .gemm_t = OCTAVO_KERNEL(gemm_t, gemm_t, "avx512", LANES, gemm_t),
};
