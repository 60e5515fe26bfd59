/* SPDX-License-Identifier: Apache-2.0
 *
 * The classic errors of a DeepSeek-V3 forward pass, put into an open engine on purpose: a test of the tests.
 * Names as in tests/data/faults.json, where the oracle measured what each does.
 */
#ifndef OCTAVO_TEST_FAULTS_H
#define OCTAVO_TEST_FAULTS_H

#include "engine/internal.h"

struct fault {
	const char *name;
	/* Changes the engine's own data or kernel table; `table` is a copy that the engine uses. */
	void (*inject)(struct octavo_engine *e, struct octavo_kernels *table);
	int only_mtp; /* shows in the MTP module's logits alone */
};

extern const struct fault faults[];
extern const size_t fault_count;

/* Frees what injections allocated. */
void faults_free(void);

#endif
