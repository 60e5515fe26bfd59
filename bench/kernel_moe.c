/* SPDX-License-Identifier: Apache-2.0
 *
 * The operations of a DeepSeek-V3 layer that are more than one product: its mixture of experts, and the keys and values
 * that a prompt's attention makes of the latent cache.
 */
#include "bench/kernel_ops.h"

#include <string.h>

/* ---- Mixture of experts: n is an expert's width, k what it reads and makes ----------------------------------------
 */

enum { EXPERTS = 256, TOP_K = 8 };

static bool takes_moe(size_t n, size_t k)
{
	return n && k;
}

static const void *slot_moe(const struct octavo_kernels *t)
{
	return t->gemm_fp8;
}

/* Each row draws 8 of 256 without regard to the others, always the same: chosen [m][TOP_K] ascending, or NULL.  Returns
 * how many experts that are, and marks them. */
static size_t draw(size_t m, bool used[EXPERTS], uint32_t *chosen)
{
	uint64_t state = 0x9e3779b97f4a7c15;
	size_t experts = 0;
	memset(used, 0, EXPERTS * sizeof *used);
	for (size_t row = 0; row < m; row++) {
		bool own[EXPERTS] = {false};
		for (size_t i = 0; i < TOP_K;) {
			state = state * 6364136223846793005 + 1442695040888963407; /* Knuth's MMIX */
			size_t expert = state >> 56;
			if (own[expert])
				continue;
			own[expert] = true;
			experts += !used[expert];
			used[expert] = true;
			i++;
		}
		for (size_t expert = 0, i = 0; chosen && expert < EXPERTS; expert++)
			if (own[expert])
				chosen[row * TOP_K + i++] = (uint32_t)expert;
	}
	return experts;
}

static size_t expert_bytes(const struct work *w)
{
	return 3 * w->n * w->k;
}

/* The union's experts and the shared one. */
static size_t weights_moe(const struct work *w)
{
	bool used[EXPERTS];
	return (draw(w->m, used, NULL) + 1) * expert_bytes(w);
}

static size_t rows_f32(const struct work *w)
{
	return w->m * w->k * sizeof(float);
}

static size_t choices(const struct work *w)
{
	return w->m * TOP_K * (sizeof(uint32_t) + sizeof(float));
}

/* Choices, their weights, and what the operation wants. */
static size_t spare_moe(const struct work *w)
{
	return choices(w) + octavo_moe_scratch(w->m, EXPERTS, TOP_K, w->k, w->n, w->n);
}

static double flops_moe(const struct work *w)
{
	return 2.0 * 3 * (TOP_K + 1) * (double)w->m * (double)w->n * (double)w->k;
}

static void shrink_moe(struct work *w)
{
	size_t n = OCTAVO_BLOCK, k = 2 * OCTAVO_BLOCK + 8;
	w->n = w->n < n ? w->n : n;
	w->k = w->k < k ? w->k : k;
}

static struct octavo_matrix expert_matrix(const struct work *w, const unsigned char *data, size_t rows, size_t cols)
{
	return (struct octavo_matrix){.data = data,
	                              .rows = rows,
	                              .cols = cols,
	                              .ld = cols,
	                              .dtype = OCTAVO_E4M3,
	                              .scale_dtype = OCTAVO_F32,
	                              .scale = w->scale,
	                              .scale_ld = blocks_of(cols)};
}

static struct octavo_mlp expert_at(const struct work *w, const unsigned char *weights)
{
	return (struct octavo_mlp){.gate = expert_matrix(w, weights, w->n, w->k),
	                           .up = expert_matrix(w, weights + w->n * w->k, w->n, w->k),
	                           .down = expert_matrix(w, weights + 2 * w->n * w->k, w->k, w->n)};
}

static enum octavo_status run_moe(struct work *w, const struct octavo_kernels *table, const unsigned char *weights)
{
	struct octavo_mlp expert[EXPERTS] = {0}, shared;
	bool used[EXPERTS];
	uint32_t *chosen = w->spare;
	float *weight = (float *)(void *)(chosen + w->m * TOP_K);
	draw(w->m, used, chosen);
	for (size_t i = 0; i < w->m * TOP_K; i++)
		weight[i] = 2.5f / TOP_K;
	for (size_t i = 0; i < EXPERTS; i++)
		if (used[i]) {
			expert[i] = expert_at(w, weights);
			weights += expert_bytes(w);
		}
	shared = expert_at(w, weights);
	struct octavo_moe moe = {.expert = expert,
	                         .shared = &shared,
	                         .experts = EXPERTS,
	                         .top_k = TOP_K,
	                         .x = w->in,
	                         .rows = w->m,
	                         .chosen = chosen,
	                         .weight = weight,
	                         .y = w->out,
	                         .scratch = (char *)w->spare + choices(w),
	                         .checked = 1};
	return octavo_moe_run(table, w->parallel, &moe);
}

const struct op op_moe = {.name = "moe",
                          .shape_means = "an expert's width and the hidden size",
                          .shape = {{2048, 7168}},
                          .rows = {1, 2, 4, 8},
                          .fill = FILL_E4M3,
                          .streams = true,
                          .takes = takes_moe,
                          .slot = slot_moe,
                          .weights = weights_moe,
                          .in = rows_f32,
                          .out = rows_f32,
                          .spare = spare_moe,
                          .flops = flops_moe,
                          .shrink = shrink_moe,
                          .run = run_moe};

/* ---- Latents to keys and values: n rows of kv_b, 256 per head; k values of a latent; m tokens ---------------------
 */

enum { NOPE = 128, ROPE = 64, V_DIM = 128, PER_HEAD = NOPE + V_DIM };

static bool takes_up(size_t n, size_t k)
{
	return n && k && n % PER_HEAD == 0;
}

static const void *slot_up(const struct octavo_kernels *t)
{
	return t->gemm_fp8;
}

static size_t weights_up(const struct work *w)
{
	return w->n * w->k;
}

/* [m][k + ROPE] */
static size_t in_latents(const struct work *w)
{
	return w->m * (w->k + ROPE) * sizeof(uint16_t);
}

/* Keys [heads][m][NOPE + ROPE], then values [heads][m][V_DIM]. */
static size_t out_heads(const struct work *w)
{
	return w->n / PER_HEAD * w->m * (NOPE + ROPE + V_DIM) * sizeof(uint16_t);
}

static double flops_up(const struct work *w)
{
	return 2.0 * (double)w->m * (double)w->n * (double)w->k;
}

static void shrink_up(struct work *w)
{
	size_t most = (MOMENT / (w->m * w->k) + 1) / PER_HEAD * PER_HEAD;
	most = most < PER_HEAD ? PER_HEAD : most;
	w->n = w->n < most ? w->n : most;
}

static enum octavo_status run_up(struct work *w, const struct octavo_kernels *table, const unsigned char *weights)
{
	struct octavo_matrix kv_b = expert_matrix(w, weights, w->n, w->k);
	size_t heads = w->n / PER_HEAD;
	struct octavo_mla_up up = {.kv_b = &kv_b,
	                           .heads = heads,
	                           .nope = NOPE,
	                           .rope = ROPE,
	                           .v_dim = V_DIM,
	                           .cache = w->in,
	                           .tokens = w->m,
	                           .ld = w->k + ROPE,
	                           .keys = w->out,
	                           .values = (uint16_t *)w->out + heads * w->m * (NOPE + ROPE),
	                           .checked = 1};
	return octavo_mla_up_run(table, w->parallel, &up);
}

const struct op op_mla_up = {.name = "mla_up",
                             .shape_means = "256 rows per head (a multiple of 256) and a latent's values",
                             .shape = {{32768, 512}},
                             .rows = {64, 512},
                             .fill = FILL_E4M3,
                             .streams = true,
                             .takes = takes_up,
                             .slot = slot_up,
                             .weights = weights_up,
                             .in = in_latents,
                             .out = out_heads,
                             .flops = flops_up,
                             .shrink = shrink_up,
                             .run = run_up};
