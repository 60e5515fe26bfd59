/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention for AVX-512.
 */
#include "kernels/simd_avx512.h"

#include "kernels/sets.h"
#include "kernels/simd_attention.h"

const struct octavo_kernels octavo_set_attention_avx512 = {
        .attention = OCTAVO_KERNEL(attention, attention, "avx512", 1, attention),
        .attention_merge = OCTAVO_KERNEL(attention_merge, attention_merge, "avx512", 1, attention_merge),
        .attention_finish = OCTAVO_KERNEL(attention_finish, attention_finish, "avx512", 1, attention_finish),
};
