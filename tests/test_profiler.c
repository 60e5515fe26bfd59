/* SPDX-License-Identifier: Apache-2.0
 *
 * The phase profiler on a scripted clock and scripted counters: exact integers.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "profiler/phase.h"

/* ---- The script ------------------------------------------------------------------------------ */

/* Each thread has a time and counts of its own, which only the test moves. */
static _Thread_local uint64_t mock_now;
static _Thread_local uint64_t mock_count[OCTAVO_COUNTER_COUNT];

static struct {
	uint64_t clock_step; /* the clock's advance at each read */
	int growing;         /* the counts grow at each read, as they must while the profiler checks them */
	uint32_t provides;   /* counters that the probe finds */
	uint32_t stuck;      /* of these, those that stay zero */
	int start_error;     /* errno of starts after the first start_limit */
	atomic_int starts, start_limit;
	int read_error;
	atomic_int reads, running;
} script;

static uint64_t mock_ticks(void)
{
	return mock_now += script.clock_step;
}

static uint32_t mock_probe(const struct octavo_counter_backend *backend, uint32_t wanted,
                           struct octavo_counter_probe *probe)
{
	(void)backend;
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++)
		if (wanted & script.provides & OCTAVO_BIT(c))
			strcpy(probe[c].source, "mock");
	return script.provides;
}

static int mock_start(const struct octavo_counter_backend *backend, uint32_t counters, void **thread)
{
	(void)backend;
	if (script.start_error && script.starts >= script.start_limit)
		return script.start_error;
	script.starts++;
	script.running++;
	*thread = malloc(sizeof counters);
	memcpy(*thread, &counters, sizeof counters);
	return 0;
}

static int mock_read(void *thread, uint64_t *value)
{
	uint32_t counters;

	memcpy(&counters, thread, sizeof counters);
	script.reads++;
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		if (!(counters & OCTAVO_BIT(c)))
			continue;
		if (script.growing && !(script.stuck & OCTAVO_BIT(c)))
			mock_count[c] += 1000000;
		value[c] = mock_count[c];
	}
	return script.read_error;
}

static void mock_stop(void *thread)
{
	script.running--;
	free(thread);
}

static const struct octavo_counter_backend mock_backend = {
        .name = "mock",
        .tier = OCTAVO_TIER_HARDWARE,
        .probe = mock_probe,
        .start_thread = mock_start,
        .read = mock_read,
        .stop_thread = mock_stop,
};

static const struct octavo_profiler_settings all = {.enabled = 1, .best_tier = OCTAVO_TIER_HARDWARE};

static struct octavo_profiler *open_scripted(const struct octavo_profiler_settings *settings)
{
	const struct octavo_counter_backend *const backend[] = {&mock_backend};
	const struct profiler_parts parts = {{mock_ticks, 1, "mock", "", ""}, backend, 1};
	struct octavo_profiler *p;
	struct octavo_error error;

	script.growing = 1;
	assert_int_equal(profiler_open_parts(&p, settings, &parts, &error), OCTAVO_OK);
	script.growing = 0;
	script.reads = 0;
	return p;
}

static int setup(void **state)
{
	(void)state;
	memset(&script, 0, sizeof script);
	memset(mock_count, 0, sizeof mock_count);
	mock_now = 0;
	script.provides = OCTAVO_BIT(OCTAVO_COUNTER_CORE_CYCLES) | OCTAVO_BIT(OCTAVO_COUNTER_PAGE_FAULTS);
	return 0;
}

/* Lets time pass and cycles go by on this thread. */
static void work(uint64_t ticks, uint64_t cycles)
{
	mock_now += ticks;
	mock_count[OCTAVO_COUNTER_CORE_CYCLES] += cycles;
}

static struct octavo_profile report(struct octavo_profiler *p)
{
	struct octavo_profile profile;

	assert_int_equal(octavo_profiler_report(p, &profile), OCTAVO_OK);
	return profile;
}

enum { REF = OCTAVO_COUNTER_REF_CYCLES, CORE = OCTAVO_COUNTER_CORE_CYCLES, WALL = OCTAVO_COUNTER_WALL_NS };

#define assert_self(profile, name, ref, core)                                                                          \
	do {                                                                                                           \
		assert_true((profile).phase[OCTAVO_PHASE_##name].self[REF] == (double)(ref));                          \
		assert_true((profile).phase[OCTAVO_PHASE_##name].self[CORE] == (double)(core));                        \
	} while (0)
#define assert_inclusive(profile, name, ref, core)                                                                     \
	do {                                                                                                           \
		assert_true((profile).phase[OCTAVO_PHASE_##name].inclusive[REF] == (double)(ref));                     \
		assert_true((profile).phase[OCTAVO_PHASE_##name].inclusive[CORE] == (double)(core));                   \
	} while (0)

/* Phases + overhead + unattributed = total: exact in ticks and events, to rounding in nanoseconds. */
static void assert_sums(const struct octavo_profile *profile)
{
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		double sum = profile->overhead[c] + profile->unattributed[c];

		for (unsigned i = 0; i < OCTAVO_PHASE_COUNT; i++)
			sum += profile->phase[i].owner_self[c];
		if (c == WALL)
			assert_true(sum >= profile->total[c] * (1 - 1e-12) && sum <= profile->total[c] * (1 + 1e-12));
		else
			assert_true(sum == profile->total[c]);
	}
	assert_true(profile->overhead_ns == profile->overhead[WALL]);
}

/* ---- Attribution ----------------------------------------------------------------------------- */

static void nesting_splits_self_and_inclusive(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	work(1, 2); /* in no phase */
	octavo_phase_begin(p, OCTAVO_PHASE_VERIFY);
	work(10, 100);
	octavo_phase_begin(p, OCTAVO_PHASE_ATTENTION);
	work(20, 200);
	octavo_phase_end(p, OCTAVO_PHASE_ATTENTION);
	work(40, 400);
	octavo_phase_begin(p, OCTAVO_PHASE_OTHER);
	work(80, 800);
	octavo_phase_end(p, OCTAVO_PHASE_OTHER);
	octavo_phase_end(p, OCTAVO_PHASE_VERIFY);
	work(3, 5);
	profile = report(p);

	assert_self(profile, VERIFY, 50, 700); /* cycles are kept for phases, so attention's are here */
	assert_self(profile, ATTENTION, 20, 0);
	assert_self(profile, OTHER, 80, 800);
	assert_inclusive(profile, VERIFY, 150, 1500);
	assert_inclusive(profile, ATTENTION, 20, 0);
	assert_inclusive(profile, OTHER, 80, 800);
	assert_true(profile.unattributed[REF] == 4 && profile.unattributed[CORE] == 7);
	assert_true(profile.total[REF] == 154 && profile.total[CORE] == 1507);
	assert_int_equal(profile.phase[OCTAVO_PHASE_VERIFY].calls, 1);
	assert_int_equal(profile.phase[OCTAVO_PHASE_DRAFT].calls, 0);
	assert_int_equal(profile.mismatches, 0);
	assert_int_equal(profile.threads, 1);
	assert_int_equal(profile.source[REF].sub_phases, 1);
	assert_int_equal(profile.source[CORE].sub_phases, 0);
	assert_sums(&profile);
	octavo_profiler_close(&p);
	assert_null(p);
	assert_int_equal(script.running, 0);
}

static void sub_phases_do_not_read_events_unless_asked(void **state)
{
	struct octavo_profiler_settings detailed = all;
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
	assert_int_equal(script.reads, 1);
	for (int i = 0; i < 100; i++) {
		octavo_phase_begin(p, OCTAVO_PHASE_DENSE);
		octavo_phase_switch(p, OCTAVO_PHASE_DENSE, OCTAVO_PHASE_EXPERTS);
		octavo_phase_end(p, OCTAVO_PHASE_EXPERTS);
	}
	assert_int_equal(script.reads, 1);
	octavo_phase_end(p, OCTAVO_PHASE_DRAFT);
	assert_int_equal(script.reads, 2);
	octavo_profiler_close(&p);

	detailed.sub_phase_events = 1;
	p = open_scripted(&detailed);
	octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
	work(1, 10);
	octavo_phase_begin(p, OCTAVO_PHASE_HEAD);
	work(2, 20);
	octavo_phase_end(p, OCTAVO_PHASE_HEAD);
	octavo_phase_end(p, OCTAVO_PHASE_DRAFT);
	assert_int_equal(script.reads, 4);
	profile = report(p);
	assert_self(profile, DRAFT, 1, 10);
	assert_self(profile, HEAD, 2, 20);
	assert_inclusive(profile, DRAFT, 3, 30);
	assert_int_equal(profile.source[CORE].sub_phases, 1);
	octavo_profiler_close(&p);
}

static void switch_reads_once(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
	work(1, 10);
	octavo_phase_switch(p, OCTAVO_PHASE_DRAFT, OCTAVO_PHASE_VERIFY);
	work(2, 20);
	octavo_phase_switch(p, OCTAVO_PHASE_VERIFY, OCTAVO_PHASE_ACCEPT);
	work(4, 40);
	octavo_phase_end(p, OCTAVO_PHASE_ACCEPT);
	assert_int_equal(script.reads, 4);
	profile = report(p);
	assert_self(profile, DRAFT, 1, 10);
	assert_self(profile, VERIFY, 2, 20);
	assert_self(profile, ACCEPT, 4, 40);
	assert_inclusive(profile, DRAFT, 1, 10);
	assert_int_equal(profile.mismatches, 0);
	assert_sums(&profile);
	octavo_profiler_close(&p);
}

static void recursion_counts_inclusive_once(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	octavo_phase_begin(p, OCTAVO_PHASE_VERIFY);
	work(1, 10);
	octavo_phase_begin(p, OCTAVO_PHASE_OTHER);
	work(2, 20);
	octavo_phase_begin(p, OCTAVO_PHASE_VERIFY);
	work(4, 40);
	octavo_phase_end(p, OCTAVO_PHASE_VERIFY);
	work(8, 80);
	octavo_phase_end(p, OCTAVO_PHASE_OTHER);
	octavo_phase_end(p, OCTAVO_PHASE_VERIFY);
	profile = report(p);
	assert_self(profile, VERIFY, 5, 50);
	assert_self(profile, OTHER, 10, 100);
	assert_inclusive(profile, VERIFY, 15, 150);
	assert_inclusive(profile, OTHER, 14, 140);
	assert_int_equal(profile.phase[OCTAVO_PHASE_VERIFY].calls, 2);
	octavo_profiler_close(&p);
}

static void a_report_shows_open_phases(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	octavo_phase_begin(p, OCTAVO_PHASE_PREFILL);
	work(7, 70);
	profile = report(p);
	assert_self(profile, PREFILL, 7, 70);
	assert_inclusive(profile, PREFILL, 7, 70);
	assert_sums(&profile);
	work(1, 10);
	octavo_phase_end(p, OCTAVO_PHASE_PREFILL);
	profile = report(p);
	assert_self(profile, PREFILL, 8, 80);
	octavo_profiler_close(&p);
}

/* With a clock that moves at every read, the time inside the calls is overhead and the rest is as before. */
static void overhead_is_kept_apart(void **state)
{
	struct octavo_profiler *p;
	struct octavo_profile profile;

	(void)state;
	script.clock_step = 1;
	p = open_scripted(&all);
	for (int i = 0; i < 10; i++) {
		octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
		work(100, 0);
		octavo_phase_begin(p, OCTAVO_PHASE_HEAD);
		octavo_phase_end(p, OCTAVO_PHASE_HEAD);
		octavo_phase_end(p, OCTAVO_PHASE_DRAFT);
	}
	profile = report(p);
	assert_true(profile.overhead[REF] == 40); /* one tick in each of the calls */
	assert_true(profile.phase[OCTAVO_PHASE_HEAD].self[REF] == 10);
	assert_true(profile.phase[OCTAVO_PHASE_DRAFT].self[REF] == 10 * 102);
	assert_true(profile.overhead[CORE] == 0);
	assert_true(profile.pair_ns > 0 && profile.sub_pair_ns > 0);
	assert_sums(&profile);
	octavo_profiler_close(&p);
}

/* ---- Misuse ---------------------------------------------------------------------------------- */

static void mismatches_are_counted(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	octavo_phase_end(p, OCTAVO_PHASE_DRAFT); /* never begun */
	octavo_phase_begin(p, OCTAVO_PHASE_VERIFY);
	octavo_phase_begin(p, OCTAVO_PHASE_HEAD);
	octavo_phase_begin(p, OCTAVO_PHASE_DENSE);
	work(1, 1);
	octavo_phase_end(p, OCTAVO_PHASE_VERIFY); /* skips two */
	work(2, 2);
	octavo_phase_begin(p, OCTAVO_PHASE_COUNT); /* no such phase */
	octavo_phase_begin(p, (enum octavo_phase) - 1);
	octavo_phase_end(p, OCTAVO_PHASE_COUNT);
	profile = report(p);
	assert_int_equal(profile.mismatches, 1 + 2 + 3);
	assert_self(profile, DENSE, 1, 0);
	assert_inclusive(profile, VERIFY, 1, 1);
	assert_true(profile.unattributed[REF] == 2);
	assert_sums(&profile);
	octavo_profiler_close(&p);
}

static void too_deep_is_counted_and_recovers(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	for (int i = 0; i < PHASE_DEPTH + 5; i++)
		octavo_phase_begin(p, OCTAVO_PHASE_OTHER);
	work(1, 1);
	for (int i = 0; i < PHASE_DEPTH + 5; i++)
		octavo_phase_end(p, OCTAVO_PHASE_OTHER);
	work(2, 2);
	profile = report(p);
	assert_int_equal(profile.mismatches, 5);
	assert_self(profile, OTHER, 1, 1);
	assert_true(profile.unattributed[REF] == 2);
	octavo_profiler_close(&p);
}

static void a_disabled_profiler_is_null(void **state)
{
	const struct octavo_profiler_settings off = {0};
	const struct octavo_profiler_settings bad = {.enabled = 1, .best_tier = (enum octavo_tier)7};
	struct octavo_profiler *p = (struct octavo_profiler *)state;
	struct octavo_profile profile;
	struct octavo_error error;

	assert_int_equal(octavo_profiler_open(&p, &off, &error), OCTAVO_OK);
	assert_null(p);
	octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
	octavo_phase_switch(p, OCTAVO_PHASE_DRAFT, OCTAVO_PHASE_VERIFY);
	octavo_phase_end(p, OCTAVO_PHASE_VERIFY);
	octavo_worker_enter(p, octavo_phase_token(p));
	octavo_worker_leave(p);
	assert_int_equal(octavo_profiler_reset(p), OCTAVO_OK);
	profile = report(p);
	assert_int_equal(profile.threads, 0);
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		assert_int_equal(profile.source[c].available, 0);
		assert_string_not_equal(profile.source[c].reason, "");
	}
	octavo_profiler_close(&p);
	octavo_profiler_close(NULL);
	assert_int_equal(octavo_profiler_report(p, NULL), OCTAVO_EINVAL);
	assert_int_equal(octavo_profiler_open(&p, &bad, &error), OCTAVO_EINVAL);
	assert_non_null(strstr(error.text, "best_tier"));
	assert_int_equal(octavo_profiler_open(NULL, &all, NULL), OCTAVO_EINVAL);
}

static void reset_forgets(void **state)
{
	struct octavo_profiler *p = open_scripted(&all);
	struct octavo_profile profile;

	(void)state;
	octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
	work(10, 100);
	assert_int_equal(octavo_profiler_reset(p), OCTAVO_EINVAL);
	octavo_phase_end(p, OCTAVO_PHASE_DRAFT);
	octavo_phase_end(p, OCTAVO_PHASE_DRAFT);
	assert_int_equal(octavo_profiler_reset(p), OCTAVO_OK);
	octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
	work(1, 2);
	octavo_phase_end(p, OCTAVO_PHASE_DRAFT);
	profile = report(p);
	assert_self(profile, DRAFT, 1, 2);
	assert_true(profile.total[REF] == 1 && profile.total[CORE] == 2);
	assert_int_equal(profile.phase[OCTAVO_PHASE_DRAFT].calls, 1);
	assert_int_equal(profile.mismatches, 0);
	octavo_profiler_close(&p);
}

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

static void names_are_known(void **state)
{
	(void)state;
	assert_string_equal(octavo_phase_name(OCTAVO_PHASE_PREFILL), "prefill");
	assert_string_equal(octavo_phase_name(OCTAVO_PHASE_HEAD), "head");
	assert_string_equal(octavo_phase_name(OCTAVO_PHASE_COUNT), "unknown");
	assert_string_equal(octavo_counter_name(OCTAVO_COUNTER_REF_CYCLES), "ref_cycles");
	assert_string_equal(octavo_counter_unit(OCTAVO_COUNTER_CPU_MIGRATIONS), "migrations");
	assert_string_equal(octavo_counter_name(OCTAVO_COUNTER_COUNT), "unknown");
	assert_string_equal(octavo_tier_name(OCTAVO_TIER_TIME), "time");
	assert_string_equal(octavo_tier_name((enum octavo_tier)3), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup(nesting_splits_self_and_inclusive, setup),
	        cmocka_unit_test_setup(sub_phases_do_not_read_events_unless_asked, setup),
	        cmocka_unit_test_setup(switch_reads_once, setup),
	        cmocka_unit_test_setup(recursion_counts_inclusive_once, setup),
	        cmocka_unit_test_setup(a_report_shows_open_phases, setup),
	        cmocka_unit_test_setup(overhead_is_kept_apart, setup),
	        cmocka_unit_test_setup(mismatches_are_counted, setup),
	        cmocka_unit_test_setup(too_deep_is_counted_and_recovers, setup),
	        cmocka_unit_test_setup(a_disabled_profiler_is_null, setup),
	        cmocka_unit_test_setup(reset_forgets, setup),
	        cmocka_unit_test_setup(workers_adopt_the_open_phases, setup),
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
	        cmocka_unit_test(names_are_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
