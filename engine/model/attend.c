/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/model/attend.h"

#include <assert.h>
#include <string.h>

struct octavo_attend octavo_attend_of(const struct octavo_engine *e, const struct octavo_matrix *kv_b)
{
	const struct octavo_config *c = &e->config;
	struct octavo_attend a = { .sequence = e->work.context, .kv_heads = 1, .group = c->heads, .tau = e->tau,
		                   .kv_b = kv_b, .scratch = e->work.attend_scratch, .checked = 1 };
	a.cache = e->settings.kv == OCTAVO_KV_FP8 ? OCTAVO_CACHE_LATENT_FP8 : OCTAVO_CACHE_LATENT;
	a.k_dim = (kv_b ? c->nope : c->kv_lora) + c->rope;
	a.v_dim = kv_b ? c->v_dim : c->kv_lora;
	if (kv_b || c->kv_heads) {
		a.kv_heads = kv_b ? c->heads : c->kv_heads;
		a.group = c->heads / a.kv_heads;
	}
	if (c->kv_heads) {
		a.cache = OCTAVO_CACHE_HEADS;
		a.k_dim = a.v_dim = c->v_dim;
	}
	return a;
}

/* How many rows from `row` on are of one sequence and one form, behind the same tokens. */
static size_t rows_together(const struct octavo_geometry *g, size_t row)
{
	size_t rows = 1;
	while (row + rows < g->rows && g->sequence[row + rows] == g->sequence[row] &&
	       g->naive[row + rows] == g->naive[row] && g->committed[row + rows] == g->committed[row])
		rows++;
	return rows;
}

static void find_contexts(struct octavo_engine *e, struct octavo_attend *a, size_t kv_layer, int naive)
{
	const struct octavo_geometry *g = &e->geometry;
	size_t heads = e->config.heads;
	a->sequences = 0;
	for (size_t row = 0, rows; row < g->rows; row += rows) {
		rows = rows_together(g, row);
		if (g->naive[row] != naive)
			continue;
		e->work.context[a->sequences++] = (struct octavo_attend_sequence){
			.q = e->work.queries + row * heads * a->k_dim,
			.rows = rows,
			.cache = octavo_kv_slots(g->kv, g->sequence[row], kv_layer),
			.committed = g->committed[row],
			.pos = g->pos + row,
			.path = g->path + row * g->path_ld,
			.path_ld = g->path_ld,
			.chained = g->chained + row,
			.o = e->work.seen + row * heads * a->v_dim,
		};
	}
}

static void run(struct octavo_engine *e, const struct octavo_attend *a)
{
	enum octavo_status status = octavo_attend_run(e->k, &e->threads.parallel, a);
	assert(status == OCTAVO_OK);
	(void)status;
}

void octavo_attend_rows(struct octavo_engine *e, struct octavo_attend *a, size_t kv_layer, int naive)
{
	find_contexts(e, a, kv_layer, naive);
	run(e, a);
}

/* ---- Heads with keys and values of their own ------------------------------------------------------------------ */

struct heads_task {
	struct octavo_engine *e;
	const struct octavo_attend *a;
};

/* The queries of one head of keys and values, side by side for all rows of a sequence. */
static void gather_head(void *arg, size_t head)
{
	const struct heads_task *t = arg;
	const struct octavo_engine *e = t->e;
	size_t group = t->a->group, values = group * t->a->k_dim;
	for (size_t i = 0; i < t->a->sequences; i++) {
		const struct octavo_attend_sequence *s = &t->a->sequence[i];
		size_t first = (size_t)(s->pos - e->geometry.pos);
		for (size_t row = 0; row < s->rows; row++)
			e->k->round->run(e->work.queries + (first * t->a->kv_heads + head * s->rows + row) * values,
			                 e->work.q + ((first + row) * t->a->kv_heads + head) * values, values);
	}
}

static void scatter_head(void *arg, size_t head)
{
	const struct heads_task *t = arg;
	const struct octavo_engine *e = t->e;
	size_t group = t->a->group, values = group * t->a->v_dim;
	for (size_t i = 0; i < t->a->sequences; i++) {
		const struct octavo_attend_sequence *s = &t->a->sequence[i];
		size_t first = (size_t)(s->pos - e->geometry.pos);
		for (size_t row = 0; row < s->rows; row++)
			memcpy(e->work.attended + ((first + row) * t->a->kv_heads + head) * values,
			       s->o + (head * s->rows + row) * values, values * sizeof *s->o);
	}
}

void octavo_attend_heads(struct octavo_engine *e, struct octavo_attend *a, size_t kv_layer, int naive)
{
	struct heads_task t = { e, a };
	size_t rows = e->geometry.rows;
	find_contexts(e, a, kv_layer, naive);
	octavo_for_parts(e, rows, a->kv_heads, gather_head, &t);
	run(e, a);
	octavo_for_parts(e, rows, a->kv_heads, scatter_head, &t);
}
