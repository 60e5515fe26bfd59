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

static void carve_scratch(struct octavo_arena *a, struct octavo_heads *h)
{
	size_t hidden = h->engine->config.hidden, rows = h->engine->settings.max_rows;
	size_t width = width_of(h, (h->heads < OCTAVO_MAX_K ? h->heads : OCTAVO_MAX_K) - 1, hidden);
	h->ones = octavo_carve(a, hidden, sizeof *h->ones);
	h->draftable = octavo_carve(a, rows, sizeof *h->draftable);
	h->in = octavo_carve(a, rows * width, sizeof *h->in);
	h->x = octavo_carve(a, rows * hidden, sizeof *h->x);
	h->y = octavo_carve(a, rows * hidden, sizeof *h->y);
	h->res = octavo_carve(a, rows * hidden, sizeof *h->res);
	h->act = octavo_carve(a, rows * width, sizeof *h->act);
	h->act_scale = octavo_carve(a, rows * ((width + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK), sizeof *h->act_scale);
}

static void carve_heads(struct octavo_arena *a, struct octavo_heads *h)
{
	size_t hidden = h->engine->config.hidden;
	carve_scratch(a, h);
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
	h->engine = e;
	enum octavo_status status = read_config(h, e, error);
	if (status == OCTAVO_OK)
		status = octavo_draft_checkpoint(files, e, error);
	if (status != OCTAVO_OK)
		return status;
	carve_heads(&arena, h);
	files->arena = arena.overflow ? NULL : calloc(1, arena.used + OCTAVO_ALIGNMENT);
	if (!files->arena)
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory");
	arena = (struct octavo_arena){ .base = octavo_aligned(files->arena) };
	carve_heads(&arena, h);
	for (size_t i = 0; i < e->config.hidden; i++)
		h->ones[i] = 1.0f;
	struct octavo_binder b = { .checkpoint = files->checkpoint, .error = error };
	bind_heads(&b, h, &e->config);
	return b.status;
}

/* ---- The drafter ----------------------------------------------------------------------------------------------- */

static void carve_drafter(struct octavo_arena *a, struct octavo_heads_drafter *d)
{
	const struct octavo_heads_format *format = (const struct octavo_heads_format *)d->heads->base.format;
	size_t hidden = d->engine->config.hidden;
	d->hidden = octavo_carve(a, hidden, sizeof *d->hidden);
	d->embedded = format->embeddings ? octavo_carve(a, OCTAVO_MAX_DRAFT * hidden, sizeof *d->embedded) : NULL;
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
	d->heads = (struct octavo_heads *)files;
	d->base = (struct octavo_drafter){ .ops = ops, .sources = 1, .crew = files, .crew_rows = e->settings.max_rows };
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

void octavo_heads_begin(struct octavo_drafter *drafter, const int32_t *text)
{
	(void)text; /* what of it matters is in the state, and the root */
	((struct octavo_heads_drafter *)drafter)->known = 0;
}

/* The rows of the main model's forward are gone with its next one: the newest state is all that heads need. */
enum octavo_status octavo_heads_commit(struct octavo_drafter *drafter, size_t pos, const uint32_t *row, size_t count,
                                       struct octavo_error *error)
{
	struct octavo_heads_drafter *d = (struct octavo_heads_drafter *)drafter;
	size_t hidden = d->engine->config.hidden;
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
	const struct octavo_heads *h;
	const struct octavo_head_block *block;
	const float *in; /* [rows][hidden], for the identity */
	size_t first;    /* of h->x, h->y, h->res */
};

/* From both products of a block, one or none of them made, to its output. */
static void finish_row(void *arg, size_t row)
{
	const struct finish_task *t = arg;
	const struct octavo_heads *h = t->h;
	size_t hidden = h->engine->config.hidden, at = (t->first + row) * hidden;
	float *y = h->y + at, *x = h->x + at;
	for (size_t i = 0; i < hidden; i++)
		y[i] = y[i] + t->block->bias[i];
	h->engine->k->swiglu->run(y, y, h->ones, hidden);
	if (t->block->res.data)
		for (size_t i = 0; i < hidden; i++)
			x[i] = (h->res[at + i] + t->block->res_bias[i]) + y[i];
	else
		for (size_t i = 0; i < hidden; i++)
			x[i] = t->in[row * hidden + i] + y[i];
}

static void multiply(const struct octavo_heads *h, const struct octavo_product *product, size_t count)
{
	struct octavo_engine *e = h->engine;
	enum octavo_status status = octavo_gemm_group(e->k, &e->threads.parallel, product, count);
	assert(status == OCTAVO_OK);
	(void)status;
}

/* Left operands of one product after another. */
struct lefts {
	const struct octavo_heads *h;
	size_t values, groups; /* of h->act and h->act_scale that are taken */
};

static struct octavo_rows left(struct lefts *l, const struct octavo_matrix *w, const float *x, size_t rows)
{
	const struct octavo_heads *h = l->h;
	uint16_t *act = h->act + l->values;
	float *scale = h->act_scale + l->groups;
	l->values += rows * w->cols;
	l->groups += rows * ((w->cols + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK);
	return octavo_left(h->engine, x, rows, w->cols, w, act, scale);
}

/* Block j of the heads, from `in` to h->x: all their products in one parallel region. */
static void run_block(struct octavo_heads *h, const size_t rows[OCTAVO_MAX_K], size_t j, const float *in)
{
	struct octavo_product product[2 * OCTAVO_MAX_K];
	struct finish_task task[OCTAVO_MAX_K];
	struct lefts lefts = { h, 0, 0 };
	size_t hidden = h->engine->config.hidden, products = 0;
	for (size_t i = 0; i < OCTAVO_MAX_K; i++) {
		if (!rows[i])
			continue;
		const struct octavo_head_block *block = &h->head[i].block[j];
		struct octavo_rows x = left(&lefts, &block->linear, in, rows[i]);
		size_t at = h->first[i] * hidden;
		product[products++] = (struct octavo_product){
			.w = &block->linear, .x = x, .y = h->y + at, .ldy = hidden, .checked = 1 };
		if (block->res.data)
			product[products++] = (struct octavo_product){
				.w = &block->res, .x = x, .y = h->res + at, .ldy = hidden, .checked = 1 };
		task[i] = (struct finish_task){ h, block, in, h->first[i] };
		in += rows[i] * block->linear.cols;
	}
	multiply(h, product, products);
	for (size_t i = 0; i < OCTAVO_MAX_K; i++)
		octavo_for_rows(h->engine, rows[i], finish_row, &task[i]);
}

void octavo_heads_run(struct octavo_heads *h, const size_t rows[OCTAVO_MAX_K])
{
	struct octavo_engine *e = h->engine;
	struct octavo_product product[OCTAVO_MAX_K];
	struct octavo_matrix first[OCTAVO_MAX_K];
	struct lefts lefts = { h, 0, 0 };
	size_t hidden = e->config.hidden, vocab = e->config.vocab, all = 0, products = 0;
	for (size_t i = 0; i < OCTAVO_MAX_K; i++) {
		h->first[i] = all;
		all += rows[i];
	}
	octavo_fpenv saved = octavo_fpenv_enter();
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_DENSE);
	for (size_t j = 0; j < h->blocks; j++)
		run_block(h, rows, j, j ? h->x : h->in);
	octavo_phase_switch(e->profiler, OCTAVO_PHASE_DENSE, OCTAVO_PHASE_HEAD);
	for (size_t i = 0; i < OCTAVO_MAX_K; i++) {
		if (!rows[i])
			continue;
		const struct octavo_matrix *out = &h->head[i].out;
		size_t tokens = octavo_draft_head_first(e, rows[i], h->draftable + h->first[i]);
		first[i] = octavo_matrix_view(out, 0, tokens, 0, hidden);
		product[products++] = (struct octavo_product){
			.w = &first[i], .x = left(&lefts, out, h->x + h->first[i] * hidden, rows[i]),
			.y = e->mtp_logits + h->first[i] * vocab, .ldy = vocab, .checked = 1 };
	}
	multiply(h, product, products);
	for (size_t i = 0; i < OCTAVO_MAX_K; i++)
		if (rows[i])
			octavo_draft_head_rest(e, &h->head[i].out, h->x + h->first[i] * hidden, rows[i], h->draftable + h->first[i],
			                       e->mtp_logits + h->first[i] * vocab);
	octavo_phase_end(e->profiler, OCTAVO_PHASE_HEAD);
	octavo_fpenv_leave(saved);
}

const float *octavo_heads_logits(const struct octavo_drafting *d, size_t i)
{
	const struct octavo_heads_drafter *drafter = (const struct octavo_heads_drafter *)d->drafter;
	const struct octavo_engine *e = drafter->engine;
	return e->mtp_logits + (drafter->heads->first[i] + d->share.result) * e->config.vocab;
}
