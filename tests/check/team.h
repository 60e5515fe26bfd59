/* SPDX-License-Identifier: Apache-2.0
 *
 * A parallel_for of threads, as an embedding engine might bring.
 */
#ifndef OCTAVO_CHECK_TEAM_H
#define OCTAVO_CHECK_TEAM_H

#include "octavo_kernels.h"

#include <stdbool.h>

struct team {
	size_t threads;
	bool hostile;
	size_t damaged; /* tasks that left another control register than they found */
	size_t failed;  /* threads that could not be started; the others do their work */
};

/* octavo_parallel's `run`, with a team as its context. */
void team_run(void *context, size_t tasks, octavo_task_fn *fn, void *arg);

#endif
