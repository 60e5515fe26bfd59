/* SPDX-License-Identifier: Apache-2.0
 *
 * Transposed GEMM for AMX-BF16: outputs are columns of w, so its rows go into the panel two by two as they lie.
 */
#include "kernels/amx_panel.h"
#include "kernels/codes_vbmi.h"

#include "kernels/sets.h"

/* Two rows of 64 codes into row i of the tiles of `columns` columns. */
ALWAYS_INLINE void fill_code_pair(struct panel *p, const struct codes *codes, vi even, vi odd, size_t columns,
                                  size_t chunk, size_t i)
{
	vi pair[4];

	code_rows(codes, even, odd, pair);
	for (size_t j = 0; j < (columns <= 2 * SIDE ? 2 : 4); j++)
		_mm512_store_si512(panel_chunk(p, j, chunk) + i * SIDE, pair[j]);
}

/* Rows [n0, n1) of `columns` columns from k on; zeros behind them to the end of the last chunk. */
ALWAYS_INLINE void fill(const struct octavo_matrix *w, const struct codes *codes, size_t n0, size_t n1, size_t k,
                        size_t columns, struct panel *p)
{
	const size_t size = w->dtype == OCTAVO_BF16 ? 2 : 1, pitch = w->ld * size;
	const size_t end = n0 + (n1 - n0 + OCTAVO_CHUNK - 1) / OCTAVO_CHUNK * OCTAVO_CHUNK;
	const uint8_t *row = (const uint8_t *)w->data + n0 * pitch + k * size;

	for (size_t n = n0; n < end; n += 2, row += 2 * pitch) {
		size_t chunk = (n - n0) / OCTAVO_CHUNK, i = (n - n0) % OCTAVO_CHUNK / 2;
		size_t even = n < n1 ? columns : 0, odd = n + 1 < n1 ? columns : 0;
		if (w->dtype == OCTAVO_BF16)
			fill_pair(panel_chunk(p, 0, chunk) + i * SIDE, panel_chunk(p, 1, chunk) + i * SIDE,
			          load_chunk(row, even), load_chunk(row + pitch, odd));
		else
			fill_code_pair(p, codes, load_codes(row, even), load_codes(row + pitch, odd), columns, chunk,
			               i);
	}
}

/* The scales of `count` columns of w from k on, at row n. */
static inline void column_scales(const struct octavo_matrix *w, size_t n, size_t k, size_t count, float *scale)
{
	for (size_t i = 0, end; i < count; i = end) {
		float s = octavo_matrix_scale(w, n, k + i);
		for (end = octavo_piece_end(w, (unsigned)((w->col0 + k) % OCTAVO_BLOCK), i, count); i < end; i++)
			scale[i] = s;
	}
}

static void gemm_t(const struct octavo_matrix *w, size_t k0, size_t k1, const struct octavo_rows *x, float *y,
                   size_t ldy)
{
	struct panel p;
	struct panel_fold f = {.ldy = ldy, .scaled = w->scale_dtype != OCTAVO_NONE};
	const struct codes *codes = codes_of(w->dtype); /* for FP8 */

	if (w->dtype == OCTAVO_F16 || w->dtype == OCTAVO_F32) { /* more bits than the tiles take */
		octavo_set_gemm_t_avx512.gemm_t->run(w, k0, k1, x, y, ldy);
		return;
	}
	p.chunks = f.scaled ? SCALED_CHUNKS : PLAIN_CHUNKS;
	panel_open(x);
	for (size_t k = k0; k < k1; k += f.columns) {
		f.columns = smaller(f.scaled ? SCALED_COLUMNS : PLAIN_COLUMNS, k1 - k);
		f.y = y + k;
		for (size_t n = 0, end; n < w->rows; n = end) {
			end = panel_end(w, w->row0, n, w->rows);
			fill(w, codes, n, end, k, f.columns, &p);
			if (f.scaled)
				column_scales(w, n, k, f.columns, f.scale);
			f.first = n == 0;
			multiply_panel(&p, x, n, end - n, &f);
		}
	}
	_tile_release();
}

const struct octavo_kernels octavo_set_gemm_t_amx = {
        .gemm_t = OCTAVO_KERNEL(gemm_t, gemm_t, "amx", SIDE, gemm_t),
};
