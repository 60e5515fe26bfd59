/* SPDX-License-Identifier: Apache-2.0
 *
 * The perf_event backends' insides: what they open and how; the tests bring their own kernel.
 */
#ifndef OCTAVO_COUNTERS_PERF_H
#define OCTAVO_COUNTERS_PERF_H

#include <linux/perf_event.h>

#include "profiler/counters.h"

enum { PERF_EVENTS_MAX = 4 };

struct perf_choice {
	enum octavo_counter counter;
	uint32_t type;
	uint64_t config;
	int in_kernel; /* it happens in the kernel, so that a count of user mode alone is a silent zero */
	const char *name;
};

/* The context of a perf_event backend. */
struct perf_group {
	struct perf_choice choice[PERF_EVENTS_MAX]; /* [choices] */
	unsigned choices;
	int hardware;
	/* perf_event_open for the calling thread on any processor, in the group of the leader (-1: its own). */
	int (*open)(struct perf_event_attr *attr, int leader);
};

#endif
