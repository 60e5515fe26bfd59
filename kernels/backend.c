/* SPDX-License-Identifier: Apache-2.0
 *
 * Loads a backend by its name and lays its kernels over a table.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "kernels/backend.h"

#include "fp8/error.h"
#include "kernels/sets.h"

#include <stdio.h>
#include <string.h>

static const char *const names[] = {"onednn", "xsmm", NULL};

const char *const *octavo_backend_names(void)
{
	return names;
}

static int is_known(const char *name)
{
	for (size_t i = 0; names[i]; i++)
		if (!strcmp(names[i], name))
			return 1;
	return 0;
}

enum octavo_status octavo_backend_overlay(struct octavo_kernels *table, const char *name, struct octavo_error *error)
{
	char file[32];

	if (!table || !name)
		return octavo_fail(error, OCTAVO_EINVAL, "backend: a null argument");
	if (!is_known(name))
		return octavo_fail(error, OCTAVO_EINVAL, "backend: unknown name \"%s\"", name);
	snprintf(file, sizeof file, "octavo-%s.so", name);

	struct octavo_error why;
	const struct octavo_backend_module *module = octavo_module_load(file, OCTAVO_BACKEND_MODULE_SYMBOL, &why);
	if (!module)
		return octavo_fail(error, OCTAVO_ENOTSUP, "backend %s: %s", name, why.text);
	if (module->version != OCTAVO_BACKEND_MODULE_VERSION || module->table_size != sizeof *table)
		return octavo_fail(error, OCTAVO_ENOTSUP, "backend %s: %s is of another version", name, file);
	const struct octavo_kernels *set = module->open(&why);
	if (!set)
		return octavo_fail(error, OCTAVO_ENOTSUP, "backend %s: %s", name, why.text);
	octavo_kernels_overlay(table, set);
	return OCTAVO_OK;
}
