/* SPDX-License-Identifier: Apache-2.0
 *
 * The phase profiler on a scripted clock and scripted counters: who gets what, and misuse.
 */
#include "profiler_script.h"

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
	        cmocka_unit_test(names_are_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
