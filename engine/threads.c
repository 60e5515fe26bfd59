/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/threads.h"

#include "fp8/error.h"
#include "kernels/fpenv.h"
#include "octavo_engine.h"

#include <sched.h>
#include <unistd.h>

/* A caller's pool tells us nothing about its workers, so every task enters the environment and the phase itself. */
struct wrapped {
	const struct octavo_threads *threads;
	octavo_task_fn *fn;
	void *arg;
	uint32_t phase;
};

static void run_wrapped(void *arg, size_t task)
{
	const struct wrapped *w = arg;
	octavo_fpenv saved = octavo_fpenv_enter();
	octavo_worker_enter(w->threads->profiler, w->phase);
	w->fn(w->arg, task);
	octavo_worker_leave(w->threads->profiler);
	octavo_fpenv_leave(saved);
}

static void run_outer(void *context, size_t tasks, octavo_task_fn *fn, void *arg)
{
	const struct octavo_threads *t = context;
	struct wrapped w = { t, fn, arg, octavo_phase_token(t->profiler) };
	t->outer.run(t->outer.context, tasks, run_wrapped, &w);
}

static void run_pool(void *context, size_t tasks, octavo_task_fn *fn, void *arg)
{
	const struct octavo_threads *t = context;
	octavo_pool_run(t->pool, tasks, fn, arg);
}

static unsigned available_processors(void)
{
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof set, &set) == 0)
		return (unsigned)CPU_COUNT(&set);
	long online = sysconf(_SC_NPROCESSORS_ONLN); /* more processors than the fixed set holds */
	return online > 0 && online <= 4096 ? (unsigned)online : 1;
}

enum octavo_status octavo_threads_open(struct octavo_threads *t, unsigned threads, const struct octavo_parallel *outer,
                                       struct octavo_profiler *profiler, struct octavo_error *error)
{
	*t = (struct octavo_threads){ .profiler = profiler };
	t->parallel.context = t;
	if (outer && (outer->run == run_outer || outer->run == run_pool)) {
		t->parallel = *outer; /* another engine's with the same profiler: its workers have environment and phase */
		return OCTAVO_OK;
	}
	if (outer && outer->run) {
		t->outer = *outer;
		t->parallel.run = run_outer;
		t->parallel.threads = outer->threads ? outer->threads : 1;
		return OCTAVO_OK;
	}
	t->parallel.run = run_pool;
	t->parallel.threads = threads ? threads : available_processors();
	enum octavo_status status = octavo_pool_open(&t->pool, t->parallel.threads, profiler);
	if (status != OCTAVO_OK)
		return octavo_fail(error, status, "threads: cannot start %zu", t->parallel.threads);
	return OCTAVO_OK;
}

void octavo_threads_close(struct octavo_threads *t)
{
	octavo_pool_close(&t->pool);
}

/* ---- Public: a pool without an engine ----------------------------------------------------------------------------- */

static void run_bare(void *context, size_t tasks, octavo_task_fn *fn, void *arg)
{
	if (tasks)
		octavo_pool_run(context, tasks, fn, arg);
}

enum octavo_status octavo_parallel_open(struct octavo_parallel *out, size_t threads)
{
	struct octavo_pool *pool;
	if (!out || threads > 4096)
		return OCTAVO_EINVAL;
	*out = (struct octavo_parallel){ 0 };
	threads = threads ? threads : available_processors();
	enum octavo_status status = octavo_pool_open(&pool, threads, NULL);
	if (status == OCTAVO_OK)
		*out = (struct octavo_parallel){ run_bare, pool, threads };
	return status;
}

void octavo_parallel_close(struct octavo_parallel *parallel)
{
	if (!parallel || !parallel->run)
		return;
	struct octavo_pool *pool = parallel->context;
	octavo_pool_close(&pool);
	*parallel = (struct octavo_parallel){ 0 };
}
