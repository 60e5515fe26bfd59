/* SPDX-License-Identifier: Apache-2.0
 *
 * Counters that need nobody's leave: the thread's CPU clock and the kernel's books on the thread.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "profiler/counters.h"

enum {
	FROM_RUSAGE = OCTAVO_BIT(OCTAVO_COUNTER_PAGE_FAULTS) | OCTAVO_BIT(OCTAVO_COUNTER_CONTEXT_SWITCHES),
	FROM_CPU_CLOCK = OCTAVO_BIT(OCTAVO_COUNTER_TASK_CLOCK_NS),
};

static uint32_t time_probe(const struct octavo_counter_backend *backend, uint32_t wanted,
                           struct octavo_counter_source *source)
{
	(void)backend;
	for (unsigned i = 0; i < OCTAVO_COUNTER_COUNT; i++)
		if (wanted & (FROM_RUSAGE | FROM_CPU_CLOCK) & OCTAVO_BIT(i))
			snprintf(source[i].source, sizeof source[i].source, "%s",
			         FROM_RUSAGE & OCTAVO_BIT(i) ? "getrusage" : "CLOCK_THREAD_CPUTIME_ID");
	return wanted & (FROM_RUSAGE | FROM_CPU_CLOCK);
}

static int time_start(const struct octavo_counter_backend *backend, uint32_t counters, void **thread)
{
	uint32_t *started = malloc(sizeof *started);

	(void)backend;
	if (!started)
		return ENOMEM;
	*started = counters;
	*thread = started;
	return 0;
}

static int time_read(void *thread, uint64_t *value)
{
	const uint32_t counters = *(const uint32_t *)thread;

	if (counters & FROM_CPU_CLOCK) {
		struct timespec used;

		if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used))
			return errno;
		value[OCTAVO_COUNTER_TASK_CLOCK_NS] = (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
	}
	if (counters & FROM_RUSAGE) {
		struct rusage usage;

		if (getrusage(RUSAGE_THREAD, &usage))
			return errno;
		if (counters & OCTAVO_BIT(OCTAVO_COUNTER_PAGE_FAULTS))
			value[OCTAVO_COUNTER_PAGE_FAULTS] = (uint64_t)(usage.ru_minflt + usage.ru_majflt);
		if (counters & OCTAVO_BIT(OCTAVO_COUNTER_CONTEXT_SWITCHES))
			value[OCTAVO_COUNTER_CONTEXT_SWITCHES] = (uint64_t)(usage.ru_nvcsw + usage.ru_nivcsw);
	}
	return 0;
}

const struct octavo_counter_backend octavo_counters_time = {
        .name = "time",
        .tier = OCTAVO_TIER_TIME,
        .probe = time_probe,
        .start_thread = time_start,
        .read = time_read,
        .stop_thread = free,
};
