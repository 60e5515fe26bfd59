/* SPDX-License-Identifier: Apache-2.0
 *
 * The profiler's insides: what a thread keeps, and how the profiler finds it.
 */
#ifndef OCTAVO_PHASE_H
#define OCTAVO_PHASE_H

#include <pthread.h>
#include <stdatomic.h>

#include "profiler/counters.h"

enum {
	PHASE_DEPTH = 32,                    /* open phases of one thread; deeper ones are counted as mismatches */
	PHASE_ROWS = OCTAVO_PHASE_COUNT + 1, /* row 0 is "no phase open", row 1 + id is a phase */
	BACKENDS_MAX = 4,
};

/* Where a thread stands: the set of open phases in bits 0 to 15, the innermost one's row in bits 16 to 23, the row
 * that backend counters go to in bits 24 to 31.  0 means that nothing is open.  Also the workers' token. */
typedef uint32_t phase_position;
_Static_assert(OCTAVO_PHASE_COUNT <= 16, "a position has 16 bits for open phases");

/* The same moment on both clocks. */
struct phase_moment {
	uint64_t ticks, ns;
};

struct phase_thread {
	/* Written at every call. */
	_Alignas(OCTAVO_ALIGNMENT) uint64_t last_ticks;
	phase_position position;
	phase_position event_position; /* where the events since the last read belong */
	unsigned depth;
	unsigned overflow;                 /* begins beyond PHASE_DEPTH whose end is still to come */
	unsigned adopted;                  /* nesting of octavo_worker_enter */
	unsigned depth_at_enter;           /* of the outermost of these */
	phase_position stack[PHASE_DEPTH]; /* the position before each begin */
	uint8_t phase[PHASE_DEPTH];        /* the phase of each begin */
	uint64_t self_ticks[PHASE_ROWS];
	uint64_t inclusive_ticks[PHASE_ROWS];
	uint64_t calls[PHASE_ROWS];
	uint64_t overhead_ticks;
	uint64_t mismatches;

	/* Written where backends are read. */
	uint64_t events_read_at;                     /* ticks */
	uint64_t first_events[OCTAVO_COUNTER_COUNT]; /* at the start or the last reset */
	uint64_t last_events[OCTAVO_COUNTER_COUNT];
	uint64_t self_events[PHASE_ROWS][OCTAVO_COUNTER_COUNT];
	uint64_t inclusive_events[PHASE_ROWS][OCTAVO_COUNTER_COUNT];

	/* Written once, or when something fails. */
	struct octavo_profiler *profiler;
	struct phase_thread *next;
	void *backend_thread[BACKENDS_MAX]; /* NULL where it could not be started */
	int backend_error[BACKENDS_MAX];    /* errno of the failure */
	uint32_t lost;                      /* counters with a hole: not started, not read, or running backwards */
	unsigned epoch;
	int is_owner;
	uint64_t id;
};

struct octavo_profiler {
	struct octavo_clock clock;
	struct phase_thread *owner;
	uint64_t serial;       /* unlike an address, never used twice */
	atomic_uint epoch;     /* of the last reset */
	uint32_t event_phases; /* set of phases that backend counters are kept for */
	uint64_t event_period; /* ticks a worker lets pass before it reads events at a leave */
	unsigned backends;
	const struct octavo_counter_backend *backend[BACKENDS_MAX]; /* [backends] */
	uint32_t counters[BACKENDS_MAX];                            /* what each one provides */

	pthread_mutex_t lock;         /* guards the list's head */
	struct phase_thread *threads; /* all that ever called */
	atomic_ullong refused;        /* calls of threads for which there was no memory */

	struct phase_moment start; /* of the profiler */
	uint64_t reset_ticks;
	double pair_ticks, sub_pair_ticks; /* cost of an empty begin/end pair */
	enum octavo_tier tier, best_tier;
	struct octavo_counter_source source[OCTAVO_COUNTER_COUNT];
};

/* What a profiler is built from; the tests bring their own. */
struct profiler_parts {
	struct octavo_clock clock;
	const struct octavo_counter_backend *const *backend; /* [backends], best first; may be NULL */
	unsigned backends;
	char no_module[256]; /* why there is no module of hardware counters; "" if there is one */
};

enum octavo_status octavo_profiler_open_parts(struct octavo_profiler **out,
                                              const struct octavo_profiler_settings *settings,
                                              const struct profiler_parts *parts, struct octavo_error *error);

struct phase_moment octavo_phase_moment_now(const struct octavo_profiler *p);
/* The calling thread's state; NULL if there is no memory for it. */
struct phase_thread *octavo_phase_thread_find(struct octavo_profiler *p);
/* The same of a thread that has called before; NULL for any other. */
struct phase_thread *octavo_phase_thread_known(struct octavo_profiler *p);
/* Gives the thread's counters back. */
void octavo_phase_thread_stop(struct phase_thread *thread);
/* Forgets what the thread has counted and starts again from now. */
void octavo_phase_thread_restart(struct phase_thread *thread);
/* Gives the time, or the events, since the last read to the phases they belong to. */
void octavo_phase_charge_ticks(struct phase_thread *thread, uint64_t now);
void octavo_phase_charge_events(struct phase_thread *thread);
/* Reads all backends into last_events.  A counter that cannot be read is lost for good and keeps its last value. */
void octavo_phase_read_events(struct phase_thread *thread);
void octavo_phase_threads_free(struct octavo_profiler *p);

#endif
