/* SPDX-License-Identifier: Apache-2.0
 *
 * One decoder layer and its head in miniature, through the slots that they need, with fixed operands: the hash of
 * all that comes out is one constant, on every machine, one row at a time and 64 rows in a batch.
 *
 * The other checks compare kernels with the reference that was compiled beside them; this one sees a reference
 * that changed its bits, or that another compiler or another architecture reads differently.  If the contract or
 * this miniature changes on purpose, the new hash is what the failure message says for the reference, on x86-64 and
 * on Arm alike.
 */
#include "harness.h"
#include "tests/support/hash.h"

#include <math.h>
#include <string.h>

static const uint64_t golden = UINT64_C(0xdeb85f58f2fefb60);

enum {
	ROWS = 64,
	PREFIX = 500, /* tokens before the rows: these lie on both sides of the end of a segment */
	TOKENS = PREFIX + ROWS,
	HIDDEN = 200,
	HEADS = 3,
	LATENT = 96,
	ROPE = 16,
	WIDTH = LATENT + ROPE, /* of a cache row, and of a head's query */
	EXPERTS = 8,
	TOP = 3,
	EXPERT = 72,
	VOCAB = 101,
	GROUPS_HIDDEN = (HIDDEN + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK,
};

/* The operands, drawn from a seed of their own whatever --seed says, and the results. */
struct mini {
	struct check *check;
	const struct octavo_kernels *k;
	uint64_t state;
	struct octavo_matrix query, key, absorb, router, gate, up, down, head;
	float *gain, *rope /* [TOKENS][ROPE] */, *bias;
	uint16_t *cache;  /* [TOKENS][WIDTH] bf16 */
	float *x;         /* [ROWS][HIDDEN] */
	float *logits;    /* [ROWS][VOCAB] */
	float *chance;    /* [ROWS][VOCAB] */
	/* Scratch for as many rows. */
	float *normed, *q, *o, *o2, *y, *p, *act_scale, *wide, *gated, *out;
	float *m, *l, *m2, *l2; /* [ROWS][HEADS] */
	uint16_t *act, *q_act;
	size_t *end; /* [ROWS][HEADS] */
};

/* ---- Operands ---- */

/* SplitMix64, as in harness.c. */
static uint32_t draw(struct mini *f)
{
	uint64_t z = f->state += UINT64_C(0x9E3779B97F4A7C15);
	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return (uint32_t)(z >> 32);
}

/* Any sign and mantissa, one of eight exponents below 2^top. */
static float number(struct mini *f, int top)
{
	uint32_t bits = draw(f), exponent = (uint32_t)(127 + top - 1) - (bits >> 23 & 7);
	float x;

	bits = (bits & 0x807FFFFF) | exponent << 23;
	memcpy(&x, &bits, sizeof x);
	return x;
}

static float *numbers(struct mini *f, size_t count, int top)
{
	float *x = check_alloc(f->check, count * sizeof *x, sizeof *x);
	for (size_t i = 0; i < count; i++)
		x[i] = number(f, top);
	return x;
}

static uint16_t *halves(struct mini *f, size_t count, int top)
{
	uint16_t *x = check_alloc(f->check, count * sizeof *x, sizeof *x);
	for (size_t i = 0; i < count; i++)
		x[i] = octavo_bf16_activation(number(f, top));
	return x;
}

/* [rows][cols] codes without NaN, F32 or E8M0 scales; it starts `row0` rows inside its first scale block. */
static struct octavo_matrix codes(struct mini *f, size_t rows, size_t cols, enum octavo_dtype dtype,
                                  enum octavo_dtype scale_dtype, unsigned row0)
{
	size_t down = (row0 + rows + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK,
	       across = (cols + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK;
	uint8_t *code = check_alloc(f->check, rows * cols, 1);
	void *scale =
	        check_alloc(f->check, down * across * octavo_dtype_size(scale_dtype), octavo_dtype_size(scale_dtype));

	for (size_t i = 0; i < rows * cols; i++) {
		uint32_t random = draw(f);
		code[i] = (uint8_t)((random & 0x80) | (random >> 8) % (dtype == OCTAVO_E4M3 ? 0x7F : 0x60));
	}
	for (size_t i = 0; i < down * across; i++) {
		uint32_t random = draw(f);
		if (scale_dtype == OCTAVO_E8M0)
			((uint8_t *)scale)[i] = (uint8_t)(127 - 13 + random % 4);
		else
			((float *)scale)[i] = (1.0f + (float)(random >> 8) * 0x1p-24f) * 0x1p-11f;
	}
	return (struct octavo_matrix){.data = code, .rows = rows, .cols = cols, .ld = cols, .dtype = dtype,
	                              .scale_dtype = scale_dtype, .scale = scale, .scale_ld = across, .row0 = row0};
}

static struct octavo_matrix plain(const void *data, size_t rows, size_t cols, enum octavo_dtype dtype)
{
	return (struct octavo_matrix){.data = data, .rows = rows, .cols = cols, .ld = cols, .dtype = dtype};
}

/* Points of the unit circle without a C library's sine. */
static float *circle(struct mini *f)
{
	float *cs = check_alloc(f->check, TOKENS * ROPE * sizeof *cs, sizeof *cs);
	for (size_t i = 0; i < TOKENS * ROPE; i += 2) {
		float t = (float)(i * 37 % 101) / 101.0f, d = 1.0f + t * t;
		cs[i] = (1.0f - t * t) / d;
		cs[i + 1] = (t + t) / d;
	}
	return cs;
}

static struct mini make(struct check *check)
{
	struct mini f = {.check = check, .k = check->new, .state = 8};
#define SCRATCH(name, count) f.name = check_alloc(check, (count) * sizeof *f.name, sizeof *f.name)

	f.query = codes(&f, HEADS * WIDTH, HIDDEN, OCTAVO_E4M3, OCTAVO_F32, 0);
	f.key = plain(halves(&f, WIDTH * HIDDEN, -1), WIDTH, HIDDEN, OCTAVO_BF16);
	f.absorb = codes(&f, HEADS * LATENT, HIDDEN, OCTAVO_E4M3, OCTAVO_F32, 40);
	f.router = plain(numbers(&f, EXPERTS * HIDDEN, -1), EXPERTS, HIDDEN, OCTAVO_F32);
	f.gate = codes(&f, EXPERTS * EXPERT, HIDDEN, OCTAVO_E4M3, OCTAVO_E8M0, 0);
	f.up = codes(&f, EXPERTS * EXPERT, HIDDEN, OCTAVO_E4M3, OCTAVO_F32, 0);
	f.down = codes(&f, EXPERTS * HIDDEN, EXPERT, OCTAVO_E5M2, OCTAVO_F32, 0);
	f.head = plain(halves(&f, VOCAB * HIDDEN, 0), VOCAB, HIDDEN, OCTAVO_BF16);
	f.gain = numbers(&f, HIDDEN, 1);
	f.bias = numbers(&f, EXPERTS, 0);
	f.rope = circle(&f);
	f.cache = halves(&f, TOKENS * WIDTH, 1);
	f.x = numbers(&f, ROWS * HIDDEN, 2);
	SCRATCH(logits, ROWS * VOCAB);
	SCRATCH(chance, ROWS * VOCAB);
	SCRATCH(normed, ROWS * HIDDEN);
	SCRATCH(q, ROWS * HEADS * WIDTH);
	SCRATCH(o, ROWS * HEADS * LATENT);
	SCRATCH(o2, ROWS * HEADS * LATENT);
	SCRATCH(y, ROWS * HIDDEN);
	SCRATCH(p, ROWS * HEADS * OCTAVO_SEGMENT);
	SCRATCH(act_scale, ROWS * GROUPS_HIDDEN);
	SCRATCH(wide, ROWS * EXPERT);
	SCRATCH(gated, ROWS * EXPERT);
	SCRATCH(out, EXPERTS * ROWS * HIDDEN);
	SCRATCH(m, ROWS * HEADS);
	SCRATCH(l, ROWS * HEADS);
	SCRATCH(m2, ROWS * HEADS);
	SCRATCH(l2, ROWS * HEADS);
	SCRATCH(act, ROWS * HEADS * WIDTH);
	SCRATCH(q_act, ROWS * HEADS * WIDTH);
	SCRATCH(end, ROWS * HEADS);
	return f;
#undef SCRATCH
}

/* ---- The layer, for rows [first, first + rows) ---- */

/* act = the rows of x after the norm, rounded. */
static struct octavo_rows normalise(struct mini *f, size_t first, size_t rows)
{
	for (size_t i = 0; i < rows; i++) {
		float *normed = f->normed + i * HIDDEN;
		check_run(f->check, f->k->norm, normed, f->x + (first + i) * HIDDEN, f->gain, HIDDEN, 1e-6f);
		check_run(f->check, f->k->round, f->act + i * HIDDEN, normed, HIDDEN);
	}
	return (struct octavo_rows){.x = f->act, .rows = rows, .ld = HIDDEN};
}

/* The rows' queries, and their keys into the cache. */
static void project(struct mini *f, size_t first, size_t rows)
{
	struct octavo_rows act = normalise(f, first, rows);

	check_run(f->check, f->k->gemm_bf16, &f->key, 0, WIDTH, &act, f->y, WIDTH);
	for (size_t i = 0; i < rows; i++) {
		float *key = f->y + i * WIDTH, *cs = f->rope + (PREFIX + first + i) * ROPE;
		check_run(f->check, f->k->norm, key, key, f->gain, LATENT, 1e-6f);
		check_run(f->check, f->k->rope, key + LATENT, cs, ROPE);
		check_run(f->check, f->k->round, f->cache + (PREFIX + first + i) * WIDTH, key, WIDTH);
	}
	check_run(f->check, f->k->gemm_fp8, &f->query, 0, HEADS * WIDTH, &act, f->q, HEADS * WIDTH);
	for (size_t i = 0; i < rows * HEADS; i++) {
		float *q = f->q + i * WIDTH, *cs = f->rope + (PREFIX + first + i / HEADS) * ROPE;
		check_run(f->check, f->k->rope, q + LATENT, cs, ROPE);
		check_run(f->check, f->k->round, f->q_act + i * WIDTH, q, WIDTH);
	}
}

/* One segment for those rows that reach it, which are the last ones; returns how many rows do not. */
static size_t segment(struct mini *f, size_t first, size_t rows, size_t t0, float *m, float *l, float *o)
{
	size_t last = PREFIX + first + rows; /* tokens that the last row sees */
	size_t skipped = 0;

	while (PREFIX + first + skipped + 1 <= t0)
		skipped++;
	struct octavo_attention a = {
	        .q = f->q_act + skipped * HEADS * WIDTH, .heads = (rows - skipped) * HEADS, .ldq = WIDTH,
	        .k_dim = WIDTH, .v_dim = LATENT, .k = f->cache, .v = f->cache, .ldk = WIDTH, .ldv = WIDTH,
	        .committed = TOKENS, .t0 = t0, .t1 = last < t0 + OCTAVO_SEGMENT ? last : t0 + OCTAVO_SEGMENT,
	        .end = f->end, .tau = 0.125f, .m = m, .l = l, .o = o, .p = f->p,
	};
	for (size_t i = 0; i < a.heads; i++) {
		size_t seen = PREFIX + first + skipped + i / HEADS + 1;
		f->end[i] = seen < a.t1 ? seen : a.t1;
	}
	check_run(f->check, f->k->attention, &a);
	return skipped;
}

static void attend(struct mini *f, size_t first, size_t rows)
{
	segment(f, first, rows, 0, f->m, f->l, f->o);
	if (PREFIX + first + rows > OCTAVO_SEGMENT) {
		size_t at = HEADS * segment(f, first, rows, OCTAVO_SEGMENT, f->m2, f->l2, f->o2);
		check_run(f->check, f->k->attention_merge, rows * HEADS - at, LATENT, f->m + at, f->l + at,
		          f->o + at * LATENT, f->m2, f->l2, f->o2);
	}
	check_run(f->check, f->k->attention_finish, rows * HEADS, LATENT, f->o, f->l);
	for (size_t i = 0; i < rows; i++)
		check_run(f->check, f->k->round, f->act + i * HEADS * LATENT, f->o + i * HEADS * LATENT,
		          HEADS * LATENT);
	struct octavo_rows act = {.x = f->act, .rows = rows, .ld = HEADS * LATENT};
	check_run(f->check, f->k->gemm_t, &f->absorb, 0, HIDDEN, &act, f->y, HIDDEN);
	for (size_t i = 0; i < rows; i++)
		check_run(f->check, f->k->axpy, f->x + (first + i) * HIDDEN, f->y + i * HIDDEN, 1.0f, HIDDEN);
}

/* out[e] = expert e of all rows: W8A8, then E5M2 weights. */
static void expert(struct mini *f, size_t e, const struct octavo_rows *act)
{
	struct octavo_matrix gate = octavo_matrix_view(&f->gate, e * EXPERT, EXPERT, 0, HIDDEN);
	struct octavo_matrix up = octavo_matrix_view(&f->up, e * EXPERT, EXPERT, 0, HIDDEN);
	struct octavo_matrix down = octavo_matrix_view(&f->down, e * HIDDEN, HIDDEN, 0, EXPERT);
	struct octavo_rows inner = {.x = f->q_act, .rows = act->rows, .ld = EXPERT};

	check_run(f->check, f->k->gemm_fp8, &gate, 0, EXPERT, act, f->gated, EXPERT);
	check_run(f->check, f->k->gemm_fp8, &up, 0, EXPERT, act, f->wide, EXPERT);
	check_run(f->check, f->k->swiglu, f->gated, f->gated, f->wide, act->rows * EXPERT);
	check_run(f->check, f->k->round, f->q_act, f->gated, act->rows * EXPERT);
	check_run(f->check, f->k->gemm_fp8, &down, 0, HIDDEN, &inner, f->out + e * ROWS * HIDDEN, HIDDEN);
}

static void mix(struct mini *f, size_t first, size_t rows)
{
	static const struct octavo_router router = {.experts = EXPERTS, .top_k = TOP, .groups = 4, .top_groups = 2,
	                                            .method = OCTAVO_TOPK_NOAUX_TC, .scoring = OCTAVO_SCORE_SIGMOID,
	                                            .normalise = 1, .factor = 2.5f};
	struct octavo_rows act = normalise(f, first, rows);
	struct octavo_router r = router;

	r.bias = f->bias;
	check_run(f->check, f->k->gemm_f32, &f->router, 0, EXPERTS, &act, f->y, EXPERTS);
	for (size_t i = 0; i < rows; i++)
		check_run(f->check, f->k->quantise, f->act + i * HIDDEN, f->act_scale + i * GROUPS_HIDDEN,
		          f->normed + i * HIDDEN, HIDDEN, OCTAVO_SCALE_AMAX);
	act.scale = f->act_scale;
	act.scale_ld = GROUPS_HIDDEN;
	for (size_t e = 0; e < EXPERTS; e++)
		expert(f, e, &act);
	for (size_t i = 0; i < rows; i++) {
		uint32_t chosen[TOP];
		float weight[TOP];
		check_run(f->check, f->k->route, &r, f->y + i * EXPERTS, chosen, weight);
		for (size_t j = 0; j < TOP; j++)
			check_run(f->check, f->k->axpy, f->x + (first + i) * HIDDEN,
			          f->out + (chosen[j] * ROWS + i) * HIDDEN, weight[j], HIDDEN);
	}
}

static void forward(struct mini *f, size_t first, size_t rows)
{
	project(f, first, rows);
	attend(f, first, rows);
	mix(f, first, rows);
	struct octavo_rows act = normalise(f, first, rows);
	check_run(f->check, f->k->gemm_bf16, &f->head, 0, VOCAB, &act, f->logits + first * VOCAB, VOCAB);
	for (size_t i = first; i < first + rows; i++) {
		const float *logits = f->logits + i * VOCAB;
		float max = logits[0];
		for (size_t j = 1; j < VOCAB; j++)
			max = logits[j] > max ? logits[j] : max;
		check_run(f->check, f->k->exp_row, f->chance + i * VOCAB, logits, max, VOCAB);
	}
}

/* ---- The hash ---- */

static void hash(struct check *check)
{
	for (size_t batch = 1; batch <= ROWS; batch += ROWS - 1) {
		check_case(check, "%zu rows at a time", batch);
		struct mini f = make(check);
		for (size_t first = 0; first < ROWS; first += batch)
			forward(&f, first, batch);
		for (size_t i = 0; i < ROWS * VOCAB; i++) /* else the hash would be of nothing */
			check_that(check, isfinite(f.logits[i]), "logit %zu is %g", i, (double)f.logits[i]);
		uint64_t got = hash_floats(HASH_START, f.x, ROWS * HIDDEN);
		got = hash_floats(got, f.logits, ROWS * VOCAB);
		got = hash_floats(got, f.chance, ROWS * VOCAB);
		check_that(check, got == golden, "the hash is 0x%016llx, must be 0x%016llx", (unsigned long long)got,
		           (unsigned long long)golden);
	}
}

const struct check_entry check_forward_entries[] = {
        {"forward.hash", SLOT_TABLE, hash}, /* a layer's bits, against a constant */
        {0},
};
