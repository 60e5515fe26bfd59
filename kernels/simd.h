/* SPDX-License-Identifier: Apache-2.0
 *
 * What the vector kernels share, in terms of vectors of sixteen lanes.  The including file has included one of
 * simd_<isa>.h, which gives:
 *
 *	vf, vi, vm             16 floats, 16 dwords, 16 truths
 *	BLOCK                  rows of x that go over a panel together: as many chains as fit the registers
 *	FEW, FEW_MAX           rows of x that simd_few.h takes at once without the panel, and in several passes
 *	TOGETHER, LEADS        rows of x up to which it takes two chunks of E4M3 at once, and reads whole cache lines
 *	vf_load, vf_store      aligned; _first: any address, the first `count` lanes, others zero or untouched
 *	vf_load_bf16, _f16     `count` elements widened; vi_load_bytes: bytes zero-extended
 *	vf_store_high          the high halves of `count` lanes: BF16 if the low halves are zero
 *	vi_store_bytes         the low bytes of `count` lanes (simd_codec.h only)
 *	vf_fma                 a * b + c, one rounding; vf_fma_alternate: - c in even lanes, + c in odd ones
 *	vf_min, vf_max         a < b ? a : b and a > b ? a : b, so that a NaN in either place gives b
 *	vi_int                 to integers, to nearest; vi_max, vi_max_bytes: unsigned
 *	vi_multiply            by a dword, unsigned: the low halves of the products; *high takes the high ones
 *	vi_right_signed_words  each 16-bit half of a lane shifted for itself
 *	vf_nan_where           NaN in the lanes that are true
 *	vf_even, vf_odd        each pair's first or second in both places; vf_swap: exchanged
 *	vf_fold                the contract's fold of 16 lanes, 8-4-2-1
 *	load_transposed        `bytes` <= 64 bytes of 16 rows, zeros behind them; lane n of d[i] is dword i of row n.
 *	                       Whole cache lines at once: rows a multiple of 4096 bytes apart share one cache set
 *	split_f16              the even and the odd F16 of dword lanes
 */
#ifndef OCTAVO_SIMD_H
#define OCTAVO_SIMD_H

#include "octavo_kernels.h"

#include <stdalign.h>
#include <string.h>

#define LANES 16
#define CHUNK 32  /* elements of a chunk */
#define PANEL 128 /* elements of the summed axis in a panel: a whole scale block */

/* What weights are made of: a constant in each instance of a kernel. */
enum kind { E4M3, E5M2, BF16, F16, F32 };

static inline size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline vf vf_zero(void)
{
	return vf_set1(0.0f);
}

/* 2^n, for an n of a normal number. */
ALWAYS_INLINE vf vf_power(const int n)
{
	return vf_of(vi_set1((uint32_t)(n + 127) << 23));
}

static inline vf vf_abs(vf x)
{
	return vf_of(vi_and(vi_of(x), vi_set1(0x7fffffff)));
}

static inline vf vf_negate(vf x)
{
	return vf_of(vi_xor(vi_of(x), vi_set1(0x80000000)));
}

/* octavo_exp. */
static inline vf vf_exp(vf x)
{
	vm below = vm_less(x, vf_set1(-87.0f));
	x = vf_min(vf_set1(88.0f), x); /* in this order a NaN stays */
	vf n = vf_rint(vf_mul(x, vf_set1(1.44269504088896341f)));
	vf r = vf_fma(n, vf_set1(-0.693359375f), x);
	r = vf_fma(n, vf_set1(2.12194440e-4f), r);
	vf p = vf_set1(1.9875691500e-4f);
	p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
	p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
	p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
	p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
	p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
	p = vf_fma(p, vf_mul(r, r), r);
	p = vf_add(p, vf_set1(1.0f));
	p = vf_mul(p, vf_of(vi_left(vi_add(vi_int(n), vi_set1(127)), 23)));
	return vf_choose(below, vf_zero(), p);
}

/* octavo_bf16_encode; the low halves are zero. */
static inline vf vf_round_bf16(vf x)
{
	vi bits = vi_of(x);
	vi odd = vi_and(vi_right(bits, 16), vi_set1(1));
	vf rounded = vf_of(vi_add(bits, vi_add(odd, vi_set1(0x7fff))));
	vf quiet = vf_of(vi_or(bits, vi_set1(0x400000)));

	return vf_of(vi_and(vi_of(vf_choose(vm_unordered(x), quiet, rounded)), vi_set1(0xffff0000)));
}

/* octavo_bf16_activation. */
static inline vf vf_round_activation(vf x)
{
	return vf_choose(vm_less(vf_abs(x), vf_set1(0x1p-40f)), vf_zero(), vf_round_bf16(x));
}

/* Codes in the top bytes of the lanes, anything below them: the code's fields are moved to F32's places and the
 * product with a power of two mends the bias, exactly, subnormals too. */
static inline vf vf_decode_e4m3(vi top)
{
	vi field = vi_and(vi_right_signed(top, 4), vi_set1(0x87f00000));
	vi seven = vi_set1(0x7f000000);
	vm nan = vm_equal(vi_and(top, seven), seven);

	return vf_nan_where(nan, vf_mul(vf_of(field), vf_set1(0x1p120f)));
}

static inline vf vf_decode_e5m2(vi top)
{
	vi field = vi_and(vi_right_signed(top, 3), vi_set1(0x8fe00000));
	vi five = vi_set1(0x7c000000);
	vm special = vm_equal(vi_and(top, five), five); /* infinity and NaN: all ones in F32's exponent too */

	return vf_choose(special, vf_of(vi_or(field, vi_set1(0x7f800000))), vf_mul(vf_of(field), vf_set1(0x1p112f)));
}

/* BF16 pairs in the lanes: the even and the odd element. */
ALWAYS_INLINE void split_bf16(vi pair, vf w[2])
{
	w[0] = vf_of(vi_left(pair, 16));
	w[1] = vf_of(vi_and(pair, vi_set1(0xffff0000)));
}

#endif
