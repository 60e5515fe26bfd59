/* SPDX-License-Identifier: Apache-2.0
 *
 * Transposed GEMM for Advanced SIMD.
 */
#include "kernels/simd_neon.h"

#include "kernels/sets.h"
#include "kernels/simd_fma.h"

#include "kernels/simd_gemm_t_fma.h"

#include "kernels/simd_gemm_t.h"

const struct octavo_kernels octavo_set_gemm_t_neon = {
        .gemm_t = OCTAVO_KERNEL(gemm_t, gemm_t, "neon", LANES, gemm_t),
};
