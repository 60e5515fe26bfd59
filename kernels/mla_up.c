/* SPDX-License-Identifier: Apache-2.0
 *
 * MLA's up-projection, cut over heads and tokens: a piece is some tokens of one head, so that a head's slice of kv_b is
 * read from memory once and stays in a core's cache.
 */
#include "kernels/driver.h"
#include "kernels/line.h"

#include <string.h>

enum { TOKENS = 64, COLUMNS = OCTAVO_BLOCK }; /* of a product: what lies on the stack in between */

struct work {
	const struct octavo_kernels *k;
	const struct octavo_mla_up *up;
};

/* Columns [0, count) of tokens [first, first + tokens): rows [n, n + count) of kv_b; y [tokens][ldy] bf16. */
static void project(const struct work *w, size_t n, size_t count, size_t first, size_t tokens, uint16_t *y, size_t ldy)
{
	const struct octavo_mla_up *up = w->up;
	struct octavo_rows x = {.x = up->cache + first * up->ld, .rows = tokens, .ld = up->ld};
	float product[TOKENS * COLUMNS];
	for (size_t at = 0; at < count; at += COLUMNS) {
		size_t columns = count - at < COLUMNS ? count - at : COLUMNS;
		struct octavo_matrix slice = octavo_matrix_view(up->kv_b, n + at, columns, 0, up->kv_b->cols);
		octavo_gemm_slot(w->k, &slice)->run(&slice, 0, columns, &x, product, columns);
		for (size_t i = 0; i < tokens; i++)
			w->k->round->run(y + i * ldy + at, product + i * columns, columns);
	}
}

static struct octavo_stretch stretch(const void *work, size_t head)
{
	const struct octavo_mla_up *up = ((const struct work *)work)->up;
	double weights = (double)(up->nope + up->v_dim) * (double)up->kv_b->cols;
	(void)head;
	return (struct octavo_stretch){up->tokens / TOKENS + (up->tokens % TOKENS != 0),
	                               octavo_line_cost(weights, (double)octavo_dtype_size(up->kv_b->dtype), TOKENS)};
}

static void run_head(const void *work, size_t task, size_t head, size_t first, size_t end)
{
	(void)task;
	const struct work *w = work;
	const struct octavo_mla_up *up = w->up;
	size_t key = up->nope + up->rope, n = head * (up->nope + up->v_dim), last = end * TOKENS;
	last = last < up->tokens ? last : up->tokens;
	for (size_t token = first * TOKENS, tokens; token < last; token += tokens) {
		tokens = last - token < TOKENS ? last - token : TOKENS;
		uint16_t *keys = up->keys + (head * up->tokens + token) * key;
		project(w, n, up->nope, token, tokens, keys, key);
		for (size_t i = 0; i < tokens; i++)
			memcpy(keys + i * key + up->nope, up->cache + (token + i) * up->ld + up->kv_b->cols,
			       up->rope * sizeof *keys);
		project(w, n + up->nope, up->v_dim, token, tokens, up->values + (head * up->tokens + token) * up->v_dim,
		        up->v_dim);
	}
}

static enum octavo_status check(const struct octavo_kernels *table, const struct octavo_mla_up *up)
{
	size_t width, rows, key, cached;
	if (!table || !up || !up->kv_b || !up->kv_b->data || !octavo_is_array(up->cache, sizeof *up->cache) ||
	    !octavo_is_array(up->keys, sizeof *up->keys) || !octavo_is_array(up->values, sizeof *up->values))
		return OCTAVO_EINVAL;
	const struct octavo_matrix *w = up->kv_b;
	if (!up->heads || !up->nope || !up->v_dim || !w->cols || w->ld < w->cols ||
	    __builtin_add_overflow(up->nope, up->v_dim, &width) || __builtin_mul_overflow(up->heads, width, &rows) ||
	    rows != w->rows || __builtin_add_overflow(up->nope, up->rope, &key) ||
	    __builtin_add_overflow(w->cols, up->rope, &cached))
		return OCTAVO_EINVAL;
	size_t widest = key > up->v_dim ? key : up->v_dim, all;
	if (!octavo_addressable(up->tokens, up->ld, cached, sizeof *up->cache) ||
	    __builtin_mul_overflow(up->heads, up->tokens, &all) ||
	    !octavo_addressable(all, widest, widest, sizeof *up->keys))
		return OCTAVO_EINVAL;
	return up->checked ? OCTAVO_OK : octavo_matrix_check(w);
}

enum octavo_status octavo_mla_up_run(const struct octavo_kernels *table, const struct octavo_parallel *parallel,
                                     const struct octavo_mla_up *up)
{
	enum octavo_status status = octavo_can_run(parallel) ? check(table, up) : OCTAVO_EINVAL;
	if (status != OCTAVO_OK)
		return status;
	struct work w = {table, up};
	struct octavo_line line = {.work = &w, .count = up->heads, .stretch = stretch, .run = run_head};
	octavo_line_run(&line, parallel);
	return OCTAVO_OK;
}
