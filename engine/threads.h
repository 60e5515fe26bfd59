/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's way to run tasks: OpenMP or the caller's pool, with the arithmetic's floating-point
 * environment and the profiler's phase carried to every worker.
 */
#ifndef OCTAVO_THREADS_H
#define OCTAVO_THREADS_H

#include "octavo_kernels.h"
#include "octavo_profiler.h"

struct octavo_threads {
	struct octavo_parallel outer; /* the caller's; run NULL: OpenMP */
	struct octavo_profiler *profiler;
	struct octavo_parallel parallel; /* what the engine and the kernels' drivers use */
};

/* `threads` 0: all processors that this process may run on.  The object must stay where it is. */
void octavo_threads_init(struct octavo_threads *t, unsigned threads, const struct octavo_parallel *outer,
                         struct octavo_profiler *profiler);

static inline void octavo_run(const struct octavo_threads *t, size_t tasks, octavo_task_fn *fn, void *arg)
{
	t->parallel.run(t->parallel.context, tasks, fn, arg);
}

#endif
