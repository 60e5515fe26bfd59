/* SPDX-License-Identifier: Apache-2.0
 *
 * The definition of the transposed GEMM, y[m][k] = sum_n x[m][n] * w[n][k]: see octavo_kernels.h.
 */
#include "kernels/chunk_ref.h"
#include "kernels/sets.h"

#define ROWS 64

static inline size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Adds the piece of rows [n0, n1) of column k to sum[m] for `rows` rows of x from m0 on. */
static void add_piece(const struct octavo_decoder *d, size_t k, size_t n0, size_t n1, const struct octavo_rows *x,
                      size_t m0, size_t rows, float *sum)
{
	const struct octavo_matrix *w = d->w;
	float chunk[OCTAVO_CHUNK];
	float acc[ROWS] = {0};

	for (size_t n = n0; n < n1; n += OCTAVO_CHUNK) {
		size_t count = min(OCTAVO_CHUNK, n1 - n);
		octavo_decode(d, n * w->ld + k, w->ld, count, chunk);
		for (size_t m = 0; m < rows; m++) {
			const uint16_t *row = x->x + (m0 + m) * x->ld + n;
			acc[m] = acc[m] + (w->dtype == OCTAVO_F32 ? octavo_chunk_f32(row, chunk, count)
			                                          : octavo_chunk(row, chunk, count));
		}
	}

	float scale = octavo_matrix_scale(w, n0, k);
	for (size_t m = 0; m < rows; m++)
		sum[m] = fmaf(scale, acc[m], sum[m]);
}

static void gemm_t_ref(const struct octavo_matrix *w, size_t k0, size_t k1, const struct octavo_rows *x, float *y,
                       size_t ldy)
{
	struct octavo_decoder d;

	octavo_decoder_init(&d, w);
	for (size_t m0 = 0; m0 < x->rows; m0 += ROWS) {
		size_t rows = min(ROWS, x->rows - m0);
		for (size_t k = k0; k < k1; k++) {
			float sum[ROWS] = {0};
			size_t end;
			for (size_t n = 0; n < w->rows; n = end) {
				end = octavo_piece_end(w, w->row0, n, w->rows);
				add_piece(&d, k, n, end, x, m0, rows, sum);
			}
			for (size_t m = 0; m < rows; m++)
				y[(m0 + m) * ldy + k] = sum[m];
		}
	}
}

const struct octavo_kernels octavo_set_gemm_t_ref = {
        .gemm_t = OCTAVO_KERNEL(gemm_t, gemm_t, "ref", 1, gemm_t_ref),
};
