/* SPDX-License-Identifier: Apache-2.0
 *
 * The self-test of the harness: kernels that are wrong in one way each, all of which it must catch, once in place of
 * a variant (level one) and once in place of the reference (level two).  Each names the check that has to notice.
 */
#include "mutants.h"

#include "kernels/arith.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

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

static const struct mutant mutants[] = {
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
        {NULL, NULL, NULL},
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

/* Counts the right verdicts, and all of them. */
static size_t judge_all(const struct mutant *mutant, bool must_pass, size_t *judged)
{
	size_t right = 0;

	for (; mutant->what; mutant++, ++*judged)
		right += judge(mutant, must_pass);
	return right;
}

size_t check_mutants(size_t *caught)
{
	size_t wrong = 0, controls = 0;

	*caught = judge_all(gemm_mutants, false, &wrong) + judge_all(mutants, false, &wrong);
	size_t passed = judge_all(gemm_controls, true, &controls);
	return wrong - *caught + controls - passed;
}
