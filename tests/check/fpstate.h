/* SPDX-License-Identifier: Apache-2.0
 *
 * The floating-point control register: how it stands, and how a hostile caller may leave it.
 */
#ifndef OCTAVO_CHECK_FPSTATE_H
#define OCTAVO_CHECK_FPSTATE_H

#include <fenv.h>
#include <stdint.h>

/* Rounding, flush-to-zero and exception masks, without the sticky exception flags, which any operation may set. */
static inline uint32_t fp_control(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_stmxcsr() & ~0x3Fu;
#elif defined(__aarch64__)
	uint64_t control;
	__asm__ volatile("mrs %0, fpcr" : "=r"(control));
	return (uint32_t)control;
#else
	return (uint32_t)fegetround();
#endif
}

/* Round toward zero and, where the architecture can, flush subnormals. */
static inline void fp_make_hostile(void)
{
#if defined(__x86_64__)
	__builtin_ia32_ldmxcsr(0x1F80u | 0x6000u | 0x8000u | 0x0040u); /* RZ, FTZ, DAZ */
#elif defined(__aarch64__)
	uint64_t control = (3u << 22) | (1u << 24); /* RZ, FZ */
	__asm__ volatile("msr fpcr, %0" : : "r"(control));
#else
	fesetround(FE_TOWARDZERO);
#endif
}

static inline void fp_make_default(void)
{
	fesetenv(FE_DFL_ENV);
}

#endif
