/* SPDX-License-Identifier: Apache-2.0
 *
 * The drivers that are more than one product, mixture of experts and MLA's up-projection, against the reference's slots
 * called row by row, expert by expert and head by head as octavo_kernels.h defines them.
 */
#include "fpstate.h"
#include "harness.h"
#include "memory.h"
#include "team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDEST = 320, MOST_ROWS = 33, MOST_EXPERTS = 6, MOST_K = 4 };

/* ---- Operands ---- */

static size_t blocks(size_t n)
{
	return (n + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK;
}

/* E4M3 codes without NaN and F32 scales, or BF16; at any address. */
static struct octavo_matrix random_matrix(struct check *check, size_t rows, size_t cols, enum octavo_dtype dtype)
{
	size_t size = octavo_dtype_size(dtype), count = rows * cols, scales = blocks(rows) * blocks(cols);
	struct octavo_matrix w = {.rows = rows, .cols = cols, .ld = cols, .dtype = dtype};
	uint8_t *data = check_alloc(check, count * size, 1);
	for (size_t i = 0; i < count; i++) {
		uint16_t half = check_bf16(check, -8, -2);
		uint8_t code = (uint8_t)check_random(check);
		if (size == 2)
			memcpy(data + 2 * i, &half, sizeof half);
		else
			data[i] = (code & 0x7F) == 0x7F ? code ^ 1 : code;
	}
	w.data = data;
	if (size == 2)
		return w;
	uint8_t *scale = check_alloc(check, scales * sizeof(float), 1);
	for (size_t i = 0; i < scales; i++) {
		float value = fabsf(check_float(check, -12, -9));
		memcpy(scale + i * sizeof value, &value, sizeof value);
	}
	w.scale_dtype = OCTAVO_F32;
	w.scale = scale;
	w.scale_ld = blocks(cols);
	return w;
}

static struct octavo_mlp random_mlp(struct check *check, size_t hidden, size_t width, enum octavo_dtype dtype)
{
	struct octavo_mlp p = {.gate = random_matrix(check, width, hidden, dtype)};
	p.up = random_matrix(check, width, hidden, dtype);
	p.down = random_matrix(check, hidden, width, dtype);
	return p;
}

/* ---- Mixture of experts ---- */

struct moe_shape {
	size_t hidden, width, shared_width; /* shared_width 0: none */
	size_t experts, top_k;
	enum octavo_dtype dtype, shared_dtype;
	bool quantise;
	enum octavo_scale_rule rule;
};

static const struct moe_shape moe_shapes[] = {
        {200, 72, 0, 4, 2, OCTAVO_E4M3, OCTAVO_E4M3, false, OCTAVO_SCALE_AMAX},
        {300, 136, 264, 5, 3, OCTAVO_E4M3, OCTAVO_E4M3, true, OCTAVO_SCALE_AMAX},
        {256, 320, 136, 3, 3, OCTAVO_E4M3, OCTAVO_E4M3, true, OCTAVO_SCALE_E8M0},
        {136, 40, 80, 6, 4, OCTAVO_BF16, OCTAVO_E4M3, true, OCTAVO_SCALE_AMAX}, /* two left operands */
        {40, 24, 48, 2, 1, OCTAVO_E4M3, OCTAVO_BF16, false, OCTAVO_SCALE_AMAX},
};

struct moe_case {
	struct octavo_moe moe;
	struct octavo_mlp expert[MOST_EXPERTS], shared;
	uint32_t chosen[MOST_ROWS * MOST_K];
	float weight[MOST_ROWS * MOST_K];
	size_t hidden;
};

/* Random choices; with `alike` all rows choose the last experts. */
static void choose(struct check *check, const struct moe_shape *s, size_t rows, bool alike, struct moe_case *c)
{
	for (size_t row = 0; row < rows; row++)
		for (size_t i = 0, expert = 0; i < s->top_k; expert++) {
			size_t wanted = s->top_k - i, left = s->experts - expert;
			if (alike ? left > wanted : check_pick(check, 1, left) > wanted)
				continue;
			c->chosen[row * s->top_k + i] = (uint32_t)expert;
			c->weight[row * s->top_k + i++] = fabsf(check_float(check, -3, 0));
		}
}

static void moe_make(struct check *check, const struct moe_shape *s, size_t rows, bool alike, struct moe_case *c)
{
	check_case(check, "hidden %zu, width %zu, %zu rows%s%s", s->hidden, s->width, rows, s->quantise ? ", W8A8" : "",
	           alike ? ", all alike" : "");
	float *x = check_alloc(check, rows * s->hidden * sizeof *x, sizeof *x);
	for (size_t i = 0; i < rows * s->hidden; i++)
		x[i] = check_float(check, -4, 2);
	for (size_t i = 0; i < s->experts; i++)
		c->expert[i] = random_mlp(check, s->hidden, s->width, s->dtype);
	if (s->shared_width)
		c->shared = random_mlp(check, s->hidden, s->shared_width, s->shared_dtype);
	choose(check, s, rows, alike, c);
	c->hidden = s->hidden;
	c->moe = (struct octavo_moe){
	        .expert = c->expert,
	        .shared = s->shared_width ? &c->shared : NULL,
	        .experts = s->experts,
	        .top_k = s->top_k,
	        .x = x,
	        .rows = rows,
	        .chosen = c->chosen,
	        .weight = c->weight,
	        .quantise = s->quantise,
	        .rule = s->rule,
	        .y = check_alloc(check, rows * s->hidden * sizeof(float), sizeof(float)),
	        .scratch = check_alloc(check,
	                               octavo_moe_scratch(rows, s->experts, s->top_k, s->hidden, s->width,
	                                                  s->shared_width),
	                               16),
	};
}

/* One row's product with one matrix, by the reference. */
static void product(const struct octavo_kernels *ref, const struct octavo_moe *m, const struct octavo_matrix *w,
                    const float *x, float *y)
{
	uint16_t bf16[WIDEST];
	float scale[WIDEST];
	bool fp8 = w->dtype == OCTAVO_E4M3, quantised = fp8 && m->quantise;
	struct octavo_rows left = {.x = bf16, .rows = 1, .ld = w->cols, .scale = quantised ? scale : NULL,
	                           .scale_ld = blocks(w->cols)};
	if (quantised)
		ref->quantise->run(bf16, scale, x, w->cols, m->rule);
	else
		ref->round->run(bf16, x, w->cols);
	(fp8 ? ref->gemm_fp8 : ref->gemm_bf16)->run(w, 0, w->rows, &left, y, w->rows);
}

static void add_mlp(const struct octavo_kernels *ref, const struct octavo_moe *m, const struct octavo_mlp *p,
                    const float *x, float weight, float *y)
{
	float gate[WIDEST], up[WIDEST], out[WIDEST];
	product(ref, m, &p->gate, x, gate);
	product(ref, m, &p->up, x, up);
	ref->swiglu->run(gate, gate, up, p->gate.rows);
	product(ref, m, &p->down, gate, out);
	ref->axpy->run(y, out, weight, p->down.rows);
}

static void moe_truth(const struct octavo_kernels *ref, const struct moe_case *c, float *want)
{
	const struct octavo_moe *m = &c->moe;
	memset(want, 0, m->rows * c->hidden * sizeof *want);
	for (size_t row = 0; row < m->rows; row++) {
		const float *x = m->x + row * c->hidden;
		float *y = want + row * c->hidden;
		for (size_t i = row * m->top_k; i < (row + 1) * m->top_k; i++)
			add_mlp(ref, m, &m->expert[m->chosen[i]], x, m->weight[i], y);
		if (m->shared)
			add_mlp(ref, m, m->shared, x, 1.0f, y);
	}
}

/* On one team of threads (NULL: on none), by a caller whose rounding is another. */
static void moe_run(struct check *check, struct moe_case *c, struct team *team, const float *want)
{
	struct octavo_parallel parallel = {team_run, team, team ? team->threads : 0};
	size_t count = c->moe.rows * c->hidden;
	memset(c->moe.y, MEMORY_CANARY, count * sizeof *c->moe.y);
	fp_make_hostile();
	uint32_t control = fp_control();
	enum octavo_status status = octavo_moe_run(check->new, team ? &parallel : NULL, &c->moe);
	uint32_t after = fp_control();
	fp_make_default();
	check_that(check, status == OCTAVO_OK, "status %d", (int)status);
	check_that(check, after == control && (!team || !team->damaged), "the control register changed");
	const char *damage = memory_damage();
	check_that(check, !damage, "wrote %s a buffer", damage ? damage : "");
	check_equal_f32(check, "y", want, c->moe.y, c->moe.rows, c->hidden);
}

static void moe(struct check *check)
{
	static const size_t rows[] = {1, 2, 3, 5, 8, 16, 17, 33};
	static float want[MOST_ROWS * WIDEST];
	for (size_t i = 0; i < sizeof moe_shapes / sizeof *moe_shapes; i++)
		for (size_t j = 0; j < sizeof rows / sizeof *rows; j++) {
			static struct moe_case c;
			moe_make(check, &moe_shapes[i], rows[j], j % 4 == 2, &c);
			moe_truth(check->ref, &c, want);
			moe_run(check, &c, NULL, want);
			for (size_t threads = 1; threads <= 4; threads++)
				moe_run(check, &c, &(struct team){.threads = threads, .hostile = threads == 2}, want);
		}
}

/* ---- Its refusals ---- */

enum moe_fault {
	NO_EXPERTS, NO_X, NO_CHOICE, NO_WEIGHT, NO_Y, NO_SCRATCH, ZERO_TOP_K, TOO_MANY_PER_ROW, TOO_MANY_EXPERTS,
	CHOICE_BEYOND, CHOICE_TWICE, CHOICE_FALLING, NO_DATA, OTHER_WIDTH, OTHER_HIDDEN, OTHER_DTYPE, SHARED_HIDDEN,
	NARROW_LD, UNSCALED, TOO_MANY_CHOICES, ODD_X, ODD_Y, ODD_CHOICE, ODD_WEIGHT, SCALE_NEGATIVE, MOE_FAULTS
};

static void moe_spoil(struct moe_case *c, enum moe_fault fault)
{
	static const float negative = -1.0f;
	struct octavo_moe *m = &c->moe;
	struct octavo_mlp *last = &c->expert[m->chosen[m->top_k - 1]];
	switch (fault) {
	case NO_EXPERTS: m->expert = NULL; break;
	case NO_X: m->x = NULL; break;
	case NO_CHOICE: m->chosen = NULL; break;
	case NO_WEIGHT: m->weight = NULL; break;
	case NO_Y: m->y = NULL; break;
	case NO_SCRATCH: m->scratch = NULL; break;
	case ZERO_TOP_K: m->top_k = 0; break;
	case TOO_MANY_PER_ROW: m->experts = m->top_k - 1; break;
	case TOO_MANY_EXPERTS: m->experts = OCTAVO_MAX_EXPERTS + 1; break;
	case CHOICE_BEYOND: c->chosen[m->top_k - 1] = (uint32_t)m->experts; break;
	case CHOICE_TWICE: c->chosen[1] = c->chosen[0]; break;
	case CHOICE_FALLING: c->chosen[0] = c->chosen[1] + 1; break;
	case NO_DATA: last->up.data = NULL; break;
	case OTHER_WIDTH: last->up.rows--; break;
	case OTHER_HIDDEN: last->down.rows--; break;
	case OTHER_DTYPE: last->up = (struct octavo_matrix){.data = last->up.data, .rows = last->up.rows,
		                  .cols = last->up.cols, .ld = last->up.ld, .dtype = OCTAVO_BF16}; break;
	case SHARED_HIDDEN: c->shared.gate.cols--; break;
	case NARROW_LD: last->gate.ld = last->gate.cols - 1; break;
	case UNSCALED: last->down.scale_dtype = OCTAVO_NONE; break;
	case TOO_MANY_CHOICES: m->rows = UINT32_MAX / m->top_k + 1; break;
	case ODD_X: m->x = memory_odd(m->x); break;
	case ODD_Y: m->y = memory_odd(m->y); break;
	case ODD_CHOICE: m->chosen = memory_odd(m->chosen); break;
	case ODD_WEIGHT: m->weight = memory_odd(m->weight); break;
	case SCALE_NEGATIVE: last->gate.scale = &negative; break;
	case MOE_FAULTS: break;
	}
}

static void moe_arguments(struct check *check)
{
	static struct moe_case c;
	for (int fault = 0; fault < MOE_FAULTS; fault++) {
		moe_make(check, &moe_shapes[1], 2, false, &c);
		check_that(check, octavo_moe_run(check->new, NULL, &c.moe) == OCTAVO_OK,
		           "refused before anything was wrong");
		moe_spoil(&c, (enum moe_fault)fault);
		enum octavo_status want = fault == SCALE_NEGATIVE ? OCTAVO_ENUMERIC : OCTAVO_EINVAL;
		enum octavo_status got = octavo_moe_run(check->new, NULL, &c.moe);
		check_that(check, got == want, "fault %d gives status %d, must be %d", fault, (int)got, (int)want);
	}
	moe_make(check, &moe_shapes[1], 1, false, &c);
	c.moe.rows = 0;
	check_that(check, octavo_moe_run(check->new, NULL, &c.moe) == OCTAVO_OK, "no rows are refused");
	check_that(check, ((uint8_t *)c.moe.y)[0] == MEMORY_CANARY, "no rows wrote y");
	struct octavo_parallel nobody = {.threads = 2};
	check_that(check, octavo_moe_run(check->new, &nobody, &c.moe) == OCTAVO_EINVAL, "no way to run is accepted");
	check_that(check, octavo_moe_run(NULL, NULL, &c.moe) == OCTAVO_EINVAL, "no table is accepted");
	check_that(check, octavo_moe_run(check->new, NULL, NULL) == OCTAVO_EINVAL, "no arguments are accepted");
	check_that(check, octavo_moe_scratch(SIZE_MAX / 8, 4, 2, 100, 100, 0) == SIZE_MAX, "overflow goes unnoticed");
}

/* ---- MLA's up-projection ---- */

struct up_shape {
	size_t heads, nope, rope, v_dim, latent, tokens, more; /* more: of ld */
	enum octavo_dtype dtype;
};

static const struct up_shape up_shapes[] = {
        {3, 40, 16, 24, 72, 70, 5, OCTAVO_E4M3}, {1, 128, 64, 128, 256, 65, 0, OCTAVO_E4M3},
        {2, 130, 0, 7, 100, 5, 1, OCTAVO_BF16},  {2, 64, 8, 192, 136, 1, 0, OCTAVO_E4M3},
        {2, 24, 8, 16, 40, 150, 3, OCTAVO_BF16},
};

static void up_truth(struct check *check, const struct octavo_mla_up *up, uint16_t *keys, uint16_t *values)
{
	const struct octavo_matrix *w = up->kv_b;
	size_t width = up->nope + up->v_dim, key = up->nope + up->rope;
	float y[512];
	for (size_t head = 0; head < up->heads; head++)
		for (size_t token = 0; token < up->tokens; token++) {
			const uint16_t *row = up->cache + token * up->ld;
			struct octavo_matrix own = octavo_matrix_view(w, head * width, width, 0, w->cols);
			struct octavo_rows x = {.x = row, .rows = 1, .ld = w->cols};
			(w->dtype == OCTAVO_E4M3 ? check->ref->gemm_fp8 : check->ref->gemm_bf16)
			        ->run(&own, 0, width, &x, y, width);
			uint16_t *k = keys + (head * up->tokens + token) * key;
			check->ref->round->run(k, y, up->nope);
			memcpy(k + up->nope, row + w->cols, up->rope * sizeof *k);
			check->ref->round->run(values + (head * up->tokens + token) * up->v_dim, y + up->nope,
			                       up->v_dim);
		}
}

static struct octavo_mla_up up_make(struct check *check, const struct up_shape *s, struct octavo_matrix *kv_b)
{
	size_t ld = s->latent + s->rope + s->more, all = s->heads * s->tokens;
	check_case(check, "%zu heads of %zu + %zu and %zu, %zu tokens", s->heads, s->nope, s->rope, s->v_dim,
	           s->tokens);
	*kv_b = random_matrix(check, s->heads * (s->nope + s->v_dim), s->latent, s->dtype);
	uint16_t *cache =
	        check_alloc(check, ((s->tokens - 1) * ld + s->latent + s->rope) * sizeof *cache, sizeof *cache);
	for (size_t i = 0; i < (s->tokens - 1) * ld + s->latent + s->rope; i++)
		cache[i] = i % ld < s->latent + s->rope ? check_bf16(check, -6, 2) : 0x7FC0;
	return (struct octavo_mla_up){
	        .kv_b = kv_b,
	        .heads = s->heads,
	        .nope = s->nope,
	        .rope = s->rope,
	        .v_dim = s->v_dim,
	        .cache = cache,
	        .tokens = s->tokens,
	        .ld = ld,
	        .keys = check_alloc(check, all * (s->nope + s->rope) * sizeof(uint16_t), sizeof(uint16_t)),
	        .values = check_alloc(check, all * s->v_dim * sizeof(uint16_t), sizeof(uint16_t)),
	};
}

static void mla_up(struct check *check)
{
	for (size_t i = 0; i < sizeof up_shapes / sizeof *up_shapes; i++) {
		struct octavo_matrix kv_b;
		struct octavo_mla_up up = up_make(check, &up_shapes[i], &kv_b);
		size_t all = up.heads * up.tokens, keys = all * (up.nope + up.rope), values = all * up.v_dim;
		uint16_t *want_keys = check_alloc(check, keys * sizeof *want_keys, sizeof *want_keys);
		uint16_t *want_values = check_alloc(check, values * sizeof *want_values, sizeof *want_values);
		up_truth(check, &up, want_keys, want_values);
		for (size_t threads = 0; threads <= 4; threads++) {
			struct team team = {.threads = threads, .hostile = threads == 2};
			struct octavo_parallel parallel = {team_run, &team, threads};
			memset(up.keys, MEMORY_CANARY, keys * sizeof *up.keys);
			memset(up.values, MEMORY_CANARY, values * sizeof *up.values);
			enum octavo_status status = octavo_mla_up_run(check->new, threads ? &parallel : NULL, &up);
			check_that(check, status == OCTAVO_OK, "status %d", (int)status);
			check_that(check, !memory_damage(), "wrote beside a buffer");
			check_equal_bf16(check, "keys", want_keys, up.keys, keys);
			check_equal_bf16(check, "values", want_values, up.values, values);
		}
	}
}

static void mla_up_arguments(struct check *check)
{
	struct octavo_parallel nobody = {.threads = 2};
	for (int fault = 0; fault <= 16; fault++) {
		struct octavo_matrix kv_b;
		struct octavo_mla_up up = up_make(check, &up_shapes[0], &kv_b);
		check_that(check, octavo_mla_up_run(check->new, NULL, &up) == OCTAVO_OK,
		           "refused before anything was wrong");
		static const float infinite = INFINITY;
		switch (fault) {
		case 0: up.kv_b = NULL; break;
		case 1: up.cache = NULL; break;
		case 2: up.keys = NULL; break;
		case 3: up.values = NULL; break;
		case 4: up.heads = 0; break;
		case 5: up.nope--; break;
		case 6: up.nope = SIZE_MAX; break;
		case 7: up.rope = SIZE_MAX - 10; break;
		case 8: up.ld = kv_b.cols + up.rope - 1; break;
		case 9: up.tokens = SIZE_MAX / 4; break;
		case 10: kv_b.data = NULL; break;
		case 11: kv_b.ld = kv_b.cols - 1; break;
		case 12: kv_b.scale = &infinite; break;
		case 13: up.cache = memory_odd(up.cache); break;
		case 14: up.keys = memory_odd(up.keys); break;
		case 15: up.values = memory_odd(up.values); break;
		case 16: break;
		}
		enum octavo_status want = fault == 12 ? OCTAVO_ENUMERIC : OCTAVO_EINVAL;
		enum octavo_status got = octavo_mla_up_run(check->new, fault == 16 ? &nobody : NULL, &up);
		check_that(check, got == want, "fault %d gives status %d, must be %d", fault, (int)got, (int)want);
	}
	check_that(check, octavo_mla_up_run(NULL, NULL, NULL) == OCTAVO_EINVAL, "nothing is accepted");
}

const struct check_entry check_moe_entries[] = {
        {"moe.rows", SLOT_TABLE, moe},                        /* row counts, shapes, 0 to 4 threads */
        {"moe.arguments", SLOT_TABLE, moe_arguments},         /* every refusal */
        {"mla_up.tokens", SLOT_TABLE, mla_up},                /* shapes, 0 to 4 threads */
        {"mla_up.arguments", SLOT_TABLE, mla_up_arguments},   /* every refusal */
        {0},
};
