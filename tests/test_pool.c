/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's threads: every task once, whatever the numbers, with the contract's floating-point environment and the
 * caller's phase, from short regions in quick succession to sleepers that must wake.
 */
#include "engine/threads.h"

#include "octavo_engine.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fenv.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { MOST = 5000 };
static _Atomic unsigned char hits[MOST];

static void hit(void *arg, size_t task)
{
	(void)arg;
	atomic_fetch_add(&hits[task], 1);
}

static void expect_each_once(size_t tasks)
{
	for (size_t i = 0; i < MOST; i++)
		if (hits[i] != (i < tasks))
			fail_msg("task %zu of %zu ran %d times", i, tasks, (int)hits[i]);
	memset((void *)hits, 0, sizeof hits);
}

static void every_task_once(void **state)
{
	(void)state;
	for (size_t threads = 1; threads <= 5; threads++) {
		struct octavo_pool *pool;
		assert_int_equal(octavo_pool_open(&pool, threads, NULL), OCTAVO_OK);
		for (size_t tasks = 0; tasks < 40; tasks++) {
			octavo_pool_run(pool, tasks, hit, NULL);
			expect_each_once(tasks);
		}
		octavo_pool_run(pool, MOST, hit, NULL);
		expect_each_once(MOST);
		octavo_pool_close(&pool);
		assert_null(pool);
	}
}

static void add_one(void *arg, size_t task)
{
	size_t *sum = arg;
	sum[task * 16]++;
}

/* Regions end before the next begins: plain memory written in one is there in the next. */
static void regions_are_ordered(void **state)
{
	(void)state;
	struct octavo_pool *pool;
	size_t sum[8 * 16] = { 0 };
	assert_int_equal(octavo_pool_open(&pool, 3, NULL), OCTAVO_OK);
	for (size_t i = 1; i <= 3000; i++) {
		octavo_pool_run(pool, 8, add_one, sum);
		for (size_t task = 0; task < 8; task++)
			assert_int_equal(sum[task * 16], i);
	}
	octavo_pool_close(&pool);
}

/* Both the workers that still look out and those that went to sleep take part; closing wakes them too. */
static void sleepers_wake(void **state)
{
	(void)state;
	struct octavo_pool *pool;
	assert_int_equal(octavo_pool_open(&pool, 4, NULL), OCTAVO_OK);
	for (int i = 0; i < 20; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
		octavo_pool_run(pool, 100, hit, NULL);
		expect_each_once(100);
	}
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	octavo_pool_close(&pool);
}

/* The vector unit's own rounding: fegetround would tell that of the x87 unit, which no kernel uses. */
static int rounds_up(void)
{
	volatile float one = 1.0f, little = 1e-10f;
	return one + little != one;
}

static void check_environment(void *arg, size_t task)
{
	(void)task;
	if (rounds_up())
		atomic_store((_Atomic int *)arg, 1);
}

static void environment_is_the_contracts(void **state)
{
	(void)state;
	struct octavo_pool *pool;
	_Atomic int wrong = 0;
	fesetround(FE_UPWARD); /* also inherited by the workers that start now */
	assert_int_equal(octavo_pool_open(&pool, 3, NULL), OCTAVO_OK);
	octavo_pool_run(pool, 64, check_environment, &wrong);
	octavo_pool_run(pool, 1, check_environment, &wrong);
	assert_true(rounds_up()); /* the caller's is as it was */
	fesetround(FE_TONEAREST);
	octavo_pool_close(&pool);
	assert_int_equal(wrong, 0);
}

/* A caller's own pool, here one that runs tasks backwards on the spot. */
static void run_backwards(void *context, size_t tasks, octavo_task_fn *fn, void *arg)
{
	++*(size_t *)context;
	while (tasks--)
		fn(arg, tasks);
}

static void callers_pool_is_used(void **state)
{
	(void)state;
	size_t regions = 0;
	struct octavo_threads t;
	struct octavo_parallel outer = { run_backwards, &regions, 7 };
	struct octavo_error error;
	assert_int_equal(octavo_threads_open(&t, 0, &outer, NULL, &error), OCTAVO_OK);
	assert_int_equal(t.parallel.threads, 7);
	octavo_run(&t, 33, hit, NULL);
	expect_each_once(33);
	assert_int_equal(regions, 1);
	octavo_threads_close(&t);
}

static void spin(void *arg, size_t task)
{
	(void)arg, (void)task;
	uint64_t until = octavo_now_ns() + 200000;
	while (octavo_now_ns() < until)
		;
}

/* Workers' time belongs to the phase of the region. */
static void phases_reach_the_workers(void **state)
{
	(void)state;
	struct octavo_error error;
	struct octavo_profiler *profiler;
	struct octavo_profiler_settings settings = { .enabled = 1, .best_tier = OCTAVO_TIER_TIME };
	struct octavo_threads t;
	struct octavo_profile report;
	assert_int_equal(octavo_profiler_open(&profiler, &settings, &error), OCTAVO_OK);
	assert_int_equal(octavo_threads_open(&t, 2, NULL, profiler, &error), OCTAVO_OK);
	octavo_phase_begin(profiler, OCTAVO_PHASE_VERIFY);
	for (int i = 0; i < 20; i++)
		octavo_run(&t, 8, spin, NULL);
	octavo_phase_end(profiler, OCTAVO_PHASE_VERIFY);
	octavo_threads_close(&t);
	assert_int_equal(octavo_profiler_report(profiler, &report), OCTAVO_OK);
	/* 20 x 8 tasks of 0.2 ms; the owner may have done any share of them, both together all. */
	assert_true(report.phase[OCTAVO_PHASE_VERIFY].self[OCTAVO_COUNTER_WALL_NS] >= 20 * 8 * 200000.0);
	assert_int_equal(report.mismatches, 0);
	octavo_profiler_close(&profiler);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_task_once),      cmocka_unit_test(regions_are_ordered),
		cmocka_unit_test(sleepers_wake),        cmocka_unit_test(environment_is_the_contracts),
		cmocka_unit_test(callers_pool_is_used), cmocka_unit_test(phases_reach_the_workers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
