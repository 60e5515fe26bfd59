/* SPDX-License-Identifier: Apache-2.0
 *
 * The W8A8 product as a tensor core adds it (the model is in octavo_fp8.h): slots that take the place of gemm_fp8.
 */
#include "kernels/chunk_ref.h"
#include "kernels/sets.h"

#include "fp8/tensor_core.h"

enum {
	FRACTION = 13,            /* Hopper's */
	ROWS = 16, COLUMNS = 16,  /* outputs that share the decoded operands */
};

static inline size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The binade that each code's product counts with. */
struct codes {
	struct octavo_decoder decoder;
	int16_t exponent[256];
};

static void codes_init(struct codes *codes, const struct octavo_matrix *w)
{
	octavo_decoder_init(&codes->decoder, w);
	for (unsigned code = 0; code < 256; code++)
		codes->exponent[code] = octavo_binade(codes->decoder.value[code], w->dtype == OCTAVO_E4M3 ? -6 : -14);
}

static void decode_weights(const struct codes *codes, size_t first, size_t count, struct octavo_operand *to)
{
	const uint8_t *code = (const uint8_t *)codes->decoder.w->data + first;

	for (size_t i = 0; i < OCTAVO_MMA; i++) {
		to->value[i] = i < count ? codes->decoder.value[code[i]] : 0.0f;
		to->exponent[i] = i < count ? codes->exponent[code[i]] : OCTAVO_EXPONENT_ZERO;
	}
}

/* BF16 values of E4M3 codes. */
static void decode_row(const uint16_t *x, size_t count, struct octavo_operand *to)
{
	for (size_t i = 0; i < OCTAVO_MMA; i++) {
		to->value[i] = i < count ? octavo_bf16_float(x[i]) : 0.0f;
		to->exponent[i] = octavo_binade(to->value[i], 1 - OCTAVO_E4M3_BIAS);
	}
}

/* A block of outputs: rows [m0, m0 + rows) of x, rows [n0, n0 + columns) of w. */
struct block {
	const struct codes *codes;
	const struct octavo_rows *x;
	size_t m0, rows, n0, columns;
	float c[COLUMNS][ROWS], sum[COLUMNS][ROWS];
};

/* One step: k in [at, at + count). */
static void step(struct block *b, size_t at, size_t count)
{
	struct octavo_operand left, right[COLUMNS];

	for (size_t n = 0; n < b->columns; n++)
		decode_weights(b->codes, (b->n0 + n) * b->codes->decoder.w->ld + at, count, &right[n]);
	for (size_t m = 0; m < b->rows; m++) {
		decode_row(b->x->x + (b->m0 + m) * b->x->ld + at, count, &left);
		for (size_t n = 0; n < b->columns; n++)
			b->c[n][m] = octavo_tensor_core_add(FRACTION, b->c[n][m], &left, &right[n]);
	}
}

/* Takes the tensor core's sums over [.., k] to FP32. */
static void promote(struct block *b, size_t k)
{
	for (size_t n = 0; n < b->columns; n++) {
		float scale = octavo_matrix_scale(b->codes->decoder.w, b->n0 + n, k);
		for (size_t m = 0; m < b->rows; m++) {
			float s = b->x->scale[(b->m0 + m) * b->x->scale_ld + k / OCTAVO_BLOCK] * scale;
			b->sum[n][m] = fmaf(s, b->c[n][m], b->sum[n][m]);
		}
	}
	memset(b->c, 0, sizeof b->c);
}

static void run_block(struct block *b, size_t promotion)
{
	const struct octavo_matrix *w = b->codes->decoder.w;

	memset(b->c, 0, sizeof b->c);
	memset(b->sum, 0, sizeof b->sum);
	for (size_t from = 0, to; from < w->cols; from = to) {
		to = min(from + promotion, octavo_piece_end(w, w->col0, from, w->cols));
		for (size_t at = from; at < to; at += OCTAVO_MMA)
			step(b, at, min(OCTAVO_MMA, to - at));
		promote(b, from);
	}
}

static void gemm_emulated(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                          size_t ldy, size_t promotion)
{
	struct codes codes;

	if (!x->scale) { /* not quantised: no FP8 product */
		octavo_kernels_get()->gemm_fp8->run(w, n0, n1, x, y, ldy);
		return;
	}
	codes_init(&codes, w);
	for (size_t n = n0; n < n1; n += COLUMNS)
		for (size_t m = 0; m < x->rows; m += ROWS) {
			struct block b = {.codes = &codes, .x = x, .m0 = m, .rows = min(ROWS, x->rows - m), .n0 = n,
			                  .columns = min(COLUMNS, n1 - n)};
			run_block(&b, promotion);
			for (size_t i = 0; i < b.rows; i++)
				for (size_t j = 0; j < b.columns; j++)
					y[(m + i) * ldy + n + j] = b.sum[j][i];
		}
}

/* A slot has no parameters: one function and one descriptor for each promotion interval. */
#define INTERVALS(X) X(32) X(64) X(96) X(128)

#define EMULATED_GEMM(nc)                                                                                              \
	static void gemm_hopper_##nc(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, \
	                             float *y, size_t ldy)                                                             \
	{                                                                                                              \
		gemm_emulated(w, n0, n1, x, y, ldy, nc);                                                               \
	}
INTERVALS(EMULATED_GEMM)

#define EMULATED_KERNEL(nc) {"gemm_fp8", "hopper:" #nc, OCTAVO_APPROXIMATE, 1, gemm_hopper_##nc},
static const struct octavo_gemm_kernel hopper[] = {INTERVALS(EMULATED_KERNEL)};

enum octavo_status octavo_kernels_emulate(struct octavo_kernels *table, const char *name)
{
	if (!table || !name)
		return OCTAVO_EINVAL;
	for (size_t i = 0; i < sizeof hopper / sizeof *hopper; i++)
		if (!strcmp(name, hopper[i].isa) || (!strcmp(name, "hopper") && hopper[i].run == gemm_hopper_128)) {
			table->gemm_fp8 = &hopper[i];
			return OCTAVO_OK;
		}
	return OCTAVO_EINVAL;
}
