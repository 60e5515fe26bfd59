/* SPDX-License-Identifier: Apache-2.0
 *
 * What the Highway module and the library know of each other.
 */
#ifndef OCTAVO_HWY_MODULE_H
#define OCTAVO_HWY_MODULE_H

#include "octavo_kernels.h"

/* One of the sets in the module, for Highway's `target` ("AVX3").  Its kernels say isa "hwy". */
struct octavo_module_set {
	const char *target;
	const struct octavo_kernels *set;
};

/* What the module defines under the name OCTAVO_KERNEL_MODULE_SYMBOL.  A module of another version is refused: the
 * version changes with any struct that kernels are given. */
enum { OCTAVO_KERNEL_MODULE_VERSION = 1 };
#define OCTAVO_KERNEL_MODULE_SYMBOL "octavo_kernel_module"
struct octavo_kernel_module {
	uint32_t version;    /* OCTAVO_KERNEL_MODULE_VERSION */
	uint32_t table_size; /* sizeof(struct octavo_kernels) */
	/* Writes the sets that this CPU can run, the best first, and returns how many they are, at most `room`. */
	size_t (*sets)(struct octavo_module_set *set, size_t room);
};

/* The sets of octavo-hwy.so, the best first; loads it on the first call, and it stays loaded.  Zero sets, with the
 * reason in *reason (otherwise ""), if it is absent, refused, or knows no target of this CPU with fused multiply-add. */
#define OCTAVO_MODULE_SETS 16
size_t octavo_hwy_sets(const struct octavo_module_set **set, const char **reason);

#endif
