/* SPDX-License-Identifier: Apache-2.0
 *
 * What this machine says of itself, and `specbench machine`.
 */
#include "bench/bench.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* ---- What the system tells ---------------------------------------------------------------------------------- */

/* The value behind "KEY\t: VALUE" in a /proc file. */
static bool proc_value(const char *path, const char *key, char *out, size_t room)
{
	char line[4096];
	FILE *file = fopen(path, "r");
	bool found = false;
	while (file && !found && fgets(line, sizeof line, file)) {
		size_t length = strlen(key);
		if (strncmp(line, key, length) || !strchr("\t :", line[length]))
			continue;
		const char *value = strchr(line, ':');
		if (!value)
			continue;
		value += 1 + strspn(value + 1, " \t");
		snprintf(out, room, "%.*s", (int)strcspn(value, "\n"), value);
		found = true;
	}
	if (file)
		fclose(file);
	return found;
}

/* The first line of a sysfs file. */
static bool read_line(const char *path, char *out, size_t room)
{
	FILE *file = fopen(path, "r");
	bool good = file && fgets(out, (int)room, file);
	if (file)
		fclose(file);
	if (good)
		out[strcspn(out, "\n")] = 0;
	return good;
}

static void describe_caches(struct machine *m)
{
	for (int index = 0; index < 8; index++) {
		char path[128], level[16], type[32], size[32];
		snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", index);
		if (!read_line(path, level, sizeof level))
			break;
		snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", index);
		if (!read_line(path, type, sizeof type) || !strcmp(type, "Instruction"))
			continue;
		snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
		if (!read_line(path, size, sizeof size) || atoi(level) < 1 || atoi(level) > 3)
			continue;
		char *unit;
		size_t bytes = strtoul(size, &unit, 10);
		m->cache[atoi(level)] = bytes << (*unit == 'K' ? 10 : *unit == 'M' ? 20 : 0);
	}
}

static size_t count_nodes(void)
{
	size_t nodes = 0;
	char path[64];
	for (;; nodes++) {
		snprintf(path, sizeof path, "/sys/devices/system/node/node%zu", nodes);
		if (access(path, F_OK))
			break;
	}
	return nodes ? nodes : 1;
}

static void describe_isa(struct machine *m)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} groups[] = {
		{ OCTAVO_CPU_AVX2, "avx2" }, { OCTAVO_CPU_AVX512, "avx512" }, { OCTAVO_CPU_VBMI, "vbmi" },
		{ OCTAVO_CPU_GFNI, "gfni" }, { OCTAVO_CPU_BF16, "avx512bf16" }, { OCTAVO_CPU_AMX, "amx" },
		{ OCTAVO_CPU_NEON, "neon" }, { OCTAVO_CPU_HWY, "hwy" },
	};
	uint32_t cpu = octavo_cpu_detect_all();
	size_t at = 0;
	m->isa[0] = 0;
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
		if (cpu & groups[i].bit)
			at += (size_t)snprintf(m->isa + at, sizeof m->isa - at, "%s%s", at ? " " : "", groups[i].name);
	m->chosen = octavo_kernels_get()->gemm_fp8->isa;
	m->isa_reason = octavo_cpu_reason();
}

void machine_describe(struct machine *m, size_t threads)
{
	struct utsname name;
	char flags[4096];
	*m = (struct machine){ .threads = bench_parallel(threads).threads, .nodes = count_nodes(),
		               .page_size = (size_t)sysconf(_SC_PAGESIZE) };
	if (!proc_value("/proc/cpuinfo", "model name", m->cpu, sizeof m->cpu) &&
	    !proc_value("/proc/cpuinfo", "CPU part", m->cpu, sizeof m->cpu))
		snprintf(m->cpu, sizeof m->cpu, "unknown");
	if (proc_value("/proc/cpuinfo", "flags", flags, sizeof flags) && strstr(flags, " hypervisor"))
		snprintf(m->hypervisor, sizeof m->hypervisor, "yes");
	if (uname(&name) == 0)
		snprintf(m->kernel, sizeof m->kernel, "%.40s %.60s %.20s", name.sysname, name.release, name.machine);
	m->memory_gib = (double)sysconf(_SC_PHYS_PAGES) * (double)m->page_size / (1024.0 * 1024.0 * 1024.0);
	describe_caches(m);
	describe_isa(m);
}

size_t machine_available(void)
{
	char text[64];
	size_t available = SIZE_MAX;
	if (proc_value("/proc/meminfo", "MemAvailable", text, sizeof text))
		available = strtoul(text, NULL, 10) << 10;
	/* A container's limit; "max" if it has none */
	if (read_line("/sys/fs/cgroup/memory.max", text, sizeof text) && strtoul(text, NULL, 10)) {
		size_t limit = strtoul(text, NULL, 10);
		available = limit < available ? limit : available;
	}
	return available < SIZE_MAX ? available : 0;
}

void *machine_pool(size_t bytes)
{
	size_t available = machine_available();
	void *pool = NULL;
	/* The system would promise more than it has, and end the process where that is touched. */
	if (!available || bytes < available)
		pool = aligned_alloc(64, (bytes + 63) / 64 * 64);
	if (!pool)
		complain("a pool of %zu MiB (--pool): no memory; %zu MiB are available", bytes >> 20, available >> 20);
	return pool;
}

/* ---- Telling it ------------------------------------------------------------------------------------------------ */

void machine_print(const struct machine *m)
{
	printf("machine\n  processor   %s%s\n", m->cpu, *m->hypervisor ? " (as the hypervisor presents it)" : "");
	printf("  kernels     %s, of: ref %s\n", m->chosen, m->isa);
	if (*m->isa_reason)
		printf("              %s\n", m->isa_reason);
	printf("  threads     %zu; %zu NUMA node%s; caches L1d %zu KiB, L2 %zu KiB, L3 %zu KiB; %.1f GiB of memory\n",
	       m->threads, m->nodes, m->nodes == 1 ? "" : "s", m->cache[1] >> 10, m->cache[2] >> 10, m->cache[3] >> 10,
	       m->memory_gib);
	printf("  system      %s\n", m->kernel);
	if (m->read_gbs > 0)
		printf("  measured    %.1f GB/s read bandwidth", m->read_gbs);
	if (m->peak_gflops > 0)
		printf("%s%.0f GFLOP/s in FP32 fused multiply-adds", m->read_gbs > 0 ? ", " : "  measured    ",
		       m->peak_gflops);
	if (m->pair_gflops > 0)
		printf(", %.0f in BF16 pairs", m->pair_gflops);
	if (m->tile_gflops > 0)
		printf(", %.0f in BF16 tiles", m->tile_gflops);
	if (m->read_gbs > 0 || m->peak_gflops > 0)
		putchar('\n');
}

static json_t *number_or_null(double x)
{
	return x > 0 ? json_real(x) : json_null();
}

json_t *machine_json(const struct machine *m)
{
	json_t *isa = json_array();
	char names[sizeof m->isa];
	memcpy(names, m->isa, sizeof names);
	for (char *rest, *name = strtok_r(names, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
		json_array_append_new(isa, json_string(name));
	json_t *o = json_pack("{s:s, s:b, s:s, s:o, s:s, s:s, s:I, s:I, s:[I,I,I], s:f}", "cpu", m->cpu, "hypervisor",
	                      *m->hypervisor != 0, "kernel", m->kernel, "isa", isa, "isa_chosen", m->chosen,
	                      "isa_reason", m->isa_reason, "threads", (json_int_t)m->threads, "numa_nodes",
	                      (json_int_t)m->nodes, "cache_bytes", (json_int_t)m->cache[1], (json_int_t)m->cache[2],
	                      (json_int_t)m->cache[3], "memory_gib", m->memory_gib);
	json_object_set_new(o, "read_gbs", number_or_null(m->read_gbs));
	json_object_set_new(o, "peak_gflops", number_or_null(m->peak_gflops));
	json_object_set_new(o, "pair_gflops", number_or_null(m->pair_gflops));
	json_object_set_new(o, "tile_gflops", number_or_null(m->tile_gflops));
	return o;
}

json_t *counters_json(const struct octavo_profile *p)
{
	json_t *sources = json_object();
	for (int c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		const struct octavo_counter_source *s = &p->source[c];
		json_object_set_new(sources, octavo_counter_name((enum octavo_counter)c),
		                    json_pack("{s:b, s:s, s:s?, s:s?, s:s?}", "available", s->available, "unit",
		                              octavo_counter_unit((enum octavo_counter)c), "source", s->source,
		                              "reason", s->reason, "remedy", s->remedy));
	}
	return json_pack("{s:s, s:s, s:o, s:f, s:I}", "tier", octavo_tier_name(p->tier), "reason", p->tier_reason,
	                 "sources", sources, "pair_ns", p->pair_ns, "mismatches", (json_int_t)p->mismatches);
}

/* ---- specbench machine ------------------------------------------------------------------------------------------- */

static const char help[] = "usage: specbench machine [--threads N] [--pool MIB] [--json FILE]\n"
			   "\n"
			   "Says what this machine is, which kernels it gets and why, which counters can be read and, for those\n"
			   "that cannot, why not and what would help; measures read bandwidth and arithmetic peak.\n"
			   "\n"
			   "  --threads N   default: all processors\n"
			   "  --pool MIB    memory to read for the bandwidth (default: 512, or four times the L3 cache)\n"
			   "  --json FILE   write the figures as JSON\n";

void counters_missing(const struct octavo_profile *p, bool reasons_told)
{
	bool told[OCTAVO_COUNTER_COUNT] = { false };
	for (int c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		const struct octavo_counter_source *s = &p->source[c];
		char text[1024] = "n/a:";
		if (s->available || told[c] || (reasons_told && !*s->remedy))
			continue;
		for (int other = c; other < OCTAVO_COUNTER_COUNT; other++)
			if (!p->source[other].available && !strcmp(p->source[other].remedy, s->remedy)) {
				snprintf(text + strlen(text), sizeof text - strlen(text), "%s %s", other > c ? "," : "",
				         octavo_counter_name((enum octavo_counter)other));
				told[other] = true;
			}
		snprintf(text + strlen(text), sizeof text - strlen(text), "; %s%s", *s->remedy ? "to have them: " : "",
		         *s->remedy ? s->remedy : s->reason);
		printf("    ");
		print_wrapped(text, 4, 9);
	}
}

static void print_counters(const struct octavo_profile *p)
{
	printf("counters\n  tier              %s%s", octavo_tier_name(p->tier), *p->tier_reason ? ": " : "\n");
	print_wrapped(p->tier_reason, 22 + strlen(octavo_tier_name(p->tier)), 20);
	for (int c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		const struct octavo_counter_source *s = &p->source[c];
		printf("  %-17s ", octavo_counter_name((enum octavo_counter)c));
		if (s->available) {
			printf("%s\n", s->source);
		} else {
			printf("n/a: ");
			print_wrapped(s->reason, 25, 25);
		}
	}
	counters_missing(p, true);
	printf("  the profiler's own cost: %.0f ns for a begin and an end\n", p->pair_ns);
}

static bool counters(json_t *document)
{
	struct octavo_error error;
	struct octavo_profiler *profiler;
	struct octavo_profile profile;
	struct octavo_profiler_settings settings = { .enabled = 1, .best_tier = OCTAVO_TIER_HARDWARE };
	if (octavo_profiler_open(&profiler, &settings, &error) != OCTAVO_OK) {
		complain("profiler: %s", error.text);
		return false;
	}
	bool good = octavo_profiler_report(profiler, &profile) == OCTAVO_OK;
	if (good) {
		print_counters(&profile);
		json_object_set_new(document, "counters", counters_json(&profile));
	}
	octavo_profiler_close(&profiler);
	return good;
}

int command_machine(int argc, char **argv)
{
	struct options o = { 0 };
	int parsed = options_parse(&o, argc, argv, "machine", "threads pool json", help);
	if (parsed)
		return parsed < 0 ? EXIT_OK : parsed;
	struct machine m;
	if (!json_writable(o.json))
		return EXIT_BAD_INPUT;
	machine_describe(&m, o.threads);
	/* Caches hold part of what was just read: of a pool this large, no more than a quarter. */
	size_t honest = (size_t)512 << 20 > 4 * m.cache[3] ? (size_t)512 << 20 : 4 * m.cache[3];
	size_t bytes = o.pool_mib ? o.pool_mib << 20 : honest;
	void *pool = machine_pool(bytes);
	if (!pool)
		return EXIT_BAD_INPUT;
	memset(pool, 1, bytes);
	progress("measuring bandwidth and peak", 1, 2);
	m.read_gbs = machine_read_bandwidth(pool, bytes, m.threads, 5);
	machine_measure_peaks(&m);
	progress_clear();
	free(pool);
	machine_print(&m);
	if (bytes < honest)
		printf("              read from %zu MiB, which caches may hold: from %zu MiB on it is the memory's bandwidth\n",
		       bytes >> 20, honest >> 20);
	json_t *document = json_document();
	json_object_set_new(document, "machine", machine_json(&m));
	int status = counters(document) && (!o.json || json_write(document, o.json)) ? EXIT_OK : EXIT_BAD_INPUT;
	json_decref(document);
	return status;
}
