/* SPDX-License-Identifier: Apache-2.0
 *
 * One allocation for all of an object's buffers: the same carving function runs twice, first to measure
 * (base NULL), then to hand out cache-line aligned pieces.
 */
#ifndef OCTAVO_ARENA_H
#define OCTAVO_ARENA_H

#include "octavo_base.h"

struct octavo_arena {
	char *base;
	size_t used;
	int overflow; /* a size did not fit in size_t */
};

/* The first aligned address of an allocation that is OCTAVO_ALIGNMENT bytes larger than needed. */
static inline char *octavo_aligned(void *memory)
{
	return (char *)(((uintptr_t)memory + OCTAVO_ALIGNMENT - 1) & ~(uintptr_t)(OCTAVO_ALIGNMENT - 1));
}

static inline void *octavo_carve(struct octavo_arena *arena, size_t count, size_t size)
{
	size_t bytes;
	if (__builtin_mul_overflow(count, size, &bytes) ||
	    __builtin_add_overflow(bytes, (size_t)OCTAVO_ALIGNMENT - 1, &bytes))
		arena->overflow = 1;
	bytes &= ~((size_t)OCTAVO_ALIGNMENT - 1);
	void *piece = arena->base ? arena->base + arena->used : NULL;
	if (__builtin_add_overflow(arena->used, bytes, &arena->used))
		arena->overflow = 1;
	return piece;
}

#endif
