/* SPDX-License-Identifier: Apache-2.0
 *
 * The phase profiler: worker threads, and counters that are not there.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "engine/pool.h"
#include "profiler_script.h"

/* ---- Workers --------------------------------------------------------------------------------- */

struct share {
	struct octavo_profiler *p;
	uint32_t token;
	void (*body)(struct octavo_profiler *p, uint32_t token);
};

static void *run_share(void *argument)
{
	const struct share *share = argument;

	share->body(share->p, share->token);
	return NULL;
}

static void run_worker(struct octavo_profiler *p, void (*body)(struct octavo_profiler *p, uint32_t token))
{
	struct share share = {p, octavo_phase_token(p), body};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, run_share, &share), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void share_with_sub_phase(struct octavo_profiler *p, uint32_t token)
{
	work(1000, 0); /* before the region: nobody's */
	octavo_worker_enter(p, token);
	work(5, 50);
	octavo_phase_begin(p, OCTAVO_PHASE_HEAD);
	work(6, 60);
	octavo_worker_enter(p, octavo_phase_token(p)); /* a region of its own */
	work(7, 70);
	octavo_worker_leave(p);
	octavo_phase_end(p, OCTAVO_PHASE_HEAD);
	octavo_worker_leave(p);
	work(1000, 0);
}

static void workers_adopt_the_open_phases(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	octavo_phase_begin(p, OCTAVO_PHASE_VERIFY);
	octavo_phase_begin(p, OCTAVO_PHASE_EXPERTS);
	run_worker(p, share_with_sub_phase);
	run_worker(p, share_with_sub_phase);
	octavo_worker_enter(p, octavo_phase_token(p)); /* the opener's own share */
	work(9, 90);
	octavo_worker_leave(p);
	octavo_phase_end(p, OCTAVO_PHASE_EXPERTS);
	octavo_phase_end(p, OCTAVO_PHASE_VERIFY);
	profile = report(p);

	assert_self(profile, EXPERTS, 2 * 5 + 9, 0);
	assert_self(profile, HEAD, 2 * 13, 0);
	assert_self(profile, VERIFY, 0, 2 * 180 + 90);
	assert_inclusive(profile, EXPERTS, 2 * 18 + 9, 0);
	assert_inclusive(profile, VERIFY, 2 * 18 + 9, 2 * 180 + 90);
	assert_true(profile.phase[OCTAVO_PHASE_EXPERTS].owner_self[REF] == 9);
	assert_true(profile.phase[OCTAVO_PHASE_VERIFY].owner_self[CORE] == 90);
	assert_true(profile.phase[OCTAVO_PHASE_VERIFY].owner_inclusive[REF] == 9);
	assert_int_equal(profile.phase[OCTAVO_PHASE_HEAD].calls, 0);
	assert_int_equal(profile.threads, 3);
	assert_int_equal(profile.mismatches, 0);
	assert_sums(&profile);
	octavo_profiler_close(&p);
	assert_int_equal(script.running, 0);
}

static void threads_are_told_apart(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_thread_report one;
	struct octavo_profile profile;

	(void)state;
	octavo_phase_begin(p, OCTAVO_PHASE_VERIFY);
	octavo_phase_begin(p, OCTAVO_PHASE_EXPERTS);
	work(9, 90);
	run_worker(p, share_with_sub_phase);
	run_worker(p, share_with_sub_phase);
	octavo_phase_end(p, OCTAVO_PHASE_EXPERTS);
	octavo_phase_end(p, OCTAVO_PHASE_VERIFY);
	profile = report(p);
	assert_int_equal(profile.threads, 3);
	for (unsigned i = 0; i < 3; i++) {
		const double experts = i ? 5 : 9, head = i ? 13 : 0;
		assert_int_equal(octavo_profiler_thread(p, i, &one), OCTAVO_OK);
		assert_int_equal(one.owner, i == 0);
		assert_true(one.self[OCTAVO_PHASE_EXPERTS][REF] == experts);
		assert_true(one.self[OCTAVO_PHASE_HEAD][REF] == head);
		assert_true(one.inclusive[OCTAVO_PHASE_VERIFY][REF] == experts + head);
		assert_true(one.self[OCTAVO_PHASE_VERIFY][CORE] == (i ? 180 : 90));
	}
	assert_int_equal(octavo_profiler_thread(p, 3, &one), OCTAVO_EINVAL);
	assert_int_equal(octavo_profiler_thread(p, 0, NULL), OCTAVO_EINVAL);
	assert_int_equal(octavo_profiler_thread(NULL, 0, &one), OCTAVO_EINVAL);
	octavo_profiler_close(&p);
}

static void share_of_a_region_of_its_own(struct octavo_profiler *p, uint32_t token)
{
	(void)token;
	octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
	octavo_worker_enter(p, octavo_phase_token(p));
	work(3, 30);
	octavo_worker_leave(p);
	work(4, 40);
	octavo_phase_end(p, OCTAVO_PHASE_DRAFT);
}

/* Another thread than the owner's may run phases too, and share in the regions it opens. */
static void share_and_end(struct octavo_profiler *p, uint32_t token)
{
	octavo_worker_enter(p, token);
	work(5, 50);
	octavo_worker_leave(p);
	work(0, 7); /* waiting, which counts for the phase last worked for */
	octavo_worker_end(p);
}

static void only_end(struct octavo_profiler *p, uint32_t token)
{
	(void)token;
	octavo_worker_end(p);
}

/* Its counters are given back at once, what they counted is not lost. */
static void threads_that_end_leave_their_counts(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	p->event_period = 1000; /* a leave reads nothing: what is missing comes with the end */
	octavo_phase_begin(p, OCTAVO_PHASE_VERIFY);
	for (int i = 0; i < 3; i++) {
		run_worker(p, share_and_end);
		assert_int_equal(script.running, 1);
	}
	run_worker(p, only_end); /* never worked: no counters are started for it */
	octavo_worker_end(p);    /* the owner's run on */
	octavo_worker_end(NULL);
	assert_int_equal(script.starts, 5); /* the check's, the owner's, three workers' */
	assert_int_equal(script.running, 1);
	work(2, 20);
	octavo_phase_end(p, OCTAVO_PHASE_VERIFY);
	profile = report(p);
	assert_self(profile, VERIFY, 3 * 5 + 2, 3 * 57 + 20);
	assert_int_equal(profile.threads, 4);
	assert_int_equal(profile.mismatches, 0);
	assert_sums(&profile);
	octavo_profiler_close(&p);
	assert_int_equal(script.running, 0);
}

/* Two tasks that end when both have begun: a worker must have taken one. */
static void meet(void *argument, size_t task)
{
	atomic_int *begun = argument;

	(void)task;
	atomic_fetch_add(begun, 1);
	while (atomic_load(begun) < 2)
		sched_yield();
}

/* A profiler that sees many pools holds the counters of none that is closed. */
static void pools_give_their_counters_back(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_pool *pool;

	(void)state;
	for (int i = 0; i < 3; i++) {
		atomic_int begun = 0;

		assert_int_equal(octavo_pool_open(&pool, 2, p), OCTAVO_OK);
		octavo_pool_run(pool, 2, meet, &begun);
		assert_int_equal(script.running, 2);
		octavo_pool_close(&pool);
		assert_int_equal(script.running, 1);
	}
	assert_int_equal(report(p).threads, 4);
	octavo_profiler_close(&p);
}

static void a_thread_may_open_its_own_regions(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	run_worker(p, share_of_a_region_of_its_own);
	profile = report(p);
	assert_self(profile, DRAFT, 7, 70);
	assert_int_equal(profile.phase[OCTAVO_PHASE_DRAFT].calls, 0);
	assert_true(profile.phase[OCTAVO_PHASE_DRAFT].owner_self[REF] == 0);
	assert_int_equal(profile.mismatches, 0);
	octavo_profiler_close(&p);
}

static void share_many_regions(struct octavo_profiler *p, uint32_t token)
{
	for (int i = 0; i < 100; i++) {
		octavo_worker_enter(p, token);
		work(10, 1);
		octavo_worker_leave(p);
	}
}

/* A hundred regions of 10 ticks in one phase, and a period of 250 ticks: an event read every 25 regions. */
static void workers_read_events_now_and_then(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	p->event_period = 250;
	octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
	script.reads = 0;
	run_worker(p, share_many_regions);
	assert_int_equal(script.reads, 1 + 1 + 4); /* its start, its first phase, the four */
	octavo_phase_end(p, OCTAVO_PHASE_DRAFT);
	profile = report(p);
	assert_self(profile, DRAFT, 1000, 100);
	octavo_profiler_close(&p);
}

static void share_unbalanced(struct octavo_profiler *p, uint32_t token)
{
	octavo_worker_leave(p); /* without enter */
	octavo_worker_enter(p, token);
	octavo_phase_begin(p, OCTAVO_PHASE_DENSE);
	work(3, 0);
	octavo_worker_leave(p); /* with a phase open */
	work(100, 0);
	octavo_worker_enter(p, 0xffffffffu); /* not a token */
	work(100, 0);
	octavo_worker_leave(p);
}

static void unbalanced_workers_are_counted(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
	run_worker(p, share_unbalanced);
	octavo_phase_end(p, OCTAVO_PHASE_DRAFT);
	profile = report(p);
	assert_int_equal(profile.mismatches, 3);
	assert_self(profile, DENSE, 3, 0);
	assert_inclusive(profile, DRAFT, 3, 0);
	octavo_profiler_close(&p);
}

struct pool {
	struct octavo_profiler *p;
	uint32_t token;
	pthread_barrier_t barrier;
};

static void *run_two_regions(void *argument)
{
	struct pool *pool = argument;

	for (int region = 0; region < 2; region++) {
		pthread_barrier_wait(&pool->barrier);
		octavo_worker_enter(pool->p, pool->token);
		work(10, 100);
		octavo_worker_leave(pool->p);
		work(500, 5000); /* waiting: cycles count on, and a reset must not let them into the next phase */
		pthread_barrier_wait(&pool->barrier);
	}
	return NULL;
}

static void reset_reaches_living_workers(void **state)
{
	struct pool pool = {.p = open_scripted(&all)};
	struct octavo_profile profile;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_barrier_init(&pool.barrier, NULL, 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, run_two_regions, &pool), 0);
	for (int region = 0; region < 2; region++) {
		assert_int_equal(octavo_profiler_reset(pool.p), OCTAVO_OK);
		profile = report(pool.p);
		assert_int_equal(profile.threads, 1); /* the worker has done nothing since */
		octavo_phase_begin(pool.p, OCTAVO_PHASE_DRAFT);
		pool.token = octavo_phase_token(pool.p);
		pthread_barrier_wait(&pool.barrier);
		pthread_barrier_wait(&pool.barrier);
		octavo_phase_end(pool.p, OCTAVO_PHASE_DRAFT);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	profile = report(pool.p);
	assert_self(profile, DRAFT, 10, 100);
	assert_int_equal(profile.threads, 2);
	pthread_barrier_destroy(&pool.barrier);
	octavo_profiler_close(&pool.p);
}

static void *ask_as_stranger(void *argument)
{
	struct octavo_profile profile;

	assert_int_equal(octavo_profiler_report(argument, &profile), OCTAVO_EINVAL);
	assert_int_equal(octavo_profiler_reset(argument), OCTAVO_EINVAL);
	return NULL;
}

static void only_the_owner_may_ask(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, ask_as_stranger, p), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	octavo_profiler_close(&p);
}

/* A thread's memory of one profiler must not leak into the next, nor between two that live together. */
static void profilers_do_not_mix(void **state)
{
	struct octavo_profiler *first = open_scripted(&all), *second = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	octavo_phase_begin(first, OCTAVO_PHASE_DRAFT);
	octavo_phase_begin(second, OCTAVO_PHASE_VERIFY);
	work(1, 10);
	octavo_phase_end(first, OCTAVO_PHASE_DRAFT);
	octavo_phase_end(second, OCTAVO_PHASE_VERIFY);
	profile = report(first);
	assert_self(profile, DRAFT, 1, 10);
	assert_self(profile, VERIFY, 0, 0);
	octavo_profiler_close(&first);
	first = open_scripted(&all);
	profile = report(second);
	assert_self(profile, DRAFT, 0, 0);
	assert_self(profile, VERIFY, 1, 10);
	profile = report(first);
	assert_self(profile, DRAFT, 0, 0);
	assert_int_equal(profile.mismatches, 0);
	octavo_profiler_close(&first);
	octavo_profiler_close(&second);
}

/* ---- Counters that are not there ------------------------------------------------------------- */

static void assert_absent(const struct octavo_profile *profile, enum octavo_counter counter, const char *reason)
{
	assert_int_equal(profile->source[counter].available, 0);
	assert_non_null(strstr(profile->source[counter].reason, reason));
	assert_string_equal(profile->source[counter].source, "");
}

static void a_counter_that_does_not_count_is_absent(void **state)
{
	struct octavo_profiler *p;
	struct octavo_profile profile;

	(void)state;
	script.stuck = OCTAVO_BIT(OCTAVO_COUNTER_CORE_CYCLES);
	p = open_scripted(&all);
	profile = report(p);
	assert_absent(&profile, OCTAVO_COUNTER_CORE_CYCLES, "mock: opened, but counted 0 over work that causes 200000");
	assert_absent(&profile, OCTAVO_COUNTER_CPU_MIGRATIONS, "no source");
	assert_int_equal(profile.source[OCTAVO_COUNTER_PAGE_FAULTS].available, 1);
	assert_string_equal(profile.source[OCTAVO_COUNTER_PAGE_FAULTS].source, "mock");
	assert_int_equal(profile.tier, OCTAVO_TIER_HARDWARE);
	assert_string_equal(profile.tier_reason, "");
	octavo_profiler_close(&p);
}

static void a_backend_that_cannot_start_is_left_out(void **state)
{
	struct octavo_profiler *p;
	struct octavo_profile profile;

	(void)state;
	script.start_error = EMFILE;
	p = open_scripted(&all);
	profile = report(p);
	assert_absent(&profile, OCTAVO_COUNTER_CORE_CYCLES, strerror(EMFILE));
	assert_int_equal(profile.tier, OCTAVO_TIER_TIME);
	assert_string_not_equal(profile.tier_reason, "");
	assert_int_equal(profile.source[OCTAVO_COUNTER_WALL_NS].available, 1);
	assert_int_equal(profile.source[OCTAVO_COUNTER_REF_CYCLES].available, 1);
	octavo_profiler_close(&p);
	assert_int_equal(script.running, 0);
}

/* The self-test, the owner and the first worker can start their counters, the second worker cannot. */
static void a_sum_with_a_thread_missing_is_absent(void **state)
{
	struct octavo_profiler *p;
	struct octavo_profile profile;

	(void)state;
	script.start_error = EMFILE;
	script.start_limit = 3;
	p = open_scripted(&all);
	octavo_phase_begin(p, OCTAVO_PHASE_VERIFY);
	run_worker(p, share_with_sub_phase);
	profile = report(p);
	assert_int_equal(profile.source[OCTAVO_COUNTER_CORE_CYCLES].available, 1);
	run_worker(p, share_with_sub_phase);
	octavo_phase_end(p, OCTAVO_PHASE_VERIFY);
	profile = report(p);
	assert_absent(&profile, OCTAVO_COUNTER_CORE_CYCLES, "lost on 1 of 3 threads");
	assert_non_null(strstr(profile.source[OCTAVO_COUNTER_CORE_CYCLES].remedy, "ulimit -n"));
	assert_true(profile.phase[OCTAVO_PHASE_VERIFY].inclusive[REF] == 2 * 18);
	octavo_profiler_close(&p);
	assert_int_equal(script.running, 0);
}

static void a_failing_read_loses_the_counter(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	octavo_phase_begin(p, OCTAVO_PHASE_VERIFY);
	script.read_error = EIO;
	octavo_phase_end(p, OCTAVO_PHASE_VERIFY);
	script.read_error = 0;
	profile = report(p);
	assert_absent(&profile, OCTAVO_COUNTER_CORE_CYCLES, strerror(EIO));
	octavo_profiler_close(&p);
}

static void a_count_may_wrap_but_not_run_backwards(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	mock_count[OCTAVO_COUNTER_CORE_CYCLES] = UINT64_MAX - 9;
	mock_count[OCTAVO_COUNTER_PAGE_FAULTS] = 100;
	assert_int_equal(octavo_profiler_reset(p), OCTAVO_OK);
	octavo_phase_begin(p, OCTAVO_PHASE_VERIFY);
	work(1, 30);
	mock_count[OCTAVO_COUNTER_PAGE_FAULTS] = 99;
	octavo_phase_end(p, OCTAVO_PHASE_VERIFY);
	profile = report(p);
	assert_self(profile, VERIFY, 1, 30);
	assert_int_equal(profile.source[OCTAVO_COUNTER_CORE_CYCLES].available, 1);
	assert_absent(&profile, OCTAVO_COUNTER_PAGE_FAULTS, "backwards");
	octavo_profiler_close(&p);
}

static void a_tier_may_be_left_out(void **state)
{
	const struct octavo_profiler_settings time_only = {.enabled = 1, .best_tier = OCTAVO_TIER_TIME};
	struct octavo_profiler *p = open_scripted(&time_only);
	struct octavo_profile profile = report(p);

	(void)state;
	assert_int_equal(profile.tier, OCTAVO_TIER_TIME);
	assert_absent(&profile, OCTAVO_COUNTER_CORE_CYCLES, "not asked for");
	octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
	work(3, 3);
	octavo_phase_end(p, OCTAVO_PHASE_DRAFT);
	profile = report(p);
	assert_self(profile, DRAFT, 3, 0);
	assert_int_equal(script.starts, 0);
	octavo_profiler_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup(workers_adopt_the_open_phases, setup),
	        cmocka_unit_test_setup(threads_are_told_apart, setup),
	        cmocka_unit_test_setup(threads_that_end_leave_their_counts, setup),
	        cmocka_unit_test_setup(pools_give_their_counters_back, setup),
	        cmocka_unit_test_setup(a_thread_may_open_its_own_regions, setup),
	        cmocka_unit_test_setup(workers_read_events_now_and_then, setup),
	        cmocka_unit_test_setup(unbalanced_workers_are_counted, setup),
	        cmocka_unit_test_setup(reset_reaches_living_workers, setup),
	        cmocka_unit_test_setup(only_the_owner_may_ask, setup),
	        cmocka_unit_test_setup(profilers_do_not_mix, setup),
	        cmocka_unit_test_setup(a_counter_that_does_not_count_is_absent, setup),
	        cmocka_unit_test_setup(a_backend_that_cannot_start_is_left_out, setup),
	        cmocka_unit_test_setup(a_sum_with_a_thread_missing_is_absent, setup),
	        cmocka_unit_test_setup(a_failing_read_loses_the_counter, setup),
	        cmocka_unit_test_setup(a_count_may_wrap_but_not_run_backwards, setup),
	        cmocka_unit_test_setup(a_tier_may_be_left_out, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
