/* SPDX-License-Identifier: Apache-2.0
 *
 * The definition of the GEMM, for every weight and scale dtype: see octavo_kernels.h.
 */
#include "kernels/chunk_ref.h"
#include "kernels/sets.h"

/* Rows of x that share one decoded chunk; bounds the accumulators on the stack. */
#define ROWS 64

static inline size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Adds the piece [k0, k1) of weight row n to sum[m] for `rows` rows of x from m0 on. */
static void add_piece(const struct octavo_decoder *d, size_t n, size_t k0, size_t k1, const struct octavo_rows *x,
                      size_t m0, size_t rows, float *sum)
{
	const struct octavo_matrix *w = d->w;
	float chunk[OCTAVO_CHUNK];
	float acc[ROWS] = {0};

	for (size_t k = k0; k < k1; k += OCTAVO_CHUNK) {
		size_t count = min(OCTAVO_CHUNK, k1 - k);
		octavo_decode(d, n * w->ld + k, 1, count, chunk);
		for (size_t m = 0; m < rows; m++) {
			const uint16_t *row = x->x + (m0 + m) * x->ld + k;
			acc[m] = acc[m] + (w->dtype == OCTAVO_F32 ? octavo_chunk_f32(row, chunk, count)
			                                          : octavo_chunk(row, chunk, count));
		}
	}

	float scale = octavo_matrix_scale(w, n, k0);
	for (size_t m = 0; m < rows; m++) {
		float s = x->scale ? x->scale[(m0 + m) * x->scale_ld + k0 / OCTAVO_BLOCK] * scale : scale;
		sum[m] = fmaf(s, acc[m], sum[m]);
	}
}

static void gemm_ref(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                     size_t ldy)
{
	struct octavo_decoder d;

	octavo_decoder_init(&d, w);
	for (size_t m0 = 0; m0 < x->rows; m0 += ROWS) {
		size_t rows = min(ROWS, x->rows - m0);
		for (size_t n = n0; n < n1; n++) {
			float sum[ROWS] = {0};
			size_t end;
			for (size_t k = 0; k < w->cols; k = end) {
				end = octavo_piece_end(w, w->col0, k, w->cols);
				add_piece(&d, n, k, end, x, m0, rows, sum);
			}
			for (size_t m = 0; m < rows; m++)
				y[(m0 + m) * ldy + n] = sum[m];
		}
	}
}

const struct octavo_kernels octavo_set_gemm_ref = {
        .gemm_fp8 = OCTAVO_KERNEL(gemm, gemm_fp8, "ref", 1, gemm_ref),
        .gemm_bf16 = OCTAVO_KERNEL(gemm, gemm_bf16, "ref", 1, gemm_ref),
        .gemm_f32 = OCTAVO_KERNEL(gemm, gemm_f32, "ref", 1, gemm_ref),
};
