/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a profiler: which counters there are, and what it costs to use them.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "profiler/phase.h"

enum {
	PAIRS = 32,   /* empty begin/end pairs per batch */
	BATCHES = 33, /* whose median is the cost of a pair */
	EVENT_PERIOD_NS = 100000,
};

static enum octavo_status fail(struct octavo_error *error, enum octavo_status status, const char *text)
{
	if (error)
		snprintf(error->text, sizeof error->text, "profiler: %s", text);
	return status;
}

static void set_absent(struct octavo_counter_source *source, const char *reason, const char *remedy)
{
	snprintf(source->reason, sizeof source->reason, "%s", reason);
	snprintf(source->remedy, sizeof source->remedy, "%s", remedy);
}

static void describe_clock(struct octavo_profiler *p)
{
	struct octavo_counter_source *wall = &p->source[OCTAVO_COUNTER_WALL_NS];
	struct octavo_counter_source *ref = &p->source[OCTAVO_COUNTER_REF_CYCLES];

	wall->available = 1;
	ref->available = p->clock.counts_ref_cycles;
	if (!p->clock.counts_ref_cycles) {
		snprintf(wall->source, sizeof wall->source, "%s", p->clock.source);
		set_absent(ref, p->clock.reason, p->clock.remedy);
		return;
	}
	snprintf(wall->source, sizeof wall->source, "%s, scaled to CLOCK_MONOTONIC", p->clock.source);
	snprintf(ref->source, sizeof ref->source, "%s", p->clock.source);
}

/* What to say of a counter of which no backend had anything to say. */
static void explain_silence(struct octavo_profiler *p)
{
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		struct octavo_counter_source *source = &p->source[c];
		const enum octavo_tier tier =
		        OCTAVO_HARDWARE_COUNTERS & OCTAVO_BIT(c) ? OCTAVO_TIER_HARDWARE : OCTAVO_TIER_SOFTWARE;

		if (source->available || source->reason[0])
			continue;
		if (tier < p->best_tier)
			set_absent(source, "counters of its tier were not asked for", "ask for a better tier");
		else
			set_absent(source, "no source of counters on this system provides it", "");
	}
}

/* Of a counter found: its source; of one not found: why, before what was said by the backends asked earlier. */
static void note_probe(struct octavo_counter_source *known, struct octavo_counter_source *probed, int found)
{
	if (found) {
		probed->available = 1;
		probed->reason[0] = '\0';
		probed->remedy[0] = '\0';
	} else {
		if (!probed->reason[0])
			return;
		probed->source[0] = '\0';
		if (known->reason[0] && strlen(probed->reason) + strlen(known->reason) + 3 <= sizeof known->reason) {
			strcat(probed->reason, "; ");
			strcat(probed->reason, known->reason);
		}
	}
	*known = *probed;
}

static uint32_t probe_backend(struct octavo_profiler *p, const struct octavo_counter_backend *backend, uint32_t wanted)
{
	struct octavo_counter_source probed[OCTAVO_COUNTER_COUNT] = {0};
	uint32_t found = backend->probe(backend, wanted, probed) & wanted;

	if (found)
		found = octavo_counters_check(backend, found, probed);
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++)
		if (wanted & OCTAVO_BIT(c))
			note_probe(&p->source[c], &probed[c], (found & OCTAVO_BIT(c)) != 0);
	return found;
}

/* Lets each backend in turn provide what those before it could not. */
static void choose_backends(struct octavo_profiler *p, const struct profiler_parts *parts)
{
	uint32_t wanted = OCTAVO_HARDWARE_COUNTERS | OCTAVO_SOFTWARE_COUNTERS;

	p->tier = OCTAVO_TIER_TIME;
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++)
		if (parts->no_module[0] && OCTAVO_HARDWARE_COUNTERS & OCTAVO_BIT(c))
			set_absent(&p->source[c], parts->no_module, "");
	for (unsigned i = 0; i < parts->backends && p->backends < BACKENDS_MAX; i++) {
		const struct octavo_counter_backend *backend = parts->backend[i];
		uint32_t found;

		if (!backend || backend->tier < p->best_tier)
			continue;
		found = probe_backend(p, backend, wanted);
		if (!found)
			continue;
		p->backend[p->backends] = backend;
		p->counters[p->backends++] = found;
		wanted &= ~found;
		if (backend->tier < p->tier)
			p->tier = backend->tier;
	}
	explain_silence(p);
}

/* The tightest of a few readings: between the clocks of one reading the thread may have lost its processor. */
struct phase_moment octavo_phase_moment_now(const struct octavo_profiler *p)
{
	struct phase_moment best = {0, 0};
	uint64_t best_width = UINT64_MAX;

	for (int i = 0; i < 5; i++) {
		const uint64_t before = p->clock.ticks(), ns = octavo_now_ns(), width = p->clock.ticks() - before;

		if (width < best_width) {
			best_width = width;
			best = (struct phase_moment){before + width / 2, ns};
		}
	}
	return best;
}

static int compare_ticks(const void *left, const void *right)
{
	const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

/* Ticks of one begin/end pair. */
static double measure_pair(struct octavo_profiler *p, enum octavo_phase phase)
{
	uint64_t batch[BATCHES];

	for (unsigned i = 0; i < BATCHES; i++) {
		const uint64_t start = p->clock.ticks();

		for (unsigned pair = 0; pair < PAIRS; pair++) {
			octavo_phase_begin(p, phase);
			octavo_phase_end(p, phase);
		}
		batch[i] = p->clock.ticks() - start;
	}
	qsort(batch, BATCHES, sizeof batch[0], compare_ticks);
	return (double)batch[BATCHES / 2] / PAIRS;
}

/* The cost of a pair is measured with all in place, then forgotten. */
static void calibrate(struct octavo_profiler *p)
{
	const struct phase_moment now = octavo_phase_moment_now(p);
	const double ticks = (double)(now.ticks - p->start.ticks), ns = (double)(now.ns - p->start.ns);

	p->event_period = ns > 0 ? (uint64_t)(EVENT_PERIOD_NS * ticks / ns) : 0;
	p->pair_ticks = measure_pair(p, OCTAVO_PHASE_OTHER);
	p->sub_pair_ticks = measure_pair(p, OCTAVO_PHASE_DENSE);
	octavo_profiler_reset(p);
}

enum octavo_status octavo_profiler_open_parts(struct octavo_profiler **out,
                                              const struct octavo_profiler_settings *settings,
                                              const struct profiler_parts *parts, struct octavo_error *error)
{
	static atomic_ullong profilers;
	struct octavo_profiler *p;

	if (!out || !settings)
		return fail(error, OCTAVO_EINVAL, "open needs settings and a place for the result");
	*out = NULL;
	if ((unsigned)settings->best_tier > OCTAVO_TIER_TIME)
		return fail(error, OCTAVO_EINVAL, "best_tier: no such tier");
	if (!settings->enabled)
		return OCTAVO_OK;
	p = calloc(1, sizeof *p);
	if (!p)
		return fail(error, OCTAVO_ENOMEM, "out of memory");
	p->serial = atomic_fetch_add(&profilers, 1) + 1;
	p->best_tier = settings->best_tier;
	p->clock = parts->clock;
	p->event_phases = (UINT32_C(1) << (settings->sub_phase_events ? OCTAVO_PHASE_COUNT : OCTAVO_PHASE_TOP)) - 1;
	pthread_mutex_init(&p->lock, NULL);
	p->start = octavo_phase_moment_now(p);
	describe_clock(p);
	choose_backends(p, parts);
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++)
		p->source[c].sub_phases =
		        p->source[c].available && (OCTAVO_CLOCK_COUNTERS & OCTAVO_BIT(c) || settings->sub_phase_events);
	p->owner = octavo_phase_thread_find(p);
	if (!p->owner) {
		octavo_profiler_close(&p);
		return fail(error, OCTAVO_ENOMEM, "out of memory");
	}
	p->owner->is_owner = 1;
	calibrate(p);
	*out = p;
	return OCTAVO_OK;
}

enum octavo_status octavo_profiler_open(struct octavo_profiler **out, const struct octavo_profiler_settings *settings,
                                        struct octavo_error *error)
{
	const struct octavo_counter_backend *backend[] = {
	        NULL,
	        &octavo_counters_hardware,
	        &octavo_counters_software,
	        &octavo_counters_time,
	};
	struct profiler_parts parts = {octavo_clock_choose(), backend, sizeof backend / sizeof backend[0], ""};

	/* PAPI takes milliseconds to start: only for those who ask for what it gives. */
	if (settings && settings->enabled && settings->best_tier == OCTAVO_TIER_HARDWARE)
		backend[0] = octavo_counters_load("octavo-papi.so", parts.no_module, sizeof parts.no_module);
	return octavo_profiler_open_parts(out, settings, &parts, error);
}

void octavo_profiler_close(struct octavo_profiler **profiler)
{
	if (!profiler || !*profiler)
		return;
	octavo_phase_threads_free(*profiler);
	pthread_mutex_destroy(&(*profiler)->lock);
	free(*profiler);
	*profiler = NULL;
}

enum octavo_status octavo_profiler_reset(struct octavo_profiler *p)
{
	if (!p)
		return OCTAVO_OK;
	if (octavo_phase_thread_find(p) != p->owner || p->owner->position)
		return OCTAVO_EINVAL;
	/* The other threads follow when they next call: only they can read their counters. */
	atomic_fetch_add_explicit(&p->epoch, 1, memory_order_relaxed);
	atomic_store_explicit(&p->refused, 0, memory_order_relaxed);
	octavo_phase_thread_restart(p->owner);
	p->reset_ticks = p->owner->last_ticks;
	return OCTAVO_OK;
}
