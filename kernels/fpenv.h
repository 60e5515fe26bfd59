/* SPDX-License-Identifier: Apache-2.0
 *
 * The floating-point environment of the contract: round to nearest even, no flush-to-zero, no traps.
 * Whoever runs kernels on a thread enters it before and leaves it after, so that neither a caller's
 * rounding mode changes our bits nor our work changes the caller's mode.
 */
#ifndef OCTAVO_FPENV_H
#define OCTAVO_FPENV_H

#if defined(__x86_64__)
#include <xmmintrin.h>

typedef unsigned octavo_fpenv;

static inline octavo_fpenv octavo_fpenv_enter(void)
{
	octavo_fpenv caller = _mm_getcsr();
	_mm_setcsr(0x1f80);
	return caller;
}

static inline void octavo_fpenv_leave(octavo_fpenv caller)
{
	_mm_setcsr(caller);
}

#elif defined(__aarch64__)
#include <stdint.h>

typedef uint64_t octavo_fpenv;

static inline octavo_fpenv octavo_fpenv_enter(void)
{
	octavo_fpenv caller;
	uint64_t standard = 0;
	__asm__ volatile("mrs %0, fpcr" : "=r"(caller));
	__asm__ volatile("msr fpcr, %0" : : "r"(standard) : "memory");
	return caller;
}

static inline void octavo_fpenv_leave(octavo_fpenv caller)
{
	__asm__ volatile("msr fpcr, %0" : : "r"(caller) : "memory");
}

#else
#include <fenv.h>

typedef fenv_t octavo_fpenv;

static inline octavo_fpenv octavo_fpenv_enter(void)
{
	octavo_fpenv caller;
	fegetenv(&caller);
	fesetenv(FE_DFL_ENV);
	return caller;
}

static inline void octavo_fpenv_leave(octavo_fpenv caller)
{
	fesetenv(&caller);
}
#endif

#endif
