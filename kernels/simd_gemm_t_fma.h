/* SPDX-License-Identifier: Apache-2.0
 *
 * The transposed GEMM's weights for fused multiply-adds, for any vectors: see simd_gemm_t.h.
 */
#ifndef OCTAVO_SIMD_GEMM_T_FMA_H
#define OCTAVO_SIMD_GEMM_T_FMA_H

#include "kernels/simd_panel.h"

/* vf_decode_e4m3 but for the sign of zero, which no sum keeps.  Zen 4 multiplies F32's subnormals, which the fields of
 * E4M3's are, at half the speed; in fused multiply-adds they cost nothing. */
ALWAYS_INLINE vf weight_of_code(vi top)
{
	const vi seven = vi_set1(0x7f000000);
	vf field = vf_of(vi_and(vi_right_signed(top, 4), vi_set1(0x87f00000)));

	return vf_nan_where(vm_equal(vi_and(top, seven), seven), vf_fma(field, vf_power(120), vf_zero()));
}

/* The first `count` of 16 elements at p, to F32; zeros in the other lanes. */
ALWAYS_INLINE vf load_values(const enum octavo_dtype dtype, const uint8_t *p, size_t count)
{
	switch (dtype) {
	case OCTAVO_F32:
		return vf_load_first((const float *)(const void *)p, count);
	case OCTAVO_BF16:
		return vf_load_bf16((const uint16_t *)(const void *)p, count);
	case OCTAVO_F16:
		return vf_load_f16((const uint16_t *)(const void *)p, count);
	default:
		break;
	}
	vi top = vi_left(vi_load_bytes(p, count), 24);
	return dtype == OCTAVO_E4M3 ? weight_of_code(top) : vf_decode_e5m2(top);
}

/* Vectors that go over a chunk together: what the chains leave room for. */
#define STRIPE_BLOCK BLOCK
#define STRIPE_MOST (2 * BLOCK)
#define VECTORS(rows) ((rows) == 1 ? (BLOCK + 1) / 2 : (rows) <= BLOCK / 4 ? 4 : (rows) <= BLOCK / 2 ? 2 : 1)

/* One row of w: sum[m][j] = fma(w[j], x[m], sum[m][j]). */
ALWAYS_INLINE void stripe_step(const enum octavo_dtype dtype, const size_t rows, const uint8_t *w, const float *x,
                               vf *sum)
{
	const size_t vectors = VECTORS(rows);

#pragma GCC unroll 4
	for (size_t j = 0; j < vectors; j++) {
		vf weight = load_values(dtype, w + j * LANES * (dtype == OCTAVO_BF16 ? 2 : 1), LANES);
#pragma GCC unroll 8
		for (size_t m = 0; m < rows; m++)
			sum[m * vectors + j] = vf_fma(weight, vf_set1(x[m * PANEL]), sum[m * vectors + j]);
	}
}

/* acc = acc + (E + O) for `count` <= 32 rows of w; those of the next chunk come from memory meanwhile. */
ALWAYS_INLINE void stripe_chunk(const enum octavo_dtype dtype, const size_t rows, const uint8_t *w, size_t pitch,
                                size_t count, const float *x /* [rows][PANEL] */, float *acc /* [rows][STRIPE] */)
{
	const size_t vectors = VECTORS(rows);
	vf even[BLOCK], odd[BLOCK];

#pragma GCC unroll 8
	for (size_t i = 0; i < rows * vectors; i++)
		even[i] = odd[i] = vf_zero();
	for (size_t i = 0; i + 1 < count; i += 2, w += 2 * pitch) {
		__builtin_prefetch(w + CHUNK * pitch, 0, 2);
		stripe_step(dtype, rows, w, x + i, even);
		__builtin_prefetch(w + (CHUNK + 1) * pitch, 0, 2);
		stripe_step(dtype, rows, w + pitch, x + i + 1, odd);
	}
	if (count % 2)
		stripe_step(dtype, rows, w, x + count - 1, even);
#pragma GCC unroll 8
	for (size_t i = 0; i < rows * vectors; i++) {
		float *at = acc + i / vectors * STRIPE + i % vectors * LANES;
		vf_store(at, vf_add(vf_load(at), vf_add(even[i], odd[i])));
	}
}

/* Rows [n0, n1) of `count` columns from k on; zeros behind them to the end of the last chunk. */
static void fill_panel(const struct octavo_matrix *w, size_t n0, size_t n1, size_t k, size_t count,
                       float *panel /* [WIDE / LANES][PANEL][LANES] */)
{
	const size_t size = octavo_dtype_size(w->dtype);

	for (size_t j = 0; j < count; j += LANES, panel += PANEL * LANES) {
		const uint8_t *p = (const uint8_t *)w->data + (n0 * w->ld + k + j) * size;
		size_t i = 0;
		for (; i < n1 - n0; i++, p += w->ld * size)
			vf_store(panel + i * LANES, load_values(w->dtype, p, count - j));
		for (; i % CHUNK; i++)
			vf_store(panel + i * LANES, vf_zero());
	}
}

#endif
