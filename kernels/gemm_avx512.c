/* SPDX-License-Identifier: Apache-2.0
 *
 * GEMM for AVX-512 F/BW/DQ/VL: FP8 is decoded by arithmetic; BF16, F16 and F32.
 */
#include "kernels/panel_avx512.h"
#include "kernels/sets.h"

struct codes {
	enum octavo_dtype dtype;
};

static struct codes codes_for(enum octavo_dtype dtype)
{
	return (struct codes){dtype};
}

ALWAYS_INLINE void decode(const struct codes *codes, __m512i d, __m512 w[4])
{
	const __m512i top[4] = {_mm512_slli_epi32(d, 24), _mm512_slli_epi32(d, 16), _mm512_slli_epi32(d, 8), d};

#pragma GCC unroll 4
	for (int j = 0; j < 4; j++)
		w[j] = codes->dtype == OCTAVO_E4M3 ? decode_e4m3(top[j]) : decode_e5m2(top[j]);
}

#include "kernels/gemm_avx512.h"

static void gemm_bf16(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                      size_t ldy)
{
	if (w->dtype == OCTAVO_BF16)
		gemm(BF16, w, n0, n1, x, y, ldy);
	else
		gemm(F16, w, n0, n1, x, y, ldy);
}

static void gemm_f32(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                     size_t ldy)
{
	gemm(F32, w, n0, n1, x, y, ldy);
}

const struct octavo_kernels octavo_set_gemm_avx512 = {
        .gemm_fp8 = OCTAVO_KERNEL(gemm, gemm_fp8, "avx512", LANES, gemm_fp8),
        .gemm_bf16 = OCTAVO_KERNEL(gemm, gemm_bf16, "avx512", LANES, gemm_bf16),
        .gemm_f32 = OCTAVO_KERNEL(gemm, gemm_f32, "avx512", LANES, gemm_f32),
};
