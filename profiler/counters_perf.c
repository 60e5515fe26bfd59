/* SPDX-License-Identifier: Apache-2.0
 *
 * Counters of the kernel's perf_event interface, one group per thread: its software events, and the core's own
 * where PAPI does not have them (it knows no processor that is newer than itself; the kernel's names work on).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#include "profiler/counters_perf.h"

#define PARANOID "/proc/sys/kernel/perf_event_paranoid"

struct perf_thread {
	unsigned events;
	int fd[PERF_EVENTS_MAX];                      /* [events], the leader first */
	enum octavo_counter counter[PERF_EVENTS_MAX]; /* [events] */
};

static int open_for_this_thread(struct perf_event_attr *attr, int leader)
{
	return (int)syscall(SYS_perf_event_open, attr, 0, -1, leader, PERF_FLAG_FD_CLOEXEC);
}

/* Opens one event; -1 with errno set. */
static int open_choice(const struct perf_group *group, const struct perf_choice *choice, int leader)
{
	struct perf_event_attr attr = {
	        .size = sizeof attr,
	        .type = choice->type,
	        .config = choice->config,
	        .read_format = PERF_FORMAT_GROUP | PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
	        /* User mode where that is enough: it asks for less, and a refusal of the kernel's part would hide
	         * that there is no such counter at all. */
	        .exclude_kernel = !choice->in_kernel,
	        .exclude_hv = !choice->in_kernel,
	        /* The leader waits until its group is complete: members that join a running task-clock stay stopped
	         * until the thread is next scheduled (seen on Linux 6.18), and read as zero up to then. */
	        .disabled = leader < 0,
	        /* All the time or not at all: a share of the time says nothing about phases this short. */
	        .pinned = group->hardware && leader < 0,
	};

	return group->open(&attr, leader);
}

/* ---- Why not --------------------------------------------------------------------------------- */

static int under_hypervisor(void)
{
#if defined(__x86_64__) || defined(__i386__)
	unsigned a, b, c = 0, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 31));
#else
	return 0;
#endif
}

/* The kernel's permission level, or -2 if it has no perf_event at all: documented as the way to find out. */
static int paranoid_level(void)
{
	FILE *file = fopen(PARANOID, "re");
	int level = -2;

	if (!file)
		return -2;
	if (fscanf(file, "%d", &level) != 1)
		level = -2;
	fclose(file);
	return level;
}

static void explain(struct octavo_counter_source *source, const char *name, const char *reason, const char *remedy)
{
	snprintf(source->reason, sizeof source->reason, "%s: %s", name, reason);
	snprintf(source->remedy, sizeof source->remedy, "%s", remedy);
}

static void explain_permission(struct octavo_counter_source *source, const struct perf_choice *choice)
{
	const int level = paranoid_level(), enough = choice->in_kernel ? 1 : 2;
	char reason[128], remedy[128];

	if (level <= enough) {
		explain(source, choice->name, "a security module of this system forbids perf_event_open (EACCES)", "");
		return;
	}
	snprintf(reason, sizeof reason, "not permitted: kernel.perf_event_paranoid is %d", level);
	snprintf(remedy, sizeof remedy, "sysctl kernel.perf_event_paranoid=%d, or run with CAP_PERFMON", enough);
	explain(source, choice->name, reason, remedy);
}

/* Does the first event of the group open: the core's cycles, which every PMU has? */
static int has_pmu(const struct perf_group *group)
{
	const int fd = open_choice(group, &group->choice[0], -1);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void explain_missing(struct octavo_counter_source *source, const struct perf_choice *choice,
                            const struct perf_group *group)
{
	if (!group->hardware)
		explain(source, choice->name, "this kernel does not have the event", "use a newer kernel");
	else if (has_pmu(group))
		explain(source, choice->name, "not an event of this processor, as far as the kernel knows", "");
	else if (under_hypervisor())
		explain(source, choice->name,
		        "no hardware counters: this is a virtual machine whose host does not pass them on",
		        "let the host pass the PMU (KVM: -cpu host,pmu=on), or run on the bare machine");
	else
		explain(source, choice->name,
		        "no hardware counters: the kernel drives no PMU of this processor, or a host hides it",
		        "use a kernel with a PMU driver for this processor");
}

static void explain_error(struct octavo_counter_source *source, const struct perf_choice *choice,
                          const struct perf_group *group, int error)
{
	switch (error) {
	case EACCES:
		explain_permission(source, choice);
		break;
	case EPERM:
		explain(source, choice->name, "a seccomp filter forbids perf_event_open (EPERM)",
		        "allow perf_event_open in the container's seccomp profile");
		break;
	case ENOSYS:
		if (paranoid_level() == -2)
			explain(source, choice->name, "this kernel is built without perf_event (ENOSYS)",
			        "use a kernel with CONFIG_PERF_EVENTS");
		else
			explain(source, choice->name, "a seccomp filter hides perf_event_open (ENOSYS)",
			        "allow perf_event_open in the container's seccomp profile");
		break;
	case EMFILE:
	case ENFILE:
		explain(source, choice->name, strerror(error), "raise the limit of open files (ulimit -n)");
		break;
	case ENOENT:
	case ENODEV:
	case EOPNOTSUPP:
	case EINVAL:
		explain_missing(source, choice, group);
		break;
	default:
		explain(source, choice->name, strerror(error), "");
	}
}

/* ---- The backend ----------------------------------------------------------------------------- */

static uint32_t perf_probe(const struct octavo_counter_backend *backend, uint32_t wanted,
                           struct octavo_counter_source *source)
{
	const struct perf_group *group = backend->context;
	uint32_t found = 0;

	for (unsigned i = 0; i < group->choices; i++) {
		const struct perf_choice *choice = &group->choice[i];
		int fd;

		if (!(wanted & OCTAVO_BIT(choice->counter)))
			continue;
		fd = open_choice(group, choice, -1);
		if (fd < 0) {
			explain_error(&source[choice->counter], choice, group, errno);
			continue;
		}
		close(fd);
		snprintf(source[choice->counter].source, sizeof source[0].source, "perf_event %s%s", choice->name,
		         choice->in_kernel ? "" : ":u");
		found |= OCTAVO_BIT(choice->counter);
	}
	return found;
}

static void perf_stop(void *argument)
{
	struct perf_thread *thread = argument;

	while (thread->events)
		close(thread->fd[--thread->events]);
	free(thread);
}

static int perf_start(const struct octavo_counter_backend *backend, uint32_t counters, void **out)
{
	const struct perf_group *group = backend->context;
	struct perf_thread *thread = calloc(1, sizeof *thread);

	if (!thread)
		return ENOMEM;
	for (unsigned i = 0; i < group->choices; i++) {
		const struct perf_choice *choice = &group->choice[i];
		int fd;

		if (!(counters & OCTAVO_BIT(choice->counter)))
			continue;
		fd = open_choice(group, choice, thread->events ? thread->fd[0] : -1);
		if (fd < 0) {
			const int error = errno;

			perf_stop(thread);
			return error;
		}
		thread->counter[thread->events] = choice->counter;
		thread->fd[thread->events++] = fd;
	}
	if (ioctl(thread->fd[0], PERF_EVENT_IOC_ENABLE, 0)) {
		const int error = errno;

		perf_stop(thread);
		return error;
	}
	*out = thread;
	return 0;
}

static int perf_read(void *argument, uint64_t *value)
{
	const struct perf_thread *thread = argument;
	struct {
		uint64_t events, enabled, running, count[PERF_EVENTS_MAX];
	} group;
	const ssize_t want = (ssize_t)(offsetof(__typeof__(group), count) + thread->events * sizeof group.count[0]);
	const ssize_t got = read(thread->fd[0], &group, sizeof group);

	if (got < 0)
		return errno;
	/* An end of file is how the kernel says that a pinned group found no free counter. */
	if (got != want || group.events != thread->events || group.running < group.enabled)
		return EBUSY;
	for (unsigned i = 0; i < thread->events; i++)
		value[thread->counter[i]] = group.count[i];
	return 0;
}

/* clang-format off */
static const struct perf_group software_group = {
	.choice = {
		{OCTAVO_COUNTER_TASK_CLOCK_NS, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, 0, "task-clock"},
		{OCTAVO_COUNTER_PAGE_FAULTS, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS, 0, "page-faults"},
		{OCTAVO_COUNTER_CONTEXT_SWITCHES, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES, 1, "context-switches"},
		{OCTAVO_COUNTER_CPU_MIGRATIONS, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_MIGRATIONS, 1, "cpu-migrations"},
	},
	.choices = 4,
	.hardware = 0,
	.open = open_for_this_thread,
};

/* Not the generic "cache-misses": it is the last level's on some processors and the first one's on others. */
#define LAST_LEVEL_READ_MISSES \
	(PERF_COUNT_HW_CACHE_LL | PERF_COUNT_HW_CACHE_OP_READ << 8 | PERF_COUNT_HW_CACHE_RESULT_MISS << 16)

static const struct perf_group hardware_group = {
	.choice = {
		{OCTAVO_COUNTER_CORE_CYCLES, PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, 0, "cycles"},
		{OCTAVO_COUNTER_INSTRUCTIONS, PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS, 0, "instructions"},
		{OCTAVO_COUNTER_LLC_MISSES, PERF_TYPE_HW_CACHE, LAST_LEVEL_READ_MISSES, 0, "LLC-load-misses"},
	},
	.choices = 3,
	.hardware = 1,
	.open = open_for_this_thread,
};
/* clang-format on */

const struct octavo_counter_backend octavo_counters_software = {
        .name = "perf_event software",
        .tier = OCTAVO_TIER_SOFTWARE,
        .context = (void *)&software_group,
        .probe = perf_probe,
        .start_thread = perf_start,
        .read = perf_read,
        .stop_thread = perf_stop,
};

const struct octavo_counter_backend octavo_counters_hardware = {
        .name = "perf_event hardware",
        .tier = OCTAVO_TIER_HARDWARE,
        .context = (void *)&hardware_group,
        .probe = perf_probe,
        .start_thread = perf_start,
        .read = perf_read,
        .stop_thread = perf_stop,
};
