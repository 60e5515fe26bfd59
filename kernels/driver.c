/* SPDX-License-Identifier: Apache-2.0
 *
 * The GEMM drivers: check the arguments, cut the work (kernels/line.h), run the slices.  Where the cuts fall never
 * changes a bit: no output is shared.
 */
#include "kernels/driver.h"
#include "kernels/fpenv.h"
#include "kernels/line.h"

/* ---- checks --------------------------------------------------------------------------------------------- */

/* `in` is the width that the product reads of x, `out` the width that it writes to y. */
static enum octavo_status check_product(const struct octavo_product *p, size_t in, size_t out)
{
	const struct octavo_matrix *w = p->w;
	size_t groups = in / OCTAVO_BLOCK + (in % OCTAVO_BLOCK != 0);

	if (!w->data || w->ld < w->cols || !octavo_is_array(p->x.x, sizeof *p->x.x) ||
	    !octavo_is_array(p->y, sizeof *p->y))
		return OCTAVO_EINVAL;
	if (!octavo_addressable(p->x.rows, p->x.ld, in, sizeof *p->x.x) ||
	    !octavo_addressable(p->x.rows, p->ldy, out, sizeof *p->y))
		return OCTAVO_EINVAL;
	/* With col0 a piece of w could straddle two groups of x: one product of scales would not do. */
	if (p->x.scale && (w->scale_dtype == OCTAVO_NONE || w->col0 != 0 ||
	                   !octavo_is_array(p->x.scale, sizeof *p->x.scale) ||
	                   !octavo_addressable(p->x.rows, p->x.scale_ld, groups, sizeof *p->x.scale)))
		return OCTAVO_EINVAL;
	return p->checked ? OCTAVO_OK : octavo_matrix_check(w);
}

static enum octavo_status check_group(const struct octavo_product *product, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct octavo_product *p = &product[i];
		if (p->x.rows == 0)
			continue;
		if (!p->w)
			return OCTAVO_EINVAL;
		enum octavo_status status = check_product(p, p->w->cols, p->w->rows);
		if (status)
			return status;
	}
	return OCTAVO_OK;
}

/* ---- groups --------------------------------------------------------------------------------------------- */

struct group {
	const struct octavo_kernels *table;
	const struct octavo_product *product;
};

static struct octavo_stretch stretch(const void *work, size_t item)
{
	const struct group *g = work;
	const struct octavo_product *p = &g->product[item];
	if (!p->x.rows)
		return (struct octavo_stretch){0};
	size_t unit = octavo_gemm_unit(g->table, p->w), rows = p->w->rows;
	double weights = (double)unit * (double)p->w->cols, bytes = (double)octavo_dtype_size(p->w->dtype);

	return (struct octavo_stretch){rows / unit + (rows % unit != 0),
	                               octavo_line_cost(weights, bytes, (double)p->x.rows)};
}

static void run_slice(const void *work, size_t task, size_t item, size_t first, size_t end)
{
	(void)task;
	const struct group *g = work;
	const struct octavo_product *p = &g->product[item];
	size_t unit = octavo_gemm_unit(g->table, p->w), n1 = end * unit < p->w->rows ? end * unit : p->w->rows;

	octavo_gemm_slot(g->table, p->w)->run(p->w, first * unit, n1, &p->x, p->y, p->ldy);
}

enum octavo_status octavo_gemm_group(const struct octavo_kernels *table, const struct octavo_parallel *parallel,
                                     const struct octavo_product *product, size_t count)
{
	if (!table || !octavo_can_run(parallel) || (!product && count > 0))
		return OCTAVO_EINVAL;
	enum octavo_status status = check_group(product, count);
	if (status)
		return status;
	struct group g = {table, product};
	struct octavo_line line = {.work = &g, .count = count, .stretch = stretch, .run = run_slice};
	octavo_line_run(&line, parallel);
	return OCTAVO_OK;
}

enum octavo_status octavo_gemm(const struct octavo_kernels *table, const struct octavo_parallel *parallel,
                               const struct octavo_matrix *w, const struct octavo_rows *x, float *y, size_t ldy)
{
	if (!w || !x)
		return OCTAVO_EINVAL;
	struct octavo_product product = {.w = w, .x = *x, .y = y, .ldy = ldy};
	return octavo_gemm_group(table, parallel, &product, 1);
}

enum octavo_status octavo_gemm_transposed(const struct octavo_kernels *table, const struct octavo_matrix *w,
                                          const struct octavo_rows *x, float *y, size_t ldy)
{
	if (!table || !w || !x || x->scale)
		return OCTAVO_EINVAL;
	if (x->rows == 0)
		return OCTAVO_OK;
	struct octavo_product product = {.w = w, .x = *x, .y = y, .ldy = ldy};
	enum octavo_status status = check_product(&product, w->rows, w->cols);
	if (status)
		return status;

	octavo_fpenv caller = octavo_fpenv_enter();
	table->gemm_t->run(w, 0, w->cols, x, y, ldy);
	octavo_fpenv_leave(caller);
	return OCTAVO_OK;
}
