/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's threads.  A forward pass is a few hundred parallel regions of some ten microseconds, so what counts
 * is how quickly they begin and end, also on a machine that has other things to do: tasks are claimed one by one,
 * a worker that is late finds nothing left, and nobody waits for a thread that has not begun.
 */
#ifndef OCTAVO_POOL_H
#define OCTAVO_POOL_H

#include "octavo_kernels.h"
#include "octavo_profiler.h"

struct octavo_pool;

/* Starts threads - 1 workers; the caller of octavo_pool_run is the remaining thread. */
enum octavo_status octavo_pool_open(struct octavo_pool **out, size_t threads, struct octavo_profiler *profiler);
void octavo_pool_close(struct octavo_pool **pool);

/* fn(arg, task) for every task in [0, tasks), tasks < 2^32; one caller at a time. */
void octavo_pool_run(struct octavo_pool *pool, size_t tasks, octavo_task_fn *fn, void *arg);

#endif
