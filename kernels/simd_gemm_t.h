/* SPDX-License-Identifier: Apache-2.0
 *
 * The transposed GEMM for any vectors: outputs are columns of w, so its rows go into the panel as they lie.
 */
#ifndef OCTAVO_SIMD_GEMM_T_H
#define OCTAVO_SIMD_GEMM_T_H

#include "kernels/simd_panel.h"

/* The first `count` of 16 elements at p, to F32; zeros in the other lanes. */
static inline vf load_values(enum octavo_dtype dtype, const uint8_t *p, size_t count)
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
	return dtype == OCTAVO_E4M3 ? vf_decode_e4m3(top) : vf_decode_e5m2(top);
}

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

/* The scales of `count` <= 16 columns from k on, in the scale block row of row n. */
static vf column_scales(const struct octavo_matrix *w, size_t n, size_t k, size_t count)
{
	size_t left = OCTAVO_BLOCK - (w->col0 + k) % OCTAVO_BLOCK;
	vf scale = vf_set1(octavo_matrix_scale(w, n, k));

	if (left >= count)
		return scale;
	return vf_choose(vm_first(left), scale, vf_set1(octavo_matrix_scale(w, n, k + left)));
}

static void gemm_t(const struct octavo_matrix *w, size_t k0, size_t k1, const struct octavo_rows *x, float *y,
                   size_t ldy)
{
	alignas(64) float panel[PANEL * LANES];
	const size_t size = octavo_dtype_size(w->dtype);

	for (size_t k = k0; k < k1; k += LANES) {
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
