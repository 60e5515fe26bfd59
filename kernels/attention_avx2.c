/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention for AVX2.
 */
#include "kernels/simd_avx2.h"

#include "kernels/sets.h"
#include "kernels/simd_fma.h"
#include "kernels/simd_wide.h"

#include "kernels/simd_attention_fma.h"

#include "kernels/simd_attention.h"

const struct octavo_kernels octavo_set_attention_avx2 = {
        .attention = OCTAVO_KERNEL(attention, attention, "avx2", 1, attention),
        .attention_merge = OCTAVO_KERNEL(attention_merge, attention_merge, "avx2", 1, attention_merge),
        .attention_finish = OCTAVO_KERNEL(attention_finish, attention_finish, "avx2", 1, attention_finish),
};
