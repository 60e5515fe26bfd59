/* SPDX-License-Identifier: Apache-2.0
 *
 * Finding and loading a module of counters.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "profiler/counters.h"

#ifndef OCTAVO_MODULEDIR
#error "the build says where modules are installed"
#endif

/* The backend of one file that exists, or NULL with the reason. */
static const struct octavo_counter_backend *load_path(const char *path, char *reason, size_t size)
{
	const struct octavo_counter_module *module;
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (!library) {
		snprintf(reason, size, "%s", dlerror());
		return NULL;
	}
	module = dlsym(library, OCTAVO_COUNTER_MODULE_SYMBOL);
	if (module && module->version == OCTAVO_COUNTER_MODULE_VERSION &&
	    module->counter_count == OCTAVO_COUNTER_COUNT &&
	    module->source_size == sizeof(struct octavo_counter_source))
		return module->backend;
	snprintf(reason, size, "%s: not a module of counters of this version", path);
	dlclose(library);
	return NULL;
}

const struct octavo_counter_backend *octavo_counters_load(const char *file, char *reason, size_t size)
{
	const char *search = secure_getenv("OCTAVO_MODULE_PATH");
	char directories[PATH_MAX + sizeof OCTAVO_MODULEDIR + 1], path[2 * PATH_MAX], *rest = directories;

	snprintf(directories, sizeof directories, "%s:%s", search ? search : "", OCTAVO_MODULEDIR);
	for (char *directory; (directory = strsep(&rest, ":"));) {
		if (!*directory)
			continue;
		snprintf(path, sizeof path, "%s/%s", directory, file);
		if (access(path, R_OK) == 0)
			return load_path(path, reason, size);
	}
	snprintf(reason, size, "%s is not installed", file);
	return NULL;
}
