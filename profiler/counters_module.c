/* SPDX-License-Identifier: Apache-2.0
 *
 * Loading a module of counters.
 */
#include <stdio.h>

#include "profiler/counters.h"

const struct octavo_counter_backend *octavo_counters_load(const char *file, char *reason, size_t size)
{
	struct octavo_error error;
	const struct octavo_counter_module *module = octavo_module_load(file, OCTAVO_COUNTER_MODULE_SYMBOL, &error);

	if (module && module->version == OCTAVO_COUNTER_MODULE_VERSION &&
	    module->counter_count == OCTAVO_COUNTER_COUNT &&
	    module->source_size == sizeof(struct octavo_counter_source))
		return module->backend;
	if (module)
		snprintf(reason, size, "%s: not a module of counters of this version", file);
	else
		snprintf(reason, size, "%s", error.text);
	return NULL;
}
