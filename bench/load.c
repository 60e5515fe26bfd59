/* SPDX-License-Identifier: Apache-2.0
 *
 * Who else had the processors while something was measured: other processes, and a host that ran other machines.
 */
#include "bench/bench.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static double seconds_of(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec * 1e-6;
}

/* Processor seconds since the system started; false where it does not say. */
static bool read_system(double *busy, double *stolen)
{
	/* user, nice, system, idle, iowait, irq, softirq, steal: proc(5) */
	unsigned long long t[8] = { 0 };
	FILE *file = fopen("/proc/stat", "r");
	bool good = file && fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3],
	                           &t[4], &t[5], &t[6], &t[7]) == 8;
	double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
	if (file)
		fclose(file);
	*busy = (double)(t[0] + t[1] + t[2] + t[5] + t[6]) * tick;
	*stolen = (double)t[7] * tick;
	return good;
}

static struct load read_load(void)
{
	struct rusage own;
	struct load now = { .known = false };
	now.known = read_system(&now.others, &now.host) && getrusage(RUSAGE_SELF, &own) == 0;
	if (now.known)
		now.others -= seconds_of(own.ru_utime) + seconds_of(own.ru_stime);
	now.wall = (double)octavo_now_ns() * 1e-9;
	return now;
}

struct load load_start(void)
{
	return read_load();
}

struct load load_since(const struct load *start)
{
	struct load now = read_load();
	double wall = now.wall - start->wall;
	/* The counts go in hundredths of a second: over less than a quarter they say nothing. */
	if (!start->known || !now.known || wall < 0.25)
		return (struct load){ .known = false };
	double others = (now.others - start->others) / wall, host = (now.host - start->host) / wall;
	return (struct load){ true, others > 0 ? others : 0, host > 0 ? host : 0, wall };
}

void load_print(const struct load *l)
{
	enum { WORTH_SAYING = 10 }; /* hundredths of a processor */
	if (!l->known || (l->others + l->host) * 100 < WORTH_SAYING)
		return;
	printf("\n  busy: meanwhile other processes had %.2f of the %ld processors on average", l->others,
	       sysconf(_SC_NPROCESSORS_ONLN));
	if (l->host * 100 >= 1)
		printf(", and the host took %.2f", l->host);
	printf(":\n  times and bandwidths are not those of the machine alone\n");
}

json_t *load_json(const struct load *l)
{
	return l->known ? json_pack("{s:f, s:f}", "processes", l->others, "host", l->host) : json_null();
}
