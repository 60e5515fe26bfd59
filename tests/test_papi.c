/* SPDX-License-Identifier: Apache-2.0
 *
 * The PAPI module: found by name, refused if broken, and counting per thread.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "profiler/counters_papi.h"
#include "tests/support/pages.h"

static void papi_counts_or_says_why_not(void **state)
{
	struct octavo_counter_source source[OCTAVO_COUNTER_COUNT] = {0};
	const struct octavo_counter_backend *papi;
	char reason[256] = "";
	uint32_t found, counting;

	(void)state;
	papi = octavo_counters_load("octavo-papi.so", reason, sizeof reason);
	if (!papi) {
		print_message("%s\n", reason);
		skip();
	}
	found = papi->probe(papi, OCTAVO_HARDWARE_COUNTERS, source);
	assert_int_equal(found & ~OCTAVO_HARDWARE_COUNTERS, 0);
	counting = octavo_counters_check(papi, found, source);
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		if (!(OCTAVO_HARDWARE_COUNTERS & OCTAVO_BIT(c)))
			continue;
		print_message("%s: %s%s\n", octavo_counter_name(c), source[c].source, source[c].reason);
		assert_ptr_equal(strstr(counting & OCTAVO_BIT(c) ? source[c].source : source[c].reason, "papi "),
		                 counting & OCTAVO_BIT(c) ? source[c].source : source[c].reason);
	}
}

struct papi_share {
	const struct octavo_counter_backend *backend;
	void *thread;
	uint64_t before[OCTAVO_COUNTER_COUNT], after[OCTAVO_COUNTER_COUNT];
	int error;
};

static void *count_pages(void *argument)
{
	struct papi_share *share = argument;
	const struct octavo_counter_backend *backend = share->backend;

	share->error = backend->start_thread(backend, OCTAVO_HARDWARE_COUNTERS, &share->thread);
	if (share->error)
		return NULL;
	share->error = backend->read(share->thread, share->before);
	touch_pages(100);
	if (!share->error)
		share->error = backend->read(share->thread, share->after);
	return NULL;
}

static uint64_t grown(const struct papi_share *share, enum octavo_counter counter)
{
	return share->after[counter] - share->before[counter];
}

/* What PAPI counts on any machine, in the place of the core's counters: threads start, read and are stopped from
 * elsewhere, and the second thread does not inherit from the first. */
static void papi_counts_per_thread(void **state)
{
	struct papi_events events = {
	        .event = {{.counter = OCTAVO_COUNTER_CORE_CYCLES, .name = {"octavo::NONSENSE", "perf::TASK-CLOCK"}},
	                  {.counter = OCTAVO_COUNTER_INSTRUCTIONS, .name = {"perf::PAGE-FAULTS"}},
	                  {.counter = OCTAVO_COUNTER_LLC_MISSES, .name = {"perf::MINOR-FAULTS"}}},
	};
	struct octavo_counter_source source[OCTAVO_COUNTER_COUNT] = {0};
	const struct octavo_counter_backend *papi;
	struct octavo_counter_backend backend;
	char reason[256] = "";

	(void)state;
	papi = octavo_counters_load("octavo-papi.so", reason, sizeof reason);
	if (!papi) {
		print_message("%s\n", reason);
		skip();
	}
	backend = *papi;
	backend.context = &events;
	if (backend.probe(&backend, OCTAVO_HARDWARE_COUNTERS, source) != OCTAVO_HARDWARE_COUNTERS) {
		print_message("%s\n", source[OCTAVO_COUNTER_INSTRUCTIONS].reason);
		skip();
	}
	assert_string_equal(source[OCTAVO_COUNTER_CORE_CYCLES].source, "papi perf::TASK-CLOCK");
	for (int i = 0; i < 3; i++) {
		struct papi_share share = {.backend = &backend};
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, count_pages, &share), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		if (share.thread)
			backend.stop_thread(share.thread);
		assert_int_equal(share.error, 0);
		assert_true(grown(&share, OCTAVO_COUNTER_CORE_CYCLES) > 0);
		/* The thread's own hundred and what its C library needs, but not those of the threads before. */
		assert_in_range(grown(&share, OCTAVO_COUNTER_INSTRUCTIONS), 100, 199);
		assert_in_range(grown(&share, OCTAVO_COUNTER_LLC_MISSES), 100, 199);
	}
}

static void a_broken_module_is_refused(void **state)
{
	char directory[] = "/tmp/octavo-test-XXXXXX", path[64], reason[256] = "";
	const char *old = getenv("OCTAVO_MODULE_PATH");
	char *saved = old ? strdup(old) : NULL;
	FILE *file;

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/broken.so", directory);
	setenv("OCTAVO_MODULE_PATH", directory, 1);
	assert_null(octavo_counters_load("absent.so", reason, sizeof reason));
	assert_string_equal(reason, "absent.so is not installed");

	file = fopen(path, "w");
	assert_non_null(file);
	fputs("not a library", file);
	fclose(file);
	assert_null(octavo_counters_load("broken.so", reason, sizeof reason));
	assert_non_null(strstr(reason, path));

	unlink(path);
	rmdir(directory);
	if (saved)
		setenv("OCTAVO_MODULE_PATH", saved, 1);
	else
		unsetenv("OCTAVO_MODULE_PATH");
	free(saved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(papi_counts_or_says_why_not),
	        cmocka_unit_test(papi_counts_per_thread),
	        cmocka_unit_test(a_broken_module_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
