/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine of the checks: running one under signal protection, calls, comparisons, random inputs.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "harness.h"

#include "amx_emulator.h"
#include "fpstate.h"
#include "kernels/cpu.h"
#include "memory.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t base_seed;
static struct check *current; /* whose escape a signal takes */
static pthread_t main_thread;
static bool amx;      /* tile state exists and must be released by each call */
static bool emulated; /* the tiles are those of amx_emulator.c */

static struct {
	const char *name; /* of the slot: one function may serve several */
	check_code *code;
} visited[512];
static size_t visited_count;

/* ---- Signals ---- */

static void on_signal(int number, siginfo_t *info, void *context)
{
	/* A positive code: the processor's, not somebody's raise(). */
	if (emulated && number == SIGILL && info->si_code > 0 && amx_emulate(context))
		return;
	if (current && pthread_equal(pthread_self(), main_thread))
		siglongjmp(current->escape, number);
	/* A crash on a worker thread cannot be survived; die of it, loudly. */
	signal(number, SIG_DFL);
	raise(number);
}

/* Where the tiles are all that the AMX sets want. */
static bool can_emulate(void)
{
#if defined(HAVE_AMX) && defined(__linux__)
	const char *name = getenv("OCTAVO_CPU");
	const uint32_t vectors = OCTAVO_CPU_AVX512 | OCTAVO_CPU_VBMI;
	uint32_t have = octavo_cpu_detect(), allowed = octavo_cpu_allowed(name && *name ? name : NULL);

	return (have & vectors) == vectors && !(have & OCTAVO_CPU_AMX) && (allowed & OCTAVO_CPU_AMX);
#else
	return false;
#endif
}

bool check_emulates(void)
{
	return emulated;
}

uint32_t check_features(void)
{
	return octavo_cpu_detect_all() | (emulated ? OCTAVO_CPU_AMX : 0);
}

bool check_open(uint64_t seed, bool guards)
{
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};

	base_seed = seed;
	main_thread = pthread_self();
	amx = (octavo_cpu_detect() & OCTAVO_CPU_AMX) != 0;
	emulated = can_emulate();
	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
		if (sigaction(fatal[i], &action, NULL) != 0)
			return false;
	return memory_open(guards);
}

/* FNV-1a of the check's name: each has inputs of its own, whatever else is run. */
static uint64_t seed_of(const char *name)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
	return hash ^ (base_seed * UINT64_C(0x9E3779B97F4A7C15));
}

bool check_entry_run(struct check *check, const struct check_entry *entry, const struct octavo_kernels *ref,
                     const struct octavo_kernels *new, bool quiet)
{
	*check = (struct check){
	        .ref = ref,
	        .new = new,
	        .level_two = ref == new,
	        .quiet = quiet,
	        .state = seed_of(entry->name),
	};
	memory_reset();
	amx_emulator_release();
	current = check;
	int number = sigsetjmp(check->escape, 1);
	if (number == 0)
		entry->run(check);
	else if (number > 0)
		snprintf(check->failure, sizeof check->failure, "%s: %s/%s: %s", check->where,
		         check->inside ? check->inside : "outside of kernels", check->inside ? check->inside_isa : "-",
		         strsignal(number));
	current = NULL;
	fp_make_default();
	return check->failure[0] == '\0';
}

/* ---- Calls ---- */

bool check_visited(const char *name, check_code *code)
{
	for (size_t i = 0; i < visited_count; i++)
		if (visited[i].code == code && strcmp(visited[i].name, name) == 0)
			return true;
	return false;
}

/* Whether the processor holds tile data: state component 18 of XINUSE. */
static bool tiles_in_use(void)
{
	if (emulated)
		return amx_emulator_in_use();
#if defined(__x86_64__)
	uint32_t low, high;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
	return (low >> 18 & 1) != 0;
#else
	return false;
#endif
}

void check_enter(struct check *check, const char *name, const char *isa, check_code *code)
{
	if (!check->quiet && !check_visited(name, code) && visited_count < sizeof visited / sizeof *visited) {
		visited[visited_count].name = name;
		visited[visited_count++].code = code;
	}
	check->inside = name;
	check->inside_isa = isa;
	check->control = fp_control();
}

void check_leave(struct check *check)
{
	uint32_t control = fp_control();
	if (control != check->control) {
		fp_make_default();
		check_fail(check, "%s/%s: the floating-point control register was 0x%x and is 0x%x", check->inside,
		           check->inside_isa, (unsigned)check->control, (unsigned)control);
	}
	check_that(check, !(amx || emulated) || !tiles_in_use(), "%s/%s: AMX tiles not released", check->inside,
	           check->inside_isa);
	const char *damage = memory_damage();
	check_that(check, !damage, "%s/%s: bytes written %s a buffer", check->inside, check->inside_isa, damage);
	check->inside = NULL;
}

void check_case(struct check *check, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(check->where, sizeof check->where, format, arguments);
	va_end(arguments);
	memory_reset();
}

void *check_alloc(struct check *check, size_t bytes, size_t align)
{
	void *buffer = memory_take(bytes, align, check_random(check));
	check_that(check, buffer, "the harness has no buffer of %zu bytes", bytes);
	return buffer;
}

/* ---- Verdicts ---- */

static _Noreturn void fail_with(struct check *check, const char *format, va_list arguments)
{
	int length = snprintf(check->failure, sizeof check->failure, "%s: ", check->where);
	if (length > 0 && (size_t)length < sizeof check->failure)
		vsnprintf(check->failure + length, sizeof check->failure - (size_t)length, format, arguments);
	siglongjmp(check->escape, -1);
}

void check_fail(struct check *check, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fail_with(check, format, arguments);
}

void check_that(struct check *check, bool condition, const char *format, ...)
{
	if (condition)
		return;
	va_list arguments;
	va_start(arguments, format);
	fail_with(check, format, arguments);
}

void check_equal_f32(struct check *check, const char *what, const float *want, const float *got, size_t rows, size_t ld)
{
	/* The quick way first: most arrays are equal to the byte. */
	if (memcmp(want, got, rows * ld * sizeof *want) == 0)
		return;
	for (size_t i = 0; i < rows * ld; i++) {
		uint32_t a, b;
		memcpy(&a, want + i, sizeof a);
		memcpy(&b, got + i, sizeof b);
		if (a != b && !(isnan(want[i]) && isnan(got[i])))
			check_fail(check, "%s[%zu][%zu] is 0x%08x (%.9g), must be 0x%08x (%.9g)", what, i / ld, i % ld,
			           (unsigned)b, (double)got[i], (unsigned)a, (double)want[i]);
	}
}

static bool bf16_nan(uint16_t bits)
{
	return (bits & 0x7FFF) > 0x7F80;
}

void check_equal_bf16(struct check *check, const char *what, const uint16_t *want, const uint16_t *got, size_t count)
{
	for (size_t i = 0; i < count; i++)
		check_that(check, want[i] == got[i] || (bf16_nan(want[i]) && bf16_nan(got[i])),
		           "%s[%zu] is 0x%04x, must be 0x%04x", what, i, got[i], want[i]);
}

void check_equal_u32(struct check *check, const char *what, const uint32_t *want, const uint32_t *got, size_t count)
{
	for (size_t i = 0; i < count; i++)
		check_that(check, want[i] == got[i], "%s[%zu] is %u, must be %u", what, i, (unsigned)got[i],
		           (unsigned)want[i]);
}

void check_close(struct check *check, const char *what, size_t index, double want, double got, double bound)
{
	bool close = isnan(want) ? isnan(got) : fabs(got - want) <= bound;
	check_that(check, close, "%s[%zu] is %.9g, must be %.9g within %.3g", what, index, got, want, bound);
}

/* ---- Random inputs ---- */

/* SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). */
uint32_t check_random(struct check *check)
{
	uint64_t z = check->state += UINT64_C(0x9E3779B97F4A7C15);
	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return (uint32_t)(z >> 32);
}

size_t check_pick(struct check *check, size_t low, size_t high)
{
	return low + check_random(check) % (high - low + 1);
}

float check_float(struct check *check, int low, int high)
{
	uint32_t random = check_random(check);
	int exponent = low + (int)check_pick(check, 0, (size_t)(high - low));
	uint32_t bits = (random & 0x807FFFFF) | (uint32_t)(exponent + 127) << 23;
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

uint16_t check_bf16(struct check *check, int low, int high)
{
	float x = check_float(check, low, high);
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return (uint16_t)(bits >> 16);
}
