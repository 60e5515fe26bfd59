/* SPDX-License-Identifier: Apache-2.0
 *
 * The GEMM drivers: check the arguments, cut the work, run the slices.
 *
 * The products of a group are laid end to end on one line, measured in cost; each task takes an equal part of
 * the line, whole units of output columns.  So sixteen small experts and one large matrix keep every thread
 * equally busy in one parallel region.  Where the cuts fall never changes a bit: no output is shared.
 */
#include "kernels/fpenv.h"
#include "octavo_kernels.h"

/* Tasks per thread: enough that a thread that was interrupted does not hold up the others for long. */
#define TASKS_PER_THREAD 4
/* Cost is in multiply-adds plus the bytes of a weight row counted as the multiply-adds that pass while they
 * arrive.  Below this much, handing a task over costs more than sharing it gains (some ten microseconds). */
#define COST_PER_BYTE 8
#define LEAST_COST 500000
/* Outputs are cut at whole cache lines of y, 16 floats. */
#define LINE 16

static size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static const struct octavo_gemm_kernel *kernel_for(const struct octavo_kernels *table, enum octavo_dtype dtype)
{
	switch (dtype) {
	case OCTAVO_BF16:
	case OCTAVO_F16:
		return table->gemm_bf16;
	case OCTAVO_F32:
		return table->gemm_f32;
	default:
		return table->gemm_fp8;
	}
}

/* ---- checks --------------------------------------------------------------------------------------------- */

/* Can [rows][ld] elements of `size` bytes be addressed, with ld at least `width`? */
static int addressable(size_t rows, size_t ld, size_t width, size_t size)
{
	return ld >= width && width > 0 && rows <= SIZE_MAX / size / ld;
}

/* `in` is the width that the product reads of x, `out` the width that it writes to y. */
static enum octavo_status check_product(const struct octavo_product *p, size_t in, size_t out)
{
	const struct octavo_matrix *w = p->w;
	size_t groups = in / OCTAVO_BLOCK + (in % OCTAVO_BLOCK != 0);

	if (!w->data || !p->x.x || !p->y || w->ld < w->cols)
		return OCTAVO_EINVAL;
	if (!addressable(p->x.rows, p->x.ld, in, sizeof *p->x.x) || !addressable(p->x.rows, p->ldy, out, sizeof *p->y))
		return OCTAVO_EINVAL;
	/* With col0 a piece of w could straddle two groups of x: one product of scales would not do. */
	if (p->x.scale && (w->scale_dtype == OCTAVO_NONE || w->col0 != 0 ||
	                   !addressable(p->x.rows, p->x.scale_ld, groups, sizeof *p->x.scale)))
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

/* ---- the line of cost ----------------------------------------------------------------------------------- */

/* Columns of output that are never cut apart: whole granules, whole lines. */
static size_t unit_of(const struct octavo_kernels *table, const struct octavo_product *p)
{
	size_t granule = kernel_for(table, p->w->dtype)->granule;

	return (granule + LINE - 1) / LINE * LINE;
}

static size_t units_in(const struct octavo_kernels *table, const struct octavo_product *p)
{
	size_t unit = unit_of(table, p);

	return p->x.rows ? p->w->rows / unit + (p->w->rows % unit != 0) : 0;
}

static double unit_cost(const struct octavo_kernels *table, const struct octavo_product *p)
{
	double weights = (double)unit_of(table, p) * (double)p->w->cols;
	double bytes = (double)octavo_dtype_size(p->w->dtype);

	return weights * (COST_PER_BYTE * bytes + (double)p->x.rows);
}

struct group {
	const struct octavo_kernels *table;
	const struct octavo_product *product;
	size_t count, tasks;
	double cost;
};

/* The first of `units` units, each `cost` long and the first at `start`, that begins at or behind `at`. */
static size_t unit_at(double at, double start, double cost, size_t units)
{
	if (at <= start)
		return 0;
	double unit = (at - start) / cost;
	if (unit >= (double)units)
		return units;
	size_t whole = (size_t)unit;
	return whole + ((double)whole < unit);
}

static void run_task(void *arg, size_t task)
{
	const struct group *g = arg;
	octavo_fpenv caller = octavo_fpenv_enter();
	double from = g->cost * (double)task / (double)g->tasks;
	double to = g->cost * (double)(task + 1) / (double)g->tasks;
	double start = 0;

	for (size_t i = 0; i < g->count && start < to; i++) {
		const struct octavo_product *p = &g->product[i];
		size_t units = units_in(g->table, p);
		if (units == 0)
			continue;
		double cost = unit_cost(g->table, p);
		size_t unit = unit_of(g->table, p);
		size_t first = unit_at(from, start, cost, units);
		/* The last task takes all that is left, however the divisions rounded. */
		size_t end = task + 1 == g->tasks ? units : unit_at(to, start, cost, units);
		if (first < end)
			kernel_for(g->table, p->w->dtype)
			        ->run(p->w, first * unit, min(end * unit, p->w->rows), &p->x, p->y, p->ldy);
		start += cost * (double)units;
	}
	octavo_fpenv_leave(caller);
}

static size_t tasks_for(double cost, const struct octavo_parallel *parallel)
{
	size_t most = parallel && parallel->threads > 1 ? parallel->threads * TASKS_PER_THREAD : 1;

	return cost < LEAST_COST * (double)most ? (size_t)(cost / LEAST_COST) + 1 : most;
}

enum octavo_status octavo_gemm_group(const struct octavo_kernels *table, const struct octavo_parallel *parallel,
                                     const struct octavo_product *product, size_t count)
{
	struct group g = {.table = table, .product = product, .count = count};

	if (!table || (!product && count > 0))
		return OCTAVO_EINVAL;
	enum octavo_status status = check_group(product, count);
	if (status)
		return status;

	for (size_t i = 0; i < count; i++)
		if (product[i].x.rows > 0)
			g.cost += unit_cost(table, &product[i]) * (double)units_in(table, &product[i]);
	if (g.cost == 0)
		return OCTAVO_OK;
	g.tasks = tasks_for(g.cost, parallel);
	if (parallel && g.tasks > 1)
		parallel->run(parallel->context, g.tasks, run_task, &g);
	else
		for (size_t task = 0; task < g.tasks; task++)
			run_task(&g, task);
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
