/* SPDX-License-Identifier: Apache-2.0
 *
 * Does a counter count?  Known work, and the least it must cause.  Opening proves nothing: a kernel may accept an
 * event that the processor lacks, filter it away, or never schedule it, and every one of these reads as zero.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "profiler/counters.h"

enum {
	CHAIN = 200000,   /* dependent steps, each at least one cycle and one instruction */
	PAGES = 32,       /* touched for the first time */
	LINES = 4096,     /* flushed, then read */
	SLEEPS = 2,       /* each one switches away */
	BUSY_NS = 200000, /* of work on the processor */
	CACHE_LINE = 64,
};

static uint64_t thread_cpu_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static uint64_t work_chain(void)
{
	uint64_t x = 1;

	for (int i = 0; i < CHAIN; i++) {
		x = x * 3 + 1;
		__asm__ volatile("" : "+r"(x));
	}
	return CHAIN;
}

/* The scheduler's clock may tick coarsely: half of what the thread's own CPU clock says is enough. */
static uint64_t work_busy(void)
{
	const uint64_t start = thread_cpu_ns();

	while (thread_cpu_ns() - start < BUSY_NS)
		;
	return BUSY_NS / 2;
}

static uint64_t work_pages(void)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	volatile char *memory = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return 0;
	madvise((void *)memory, PAGES * page, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < PAGES; i++)
		memory[i * page] = 1;
	munmap((void *)memory, PAGES * page);
	return PAGES;
}

static uint64_t work_sleep(void)
{
	const struct timespec moment = {.tv_nsec = 20000};

	for (int i = 0; i < SLEEPS; i++)
		nanosleep(&moment, NULL);
	return SLEEPS;
}

/* Moves this thread to every processor it may use, so at least count - 1 times; 0 if there is only one. */
static uint64_t work_migrate(void)
{
	cpu_set_t allowed;
	uint64_t visited = 0;

	if (sched_getaffinity(0, sizeof allowed, &allowed))
		return 0;
	for (int cpu = 0; cpu < CPU_SETSIZE && visited < 4; cpu++) {
		cpu_set_t one;

		if (!CPU_ISSET(cpu, &allowed))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		visited += sched_setaffinity(0, sizeof one, &one) == 0;
	}
	sched_setaffinity(0, sizeof allowed, &allowed);
	return visited ? visited - 1 : 0;
}

static void flush_line(const char *line)
{
#if defined(__x86_64__)
	_mm_clflush(line);
	_mm_mfence();
#elif defined(__aarch64__)
	__asm__ volatile("dc civac, %0\n\tdsb sy" : : "r"(line) : "memory");
#else
	(void)line;
#endif
}

/* Reads lines that no cache holds, in an order that no prefetcher follows.  Some count only a part of the misses
 * (loads, or loads that retire): an eighth is enough to tell a counter from a zero. */
static uint64_t work_miss(void)
{
#if defined(__x86_64__) || defined(__aarch64__)
	char *memory = calloc(LINES, CACHE_LINE); /* [LINES][CACHE_LINE] */
	uint64_t at = 1;
	char sum = 0;

	if (!memory)
		return 0;
	for (size_t i = 0; i < LINES; i++)
		memory[i * CACHE_LINE] = (char)i;
	for (size_t i = 0; i < LINES; i++)
		flush_line(memory + i * CACHE_LINE);
	for (size_t i = 0; i < LINES; i++) {
		at = at * 5 + 1; /* a full cycle of the LINES indices: Hull and Dobell (1962) */
		sum += *(volatile char *)(memory + at % LINES * CACHE_LINE);
	}
	__asm__ volatile("" : : "r"(sum));
	free(memory);
	return LINES / 8;
#else
	return 0;
#endif
}

/* Known work per counter; each returns the least growth it must have caused, 0 if it could do nothing. */
static uint64_t (*const known_work[OCTAVO_COUNTER_COUNT])(void) = {
        [OCTAVO_COUNTER_CORE_CYCLES] = work_chain,      [OCTAVO_COUNTER_INSTRUCTIONS] = work_chain,
        [OCTAVO_COUNTER_LLC_MISSES] = work_miss,        [OCTAVO_COUNTER_TASK_CLOCK_NS] = work_busy,
        [OCTAVO_COUNTER_PAGE_FAULTS] = work_pages,      [OCTAVO_COUNTER_CONTEXT_SWITCHES] = work_sleep,
        [OCTAVO_COUNTER_CPU_MIGRATIONS] = work_migrate,
};

struct check {
	const struct octavo_counter_backend *backend;
	uint32_t counters;
	struct octavo_counter_source *source; /* [OCTAVO_COUNTER_COUNT] */
	uint32_t passed;
};

/* The growth of one counter over its work.  A counter without known work is believed.  0, or an errno value. */
static int measure(const struct check *check, void *thread, unsigned counter, uint64_t *grown, uint64_t *least)
{
	uint64_t before[OCTAVO_COUNTER_COUNT] = {0}, after[OCTAVO_COUNTER_COUNT] = {0};
	int error = check->backend->read(thread, before);

	if (error)
		return error;
	*least = known_work[counter] ? known_work[counter]() : 0;
	error = check->backend->read(thread, after);
	*grown = after[counter] - before[counter];
	return error;
}

static int counts(const struct check *check, void *thread, unsigned counter)
{
	struct octavo_counter_source *source = &check->source[counter];
	uint64_t grown = 0, least = 0;
	const int error = measure(check, thread, counter, &grown, &least);

	if (!error && grown >= least && grown <= INT64_MAX)
		return 1;
	if (error)
		snprintf(source->reason, sizeof source->reason, "%s: opened, but cannot be read: %s", source->source,
		         strerror(error));
	else
		snprintf(source->reason, sizeof source->reason,
		         "%s: opened, but counted %lld over work that causes %llu or more", source->source,
		         (long long)grown, (unsigned long long)least);
	source->remedy[0] = '\0';
	return 0;
}

static void *check_thread(void *argument)
{
	struct check *check = argument;
	void *thread = NULL;
	const int error = check->backend->start_thread(check->backend, check->counters, &thread);

	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		if (!(check->counters & OCTAVO_BIT(c)))
			continue;
		if (error)
			snprintf(check->source[c].reason, sizeof check->source[c].reason, "%s: cannot be started: %s",
			         check->source[c].source, strerror(error));
		else if (counts(check, thread, c))
			check->passed |= OCTAVO_BIT(c);
	}
	if (!error)
		check->backend->stop_thread(thread);
	return NULL;
}

/* On a thread of its own, so that moving it between processors leaves the caller where it is. */
uint32_t octavo_counters_check(const struct octavo_counter_backend *backend, uint32_t counters,
                               struct octavo_counter_source *source)
{
	struct check check = {backend, counters, source, 0};
	pthread_t thread;
	const int error = pthread_create(&thread, NULL, check_thread, &check);

	if (!error) {
		pthread_join(thread, NULL);
		return check.passed;
	}
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++)
		if (counters & OCTAVO_BIT(c))
			snprintf(source[c].reason, sizeof source[c].reason, "no thread for the self-test: %s",
			         strerror(error));
	return 0;
}
