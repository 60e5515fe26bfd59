/* SPDX-License-Identifier: Apache-2.0
 *
 * The threads of a profiler: found through a thread-local slot, made on the first call.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdlib.h>
#include <string.h>

#include "profiler/phase.h"

/* A number for each thread that ever called: pthread_t and the kernel's ids are used again after a thread's end. */
static uint64_t this_thread(void)
{
	static atomic_ullong threads;
	static _Thread_local uint64_t number;

	if (!number)
		number = atomic_fetch_add(&threads, 1) + 1;
	return number;
}

/* The profiler that this thread called last.  Serial numbers start at 1 and never come back, so that a slot that
 * points into a closed profiler is never followed. */
static _Thread_local struct {
	uint64_t serial;
	struct phase_thread *thread;
} last_found;

static void start_backends(struct phase_thread *thread)
{
	const struct octavo_profiler *p = thread->profiler;

	for (unsigned i = 0; i < p->backends; i++) {
		thread->backend_error[i] =
		        p->backend[i]->start_thread(p->backend[i], p->counters[i], &thread->backend_thread[i]);
		if (thread->backend_error[i]) {
			thread->backend_thread[i] = NULL;
			thread->lost |= p->counters[i];
		}
	}
}

static struct phase_thread *thread_new(struct octavo_profiler *p)
{
	struct phase_thread *thread = aligned_alloc(OCTAVO_ALIGNMENT, sizeof *thread);

	if (!thread)
		return NULL;
	memset(thread, 0, sizeof *thread);
	thread->profiler = p;
	thread->id = this_thread();
	start_backends(thread);
	octavo_phase_thread_restart(thread);
	pthread_mutex_lock(&p->lock);
	thread->next = p->threads;
	p->threads = thread;
	pthread_mutex_unlock(&p->lock);
	return thread;
}

static struct phase_thread *thread_search(struct octavo_profiler *p)
{
	const uint64_t id = this_thread();
	struct phase_thread *thread;

	pthread_mutex_lock(&p->lock);
	for (thread = p->threads; thread && thread->id != id; thread = thread->next)
		;
	pthread_mutex_unlock(&p->lock);
	return thread;
}

struct phase_thread *octavo_phase_thread_known(struct octavo_profiler *p)
{
	return last_found.serial == p->serial ? last_found.thread : thread_search(p);
}

struct phase_thread *octavo_phase_thread_find(struct octavo_profiler *p)
{
	if (last_found.serial != p->serial) {
		struct phase_thread *thread = thread_search(p);

		if (!thread)
			thread = thread_new(p);
		if (!thread) {
			atomic_fetch_add_explicit(&p->refused, 1, memory_order_relaxed);
			return NULL;
		}
		last_found.serial = p->serial;
		last_found.thread = thread;
	}
	if (last_found.thread->epoch != atomic_load_explicit(&p->epoch, memory_order_relaxed))
		octavo_phase_thread_restart(last_found.thread);
	return last_found.thread;
}

void octavo_phase_thread_restart(struct phase_thread *thread)
{
	struct octavo_profiler *p = thread->profiler;

	thread->position = 0;
	thread->event_position = 0;
	thread->depth = 0;
	thread->overflow = 0;
	thread->adopted = 0;
	memset(thread->self_ticks, 0, sizeof thread->self_ticks);
	memset(thread->inclusive_ticks, 0, sizeof thread->inclusive_ticks);
	memset(thread->calls, 0, sizeof thread->calls);
	memset(thread->self_events, 0, sizeof thread->self_events);
	memset(thread->inclusive_events, 0, sizeof thread->inclusive_events);
	thread->overhead_ticks = 0;
	thread->mismatches = 0;
	thread->epoch = atomic_load_explicit(&p->epoch, memory_order_relaxed);
	thread->last_ticks = p->clock.ticks();
	octavo_phase_read_events(thread);
	memcpy(thread->first_events, thread->last_events, sizeof thread->first_events);
	thread->last_ticks = p->clock.ticks();
}

void octavo_phase_thread_stop(struct phase_thread *thread)
{
	const struct octavo_profiler *p = thread->profiler;

	for (unsigned i = 0; i < p->backends; i++) {
		if (thread->backend_thread[i])
			p->backend[i]->stop_thread(thread->backend_thread[i]);
		thread->backend_thread[i] = NULL;
	}
}

void octavo_phase_threads_free(struct octavo_profiler *p)
{
	while (p->threads) {
		struct phase_thread *thread = p->threads;

		p->threads = thread->next;
		octavo_phase_thread_stop(thread);
		free(thread);
	}
}
