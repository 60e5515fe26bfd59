/* SPDX-License-Identifier: Apache-2.0
 *
 * Guarded buffers.  The layout of the one mapping:
 *
 *     | no access | region 0 | no access | region 1 | ... | no access |
 *
 * A buffer that touches a guard page turns an access beyond that end into a signal; at its other end, or in the
 * gap of a misaligned buffer, a margin of canary bytes shows a stray write.
 */
#include "memory.h"

#include <string.h>
#include <sys/mman.h>

enum { REGIONS = 48, REGION_BYTES = 4 << 20, GUARD_BYTES = 64 << 10, MARGIN = 128 };

struct buffer {
	uint8_t *low, *start, *end, *high; /* margins [low, start) and [end, high) around [start, end) */
};

static uint8_t *mapping; /* [REGIONS] of guard and region, and a last guard */
static struct buffer live[REGIONS];
static size_t live_count;
static bool guarded;

bool memory_open(bool guards)
{
	guarded = guards;
	/* 64 KiB is a multiple of every page size in use. */
	const size_t stride = GUARD_BYTES + REGION_BYTES;
	void *base = mmap(NULL, REGIONS * stride + GUARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		return false;
	mapping = base;
	for (size_t i = 0; i < REGIONS; i++)
		if (mprotect(mapping + i * stride + GUARD_BYTES, REGION_BYTES, PROT_READ | PROT_WRITE) != 0)
			return false;
	return true;
}

void memory_reset(void)
{
	live_count = 0;
}

/* Two bits choose the end that touches a guard page, or none; six more choose how far off. */
static uint8_t *place(uint8_t *region, size_t bytes, size_t align, uint32_t placement)
{
	uint8_t *last = region + REGION_BYTES - (bytes + align - 1) / align * align;
	size_t off = (placement >> 2 & 63) / align * align;

	if (!guarded)
		return region + MARGIN + off;
	switch (placement & 3) {
	case 0:
		return region;
	case 1:
		return placement & 256 ? region + off : last - off;
	default:
		return last;
	}
}

void *memory_take(size_t bytes, size_t align, uint32_t placement)
{
	if (live_count == REGIONS || bytes > REGION_BYTES - 3 * MARGIN)
		return NULL;
	uint8_t *region = mapping + live_count * (GUARD_BYTES + REGION_BYTES) + GUARD_BYTES;
	uint8_t *start = place(region, bytes, align, placement);
	struct buffer *buffer = &live[live_count++];
	buffer->start = start;
	buffer->end = start + bytes;
	buffer->low = start - region < MARGIN ? region : start - MARGIN;
	buffer->high = region + REGION_BYTES - buffer->end < MARGIN ? region + REGION_BYTES : buffer->end + MARGIN;
	memset(buffer->low, MEMORY_CANARY, (size_t)(buffer->high - buffer->low));
	return start;
}

static bool intact(const uint8_t *from, const uint8_t *to)
{
	for (; from < to; from++)
		if (*from != MEMORY_CANARY)
			return false;
	return true;
}

const char *memory_damage(void)
{
	for (size_t i = 0; i < live_count; i++) {
		if (!intact(live[i].low, live[i].start))
			return "before";
		if (!intact(live[i].end, live[i].high))
			return "behind";
	}
	return NULL;
}
