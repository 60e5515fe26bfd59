/* SPDX-License-Identifier: Apache-2.0
 *
 * Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1) over the latent cache.
 *
 * Absorbed form: a head's query is taken into the latent space once (q W_UK), scores and values are read from
 * the latent rows that all heads share, and the result is taken back (W_UV).  Naive form: a head's keys and
 * values are expanded from the latents first; fewer operations when a prompt has many rows.  Heads are dealt
 * to the threads; each thread works in its own scratch, and the rows of a chain and a thread's heads share one read of
 * the cache.
 */
#include "engine/model/attend.h"

#include "kernels/driver.h"

#include <assert.h>
#include <string.h>

/* Views into one thread's scratch; `heads` are those of one thread. */
struct scratch {
	uint16_t *q_nope; /* [rows][nope] bf16 */
	float *absorbed;  /* [rows][kv_lora] */
	uint16_t *q;      /* [rows][heads][kv_lora + rope] bf16; naive: [rows][nope + rope] */
	uint16_t *z;      /* [rows][heads][kv_lora] bf16 */
	struct octavo_attend attend; /* values as wide as max(kv_lora, v_dim) */
	uint16_t *keys;   /* [slots][nope + rope] bf16, naive form */
	uint16_t *values; /* [slots][v_dim] bf16, naive form */
};

static void carve(struct octavo_arena *a, struct scratch *s, const struct octavo_config *c, size_t rows, size_t slots,
                  size_t heads)
{
	size_t width = octavo_larger(heads * (c->kv_lora + c->rope), c->nope + c->rope);
	s->q_nope = octavo_carve(a, rows * c->nope, sizeof *s->q_nope);
	s->absorbed = octavo_carve(a, rows * c->kv_lora, sizeof *s->absorbed);
	s->q = octavo_carve(a, rows * width, sizeof *s->q);
	s->z = octavo_carve(a, rows * heads * c->kv_lora, sizeof *s->z);
	octavo_attend_carve(a, &s->attend, heads, octavo_larger(c->kv_lora, c->v_dim));
	s->keys = octavo_carve(a, slots * (c->nope + c->rope), sizeof *s->keys);
	s->values = octavo_carve(a, slots * c->v_dim, sizeof *s->values);
}

static size_t heads_per_task(const struct octavo_config *c, size_t tasks)
{
	return (c->heads + tasks - 1) / tasks;
}

size_t octavo_mla_scratch(const struct octavo_config *c, size_t rows, size_t slots, size_t threads)
{
	struct octavo_arena measure = { 0 };
	struct scratch s;
	carve(&measure, &s, c, rows, slots, heads_per_task(c, threads));
	return measure.overflow ? SIZE_MAX : measure.used;
}

struct heads_task {
	struct octavo_engine *e;
	const struct octavo_layer *layer;
	size_t kv_layer, per_task;
};

static const float *query(const struct octavo_engine *e, size_t row, size_t head)
{
	size_t width = e->config.nope + e->config.rope;
	return e->work.q + (row * e->config.heads + head) * width;
}

/* A head's rows of kv_b: keys first, then values. */
static struct octavo_matrix key_rows(const struct heads_task *t, size_t head)
{
	const struct octavo_config *c = &t->e->config;
	return octavo_matrix_view(&t->layer->kv_b, head * (c->nope + c->v_dim), c->nope, 0, c->kv_lora);
}

static struct octavo_matrix value_rows(const struct heads_task *t, size_t head)
{
	const struct octavo_config *c = &t->e->config;
	return octavo_matrix_view(&t->layer->kv_b, head * (c->nope + c->v_dim) + c->nope, c->v_dim, 0, c->kv_lora);
}

/* Takes one head's queries into the latent space: s->q[row][index] = bf16 of [q_nope W_UK | q_rope]. */
static void absorb_queries(const struct heads_task *t, struct scratch *s, size_t head, size_t index, size_t heads)
{
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	struct octavo_matrix up_k = key_rows(t, head);
	size_t rows = e->geometry.rows, width = c->kv_lora + c->rope;
	for (size_t row = 0; row < rows; row++)
		e->k->round->run(s->q_nope + row * c->nope, query(e, row, head), c->nope);
	struct octavo_rows left = { .x = s->q_nope, .rows = rows, .ld = c->nope };
	e->k->gemm_t->run(&up_k, 0, c->kv_lora, &left, s->absorbed, c->kv_lora);
	for (size_t row = 0; row < rows; row++) {
		uint16_t *q = s->q + (row * heads + index) * width;
		e->k->round->run(q, s->absorbed + row * c->kv_lora, c->kv_lora);
		e->k->round->run(q + c->kv_lora, query(e, row, head) + c->nope, c->rope);
	}
}

/* Heads [first, first + heads) of all rows, in the latent space; rows of the naive form get no meaning here and their
 * result from naive_head afterwards. */
static void absorbed_heads(const struct heads_task *t, struct scratch *s, size_t first, size_t heads)
{
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	const struct octavo_geometry *g = &e->geometry;
	size_t width = c->kv_lora + c->rope;
	for (size_t i = 0; i < heads; i++)
		absorb_queries(t, s, first + i, i, heads);
	for (size_t row = 0, rows; row < g->rows; row += rows) {
		rows = octavo_chain_length(g, row);
		uint16_t *z = s->z + row * heads * c->kv_lora;
		if (g->naive[row]) {
			memset(z, 0, rows * heads * c->kv_lora * sizeof *z);
			continue;
		}
		const uint16_t *cache = octavo_kv_rows(e->geometry.kv, g->sequence[row], t->kv_layer);
		struct octavo_attention a = { .q = s->q + row * heads * width, .ldq = width, .k_dim = width,
			                      .v_dim = c->kv_lora, .k = cache, .v = cache, .ldk = width, .ldv = width,
			                      .tau = e->tau };
		octavo_attend(e, &s->attend, a, row, rows, heads);
		e->k->round->run(z, s->attend.o[0], rows * heads * c->kv_lora);
	}
	for (size_t i = 0; i < heads; i++) {
		struct octavo_matrix up_v = value_rows(t, first + i);
		struct octavo_rows left = { .x = s->z + i * c->kv_lora, .rows = g->rows, .ld = heads * c->kv_lora };
		octavo_gemm_slot(e->k, &up_v)->run(&up_v, 0, c->v_dim, &left, e->work.attended + (first + i) * c->v_dim,
		                                  c->heads * c->v_dim);
	}
}

/* Expands a head's keys and values of the slots [0, count) of one sequence. */
static void expand(const struct heads_task *t, struct scratch *s, size_t head, size_t sequence, size_t count)
{
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	struct octavo_matrix own = octavo_matrix_view(&t->layer->kv_b, head * (c->nope + c->v_dim), c->nope + c->v_dim, 0,
	                                              c->kv_lora);
	struct octavo_mla_up up = { .kv_b = &own, .heads = 1, .nope = c->nope, .rope = c->rope, .v_dim = c->v_dim,
		                    .cache = octavo_kv_rows(e->geometry.kv, sequence, t->kv_layer), .tokens = count,
		                    .ld = e->kv.width, .keys = s->keys, .values = s->values, .checked = 1 };
	enum octavo_status status = octavo_mla_up_run(e->k, NULL, &up);
	assert(status == OCTAVO_OK);
	(void)status;
}

static void naive_head(const struct heads_task *t, struct scratch *s, size_t head)
{
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	const struct octavo_geometry *g = &e->geometry;
	size_t key = c->nope + c->rope, expanded = SIZE_MAX;
	for (size_t row = 0, rows; row < g->rows; row += rows) {
		rows = octavo_chain_length(g, row);
		size_t sequence = g->sequence[row];
		if (!g->naive[row])
			continue;
		if (sequence != expanded) {
			size_t count = 0;
			for (size_t i = row; i < g->rows; i++)
				if (g->naive[i] && g->sequence[i] == sequence)
					count = octavo_larger(count, g->slot[i] + 1);
			expand(t, s, head, sequence, count);
			expanded = sequence;
		}
		for (size_t i = 0; i < rows; i++)
			e->k->round->run(s->q + i * key, query(e, row + i, head), key);
		struct octavo_attention a = { .q = s->q, .ldq = key, .k_dim = key, .v_dim = c->v_dim, .k = s->keys,
			                      .v = s->values, .ldk = key, .ldv = c->v_dim, .tau = e->tau };
		octavo_attend(e, &s->attend, a, row, rows, 1);
		for (size_t i = 0; i < rows; i++)
			memcpy(e->work.attended + ((row + i) * c->heads + head) * c->v_dim, s->attend.o[0] + i * c->v_dim,
			       c->v_dim * sizeof(float));
	}
}

static void some_heads(void *arg, size_t task)
{
	const struct heads_task *t = arg;
	const struct octavo_engine *e = t->e;
	struct octavo_arena arena = { .base = e->work.head_scratch + task * e->work.head_scratch_size };
	struct scratch s;
	carve(&arena, &s, &e->config, e->settings.max_rows, e->kv.slots, t->per_task);
	size_t first = task * t->per_task;
	size_t heads = e->config.heads - first < t->per_task ? e->config.heads - first : t->per_task;
	int absorbed = 0, naive = 0;
	for (size_t row = 0; row < e->geometry.rows; row++)
		e->geometry.naive[row] ? (naive = 1) : (absorbed = 1);
	if (absorbed)
		absorbed_heads(t, &s, first, heads);
	for (size_t i = 0; naive && i < heads; i++)
		naive_head(t, &s, first + i);
}

/* The two projections of the layer's input, in one region. */
static void project_down(struct octavo_engine *e, const struct octavo_layer *layer)
{
	struct octavo_work *s = &e->work;
	const struct octavo_matrix *q = e->config.q_lora ? &layer->q_a : &layer->q;
	float *q_out = e->config.q_lora ? s->q_lat : s->q;
	size_t rows = e->geometry.rows, hidden = e->config.hidden;
	struct octavo_product pair[2] = {
		{ .w = q, .y = q_out, .ldy = q->rows, .checked = 1,
		  .x = octavo_left(e, s->normed, rows, hidden, q, s->act[0], s->act_scale) },
		{ .w = &layer->kv_a, .y = s->kv, .ldy = layer->kv_a.rows, .checked = 1 },
	};
	/* The same left operand unless one of the two is not FP8. */
	pair[1].x = octavo_is_fp8(q) == octavo_is_fp8(&layer->kv_a)
	                    ? pair[0].x
	                    : octavo_left(e, s->normed, rows, hidden, &layer->kv_a, s->act[1], s->other_scale);
	enum octavo_status status = octavo_gemm_group(e->k, &e->threads.parallel, pair, 2);
	assert(status == OCTAVO_OK);
	(void)status;
}

struct rows_task {
	struct octavo_engine *e;
	const struct octavo_layer *layer;
	size_t kv_layer;
};

/* Norms the latent, rotates the shared key and stores both as this row's cache entry. */
static void store_row(void *arg, size_t row)
{
	const struct rows_task *t = arg;
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	const struct octavo_geometry *g = &e->geometry;
	float *kv = e->work.kv + row * (c->kv_lora + c->rope);
	e->k->norm->run(kv, kv, t->layer->kv_norm, c->kv_lora, c->latent_norm_eps);
	e->k->rope->run(kv + c->kv_lora, e->rope + g->pos[row] * c->rope, c->rope);
	octavo_kv_store(e, t->kv_layer, row, kv);
}

/* The same, and rotates the row's queries. */
static void finish_row(void *arg, size_t row)
{
	const struct rows_task *t = arg;
	const struct octavo_engine *e = t->e;
	const struct octavo_config *c = &e->config;
	const struct octavo_geometry *g = &e->geometry;
	store_row(arg, row);
	for (size_t head = 0; head < c->heads; head++)
		e->k->rope->run(e->work.q + (row * c->heads + head) * (c->nope + c->rope) + c->nope,
		                e->rope + g->pos[row] * c->rope, c->rope);
}

void octavo_mla_store(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer)
{
	octavo_linear(e, &layer->kv_a, e->work.normed, e->geometry.rows, e->work.kv);
	octavo_for_rows(e, e->geometry.rows, store_row, &(struct rows_task){ e, layer, kv_layer });
}

void octavo_mla(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer)
{
	const struct octavo_config *c = &e->config;
	struct octavo_work *s = &e->work;
	size_t rows = e->geometry.rows;
	project_down(e, layer);
	if (c->q_lora) {
		octavo_norm_rows(e, s->q_lat, c->q_lora, s->q_lat, layer->q_norm, rows, c->q_lora, c->latent_norm_eps);
		octavo_linear(e, &layer->q_b, s->q_lat, rows, s->q);
	}
	octavo_for_rows(e, rows, finish_row, &(struct rows_task){ e, layer, kv_layer });
	octavo_observe(e, kv_layer, OCTAVO_AT_QUERY, s->q, rows, c->heads * (c->nope + c->rope));
	octavo_observe(e, kv_layer, OCTAVO_AT_KEY_VALUE, s->kv, rows, c->kv_lora + c->rope);
	octavo_kv_prepare(e, kv_layer);
	struct heads_task t = { e, layer, kv_layer, heads_per_task(c, e->threads.parallel.threads) };
	octavo_run(&e->threads, (c->heads + t.per_task - 1) / t.per_task, some_heads, &t);
	octavo_observe(e, kv_layer, OCTAVO_AT_ATTENTION, s->attended, rows, c->heads * c->v_dim);
	octavo_linear(e, &layer->o, s->attended, rows, s->y);
}
