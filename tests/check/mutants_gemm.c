/* SPDX-License-Identifier: Apache-2.0
 *
 * Matrix products that are wrong in one way each.
 */
#include "mutants.h"

#include <fenv.h>
#include <math.h>
#include <signal.h>
#include <string.h>

/* Each with the check that must notice it. */
#define DEFECTS(X)                                                                                                     \
	X(CHUNKS_DESCENDING, "chunks in descending order", "gemm_fp8.shapes")                                          \
	X(BLOCKS_DESCENDING, "scale blocks in descending order", "gemm_fp8.shapes")                                    \
	X(ONE_CHAIN, "one chain instead of two", "gemm_fp8.shapes")                                                    \
	X(SCALE_UNFUSED, "scale multiplied and added, not fused", "gemm_fp8.shapes")                                   \
	X(BLOCKS_CHAINED, "scale of the last block for all", "gemm_fp8.shapes")                                        \
	X(ROW_SCALE_LAST, "row scale applied after the weight's", "gemm_fp8.row_scales")                               \
	X(NAN_AS_480, "NaN codes as 480", "gemm_fp8.values")                                                           \
	X(SUBNORMALS_FLUSHED, "subnormal codes as zero", "gemm_fp8.codes")                                             \
	X(TINY_SCALES_KEPT, "scales below 2^-40 kept", "gemm_fp8.values")                                              \
	X(ROW0_IGNORED, "row0 ignored", "gemm_fp8.shapes")                                                             \
	X(COL0_IGNORED, "col0 ignored", "gemm_fp8.shapes")                                                             \
	X(K_TAIL_DROPPED, "tail of K dropped", "gemm_fp8.shapes")                                                      \
	X(LAST_COLUMN_DROPPED, "last column dropped", "gemm_fp8.shapes")                                               \
	X(WRITES_BEHIND, "one output past the end written", "gemm_fp8.shapes")                                         \
	X(READS_BEHIND, "weights read past the end", "gemm_fp8.shapes")                                                \
	X(READS_BEFORE, "weights read before the start", "gemm_fp8.shapes")                                            \
	X(ACCUMULATES, "y added to instead of set", "gemm_fp8.values")                                                 \
	X(SLICE_IGNORED, "whole computed instead of the slice", "gemm_fp8.slices")                                     \
	X(ORDER_BY_ROWS, "order depends on the number of rows", "gemm_fp8.rows")                                       \
	X(CONTROL_CHANGED, "rounding mode left changed", "gemm_fp8.shapes")                                            \
	X(ILLEGAL, "illegal instruction", "gemm_fp8.shapes")

enum defect {
	NONE, /* right: the control, which must pass */
#define DEFECT_NAME(defect, what, check) defect,
	DEFECTS(DEFECT_NAME)
#undef DEFECT_NAME
};

static float weight(enum defect defect, const struct octavo_matrix *w, size_t n, size_t k)
{
	uint8_t code = ((const uint8_t *)w->data)[n * w->ld + k];
	if (defect == NAN_AS_480 && (code & 0x7F) == 0x7F)
		return code & 0x80 ? -480.0f : 480.0f;
	if (defect == SUBNORMALS_FLUSHED && (code & 0x7F) < (w->dtype == OCTAVO_E4M3 ? 8 : 4))
		return 0.0f;
	return w->dtype == OCTAVO_E4M3 ? octavo_e4m3_decode(code) : octavo_e5m2_decode(code);
}

/* The chunk [k, end) of row n of w and row m of x. */
static float chunk(enum defect defect, const struct octavo_matrix *w, size_t n, const uint16_t *x, size_t k, size_t end)
{
	float chain[2] = {0.0f, 0.0f};
	for (size_t i = k; i < end; i++) {
		float *sum = &chain[defect == ONE_CHAIN ? 0 : (i - k) % 2];
		*sum = fmaf(octavo_bf16_decode(x[i]), weight(defect, w, n, i), *sum);
	}
	return chain[0] + chain[1];
}

static float piece(enum defect defect, const struct octavo_matrix *w, size_t n, const uint16_t *x, size_t from,
                   size_t to)
{
	float acc = 0.0f;
	size_t chunks = (to - from + 31) / 32;
	for (size_t i = 0; i < chunks; i++) {
		size_t k = from + 32 * (defect == CHUNKS_DESCENDING ? chunks - 1 - i : i);
		size_t end = k + 32 < to ? k + 32 : to;
		if (defect == K_TAIL_DROPPED && end - k < 32)
			end = k + (end - k) / 8 * 8;
		acc = acc + chunk(defect, w, n, x, k, end);
	}
	return acc;
}

static float scale_of(enum defect defect, const struct octavo_matrix *w, size_t n, size_t k)
{
	struct octavo_matrix view = *w;
	if (defect == ROW0_IGNORED)
		view.row0 = 0;
	if (defect == COL0_IGNORED)
		view.col0 = 0;
	float scale = octavo_matrix_scale(&view, n, k);
	if (defect == TINY_SCALES_KEPT && w->scale_dtype == OCTAVO_F32)
		memcpy(&scale,
		       (const uint8_t *)w->scale + 4 * ((w->row0 + n) / 128 * w->scale_ld + (w->col0 + k) / 128),
		       sizeof scale);
	return scale;
}

static float add_piece(enum defect defect, float scale, float row_scale, float acc, float y)
{
	switch (defect) {
	case SCALE_UNFUSED:
		return y + scale * row_scale * acc;
	case BLOCKS_CHAINED:
		return y + acc;
	case ROW_SCALE_LAST:
		return fmaf(row_scale, scale * acc, y);
	default:
		return fmaf(row_scale * scale, acc, y);
	}
}

static float element(enum defect defect, const struct octavo_matrix *w, size_t n, const struct octavo_rows *x, size_t m)
{
	const unsigned col0 = defect == COL0_IGNORED ? 0 : w->col0;
	const float *row_scale = x->scale ? x->scale + m * x->scale_ld : NULL;
	const bool one_piece = w->scale_dtype == OCTAVO_NONE;
	size_t pieces = one_piece ? 1 : (col0 + w->cols + 127) / 128;
	float y = 0.0f, scale = 1.0f;

	for (size_t i = 0; i < pieces; i++) {
		size_t block = defect == BLOCKS_DESCENDING ? pieces - 1 - i : i;
		size_t from = block == 0 ? 0 : block * 128 - col0;
		size_t to = one_piece || (block + 1) * 128 - col0 > w->cols ? w->cols : (block + 1) * 128 - col0;
		scale = scale_of(defect, w, n, from);
		float acc = piece(defect, w, n, x->x + m * x->ld, from, to);
		y = add_piece(defect, scale, row_scale ? row_scale[from / 128] : 1.0f, acc, y);
	}
	return defect == BLOCKS_CHAINED ? y * scale : y;
}

static void gemm(enum defect defect, const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x,
                 float *y, size_t ldy)
{
	const volatile uint8_t *data = w->data;

	if (defect == ILLEGAL)
		raise(SIGILL);
	if (defect == CONTROL_CHANGED)
		fesetround(FE_UPWARD);
	if (defect == READS_BEFORE)
		(void)data[-1];
	if (defect == READS_BEHIND) /* whole vectors, also at the end of the last row */
		(void)data[(w->rows - 1) * w->ld + (w->cols + 15) / 16 * 16 - 1];
	if (defect == SLICE_IGNORED) {
		n0 = 0;
		n1 = w->rows;
	}
	if (defect == ORDER_BY_ROWS)
		defect = x->rows < 8 ? NONE : CHUNKS_DESCENDING;
	for (size_t m = 0; m < x->rows; m++)
		for (size_t n = n0; n < n1 - (defect == LAST_COLUMN_DROPPED); n++)
			y[m * ldy + n] = element(defect, w, n, x, m) + (defect == ACCUMULATES ? y[m * ldy + n] : 0.0f);
	if (defect == WRITES_BEHIND && x->rows > 0)
		y[(x->rows - 1) * ldy + n1] = 0.0f;
}

#define GEMM_MUTANT(defect, what, check)                                                                               \
	static void gemm_##defect(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x,    \
	                          float *y, size_t ldy)                                                                \
	{                                                                                                              \
		gemm(defect, w, n0, n1, x, y, ldy);                                                                    \
	}                                                                                                              \
	DESCRIPTOR(gemm, gemm_fp8, gemm_##defect)
GEMM_MUTANT(NONE, , )
DEFECTS(GEMM_MUTANT)

/* Every product rounded before it is added: what contraction or its absence would do to F32 weights. */
static void f32_unfused(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                        size_t ldy)
{
	for (size_t m = 0; m < x->rows; m++)
		for (size_t n = n0; n < n1; n++) {
			float acc = 0.0f, chain[2] = {0.0f, 0.0f};
			for (size_t k = 0; k < w->cols; k++) {
				float product = octavo_matrix_value(w, n, k) * octavo_bf16_decode(x->x[m * x->ld + k]);
				chain[k % 2] = chain[k % 2] + product;
				if (k % 32 == 31 || k + 1 == w->cols) {
					acc = acc + (chain[0] + chain[1]);
					chain[0] = chain[1] = 0.0f;
				}
			}
			y[m * ldy + n] = acc;
		}
}
DESCRIPTOR(gemm, gemm_f32, f32_unfused)

/* F16 weights read as BF16. */
static void f16_as_bf16(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                        size_t ldy)
{
	struct octavo_matrix bf16 = *w;
	struct octavo_kernels reference;
	octavo_kernels_init(&reference, 0);
	bf16.dtype = OCTAVO_BF16;
	reference.gemm_bf16->run(&bf16, n0, n1, x, y, ldy);
}
DESCRIPTOR(gemm, gemm_bf16, f16_as_bf16)

/* One chain over all of N, the scale applied to each weight. */
static void plain_transpose(const struct octavo_matrix *w, size_t k0, size_t k1, const struct octavo_rows *x, float *y,
                            size_t ldy)
{
	for (size_t m = 0; m < x->rows; m++)
		for (size_t k = k0; k < k1; k++) {
			float sum = 0.0f;
			for (size_t n = 0; n < w->rows; n++)
				sum = fmaf(octavo_bf16_decode(x->x[m * x->ld + n]), octavo_matrix_value(w, n, k), sum);
			y[m * ldy + k] = sum;
		}
}
DESCRIPTOR(gemm_t, gemm_t, plain_transpose)

/* ---- The table ---- */

#define DEFECT_MUTANT(defect, what, check) {what, check, install_gemm_##defect},
const struct mutant gemm_mutants[] = {
        DEFECTS(DEFECT_MUTANT) /* each with its comma */
        {"F32 products rounded", "gemm_f32.shapes", install_f32_unfused},
        {"F16 weights as BF16", "gemm_bf16.shapes", install_f16_as_bf16},
        {"transposed product in one chain", "gemm_t.shapes", install_plain_transpose},
        {NULL, NULL, NULL},
};

const struct mutant gemm_controls[] = {
        {"control", "gemm_fp8.values", install_gemm_NONE},
        {"control", "gemm_fp8.row_scales", install_gemm_NONE},
        {NULL, NULL, NULL},
};
