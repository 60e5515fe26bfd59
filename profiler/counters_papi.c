/* SPDX-License-Identifier: Apache-2.0
 *
 * The core's counters through PAPI: a module, so that nothing else links libpapi.
 *
 * PAPI calls an event available that it cannot count, and its tables of presets end with the processors of its
 * release: each counter is tried under several names, and each name by adding it to a set that is then started.
 */
#include <errno.h>
#include <papi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "profiler/counters_papi.h"

struct papi_thread {
	int set;
	unsigned events;
	enum octavo_counter counter[PAPI_EVENTS]; /* [events] */
};

/* PAPI keeps what it knows of a thread beyond its end, so a number must not come back as pthread_self does. */
static unsigned long thread_number(void)
{
	static atomic_ulong threads;
	static _Thread_local unsigned long number;

	if (!number)
		number = atomic_fetch_add(&threads, 1) + 1;
	return number;
}

static int initialise(void)
{
	if (PAPI_is_initialized() == PAPI_NOT_INITED) {
		const int version = PAPI_library_init(PAPI_VER_CURRENT);

		if (version != PAPI_VER_CURRENT)
			return version < 0 ? version : PAPI_EINVAL;
	}
	return PAPI_thread_init(thread_number);
}

static void discard(int set)
{
	PAPI_cleanup_eventset(set);
	PAPI_destroy_eventset(&set);
}

/* PAPI_OK if the event can be added to a set of its own and started. */
static int try_event(const char *name)
{
	int set = PAPI_NULL;
	long long count;
	int status = PAPI_create_eventset(&set);

	if (status != PAPI_OK)
		return status;
	status = PAPI_add_named_event(set, name);
	if (status == PAPI_OK)
		status = PAPI_start(set);
	if (status == PAPI_OK)
		status = PAPI_stop(set, &count);
	discard(set);
	return status;
}

/* Once for the process, so that all threads count the same. */
static void find_names(struct papi_events *events)
{
	const int status = initialise();

	for (unsigned i = 0; i < PAPI_EVENTS; i++) {
		struct papi_event *event = &events->event[i];

		event->status = status;
		for (unsigned n = 0; status == PAPI_OK && !event->found && n < PAPI_NAMES && event->name[n]; n++) {
			event->status = try_event(event->name[n]);
			if (event->status == PAPI_OK)
				event->found = event->name[n];
		}
	}
	events->searched = 1;
}

static uint32_t papi_probe(const struct octavo_counter_backend *backend, uint32_t wanted,
                           struct octavo_counter_source *source)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct papi_events *events = backend->context;
	uint32_t countable = 0;

	pthread_mutex_lock(&lock);
	if (!events->searched)
		find_names(events);
	pthread_mutex_unlock(&lock);
	for (unsigned i = 0; i < PAPI_EVENTS; i++) {
		const struct papi_event *event = &events->event[i];
		struct octavo_counter_source *out = &source[event->counter];

		if (!(wanted & OCTAVO_BIT(event->counter)))
			continue;
		if (event->found) {
			snprintf(out->source, sizeof out->source, "papi %s", event->found);
			countable |= OCTAVO_BIT(event->counter);
		} else {
			snprintf(out->reason, sizeof out->reason, "papi %s: %s", event->name[0],
			         PAPI_strerror(event->status));
		}
	}
	return countable;
}

static int to_errno(int status)
{
	switch (status) {
	case PAPI_OK:
		return 0;
	case PAPI_ENOMEM:
		return ENOMEM;
	case PAPI_EPERM:
		return EPERM;
	case PAPI_ECOUNT:
		return EMFILE;
	case PAPI_ECNFLCT:
		return EBUSY;
	default:
		return EIO;
	}
}

static int add_events(struct papi_thread *thread, const struct papi_events *events, uint32_t counters)
{
	for (unsigned i = 0; i < PAPI_EVENTS; i++) {
		const struct papi_event *event = &events->event[i];
		int status;

		if (!(counters & OCTAVO_BIT(event->counter)))
			continue;
		status = PAPI_add_named_event(thread->set, event->found);
		if (status != PAPI_OK)
			return status;
		thread->counter[thread->events++] = event->counter;
	}
	return PAPI_OK;
}

static int papi_start(const struct octavo_counter_backend *backend, uint32_t counters, void **out)
{
	struct papi_thread *thread = calloc(1, sizeof *thread);
	int status;

	if (!thread)
		return ENOMEM;
	thread->set = PAPI_NULL;
	status = PAPI_register_thread();
	if (status == PAPI_OK)
		status = PAPI_create_eventset(&thread->set);
	if (status == PAPI_OK)
		status = add_events(thread, backend->context, counters);
	if (status == PAPI_OK)
		status = PAPI_start(thread->set);
	if (status != PAPI_OK) {
		discard(thread->set);
		free(thread);
		return to_errno(status);
	}
	*out = thread;
	return 0;
}

static int papi_read(void *argument, uint64_t *value)
{
	const struct papi_thread *thread = argument;
	long long count[PAPI_EVENTS];
	const int status = PAPI_read(thread->set, count);

	if (status != PAPI_OK)
		return to_errno(status);
	for (unsigned i = 0; i < thread->events; i++)
		value[thread->counter[i]] = (uint64_t)count[i];
	return 0;
}

static void papi_stop(void *argument)
{
	struct papi_thread *thread = argument;
	long long count[PAPI_EVENTS];

	PAPI_stop(thread->set, count);
	discard(thread->set);
	free(thread);
}

static struct papi_events events = {
        .event = {{OCTAVO_COUNTER_CORE_CYCLES, {"PAPI_TOT_CYC", "perf::CYCLES", NULL}, NULL, 0},
                  {OCTAVO_COUNTER_INSTRUCTIONS, {"PAPI_TOT_INS", "perf::INSTRUCTIONS", NULL}, NULL, 0},
                  {OCTAVO_COUNTER_LLC_MISSES, {"PAPI_L3_TCM", "PAPI_L3_LDM", "perf::LLC-LOAD-MISSES"}, NULL, 0}},
};

static const struct octavo_counter_backend papi_backend = {
        .name = "papi",
        .tier = OCTAVO_TIER_HARDWARE,
        .context = &events,
        .probe = papi_probe,
        .start_thread = papi_start,
        .read = papi_read,
        .stop_thread = papi_stop,
};

extern OCTAVO_API const struct octavo_counter_module octavo_counter_module;
const struct octavo_counter_module octavo_counter_module = {
        OCTAVO_COUNTER_MODULE_VERSION,
        OCTAVO_COUNTER_COUNT,
        sizeof(struct octavo_counter_source),
        &papi_backend,
};
