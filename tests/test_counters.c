/* SPDX-License-Identifier: Apache-2.0
 *
 * The real sources of counters, and what they say where there is nothing to count: a kernel that refuses, a
 * filter that forbids.  No test needs a PMU, and none passes because there is none.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "profiler/counters_perf.h"
#include "tests/support/pages.h"

/* ---- What counts ----------------------------------------------------------------------------- */

static void sleep_ns(long ns)
{
	const struct timespec moment = {.tv_nsec = ns};

	nanosleep(&moment, NULL);
}

static struct octavo_profile profile_known_work(struct octavo_profiler **out, enum octavo_tier best_tier)
{
	const struct octavo_profiler_settings settings = {.enabled = 1, .best_tier = best_tier};
	struct octavo_profiler *p;
	struct octavo_profile profile;
	struct octavo_error error;

	assert_int_equal(octavo_profiler_open(&p, &settings, &error), OCTAVO_OK);
	*out = p;
	octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
	touch_pages(100);
	octavo_phase_switch(p, OCTAVO_PHASE_DRAFT, OCTAVO_PHASE_VERIFY);
	for (int i = 0; i < 5; i++)
		sleep_ns(1000000);
	octavo_phase_end(p, OCTAVO_PHASE_VERIFY);
	assert_int_equal(octavo_profiler_report(p, &profile), OCTAVO_OK);
	return profile;
}

static double self(const struct octavo_profile *profile, enum octavo_phase phase, enum octavo_counter counter)
{
	return profile->phase[phase].self[counter];
}

/* What both tiers must see of the known work. */
static void assert_known_work(const struct octavo_profile *profile)
{
	assert_true(profile->source[OCTAVO_COUNTER_WALL_NS].available);
	assert_true(self(profile, OCTAVO_PHASE_VERIFY, OCTAVO_COUNTER_WALL_NS) >= 0.99 * 5e6);
	assert_true(profile->source[OCTAVO_COUNTER_PAGE_FAULTS].available);
	assert_true(self(profile, OCTAVO_PHASE_DRAFT, OCTAVO_COUNTER_PAGE_FAULTS) >= 100);
	assert_true(self(profile, OCTAVO_PHASE_VERIFY, OCTAVO_COUNTER_PAGE_FAULTS) < 100);
	assert_true(profile->source[OCTAVO_COUNTER_CONTEXT_SWITCHES].available);
	assert_true(self(profile, OCTAVO_PHASE_VERIFY, OCTAVO_COUNTER_CONTEXT_SWITCHES) >= 5);
	assert_true(profile->source[OCTAVO_COUNTER_TASK_CLOCK_NS].available);
	assert_true(self(profile, OCTAVO_PHASE_DRAFT, OCTAVO_COUNTER_TASK_CLOCK_NS) > 0);
	/* A thread that sleeps is not on a processor. */
	assert_true(self(profile, OCTAVO_PHASE_VERIFY, OCTAVO_COUNTER_TASK_CLOCK_NS) <
	            self(profile, OCTAVO_PHASE_VERIFY, OCTAVO_COUNTER_WALL_NS));
	assert_true(profile->pair_ns > 0 && profile->sub_pair_ns > 0 && profile->overhead_ns > 0);
}

static void the_time_tier_counts(void **state)
{
	struct octavo_profiler *p;
	const struct octavo_profile profile = profile_known_work(&p, OCTAVO_TIER_TIME);

	(void)state;
	assert_int_equal(profile.tier, OCTAVO_TIER_TIME);
	assert_known_work(&profile);
	assert_int_equal(profile.source[OCTAVO_COUNTER_CPU_MIGRATIONS].available, 0);
	assert_int_equal(profile.source[OCTAVO_COUNTER_CORE_CYCLES].available, 0);
	octavo_profiler_close(&p);
}

static void the_software_tier_counts(void **state)
{
	struct octavo_profiler *p;
	const struct octavo_profile profile = profile_known_work(&p, OCTAVO_TIER_SOFTWARE);

	(void)state;
	assert_known_work(&profile);
	if (profile.tier == OCTAVO_TIER_TIME) {
		print_message("%s\n", profile.tier_reason);
		octavo_profiler_close(&p);
		skip();
	}
	assert_int_equal(profile.tier, OCTAVO_TIER_SOFTWARE);
	assert_non_null(strstr(profile.source[OCTAVO_COUNTER_TASK_CLOCK_NS].source, "perf_event"));
	assert_non_null(strstr(profile.source[OCTAVO_COUNTER_PAGE_FAULTS].source, "perf_event"));
	assert_int_equal(profile.source[OCTAVO_COUNTER_CORE_CYCLES].available, 0);
	octavo_profiler_close(&p);
}

/* With or without a PMU: a counter is there and counts, or it says why it is not. */
static void every_counter_counts_or_says_why_not(void **state)
{
	struct octavo_profiler *p;
	const struct octavo_profile profile = profile_known_work(&p, OCTAVO_TIER_HARDWARE);

	(void)state;
	assert_known_work(&profile);
	for (unsigned c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		const struct octavo_counter_source *source = &profile.source[c];

		if (!source->available)
			assert_string_not_equal(source->reason, "");
		else if (c == OCTAVO_COUNTER_CORE_CYCLES || c == OCTAVO_COUNTER_INSTRUCTIONS)
			assert_true(self(&profile, OCTAVO_PHASE_DRAFT, c) > 0);
		assert_int_equal(source->available, strcmp(source->source, "") != 0);
	}
	assert_int_equal(profile.tier == OCTAVO_TIER_HARDWARE, strcmp(profile.tier_reason, "") == 0);
	octavo_profiler_close(&p);
}

static void the_clocks_agree(void **state)
{
	const struct octavo_clock clock = octavo_clock_choose();
	const uint64_t ns = octavo_now_ns(), ticks = clock.ticks(), cycles = octavo_ref_cycles();

	(void)state;
	sleep_ns(1000000);
	assert_true(clock.ticks() > ticks);
	assert_true(octavo_ref_cycles() > cycles);
	assert_true(octavo_now_ns() - ns >= 1000000);
	assert_int_equal(clock.counts_ref_cycles, strcmp(clock.reason, "") == 0);
}

/* ---- A kernel that refuses ------------------------------------------------------------------- */

static int refusal, kernel_refusal, opened;

/* Refuses counts of the kernel for one reason, everything else for another. */
static int refuse(struct perf_event_attr *attr, int leader)
{
	(void)leader;
	errno = attr->exclude_kernel ? refusal : kernel_refusal;
	return -1;
}

/* A software clock in the place of whatever is asked for: a PMU good enough to read. */
static int open_software_clock(struct perf_event_attr *attr, int leader)
{
	assert_int_equal(attr->pinned, leader < 0);
	assert_int_equal(attr->exclude_kernel, 1);
	attr->type = PERF_TYPE_SOFTWARE;
	attr->config = PERF_COUNT_SW_TASK_CLOCK;
	attr->pinned = 0;
	if (opened++ == 2) {
		errno = ENOSPC;
		return -1;
	}
	return (int)syscall(SYS_perf_event_open, attr, 0, -1, leader, PERF_FLAG_FD_CLOEXEC);
}

struct fake {
	struct perf_group group;
	struct octavo_counter_backend backend;
};

static void make_fake(struct fake *fake, const struct octavo_counter_backend *original,
                      int (*open)(struct perf_event_attr *, int))
{
	memcpy(&fake->group, original->context, sizeof fake->group);
	fake->group.open = open;
	fake->backend = *original;
	fake->backend.context = &fake->group;
}

static struct octavo_counter_source probe_refused(const struct octavo_counter_backend *original,
                                                  enum octavo_counter counter)
{
	struct octavo_counter_source source[OCTAVO_COUNTER_COUNT] = {0};
	struct fake fake;

	make_fake(&fake, original, refuse);
	assert_int_equal(fake.backend.probe(&fake.backend, OCTAVO_BIT(counter), source), 0);
	return source[counter];
}

static int paranoid_level(void)
{
	FILE *file = fopen("/proc/sys/kernel/perf_event_paranoid", "r");
	int level = INT_MIN;

	if (file) {
		if (fscanf(file, "%d", &level) != 1)
			level = INT_MIN;
		fclose(file);
	}
	return level;
}

static void each_refusal_has_its_reason(void **state)
{
	static const struct {
		int error;
		const char *reason, *remedy;
	} cases[] = {
	        {EPERM, "seccomp filter forbids", "seccomp profile"},
	        {EMFILE, "open files", "ulimit -n"},
	        {ENOENT, "no hardware counters", ""},
	        {EOPNOTSUPP, "no hardware counters", ""},
	        {EBUSY, "busy", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct octavo_counter_source source;

		refusal = cases[i].error;
		source = probe_refused(&octavo_counters_hardware, OCTAVO_COUNTER_CORE_CYCLES);
		assert_non_null(strstr(source.reason, "cycles: "));
		assert_non_null(strstr(source.reason, cases[i].reason));
		if (cases[i].remedy)
			assert_non_null(strstr(source.remedy, cases[i].remedy));
		else
			assert_string_equal(source.remedy, "");
	}
	refusal = ENOENT;
	assert_non_null(strstr(probe_refused(&octavo_counters_hardware, OCTAVO_COUNTER_LLC_MISSES).reason,
	                       "no hardware counters"));
}

/* A PMU with cycles and nothing else. */
static int open_cycles_only(struct perf_event_attr *attr, int leader)
{
	(void)leader;
	if (attr->type == PERF_TYPE_HARDWARE && attr->config == PERF_COUNT_HW_CPU_CYCLES)
		return dup(0);
	errno = ENOENT;
	return -1;
}

static void a_missing_event_is_told_from_a_missing_pmu(void **state)
{
	struct octavo_counter_source source[OCTAVO_COUNTER_COUNT] = {0};
	struct fake fake;

	(void)state;
	make_fake(&fake, &octavo_counters_hardware, open_cycles_only);
	assert_int_equal(fake.backend.probe(&fake.backend, OCTAVO_HARDWARE_COUNTERS, source),
	                 OCTAVO_BIT(OCTAVO_COUNTER_CORE_CYCLES));
	assert_string_equal(source[OCTAVO_COUNTER_CORE_CYCLES].source, "perf_event cycles:u");
	assert_non_null(strstr(source[OCTAVO_COUNTER_LLC_MISSES].reason, "not an event of this processor"));
}

static void a_hidden_call_is_told_from_a_missing_one(void **state)
{
	const int has_perf = paranoid_level() != INT_MIN;

	(void)state;
	refusal = ENOSYS;
	assert_non_null(strstr(probe_refused(&octavo_counters_software, OCTAVO_COUNTER_TASK_CLOCK_NS).reason,
	                       has_perf ? "seccomp filter hides" : "built without perf_event"));
}

static void a_permission_names_the_level(void **state)
{
	const int level = paranoid_level();
	struct octavo_counter_source source;
	char expected[64];

	(void)state;
	snprintf(expected, sizeof expected, level > 1 ? "perf_event_paranoid is %d" : "security module", level);
	kernel_refusal = EACCES;
	source = probe_refused(&octavo_counters_software, OCTAVO_COUNTER_CONTEXT_SWITCHES);
	assert_non_null(strstr(source.reason, expected));
	if (level > 1)
		assert_non_null(strstr(source.remedy, "perf_event_paranoid=1"));
}

/* A user without rights on a machine without a PMU must not be sent to change the permission level. */
static void no_permission_does_not_hide_no_pmu(void **state)
{
	(void)state;
	kernel_refusal = EACCES;
	refusal = ENOENT;
	assert_non_null(strstr(probe_refused(&octavo_counters_hardware, OCTAVO_COUNTER_INSTRUCTIONS).reason,
	                       "no hardware counters"));
}

static void a_group_reads_all_its_members(void **state)
{
	uint64_t before[OCTAVO_COUNTER_COUNT] = {0}, after[OCTAVO_COUNTER_COUNT] = {0};
	const uint32_t two = OCTAVO_BIT(OCTAVO_COUNTER_CORE_CYCLES) | OCTAVO_BIT(OCTAVO_COUNTER_LLC_MISSES);
	struct fake fake;
	void *thread;
	int error, next_fd;

	(void)state;
	opened = 0;
	make_fake(&fake, &octavo_counters_hardware, open_software_clock);
	error = fake.backend.start_thread(&fake.backend, two, &thread);
	if (error == EPERM || error == EACCES || error == ENOSYS)
		skip();
	assert_int_equal(error, 0);
	assert_int_equal(fake.backend.read(thread, before), 0);
	touch_pages(100);
	assert_int_equal(fake.backend.read(thread, after), 0);
	assert_true(after[OCTAVO_COUNTER_CORE_CYCLES] > before[OCTAVO_COUNTER_CORE_CYCLES]);
	assert_true(after[OCTAVO_COUNTER_LLC_MISSES] > before[OCTAVO_COUNTER_LLC_MISSES]);
	assert_int_equal(after[OCTAVO_COUNTER_INSTRUCTIONS], 0);
	fake.backend.stop_thread(thread);

	/* The third event of a group finds no place: the two before it are given back. */
	opened = 0;
	next_fd = dup(0);
	close(next_fd);
	assert_int_equal(fake.backend.start_thread(&fake.backend, OCTAVO_HARDWARE_COUNTERS, &thread), ENOSPC);
	assert_int_equal(opened, 3);
	assert_int_equal(dup(0), next_fd);
	close(next_fd);
}

/* ---- A filter that forbids ------------------------------------------------------------------- */

static int forbid_perf_event_open(int error)
{
	struct sock_filter filter[] = {
	        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_perf_event_open, 0, 1),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* In a child: the tier and its reason, as a line of text; an empty line if there is no filter here. */
static void report_behind_filter(int out, int error)
{
	const struct octavo_profiler_settings settings = {.enabled = 1, .best_tier = OCTAVO_TIER_HARDWARE};
	struct octavo_profiler *p;
	struct octavo_profile profile;

	if (forbid_perf_event_open(error)) {
		dprintf(out, "\n");
		return;
	}
	if (octavo_profiler_open(&p, &settings, NULL) || octavo_profiler_report(p, &profile))
		return;
	dprintf(out, "%s: %s / %s\n", octavo_tier_name(profile.tier), profile.tier_reason,
	        profile.source[OCTAVO_COUNTER_CORE_CYCLES].reason);
	octavo_profiler_close(&p);
}

static void assert_behind_filter(int error, const char *reason)
{
	char line[2048] = "";
	int ends[2], status;
	FILE *in;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		close(ends[0]);
		report_behind_filter(ends[1], error);
		_exit(0);
	}
	close(ends[1]);
	in = fdopen(ends[0], "r");
	assert_non_null(in);
	assert_non_null(fgets(line, sizeof line, in));
	fclose(in);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	if (line[0] == '\n')
		skip();
	assert_ptr_equal(strstr(line, "time: "), line);
	assert_non_null(strstr(line, reason));
	assert_non_null(strstr(strchr(line, '/'), reason));
}

static void a_filter_is_named(void **state)
{
	(void)state;
	assert_behind_filter(EPERM, "a seccomp filter forbids perf_event_open (EPERM)");
	if (paranoid_level() == INT_MIN)
		skip();
	assert_behind_filter(ENOSYS, "a seccomp filter hides perf_event_open (ENOSYS)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(the_time_tier_counts),
	        cmocka_unit_test(the_software_tier_counts),
	        cmocka_unit_test(every_counter_counts_or_says_why_not),
	        cmocka_unit_test(the_clocks_agree),
	        cmocka_unit_test(each_refusal_has_its_reason),
	        cmocka_unit_test(a_missing_event_is_told_from_a_missing_pmu),
	        cmocka_unit_test(a_hidden_call_is_told_from_a_missing_one),
	        cmocka_unit_test(a_permission_names_the_level),
	        cmocka_unit_test(no_permission_does_not_hide_no_pmu),
	        cmocka_unit_test(a_group_reads_all_its_members),
	        cmocka_unit_test(a_filter_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
