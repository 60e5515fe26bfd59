/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention for AVX-512.
 */
#include "kernels/simd_avx512.h"

#include "kernels/sets.h"
#include "kernels/simd_fma.h"
#include "kernels/simd_panel.h"

/* Rows that go over a panel together: with both vectors 16 chains, 8 sums, two weights and a broadcast. */
#define ROWS 4

/* A BF16 value in all lanes: one instruction, so that the rows need no widening. */
ALWAYS_INLINE vf spread(const uint16_t *x)
{
	return _mm512_castsi512_ps(_mm512_maskz_broadcastw_epi16(0xaaaaaaaa, _mm_loadu_si16(x)));
}

/* sum[m][j] = fma(w[j], x[m], sum[m][j]) for the elements i, i + 2, … below `end`. */
ALWAYS_INLINE void step(const size_t rows, const size_t vectors, const float *w, const uint16_t *x, size_t ldx, vf *sum)
{
	vf weight[2];

#pragma GCC unroll 2
	for (size_t j = 0; j < vectors; j++)
		weight[j] = vf_load(w + j * PANEL * LANES);
#pragma GCC unroll 4
	for (size_t m = 0; m < rows; m++) {
		vf value = spread(x + m * ldx);
#pragma GCC unroll 2
		for (size_t j = 0; j < vectors; j++)
			sum[m * vectors + j] = vf_fma(weight[j], value, sum[m * vectors + j]);
	}
}

/* acc = acc + (E + O) for one chunk of `count` elements. */
ALWAYS_INLINE void chunk(const size_t rows, const size_t vectors, const float *w, const uint16_t *x, size_t ldx,
                         size_t count, vf *acc)
{
	vf even[2 * ROWS], odd[2 * ROWS];

#pragma GCC unroll 8
	for (size_t i = 0; i < rows * vectors; i++)
		even[i] = odd[i] = vf_zero();
#pragma GCC unroll 2
	for (size_t i = 0; i + 1 < count; i += 2) {
		step(rows, vectors, w + i * LANES, x + i, ldx, even);
		step(rows, vectors, w + (i + 1) * LANES, x + i + 1, ldx, odd);
	}
	if (count % 2)
		step(rows, vectors, w + (count - 1) * LANES, x + count - 1, ldx, even);
#pragma GCC unroll 8
	for (size_t i = 0; i < rows * vectors; i++)
		acc[i] = vf_add(acc[i], vf_add(even[i], odd[i]));
}

ALWAYS_INLINE void multiply_few(const size_t rows, const size_t vectors, const float *w, const uint16_t *x, size_t ldx,
                                size_t count, const struct fold *f)
{
	vf acc[2 * ROWS];
	size_t i = 0;

#pragma GCC unroll 4
	for (size_t m = 0; m < rows; m++)
#pragma GCC unroll 2
		for (size_t j = 0; j < vectors; j++)
			acc[m * vectors + j] =
			        f->first ? vf_zero()
			                 : vf_load_first(f->y + m * f->ldy + j * LANES, f->count - j * LANES);
	for (; i + CHUNK <= count; i += CHUNK)
		chunk(rows, vectors, w + i * LANES, x + i, ldx, CHUNK, acc);
	if (i < count)
		chunk(rows, vectors, w + i * LANES, x + i, ldx, count - i, acc);
#pragma GCC unroll 4
	for (size_t m = 0; m < rows; m++)
#pragma GCC unroll 2
		for (size_t j = 0; j < vectors; j++)
			vf_store_first(f->y + m * f->ldy + j * LANES, f->count - j * LANES, acc[m * vectors + j]);
}

ALWAYS_INLINE void multiply_vectors(const size_t vectors, const struct octavo_rows *x, size_t k0, size_t count,
                                    const float *panel, struct fold f)
{
	const uint16_t *row = x->x + k0;
	size_t left = x->rows;

	for (; left >= ROWS; left -= ROWS, row += ROWS * x->ld, f.y += ROWS * f.ldy)
		multiply_few(ROWS, vectors, panel, row, x->ld, count, &f);
	if (left == 3)
		multiply_few(3, vectors, panel, row, x->ld, count, &f);
	else if (left == 2)
		multiply_few(2, vectors, panel, row, x->ld, count, &f);
	else if (left == 1)
		multiply_few(1, vectors, panel, row, x->ld, count, &f);
}

static void multiply_wide(const struct octavo_rows *x, size_t k0, size_t count, const float *panel, struct fold f)
{
	if (f.count > LANES)
		multiply_vectors(2, x, k0, count, panel, f);
	else
		multiply_vectors(1, x, k0, count, panel, f);
}

#include "kernels/simd_attention_fma.h"

#include "kernels/simd_attention.h"

const struct octavo_kernels octavo_set_attention_avx512 = {
        .attention = OCTAVO_KERNEL(attention, attention, "avx512", 1, attention),
        .attention_merge = OCTAVO_KERNEL(attention_merge, attention_merge, "avx512", 1, attention_merge),
        .attention_finish = OCTAVO_KERNEL(attention_finish, attention_finish, "avx512", 1, attention_finish),
};
