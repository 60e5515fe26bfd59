/* SPDX-License-Identifier: Apache-2.0
 *
 * GEMM for AMX-BF16: FP8 weights, decoded by byte lookups, and BF16 weights.
 *
 * Up to 16 rows of x the weights are the A tiles (amx_few.h): nothing is turned but x, once per call, and the memory
 * sets the pace.  For more rows they are the B tiles (amx_panel.h): they are turned as they are decoded, once for up
 * to 512 rows, and x is read in place whatever its size.
 */
#include "kernels/amx_few.h"
#include "kernels/amx_panel.h"
#include "kernels/codes_vbmi.h"

#include "kernels/sets.h"

#define MANY_ROWS 512         /* rows of x that share a decoded panel, and up to 15 that would be left alone */
#define MANY_BYTES (1u << 20) /* of x between two looks at the same weights: half of the second level */

/* 64 bytes of 16 rows that lie as codes to two chunks. */
ALWAYS_INLINE void fill_codes(uint32_t *b /* [2][TILE] */, const struct codes *codes, const uint8_t *const row[SIDE],
                              size_t offset, size_t count)
{
	/* in each dword codes 0, 2, 1, 3: then the even bytes are its first pair and the odd ones its second */
	const vi order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
	vi d[SIDE];

	load_transposed(row, offset, smaller(64, count), d);
#pragma GCC unroll 16
	for (size_t i = 0; i < SIDE; i++) {
		vi first, second;
		code_words(codes, _mm512_shuffle_epi8(d[i], order), &first, &second);
		_mm512_store_si512(b + 2 * i * SIDE, first);
		_mm512_store_si512(b + (2 * i + 1) * SIDE, second);
	}
}

/* Columns [k0, k1) of `columns` rows of w from n on; `ahead` bytes further is what to prefetch. */
ALWAYS_INLINE void fill(const enum kind kind, const struct codes *codes, const struct octavo_matrix *w, size_t n,
                        size_t columns, size_t k0, size_t k1, ptrdiff_t ahead, struct panel *p)
{
	const size_t size = kind == BF16 ? 2 : 1, pitch = w->ld * size;

	for (size_t j = 0; j < columns; j += SIDE) {
		const uint8_t *row[SIDE];
		for (size_t i = 0; i < SIDE; i++) /* rows beyond the slice repeat its last one */
			row[i] = (const uint8_t *)w->data + (n + smaller(j + i, columns - 1)) * pitch;
		for (size_t k = k0; k < k1; k += 64 / size) {
			uint32_t *b = panel_chunk(p, j / SIDE, (k - k0) / OCTAVO_CHUNK);
#pragma GCC unroll 16
			for (size_t i = 0; i < SIDE; i++)
				__builtin_prefetch(row[i] + (ptrdiff_t)(k * size) + ahead, 0, 2);
			if (kind == BF16)
				fill_transposed(b, row, k * size, k1 - k);
			else
				fill_codes(b, codes, row, k, k1 - k);
		}
	}
}

/* Columns [k0, k1) of w, which all rows of x meet before the next: chunks stay in order, since y carries the sums. */
ALWAYS_INLINE void many_block(const enum kind kind, const struct codes *codes, const struct octavo_matrix *w, size_t n0,
                              size_t n1, size_t k0, size_t k1, const struct octavo_rows *x, float *y, size_t ldy,
                              struct panel *p)
{
	struct panel_fold f = {.ldy = ldy, .scaled = w->scale_dtype != OCTAVO_NONE};
	const size_t most = f.scaled ? SCALED_COLUMNS : PLAIN_COLUMNS;

	for (size_t n = n0; n < n1; n += f.columns) {
		f.columns = smaller(most, n1 - n);
		f.y = y + n;
		for (size_t k = k0, end; k < k1; k = end) {
			end = panel_end(w, w->col0, k, w->cols);
			/* the same rows' next panel, or the next rows' first */
			ptrdiff_t ahead =
			        end < k1 ? (ptrdiff_t)(end - k) : (ptrdiff_t)(f.columns * w->ld) - (ptrdiff_t)(k - k0);
			fill(kind, codes, w, n, f.columns, k, end, kind == BF16 ? 2 * ahead : ahead, p);
			if (f.scaled)
				row_scales(w, n, f.columns, k, f.scale);
			f.first = k == 0;
			f.group = k / OCTAVO_BLOCK;
			multiply_panel(p, x, k, end - k, &f);
		}
	}
}

ALWAYS_INLINE void many_rows(const enum kind kind, const struct octavo_matrix *w, size_t n0, size_t n1,
                             const struct octavo_rows *x, float *y, size_t ldy)
{
	struct panel p;
	const struct codes *codes = codes_of(w->dtype); /* for FP8 */
	struct octavo_rows part = *x;

	p.chunks = w->scale_dtype == OCTAVO_NONE ? PLAIN_CHUNKS : SCALED_CHUNKS;
	panel_open(x);
	for (size_t m = 0; m < x->rows; m += part.rows) {
		part.rows = x->rows - m < MANY_ROWS + SIDE ? x->rows - m : MANY_ROWS;
		part.x = x->x + m * x->ld;
		part.scale = x->scale ? x->scale + m * x->scale_ld : NULL;
		for (size_t k0 = 0, k1; k0 < w->cols; k0 = k1) {
			for (k1 = k0; k1 < w->cols && (k1 == k0 || (k1 - k0) * part.rows * 2 < MANY_BYTES);)
				k1 = panel_end(w, w->col0, k1, w->cols);
			many_block(kind, codes, w, n0, n1, k0, k1, &part, y + m * ldy, ldy, &p);
		}
	}
	_tile_release();
}

static void gemm_fp8(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                     size_t ldy)
{
	if (x->rows <= FEW_ROWS)
		few_rows(E4M3, w, n0, n1, x, y, ldy); /* or E5M2: the tables know */
	else
		many_rows(E4M3, w, n0, n1, x, y, ldy);
}

static void gemm_bf16(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                      size_t ldy)
{
	if (w->dtype != OCTAVO_BF16) { /* F16 has more bits than the tiles take */
		octavo_set_gemm_avx512.gemm_bf16->run(w, n0, n1, x, y, ldy);
		return;
	}
	if (x->rows <= FEW_ROWS)
		few_rows(BF16, w, n0, n1, x, y, ldy);
	else
		many_rows(BF16, w, n0, n1, x, y, ldy);
}

const struct octavo_kernels octavo_set_gemm_amx = {
        .gemm_fp8 = OCTAVO_KERNEL(gemm, gemm_fp8, "amx", FEW_WEIGHTS, gemm_fp8),
        .gemm_bf16 = OCTAVO_KERNEL(gemm, gemm_bf16, "amx", FEW_WEIGHTS, gemm_bf16),
};
