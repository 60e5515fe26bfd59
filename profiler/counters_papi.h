/* SPDX-License-Identifier: Apache-2.0
 *
 * The context of the PAPI module's backend; the tests bring events that count without a PMU.
 */
#ifndef OCTAVO_COUNTERS_PAPI_H
#define OCTAVO_COUNTERS_PAPI_H

#include "profiler/counters.h"

enum { PAPI_NAMES = 3, PAPI_EVENTS = 3 };

struct papi_event {
	enum octavo_counter counter;
	const char *name[PAPI_NAMES]; /* best first; NULL after the last */
	/* Found by the first probe: */
	const char *found; /* the name that works, NULL if none does */
	int status;        /* the PAPI status of the last name tried */
};

struct papi_events {
	struct papi_event event[PAPI_EVENTS];
	int searched;
};

#endif
