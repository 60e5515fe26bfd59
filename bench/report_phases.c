/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the time of runs went, by phases of the profiler: as tables, and as JSON.
 */
#include "bench/runs.h"

#include <string.h>

/* ---- Text ------------------------------------------------------------------------------------------------ */

static const enum octavo_phase listed[] = {
	OCTAVO_PHASE_DRAFT,     OCTAVO_PHASE_VERIFY, OCTAVO_PHASE_ACCEPT,  OCTAVO_PHASE_OTHER,
	OCTAVO_PHASE_ATTENTION, OCTAVO_PHASE_DENSE,  OCTAVO_PHASE_EXPERTS, OCTAVO_PHASE_HEAD,
};

/* Wide enough for its head. */
static int column_width(const struct run *run)
{
	size_t head = strlen(run->label) + 1 + strlen(run->shape);
	return run_is_plain(run) || head < 8 ? 8 : (int)head;
}

static void print_column_heads(const struct runs *r, size_t first, size_t end)
{
	char name[64];
	printf("  %-14s", "");
	for (size_t i = first; i < end; i++) {
		if (run_is_plain(&r->run[i]))
			snprintf(name, sizeof name, "plain");
		else
			snprintf(name, sizeof name, "%s %s", r->run[i].label, r->run[i].shape);
		printf("  %*s", column_width(&r->run[i]), name);
	}
	putchar('\n');
}

/* A counter of the phases per emitted token; sums of top phases, profiler and the rest equal the total. */
static void print_phase_table(const struct runs *r, size_t first, size_t end, enum octavo_counter counter, double unit)
{
	print_column_heads(r, first, end);
	for (size_t p = 0; p < sizeof listed / sizeof *listed; p++) {
		bool sub = (int)listed[p] >= OCTAVO_PHASE_TOP;
		if ((int)listed[p] == OCTAVO_PHASE_TOP)
			printf("  of which, in draft, verify and prefill together\n");
		printf("  %s%-*s", sub ? "  " : "", sub ? 12 : 14, octavo_phase_name(listed[p]));
		for (size_t i = first; i < end; i++) {
			const struct run *run = &r->run[i];
			printf("  %*.1f", column_width(run),
			       run->profile.phase[listed[p]].owner_inclusive[counter] / (double)run->tokens / unit);
		}
		putchar('\n');
	}
}

void phases_notes(const struct octavo_profile *p)
{
	if (!p->source[OCTAVO_COUNTER_WALL_NS].available)
		return; /* measured without the profiler */
	printf("\n  counters: %s tier%s", octavo_tier_name(p->tier), *p->tier_reason ? ": " : "\n");
	print_wrapped(p->tier_reason, strlen("  counters:  tier: ") + strlen(octavo_tier_name(p->tier)), 4);
	counters_missing(p, false);
}

/* What a user waits for: the sum of the phases, the profiler's own share and the rest are the whole. */
static void print_sums(const struct runs *r, size_t first, size_t end, enum octavo_counter counter, double unit)
{
	const char *names[] = { "prefill", "profiler", "rest", "total" };
	for (size_t line = 0; line < 4; line++) {
		printf("  %-14s", names[line]);
		for (size_t i = first; i < end; i++) {
			const struct octavo_profile *p = &r->run[i].profile;
			double sum[] = { p->phase[OCTAVO_PHASE_PREFILL].owner_inclusive[counter], p->overhead[counter],
				         p->unattributed[counter], p->total[counter] };
			printf("  %*.1f", column_width(&r->run[i]), sum[line] / (double)r->run[i].tokens / unit);
		}
		putchar('\n');
	}
}

/* As many runs side by side as fit a line, one at least. */
static size_t abreast(const struct runs *r, size_t at, size_t end)
{
	int used = 16;
	size_t next = at;
	do
		used += 2 + column_width(&r->run[next++]);
	while (next < end && used + 2 + column_width(&r->run[next]) <= LINE_WIDTH);
	return next;
}

static void print_phase_tables(const struct runs *r, size_t first, size_t end, enum octavo_counter counter, double unit)
{
	for (size_t at = first, next; at < end; at = next) {
		next = abreast(r, at, end);
		if (at > first)
			putchar('\n');
		print_phase_table(r, at, next, counter, unit);
		print_sums(r, at, next, counter, unit);
	}
}

void phases_print(const struct runs *r, size_t first, size_t end)
{
	const struct octavo_profile *p = &r->run[first].profile;
	enum octavo_counter cycles = p->source[OCTAVO_COUNTER_CORE_CYCLES].available ? OCTAVO_COUNTER_CORE_CYCLES
	                                                                             : OCTAVO_COUNTER_REF_CYCLES;
	if (!p->source[OCTAVO_COUNTER_WALL_NS].available)
		return; /* measured without the profiler */
	printf("\nWhere the time goes: microseconds per emitted token\n\n");
	print_phase_tables(r, first, end, OCTAVO_COUNTER_WALL_NS, 1e3);
	printf("\nThe same in thousands of %s per emitted token (%s)\n\n", octavo_counter_name(cycles),
	       p->source[cycles].source);
	print_phase_tables(r, first, end, cycles, 1e3);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static json_t *phase_json(const struct octavo_profile *p, enum octavo_phase phase)
{
	double total = p->total[OCTAVO_COUNTER_WALL_NS];
	const double *own = p->phase[phase].owner_inclusive;
	json_t *o = json_pack("{s:f, s:f, s:I}", "ns", own[OCTAVO_COUNTER_WALL_NS], "share",
	                      total > 0 ? own[OCTAVO_COUNTER_WALL_NS] / total : 0.0, "calls",
	                      (json_int_t)p->phase[phase].calls);
	for (int c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		const char *name = octavo_counter_name((enum octavo_counter)c);
		if (c == OCTAVO_COUNTER_WALL_NS)
			continue;
		/* System-call counters are read at phase boundaries only: unknown within a sub-phase, not zero. */
		if (!p->source[c].available || ((int)phase >= OCTAVO_PHASE_TOP && !p->source[c].sub_phases)) {
			json_object_set_new(o, name, json_null());
			continue;
		}
		json_object_set_new(o, name, json_real(own[c]));
		json_t *threads = json_pack("{s:f, s:f}", "self", p->phase[phase].self[c], "inclusive",
		                            p->phase[phase].inclusive[c]);
		char key[64];
		snprintf(key, sizeof key, "%s_all_threads", name);
		json_object_set_new(o, key, threads);
	}
	return o;
}

json_t *phases_json(const struct octavo_profile *p)
{
	if (!p->source[OCTAVO_COUNTER_WALL_NS].available)
		return json_null();
	json_t *o = json_object();
	for (int phase = 0; phase < OCTAVO_PHASE_COUNT; phase++)
		json_object_set_new(o, octavo_phase_name((enum octavo_phase)phase),
		                    phase_json(p, (enum octavo_phase)phase));
	json_object_set_new(o, "profiler_ns", json_real(p->overhead_ns));
	json_object_set_new(o, "unattributed_ns", json_real(p->unattributed[OCTAVO_COUNTER_WALL_NS]));
	json_object_set_new(o, "total_ns", json_real(p->total[OCTAVO_COUNTER_WALL_NS]));
	return o;
}

/* Each thread's own wall time per phase, the session's thread first. */
json_t *phases_threads_json(const struct run *run)
{
	json_t *all = json_array();
	for (size_t i = 0; i < run->threads; i++) {
		json_t *o = json_object();
		for (int phase = 0; phase < OCTAVO_PHASE_COUNT; phase++)
			json_object_set_new(o, octavo_phase_name((enum octavo_phase)phase),
			                    json_real(run->thread_ns[i][phase]));
		json_array_append_new(all, json_pack("{s:b, s:o}", "owner", i == 0, "self_ns", o));
	}
	return all;
}
