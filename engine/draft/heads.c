/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/heads.h"

#include "engine/load/bind.h"
#include "engine/load/fields.h"
#include "kernels/fpenv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_HEADS = 64, MOST_BLOCKS = 16 };

/* ---- Files --------------------------------------------------------------------------------------------------- */

static enum octavo_status read_config(struct octavo_heads *h, const struct octavo_engine *e, struct octavo_error *error)
{
	const struct octavo_heads_format *format = (const struct octavo_heads_format *)h->base.format;
	json_t *root;
	enum octavo_status status = octavo_json_load(&root, h->base.dir, "config.json", error);
	if (status != OCTAVO_OK)
		return status;
	struct octavo_fields fields = { .object = root, .file = "config.json", .prefix = "", .error = error };
	/* Public releases of Medusa leave these three out. */
	const char *type = format->model_type;
	size_t hidden = e->config.hidden, vocab = e->config.vocab;
	octavo_field_string(&fields, "model_type", OCTAVO_OPTIONAL, &type);
	octavo_field_size(&fields, "hidden_size", OCTAVO_OPTIONAL, 1, SIZE_MAX, &hidden);
	octavo_field_size(&fields, "vocab_size", OCTAVO_OPTIONAL, 1, SIZE_MAX, &vocab);
	octavo_field_size(&fields, format->num_heads, OCTAVO_REQUIRED, 1, MOST_HEADS, &h->heads);
	octavo_field_size(&fields, format->num_layers, OCTAVO_REQUIRED, 1, MOST_BLOCKS, &h->blocks);
	if (fields.status == OCTAVO_OK && strcmp(type, format->model_type))
		octavo_fields_fail(&fields, OCTAVO_EFORMAT, "model_type", "%.64s, not %s", type, format->model_type);
	json_decref(root);
	return fields.status == OCTAVO_OK ? octavo_draft_fits(e, hidden, vocab, error) : fields.status;
}

/* Values that the first block of head i sees. */
static size_t width_of(const struct octavo_heads *h, size_t i, size_t hidden)
{
	const struct octavo_heads_format *format = (const struct octavo_heads_format *)h->base.format;
	return format->embeddings ? (i + 2) * hidden : hidden;
}

static void carve_heads(struct octavo_arena *a, struct octavo_heads *h, size_t hidden)
{
	h->head = octavo_carve(a, h->heads, sizeof *h->head);
	for (size_t i = 0; i < h->heads; i++) {
		struct octavo_head_block *block = octavo_carve(a, h->blocks, sizeof *block);
		for (size_t j = 0; j < h->blocks; j++) {
			float *bias = octavo_carve(a, hidden, sizeof *bias), *res_bias = octavo_carve(a, hidden, sizeof *bias);
			if (a->base)
				block[j] = (struct octavo_head_block){ .bias = bias, .res_bias = res_bias };
		}
		if (a->base)
			h->head[i].block = block;
	}
}

static void bind_block(struct octavo_binder *b, struct octavo_head_block *block, size_t hidden, size_t in, int with_res)
{
	octavo_bind_matrix(b, &block->linear, "linear", hidden, in, OCTAVO_ANY_PRECISION);
	octavo_bind_vector(b, block->bias, "linear.bias", hidden);
	if (!with_res)
		return;
	octavo_bind_matrix(b, &block->res, "res_connection", hidden, in, OCTAVO_ANY_PRECISION);
	octavo_bind_vector(b, block->res_bias, "res_connection.bias", hidden);
	/* They share one left operand, which W8A8 quantises for FP8 weights alone. */
	if (b->status == OCTAVO_OK && octavo_is_fp8(&block->linear) != octavo_is_fp8(&block->res))
		b->status = octavo_fail(b->error, OCTAVO_ENOTSUP,
		                        "%slinear and %sres_connection differ in FP8 against wider weights", b->prefix,
		                        b->prefix);
}

static void bind_heads(struct octavo_binder *b, struct octavo_heads *h, const struct octavo_config *c)
{
	const struct octavo_heads_format *format = (const struct octavo_heads_format *)h->base.format;
	char stem[32];
	for (size_t i = 0; i < h->heads; i++) {
		for (size_t j = 0; j < h->blocks; j++) {
			snprintf(b->prefix, sizeof b->prefix, "%zu.%zu.", i, j);
			bind_block(b, &h->head[i].block[j], c->hidden, j ? c->hidden : width_of(h, i, c->hidden),
			           format->embeddings && !j);
		}
		b->prefix[0] = 0;
		snprintf(stem, sizeof stem, "%zu.%zu", i, h->blocks);
		octavo_bind_matrix(b, &h->head[i].out, stem, c->vocab, c->hidden, OCTAVO_ANY_PRECISION);
	}
	octavo_bind_end(b);
}

enum octavo_status octavo_heads_load(struct octavo_draft_files *files, struct octavo_engine *e,
                                     struct octavo_error *error)
{
	struct octavo_heads *h = (struct octavo_heads *)files;
	struct octavo_arena arena = { 0 };
	enum octavo_status status = read_config(h, e, error);
	if (status == OCTAVO_OK)
		status = octavo_draft_checkpoint(files, e, error);
	if (status != OCTAVO_OK)
		return status;
	carve_heads(&arena, h, e->config.hidden);
	files->arena = arena.overflow ? NULL : calloc(1, arena.used + OCTAVO_ALIGNMENT);
	if (!files->arena)
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory");
	arena = (struct octavo_arena){ .base = octavo_aligned(files->arena) };
	carve_heads(&arena, h, e->config.hidden);
	struct octavo_binder b = { .checkpoint = files->checkpoint, .error = error };
	bind_heads(&b, h, &e->config);
	return b.status;
}

/* ---- The drafter ----------------------------------------------------------------------------------------------- */

static void carve_drafter(struct octavo_arena *a, struct octavo_heads_drafter *d)
{
	const struct octavo_engine *e = d->engine;
	const struct octavo_heads_format *format = (const struct octavo_heads_format *)d->heads->base.format;
	size_t hidden = e->config.hidden, most = d->base.most[0], rows = most, width = width_of(d->heads, most - 1, hidden);
	if (format->embeddings) /* a level of a tree at once; otherwise all heads at once, each with one row */
		rows = e->settings.max_rows < OCTAVO_MAX_DRAFT ? e->settings.max_rows : OCTAVO_MAX_DRAFT;
	d->hidden = octavo_carve(a, hidden, sizeof *d->hidden);
	d->ones = octavo_carve(a, hidden, sizeof *d->ones);
	d->embedded = format->embeddings ? octavo_carve(a, rows * hidden, sizeof *d->embedded) : NULL;
	d->in = octavo_carve(a, rows * width, sizeof *d->in);
	d->x = octavo_carve(a, rows * hidden, sizeof *d->x);
	d->y = octavo_carve(a, rows * hidden, sizeof *d->y);
	d->res = octavo_carve(a, rows * hidden, sizeof *d->res);
	d->act = octavo_carve(a, rows * width, sizeof *d->act);
	d->act_scale = octavo_carve(a, rows * ((width + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK), sizeof *d->act_scale);
}

static enum octavo_status allocate(struct octavo_heads_drafter *d, struct octavo_error *error)
{
	struct octavo_arena arena = { 0 };
	carve_drafter(&arena, d);
	d->arena = arena.overflow ? NULL : calloc(1, arena.used + OCTAVO_ALIGNMENT);
	if (!d->arena)
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory");
	arena = (struct octavo_arena){ .base = octavo_aligned(d->arena) };
	carve_drafter(&arena, d);
	for (size_t i = 0; i < d->engine->config.hidden; i++)
		d->ones[i] = 1.0f;
	return OCTAVO_OK;
}

enum octavo_status octavo_heads_open(struct octavo_drafter **out, const struct octavo_drafter_ops *ops,
                                     const struct octavo_heads_format *format, struct octavo_engine *e,
                                     const char *dir, struct octavo_error *error)
{
	struct octavo_draft_files *files;
	enum octavo_status status = octavo_draft_files_open(&files, e, &format->base, dir, error);
	if (status != OCTAVO_OK)
		return status;
	struct octavo_heads_drafter *d = calloc(1, sizeof *d);
	if (!d)
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory");
	d->engine = e;
	d->heads = (const struct octavo_heads *)files;
	d->base = (struct octavo_drafter){ .ops = ops, .sources = 1 };
	d->base.most[0] = d->heads->heads < OCTAVO_MAX_K ? (unsigned)d->heads->heads : OCTAVO_MAX_K;
	status = allocate(d, error);
	if (status != OCTAVO_OK)
		octavo_heads_close(&d->base);
	else
		*out = &d->base;
	return status;
}

void octavo_heads_close(struct octavo_drafter *drafter)
{
	struct octavo_heads_drafter *d = (struct octavo_heads_drafter *)drafter;
	free(d->arena);
	free(d);
}

void octavo_heads_begin(struct octavo_drafter *drafter)
{
	((struct octavo_heads_drafter *)drafter)->known = 0;
}

/* The rows of the main model's forward are gone with its next one: the newest state is all that heads need. */
enum octavo_status octavo_heads_commit(struct octavo_drafter *drafter, size_t pos, const int32_t *token,
                                       const uint32_t *row, size_t count, struct octavo_error *error)
{
	struct octavo_heads_drafter *d = (struct octavo_heads_drafter *)drafter;
	size_t hidden = d->engine->config.hidden;
	(void)token;
	if (pos != d->known)
		return octavo_fail(error, OCTAVO_EINVAL, "drafter %s: position %zu committed, %zu expected", d->base.ops->name,
		                   pos, d->known);
	if (!count)
		return OCTAVO_OK;
	memcpy(d->hidden, d->engine->hidden[OCTAVO_TAP_POST_NORM] + (size_t)row[count - 1] * hidden,
	       hidden * sizeof *d->hidden);
	d->known += count;
	return OCTAVO_OK;
}

struct octavo_shape octavo_heads_shape(const struct octavo_heads_drafter *d, const struct octavo_shape *shape,
                                       const struct octavo_tree *tree)
{
	struct octavo_shape mine = *shape;
	if (mine.depth > d->base.most[0])
		mine.depth = d->base.most[0];
	if (mine.depth > tree->room - 1)
		mine.depth = (unsigned)(tree->room - 1);
	if (!d->known) /* before the first committed position there is no state to draft from */
		mine.depth = 0;
	return mine;
}

/* ---- Arithmetic -------------------------------------------------------------------------------------------------- */

struct finish_task {
	struct octavo_heads_drafter *d;
	const struct octavo_head_block *block;
	const float *in; /* [rows][hidden], for the identity */
	size_t first;    /* of d->x, d->y, d->res */
};

/* From both products of a block, one or none of them made, to its output. */
static void finish_row(void *arg, size_t row)
{
	const struct finish_task *t = arg;
	struct octavo_heads_drafter *d = t->d;
	size_t hidden = d->engine->config.hidden, at = (t->first + row) * hidden;
	float *y = d->y + at, *x = d->x + at;
	for (size_t i = 0; i < hidden; i++)
		y[i] = y[i] + t->block->bias[i];
	d->engine->k->swiglu->run(y, y, d->ones, hidden);
	if (t->block->res.data)
		for (size_t i = 0; i < hidden; i++)
			x[i] = (d->res[at + i] + t->block->res_bias[i]) + y[i];
	else
		for (size_t i = 0; i < hidden; i++)
			x[i] = t->in[row * hidden + i] + y[i];
}

static void multiply(struct octavo_heads_drafter *d, const struct octavo_product *product, size_t count)
{
	struct octavo_engine *e = d->engine;
	enum octavo_status status = octavo_gemm_group(e->k, &e->threads.parallel, product, count);
	assert(status == OCTAVO_OK);
	(void)status;
}

/* Rows x of head number `at` of a run, made fit for w. */
static struct octavo_rows left(struct octavo_heads_drafter *d, const struct octavo_matrix *w, const float *x, size_t at,
                               size_t rows)
{
	size_t first = at * rows, groups = (w->cols + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK;
	return octavo_left(d->engine, x + first * w->cols, rows, w->cols, w, d->act + first * w->cols,
	                   d->act_scale + first * groups);
}

/* Block j of the heads, from `in` to d->x: all their products in one parallel region. */
static void run_block(struct octavo_heads_drafter *d, const struct octavo_head *head, size_t count, size_t rows,
                      size_t j, const float *in)
{
	struct octavo_product product[2 * OCTAVO_MAX_K];
	size_t hidden = d->engine->config.hidden, products = 0;
	for (size_t i = 0; i < count; i++) {
		const struct octavo_head_block *block = &head[i].block[j];
		struct octavo_rows x = left(d, &block->linear, in, i, rows);
		size_t at = i * rows * hidden;
		product[products++] = (struct octavo_product){
			.w = &block->linear, .x = x, .y = d->y + at, .ldy = hidden, .checked = 1 };
		if (block->res.data)
			product[products++] = (struct octavo_product){
				.w = &block->res, .x = x, .y = d->res + at, .ldy = hidden, .checked = 1 };
	}
	multiply(d, product, products);
	for (size_t i = 0; i < count; i++) {
		struct finish_task task = { d, &head[i].block[j], in + i * rows * hidden, i * rows };
		octavo_for_rows(d->engine, rows, finish_row, &task);
	}
}

void octavo_heads_run(struct octavo_heads_drafter *d, size_t first, size_t count, size_t rows)
{
	struct octavo_engine *e = d->engine;
	const struct octavo_head *head = d->heads->head + first;
	struct octavo_product product[OCTAVO_MAX_K];
	octavo_fpenv saved = octavo_fpenv_enter();
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_DENSE);
	for (size_t j = 0; j < d->heads->blocks; j++)
		run_block(d, head, count, rows, j, j ? d->x : d->in);
	octavo_phase_switch(e->profiler, OCTAVO_PHASE_DENSE, OCTAVO_PHASE_HEAD);
	for (size_t i = 0; i < count; i++)
		product[i] = (struct octavo_product){ .w = &head[i].out, .x = left(d, &head[i].out, d->x, i, rows),
			                              .y = e->mtp_logits + i * rows * e->config.vocab,
			                              .ldy = e->config.vocab, .checked = 1 };
	multiply(d, product, count);
	octavo_phase_end(e->profiler, OCTAVO_PHASE_HEAD);
	octavo_fpenv_leave(saved);
}
