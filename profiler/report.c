/* SPDX-License-Identifier: Apache-2.0
 *
 * From ticks and events to a report.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "profiler/phase.h"

const char *octavo_phase_name(enum octavo_phase phase)
{
	static const char *const names[] = {
#define PHASE_NAME(id, name) name,
	        OCTAVO_PHASES(PHASE_NAME)
#undef PHASE_NAME
	};

	return (unsigned)phase < OCTAVO_PHASE_COUNT ? names[phase] : "unknown";
}

const char *octavo_tier_name(enum octavo_tier tier)
{
	static const char *const names[] = {"hardware", "software", "time"};

	return (unsigned)tier <= OCTAVO_TIER_TIME ? names[tier] : "unknown";
}

const char *octavo_counter_name(enum octavo_counter counter)
{
	static const char *const names[] = {
#define COUNTER_NAME(id, name, unit) name,
	        OCTAVO_COUNTERS(COUNTER_NAME)
#undef COUNTER_NAME
	};

	return (unsigned)counter < OCTAVO_COUNTER_COUNT ? names[counter] : "unknown";
}

const char *octavo_counter_unit(enum octavo_counter counter)
{
	static const char *const units[] = {
#define COUNTER_UNIT(id, name, unit) unit,
	        OCTAVO_COUNTERS(COUNTER_UNIT)
#undef COUNTER_UNIT
	};

	return (unsigned)counter < OCTAVO_COUNTER_COUNT ? units[counter] : "";
}

/* Nanoseconds per tick over the whole life of the profiler: the longer it lives the better it is known, and the
 * wall times are those of CLOCK_MONOTONIC in sum. */
static double ns_per_tick(const struct octavo_profiler *p)
{
	const struct phase_moment now = octavo_phase_moment_now(p);

	if (!p->clock.counts_ref_cycles || now.ticks == p->start.ticks)
		return 1.0;
	return (double)(now.ns - p->start.ns) / (double)(now.ticks - p->start.ticks);
}

/* value[] of one phase of one thread, added to sum[] in the counters' units. */
static void add_counts(double *sum, uint64_t ticks, const uint64_t *events, double tick_ns, int has_ref_cycles)
{
	sum[OCTAVO_COUNTER_WALL_NS] += (double)ticks * tick_ns;
	if (has_ref_cycles)
		sum[OCTAVO_COUNTER_REF_CYCLES] += (double)ticks;
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++)
		if (!(OCTAVO_CLOCK_COUNTERS & OCTAVO_BIT(c)))
			sum[c] += (double)events[c];
}

static void add_thread(struct octavo_profile *out, const struct phase_thread *thread, double tick_ns)
{
	const int ref = thread->profiler->clock.counts_ref_cycles;

	for (unsigned i = 0; i < OCTAVO_PHASE_COUNT; i++) {
		struct octavo_phase_report *phase = &out->phase[i];
		const unsigned row = 1 + i;

		add_counts(phase->self, thread->self_ticks[row], thread->self_events[row], tick_ns, ref);
		add_counts(phase->inclusive, thread->inclusive_ticks[row], thread->inclusive_events[row], tick_ns, ref);
	}
	out->mismatches += thread->mismatches;
	out->threads++;
}

static void add_owner(struct octavo_profile *out, const struct octavo_profiler *p, double tick_ns)
{
	static const uint64_t no_events[OCTAVO_COUNTER_COUNT];
	const struct phase_thread *owner = p->owner;
	const int ref = p->clock.counts_ref_cycles;
	uint64_t total_events[OCTAVO_COUNTER_COUNT];

	for (unsigned i = 0; i < OCTAVO_PHASE_COUNT; i++) {
		struct octavo_phase_report *phase = &out->phase[i];
		const unsigned row = 1 + i;

		phase->calls = owner->calls[row];
		add_counts(phase->owner_self, owner->self_ticks[row], owner->self_events[row], tick_ns, ref);
		add_counts(phase->owner_inclusive, owner->inclusive_ticks[row], owner->inclusive_events[row], tick_ns,
		           ref);
	}
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++)
		total_events[c] = owner->last_events[c] - owner->first_events[c];
	add_counts(out->total, owner->last_ticks - p->reset_ticks, total_events, tick_ns, ref);
	add_counts(out->unattributed, owner->self_ticks[0], owner->self_events[0], tick_ns, ref);
	add_counts(out->overhead, owner->overhead_ticks, no_events, tick_ns, ref);
	out->overhead_ns = out->overhead[OCTAVO_COUNTER_WALL_NS];
}

/* Why the thread has a hole in the counter: an errno value, or 0 if the counter ran backwards. */
static int loss_error(const struct phase_thread *thread, unsigned counter)
{
	const struct octavo_profiler *p = thread->profiler;

	for (unsigned i = 0; i < p->backends; i++)
		if (p->counters[i] & OCTAVO_BIT(counter))
			return thread->backend_error[i];
	return 0;
}

/* A sum over threads with one missing would be wrong without looking so: the counter is gone as a whole. */
static void mark_loss(struct octavo_counter_source *source, const struct octavo_profiler *p, unsigned counter,
                      unsigned threads)
{
	const unsigned epoch = p->owner->epoch;
	unsigned lost = 0;
	int error = 0;

	for (const struct phase_thread *thread = p->threads; thread; thread = thread->next)
		if (thread->epoch == epoch && thread->lost & OCTAVO_BIT(counter)) {
			lost++;
			error = loss_error(thread, counter);
		}
	if (!lost)
		return;
	snprintf(source->reason, sizeof source->reason, "%s: lost on %u of %u threads: %s", source->source, lost,
	         threads, error ? strerror(error) : "the count ran backwards");
	snprintf(source->remedy, sizeof source->remedy, "%s",
	         error == EMFILE ? "raise the limit of open files (ulimit -n)" : "");
	source->available = 0;
	source->sub_phases = 0;
	source->source[0] = '\0';
}

/* The counter whose absence tells why the tier is not the next better one. */
static void describe_tier(struct octavo_profile *out, const struct octavo_profiler *p)
{
	const char *reason = "";

	if (p->tier == OCTAVO_TIER_SOFTWARE)
		reason = p->source[OCTAVO_COUNTER_CORE_CYCLES].reason;
	else if (p->tier == OCTAVO_TIER_TIME)
		reason = p->source[OCTAVO_COUNTER_CPU_MIGRATIONS].reason;
	snprintf(out->tier_reason, sizeof out->tier_reason, "%s", reason);
	out->tier = p->tier;
}

static void describe_nothing(struct octavo_profile *out)
{
	static const struct octavo_counter_source off = {.reason = "profiling is off", .remedy = "turn it on"};

	out->tier = OCTAVO_TIER_TIME;
	snprintf(out->tier_reason, sizeof out->tier_reason, "%s", off.reason);
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++)
		out->source[c] = off;
}

enum octavo_status octavo_profiler_report(struct octavo_profiler *p, struct octavo_profile *out)
{
	double tick_ns;

	if (!out)
		return OCTAVO_EINVAL;
	memset(out, 0, sizeof *out);
	if (!p) {
		describe_nothing(out);
		return OCTAVO_OK;
	}
	if (octavo_phase_thread_find(p) != p->owner)
		return OCTAVO_EINVAL;
	octavo_phase_charge_ticks(p->owner, p->clock.ticks());
	octavo_phase_charge_events(p->owner);
	tick_ns = ns_per_tick(p);
	for (const struct phase_thread *thread = p->threads; thread; thread = thread->next)
		if (thread->epoch == p->owner->epoch)
			add_thread(out, thread, tick_ns);
	add_owner(out, p, tick_ns);
	out->mismatches += atomic_load_explicit(&p->refused, memory_order_relaxed);
	out->pair_ns = p->pair_ticks * tick_ns;
	out->sub_pair_ns = p->sub_pair_ticks * tick_ns;
	describe_tier(out, p);
	memcpy(out->source, p->source, sizeof out->source);
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++)
		mark_loss(&out->source[c], p, c, out->threads);
	return OCTAVO_OK;
}

/* The index-th thread of this epoch: the owner, then the others, oldest first (the list has the newest first). */
static const struct phase_thread *find_thread(const struct octavo_profiler *p, unsigned index)
{
	unsigned others = 0, wanted;

	if (index == 0)
		return p->owner;
	for (const struct phase_thread *thread = p->threads; thread; thread = thread->next)
		others += thread != p->owner && thread->epoch == p->owner->epoch;
	if (index > others)
		return NULL;
	wanted = others - index; /* from the newest on */
	for (const struct phase_thread *thread = p->threads; thread; thread = thread->next)
		if (thread != p->owner && thread->epoch == p->owner->epoch && wanted-- == 0)
			return thread;
	return NULL;
}

enum octavo_status octavo_profiler_thread(struct octavo_profiler *p, unsigned index, struct octavo_thread_report *out)
{
	const struct phase_thread *thread;
	double tick_ns;

	if (!p || !out || octavo_phase_thread_find(p) != p->owner)
		return OCTAVO_EINVAL;
	thread = find_thread(p, index);
	if (!thread)
		return OCTAVO_EINVAL;
	memset(out, 0, sizeof *out);
	out->owner = thread == p->owner;
	tick_ns = ns_per_tick(p);
	for (unsigned i = 0; i < OCTAVO_PHASE_COUNT; i++) {
		const int ref = p->clock.counts_ref_cycles;
		const unsigned row = 1 + i;

		add_counts(out->self[i], thread->self_ticks[row], thread->self_events[row], tick_ns, ref);
		add_counts(out->inclusive[i], thread->inclusive_ticks[row], thread->inclusive_events[row], tick_ns, ref);
	}
	return OCTAVO_OK;
}
