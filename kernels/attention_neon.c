/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention for Advanced SIMD.
 */
#include "kernels/simd_neon.h"

#include "kernels/sets.h"
#include "kernels/simd_fma.h"
#include "kernels/simd_wide.h"

#include "kernels/simd_attention_fma.h"

#include "kernels/simd_attention.h"

const struct octavo_kernels octavo_set_attention_neon = {
        .attention = OCTAVO_KERNEL(attention, attention, "neon", 1, attention),
        .attention_merge = OCTAVO_KERNEL(attention_merge, attention_merge, "neon", 1, attention_merge),
        .attention_finish = OCTAVO_KERNEL(attention_finish, attention_finish, "neon", 1, attention_finish),
};
