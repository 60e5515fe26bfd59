/* SPDX-License-Identifier: Apache-2.0
 *
 * The two clocks: CLOCK_MONOTONIC, and the processor's constant-rate counter.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <time.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

#include "profiler/counters.h"

uint64_t octavo_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#if defined(__x86_64__) || defined(__i386__)

uint64_t octavo_ref_cycles(void)
{
	/* The fence waits for the loads before it: without it a phase would hand its last misses to the next. */
	_mm_lfence();
	return __rdtsc();
}

struct octavo_clock octavo_clock_choose(void)
{
	unsigned a = 0, b = 0, c = 0, d = 0;

	/* "Invariant TSC": same rate in all P, C and T states (Intel SDM 3B 18.17; AMD APM 2, 13.2.4). */
	if (__get_cpuid(0x80000007u, &a, &b, &c, &d) && (d & (1u << 8)))
		return (struct octavo_clock){octavo_ref_cycles, 1, "rdtsc", "", ""};
	return (struct octavo_clock){octavo_now_ns, 0, "CLOCK_MONOTONIC",
	                             "this processor does not promise a time-stamp counter of constant rate",
	                             "in a virtual machine, let the host pass the invariant TSC flag (QEMU: +invtsc)"};
}

#elif defined(__aarch64__)

uint64_t octavo_ref_cycles(void)
{
	uint64_t ticks;

	__asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks) : : "memory");
	return ticks;
}

struct octavo_clock octavo_clock_choose(void)
{
	return (struct octavo_clock){octavo_ref_cycles, 1, "cntvct_el0", "", ""};
}

#else

uint64_t octavo_ref_cycles(void)
{
	return octavo_now_ns();
}

struct octavo_clock octavo_clock_choose(void)
{
	return (struct octavo_clock){octavo_now_ns, 0, "CLOCK_MONOTONIC",
	                             "no constant-rate counter is known for this architecture", ""};
}

#endif
