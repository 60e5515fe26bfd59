/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of attention: one segment, the merge of segments, and the whole of a long context.
 */
#include "harness.h"
#include "oracle.h"

#include <math.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

struct dims {
	size_t heads, k_dim, v_dim;
	bool latent; /* V is the front of K's rows, as in MLA's cache */
};

static const struct dims all_dims[] = {
        {1, 576, 512, true}, {3, 576, 512, true}, {4, 160, 128, true},  {2, 128, 128, false},
        {8, 64, 64, false},  {128, 34, 18, true}, {5, 192, 128, false}, {1, 1, 1, false},
        {3, 31, 33, false},  {2, 100, 17, false}, {17, 40, 24, true},
};

/* ---- Operands ---- */

/* A cache row or query: like `round` leaves them, +0 or at least 2^-40. */
static uint16_t random_entry(struct check *check)
{
	return check_pick(check, 0, 40) == 0 ? 0 : check_bf16(check, -6, 2);
}

static uint16_t *random_matrix(struct check *check, size_t rows, size_t width, size_t ld)
{
	size_t count = (rows - 1) * ld + width;
	uint16_t *x = check_alloc(check, count * sizeof *x, sizeof *x);
	memset(x, 0xFF, count * sizeof *x);
	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < width; j++)
			x[i * ld + j] = random_entry(check);
	return x;
}

/* `tokens` tokens in as many slots and three more; from `committed` on their slots are shuffled. */
static struct octavo_attention make(struct check *check, const struct dims *d, size_t tokens, size_t committed)
{
	struct octavo_attention a = {.heads = d->heads, .k_dim = d->k_dim, .v_dim = d->v_dim, .committed = committed};
	size_t slots = tokens + 3;

	a.ldq = d->k_dim + check_pick(check, 0, 5);
	a.ldk = d->k_dim + check_pick(check, 0, 5);
	a.ldv = d->latent ? a.ldk : d->v_dim + check_pick(check, 0, 5);
	a.tau = 1.0f / sqrtf((float)d->k_dim);
	a.q = random_matrix(check, d->heads, d->k_dim, a.ldq);
	a.k = random_matrix(check, slots, d->k_dim, a.ldk);
	a.v = d->latent ? a.k : random_matrix(check, slots, d->v_dim, a.ldv);
	if (committed < tokens) {
		uint32_t *path = check_alloc(check, (tokens - committed) * sizeof *path, sizeof *path);
		for (size_t i = 0; i < tokens - committed; i++)
			path[i] = (uint32_t)check_pick(check, committed, slots - 1);
		a.path = path;
	}
	a.p = check_alloc(check, d->heads * OCTAVO_SEGMENT * sizeof *a.p, sizeof *a.p);
	return a;
}

/* Fresh outputs, canary bytes so far. */
static void outputs(struct check *check, struct octavo_attention *a)
{
	a->m = check_alloc(check, a->heads * sizeof *a->m, sizeof *a->m);
	a->l = check_alloc(check, a->heads * sizeof *a->l, sizeof *a->l);
	a->o = check_alloc(check, a->heads * a->v_dim * sizeof *a->o, sizeof *a->o);
}

static void equal(struct check *check, const struct octavo_attention *want, const struct octavo_attention *got)
{
	check_equal_f32(check, "m", want->m, got->m, 1, want->heads);
	check_equal_f32(check, "l", want->l, got->l, 1, want->heads);
	check_equal_f32(check, "o", want->o, got->o, want->heads, want->v_dim);
}

/* ---- One segment ---- */

static void compare(struct check *check, struct octavo_attention *a)
{
	struct octavo_attention want = *a;

	outputs(check, a);
	check_run(check, check->new->attention, a);
	outputs(check, &want);
	if (check->level_two)
		oracle_attention(&want);
	else
		check_run(check, check->ref->attention, &want);
	equal(check, &want, a);
}

static void segments(struct check *check)
{
	static const size_t lengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 129, 511, 512};

	for (size_t i = 0; i < COUNT(all_dims); i++)
		for (size_t j = 0; j < COUNT(lengths); j++) {
			const struct dims *d = &all_dims[i];
			size_t t0 = j % 3 == 0 ? OCTAVO_SEGMENT : 0, t1 = t0 + lengths[j];
			if (d->heads * d->k_dim > 600 && lengths[j] > 129)
				continue;
			/* All committed, none, or a path that begins inside the segment. */
			size_t committed = j % 4 == 0 ? t1 : j % 4 == 1 ? 0 : check_pick(check, t0, t1);
			check_case(check, "heads=%zu k_dim=%zu v_dim=%zu t0=%zu t1=%zu committed=%zu", d->heads,
			           d->k_dim, d->v_dim, t0, t1, committed);
			struct octavo_attention a = make(check, d, t1, committed);
			a.t0 = t0;
			a.t1 = t1;
			compare(check, &a);
		}
}

/* Scores far apart: probabilities around the bounds at which they round to zero. */
static void sharp(struct check *check)
{
	static const float taus[] = {0x1p-30f, 0x1p-8f, 1.0f, 5.0f, 30.0f, 1000.0f};

	for (size_t i = 0; i < COUNT(taus); i++)
		for (size_t j = 1; j < 5; j++) {
			const struct dims *d = &all_dims[j];
			check_case(check, "tau=%g heads=%zu k_dim=%zu", (double)taus[i], d->heads, d->k_dim);
			struct octavo_attention a = make(check, d, 100, 60);
			a.t1 = 100;
			a.tau = taus[i];
			compare(check, &a);
		}
}

/* A tree row reads its root path from scattered slots; plain decoding reads the same rows in order: same bits. */
static void gather(struct check *check)
{
	for (size_t i = 0; i < COUNT(all_dims); i++) {
		const struct dims *d = &all_dims[i];
		check_case(check, "heads=%zu k_dim=%zu v_dim=%zu", d->heads, d->k_dim, d->v_dim);
		struct octavo_attention tree = make(check, d, 90, 40), plain = tree;
		uint16_t *k = check_alloc(check, 90 * tree.ldk * sizeof *k, sizeof *k);
		uint16_t *v = check_alloc(check, 90 * tree.ldv * sizeof *v, sizeof *v);
		for (size_t t = 0; t < 90; t++) {
			size_t slot = t < 40 ? t : tree.path[t - 40];
			memcpy(k + t * tree.ldk, tree.k + slot * tree.ldk, d->k_dim * sizeof *k);
			memcpy(v + t * tree.ldv, tree.v + slot * tree.ldv, d->v_dim * sizeof *v);
		}
		tree.t1 = plain.t1 = 90;
		plain.committed = 90;
		plain.path = NULL;
		plain.k = k;
		plain.v = v;
		outputs(check, &tree);
		outputs(check, &plain);
		check_run(check, check->new->attention, &tree);
		check_run(check, check->new->attention, &plain);
		equal(check, &plain, &tree);
	}
}

/* Each head alone gives what it gives among others. */
static void heads(struct check *check)
{
	for (size_t i = 0; i < COUNT(all_dims); i++) {
		const struct dims *d = &all_dims[i];
		check_case(check, "heads=%zu k_dim=%zu v_dim=%zu", d->heads, d->k_dim, d->v_dim);
		struct octavo_attention all = make(check, d, 70, 50), alone = all;
		all.t1 = alone.t1 = 70;
		outputs(check, &all);
		outputs(check, &alone);
		check_run(check, check->new->attention, &all);
		for (size_t h = 0; h < d->heads; h++) {
			struct octavo_attention one = alone;
			one.heads = 1;
			one.q += h * one.ldq;
			one.m += h;
			one.l += h;
			one.o += h * one.v_dim;
			check_run(check, check->new->attention, &one);
		}
		equal(check, &alone, &all);
	}
}

/* Queries of a chain's rows see different ends: each gives what it gives alone, and what the reference gives. */
static void ends(struct check *check)
{
	static const size_t lengths[] = {1, 16, 33, 70, 129};

	for (size_t i = 0; i < COUNT(all_dims); i++)
		for (size_t j = 0; j < COUNT(lengths); j++) {
			const struct dims *d = &all_dims[i];
			size_t t0 = j % 2 ? OCTAVO_SEGMENT : 0, t1 = t0 + lengths[j];
			check_case(check, "heads=%zu k_dim=%zu v_dim=%zu t0=%zu t1=%zu", d->heads, d->k_dim, d->v_dim,
			           t0, t1);
			struct octavo_attention all = make(check, d, t1, check_pick(check, t0, t1)), alone = all;
			size_t *end = check_alloc(check, d->heads * sizeof *end, sizeof *end);
			for (size_t h = 0; h < d->heads; h++)
				end[h] = check_pick(check, t0 + 1, t1);
			all.t0 = alone.t0 = t0;
			all.t1 = t1;
			all.end = end;
			outputs(check, &alone);
			for (size_t h = 0; h < d->heads; h++) {
				struct octavo_attention one = alone;
				one.heads = 1;
				one.t1 = end[h];
				one.q += h * one.ldq;
				one.m += h;
				one.l += h;
				one.o += h * one.v_dim;
				check_run(check, check->new->attention, &one);
			}
			compare(check, &all);
			equal(check, &alone, &all);
		}
}

/* Grouped queries: query head h reads head h / group of caches [slots][kv heads][dim].  Each group in one call gives
 * what each head gives alone on keys and values of its own, as a cache with the heads repeated would hold them; and
 * that is softmax attention. */
static void grouped(struct check *check)
{
	static const struct {
		size_t group, kv_heads, dim, tokens;
	} cases[] = {{4, 5, 128, 40}, {8, 2, 128, 97}, {5, 3, 128, 33},
	             {7, 2, 64, 129}, {1, 4, 128, 50}, {8, 1, 128, 300}};

	for (size_t i = 0; i < COUNT(cases); i++) {
		size_t group = cases[i].group, kv_heads = cases[i].kv_heads, dim = cases[i].dim,
		       tokens = cases[i].tokens;
		check_case(check, "group=%zu kv_heads=%zu dim=%zu tokens=%zu", group, kv_heads, dim, tokens);
		struct dims all_heads = {group, kv_heads * dim, kv_heads * dim, false};
		struct octavo_attention cache = make(check, &all_heads, tokens, tokens - 3), alone = cache;
		uint16_t *k = check_alloc(check, (tokens + 3) * dim * sizeof *k, sizeof *k);
		uint16_t *v = check_alloc(check, (tokens + 3) * dim * sizeof *v, sizeof *v);
		alone.heads = 1;
		alone.v_dim = dim;
		outputs(check, &alone);
		for (size_t head = 0; head < kv_heads; head++) {
			struct octavo_attention together = cache, one;
			together.q += head * dim; /* [group][kv heads][dim]: any layout with rows ldq apart will do */
			together.k += head * dim;
			together.v += head * dim;
			together.k_dim = together.v_dim = dim;
			together.t1 = tokens;
			one = together;
			one.heads = 1;
			one.k = k;
			one.v = v;
			one.ldk = one.ldv = dim;
			one.m = alone.m;
			one.l = alone.l;
			one.o = alone.o;
			for (size_t slot = 0; slot < tokens + 3; slot++) {
				memcpy(k + slot * dim, together.k + slot * cache.ldk, dim * sizeof *k);
				memcpy(v + slot * dim, together.v + slot * cache.ldv, dim * sizeof *v);
			}
			compare(check, &together);
			check_run(check, check->new->attention_finish, group, dim, together.o, together.l);
			for (size_t h = 0; h < group; h++) {
				struct oracle_near near[128]; /* [dim] */
				check_run(check, check->new->attention, &one);
				check_run(check, check->new->attention_finish, 1, dim, one.o, one.l);
				check_equal_f32(check, "o of a head alone", one.o, together.o + h * dim, 1, dim);
				oracle_softmax_attention(&one, 0, tokens, near);
				for (size_t j = 0; j < dim; j++)
					check_close(check, "o", j, near[j].sum, one.o[j], near[j].bound);
				one.q += one.ldq;
			}
		}
	}
}

/* ---- Merging ---- */

static float *random_floats(struct check *check, size_t count, int low, int high)
{
	float *x = check_alloc(check, count * sizeof *x, sizeof *x);
	for (size_t i = 0; i < count; i++)
		x[i] = check_float(check, low, high);
	return x;
}

static float *copy_floats(struct check *check, const float *x, size_t count)
{
	float *copy = check_alloc(check, count * sizeof *copy, sizeof *copy);
	return memcpy(copy, x, count * sizeof *copy);
}

static void merge(struct check *check)
{
	for (size_t i = 0; i < 60; i++) {
		size_t h = check_pick(check, 1, 9), v = check_pick(check, 1, i % 5 ? 40 : 520);
		check_case(check, "heads=%zu v_dim=%zu", h, v);
		float *m1 = random_floats(check, h, -4, i % 3 ? 2 : 8),
		      *m2 = random_floats(check, h, -4, i % 3 ? 2 : 8);
		float *l1 = random_floats(check, h, 0, 8), *l2 = random_floats(check, h, 0, 8);
		float *o1 = random_floats(check, h * v, -8, 8), *o2 = random_floats(check, h * v, -8, 8);
		float *m = copy_floats(check, m1, h), *l = copy_floats(check, l1, h),
		      *o = copy_floats(check, o1, h * v);
		check_run(check, check->new->attention_merge, h, v, m1, l1, o1, m2, l2, o2);
		if (check->level_two)
			oracle_merge(h, v, m, l, o, m2, l2, o2);
		else
			check_run(check, check->ref->attention_merge, h, v, m, l, o, m2, l2, o2);
		check_equal_f32(check, "m", m, m1, 1, h);
		check_equal_f32(check, "l", l, l1, 1, h);
		check_equal_f32(check, "o", o, o1, h, v);
	}
}

static void finish(struct check *check)
{
	for (size_t i = 0; i < 60; i++) {
		size_t h = check_pick(check, 1, 9), v = check_pick(check, 1, i % 5 ? 40 : 520);
		check_case(check, "heads=%zu v_dim=%zu", h, v);
		float *l = random_floats(check, h, -10, 9), *o = random_floats(check, h * v, -20, 20);
		float *want = copy_floats(check, o, h * v);
		for (size_t j = 0; check->level_two && j < h * v; j++)
			want[j] = oracle_divide(want[j], l[j / v]);
		if (!check->level_two)
			check_run(check, check->ref->attention_finish, h, v, want, l);
		check_run(check, check->new->attention_finish, h, v, o, l);
		check_equal_f32(check, "o", want, o, h, v);
	}
}

/* Three segments, merged and finished, against softmax attention in double precision. */
static void context(struct check *check)
{
	for (size_t i = 2; i < COUNT(all_dims); i += 2) {
		const struct dims *d = &all_dims[i];
		size_t tokens = 2 * OCTAVO_SEGMENT + check_pick(check, 1, OCTAVO_SEGMENT);
		check_case(check, "heads=%zu k_dim=%zu v_dim=%zu tokens=%zu", d->heads, d->k_dim, d->v_dim, tokens);
		struct octavo_attention a = make(check, d, tokens, tokens - 5), next;
		outputs(check, &a);
		next = a;
		outputs(check, &next);
		a.t1 = OCTAVO_SEGMENT;
		check_run(check, check->new->attention, &a);
		for (size_t t = OCTAVO_SEGMENT; t < tokens; t += OCTAVO_SEGMENT) {
			next.t0 = t;
			next.t1 = t + OCTAVO_SEGMENT < tokens ? t + OCTAVO_SEGMENT : tokens;
			check_run(check, check->new->attention, &next);
			check_run(check, check->new->attention_merge, d->heads, d->v_dim, a.m, a.l, a.o, next.m, next.l,
			          next.o);
		}
		check_run(check, check->new->attention_finish, d->heads, d->v_dim, a.o, a.l);
		struct oracle_near near[512]; /* [v_dim] */
		for (size_t h = 0; h < d->heads; h++) {
			oracle_softmax_attention(&a, h, tokens, near);
			for (size_t j = 0; j < d->v_dim; j++)
				check_close(check, "o", h * d->v_dim + j, near[j].sum, a.o[h * d->v_dim + j],
				            near[j].bound);
		}
	}
}

const struct check_entry check_attention_entries[] = {
        {"attention.segments", SLOT_attention, segments},    /* lengths and dimensions */
        {"attention.sharp", SLOT_attention, sharp},          /* scores far apart */
        {"attention.gather", SLOT_attention, gather},        /* a tree path against the same tokens in order */
        {"attention.heads", SLOT_attention, heads},          /* heads alone against heads together */
        {"attention.ends", SLOT_attention, ends},            /* rows of a chain together against each alone */
        {"attention.grouped", SLOT_attention, grouped},      /* GQA against a cache with its heads repeated */
        {"attention.context", SLOT_attention, context},      /* several segments against plain softmax */
        {"attention_merge", SLOT_attention_merge, merge},    /* fused merge */
        {"attention_finish", SLOT_attention_finish, finish}, /* true division */
        {0},
};
