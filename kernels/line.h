/* SPDX-License-Identifier: Apache-2.0
 *
 * Cutting unlike pieces of work over threads.  The items are laid end to end on one line, measured in cost; each task
 * takes an equal part of the line, whole units of an item.  So sixteen small experts and one large matrix keep every
 * thread equally busy in one parallel region.
 */
#ifndef OCTAVO_LINE_H
#define OCTAVO_LINE_H

#include "octavo_kernels.h"

/* An item: so many units that are never cut apart, and what one of them costs: multiply-adds, with the bytes of weights
 * counted by octavo_line_cost. */
struct octavo_stretch {
	size_t units;
	double cost;
};

struct octavo_line {
	const void *work;
	size_t count; /* items */
	struct octavo_stretch (*stretch)(const void *work, size_t item);
	/* Units [first, end) of one item, in the contract's floating-point environment; items come in ascending order
	 * within a task, and `task` may have scratch of its own. */
	void (*run)(const void *work, size_t task, size_t item, size_t first, size_t end);
	size_t most; /* tasks; 0: some per thread, so that one that was interrupted does not hold up the others for long */
	/* Set by octavo_line_run. */
	double cost;
	size_t tasks;
};

/* Runs all of it; `parallel` NULL: serially. */
void octavo_line_run(struct octavo_line *line, const struct octavo_parallel *parallel);

/* Of `weights` elements of `bytes` each, times `rows` rows. */
double octavo_line_cost(double weights, double bytes, double rows);

#endif
