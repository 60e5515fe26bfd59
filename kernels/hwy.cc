/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernels on Google Highway: the templates of the other sets over simd_hwy.h, once for each target that the
 * compiler and Highway know.  A module of its own, since it brings the C++ runtime and libhwy; the dispatch happens
 * once, when the module is asked for its sets.
 *
 * Left out are targets without fused multiply-add (the contract's chains would need it emulated, and the reference
 * does not), scalable vectors (SVE falls to Highway's NEON; RISC-V's V to the reference), since the templates keep
 * vectors in arrays, and big-endian machines.
 */
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/hwy.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <string.h>

#include "kernels/arith.h"
#include "kernels/hwy_module.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {

/* SVE of a known length has no type that an array could hold either. */
#define FIXED_VECTORS (!HWY_HAVE_SCALABLE && !(HWY_TARGET & (HWY_SVE_256 | HWY_SVE2_128)))

#if HWY_NATIVE_FMA && FIXED_VECTORS && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
namespace {

/* Each target compiles the templates anew. */
#undef OCTAVO_SIMD_H
#undef OCTAVO_SIMD_PANEL_H
#undef OCTAVO_SIMD_BLOCK_H
#undef OCTAVO_SIMD_CODEC_H
#undef OCTAVO_SIMD_GEMM_H
#undef OCTAVO_SIMD_GEMM_T_H
#undef OCTAVO_SIMD_GEMM_T_FMA_H
#undef OCTAVO_SIMD_ATTENTION_H
#undef OCTAVO_SIMD_ATTENTION_FMA_H
#undef OCTAVO_SIMD_ROWS_H
#undef OCTAVO_SIMD_SOFTMAX_H
#undef OCTAVO_SIMD_TRANSPOSED_H
#undef OCTAVO_SIMD_WIDE_H
#undef OCTAVO_SIMD_FEW_H
#undef OCTAVO_SIMD_FMA_H
#undef OCTAVO_SIMD_MANY_H
#include "kernels/simd_hwy.h"

#include "kernels/simd_fma.h"

#include "kernels/simd_attention_fma.h"
#include "kernels/simd_gemm_t_fma.h"

#include "kernels/simd_codec.h"
#include "kernels/simd_transposed.h"
#include "kernels/simd_wide.h"

#include "kernels/simd_many.h"

#include "kernels/simd_attention.h"
#include "kernels/simd_gemm.h"
#include "kernels/simd_gemm_t.h"
#include "kernels/simd_rows.h"

#undef KERNEL
#define KERNEL(type, slot, granule, run) constexpr octavo_##type##_kernel slot##_kernel = {#slot, "hwy", 0, granule, run}
KERNEL(gemm, gemm_fp8, LANES, gemm_fp8);
KERNEL(gemm, gemm_bf16, LANES, gemm_bf16);
KERNEL(gemm, gemm_f32, LANES, gemm_f32);
KERNEL(gemm_t, gemm_t, LANES, gemm_t);
KERNEL(attention, attention, 1, attention);
KERNEL(attention_merge, attention_merge, 1, attention_merge);
KERNEL(attention_finish, attention_finish, 1, attention_finish);
KERNEL(norm, norm, 1, norm);
KERNEL(rope, rope, 1, rope);
KERNEL(swiglu, swiglu, 1, swiglu);
KERNEL(round, round, 1, round_row);
KERNEL(quantise, quantise, 1, quantise);
KERNEL(decode, decode_e4m3, 1, decode_e4m3);
KERNEL(encode, encode_e4m3, 1, encode_e4m3);
KERNEL(axpy, axpy, 1, axpy);
KERNEL(exp_row, exp_row, 1, exp_row);
KERNEL(numbers, numbers, 1, numbers);

constexpr octavo_kernels kernels = {
        .gemm_fp8 = &gemm_fp8_kernel,
        .gemm_bf16 = &gemm_bf16_kernel,
        .gemm_f32 = &gemm_f32_kernel,
        .gemm_t = &gemm_t_kernel,
        .attention = &attention_kernel,
        .attention_merge = &attention_merge_kernel,
        .attention_finish = &attention_finish_kernel,
        .norm = &norm_kernel,
        .rope = &rope_kernel,
        .swiglu = &swiglu_kernel,
        .round = &round_kernel,
        .quantise = &quantise_kernel,
        .decode_e4m3 = &decode_e4m3_kernel,
        .encode_e4m3 = &encode_e4m3_kernel,
        .axpy = &axpy_kernel,
        .exp_row = &exp_row_kernel,
        .numbers = &numbers_kernel,
};

} // namespace

static const octavo_kernels *kernel_set(void)
{
	return &kernels;
}

#else

static const octavo_kernels *kernel_set(void)
{
	return nullptr;
}

#endif

} // namespace HWY_NAMESPACE
} // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {

HWY_EXPORT(kernel_set);

/* Highway's own choice is one for the whole process and may be the program's too: here it is left alone. */
static const octavo_kernels *set_for(int64_t target)
{
#if HWY_TARGETS & (HWY_TARGETS - 1)
	hwy::ChosenTarget chosen;

	chosen.Update(target);
	return HWY_DISPATCH_TABLE(kernel_set)[chosen.GetIndex()]();
#else
	(void)target;
	return HWY_STATIC_DISPATCH(kernel_set)();
#endif
}

/* The lower bits of Highway's masks are the better targets. */
static size_t sets(octavo_module_set *set, size_t room)
{
	size_t count = 0;

	for (int64_t left = hwy::SupportedTargets() & HWY_TARGETS; left && count < room; left &= left - 1) {
		const int64_t target = left & -left;
		const octavo_kernels *kernels = set_for(target);
		if (kernels)
			set[count++] = {hwy::TargetName(target), kernels};
	}
	return count;
}

} // namespace octavo

extern "C" OCTAVO_API const octavo_kernel_module octavo_kernel_module;
const struct octavo_kernel_module octavo_kernel_module = {
        OCTAVO_KERNEL_MODULE_VERSION,
        sizeof(octavo_kernels),
        octavo::sets,
};
#endif
