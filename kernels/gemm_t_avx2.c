/* SPDX-License-Identifier: Apache-2.0
 *
 * Transposed GEMM for AVX2.
 */
#include "kernels/simd_avx2.h"

#include "kernels/sets.h"
#include "kernels/simd_fma.h"

#include "kernels/simd_gemm_t_fma.h"

#include "kernels/simd_gemm_t.h"

const struct octavo_kernels octavo_set_gemm_t_avx2 = {
        .gemm_t = OCTAVO_KERNEL(gemm_t, gemm_t, "avx2", LANES, gemm_t),
};
