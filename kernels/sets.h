/* SPDX-License-Identifier: Apache-2.0
 *
 * The sets of kernels that the table is laid from.  kernels/<file>.c defines exactly one global symbol,
 * octavo_set_<file>; a NULL slot means that the set leaves that operation to the sets below it.
 */
#ifndef OCTAVO_SETS_H
#define OCTAVO_SETS_H

#include "octavo_kernels.h"

/* Puts the slots that `set` has in place of the table's. */
void octavo_kernels_overlay(struct octavo_kernels *table, const struct octavo_kernels *set);

/* A const descriptor with static storage: OCTAVO_KERNEL(gemm, gemm_fp8, "avx2", 16, gemm_fp8_avx2). */
#define OCTAVO_KERNEL(type, slot, isa, granule, run)                                                                   \
	(&(const struct octavo_##type##_kernel){#slot, isa, 0, granule, run})

extern const struct octavo_kernels octavo_set_gemm_ref;
extern const struct octavo_kernels octavo_set_gemm_t_ref;
extern const struct octavo_kernels octavo_set_attention_ref;
extern const struct octavo_kernels octavo_set_rows_ref;
extern const struct octavo_kernels octavo_set_codec_ref;
extern const struct octavo_kernels octavo_set_route_ref;

/* HAVE_AVX2 */
extern const struct octavo_kernels octavo_set_gemm_avx2;
extern const struct octavo_kernels octavo_set_gemm_t_avx2;
extern const struct octavo_kernels octavo_set_attention_avx2;
extern const struct octavo_kernels octavo_set_rows_avx2;
extern const struct octavo_kernels octavo_set_codec_avx2;
/* HAVE_AVX512 */
extern const struct octavo_kernels octavo_set_gemm_avx512;
extern const struct octavo_kernels octavo_set_gemm_t_avx512;
extern const struct octavo_kernels octavo_set_attention_avx512;
extern const struct octavo_kernels octavo_set_rows_avx512;
extern const struct octavo_kernels octavo_set_codec_avx512;
/* HAVE_AVX512BF16, which implies HAVE_AVX512: F16 and F32 weights go on to that set */
extern const struct octavo_kernels octavo_set_gemm_avx512bf16;
extern const struct octavo_kernels octavo_set_gemm_t_avx512bf16;
extern const struct octavo_kernels octavo_set_attention_avx512bf16;
/* HAVE_AMX, which implies HAVE_AVX512: F16 and F32 weights go on to that set */
extern const struct octavo_kernels octavo_set_gemm_amx;
extern const struct octavo_kernels octavo_set_gemm_t_amx;
extern const struct octavo_kernels octavo_set_attention_amx;
/* HAVE_NEON */
extern const struct octavo_kernels octavo_set_gemm_neon;
extern const struct octavo_kernels octavo_set_gemm_t_neon;
extern const struct octavo_kernels octavo_set_attention_neon;
extern const struct octavo_kernels octavo_set_rows_neon;
extern const struct octavo_kernels octavo_set_codec_neon;

#endif
