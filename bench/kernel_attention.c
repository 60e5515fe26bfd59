/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention that `specbench kernels` can time, as the engine runs it: n tokens of a cache, k heads of queries.  MLA's
 * heads all share the latent row; GQA's share keys and values in groups.
 */
#include "bench/kernel_ops.h"

#include <string.h>

enum { MLA_K = 576, MLA_V = 512, GQA_DIM = 128, GQA_GROUP = 8 };

/* Without the sequence: its rows are a chain at the end of the context, as in a verification. */
static struct octavo_attend attend_of(const struct work *w)
{
	struct octavo_attend a = {.kv_heads = 1, .group = w->k, .k_dim = MLA_K, .v_dim = MLA_V, .checked = 1};
	a.cache = w->op == &op_attention_fp8 ? OCTAVO_CACHE_LATENT_FP8 : OCTAVO_CACHE_LATENT;
	if (w->op == &op_gqa) {
		a.cache = OCTAVO_CACHE_HEADS;
		a.k_dim = a.v_dim = GQA_DIM;
		a.group = GQA_GROUP;
		a.kv_heads = w->k / GQA_GROUP;
	}
	a.tau = 1.0f / __builtin_sqrtf((float)a.k_dim);
	return a;
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

static size_t cache_rows(const struct work *w)
{
	struct octavo_attend a = attend_of(w);
	if (a.cache == OCTAVO_CACHE_LATENT_FP8)
		return w->n * octavo_kv_row_bytes(MLA_V, MLA_K - MLA_V);
	return w->n * a.kv_heads * (a.cache == OCTAVO_CACHE_HEADS ? a.k_dim + a.v_dim : a.k_dim) * sizeof(uint16_t);
}

/* [kv_heads][m][group][k_dim] */
static size_t in_queries(const struct work *w)
{
	return w->m * w->k * attend_of(w).k_dim * sizeof(uint16_t);
}

static size_t out_values(const struct work *w)
{
	return w->m * w->k * attend_of(w).v_dim * sizeof(float);
}

/* pos [m], path [m][m], chained [m] and the driver's own. */
static size_t spare_attention(const struct work *w)
{
	struct octavo_attend a = attend_of(w);
	size_t rows = w->m * (sizeof(size_t) + w->m * sizeof(uint32_t) + 1);
	return rows + OCTAVO_ALIGNMENT + octavo_attend_scratch(&a, 1, w->m, w->parallel->threads);
}

static double flops_attention(const struct work *w)
{
	struct octavo_attend a = attend_of(w);
	return 2.0 * (double)w->m * (double)w->n * (double)w->k * (double)(a.k_dim + a.v_dim);
}

static void shrink_attention(struct work *w)
{
	size_t unit = w->op == &op_gqa ? GQA_GROUP : 1;
	w->n = w->n < OCTAVO_SEGMENT + 88 ? w->n : OCTAVO_SEGMENT + 88; /* one whole segment, one partial */
	size_t most = (MOMENT / (w->m * w->n * attend_of(w).k_dim * unit) + 1) * unit;
	w->k = w->k < most ? w->k : most;
}

static enum octavo_status run_attention(struct work *w, const struct octavo_kernels *table,
                                        const unsigned char *weights)
{
	struct octavo_attend a = attend_of(w);
	size_t *pos = w->spare;
	uint32_t *path = (uint32_t *)(void *)(pos + w->m);
	unsigned char *chained = (unsigned char *)(path + w->m * w->m);
	struct octavo_attend_sequence s = {.q = w->in,
	                                   .rows = w->m,
	                                   .cache = weights,
	                                   .pos = pos,
	                                   .path = path,
	                                   .path_ld = w->m,
	                                   .chained = chained,
	                                   .o = w->out};
	s.committed = w->n > w->m ? w->n - w->m : 0;
	for (size_t row = 0; row < w->m; row++) {
		pos[row] = s.committed + row < w->n ? s.committed + row : w->n - 1;
		chained[row] = row && pos[row] > pos[row - 1];
		for (size_t i = 0; i <= row; i++)
			path[row * w->m + i] = (uint32_t)(s.committed + i);
	}
	a.sequence = &s;
	a.sequences = 1;
	a.scratch = chained + w->m + (OCTAVO_ALIGNMENT - (uintptr_t)(chained + w->m) % OCTAVO_ALIGNMENT);
	return octavo_attend_run(table, w->parallel, &a);
}

#define ATTENTION_OP                                                                                                   \
	.streams = true, .slot = slot_attention, .weights = cache_rows, .in = in_queries, .out = out_values,           \
	.spare = spare_attention, .flops = flops_attention, .shrink = shrink_attention, .run = run_attention

const struct op op_attention = {.name = "attention",
                                .shape_means = "tokens of the latent cache and heads",
                                .shape = {{4096, 128}},
                                .fill = FILL_BF16,
                                .takes = takes_mla,
                                ATTENTION_OP};

const struct op op_attention_fp8 = {.name = "attention_fp8",
                                    .shape_means = "tokens of the latent cache in FP8 and heads",
                                    .shape = {{4096, 128}},
                                    .fill = FILL_FP8_CACHE,
                                    .takes = takes_mla,
                                    ATTENTION_OP};

const struct op op_gqa = {.name = "gqa",
                          .shape_means = "tokens of the cache and heads of queries, eight to each of keys and values",
                          .shape = {{4096, 64}},
                          .fill = FILL_BF16,
                          .takes = takes_gqa,
                          ATTENTION_OP};
