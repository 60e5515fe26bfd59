/* SPDX-License-Identifier: Apache-2.0
 *
 * Mixture of experts, in two parallel regions.  The first makes down's left operands: a task has some columns of some
 * experts' gate and up, and takes them through SiLU, product and rounding while they are in its caches.  The second
 * makes y: a task has some columns of y, and goes through the experts in ascending order, so that it can add each one's
 * share as soon as it has it.
 *
 * The (row, expert) pairs lie sorted by expert, then by row.  Results go back to each row in ascending expert id, the
 * shared expert last, whatever else was in the batch.
 */
#include "fp8/arena.h"
#include "kernels/driver.h"
#include "kernels/fpenv.h"
#include "kernels/line.h"

#include <string.h>

/* Making left operands is short: a parallel region pays only for a prompt's many rows. */
enum { MANY_ROWS = 16 };

struct sizes {
	size_t rows, experts, top_k, hidden, width, shared_width;
};

/* Left operands of one kind of product. */
struct left {
	uint16_t *x;  /* [rows][cols] bf16 */
	float *scale; /* [rows][groups of cols] */
};

struct work {
	const struct octavo_kernels *k;
	const struct octavo_moe *m;
	struct sizes size;
	size_t active;           /* experts that have rows */
	uint32_t *expert;        /* [active] ascending */
	uint32_t *first;         /* [experts + 1] first pair of each */
	uint32_t *pair;          /* [pairs] row * top_k + choice, in sorted order */
	uint32_t *place;         /* [rows][top_k] the other way round */
	struct left own, shared; /* rows as they came, for the experts and for the shared one */
	struct left gathered;    /* [pairs][hidden] */
	float *gate, *up;        /* [pairs][width], then [rows][shared_width] */
	struct left act;         /* the same: down's */
	float *out;              /* [rows][hidden] down of one expert, each task in its columns */
};

static size_t groups(size_t cols)
{
	return cols / OCTAVO_BLOCK + (cols % OCTAVO_BLOCK != 0);
}

static size_t times(struct octavo_arena *a, size_t x, size_t y)
{
	size_t product;
	a->overflow |= __builtin_mul_overflow(x, y, &product);
	return product;
}

static size_t plus(struct octavo_arena *a, size_t x, size_t y)
{
	size_t sum;
	a->overflow |= __builtin_add_overflow(x, y, &sum);
	return sum;
}

static void carve_left(struct octavo_arena *a, struct left *l, size_t values, size_t scales)
{
	l->x = octavo_carve(a, values, sizeof *l->x);
	l->scale = octavo_carve(a, scales, sizeof *l->scale);
}

static void carve(struct octavo_arena *a, struct work *w)
{
	const struct sizes *s = &w->size;
	size_t pairs = times(a, s->rows, s->top_k), hidden = times(a, s->rows, s->hidden);
	size_t values = plus(a, times(a, pairs, s->width), times(a, s->rows, s->shared_width));
	size_t scales = plus(a, times(a, pairs, groups(s->width)), times(a, s->rows, groups(s->shared_width)));
	w->expert = octavo_carve(a, s->experts, sizeof *w->expert);
	w->first = octavo_carve(a, s->experts + 1, sizeof *w->first);
	w->pair = octavo_carve(a, pairs, sizeof *w->pair);
	w->place = octavo_carve(a, pairs, sizeof *w->place);
	carve_left(a, &w->own, hidden, times(a, s->rows, groups(s->hidden)));
	carve_left(a, &w->shared, hidden, times(a, s->rows, groups(s->hidden)));
	carve_left(a, &w->gathered, times(a, pairs, s->hidden), times(a, pairs, groups(s->hidden)));
	w->gate = octavo_carve(a, values, sizeof *w->gate);
	w->up = octavo_carve(a, values, sizeof *w->up);
	carve_left(a, &w->act, values, scales);
	w->out = octavo_carve(a, hidden, sizeof *w->out);
}

static size_t scratch_for(const struct sizes *size)
{
	struct octavo_arena a = {0};
	struct work w = {.size = *size};
	carve(&a, &w);
	a.used = plus(&a, a.used, OCTAVO_ALIGNMENT);
	return a.overflow ? SIZE_MAX : a.used;
}

size_t octavo_moe_scratch(size_t rows, size_t experts, size_t top_k, size_t hidden, size_t width, size_t shared_width)
{
	struct sizes size = {rows, experts, top_k, hidden, width, shared_width};
	return experts > OCTAVO_MAX_EXPERTS ? SIZE_MAX : scratch_for(&size);
}

/* ---- Checks ----------------------------------------------------------------------------------------------- */

static int is_fp8(const struct octavo_matrix *w)
{
	return w->dtype == OCTAVO_E4M3 || w->dtype == OCTAVO_E5M2;
}

static enum octavo_status check_matrix(const struct octavo_moe *m, const struct octavo_matrix *w, size_t rows,
                                       size_t cols)
{
	if (!w->data || w->rows != rows || w->cols != cols || w->ld < cols)
		return OCTAVO_EINVAL;
	/* As for single products: a group of x has one scale of w. */
	if (m->quantise && is_fp8(w) && (w->scale_dtype == OCTAVO_NONE || w->col0))
		return OCTAVO_EINVAL;
	return m->checked ? OCTAVO_OK : octavo_matrix_check(w);
}

static enum octavo_status check_mlp(const struct octavo_moe *m, const struct octavo_mlp *p, size_t hidden, size_t width)
{
	if (is_fp8(&p->gate) != is_fp8(&p->up))
		return OCTAVO_EINVAL;
	enum octavo_status status = check_matrix(m, &p->gate, width, hidden);
	if (status == OCTAVO_OK)
		status = check_matrix(m, &p->up, width, hidden);
	if (status == OCTAVO_OK)
		status = check_matrix(m, &p->down, hidden, width);
	return status;
}

static enum octavo_status check_choices(const struct octavo_moe *m)
{
	for (size_t row = 0; row < m->rows; row++) {
		const uint32_t *chosen = m->chosen + row * m->top_k;
		for (size_t i = 0; i < m->top_k; i++)
			if (chosen[i] >= m->experts || (i && chosen[i] <= chosen[i - 1]))
				return OCTAVO_EINVAL;
	}
	return OCTAVO_OK;
}

/* The experts that are chosen, against the first of them: the others are not looked at. */
static enum octavo_status check_experts(const struct work *w)
{
	const struct octavo_moe *m = w->m;
	const struct octavo_mlp *one = &m->expert[w->expert[0]];
	for (size_t i = 0; i < w->active; i++) {
		const struct octavo_mlp *p = &m->expert[w->expert[i]];
		if (is_fp8(&p->gate) != is_fp8(&one->gate) || is_fp8(&p->down) != is_fp8(&one->down))
			return OCTAVO_EINVAL;
		enum octavo_status status = check_mlp(m, p, w->size.hidden, w->size.width);
		if (status != OCTAVO_OK)
			return status;
	}
	return m->shared ? check_mlp(m, m->shared, w->size.hidden, w->size.shared_width) : OCTAVO_OK;
}

static enum octavo_status check_arguments(const struct octavo_kernels *table, const struct octavo_moe *m)
{
	if (!table || !m || !m->expert || !m->scratch || !octavo_is_array(m->x, sizeof *m->x) ||
	    !octavo_is_array(m->chosen, sizeof *m->chosen) || !octavo_is_array(m->weight, sizeof *m->weight) ||
	    !octavo_is_array(m->y, sizeof *m->y))
		return OCTAVO_EINVAL;
	/* The sorted pairs are numbered in 32 bits. */
	if (!m->top_k || m->top_k > m->experts || m->experts > OCTAVO_MAX_EXPERTS || m->rows > UINT32_MAX / m->top_k)
		return OCTAVO_EINVAL;
	return check_choices(m);
}

/* ---- Sorting ------------------------------------------------------------------------------------------------ */

/* Counting sort of the pairs by expert. */
static void sort_pairs(struct work *w)
{
	const struct octavo_moe *m = w->m;
	size_t pairs = m->rows * m->top_k;
	uint32_t *first = w->first;
	memset(first, 0, (m->experts + 1) * sizeof *first);
	for (size_t i = 0; i < pairs; i++)
		first[m->chosen[i] + 1]++;
	w->active = 0;
	for (size_t x = 0; x < m->experts; x++) {
		if (first[x + 1])
			w->expert[w->active++] = (uint32_t)x;
		first[x + 1] += first[x];
	}
	/* Place the pairs with first[] as running cursors, then shift it back. */
	for (size_t i = 0; i < pairs; i++) {
		w->place[i] = first[m->chosen[i]]++;
		w->pair[w->place[i]] = (uint32_t)i;
	}
	memmove(first + 1, first, m->experts * sizeof *first);
	first[0] = 0;
}

/* ---- The parts: an expert with its rows, and behind the last one the shared expert with all ------------------- */

struct part {
	const struct octavo_mlp *mlp;
	size_t rows, width;
	size_t values, scales; /* of gate, up and act before this part's */
	struct octavo_rows x;  /* left operand of gate and up */
	int quantised;         /* whether down's is */
	const uint32_t *pair;  /* [rows]; NULL: row i is row i, with weight 1 */
};

static int quantises(const struct work *w, const struct octavo_matrix *matrix)
{
	return w->m->quantise && is_fp8(matrix);
}

/* Rows [first, first + rows) of l, each `cols` wide; in l they lie behind `values` values and `scales` scales. */
static struct octavo_rows rows_of(struct left l, size_t values, size_t scales, size_t rows, size_t cols, int quantised)
{
	return (struct octavo_rows){.x = l.x + values,
	                            .rows = rows,
	                            .ld = cols,
	                            .scale = quantised ? l.scale + scales : NULL,
	                            .scale_ld = quantised ? groups(cols) : 0};
}

static struct part part_of(const struct work *w, size_t item)
{
	const struct sizes *s = &w->size;
	int is_shared = item == w->active;
	size_t expert = is_shared ? s->experts : w->expert[item], first = w->first[expert];
	size_t at = is_shared ? 0 : first;
	const struct octavo_mlp *mlp = is_shared ? w->m->shared : &w->m->expert[expert];
	struct part p = {.mlp = mlp,
	                 .rows = is_shared ? s->rows : w->first[expert + 1] - first,
	                 .width = is_shared ? s->shared_width : s->width,
	                 .values = first * s->width,
	                 .scales = first * groups(s->width),
	                 .quantised = quantises(w, &mlp->down),
	                 .pair = is_shared ? NULL : w->pair + first};
	p.x = rows_of(is_shared ? w->shared : w->gathered, at * s->hidden, at * groups(s->hidden), p.rows, s->hidden,
	              quantises(w, &mlp->gate));
	return p;
}

static size_t parts(const struct work *w)
{
	return w->active + (w->m->shared != NULL);
}

/* ---- Left operands of gate and up ------------------------------------------------------------------------------- */

/* F32 [cols] to a row of a left operand. */
static void make_left(const struct work *w, const float *x, size_t cols, int quantised, uint16_t *y, float *scale)
{
	if (quantised)
		w->k->quantise->run(y, scale, x, cols, w->m->rule);
	else
		w->k->round->run(y, x, cols);
}

/* Row `row` for the experts that it chose, and for the shared one. */
static void left_row(void *arg, size_t row)
{
	const struct work *w = arg;
	const struct octavo_moe *m = w->m;
	size_t hidden = w->size.hidden, scales = groups(hidden);
	const float *x = m->x + row * hidden;
	uint16_t *own = w->own.x + row * hidden;
	float *scale = w->own.scale + row * scales;
	octavo_fpenv caller = octavo_fpenv_enter();
	int quantised = quantises(w, &m->expert[w->expert[0]].gate);
	make_left(w, x, hidden, quantised, own, scale);
	for (size_t i = row * m->top_k; i < (row + 1) * m->top_k; i++) {
		memcpy(w->gathered.x + w->place[i] * hidden, own, hidden * sizeof *own);
		if (quantised)
			memcpy(w->gathered.scale + w->place[i] * scales, scale, scales * sizeof *scale);
	}
	if (m->shared && w->shared.x != w->own.x)
		make_left(w, x, hidden, quantises(w, &m->shared->gate), w->shared.x + row * hidden,
		          w->shared.scale + row * scales);
	octavo_fpenv_leave(caller);
}

static void make_lefts(struct work *w, const struct octavo_parallel *parallel)
{
	const struct octavo_moe *m = w->m;
	if (m->shared && quantises(w, &m->shared->gate) == quantises(w, &m->expert[w->expert[0]].gate))
		w->shared = w->own;
	if (parallel && m->rows >= MANY_ROWS) {
		parallel->run(parallel->context, m->rows, left_row, w);
		return;
	}
	for (size_t row = 0; row < m->rows; row++)
		left_row(w, row);
}

/* ---- Gate, up, SiLU --------------------------------------------------------------------------------------------- */

/* Columns that are never cut apart: whole ones of both products, and whole groups where down's operand is quantised. */
static size_t gate_unit(const struct work *w, const struct part *p)
{
	size_t gate = octavo_gemm_unit(w->k, &p->mlp->gate), up = octavo_gemm_unit(w->k, &p->mlp->up);
	size_t unit = gate > up ? gate : up;
	return p->quantised ? groups(unit) * OCTAVO_BLOCK : unit;
}

static double element_bytes(const struct octavo_matrix *w)
{
	return (double)octavo_dtype_size(w->dtype);
}

static struct octavo_stretch gate_stretch(const void *work, size_t item)
{
	const struct work *w = work;
	struct part p = part_of(w, item);
	size_t unit = gate_unit(w, &p);
	double weights = (double)unit * (double)w->size.hidden, rows = (double)p.rows;
	return (struct octavo_stretch){p.width / unit + (p.width % unit != 0),
	                               octavo_line_cost(weights, element_bytes(&p.mlp->gate), rows) +
	                                       octavo_line_cost(weights, element_bytes(&p.mlp->up), rows)};
}

static void gate_run(const void *work, size_t task, size_t item, size_t first, size_t end)
{
	const struct work *w = work;
	struct part p = part_of(w, item);
	(void)task;
	size_t unit = gate_unit(w, &p), n0 = first * unit, n1 = end * unit < p.width ? end * unit : p.width;
	float *gate = w->gate + p.values, *up = w->up + p.values;
	octavo_gemm_slot(w->k, &p.mlp->gate)->run(&p.mlp->gate, n0, n1, &p.x, gate, p.width);
	octavo_gemm_slot(w->k, &p.mlp->up)->run(&p.mlp->up, n0, n1, &p.x, up, p.width);
	for (size_t row = 0; row < p.rows; row++) {
		size_t at = row * p.width + n0, scale = p.scales + row * groups(p.width) + n0 / OCTAVO_BLOCK;
		w->k->swiglu->run(gate + at, gate + at, up + at, n1 - n0);
		make_left(w, gate + at, n1 - n0, p.quantised, w->act.x + p.values + at, w->act.scale + scale);
	}
}

/* ---- Down, and the weighted sum --------------------------------------------------------------------------------- */

static size_t down_unit(const struct work *w)
{
	size_t unit = octavo_gemm_unit(w->k, &w->m->expert[w->expert[0]].down);
	size_t other = w->m->shared ? octavo_gemm_unit(w->k, &w->m->shared->down) : 0;
	return other > unit ? other : unit;
}

/* One item: the columns of y, with all that they need. */
static struct octavo_stretch down_stretch(const void *work, size_t item)
{
	const struct work *w = work;
	size_t unit = down_unit(w), hidden = w->size.hidden;
	double cost = 0;
	(void)item;
	for (size_t i = 0; i < parts(w); i++) {
		struct part p = part_of(w, i);
		cost += octavo_line_cost((double)unit * (double)p.width, element_bytes(&p.mlp->down), (double)p.rows);
	}
	return (struct octavo_stretch){hidden / unit + (hidden % unit != 0), cost};
}

static void down_run(const void *work, size_t task, size_t item, size_t first, size_t end)
{
	const struct work *w = work;
	const struct octavo_moe *m = w->m;
	size_t unit = down_unit(w), hidden = w->size.hidden, n0 = first * unit;
	size_t n1 = end * unit < hidden ? end * unit : hidden;
	(void)task;
	(void)item;
	for (size_t row = 0; row < m->rows; row++)
		memset(m->y + row * hidden + n0, 0, (n1 - n0) * sizeof *m->y);
	for (size_t i = 0; i < parts(w); i++) {
		struct part p = part_of(w, i);
		struct octavo_rows act = rows_of(w->act, p.values, p.scales, p.rows, p.width, p.quantised);
		octavo_gemm_slot(w->k, &p.mlp->down)->run(&p.mlp->down, n0, n1, &act, w->out, hidden);
		for (size_t row = 0; row < p.rows; row++) {
			size_t to = p.pair ? p.pair[row] / m->top_k : row;
			float weight = p.pair ? m->weight[p.pair[row]] : 1.0f;
			w->k->axpy->run(m->y + to * hidden + n0, w->out + row * hidden + n0, weight, n1 - n0);
		}
	}
}

/* ---- The driver -------------------------------------------------------------------------------------------------- */

enum octavo_status octavo_moe_run(const struct octavo_kernels *table, const struct octavo_parallel *parallel,
                                  const struct octavo_moe *m)
{
	enum octavo_status status = octavo_can_run(parallel) ? check_arguments(table, m) : OCTAVO_EINVAL;
	if (status != OCTAVO_OK || !m->rows)
		return status;
	const struct octavo_mlp *one = &m->expert[m->chosen[0]];
	struct work w = {.k = table,
	                 .m = m,
	                 .size = {m->rows, m->experts, m->top_k, one->gate.cols, one->gate.rows,
	                          m->shared ? m->shared->gate.rows : 0}};
	struct octavo_arena a = {.base = octavo_aligned(m->scratch)};
	if (!w.size.hidden || !w.size.width || (m->shared && !w.size.shared_width) || scratch_for(&w.size) == SIZE_MAX)
		return OCTAVO_EINVAL;
	carve(&a, &w);
	sort_pairs(&w);
	status = check_experts(&w);
	if (status != OCTAVO_OK)
		return status;
	make_lefts(&w, parallel);
	struct octavo_line gate = {.work = &w, .count = parts(&w), .stretch = gate_stretch, .run = gate_run};
	struct octavo_line down = {.work = &w, .count = 1, .stretch = down_stretch, .run = down_run};
	octavo_line_run(&gate, parallel);
	octavo_line_run(&down, parallel);
	return OCTAVO_OK;
}
