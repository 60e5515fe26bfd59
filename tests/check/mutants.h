/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels that are wrong in one way each: what the self-test of the harness feeds to the checks.
 */
#ifndef OCTAVO_CHECK_MUTANTS_H
#define OCTAVO_CHECK_MUTANTS_H

#include "harness.h"

struct mutant {
	const char *what;
	const char *check; /* the one that must fail; for the control, that must not */
	void (*install)(struct octavo_kernels *table);
};

/* install_ID: puts the function ID into a slot of the table. */
#define DESCRIPTOR(type, slot, id)                                                                                     \
	static void install_##id(struct octavo_kernels *table)                                                         \
	{                                                                                                              \
		static const struct octavo_##type##_kernel kernel = {#slot, "wrong", 0, 1, id};                        \
		table->slot = &kernel;                                                                                 \
	}

/* Of the matrix products: wrong ones, and right ones, which must pass; each ends with a null name. */
extern const struct mutant gemm_mutants[], gemm_controls[];

#endif
