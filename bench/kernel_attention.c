/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention that `specbench kernels` can time: n tokens of a cache, k heads of queries.  MLA's heads all share the
 * latent row; GQA's share keys and values in groups.
 */
#include "bench/kernel_ops.h"

#include <string.h>

struct dims {
	size_t k_dim, v_dim;
	size_t kv_heads; /* heads of keys and values; each serves an equal part of the queries */
	bool latent;     /* values are the front of the keys */
};

enum { MLA_K = 576, MLA_V = 512, GQA_DIM = 128, GQA_GROUP = 8 };

static struct dims dims_of(const struct work *w)
{
	if (w->op == &op_gqa)
		return (struct dims){GQA_DIM, GQA_DIM, w->k / GQA_GROUP, false};
	return (struct dims){MLA_K, MLA_V, 1, true};
}

static bool takes_mla(size_t n, size_t k)
{
	return n && k;
}

static bool takes_gqa(size_t n, size_t k)
{
	return n && k && k % GQA_GROUP == 0;
}

static const void *slot_attention(const struct octavo_kernels *t)
{
	return t->attention;
}

static size_t segments(const struct work *w)
{
	return (w->n + OCTAVO_SEGMENT - 1) / OCTAVO_SEGMENT;
}

/* Keys [n][kv_heads][k_dim], then, unless they are the same, values [n][kv_heads][v_dim]. */
static size_t cache_rows(const struct work *w)
{
	struct dims d = dims_of(w);
	return w->n * d.kv_heads * (d.latent ? d.k_dim : d.k_dim + d.v_dim) * sizeof(uint16_t);
}

/* All rows' heads are queries of one chain, as in a verification. */
static size_t queries(const struct work *w)
{
	return w->m * w->k;
}

/* Queries that share keys and values. */
static size_t sharing(const struct work *w)
{
	return queries(w) / dims_of(w).kv_heads;
}

/* [kv_heads][sharing][k_dim] */
static size_t in_queries(const struct work *w)
{
	return queries(w) * dims_of(w).k_dim * sizeof(uint16_t);
}

static size_t out_values(const struct work *w)
{
	return queries(w) * dims_of(w).v_dim * sizeof(float);
}

/* Per segment: m and l [queries], o [queries][v_dim], p [queries][512]. */
static size_t spare_floats(const struct work *w)
{
	return queries(w) * (2 + dims_of(w).v_dim + OCTAVO_SEGMENT);
}

static size_t spare_attention(const struct work *w)
{
	return segments(w) * spare_floats(w) * sizeof(float);
}

/* How many parts the queries of one head of keys and values are cut into, so that every thread has some tasks. */
static size_t parts(const struct work *w)
{
	size_t tasks = segments(w) * dims_of(w).kv_heads, wanted = (4 * w->parallel->threads + tasks - 1) / tasks;
	return wanted < sharing(w) ? wanted : sharing(w);
}

/* Part `part` of all heads' parts: queries [*first, *first + returned). */
static size_t part_of(const struct work *w, size_t part, size_t *first)
{
	size_t head = part / parts(w), i = part % parts(w), all = sharing(w);
	*first = head * all + all * i / parts(w);
	return all * (i + 1) / parts(w) - all * i / parts(w);
}

static double flops_attention(const struct work *w)
{
	struct dims d = dims_of(w);
	return 2.0 * (double)w->m * (double)w->n * (double)w->k * (double)(d.k_dim + d.v_dim);
}

static void shrink_attention(struct work *w)
{
	size_t unit = w->op == &op_gqa ? GQA_GROUP : 1;
	w->n = w->n < OCTAVO_SEGMENT + 88 ? w->n : OCTAVO_SEGMENT + 88; /* one whole segment, one partial */
	size_t most = (MOMENT / (w->m * w->n * dims_of(w).k_dim * unit) + 1) * unit;
	w->k = w->k < most ? w->k : most;
}

/* One segment for one part of the queries. */
static void run_segment(void *arg, size_t task)
{
	struct call *call = arg;
	const struct work *w = call->work;
	struct dims d = dims_of(w);
	size_t all = queries(w), first, tasks = parts(w) * d.kv_heads, t0 = task / tasks * OCTAVO_SEGMENT;
	size_t heads = part_of(w, task % tasks, &first), head = task % tasks / parts(w);
	float *spare = (float *)w->spare + task / tasks * spare_floats(w);
	const uint16_t *keys = (const void *)call->weights, *values = keys + w->n * d.kv_heads * d.k_dim;
	struct octavo_attention a = {
	        .q = (const uint16_t *)w->in + first * d.k_dim,
	        .heads = heads,
	        .ldq = d.k_dim,
	        .k_dim = d.k_dim,
	        .v_dim = d.v_dim,
	        .k = keys + head * d.k_dim,
	        .v = d.latent ? keys : values + head * d.v_dim,
	        .ldk = d.kv_heads * d.k_dim,
	        .ldv = d.kv_heads * (d.latent ? d.k_dim : d.v_dim),
	        .committed = w->n,
	        .t0 = t0,
	        .t1 = t0 + OCTAVO_SEGMENT < w->n ? t0 + OCTAVO_SEGMENT : w->n,
	        .tau = 1.0f / __builtin_sqrtf((float)d.k_dim),
	        .m = spare + first,
	        .l = spare + all + first,
	        .o = spare + 2 * all + first * d.v_dim,
	        .p = spare + all * (2 + d.v_dim) + first * OCTAVO_SEGMENT,
	};
	call->table->attention->run(&a);
}

/* All segments of one part of the queries into the first. */
static void merge_part(void *arg, size_t part)
{
	struct call *call = arg;
	const struct work *w = call->work;
	size_t all = queries(w), v_dim = dims_of(w).v_dim, first, count = part_of(w, part, &first);
	float *m = (float *)w->spare + first, *l = m + all, *o = (float *)w->spare + 2 * all + first * v_dim;
	for (size_t i = 1; i < segments(w); i++) {
		size_t next = i * spare_floats(w);
		call->table->attention_merge->run(count, v_dim, m, l, o, m + next, l + next, o + next);
	}
	call->table->attention_finish->run(count, v_dim, o, l);
	memcpy((float *)w->out + first * v_dim, o, count * v_dim * sizeof *o);
}

static enum octavo_status run_attention(struct work *w, const struct octavo_kernels *table,
                                        const unsigned char *weights)
{
	struct call call = {w, table, weights, OCTAVO_OK};
	size_t all_parts = parts(w) * dims_of(w).kv_heads;
	w->parallel->run(w->parallel->context, segments(w) * all_parts, run_segment, &call);
	w->parallel->run(w->parallel->context, all_parts, merge_part, &call);
	return OCTAVO_OK;
}

#define ATTENTION_OP                                                                                                   \
	.fill = FILL_BF16, .streams = true, .slot = slot_attention, .weights = cache_rows, .in = in_queries,           \
	.out = out_values, .spare = spare_attention, .flops = flops_attention, .shrink = shrink_attention,             \
	.run = run_attention

const struct op op_attention = {.name = "attention",
                                .shape_means = "tokens of the latent cache and heads",
                                .shape = {{4096, 128}},
                                .takes = takes_mla,
                                ATTENTION_OP};

const struct op op_gqa = {.name = "gqa",
                          .shape_means = "tokens of the cache and heads of queries, eight to each of keys and values",
                          .shape = {{4096, 64}},
                          .takes = takes_gqa,
                          ATTENTION_OP};
