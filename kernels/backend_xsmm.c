/* SPDX-License-Identifier: Apache-2.0
 *
 * The backend `xsmm`: tiles of F32 values, multiplied by libxsmm's JIT-compiled SGEMM.
 *
 * libxsmm is column-major: x goes in as its A, transposed to [k][rows], so that its vectors lie along the rows; the
 * tile of w, as it lies, is its B, and the result is [n][rows].  F32 rather than BF16 because that runs on every
 * x86-64 processor from SSE3 on, and because libxsmm 1.17 takes AMX for granted where the processor has it, allowed
 * or not.  Seven kernels, for 1, 2, 4, … 64 rows, made when the backend is opened.
 */
#include "kernels/backend.h"
#include "kernels/backend_tiles.h"

#include "fp8/bits.h"

#include <libxsmm.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static struct {
	pthread_once_t once;
	pthread_key_t worker;
	int ready;
	struct octavo_error why_not;
	libxsmm_smmfunction product[ROW_SIZES];
} shared = {.once = PTHREAD_ONCE_INIT};

/* What a thread needs. */
struct worker {
	_Alignas(64) float x[TILE * MOST_ROWS]; /* [TILE][rows] */
	float w[TILE][TILE];
	float y[TILE * MOST_ROWS]; /* [TILE][rows] */
};

/* This thread's, made on its first product and freed with it; NULL if memory ran out. */
static struct worker *worker_get(void)
{
	struct worker *t = pthread_getspecific(shared.worker);

	if (t)
		return t;
	t = aligned_alloc(64, sizeof *t);
	if (!t)
		return NULL;
	memset(t, 0, sizeof *t); /* what no tile fills is multiplied too: it should be no NaN */
	if (!pthread_setspecific(shared.worker, t))
		return t;
	free(t);
	return NULL;
}

/* Rows [n, end) and columns [k, k + count) of w to [TILE][TILE] values, zeros behind them. */
static void fill_weights(float to[TILE][TILE], const struct octavo_matrix *w, size_t n, size_t end, size_t k,
                         size_t count)
{
	size_t size = octavo_dtype_size(w->dtype);

	for (size_t row = n; row < end; row++, to++) {
		const uint8_t *from = (const uint8_t *)w->data + (row * w->ld + k) * size;
		uint16_t value[TILE];
		prefetch_next(from, count * size);
		if (size == 1)
			decode_codes(value, from, count, w->dtype);
		else
			memcpy(value, from, count * size);
		for (size_t i = 0; w->dtype == OCTAVO_F16 && i < count; i++)
			(*to)[i] = octavo_f16_decode(value[i]);
		if (w->dtype != OCTAVO_F16) {
#pragma omp simd
			for (size_t i = 0; i < count; i++)
				(*to)[i] = octavo_bf16_float(value[i]);
		}
		memset(*to + count, 0, (TILE - count) * sizeof **to);
	}
}

/* Rows [m0, m0 + rows) of x to [TILE][size], zeros behind the piece. */
static void fill_rows(float *to, size_t size, const struct octavo_rows *x, size_t m0, size_t rows, size_t k,
                      size_t count)
{
	for (size_t m = 0; m < rows; m++) {
		const uint16_t *from = x->x + (m0 + m) * x->ld + k;
		for (size_t i = 0; i < count; i++)
			to[i * size + m] = octavo_bf16_float(from[i]);
		for (size_t i = count; i < TILE; i++)
			to[i * size + m] = 0;
	}
}

/* Adds columns [k, k + count) of the product to [n, end) of y. */
static void add_piece(struct worker *t, const struct octavo_matrix *w, const struct octavo_rows *x, float *y,
                      size_t ldy, size_t n, size_t end, size_t k, size_t count)
{
	fill_weights(t->w, w, n, end, k, count);
	for (size_t m0 = 0, rows; m0 < x->rows; m0 += rows) {
		rows = least(MOST_ROWS, x->rows - m0);
		unsigned exponent = row_size(rows);
		size_t size = (size_t)1 << exponent;
		fill_rows(t->x, size, x, m0, rows, k, count);
		shared.product[exponent](t->x, t->w[0], t->y);
		for (size_t m = 0; m < rows; m++) {
			float scale = tile_scale(w, x, n, k, m0 + m), *to = y + (m0 + m) * ldy + n;
			for (size_t i = 0; i < end - n; i++)
				to[i] += scale * t->y[i * size + m];
		}
	}
}

static void gemm_xsmm(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                      size_t ldy)
{
	struct worker *t = worker_get();

	if (t)
		clear_columns(y, ldy, x->rows, n0, n1);
	else
		spoil_columns(y, ldy, x->rows, n0, n1);
	for (size_t n = n0, end; t && n < n1; n = end) {
		end = tile_end(w->row0, n, n1);
		for (size_t k = 0, next; k < w->cols; k = next) {
			next = tile_end(w->col0, k, w->cols);
			add_piece(t, w, x, y, ldy, n, end, k, next - k);
		}
	}
}

static void open_once(void)
{
	const libxsmm_blasint tile = TILE;
	const float one = 1, zero = 0;
	int made = 0;

	libxsmm_init();
	for (; made < ROW_SIZES; made++) {
		const libxsmm_blasint rows = 1 << made;
		shared.product[made] =
		        libxsmm_smmdispatch(rows, tile, tile, &rows, &tile, &rows, &one, &zero, NULL, NULL);
		if (!shared.product[made])
			break;
	}
	if (made < ROW_SIZES)
		snprintf(shared.why_not.text, sizeof shared.why_not.text,
		         "libxsmm " LIBXSMM_VERSION
		         " compiles no product of %d rows for this processor (its target: %s)",
		         1 << made, libxsmm_get_target_arch());
	else if (pthread_key_create(&shared.worker, free))
		snprintf(shared.why_not.text, sizeof shared.why_not.text, "too many thread keys");
	else
		shared.ready = 1;
}

static const struct octavo_kernels *open_xsmm(struct octavo_error *error)
{
	static const struct octavo_gemm_kernel fp8 = {"gemm_fp8", "xsmm", OCTAVO_APPROXIMATE, TILE, gemm_xsmm};
	static const struct octavo_gemm_kernel bf16 = {"gemm_bf16", "xsmm", OCTAVO_APPROXIMATE, TILE, gemm_xsmm};
	static const struct octavo_kernels set = {.gemm_fp8 = &fp8, .gemm_bf16 = &bf16};

	pthread_once(&shared.once, open_once);
	if (!shared.ready)
		*error = shared.why_not;
	return shared.ready ? &set : NULL;
}

extern OCTAVO_API const struct octavo_backend_module octavo_backend_module;
const struct octavo_backend_module octavo_backend_module = {
        OCTAVO_BACKEND_MODULE_VERSION,
        sizeof(struct octavo_kernels),
        open_xsmm,
};
