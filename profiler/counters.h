/* SPDX-License-Identifier: Apache-2.0
 *
 * Where counts come from: the interface between the profiler and its sources, inside the library and in modules.
 *
 * There are two kinds.  The clock is read at every call, so it must cost next to nothing: the time-stamp counter.
 * Everything else costs a system call and comes from a backend, which is read only where a phase changes.
 * Counters run from the start of a thread to its stop; a reader reads twice and subtracts.
 */
#ifndef OCTAVO_COUNTERS_H
#define OCTAVO_COUNTERS_H

#include "octavo_profiler.h"

#define OCTAVO_BIT(counter) (UINT32_C(1) << (counter))

/* The counters that come from the clock, and those that a backend may provide. */
#define OCTAVO_CLOCK_COUNTERS (OCTAVO_BIT(OCTAVO_COUNTER_WALL_NS) | OCTAVO_BIT(OCTAVO_COUNTER_REF_CYCLES))
#define OCTAVO_HARDWARE_COUNTERS                                                                                       \
	(OCTAVO_BIT(OCTAVO_COUNTER_CORE_CYCLES) | OCTAVO_BIT(OCTAVO_COUNTER_INSTRUCTIONS) |                            \
	 OCTAVO_BIT(OCTAVO_COUNTER_LLC_MISSES))
#define OCTAVO_SOFTWARE_COUNTERS                                                                                       \
	(OCTAVO_BIT(OCTAVO_COUNTER_TASK_CLOCK_NS) | OCTAVO_BIT(OCTAVO_COUNTER_PAGE_FAULTS) |                           \
	 OCTAVO_BIT(OCTAVO_COUNTER_CONTEXT_SWITCHES) | OCTAVO_BIT(OCTAVO_COUNTER_CPU_MIGRATIONS))

/* A source of counters.  Every function may be called by several threads at once. */
struct octavo_counter_backend {
	const char *name;
	enum octavo_tier tier;
	void *context; /* what the functions below know their backend's data by */
	/* Which of the wanted counters (a set of bits) can be opened on this thread.  Writes source for these,
	 * reason and remedy for those it was asked for and cannot give; leaves alone what it does not know. */
	uint32_t (*probe)(const struct octavo_counter_backend *backend, uint32_t wanted,
	                  struct octavo_counter_source *source /* [OCTAVO_COUNTER_COUNT] */);
	/* Starts the counters for the calling thread.  0, or an errno value. */
	int (*start_thread)(const struct octavo_counter_backend *backend, uint32_t counters, void **thread);
	/* Writes the running totals of the started counters into their places in value, leaves the others alone.
	 * For the thread that started them.  0, or an errno value. */
	int (*read)(void *thread, uint64_t *value /* [OCTAVO_COUNTER_COUNT] */);
	/* From any thread, while the one that started them does not read. */
	void (*stop_thread)(void *thread);
};

/* A clock for every call: one tick is a reference cycle, or a nanosecond where there is no such counter. */
struct octavo_clock {
	uint64_t (*ticks)(void);
	int counts_ref_cycles; /* 0: a tick is a nanosecond and REF_CYCLES are absent */
	const char *source;
	const char *reason; /* why there are no reference cycles; "" if there are */
	const char *remedy;
};

/* The best clock of this machine. */
struct octavo_clock octavo_clock_choose(void);

/* The kernel's own books: getrusage and the thread's CPU clock.  Always there. */
extern const struct octavo_counter_backend octavo_counters_time;
/* perf_event: the kernel's software events, and the core's own counters. */
extern const struct octavo_counter_backend octavo_counters_software;
extern const struct octavo_counter_backend octavo_counters_hardware;

/* Runs known work on a thread of its own and returns those of the counters that grew by at least what the work
 * must cause; writes the reason for each that did not. */
uint32_t octavo_counters_check(const struct octavo_counter_backend *backend, uint32_t counters,
                               struct octavo_counter_source *source /* [OCTAVO_COUNTER_COUNT] */);

/* What a module defines under the name OCTAVO_COUNTER_MODULE_SYMBOL.  A module built against another version
 * of this file is refused. */
enum { OCTAVO_COUNTER_MODULE_VERSION = 1 };
#define OCTAVO_COUNTER_MODULE_SYMBOL "octavo_counter_module"
struct octavo_counter_module {
	uint32_t version;       /* OCTAVO_COUNTER_MODULE_VERSION */
	uint32_t counter_count; /* OCTAVO_COUNTER_COUNT */
	uint32_t source_size;   /* sizeof(struct octavo_counter_source) */
	const struct octavo_counter_backend *backend;
};

/* The backend of a module file (octavo_module_load).  NULL, with the reason in reason[size], if there is none. */
const struct octavo_counter_backend *octavo_counters_load(const char *file, char *reason, size_t size);

#endif
