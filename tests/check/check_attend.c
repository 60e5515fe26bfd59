/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of attention over whole contexts: however it is cut, each row gets what the reference gives it alone, on keys
 * and values laid out in the order of its tokens.
 */
#include "harness.h"
#include "memory.h"
#include "team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SEQUENCES = 3, MOST_ROWS = 70, MOST_GROUP = 20 };

struct shape {
	enum octavo_cache cache;
	size_t kv_heads, group, k_dim, v_dim;
	size_t nope, latent; /* of the naive form; 0: none */
};

static const struct shape shapes[] = {
        {OCTAVO_CACHE_LATENT, 1, 5, 40, 32, 0, 0},       {OCTAVO_CACHE_LATENT, 1, 20, 72, 64, 0, 0},
        {OCTAVO_CACHE_LATENT_FP8, 1, 5, 144, 130, 0, 0}, {OCTAVO_CACHE_LATENT_FP8, 1, 18, 40, 32, 0, 0},
        {OCTAVO_CACHE_HEADS, 3, 4, 32, 32, 0, 0},        {OCTAVO_CACHE_HEADS, 2, 1, 17, 9, 0, 0},
        {OCTAVO_CACHE_LATENT, 3, 1, 24, 20, 16, 40},     {OCTAVO_CACHE_LATENT_FP8, 2, 1, 24, 16, 16, 132},
};

/* A sequence's rows: a chain, or a tree with a fan of nodes. */
struct layout {
	size_t committed, rows;
	bool tree;
};

static const struct layout layouts[][MOST_SEQUENCES] = {
        {{0, 1, false}},
        {{1700, 1, false}},
        {{509, 6, false}, {3, 2, false}, {1535, 1, false}},
        {{1022, 9, true}},
        {{700, 5, true}, {0, 12, false}, {512, 3, true}},
        {{0, 3, false}, {1100, 2, false}},
        {{490, MOST_ROWS, false}},
};

/* ---- Operands ---- */

static size_t entry_bytes(const struct shape *s)
{
	size_t latent = s->nope ? s->latent : s->v_dim, rope = s->k_dim - (s->nope ? s->nope : s->v_dim);
	if (s->cache == OCTAVO_CACHE_HEADS)
		return s->kv_heads * (s->k_dim + s->v_dim) * sizeof(uint16_t);
	return s->cache == OCTAVO_CACHE_LATENT ? (latent + rope) * sizeof(uint16_t) : octavo_kv_row_bytes(latent, rope);
}

static void *random_cache(struct check *check, const struct shape *s, size_t slots)
{
	size_t bytes = entry_bytes(s), latent = s->nope ? s->latent : s->v_dim;
	uint8_t *cache = check_alloc(check, slots * bytes, sizeof(uint16_t));
	for (size_t slot = 0; slot < slots; slot++) {
		uint8_t *entry = cache + slot * bytes;
		float row[256];
		for (size_t i = 0; i < sizeof row / sizeof *row; i++)
			row[i] = check_float(check, -5, 1);
		if (s->cache == OCTAVO_CACHE_LATENT_FP8)
			octavo_kv_row_write(check->ref, entry, row, latent, s->k_dim - (s->nope ? s->nope : s->v_dim));
		for (size_t i = 0; s->cache != OCTAVO_CACHE_LATENT_FP8 && i < bytes; i += sizeof(uint16_t)) {
			uint16_t value = check_bf16(check, -5, 1);
			memcpy(entry + i, &value, sizeof value);
		}
	}
	return cache;
}

static struct octavo_attend_sequence make_sequence(struct check *check, const struct shape *s, const struct layout *l)
{
	size_t queries = s->kv_heads * l->rows * s->group;
	size_t *pos = check_alloc(check, l->rows * sizeof *pos, sizeof *pos);
	uint32_t *path = check_alloc(check, l->rows * l->rows * sizeof *path, sizeof *path);
	unsigned char *chained = check_alloc(check, l->rows, 1);
	uint16_t *q = check_alloc(check, queries * s->k_dim * sizeof *q, sizeof *q);
	for (size_t i = 0; i < queries * s->k_dim; i++)
		q[i] = check_bf16(check, -4, 1);
	for (size_t row = 0; row < l->rows; row++) {
		size_t parent = !l->tree ? row - 1 : row && check_pick(check, 0, 1) ? row - 1 : check_pick(check, 0, row) - 1;
		size_t before = parent == SIZE_MAX ? 0 : pos[parent] + 1 - l->committed;
		if (before)
			memcpy(path + row * l->rows, path + parent * l->rows, before * sizeof *path);
		path[row * l->rows + before] = (uint32_t)(l->committed + row);
		pos[row] = l->committed + before;
		chained[row] = row && parent == row - 1;
	}
	return (struct octavo_attend_sequence){
	        .q = q, .rows = l->rows, .cache = random_cache(check, s, l->committed + l->rows), .committed = l->committed,
	        .pos = pos, .path = path, .path_ld = l->rows, .chained = chained,
	        .o = check_alloc(check, queries * s->v_dim * sizeof(float), sizeof(float))};
}

static struct octavo_attend make(struct check *check, const struct shape *s, const struct layout *l,
                                 struct octavo_attend_sequence *sequence, struct octavo_matrix *kv_b)
{
	struct octavo_attend a = {.sequence = sequence, .kv_heads = s->kv_heads, .group = s->group, .k_dim = s->k_dim,
	                          .v_dim = s->v_dim, .cache = s->cache, .tau = 1.0f / sqrtf((float)s->k_dim)};
	for (; a.sequences < MOST_SEQUENCES && l[a.sequences].rows; a.sequences++)
		sequence[a.sequences] = make_sequence(check, s, &l[a.sequences]);
	if (s->nope) {
		size_t rows = s->kv_heads * (s->nope + s->v_dim);
		uint16_t *w = check_alloc(check, rows * s->latent * sizeof *w, sizeof *w);
		for (size_t i = 0; i < rows * s->latent; i++)
			w[i] = check_bf16(check, -6, -1);
		*kv_b = (struct octavo_matrix){.data = w, .rows = rows, .cols = s->latent, .ld = s->latent,
		                               .dtype = OCTAVO_BF16, .scale_dtype = OCTAVO_NONE};
		a.kv_b = kv_b;
	}
	return a;
}

/* ---- The truth ---- */

/* A token's key and value for one head. */
static void read_token(struct check *check, const struct octavo_attend *a, const struct shape *s,
                       const uint8_t *entry, size_t head, uint16_t *k, uint16_t *v)
{
	size_t latent = s->nope ? s->latent : s->v_dim, rope = s->k_dim - (s->nope ? s->nope : s->v_dim);
	uint16_t row[256];
	float y[256];
	if (s->cache == OCTAVO_CACHE_HEADS) {
		memcpy(k, entry + head * s->k_dim * sizeof *k, s->k_dim * sizeof *k);
		memcpy(v, entry + (s->kv_heads * s->k_dim + head * s->v_dim) * sizeof *v, s->v_dim * sizeof *v);
		return;
	}
	if (s->cache == OCTAVO_CACHE_LATENT_FP8)
		octavo_kv_row_read(check->ref, row, entry, latent, rope);
	else
		memcpy(row, entry, (latent + rope) * sizeof *row);
	memcpy(k, row, s->k_dim * sizeof *k);
	memcpy(v, row, s->v_dim * sizeof *v);
	if (!s->nope)
		return;
	struct octavo_matrix own = octavo_matrix_view(a->kv_b, head * (s->nope + s->v_dim), s->nope + s->v_dim, 0, latent);
	struct octavo_rows x = {.x = row, .rows = 1, .ld = latent};
	check->ref->gemm_bf16->run(&own, 0, own.rows, &x, y, own.rows);
	check->ref->round->run(k, y, s->nope);
	memcpy(k + s->nope, row + latent, rope * sizeof *k);
	check->ref->round->run(v, y + s->nope, s->v_dim);
}

/* One row's `group` queries of one head, segment by segment. */
static void true_row(struct check *check, struct octavo_attention a, size_t tokens, float *o)
{
	static float p[MOST_GROUP * OCTAVO_SEGMENT];
	float m[2][MOST_GROUP], l[2][MOST_GROUP], other[MOST_GROUP * 256];
	a.p = p;
	for (size_t t = 0; t < tokens; t += OCTAVO_SEGMENT) {
		a.t0 = t;
		a.t1 = t + OCTAVO_SEGMENT < tokens ? t + OCTAVO_SEGMENT : tokens;
		a.m = m[t > 0];
		a.l = l[t > 0];
		a.o = t ? other : o;
		check->ref->attention->run(&a);
		if (t)
			check->ref->attention_merge->run(a.heads, a.v_dim, m[0], l[0], o, m[1], l[1], other);
	}
	check->ref->attention_finish->run(a.heads, a.v_dim, o, l[0]);
}

static float *truth(struct check *check, const struct octavo_attend *a, const struct shape *s, size_t index)
{
	const struct octavo_attend_sequence *q = &a->sequence[index];
	size_t tokens = q->committed + q->rows, bytes = entry_bytes(s), group = s->group;
	float *want = check_alloc(check, s->kv_heads * q->rows * group * s->v_dim * sizeof *want, sizeof *want);
	uint16_t *k = check_alloc(check, tokens * s->k_dim * sizeof *k, sizeof *k);
	uint16_t *v = check_alloc(check, tokens * s->v_dim * sizeof *v, sizeof *v);
	for (size_t head = 0; head < s->kv_heads; head++)
		for (size_t row = 0; row < q->rows; row++) {
			size_t first = (head * q->rows + row) * group, seen = q->pos[row] + 1;
			/* what is committed is there from the row before */
			for (size_t t = row ? q->committed : 0; t < seen; t++) {
				size_t slot = t < q->committed ? t : q->path[row * q->path_ld + t - q->committed];
				read_token(check, a, s, (const uint8_t *)q->cache + slot * bytes, head, k + t * s->k_dim,
				           v + t * s->v_dim);
			}
			struct octavo_attention one = {.q = q->q + first * s->k_dim, .heads = group, .ldq = s->k_dim,
			                               .k_dim = s->k_dim, .v_dim = s->v_dim, .k = k, .v = v,
			                               .ldk = s->k_dim, .ldv = s->v_dim, .committed = seen, .tau = a->tau};
			true_row(check, one, seen, want + first * s->v_dim);
		}
	return want;
}

/* ---- Scratch: larger than the harness's buffers, so it is kept, with canaries behind it ---- */

enum { BEHIND = 256 };
static struct {
	uint8_t *at;
	size_t bytes, room;
} scratch;

static void *take_scratch(struct check *check, const struct octavo_attend *a, size_t rows, size_t threads)
{
	scratch.bytes = octavo_attend_scratch(a, a->sequences, rows, threads);
	if (scratch.bytes + BEHIND > scratch.room) {
		free(scratch.at);
		scratch.room = scratch.bytes + BEHIND;
		scratch.at = malloc(scratch.room);
	}
	check_that(check, scratch.at != NULL, "out of memory");
	memset(scratch.at + scratch.bytes, MEMORY_CANARY, BEHIND);
	return scratch.at;
}

static void check_scratch(struct check *check)
{
	for (size_t i = 0; i < BEHIND; i++)
		check_that(check, scratch.at[scratch.bytes + i] == MEMORY_CANARY, "wrote behind the scratch");
}

/* ---- Checks ---- */

/* All tasks on the caller, the last first: an order that no pool would have. */
static void run_backwards(void *context, size_t tasks, octavo_task_fn *fn, void *arg)
{
	(void)context;
	while (tasks--)
		fn(arg, tasks);
}

static void compare(struct check *check, const struct octavo_kernels *table, struct octavo_attend *a,
                    const struct octavo_parallel *parallel, float *const *want)
{
	size_t rows = 0, group = a->kv_heads * a->group;
	for (size_t i = 0; i < a->sequences; i++) {
		rows += a->sequence[i].rows;
		memset(a->sequence[i].o, MEMORY_CANARY, a->sequence[i].rows * group * a->v_dim * sizeof(float));
	}
	a->scratch = take_scratch(check, a, rows, parallel ? parallel->threads : 1);
	check_that(check, octavo_attend_run(table, parallel, a) == OCTAVO_OK, "refused");
	check_that(check, !memory_damage(), "wrote beside a buffer");
	check_scratch(check);
	for (size_t i = 0; i < a->sequences; i++)
		check_equal_f32(check, "o", want[i], a->sequence[i].o, a->sequence[i].rows * group, a->v_dim);
}

static void contexts(struct check *check)
{
	static const size_t threads[] = {0, 1, 2, 3, 4, 64};
	bool slow = check_emulates() && !strcmp(check->new->attention->isa, "amx");
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		for (size_t j = 0; j < sizeof layouts / sizeof *layouts; j += slow ? 2 : 1) {
			struct octavo_attend_sequence sequence[MOST_SEQUENCES];
			struct octavo_matrix kv_b;
			float *want[MOST_SEQUENCES];
			check_case(check, "shape %zu, layout %zu", i, j);
			struct octavo_attend a = make(check, &shapes[i], layouts[j], sequence, &kv_b);
			for (size_t k = 0; k < a.sequences; k++)
				want[k] = truth(check, &a, &shapes[i], k);
			for (size_t k = 0; k < sizeof threads / sizeof *threads; k++) {
				if (slow && k % 3 != 2)
					continue;
				struct team team = {.threads = threads[k], .hostile = threads[k] == 2};
				struct octavo_parallel parallel = {threads[k] == 64 ? run_backwards : team_run, &team,
				                                   threads[k]};
				compare(check, check->new, &a, threads[k] ? &parallel : NULL, want);
			}
		}
}

/* A kernel that counts its calls and their queries. */
static struct {
	size_t queries, calls;
} seen;

static void noting_attention(const struct octavo_attention *a)
{
	struct octavo_kernels reference;
	octavo_kernels_init(&reference, 0);
	seen.calls++;
	seen.queries += a->heads;
	reference.attention->run(a);
}

/* With many threads a long context is cut by segments and not by heads, and no query is left out or done twice; with
 * many queries each segment is shared by as many as a call takes. */
static void cuts(struct check *check)
{
	static const struct octavo_attention_kernel noting = {"attention", "noting", 0, 1, noting_attention};
	static const struct {
		struct shape shape;
		struct layout layout[MOST_SEQUENCES];
		size_t threads, calls;
	} cases[] = {
	        {{OCTAVO_CACHE_LATENT, 1, 20, 600, 512, 0, 0}, {{2047, 1, false}}, 2, 4},
	        {{OCTAVO_CACHE_LATENT, 1, 20, 600, 512, 0, 0}, {{2047, 1, false}}, 4, 4},
	        {{OCTAVO_CACHE_LATENT_FP8, 1, 20, 64, 48, 0, 0}, {{2048, 12, true}}, 1, 4 + 12},
	        {{OCTAVO_CACHE_HEADS, 2, 10, 32, 32, 0, 0}, {{1024, 25, true}}, 1, 2 * (2 + 25)},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct octavo_attend_sequence sequence[MOST_SEQUENCES];
		struct octavo_matrix kv_b;
		struct octavo_kernels table = *check->ref;
		struct octavo_parallel parallel = {run_backwards, NULL, cases[i].threads};
		check_case(check, "case %zu", i);
		struct octavo_attend a = make(check, &cases[i].shape, cases[i].layout, sequence, &kv_b);
		size_t rows = sequence[0].rows, queries = 0;
		unsigned char *chained = check_alloc(check, rows, 1);
		memset(chained, 0, rows); /* each row of a tree by itself, behind what is committed */
		if (rows > 1)
			sequence[0].chained = chained;
		for (size_t row = 0; row < rows; row++)
			queries += (sequence[0].pos[row] / OCTAVO_SEGMENT + 1) * a.group * a.kv_heads;
		a.scratch = take_scratch(check, &a, rows, cases[i].threads);
		table.attention = &noting;
		seen.calls = seen.queries = 0;
		check_that(check, octavo_attend_run(&table, &parallel, &a) == OCTAVO_OK, "refused");
		check_that(check, seen.queries == queries, "%zu queries instead of %zu", seen.queries, queries);
		check_that(check, seen.calls == cases[i].calls, "%zu calls instead of %zu", seen.calls, cases[i].calls);
	}
}

static void arguments(struct check *check)
{
	for (int fault = 0; fault <= 22; fault++) {
		struct octavo_attend_sequence sequence[MOST_SEQUENCES];
		struct octavo_matrix kv_b;
		struct octavo_parallel idle = {0}; /* nobody to run it */
		const struct shape *shape = &shapes[fault < 15 || fault > 20 ? 0 : 6];
		check_case(check, "fault %d", fault);
		struct octavo_attend a = make(check, shape, layouts[2], sequence, &kv_b);
		size_t *pos = check_alloc(check, 6 * sizeof *pos, sizeof *pos);
		memcpy(pos, sequence[0].pos, 6 * sizeof *pos);
		sequence[0].pos = pos;
		a.scratch = take_scratch(check, &a, 9, 1);
		check_that(check, fault || octavo_attend_run(check->new, NULL, &a) == OCTAVO_OK, "refused before anything is wrong");
		switch (fault) {
		case 0: a.sequence = NULL; break;
		case 1: a.scratch = NULL; break;
		case 2: a.kv_heads = 2; break;
		case 3: a.group = 0; break;
		case 4: a.k_dim = a.v_dim - 1; break;
		case 5: a.v_dim = 0; break;
		case 6: a.tau = 0; break;
		case 7: a.cache = (enum octavo_cache)3; break;
		case 8: sequence[2].q = NULL; break;
		case 9: sequence[1].o = NULL; break;
		case 10: sequence[0].path = NULL; break;
		case 11: pos[0] = sequence[0].committed - 2; break;
		case 12: pos[3]++; break;
		case 13: sequence[0].path_ld = 5; break;
		case 14: sequence[0].cache = NULL; break;
		case 15: a.group = 2; break;
		case 16: kv_b.rows--; break;
		case 17: kv_b.data = NULL; break;
		case 18: a.cache = OCTAVO_CACHE_HEADS; break;
		case 19: a.k_dim = shape->nope - 1; break;
		case 20: a.v_dim = shape->nope + shape->v_dim; break;
		case 21: sequence[0].q = (const uint16_t *)(const void *)((const char *)sequence[0].q + 1); break;
		case 22: idle.threads = 2; break;
		}
		check_that(check, octavo_attend_run(check->new, idle.threads ? &idle : NULL, &a) == OCTAVO_EINVAL,
		           "fault %d is accepted", fault);
	}
	check_that(check, octavo_attend_run(NULL, NULL, NULL) == OCTAVO_EINVAL, "nothing is accepted");
	struct octavo_attend huge = {.kv_heads = SIZE_MAX / 2, .group = 3, .k_dim = 2, .v_dim = 1};
	check_that(check, octavo_attend_scratch(&huge, 1, 1, 1) == SIZE_MAX, "an overflow is not noticed");
}

const struct check_entry check_attend_entries[] = {
        {"attend.contexts", SLOT_TABLE, contexts},   /* caches, forms, chains and trees, 0 to 4 threads and many */
        {"attend.cuts", SLOT_TABLE, cuts},           /* what shares one read of the cache */
        {"attend.arguments", SLOT_TABLE, arguments}, /* every refusal */
        {0},
};
