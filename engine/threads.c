/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/threads.h"

#include "kernels/fpenv.h"

#include <sched.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* A caller's pool tells us nothing about its workers, so every task adopts the phase on its own. */
struct wrapped {
	const struct octavo_threads *threads;
	octavo_task_fn *fn;
	void *arg;
	uint32_t token;
};

static void run_wrapped(void *arg, size_t task)
{
	const struct wrapped *w = arg;
	octavo_fpenv saved = octavo_fpenv_enter();
	octavo_worker_enter(w->threads->profiler, w->token);
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

static void run_serial(octavo_task_fn *fn, void *arg, size_t tasks)
{
	octavo_fpenv saved = octavo_fpenv_enter();
	for (size_t task = 0; task < tasks; task++)
		fn(arg, task);
	octavo_fpenv_leave(saved);
}

static void run_openmp(void *context, size_t tasks, octavo_task_fn *fn, void *arg)
{
	const struct octavo_threads *t = context;
	if (tasks <= 1 || t->parallel.threads <= 1) {
		run_serial(fn, arg, tasks);
		return;
	}
#ifdef _OPENMP
	uint32_t token = octavo_phase_token(t->profiler);
	size_t team = t->parallel.threads < tasks ? t->parallel.threads : tasks;
#pragma omp parallel num_threads((int)team)
	{
		octavo_fpenv saved = octavo_fpenv_enter();
		int worker = omp_get_thread_num() != 0;
		if (worker)
			octavo_worker_enter(t->profiler, token);
		/* Static: a thread meets the same slice of the same weights at every call. */
#pragma omp for schedule(static)
		for (size_t task = 0; task < tasks; task++)
			fn(arg, task);
		if (worker)
			octavo_worker_leave(t->profiler);
		octavo_fpenv_leave(saved);
	}
#endif
}

static unsigned available_processors(void)
{
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof set, &set) == 0)
		return (unsigned)CPU_COUNT(&set);
	return 1;
}

void octavo_threads_init(struct octavo_threads *t, unsigned threads, const struct octavo_parallel *outer,
                         struct octavo_profiler *profiler)
{
	t->profiler = profiler;
	t->parallel.context = t;
	if (outer && outer->run) {
		t->outer = *outer;
		t->parallel.run = run_outer;
		t->parallel.threads = outer->threads ? outer->threads : 1;
		return;
	}
	t->outer = (struct octavo_parallel){ 0 };
	t->parallel.run = run_openmp;
#ifdef _OPENMP
	t->parallel.threads = threads ? threads : available_processors();
#else
	(void)threads;
	t->parallel.threads = 1;
#endif
}
