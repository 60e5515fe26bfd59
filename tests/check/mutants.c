/* SPDX-License-Identifier: Apache-2.0
 *
 * The self-test of the harness: kernels that are wrong in one way each, all of which it must catch, once in place of
 * a variant (level one) and once in place of the reference (level two).  Each names the check that has to notice.
 */
#include "harness.h"

#include "kernels/arith.h"

#include <fenv.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- Matrix products ---- */

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

#define DESCRIPTOR(type, slot, id)                                                                                     \
	static void install_##id(struct octavo_kernels *table)                                                         \
	{                                                                                                              \
		static const struct octavo_##type##_kernel kernel = {#slot, "wrong", 0, 1, id};                        \
		table->slot = &kernel;                                                                                 \
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

/* ---- Attention: the reference on altered arguments ---- */

static void attend(const struct octavo_attention *a)
{
	struct octavo_kernels reference;
	octavo_kernels_init(&reference, 0);
	reference.attention->run(a);
}

static void path_ignored(const struct octavo_attention *a)
{
	struct octavo_attention wrong = *a;
	wrong.committed = a->t1;
	attend(&wrong);
}
DESCRIPTOR(attention, attention, path_ignored)

static void last_token_dropped(const struct octavo_attention *a)
{
	struct octavo_attention wrong = *a;
	wrong.t1 -= a->t1 - a->t0 > 1;
	attend(&wrong);
}
DESCRIPTOR(attention, attention, last_token_dropped)

/* Divides at once, as if the segment were the whole context. */
static void normalised(const struct octavo_attention *a)
{
	attend(a);
	for (size_t i = 0; i < a->heads * a->v_dim; i++)
		a->o[i] /= a->l[i / a->v_dim];
}
DESCRIPTOR(attention, attention, normalised)

/* The sum of the rounded probabilities; theirs are what the scratch holds. */
static void rounded_sum(const struct octavo_attention *a)
{
	attend(a);
	for (size_t h = 0; h < a->heads; h++) {
		float lane[16] = {0};
		for (size_t i = 0; i < a->t1 - a->t0; i++)
			lane[i % 16] += a->p[h * OCTAVO_SEGMENT + i];
		a->l[h] = octavo_lane_fold(lane);
	}
}
DESCRIPTOR(attention, attention, rounded_sum)

static void merge_unfused(size_t heads, size_t v_dim, float *m1, float *l1, float *o1, const float *m2, const float *l2,
                          const float *o2)
{
	for (size_t h = 0; h < heads; h++) {
		float m = fmaxf(m1[h], m2[h]), a = octavo_exp(m1[h] - m), b = octavo_exp(m2[h] - m);
		m1[h] = m;
		l1[h] = l1[h] * a + l2[h] * b;
		for (size_t j = h * v_dim; j < (h + 1) * v_dim; j++)
			o1[j] = o1[j] * a + o2[j] * b;
	}
}
DESCRIPTOR(attention_merge, attention_merge, merge_unfused)

static void finish_by_reciprocal(size_t heads, size_t v_dim, float *o, const float *l)
{
	for (size_t i = 0; i < heads * v_dim; i++)
		o[i] = o[i] * (1.0f / l[i / v_dim]);
}
DESCRIPTOR(attention_finish, attention_finish, finish_by_reciprocal)

/* ---- Rows ---- */

static void norm_in_order(float *y, const float *x, const float *g, size_t n, float eps)
{
	float sum = 0.0f;
	for (size_t i = 0; i < n; i++)
		sum = fmaf(x[i], x[i], sum);
	float r = 1.0f / sqrtf(sum / (float)n + eps);
	for (size_t i = 0; i < n; i++)
		y[i] = (x[i] * r) * g[i];
}
DESCRIPTOR(norm, norm, norm_in_order)

static void rope_unfused(float *x, const float *cs, size_t n)
{
	for (size_t i = 0; i < n; i += 2) {
		float x0 = x[i], x1 = x[i + 1];
		x[i] = x0 * cs[i] - x1 * cs[i + 1];
		x[i + 1] = x0 * cs[i + 1] + x1 * cs[i];
	}
}
DESCRIPTOR(rope, rope, rope_unfused)

static void swiglu_of_libm(float *y, const float *gate, const float *up, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}
DESCRIPTOR(swiglu, swiglu, swiglu_of_libm)

static void exp_of_libm(float *y, const float *x, float max, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = expf(x[i] - max);
}
DESCRIPTOR(exp_row, exp_row, exp_of_libm)

/* A round less. */
static void numbers_of_nine_rounds(uint32_t number[OCTAVO_NUMBERS], const uint32_t counter[4], uint64_t key)
{
	for (uint32_t i = 0; i < OCTAVO_NUMBERS / 4; i++) {
		uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3] + i};
		for (uint32_t round = 0; round < 9; round++) {
			uint64_t a = UINT64_C(0xD2511F53) * c[0], b = UINT64_C(0xCD9E8D57) * c[2];
			c[0] = (uint32_t)(b >> 32) ^ c[1] ^ ((uint32_t)key + round * 0x9E3779B9u);
			c[2] = (uint32_t)(a >> 32) ^ c[3] ^ ((uint32_t)(key >> 32) + round * 0xBB67AE85u);
			c[1] = (uint32_t)b;
			c[3] = (uint32_t)a;
		}
		for (size_t w = 0; w < 4; w++)
			number[OCTAVO_NUMBERS / 4 * w + i] = c[w];
	}
}
DESCRIPTOR(numbers, numbers, numbers_of_nine_rounds)

static void axpy_unfused(float *acc, const float *x, float w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		acc[i] = acc[i] + w * x[i];
}
DESCRIPTOR(axpy, axpy, axpy_unfused)

static void round_without_floor(uint16_t *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = octavo_bf16_encode(x[i]);
}
DESCRIPTOR(round, round, round_without_floor)

/* Half up instead of half to even. */
static void round_half_up(uint16_t *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t bits;
		memcpy(&bits, &x[i], sizeof bits);
		y[i] = fabsf(x[i]) < 0x1p-40f ? 0
		       : isfinite(x[i])       ? (uint16_t)((bits + 0x8000) >> 16)
		                              : octavo_bf16_encode(x[i]);
	}
}
DESCRIPTOR(round, round, round_half_up)

/* x * (1 / s) in place of x / s. */
static void quantise_by_reciprocal(uint16_t *y, float *scale, const float *x, size_t n, enum octavo_scale_rule rule)
{
	struct octavo_kernels reference;
	octavo_kernels_init(&reference, 0);
	reference.quantise->run(y, scale, x, n, rule);
	for (size_t i = 0; i < n; i++) {
		float rounded = octavo_bf16_decode(octavo_bf16_encode(x[i]));
		float product = rounded * (1.0f / scale[i / 128]);
		if ((y[i] & 0x7FFF) <= 0x7F80)
			y[i] = octavo_bf16_encode(octavo_e4m3_decode(octavo_e4m3_encode_sat(product)));
	}
}
DESCRIPTOR(quantise, quantise, quantise_by_reciprocal)

/* Rounded to F32 before BF16. */
static void decode_rounded_twice(uint16_t *y, const uint8_t *code, float scale, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = octavo_bf16_activation(octavo_e4m3_decode(code[i]) * scale);
}
DESCRIPTOR(decode, decode_e4m3, decode_rounded_twice)

static void decode_without_floor(uint16_t *y, const uint8_t *code, float scale, size_t n)
{
	struct octavo_kernels reference;
	octavo_kernels_init(&reference, 0);
	reference.decode_e4m3->run(y, code, scale, n);
	for (size_t i = 0; i < n; i++)
		if ((y[i] & 0x7FFF) == 0)
			y[i] = octavo_bf16_encode(octavo_e4m3_decode(code[i]) * scale);
}
DESCRIPTOR(decode, decode_e4m3, decode_without_floor)

static void encode_overflowing(uint8_t *code, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		code[i] = octavo_e4m3_encode(x[i]);
}
DESCRIPTOR(encode, encode_e4m3, encode_overflowing)

/* Half up instead of half to even. */
static void encode_half_up(uint8_t *code, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		code[i] = octavo_e4m3_encode_sat(isfinite(x[i]) ? nextafterf(x[i], x[i] * 2.0f) : x[i]);
}
DESCRIPTOR(encode, encode_e4m3, encode_half_up)

/* Ties to the highest expert: the reference on reversed logits. */
static void route_backwards(const struct octavo_router *r, const float *logits, uint32_t *expert, float *weight)
{
	float reversed[OCTAVO_MAX_EXPERTS], bias[OCTAVO_MAX_EXPERTS] = {0};
	uint32_t e[OCTAVO_MAX_EXPERTS];
	float w[OCTAVO_MAX_EXPERTS];
	struct octavo_router mirrored = *r;
	struct octavo_kernels reference;

	octavo_kernels_init(&reference, 0);
	for (size_t i = 0; i < r->experts; i++) {
		reversed[i] = logits[r->experts - 1 - i];
		bias[i] = r->bias ? r->bias[r->experts - 1 - i] : 0.0f;
	}
	mirrored.bias = bias;
	reference.route->run(&mirrored, reversed, e, w);
	for (size_t i = 0; i < r->top_k; i++) {
		expert[i] = (uint32_t)r->experts - 1 - e[r->top_k - 1 - i];
		weight[i] = w[r->top_k - 1 - i];
	}
}
DESCRIPTOR(route, route, route_backwards)

/* ---- The self-test ---- */

struct mutant {
	const char *what;
	const char *check; /* the one that must fail; for the control, that must not */
	void (*install)(struct octavo_kernels *table);
};

#define DEFECT_MUTANT(defect, what, check) {what, check, install_gemm_##defect},
static const struct mutant defects[] = {DEFECTS(DEFECT_MUTANT)};

static const struct mutant mutants[] = {
        {"F32 products rounded", "gemm_f32.shapes", install_f32_unfused},
        {"F16 weights as BF16", "gemm_bf16.shapes", install_f16_as_bf16},
        {"transposed product in one chain", "gemm_t.shapes", install_plain_transpose},
        {"tree path ignored", "attention.segments", install_path_ignored},
        {"tree path ignored", "attention.gather", install_path_ignored},
        {"last token dropped", "attention.segments", install_last_token_dropped},
        {"segment normalised", "attention.segments", install_normalised},
        {"segment normalised", "attention.context", install_normalised},
        {"sum of rounded probabilities", "attention.segments", install_rounded_sum},
        {"merge not fused", "attention_merge", install_merge_unfused},
        {"multiplied by 1/l", "attention_finish", install_finish_by_reciprocal},
        {"squares summed in order", "norm.lengths", install_norm_in_order},
        {"rotation not fused", "rope", install_rope_unfused},
        {"another exp", "swiglu", install_swiglu_of_libm},
        {"another exp", "exp_row", install_exp_of_libm},
        {"axpy not fused", "axpy", install_axpy_unfused},
        {"nine rounds of Philox", "numbers", install_numbers_of_nine_rounds},
        {"activations below 2^-40 kept", "round.lengths", install_round_without_floor},
        {"BF16 ties up", "round.values", install_round_half_up},
        {"multiplied by 1/scale", "quantise.lengths", install_quantise_by_reciprocal},
        {"rounded twice", "decode_e4m3.values", install_decode_rounded_twice},
        {"values below 2^-40 kept", "decode_e4m3.values", install_decode_without_floor},
        {"NaN for what is too large", "encode_e4m3.values", install_encode_overflowing},
        {"E4M3 ties up", "encode_e4m3.values", install_encode_half_up},
        {"ties to the highest expert", "route.tied", install_route_backwards},
};

static const struct mutant controls[] = {
        {"control", "gemm_fp8.values", install_gemm_NONE},
        {"control", "gemm_fp8.row_scales", install_gemm_NONE},
};

static const struct check_entry *find(const char *name)
{
	for (const struct check_entry *const *family = check_families; *family; family++)
		for (const struct check_entry *entry = *family; entry->name; entry++)
			if (strcmp(entry->name, name) == 0)
				return entry;
	return NULL;
}

/* Whether both levels come to the expected verdict on a mutant. */
static bool judge(const struct mutant *mutant, bool must_pass)
{
	static struct check check;
	const struct check_entry *entry = find(mutant->check);
	struct octavo_kernels reference, wrong;
	bool right = true;

	if (!entry) {
		printf("FAIL self-test: there is no check %s\n", mutant->check);
		return false;
	}
	octavo_kernels_init(&reference, 0);
	wrong = reference;
	mutant->install(&wrong);
	for (int level = 1; level <= 2; level++) {
		bool ok = check_entry_run(&check, entry, level == 1 ? &reference : &wrong, &wrong, true);
		if (ok == must_pass)
			continue;
		right = false;
		printf("FAIL self-test: %s, in place of the %s: %s %s%s\n", mutant->what,
		       level == 1 ? "variant" : "reference", entry->name, must_pass ? "fails: " : "passes",
		       check.failure);
	}
	return right;
}

static size_t judge_all(const struct mutant *mutant, size_t count, bool must_pass)
{
	size_t right = 0;

	for (size_t i = 0; i < count; i++)
		right += judge(&mutant[i], must_pass);
	return right;
}

size_t check_mutants(size_t *caught)
{
	const size_t wrong = COUNT(defects) + COUNT(mutants);

	*caught = judge_all(defects, COUNT(defects), false) + judge_all(mutants, COUNT(mutants), false);
	return wrong - *caught + COUNT(controls) - judge_all(controls, COUNT(controls), true);
}
