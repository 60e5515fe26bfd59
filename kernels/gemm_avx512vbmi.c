/* SPDX-License-Identifier: Apache-2.0
 *
 * FP8 GEMM for AVX-512 with VBMI: codes are decoded by byte lookups.
 */
#include "kernels/codes_vbmi.h"

#include "kernels/sets.h"

ALWAYS_INLINE void decode(const enum kind kind, const struct codes *codes, vi d, vf w[4])
{
	vi even, odd;
	vf split[2];

	(void)kind; /* the tables know */
	code_words(codes, d, &even, &odd);
	split_bf16(even, w);
	split_bf16(odd, split);
	w[2] = w[1];
	w[1] = split[0];
	w[3] = split[1];
}

#include "kernels/simd_transposed.h"

#include "kernels/simd_gemm.h"

const struct octavo_kernels octavo_set_gemm_avx512vbmi = {
        .gemm_fp8 = OCTAVO_KERNEL(gemm, gemm_fp8, "avx512", LANES, gemm_fp8),
};
