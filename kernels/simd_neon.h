/* SPDX-License-Identifier: Apache-2.0
 *
 * Sixteen lanes on Armv8.0 Advanced SIMD: four registers.  See simd.h for what each operation must do.
 */
#ifndef OCTAVO_SIMD_NEON_H
#define OCTAVO_SIMD_NEON_H

#ifndef __ARM_NEON
#error "this file needs Advanced SIMD"
#endif

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define BLOCK 3 /* 3 even chains and 3 odd ones of four registers, one weight, broadcasts: 29 of 32 */
#define FEW 4   /* 4 even chains and 4 odd ones of half a vector leave room to decode: see gemm_neon.c */

typedef struct {
	float32x4_t q[4];
} vf;
typedef struct {
	uint32x4_t q[4];
} vi;

/* The same for each of the four registers. */
#define FOUR(type, expression) ((type){{expression(0), expression(1), expression(2), expression(3)}})

/* ---- memory: there are no masked loads and stores, so short rows are copied ---- */

static inline vf vf_load(const float *p)
{
#define LOAD(i) vld1q_f32(p + 4 * (i))
	return FOUR(vf, LOAD);
#undef LOAD
}

static inline void vf_store(float *p, vf v)
{
	for (int i = 0; i < 4; i++)
		vst1q_f32(p + 4 * i, v.q[i]);
}

static inline vf vf_load_first(const float *p, size_t count)
{
	float copy[16] = {0};

	if (count >= 16)
		return vf_load(p);
	memcpy(copy, p, count * sizeof *p);
	return vf_load(copy);
}

static inline void vf_store_first(float *p, size_t count, vf v)
{
	float copy[16];

	if (count >= 16) {
		vf_store(p, v);
		return;
	}
	vf_store(copy, v);
	memcpy(p, copy, count * sizeof *p);
}

typedef struct {
	uint16x8_t low, high;
} halves;

static inline halves load_halves(const uint16_t *p, size_t count)
{
	uint16_t copy[16] = {0};

	if (count < 16)
		p = memcpy(copy, p, count * sizeof *p);
	return (halves){vld1q_u16(p), vld1q_u16(p + 8)};
}

static inline vf vf_load_bf16(const uint16_t *p, size_t count)
{
	halves h = load_halves(p, count);

	return (vf){{vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h.low), 16)),
	             vreinterpretq_f32_u32(vshll_high_n_u16(h.low, 16)),
	             vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h.high), 16)),
	             vreinterpretq_f32_u32(vshll_high_n_u16(h.high, 16))}};
}

static inline vf vf_load_f16(const uint16_t *p, size_t count)
{
	halves h = load_halves(p, count);
	float16x8_t low = vreinterpretq_f16_u16(h.low), high = vreinterpretq_f16_u16(h.high);

	return (vf){{vcvt_f32_f16(vget_low_f16(low)), vcvt_high_f32_f16(low), vcvt_f32_f16(vget_low_f16(high)),
	             vcvt_high_f32_f16(high)}};
}

static inline vi vi_load_bytes(const uint8_t *p, size_t count)
{
	uint8_t copy[16] = {0};

	if (count < 16)
		p = memcpy(copy, p, count);
	uint8x16_t v = vld1q_u8(p);
	uint16x8_t low = vmovl_u8(vget_low_u8(v)), high = vmovl_high_u8(v);
	return (vi){{vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)),
	             vmovl_high_u16(high)}};
}

static inline void vf_store_high(uint16_t *p, size_t count, vf v)
{
	uint16_t copy[16], *to = count < 16 ? copy : p;

	for (int i = 0; i < 4; i += 2) {
		uint16x8_t first = vreinterpretq_u16_f32(v.q[i]), second = vreinterpretq_u16_f32(v.q[i + 1]);
		uint16x8_t odd = vuzp2q_u16(first, second);
		memcpy(to + 4 * i, &odd, sizeof odd); /* may overwrite floats, which a store of its type may not */
	}
	if (count < 16)
		memcpy(p, copy, count * sizeof *p);
}

static inline void vi_store_bytes(uint8_t *p, size_t count, vi v)
{
	uint8_t copy[16];
	uint16x8_t low = vuzp1q_u16(vreinterpretq_u16_u32(v.q[0]), vreinterpretq_u16_u32(v.q[1]));
	uint16x8_t high = vuzp1q_u16(vreinterpretq_u16_u32(v.q[2]), vreinterpretq_u16_u32(v.q[3]));
	uint8x16_t bytes = vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));

	vst1q_u8(count < 16 ? copy : p, bytes);
	if (count < 16)
		memcpy(p, copy, count);
}

/* ---- arithmetic ---- */

static inline vf vf_set1(float x)
{
	float32x4_t v = vdupq_n_f32(x);

	return (vf){{v, v, v, v}};
}

#define UNARY(name, type, from, intrinsic)                                                                             \
	static inline type name(from a)                                                                                \
	{                                                                                                              \
		return (type){{intrinsic(a.q[0]), intrinsic(a.q[1]), intrinsic(a.q[2]), intrinsic(a.q[3])}};           \
	}
#define BINARY(name, type, from, intrinsic)                                                                            \
	static inline type name(from a, from b)                                                                        \
	{                                                                                                              \
		return (type){{intrinsic(a.q[0], b.q[0]), intrinsic(a.q[1], b.q[1]), intrinsic(a.q[2], b.q[2]),        \
		               intrinsic(a.q[3], b.q[3])}};                                                            \
	}

BINARY(vf_add, vf, vf, vaddq_f32)
BINARY(vf_sub, vf, vf, vsubq_f32)
BINARY(vf_mul, vf, vf, vmulq_f32)
BINARY(vf_div, vf, vf, vdivq_f32)
UNARY(vf_rint, vf, vf, vrndnq_f32)

static inline vf vf_fma(vf a, vf b, vf c)
{
#define FMA(i) vfmaq_f32(c.q[i], a.q[i], b.q[i])
	return FOUR(vf, FMA);
#undef FMA
}

/* FMIN and FMAX would give a NaN in either place. */
static inline vf vf_min(vf a, vf b)
{
#define MIN(i) vbslq_f32(vcltq_f32(a.q[i], b.q[i]), a.q[i], b.q[i])
	return FOUR(vf, MIN);
#undef MIN
}

static inline vf vf_max(vf a, vf b)
{
#define MAX(i) vbslq_f32(vcgtq_f32(a.q[i], b.q[i]), a.q[i], b.q[i])
	return FOUR(vf, MAX);
#undef MAX
}

/* ---- bits ---- */

static inline vi vi_set1(uint32_t x)
{
	uint32x4_t v = vdupq_n_u32(x);

	return (vi){{v, v, v, v}};
}

#define TO_INT(v) vreinterpretq_u32_s32(vcvtnq_s32_f32(v))
UNARY(vi_of, vi, vf, vreinterpretq_u32_f32)
UNARY(vf_of, vf, vi, vreinterpretq_f32_u32)
UNARY(vi_int, vi, vf, TO_INT)
BINARY(vi_add, vi, vi, vaddq_u32)
BINARY(vi_and, vi, vi, vandq_u32)
BINARY(vi_or, vi, vi, vorrq_u32)
BINARY(vi_xor, vi, vi, veorq_u32)
BINARY(vi_max, vi, vi, vmaxq_u32)

static inline vi vi_multiply(vi a, uint32_t b, vi *high)
{
	vi low;

	for (int i = 0; i < 4; i++) {
		uint32x4_t first = vreinterpretq_u32_u64(vmull_n_u32(vget_low_u32(a.q[i]), b));
		uint32x4_t second = vreinterpretq_u32_u64(vmull_n_u32(vget_high_u32(a.q[i]), b));
		low.q[i] = vuzp1q_u32(first, second);
		high->q[i] = vuzp2q_u32(first, second);
	}
	return low;
}

#define LEFT(v, bits) vshlq_n_u32(v, bits)
#define RIGHT(v, bits) vshrq_n_u32(v, bits)
#define RIGHT_SIGNED(v, bits) vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(v), bits))
#define SHIFT(shift, a, bits)                                                                                          \
	((vi){{shift((a).q[0], bits), shift((a).q[1], bits), shift((a).q[2], bits), shift((a).q[3], bits)}})
#define vi_left(a, bits) SHIFT(LEFT, a, bits)
#define vi_right(a, bits) SHIFT(RIGHT, a, bits)
#define vi_right_signed(a, bits) SHIFT(RIGHT_SIGNED, a, bits)

/* ---- choice: all ones where true ---- */

typedef vi vm;

#define UNORDERED(v) vmvnq_u32(vceqq_f32(v, v))
BINARY(vm_less, vm, vf, vcltq_f32)
BINARY(vm_equal, vm, vi, vceqq_u32)
UNARY(vm_unordered, vm, vf, UNORDERED)

static inline vm vm_first(size_t count)
{
	static const uint32_t lane[4] = {0, 1, 2, 3};
	uint32_t n = count < 16 ? (uint32_t)count : 16;

#define FIRST(i) vcltq_u32(vaddq_u32(vld1q_u32(lane), vdupq_n_u32(4 * (i))), vdupq_n_u32(n))
	return FOUR(vm, FIRST);
#undef FIRST
}

static inline vf vf_choose(vm mask, vf yes, vf no)
{
#define CHOOSE(i) vbslq_f32(mask.q[i], yes.q[i], no.q[i])
	return FOUR(vf, CHOOSE);
#undef CHOOSE
}

/* All ones is a NaN. */
static inline vf vf_nan_where(vm mask, vf v)
{
	return vf_of(vi_or(mask, vi_of(v)));
}

/* ---- across lanes ---- */

BINARY(vf_interleave_even, vf, vf, vtrn1q_f32)
BINARY(vf_interleave_odd, vf, vf, vtrn2q_f32)
UNARY(vf_swap, vf, vf, vrev64q_f32)

static inline vf vf_even(vf a)
{
	return vf_interleave_even(a, a);
}

static inline vf vf_odd(vf a)
{
	return vf_interleave_odd(a, a);
}

static inline vf vf_fma_alternate(vf a, vf b, vf c)
{
	const uint32x4_t sign = vreinterpretq_u32_u64(vdupq_n_u64(0x80000000)); /* of the even lanes */

#define FMA(i)                                                                                                         \
	vfmaq_f32(vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(c.q[i]), sign)), a.q[i], b.q[i])
	return FOUR(vf, FMA);
#undef FMA
}

static inline float vf_fold(vf lane)
{
	float32x4_t quarter = vaddq_f32(vaddq_f32(lane.q[0], lane.q[2]), vaddq_f32(lane.q[1], lane.q[3]));
	float32x2_t pair = vadd_f32(vget_low_f32(quarter), vget_high_f32(quarter));

	return vpadds_f32(pair);
}

/* ---- blocks of weights ---- */

/* Four rows of four dwords, 16 bytes each. */
ALWAYS_INLINE void transpose_dwords(const uint8_t *const row[4], size_t offset, uint32x4_t d[4])
{
	uint32x4_t r[4];

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		r[i] = vreinterpretq_u32_u8(vld1q_u8(row[i] + offset));
	uint32x4_t a = vzip1q_u32(r[0], r[2]), b = vzip1q_u32(r[1], r[3]);
	uint32x4_t c = vzip2q_u32(r[0], r[2]), e = vzip2q_u32(r[1], r[3]);
	d[0] = vzip1q_u32(a, b);
	d[1] = vzip2q_u32(a, b);
	d[2] = vzip1q_u32(c, e);
	d[3] = vzip2q_u32(c, e);
}

/* The first `bytes` <= 64 bytes of 16 rows, zeros behind them: rows that are as long as a block. */
static inline void copy_rows(const uint8_t *const row[16], size_t offset, size_t bytes, uint8_t copy[16][64],
                             const uint8_t *copied[16])
{
	memset(copy, 0, 16 * sizeof *copy);
	for (int i = 0; i < 16; i++) {
		if (bytes > 0)
			memcpy(copy[i], row[i] + offset, bytes);
		copied[i] = copy[i];
	}
}

/* d does not fit the registers: the compiler keeps it in memory, where it costs little beside its use. */
ALWAYS_INLINE void load_transposed(const uint8_t *const row[16], size_t offset, size_t bytes, vi d[16])
{
	uint8_t copy[16][64];
	const uint8_t *copied[16];

	if (bytes < 64) {
		copy_rows(row, offset, bytes, copy, copied);
		row = copied;
		offset = 0;
	}
	for (int i = 0; i < 16; i += 4)
		for (int q = 0; q < 4; q++) {
			uint32x4_t four[4];
			transpose_dwords(row + 4 * q, offset + 4 * (size_t)i, four);
			for (int j = 0; j < 4; j++)
				d[i + j].q[q] = four[j];
		}
}

#endif
