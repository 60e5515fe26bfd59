/* SPDX-License-Identifier: Apache-2.0
 *
 * Guarded buffers: each lies in a region of its own between two inaccessible pages.
 */
#ifndef OCTAVO_CHECK_MEMORY_H
#define OCTAVO_CHECK_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMORY_CANARY 0xAA

/* Reserves the regions; false if the system refuses.  Without `guards` no buffer touches an inaccessible page. */
bool memory_open(bool guards);
/* Gives all buffers back. */
void memory_reset(void);
/* A buffer filled with the canary byte, placed by the bits of `placement` (see check_alloc); NULL if too large. */
void *memory_take(size_t bytes, size_t align, uint32_t placement);
/* "before" or "behind" if a byte next to some buffer has changed, else NULL. */
const char *memory_damage(void);

/* The address behind p, where no element of more than a byte may lie: for checks of refusals. */
static inline void *memory_odd(const void *p)
{
	return (void *)((uintptr_t)p + 1);
}

#endif
