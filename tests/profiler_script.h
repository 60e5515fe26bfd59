/* SPDX-License-Identifier: Apache-2.0
 *
 * A scripted clock and a scripted backend of counters, for tests of the profiler in exact integers.
 */
#ifndef OCTAVO_TESTS_PROFILER_SCRIPT_H
#define OCTAVO_TESTS_PROFILER_SCRIPT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "profiler/phase.h"

/* Each thread has a time and counts of its own, which only the test moves. */
static _Thread_local uint64_t mock_now;
static _Thread_local uint64_t mock_count[OCTAVO_COUNTER_COUNT];

static struct {
	uint64_t clock_step; /* the clock's advance at each read */
	int growing;         /* the counts grow at each read, as they must while the profiler checks them */
	uint32_t provides;   /* counters that the probe finds */
	uint32_t stuck;      /* of these, those that stay zero */
	int start_error;     /* errno of starts after the first start_limit */
	atomic_int starts, start_limit;
	int read_error;
	atomic_int reads, running;
} script;

static uint64_t mock_ticks(void)
{
	return mock_now += script.clock_step;
}

static uint32_t mock_probe(const struct octavo_counter_backend *backend, uint32_t wanted,
                           struct octavo_counter_source *source)
{
	(void)backend;
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++)
		if (wanted & script.provides & OCTAVO_BIT(c))
			strcpy(source[c].source, "mock");
	return script.provides;
}

static int mock_start(const struct octavo_counter_backend *backend, uint32_t counters, void **thread)
{
	(void)backend;
	if (script.start_error && script.starts >= script.start_limit)
		return script.start_error;
	script.starts++;
	script.running++;
	*thread = malloc(sizeof counters);
	memcpy(*thread, &counters, sizeof counters);
	return 0;
}

static int mock_read(void *thread, uint64_t *value)
{
	uint32_t counters;

	memcpy(&counters, thread, sizeof counters);
	script.reads++;
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		if (!(counters & OCTAVO_BIT(c)))
			continue;
		if (script.growing && !(script.stuck & OCTAVO_BIT(c)))
			mock_count[c] += 1000000;
		value[c] = mock_count[c];
	}
	return script.read_error;
}

static void mock_stop(void *thread)
{
	script.running--;
	free(thread);
}

static const struct octavo_counter_backend mock_backend = {
        .name = "mock",
        .tier = OCTAVO_TIER_HARDWARE,
        .probe = mock_probe,
        .start_thread = mock_start,
        .read = mock_read,
        .stop_thread = mock_stop,
};

static const struct octavo_profiler_settings all = {.enabled = 1, .best_tier = OCTAVO_TIER_HARDWARE};

static struct octavo_profiler *open_scripted(const struct octavo_profiler_settings *settings)
{
	const struct octavo_counter_backend *const backend[] = {&mock_backend};
	const struct profiler_parts parts = {
	        .clock = {mock_ticks, 1, "mock", "", ""},
	        .backend = backend,
	        .backends = 1,
	};
	struct octavo_profiler *p;
	struct octavo_error error;

	script.growing = 1;
	assert_int_equal(octavo_profiler_open_parts(&p, settings, &parts, &error), OCTAVO_OK);
	script.growing = 0;
	script.reads = 0;
	return p;
}

static int setup(void **state)
{
	(void)state;
	memset(&script, 0, sizeof script);
	memset(mock_count, 0, sizeof mock_count);
	mock_now = 0;
	script.provides = OCTAVO_BIT(OCTAVO_COUNTER_CORE_CYCLES) | OCTAVO_BIT(OCTAVO_COUNTER_PAGE_FAULTS);
	return 0;
}

/* Lets time pass and cycles go by on this thread. */
static void work(uint64_t ticks, uint64_t cycles)
{
	mock_now += ticks;
	mock_count[OCTAVO_COUNTER_CORE_CYCLES] += cycles;
}

static struct octavo_profile report(struct octavo_profiler *p)
{
	struct octavo_profile profile;

	assert_int_equal(octavo_profiler_report(p, &profile), OCTAVO_OK);
	return profile;
}

enum { REF = OCTAVO_COUNTER_REF_CYCLES, CORE = OCTAVO_COUNTER_CORE_CYCLES, WALL = OCTAVO_COUNTER_WALL_NS };

#define assert_self(profile, name, ref, core)                                                                          \
	do {                                                                                                           \
		assert_true((profile).phase[OCTAVO_PHASE_##name].self[REF] == (double)(ref));                          \
		assert_true((profile).phase[OCTAVO_PHASE_##name].self[CORE] == (double)(core));                        \
	} while (0)
#define assert_inclusive(profile, name, ref, core)                                                                     \
	do {                                                                                                           \
		assert_true((profile).phase[OCTAVO_PHASE_##name].inclusive[REF] == (double)(ref));                     \
		assert_true((profile).phase[OCTAVO_PHASE_##name].inclusive[CORE] == (double)(core));                   \
	} while (0)

/* Phases + overhead + unattributed = total: exact in ticks and events, to rounding in nanoseconds. */
static void assert_sums(const struct octavo_profile *profile)
{
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		double sum = profile->overhead[c] + profile->unattributed[c];

		for (unsigned i = 0; i < OCTAVO_PHASE_COUNT; i++)
			sum += profile->phase[i].owner_self[c];
		if (c == WALL)
			assert_true(sum >= profile->total[c] * (1 - 1e-12) && sum <= profile->total[c] * (1 + 1e-12));
		else
			assert_true(sum == profile->total[c]);
	}
	assert_true(profile->overhead_ns == profile->overhead[WALL]);
}

#endif
