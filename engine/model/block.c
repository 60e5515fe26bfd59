/* SPDX-License-Identifier: Apache-2.0
 *
 * One decoder layer: x += attention(norm(x)); x += FFN(norm(x)), on an F32 residual stream.
 */
#include "engine/internal.h"

#include <assert.h>
#include <string.h>

static int quantises(const struct octavo_engine *e, const struct octavo_matrix *w)
{
	return e->settings.arithmetic == OCTAVO_W8A8 && octavo_is_fp8(w);
}

struct left_task {
	struct octavo_engine *e;
	const float *x;
	uint16_t *storage;
	float *scale;
	size_t cols, groups;
	int quantise;
};

static void left_row(void *arg, size_t row)
{
	const struct left_task *t = arg;
	const float *x = t->x + row * t->cols;
	uint16_t *y = t->storage + row * t->cols;
	if (t->quantise)
		t->e->k->quantise->run(y, t->scale + row * t->groups, x, t->cols, t->e->config.activation_scale);
	else
		t->e->k->round->run(y, x, t->cols);
}

/* Row operations are short: a parallel region pays only for a prompt's many rows. */
void octavo_for_parts(struct octavo_engine *e, size_t rows, size_t parts, octavo_task_fn *fn, void *arg)
{
	if (rows >= 16) {
		octavo_run(&e->threads, parts, fn, arg);
		return;
	}
	for (size_t part = 0; part < parts; part++)
		fn(arg, part);
}

void octavo_for_rows(struct octavo_engine *e, size_t rows, octavo_task_fn *fn, void *arg)
{
	octavo_for_parts(e, rows, rows, fn, arg);
}

struct octavo_rows octavo_left(struct octavo_engine *e, const float *x, size_t rows, size_t cols,
                               const struct octavo_matrix *w, uint16_t *storage, float *scale)
{
	struct left_task t = { e, x, storage, scale, cols, (cols + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK,
		               quantises(e, w) };
	octavo_for_rows(e, rows, left_row, &t);
	return (struct octavo_rows){ .x = storage,
		                     .rows = rows,
		                     .ld = cols,
		                     .scale = t.quantise ? scale : NULL,
		                     .scale_ld = t.quantise ? t.groups : 0 };
}

void octavo_linear(struct octavo_engine *e, const struct octavo_matrix *w, const float *x, size_t rows, float *y)
{
	octavo_linear_into(e, w, x, rows, y, w->rows);
}

void octavo_linear_into(struct octavo_engine *e, const struct octavo_matrix *w, const float *x, size_t rows, float *y,
                        size_t ldy)
{
	struct octavo_product product = {
		.w = w,
		.x = octavo_left(e, x, rows, w->cols, w, e->work.act[0], e->work.act_scale),
		.y = y,
		.ldy = ldy,
		.checked = 1,
	};
	enum octavo_status status = octavo_gemm_group(e->k, &e->threads.parallel, &product, 1);
	assert(status == OCTAVO_OK);
	(void)status;
}

struct norm_task {
	struct octavo_engine *e;
	float *y;
	const float *x, *g;
	size_t ldy, cols;
	float eps;
};

static void norm_row(void *arg, size_t row)
{
	const struct norm_task *t = arg;
	float *y = t->y + row * t->ldy;
	const float *x = t->x + row * t->cols;
	if (t->g)
		t->e->k->norm->run(y, x, t->g, t->cols, t->eps);
	else
		memcpy(y, x, t->cols * sizeof *y);
}

void octavo_norm_rows(struct octavo_engine *e, float *y, size_t ldy, const float *x, const float *g, size_t rows,
                      size_t cols, float eps)
{
	struct norm_task t = { e, y, x, g, ldy, cols, eps };
	octavo_for_rows(e, rows, norm_row, &t);
}

struct swiglu_task {
	struct octavo_engine *e;
	size_t width;
};

static void swiglu_row(void *arg, size_t row)
{
	const struct swiglu_task *t = arg;
	float *gate = t->e->work.gate + row * t->width;
	t->e->k->swiglu->run(gate, gate, t->e->work.up + row * t->width, t->width);
}

static void dense(struct octavo_engine *e, const struct octavo_mlp *mlp)
{
	struct octavo_work *s = &e->work;
	size_t rows = e->geometry.rows, width = mlp->gate.rows;
	struct octavo_rows left = octavo_left(e, s->normed, rows, mlp->gate.cols, &mlp->gate, s->act[0], s->act_scale);
	struct octavo_product pair[2] = {
		{ .w = &mlp->gate, .x = left, .y = s->gate, .ldy = width, .checked = 1 },
		{ .w = &mlp->up, .x = left, .y = s->up, .ldy = width, .checked = 1 },
	};
	enum octavo_status status = octavo_gemm_group(e->k, &e->threads.parallel, pair, 2);
	assert(status == OCTAVO_OK);
	(void)status;
	struct swiglu_task t = { e, width };
	octavo_for_rows(e, rows, swiglu_row, &t);
	octavo_linear(e, &mlp->down, s->gate, rows, s->y);
}

static void add_row(void *arg, size_t row)
{
	struct octavo_engine *e = arg;
	size_t hidden = e->config.hidden;
	float *x = e->work.x + row * hidden;
	const float *y = e->work.y + row * hidden;
	for (size_t i = 0; i < hidden; i++)
		x[i] = x[i] + y[i];
}

static void add_residual(struct octavo_engine *e)
{
	octavo_for_rows(e, e->geometry.rows, add_row, e);
}

void octavo_block(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer)
{
	struct octavo_work *s = &e->work;
	size_t rows = e->geometry.rows, hidden = e->config.hidden;
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_ATTENTION);
	octavo_norm_rows(e, s->normed, hidden, s->x, layer->input_norm, rows, hidden, e->config.norm_eps);
	octavo_observe(e, kv_layer, OCTAVO_AT_ATTENTION_NORM, s->normed, rows, hidden);
	if (e->config.kv_heads)
		octavo_gqa(e, layer, kv_layer);
	else
		octavo_mla(e, layer, kv_layer);
	octavo_observe(e, kv_layer, OCTAVO_AT_OUTPUT, s->y, rows, hidden);
	add_residual(e);
	enum octavo_phase ffn = layer->moe ? OCTAVO_PHASE_EXPERTS : OCTAVO_PHASE_DENSE;
	octavo_phase_switch(e->profiler, OCTAVO_PHASE_ATTENTION, ffn);
	octavo_norm_rows(e, s->normed, hidden, s->x, layer->post_norm, rows, hidden, e->config.norm_eps);
	octavo_observe(e, kv_layer, OCTAVO_AT_FFN_NORM, s->normed, rows, hidden);
	if (layer->moe)
		octavo_moe(e, layer);
	else
		dense(e, &layer->dense);
	octavo_observe(e, kv_layer, OCTAVO_AT_FFN, s->y, rows, hidden);
	add_residual(e);
	octavo_phase_end(e->profiler, ffn);
}

/* They depend on the layer's input alone. */
void octavo_block_store(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer)
{
	struct octavo_work *s = &e->work;
	size_t rows = e->geometry.rows, hidden = e->config.hidden;
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_ATTENTION);
	octavo_norm_rows(e, s->normed, hidden, s->x, layer->input_norm, rows, hidden, e->config.norm_eps);
	if (e->config.kv_heads)
		octavo_gqa_store(e, layer, kv_layer);
	else
		octavo_mla_store(e, layer, kv_layer);
	octavo_phase_end(e->profiler, OCTAVO_PHASE_ATTENTION);
}
