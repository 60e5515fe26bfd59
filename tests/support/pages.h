/* SPDX-License-Identifier: Apache-2.0
 *
 * Page faults, made on purpose.
 */
#ifndef OCTAVO_TEST_PAGES_H
#define OCTAVO_TEST_PAGES_H

#include <sys/mman.h>
#include <unistd.h>

/* Touches `count` new pages; fails the test if there are none. */
static inline void touch_pages(size_t count)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	volatile char *memory = mmap(NULL, count * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	madvise((void *)memory, count * page, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < count; i++)
		memory[i * page] = 1;
	munmap((void *)memory, count * page);
}

#endif
