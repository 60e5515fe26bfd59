/* SPDX-License-Identifier: Apache-2.0
 *
 * GEMM for AVX2 with FMA and F16C: FP8 is decoded by arithmetic.
 */
#include "kernels/simd_avx2.h"

#include "kernels/sets.h"
#include "kernels/simd.h"

struct codes {
	enum octavo_dtype dtype;
};

static struct codes codes_for(enum octavo_dtype dtype)
{
	return (struct codes){dtype};
}

ALWAYS_INLINE void decode(const struct codes *codes, vi d, vf w[4])
{
	const vi top[4] = {vi_left(d, 24), vi_left(d, 16), vi_left(d, 8), d};

#pragma GCC unroll 4
	for (int j = 0; j < 4; j++)
		w[j] = codes->dtype == OCTAVO_E4M3 ? vf_decode_e4m3(top[j]) : vf_decode_e5m2(top[j]);
}

#include "kernels/simd_gemm.h"

const struct octavo_kernels octavo_set_gemm_avx2 = {
        .gemm_fp8 = OCTAVO_KERNEL(gemm, gemm_fp8, "avx2", LANES, gemm_fp8),
        .gemm_bf16 = OCTAVO_KERNEL(gemm, gemm_bf16, "avx2", LANES, gemm_bf16),
        .gemm_f32 = OCTAVO_KERNEL(gemm, gemm_f32, "avx2", LANES, gemm_f32),
};
