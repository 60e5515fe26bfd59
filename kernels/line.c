/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/line.h"

#include "kernels/fpenv.h"

#define TASKS_PER_THREAD 4
/* The multiply-adds that pass while a byte of weights arrives. */
#define COST_PER_BYTE 8
/* Below this much, handing a task over costs more than sharing it gains (some ten microseconds). */
#define LEAST_COST 500000

double octavo_line_cost(double weights, double bytes, double rows)
{
	return weights * (COST_PER_BYTE * bytes + rows);
}

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
	const struct octavo_line *line = arg;
	octavo_fpenv caller = octavo_fpenv_enter();
	double from = line->cost * (double)task / (double)line->tasks;
	double to = line->cost * (double)(task + 1) / (double)line->tasks;
	double start = 0;

	for (size_t i = 0; i < line->count && start < to; i++) {
		struct octavo_stretch s = line->stretch(line->work, i);
		if (s.units == 0)
			continue;
		size_t first = unit_at(from, start, s.cost, s.units);
		/* The last task takes all that is left, however the divisions rounded. */
		size_t end = task + 1 == line->tasks ? s.units : unit_at(to, start, s.cost, s.units);
		if (first < end)
			line->run(line->work, task, i, first, end);
		start += s.cost * (double)s.units;
	}
	octavo_fpenv_leave(caller);
}

static size_t tasks_for(const struct octavo_line *line, const struct octavo_parallel *parallel)
{
	size_t most = parallel && parallel->threads > 1 ? parallel->threads * TASKS_PER_THREAD : 1;

	if (line->most && line->most < most)
		most = line->most;
	return line->cost < LEAST_COST * (double)most ? (size_t)(line->cost / LEAST_COST) + 1 : most;
}

void octavo_line_run(struct octavo_line *line, const struct octavo_parallel *parallel)
{
	line->cost = 0;
	for (size_t i = 0; i < line->count; i++) {
		struct octavo_stretch s = line->stretch(line->work, i);
		line->cost += s.cost * (double)s.units;
	}
	if (line->cost == 0)
		return;
	line->tasks = tasks_for(line, parallel);
	if (parallel && line->tasks > 1)
		parallel->run(parallel->context, line->tasks, run_task, line);
	else
		for (size_t task = 0; task < line->tasks; task++)
			run_task(line, task);
}
