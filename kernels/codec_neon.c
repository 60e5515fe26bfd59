/* SPDX-License-Identifier: Apache-2.0
 *
 * The bulk FP8 codecs for Advanced SIMD.
 */
#include "kernels/simd_neon.h"

#include "kernels/sets.h"
#include "kernels/simd_codec.h"

const struct octavo_kernels octavo_set_codec_neon = {
        .decode_e4m3 = OCTAVO_KERNEL(decode, decode_e4m3, "neon", 1, decode_e4m3),
        .encode_e4m3 = OCTAVO_KERNEL(encode, encode_e4m3, "neon", 1, encode_e4m3),
};
