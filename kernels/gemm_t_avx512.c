/* SPDX-License-Identifier: Apache-2.0
 *
 * Transposed GEMM for AVX-512: outputs are columns of w, so its rows go into the panel as they lie.
 */
#include "kernels/panel_avx512.h"
#include "kernels/sets.h"

/* The elements that `lanes` selects of 16, at p, to F32; zeros in the other lanes. */
static inline __m512 load_values(enum octavo_dtype dtype, const uint8_t *p, __mmask16 lanes)
{
	switch (dtype) {
	case OCTAVO_F32:
		return _mm512_maskz_loadu_ps(lanes, p);
	case OCTAVO_BF16:
		return widen(_mm256_maskz_loadu_epi16(lanes, p));
	case OCTAVO_F16:
		return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, p));
	default:
		break;
	}
	__m512i top = _mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, p)), 24);
	return dtype == OCTAVO_E4M3 ? decode_e4m3(top) : decode_e5m2(top);
}

/* Rows [n0, n1) of 16 columns from k on; zeros behind them to the end of the last chunk. */
static void fill_panel(const struct octavo_matrix *w, size_t size, size_t n0, size_t n1, size_t k, __mmask16 lanes,
                       float *panel)
{
	const uint8_t *p = (const uint8_t *)w->data + (n0 * w->ld + k) * size;
	size_t i = 0;

	for (; i < n1 - n0; i++, p += w->ld * size)
		_mm512_store_ps(panel + i * LANES, load_values(w->dtype, p, lanes));
	for (; i % CHUNK; i++)
		_mm512_store_ps(panel + i * LANES, _mm512_setzero_ps());
}

/* The scales of `count` <= 16 columns from k on, in the scale block row of row n. */
static __m512 column_scales(const struct octavo_matrix *w, size_t n, size_t k, size_t count)
{
	size_t left = OCTAVO_BLOCK - (w->col0 + k) % OCTAVO_BLOCK;
	__m512 scale = _mm512_set1_ps(octavo_matrix_scale(w, n, k));

	if (left >= count)
		return scale;
	return _mm512_mask_mov_ps(_mm512_set1_ps(octavo_matrix_scale(w, n, k + left)), first_lanes(left), scale);
}

static void gemm_t(const struct octavo_matrix *w, size_t k0, size_t k1, const struct octavo_rows *x, float *y,
                   size_t ldy)
{
	_Alignas(64) float panel[PANEL * LANES];
	const size_t size = octavo_dtype_size(w->dtype);

	for (size_t k = k0; k < k1; k += LANES) {
		size_t count = smaller(LANES, k1 - k);
		struct fold f = {
		        .y = y + k, .ldy = ldy, .lanes = first_lanes(count), .scaled = w->scale_dtype != OCTAVO_NONE};
		for (size_t n = 0, end; n < w->rows; n = end) {
			end = panel_end(w, w->row0, n, w->rows);
			fill_panel(w, size, n, end, k, f.lanes, panel);
			if (f.scaled)
				f.scale = column_scales(w, n, k, count);
			f.first = n == 0;
			multiply_rows(x, n, end - n, panel, f);
		}
	}
}

const struct octavo_kernels octavo_set_gemm_t_avx512 = {
        .gemm_t = OCTAVO_KERNEL(gemm_t, gemm_t, "avx512", LANES, gemm_t),
};
