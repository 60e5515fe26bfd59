/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's way to run tasks: its own pool or the caller's, with the arithmetic's floating-point environment
 * and the profiler's phase carried to every worker.
 */
#ifndef OCTAVO_THREADS_H
#define OCTAVO_THREADS_H

#include "engine/pool.h"

struct octavo_threads {
	struct octavo_parallel outer; /* the caller's; run NULL: the pool below */
	struct octavo_pool *pool;
	struct octavo_profiler *profiler;
	struct octavo_parallel parallel; /* what the engine and the kernels' drivers use */
};

/* `threads` 0: all processors that this process may run on.  The object must stay where it is.  `outer` may be the
 * `parallel` of another engine's threads, which must live longer. */
enum octavo_status octavo_threads_open(struct octavo_threads *t, unsigned threads, const struct octavo_parallel *outer,
                                       struct octavo_profiler *profiler, struct octavo_error *error);
void octavo_threads_close(struct octavo_threads *t);

static inline void octavo_run(const struct octavo_threads *t, size_t tasks, octavo_task_fn *fn, void *arg)
{
	if (tasks)
		t->parallel.run(t->parallel.context, tasks, fn, arg);
}

#endif
