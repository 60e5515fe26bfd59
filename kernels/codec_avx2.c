/* SPDX-License-Identifier: Apache-2.0
 *
 * The bulk FP8 codecs for AVX2.
 */
#include "kernels/simd_avx2.h"

#include "kernels/sets.h"
#include "kernels/simd_codec.h"

const struct octavo_kernels octavo_set_codec_avx2 = {
        .decode_e4m3 = OCTAVO_KERNEL(decode, decode_e4m3, "avx2", 1, decode_e4m3),
        .encode_e4m3 = OCTAVO_KERNEL(encode, encode_e4m3, "avx2", 1, encode_e4m3),
};
