/* SPDX-License-Identifier: Apache-2.0
 *
 * The sets of the Highway module, as the rest of the kernels sees them.
 */
#include "kernels/hwy_module.h"

#include "fp8/error.h"

#include <pthread.h>

static const char file[] = "octavo-hwy.so";
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct octavo_module_set sets[OCTAVO_MODULE_SETS];
static size_t set_count;
static struct octavo_error why_none;

static void load(void)
{
	const struct octavo_kernel_module *module =
	        octavo_module_load(file, OCTAVO_KERNEL_MODULE_SYMBOL, &why_none);

	if (!module)
		return;
	if (module->version != OCTAVO_KERNEL_MODULE_VERSION || module->table_size != sizeof(struct octavo_kernels)) {
		octavo_fail(&why_none, OCTAVO_ENOTSUP, "%s: not a module of kernels of this version", file);
		return;
	}
	set_count = module->sets(sets, OCTAVO_MODULE_SETS);
	if (set_count == 0)
		octavo_fail(&why_none, OCTAVO_ENOTSUP, "%s has no target with fused multiply-add for this CPU", file);
}

size_t octavo_hwy_sets(const struct octavo_module_set **set, const char **reason)
{
	pthread_once(&once, load);
	*set = sets;
	*reason = why_none.text;
	return set_count;
}
