/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/pool.h"

#include "kernels/fpenv.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

/* The ticket says all that a thread must know to claim a task: how many tasks the job has and which is next.  Whoever
 * moves `next` by compare-and-swap owns that task, and until it is done the job cannot change. */
static uint64_t make_ticket(size_t tasks)
{
	return (uint64_t)tasks << 32;
}

static size_t ticket_tasks(uint64_t ticket)
{
	return (size_t)(ticket >> 32);
}

static size_t ticket_next(uint64_t ticket)
{
	return (size_t)(uint32_t)ticket;
}

struct octavo_pool {
	_Alignas(64) _Atomic uint64_t ticket;
	_Alignas(64) _Atomic size_t done; /* tasks of this job that have been run */
	/* Written between jobs, read only by owners of a task of the current one */
	octavo_task_fn *fn;
	void *arg;
	uint32_t phase;
	_Alignas(64) _Atomic size_t sleepers;
	_Atomic int stop;
	pthread_mutex_t mutex;
	pthread_cond_t work;
	struct octavo_profiler *profiler;
	size_t workers;
	pthread_t *thread; /* [workers] */
};

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Whether a task was claimed; its number goes to *task. */
static int claim(struct octavo_pool *p, size_t *task)
{
	uint64_t ticket = atomic_load_explicit(&p->ticket, memory_order_acquire);
	do {
		if (ticket_next(ticket) == ticket_tasks(ticket))
			return 0;
		*task = ticket_next(ticket);
	} while (!atomic_compare_exchange_weak_explicit(&p->ticket, &ticket, ticket + 1, memory_order_acq_rel,
	                                                memory_order_acquire));
	return 1;
}

/* ---- Workers ------------------------------------------------------------------------------------------------------ */

static int has_work(struct octavo_pool *p)
{
	uint64_t ticket = atomic_load(&p->ticket);
	return ticket_next(ticket) != ticket_tasks(ticket);
}

/* Regions follow each other within microseconds, so a worker looks out for a while before it sleeps. */
static void await_work(struct octavo_pool *p)
{
	for (int i = 0; i < 2000; i++) {
		if (has_work(p) || atomic_load_explicit(&p->stop, memory_order_relaxed))
			return;
		relax();
	}
	pthread_mutex_lock(&p->mutex);
	atomic_fetch_add(&p->sleepers, 1); /* before the look at the ticket: see publish */
	while (!has_work(p) && !atomic_load(&p->stop))
		pthread_cond_wait(&p->work, &p->mutex);
	atomic_fetch_sub(&p->sleepers, 1);
	pthread_mutex_unlock(&p->mutex);
}

static void *work(void *arg)
{
	struct octavo_pool *p = arg;
	size_t task;
	octavo_fpenv_enter();
	while (!atomic_load(&p->stop)) {
		await_work(p);
		if (!claim(p, &task))
			continue;
		octavo_worker_enter(p->profiler, p->phase);
		/* The phase is left before the last claimed task counts as done: afterwards the job may change. */
		for (;;) {
			size_t next;
			p->fn(p->arg, task);
			if (!claim(p, &next)) {
				octavo_worker_leave(p->profiler);
				atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
				break;
			}
			atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
			task = next;
		}
	}
	octavo_worker_end(p->profiler); /* which may live on, and see many pools */
	return NULL;
}

/* ---- The caller's side ------------------------------------------------------------------------------------------- */

static void publish(struct octavo_pool *p, size_t tasks)
{
	atomic_store_explicit(&p->done, 0, memory_order_relaxed);
	atomic_store(&p->ticket, make_ticket(tasks));
	/* Both sides are sequentially consistent: either this sees the sleeper or the sleeper sees the ticket. */
	if (atomic_load(&p->sleepers)) {
		pthread_mutex_lock(&p->mutex);
		pthread_cond_broadcast(&p->work);
		pthread_mutex_unlock(&p->mutex);
	}
}

static void await_done(struct octavo_pool *p, size_t tasks)
{
	for (size_t i = 0; atomic_load_explicit(&p->done, memory_order_acquire) != tasks; i++) {
		if (i < 1000)
			relax();
		else /* the worker that holds a task may be waiting for this processor */
			sched_yield();
	}
}

void octavo_pool_run(struct octavo_pool *p, size_t tasks, octavo_task_fn *fn, void *arg)
{
	octavo_fpenv saved = octavo_fpenv_enter();
	if (tasks == 1 || !p->workers) {
		for (size_t task = 0; task < tasks; task++)
			fn(arg, task);
		octavo_fpenv_leave(saved);
		return;
	}
	p->fn = fn;
	p->arg = arg;
	p->phase = octavo_phase_token(p->profiler);
	publish(p, tasks);
	for (size_t task; claim(p, &task);) {
		fn(arg, task);
		atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
	}
	await_done(p, tasks);
	octavo_fpenv_leave(saved);
}

/* ---- Open and close ------------------------------------------------------------------------------------------------- */

enum octavo_status octavo_pool_open(struct octavo_pool **out, size_t threads, struct octavo_profiler *profiler)
{
	struct octavo_pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
	*out = NULL;
	if (!p)
		return OCTAVO_ENOMEM;
	*p = (struct octavo_pool){ .profiler = profiler };
	p->thread = calloc(threads, sizeof *p->thread);
	if (!p->thread) {
		free(p);
		return OCTAVO_ENOMEM;
	}
	pthread_mutex_init(&p->mutex, NULL);
	pthread_cond_init(&p->work, NULL);
	/* The host program's signal handlers are not for our threads. */
	sigset_t all, callers;
	int refused = 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &callers);
	for (; p->workers + 1 < threads && !refused; p->workers += !refused)
		refused = pthread_create(&p->thread[p->workers], NULL, work, p);
	pthread_sigmask(SIG_SETMASK, &callers, NULL);
	if (refused) {
		octavo_pool_close(&p);
		return OCTAVO_ESYSTEM;
	}
	*out = p;
	return OCTAVO_OK;
}

void octavo_pool_close(struct octavo_pool **pool)
{
	struct octavo_pool *p = *pool;
	if (!p)
		return;
	pthread_mutex_lock(&p->mutex);
	atomic_store(&p->stop, 1);
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->mutex);
	for (size_t i = 0; i < p->workers; i++)
		pthread_join(p->thread[i], NULL);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->mutex);
	free(p->thread);
	free(p);
	*pool = NULL;
}
