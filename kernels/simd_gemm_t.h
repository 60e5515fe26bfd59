/* SPDX-License-Identifier: Apache-2.0
 *
 * The transposed GEMM for any vectors: outputs are columns of w, so its rows are decoded as they lie.  For few rows of
 * x the decoded weights stay in registers and meet all rows there; for more they go into a panel.
 */
#ifndef OCTAVO_SIMD_GEMM_T_H
#define OCTAVO_SIMD_GEMM_T_H

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

/* The scales of `count` <= 16 columns from k on, in the scale block row of row n. */
static vf column_scales(const struct octavo_matrix *w, size_t n, size_t k, size_t count)
{
	size_t left = OCTAVO_BLOCK - (w->col0 + k) % OCTAVO_BLOCK;
	vf scale = vf_set1(octavo_matrix_scale(w, n, k));

	if (left >= count)
		return scale;
	return vf_choose(vm_first(left), scale, vf_set1(octavo_matrix_scale(w, n, k + left)));
}

/* ---- few rows -------------------------------------------------------------------------------------------- */

#define STRIPE 512 /* columns that go down the rows of w together: a latent space */
#define WHOLE 64   /* columns: whole cache lines, and whole steps however many rows there are */

/* Vectors that go over a chunk together: what the chains leave room for. */
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

/* Columns [k, k + columns) of y, whole lines of them. */
ALWAYS_INLINE void stripe_rows(const enum octavo_dtype dtype, const size_t rows, const struct octavo_matrix *w,
                               size_t k, size_t columns, const struct octavo_rows *x, float *y, size_t ldy)
{
	const size_t size = dtype == OCTAVO_BF16 ? 2 : 1, pitch = w->ld * size;
	const int scaled = w->scale_dtype != OCTAVO_NONE;
	alignas(64) float xf[BLOCK * PANEL], acc[BLOCK * STRIPE];

	for (size_t n0 = 0, n1; n0 < w->rows; n0 = n1) {
		n1 = panel_end(w, w->row0, n0, w->rows);
		for (size_t m = 0; m < rows; m++)
			widen_row(x->x + m * x->ld + n0, n1 - n0, 0, xf + m * PANEL);
		for (size_t m = 0; m < rows && (scaled || n0 == 0); m++)
			memset(acc + m * STRIPE, 0, columns * sizeof *acc);
		for (size_t n = n0; n < n1; n += CHUNK) {
			const uint8_t *p = (const uint8_t *)w->data + n * pitch + k * size;
			for (size_t j = 0; j < columns; j += VECTORS(rows) * LANES)
				stripe_chunk(dtype, rows, p + j * size, pitch, smaller(CHUNK, n1 - n), xf + (n - n0),
				             acc + j);
		}
		for (size_t j = 0; scaled && j < columns; j += LANES) {
			vf scale = column_scales(w, n0, k + j, LANES);
			for (size_t m = 0; m < rows; m++) {
				float *at = y + m * ldy + j;
				vf before = n0 == 0 ? vf_zero() : vf_load_first(at, LANES);
				vf_store_first(at, LANES, vf_fma(scale, vf_load(acc + m * STRIPE + j), before));
			}
		}
	}
	for (size_t m = 0; m < rows && !scaled; m++)
		memcpy(y + m * ldy, acc + m * STRIPE, columns * sizeof *y);
}

ALWAYS_INLINE void stripe_some(const enum octavo_dtype dtype, const struct octavo_matrix *w, size_t k, size_t columns,
                               const struct octavo_rows *x, float *y, size_t ldy)
{
	switch (x->rows) {
	case 1:
		stripe_rows(dtype, 1, w, k, columns, x, y, ldy);
		break;
	case 2:
		stripe_rows(dtype, 2, w, k, columns, x, y, ldy);
		break;
	case 3:
		stripe_rows(dtype, 3, w, k, columns, x, y, ldy);
		break;
#if BLOCK > 3
	case 4:
		stripe_rows(dtype, 4, w, k, columns, x, y, ldy);
		break;
	case 5:
		stripe_rows(dtype, 5, w, k, columns, x, y, ldy);
		break;
	case 6:
		stripe_rows(dtype, 6, w, k, columns, x, y, ldy);
		break;
	case 7:
		stripe_rows(dtype, 7, w, k, columns, x, y, ldy);
		break;
	case 8:
		stripe_rows(dtype, 8, w, k, columns, x, y, ldy);
		break;
#endif
	}
}

/* As many of the columns [k0, k1) as are whole lines, for the dtypes that models are made of; returns where the rest
 * begins.  More than BLOCK rows take a second pass, for which w lies in the cache. */
static inline size_t stripes(const struct octavo_matrix *w, size_t k0, size_t k1, const struct octavo_rows *x, float *y,
                             size_t ldy)
{
	size_t k = k0;

	if (x->rows > 2 * BLOCK || (w->dtype != OCTAVO_E4M3 && w->dtype != OCTAVO_BF16))
		return k;
	for (size_t columns; (columns = smaller(STRIPE, (k1 - k) / WHOLE * WHOLE)) > 0; k += columns)
		for (size_t m = 0; m < x->rows; m += BLOCK) {
			struct octavo_rows part = {
			        .x = x->x + m * x->ld, .rows = smaller(BLOCK, x->rows - m), .ld = x->ld};
			if (w->dtype == OCTAVO_E4M3)
				stripe_some(OCTAVO_E4M3, w, k, columns, &part, y + m * ldy + k, ldy);
			else
				stripe_some(OCTAVO_BF16, w, k, columns, &part, y + m * ldy + k, ldy);
		}
	return k;
}

/* ---- many rows ------------------------------------------------------------------------------------------- */

/* Rows [n0, n1) of 16 columns from k on; zeros behind them to the end of the last chunk. */
static void fill_panel(const struct octavo_matrix *w, size_t size, size_t n0, size_t n1, size_t k, size_t count,
                       float *panel)
{
	const uint8_t *p = (const uint8_t *)w->data + (n0 * w->ld + k) * size;
	size_t i = 0;

	for (; i < n1 - n0; i++, p += w->ld * size)
		vf_store(panel + i * LANES, load_values(w->dtype, p, count));
	for (; i % CHUNK; i++)
		vf_store(panel + i * LANES, vf_zero());
}

/* ---- all ------------------------------------------------------------------------------------------------- */

static void gemm_t(const struct octavo_matrix *w, size_t k0, size_t k1, const struct octavo_rows *x, float *y,
                   size_t ldy)
{
	alignas(64) float panel[PANEL * LANES];
	const size_t size = octavo_dtype_size(w->dtype);

	for (size_t k = stripes(w, k0, k1, x, y, ldy); k < k1; k += LANES) {
		size_t count = smaller(LANES, k1 - k);
		struct fold f = {.y = y + k, .ldy = ldy, .count = count, .scaled = w->scale_dtype != OCTAVO_NONE};
		for (size_t n = 0, end; n < w->rows; n = end) {
			end = panel_end(w, w->row0, n, w->rows);
			fill_panel(w, size, n, end, k, count, panel);
			if (f.scaled)
				f.scale = column_scales(w, n, k, count);
			f.first = n == 0;
			multiply_rows(x, n, end - n, panel, f);
		}
	}
}

#endif
