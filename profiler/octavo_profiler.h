/* SPDX-License-Identifier: Apache-2.0
 *
 * The phase profiler: which part of speculation the time and the cycles went to.
 *
 * A thread has a stack of phases; every counter's growth belongs to the innermost open phase ("self") and to
 * all open ones ("inclusive").  Workers of a parallel region adopt the phase of the thread that opened it.
 * Counters are read and subtracted, never stopped.  Each value says where it comes from; a value that could
 * not be had is absent with a reason and a remedy, never zero.
 */
#ifndef OCTAVO_PROFILER_H
#define OCTAVO_PROFILER_H

#include "octavo_base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Phases proper, then the sub-phases that nest in them. */
/* clang-format off */
#define OCTAVO_PHASES(X)          \
	X(PREFILL, "prefill")     \
	X(DRAFT, "draft")         \
	X(VERIFY, "verify")       \
	X(ACCEPT, "accept")       \
	X(OTHER, "other")         \
	X(ATTENTION, "attention") \
	X(DENSE, "dense")         \
	X(EXPERTS, "experts")     \
	X(HEAD, "head")

enum octavo_phase {
#define OCTAVO_PHASE_ENUM(id, name) OCTAVO_PHASE_##id,
	OCTAVO_PHASES(OCTAVO_PHASE_ENUM)
#undef OCTAVO_PHASE_ENUM
	OCTAVO_PHASE_COUNT
};
/* clang-format on */
enum { OCTAVO_PHASE_TOP = OCTAVO_PHASE_ATTENTION }; /* ids below are phases, from here on sub-phases */

OCTAVO_API const char *octavo_phase_name(enum octavo_phase phase);

/* Tiers of evidence, best first. */
enum octavo_tier { OCTAVO_TIER_HARDWARE, OCTAVO_TIER_SOFTWARE, OCTAVO_TIER_TIME };
OCTAVO_API const char *octavo_tier_name(enum octavo_tier tier);

/* Counters a report may hold.  REF_CYCLES is the time-stamp counter (x86) or CNTVCT (Arm); CORE_CYCLES are
 * clock cycles of the core: the two never share a name. */
/* clang-format off */
#define OCTAVO_COUNTERS(X)                                  \
	X(WALL_NS, "wall_ns", "ns")                         \
	X(REF_CYCLES, "ref_cycles", "cycles")               \
	X(CORE_CYCLES, "core_cycles", "cycles")             \
	X(INSTRUCTIONS, "instructions", "instructions")     \
	X(LLC_MISSES, "llc_misses", "misses")               \
	X(TASK_CLOCK_NS, "task_clock_ns", "ns")             \
	X(PAGE_FAULTS, "page_faults", "faults")             \
	X(CONTEXT_SWITCHES, "context_switches", "switches") \
	X(CPU_MIGRATIONS, "cpu_migrations", "migrations")

enum octavo_counter {
#define OCTAVO_COUNTER_ENUM(id, name, unit) OCTAVO_COUNTER_##id,
	OCTAVO_COUNTERS(OCTAVO_COUNTER_ENUM)
#undef OCTAVO_COUNTER_ENUM
	OCTAVO_COUNTER_COUNT
};
/* clang-format on */
OCTAVO_API const char *octavo_counter_name(enum octavo_counter counter);
OCTAVO_API const char *octavo_counter_unit(enum octavo_counter counter);

/* Whether and how one counter is measured. */
struct octavo_counter_source {
	int available;
	int sub_phases;   /* 0: kept for phases only, sub-phases hold 0 that is not to be read */
	char source[64];  /* "papi perf::CYCLES", "perf_event page-faults:u", "rdtsc", "getrusage", …; "" if absent */
	char reason[512]; /* why it is absent, in words; "" if available */
	char remedy[256]; /* what would make it available; "" if nothing would */
};

struct octavo_profiler;

struct octavo_profiler_settings {
	int enabled;                /* 0: every call returns at once and the report is empty */
	enum octavo_tier best_tier; /* do not look above this tier (HARDWARE: take what there is) */
	/* Wall time and reference cycles cost nanoseconds and are kept for sub-phases too.  The other counters cost
	 * a system call (about 0.3 us) and are kept for phases only; 1 keeps them for sub-phases, at that price. */
	int sub_phase_events;
};

/* Probes the counters (opens them, runs known work, reads them: "available" proves nothing) and starts those
 * of the calling thread.  The profiler belongs to that thread; reports and reset are for it alone.  If the
 * settings do not enable it, *out is NULL.  EINVAL, ENOMEM. */
OCTAVO_API enum octavo_status octavo_profiler_open(struct octavo_profiler **out,
                                                   const struct octavo_profiler_settings *settings,
                                                   struct octavo_error *error);
OCTAVO_API void octavo_profiler_close(struct octavo_profiler **profiler);

/* NULL profilers are allowed everywhere below and cost one branch. */
OCTAVO_API void octavo_phase_begin(struct octavo_profiler *p, enum octavo_phase phase);
OCTAVO_API void octavo_phase_end(struct octavo_profiler *p, enum octavo_phase phase);
/* End `from` and begin `to` with one read of the counters. */
OCTAVO_API void octavo_phase_switch(struct octavo_profiler *p, enum octavo_phase from, enum octavo_phase to);

/* For the code that runs parallel regions: the opener takes a token, each worker wraps its share in
 * enter/leave with it.  Calls on the opener's own thread are harmless.
 * Of wall time and reference cycles a worker's share is exact: from enter to leave.  Its other counters run on
 * while it waits for the next region, and the waiting counts for the phase it last worked for; up to 0.1 ms of
 * them may be missing from a report. */
OCTAVO_API uint32_t octavo_phase_token(const struct octavo_profiler *p);
OCTAVO_API void octavo_worker_enter(struct octavo_profiler *p, uint32_t token);
OCTAVO_API void octavo_worker_leave(struct octavo_profiler *p);
/* For a worker that ends before the profiler is closed, as its last call: what it counted stays, nothing of it is missing
 * any more, and its counters (the kernel's take file descriptors) are given back.  The owner's do not end. */
OCTAVO_API void octavo_worker_end(struct octavo_profiler *p);

/* Forgets everything counted so far (between warm-up and measurement); no phase may be open and no parallel
 * region running.  EINVAL if a phase is open, or on another thread than the owner's. */
OCTAVO_API enum octavo_status octavo_profiler_reset(struct octavo_profiler *p);

struct octavo_phase_report {
	uint64_t calls;                    /* on the owning thread */
	double self[OCTAVO_COUNTER_COUNT]; /* summed over threads; absent counters hold 0 and are not to be read */
	double inclusive[OCTAVO_COUNTER_COUNT];
	double owner_self[OCTAVO_COUNTER_COUNT]; /* the owning thread alone: its WALL_NS are what a user waits for */
	double owner_inclusive[OCTAVO_COUNTER_COUNT];
};

struct octavo_profile {
	enum octavo_tier tier;
	char tier_reason[512]; /* why not a better one; "" for HARDWARE */
	struct octavo_counter_source source[OCTAVO_COUNTER_COUNT];
	struct octavo_phase_report phase[OCTAVO_PHASE_COUNT];
	/* The owning thread's whole time since open or reset, what of it belongs to no phase, and what passed inside
	 * the profiler's own calls: sum of owner_self over phases + overhead + unattributed = total, per counter.
	 * Counters other than the clock's run on inside these calls; for them overhead is 0. */
	double total[OCTAVO_COUNTER_COUNT];
	double unattributed[OCTAVO_COUNTER_COUNT];
	double overhead[OCTAVO_COUNTER_COUNT];
	double overhead_ns; /* overhead[OCTAVO_COUNTER_WALL_NS] */
	/* What a begin/end pair costs its caller, measured at open as the median of empty pairs.  A bit more than
	 * overhead counts for it: the call itself and half of each clock read fall to the phases around. */
	double pair_ns;      /* of phases, which read every counter */
	double sub_pair_ns;  /* of sub-phases */
	uint64_t mismatches; /* ends without their begin, depth overflows: 0 in a sound run */
	unsigned threads;    /* threads that contributed */
};

/* The sums so far; phases may be open, parallel regions may not.  An empty report for NULL.  EINVAL without out, or
 * on another thread than the owner's. */
OCTAVO_API enum octavo_status octavo_profiler_report(struct octavo_profiler *p, struct octavo_profile *out);

/* What one thread did, in the counters' units. */
struct octavo_thread_report {
	int owner; /* whether it is the thread that opened the profiler */
	double self[OCTAVO_PHASE_COUNT][OCTAVO_COUNTER_COUNT];
	double inclusive[OCTAVO_PHASE_COUNT][OCTAVO_COUNTER_COUNT];
};

/* The threads behind the last report, index 0 to its `threads` - 1, the owner first, the others as they came; their
 * sums are the report's.  EINVAL beyond, for a null argument, or on another thread than the owner. */
OCTAVO_API enum octavo_status octavo_profiler_thread(struct octavo_profiler *p, unsigned index,
                                                     struct octavo_thread_report *out);

/* ---- Clocks and statistics ------------------------------------------------------------------- */

OCTAVO_API uint64_t octavo_now_ns(void); /* CLOCK_MONOTONIC */
/* TSC or CNTVCT, serialised enough for regions of 1 us and up; CLOCK_MONOTONIC in ns where there is neither. */
OCTAVO_API uint64_t octavo_ref_cycles(void);

struct octavo_summary {
	double min, median, max;
	double p25, p75;
	size_t count;
};
/* Order statistics of x[count], count >= 1; does not change x.  Quartiles are interpolated between ranks.  ENOMEM;
 * EINVAL for count 0 or a value that is not finite. */
OCTAVO_API enum octavo_status octavo_summarise(const double *x, size_t count, struct octavo_summary *out);

/* Percentile bootstrap (Efron) of the ratio sum(a)/sum(b) over paired items, with a fixed seed: the 95 %
 * confidence interval [lo, hi].  ENOMEM; EINVAL for count 0, a non-positive b or a value that is not finite. */
OCTAVO_API enum octavo_status octavo_bootstrap_ratio(const double *a, const double *b, size_t count, uint64_t seed,
                                                     double *ratio, double *lo, double *hi);

#ifdef __cplusplus
}
#endif
#endif
