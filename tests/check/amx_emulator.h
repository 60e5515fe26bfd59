/* SPDX-License-Identifier: Apache-2.0
 *
 * AMX-TILE and AMX-BF16 in software, for machines whose processor has AVX-512 but no tiles.
 *
 * What runs are the library's own kernels, instruction for instruction: where the processor refuses one for tiles
 * (SIGILL), the handler does what the instruction should (Intel SDM, volume 2) and continues behind it.  It is
 * stricter than the processor: what the manual leaves open or what no kernel should do stays an illegal instruction.
 */
#ifndef OCTAVO_CHECK_AMX_EMULATOR_H
#define OCTAVO_CHECK_AMX_EMULATOR_H

#include <stdbool.h>

/* Executes the tile instruction at which the context stands; false if there is none or if it is wrong.
 * `context` is the third argument of a SIGILL handler (ucontext_t). */
bool amx_emulate(void *context);

/* Whether the calling thread has tiles configured. */
bool amx_emulator_in_use(void);

/* Releases the calling thread's tiles. */
void amx_emulator_release(void);

#endif
