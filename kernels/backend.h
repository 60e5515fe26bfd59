/* SPDX-License-Identifier: Apache-2.0
 *
 * The modules that bring other libraries' matrix products: kernels/backend_<name>.c becomes octavo-<name>.so.
 */
#ifndef OCTAVO_BACKEND_H
#define OCTAVO_BACKEND_H

#include "octavo_kernels.h"

/* What such a module defines under the name OCTAVO_BACKEND_MODULE_SYMBOL.  A module of another version is refused:
 * the version changes with any struct that kernels are given. */
enum { OCTAVO_BACKEND_MODULE_VERSION = 1 };
#define OCTAVO_BACKEND_MODULE_SYMBOL "octavo_backend_module"
struct octavo_backend_module {
	uint32_t version;    /* OCTAVO_BACKEND_MODULE_VERSION */
	uint32_t table_size; /* sizeof(struct octavo_kernels) */
	/* The slots that it brings, the others NULL.  The first call makes all that they need and that can fail; NULL,
	 * with the reason in *error, if it does.  From any thread. */
	const struct octavo_kernels *(*open)(struct octavo_error *error);
};

#endif
