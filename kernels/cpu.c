/* SPDX-License-Identifier: Apache-2.0
 *
 * Which feature groups this process may use.  No other file asks the CPU.
 * A group counts only with its operating-system state: a kernel that does not save the wide registers
 * (XCR0) makes the instructions fault, whatever CPUID says.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "kernels/cpu.h"
#include "kernels/hwy_module.h"
#include "kernels/pairs.h"
#include "octavo_kernels.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

/* The names that OCTAVO_CPU takes, ascending.  Arm's and x86's sets never meet on one machine. */
static const struct {
	const char *name;
	uint32_t groups;
} levels[] = {
        {"ref", 0},
        {"hwy", OCTAVO_CPU_HWY},
        {"neon", OCTAVO_CPU_NEON},
        {"avx2", OCTAVO_CPU_AVX2},
        {"avx512", OCTAVO_CPU_AVX512 | OCTAVO_CPU_VBMI | OCTAVO_CPU_GFNI},
        {"avx512bf16", OCTAVO_CPU_BF16},
        {"amx", OCTAVO_CPU_AMX},
};
#define LEVELS (sizeof levels / sizeof levels[0])

static pthread_once_t once = PTHREAD_ONCE_INIT, once_all = PTHREAD_ONCE_INIT;
static uint32_t detected, detected_all;
static char reason[512], reason_all[1024];
static _Atomic(const char *) told = reason; /* reason_all, once there is more to say */

__attribute__((format(printf, 1, 2))) static void explain(const char *format, ...)
{
	size_t used = strlen(reason);
	va_list arguments;

	if (used > 0 && used + 2 < sizeof reason) {
		memcpy(reason + used, "; ", 3);
		used += 2;
	}
	va_start(arguments, format);
	vsnprintf(reason + used, sizeof reason - used, format, arguments);
	va_end(arguments);
}

static size_t level_of(const char *name)
{
	size_t i = 0;

	while (i < LEVELS && strcmp(levels[i].name, name))
		i++;
	return i;
}

uint32_t octavo_cpu_allowed(const char *name)
{
	uint32_t groups = 0;

	if (!name)
		return UINT32_MAX;
	size_t last = level_of(name);
	if (last == LEVELS)
		return 0;
	for (size_t i = 0; i <= last; i++)
		groups |= levels[i].groups;
	return groups;
}

#if defined(__x86_64__)

/* XCR0's bits */
#define STATE_YMM 0x6u      /* SSE, AVX */
#define STATE_ZMM 0xe6u     /* those, opmask, ZMM_Hi256, Hi16_ZMM */
#define STATE_TILE 0x60000u /* XTILECFG, XTILEDATA */

#define LEAF1_ECX (bit_FMA | bit_F16C | bit_OSXSAVE | bit_AVX)
#define LEAF7_AVX2 (bit_AVX2 | bit_BMI | bit_BMI2)
#define LEAF7_AVX512 (bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL | bit_AVX512CD)
#define LEAF7_EDX_AMX (1u << 24 | 1u << 22) /* AMX-TILE, AMX-BF16 */

static uint64_t saved_states(void)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

static int has(uint64_t value, uint64_t bits)
{
	return (value & bits) == bits;
}

/* Linux gives tile registers only to a process that asks, and refuses while any thread has an alternate
 * signal stack too small for them.  The answer holds for the process and its later threads. */
static int tile_permission(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
	const long request_permission = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */

	if (!syscall(SYS_arch_prctl, request_permission, tile_data))
		return 1;
	explain("amx: the kernel refused tile registers (%s)%s", strerror(errno),
	        errno == ENOSPC ? ": an alternate signal stack is too small" : "");
#else
	explain("amx: this operating system has no known way to ask for tile registers");
#endif
	return 0;
}

static uint32_t detect_amx(uint32_t edx, uint64_t states, uint32_t have)
{
	if (!has(edx, LEAF7_EDX_AMX)) {
		explain("amx: not in this CPU");
		return 0;
	}
	if (!has(have, OCTAVO_CPU_AVX512 | OCTAVO_CPU_VBMI)) {
		explain("amx: needs AVX-512 VBMI beside it");
		return 0;
	}
	if (!has(states, STATE_TILE)) {
		explain("amx: the operating system does not save tile registers");
		return 0;
	}
	return tile_permission() ? OCTAVO_CPU_AMX : 0;
}

static uint32_t detect_bf16(uint32_t have)
{
	uint32_t eax, ebx, ecx, edx;

	if (!__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) || !(eax & 1u << 5)) { /* AVX512_BF16 */
		explain("avx512bf16: not in this CPU");
		return 0;
	}
	if (!has(have, OCTAVO_CPU_VBMI)) {
		explain("avx512bf16: needs AVX-512 VBMI beside it");
		return 0;
	}
	if (!octavo_pairs_are_chains()) {
		explain("avx512bf16: this CPU's dot products are not two multiply-adds in turn");
		return 0;
	}
	return OCTAVO_CPU_BF16;
}

static uint32_t detect(uint32_t allowed)
{
	uint32_t eax, ebx, ecx, edx, have = 0;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !has(ecx, LEAF1_ECX) ||
	    !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !has(ebx, LEAF7_AVX2)) {
		explain("avx2: not in this CPU");
		return 0;
	}
	uint64_t states = saved_states();
	if (!has(states, STATE_YMM)) {
		explain("avx2: the operating system does not save YMM registers");
		return 0;
	}
	have |= OCTAVO_CPU_AVX2;
	if (!has(ebx, LEAF7_AVX512)) {
		explain("avx512: not in this CPU");
		return have;
	}
	if (!has(states, STATE_ZMM)) {
		explain("avx512: the operating system does not save ZMM registers");
		return have;
	}
	have |= OCTAVO_CPU_AVX512;
	if (ecx & bit_AVX512VBMI)
		have |= OCTAVO_CPU_VBMI;
	if (ecx & bit_GFNI)
		have |= OCTAVO_CPU_GFNI;
	have |= detect_bf16(have);
	if (allowed & OCTAVO_CPU_AMX)
		have |= detect_amx(edx, states, have);
	return have;
}

#elif defined(__aarch64__)

static uint32_t detect(uint32_t allowed)
{
	(void)allowed;
#if defined(__linux__)
	if (!(getauxval(AT_HWCAP) & HWCAP_ASIMD)) {
		explain("neon: not in this CPU");
		return 0;
	}
#endif
	return OCTAVO_CPU_NEON;
}

#else

static uint32_t detect(uint32_t allowed)
{
	(void)allowed;
	explain("this architecture has no kernels of its own");
	return 0;
}

#endif

/* Loads the Highway module; NULL, or why it is of no use.  No target that this set takes does without what the AVX2
 * group stands for, so an older CPU is spared the attempt. */
static const char *why_no_hwy(uint32_t have)
{
	const struct octavo_module_set *set;
	const char *why;

#if defined(__x86_64__)
	if (!(have & OCTAVO_CPU_AVX2))
		return "needs AVX2 and FMA";
#endif
	(void)have;
	return octavo_hwy_sets(&set, &why) > 0 ? NULL : why;
}

static void detect_once(void)
{
	const char *name = getenv("OCTAVO_CPU");
	if (name && !*name)
		name = NULL;
	uint32_t allowed = octavo_cpu_allowed(name);
	uint32_t have = detect(allowed);

	detected = have & allowed;
	if (!detected && allowed & OCTAVO_CPU_HWY) {
		const char *why = why_no_hwy(have);
		if (why)
			explain("hwy: %s", why);
		else
			detected = OCTAVO_CPU_HWY;
	}
	if (!name)
		return;
	if (level_of(name) == LEVELS)
		explain("OCTAVO_CPU=%.40s is not one of ref, hwy, neon, avx2, avx512, avx512bf16, amx: using ref", name);
	else
		explain("OCTAVO_CPU=%s: using %s", name, octavo_cpu_name(detected));
}

uint32_t octavo_cpu_detect(void)
{
	pthread_once(&once, detect_once);
	return detected;
}

static void detect_all_once(void)
{
	detected_all = octavo_cpu_detect();
	if (!detected_all || detected_all & OCTAVO_CPU_HWY) /* then hwy was looked for, or is not allowed */
		return;
	const char *why = why_no_hwy(detected_all);
	if (!why) {
		detected_all |= OCTAVO_CPU_HWY;
		return;
	}
	snprintf(reason_all, sizeof reason_all, "%s%shwy: %s", reason, *reason ? "; " : "", why);
	told = reason_all;
}

uint32_t octavo_cpu_detect_all(void)
{
	pthread_once(&once_all, detect_all_once);
	return detected_all;
}

const char *octavo_cpu_reason(void)
{
	pthread_once(&once, detect_once);
	return told;
}

const char *octavo_cpu_name(uint32_t cpu)
{
	for (size_t i = LEVELS; i-- > 1;)
		if (cpu & levels[i].groups)
			return levels[i].name;
	return levels[0].name;
}
