/* SPDX-License-Identifier: Apache-2.0
 *
 * The program: options, the sweep over all variants of all slots, the summary.
 */
#include "harness.h"

#include "kernels/hwy_module.h"
#include "kernels/sets.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const struct check_entry *const check_families[] = {
        check_gemm_entries,
        check_attention_entries,
        check_rows_entries,
        check_route_entries,
        check_quantise_entries,
        check_codec_entries,
        check_driver_entries,
        check_moe_entries,
        check_attend_entries,
        check_forward_entries,
        NULL,
};

/* What can be executed or not: the reference, and each group of CPU features (OCTAVO_CPU_*, by bit). */
static const char *const groups[] = {"hwy", "avx2", "avx512", "vbmi", "gfni", "amx", "neon", "bf16"};
enum { GROUPS = sizeof groups / sizeof *groups, VARIANTS = 64, FILTERS = 16 };

/* What can lie in a slot on this machine (or, for SLOT_TABLE, what tables there are). */
struct variant {
	struct octavo_kernels table;
	uint32_t mask; /* the least mask that puts it there */
	const char *isa;
	char label[64]; /* the ISA, or the mask if that alone is ambiguous */
};

static struct {
	uint64_t seed;
	const char *filter[FILTERS];
	size_t filters; /* 0: all checks */
	uint32_t require; /* mask */
	bool list, unguarded;
} options = {.seed = 1};

static struct octavo_kernels reference;
static uint32_t executed; /* mask of the variants whose code has run */
static bool reference_executed, amx_emulated;
static size_t passed, failed, skipped;

/* ---- Variants ---- */

struct identity {
	const void *descriptor;
	const char *name, *isa;
	check_code *code;
};

static struct identity identify(const struct octavo_kernels *table, enum check_slot slot)
{
	switch (slot) {
#define IDENTIFY_SLOT(type, slot)                                                                                      \
	case SLOT_##slot:                                                                                              \
		return (struct identity){table->slot, table->slot->name, table->slot->isa,                             \
		                         (check_code *)table->slot->run};
		OCTAVO_SLOTS(IDENTIFY_SLOT)
#undef IDENTIFY_SLOT
	default:
		return (struct identity){0};
	}
}

static bool same(const struct octavo_kernels *a, const struct octavo_kernels *b, enum check_slot slot)
{
	if (slot == SLOT_TABLE)
		return memcmp(a, b, sizeof *a) == 0;
	return identify(a, slot).descriptor == identify(b, slot).descriptor;
}

/* Whether the mask holds tiles that no processor executes. */
static bool emulated(uint32_t mask)
{
	return (mask & OCTAVO_CPU_AMX) && check_emulates();
}

/* "avx2+avx512+vbmi" */
static void describe_mask(uint32_t mask, char *text, size_t size)
{
	size_t used = 0;

	snprintf(text, size, "ref");
	for (size_t i = 0; i < GROUPS; i++)
		if (mask & 1u << i && used < size)
			used += (size_t)snprintf(text + used, size - used, "%s%s%s", used ? "+" : "", groups[i],
			                         emulated(1u << i) ? "-emulated" : "");
}

/* Highway's sets beside the one that the table takes: "hwy:AVX2" where that is AVX3. */
static size_t lesser_targets(enum check_slot slot, struct variant *out, size_t room)
{
	const struct octavo_module_set *sets;
	const char *reason;
	size_t count = 0;

	if (slot == SLOT_TABLE || !(octavo_cpu_detect_all() & OCTAVO_CPU_HWY))
		return 0;
	size_t targets = octavo_hwy_sets(&sets, &reason);
	for (size_t i = 1; i < targets && count < room; i++) {
		struct variant v = {.table = reference, .mask = OCTAVO_CPU_HWY};
		octavo_kernels_overlay(&v.table, sets[i].set);
		v.isa = identify(&v.table, slot).isa;
		snprintf(v.label, sizeof v.label, "hwy:%s", sets[i].target);
		if (!same(&v.table, &reference, slot))
			out[count++] = v;
	}
	return count;
}

/* All distinct variants of a slot, over every subset of the features that this machine has: a set must be right
 * wherever the table can choose it, not only where nothing better is present. */
static size_t variants_of(enum check_slot slot, struct variant *out)
{
	uint32_t have = check_features(), mask = 0;
	size_t count = 0;

	do {
		struct variant v = {.mask = mask, .isa = octavo_cpu_name(mask)};
		octavo_kernels_init(&v.table, mask);
		describe_mask(mask, v.label, sizeof v.label);
		size_t i = 0;
		while (i < count && !same(&out[i].table, &v.table, slot))
			i++;
		if (i == count && count < VARIANTS) {
			if (slot != SLOT_TABLE)
				v.isa = identify(&v.table, slot).isa;
			out[count++] = v;
		}
		mask = (mask - have) & have; /* the next subset */
	} while (mask);
	count += lesser_targets(slot, out + count, VARIANTS - count);

	for (size_t i = 0; slot != SLOT_TABLE && i < count; i++) {
		size_t namesakes = 0;
		for (size_t j = 0; j < count; j++)
			namesakes += strcmp(out[i].isa, out[j].isa) == 0;
		if (namesakes == 1)
			snprintf(out[i].label, sizeof out[i].label, "%s%s", out[i].isa,
			         emulated(out[i].mask) ? "-emulated" : "");
	}
	return count;
}

/* ---- The sweep ---- */

static bool wanted(const char *label)
{
	for (size_t i = 0; i < options.filters; i++)
		if (strstr(label, options.filter[i]))
			return true;
	return options.filters == 0;
}

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void run_variant(const struct check_entry *entry, const struct variant *variant)
{
	static struct check check;
	char label[128];

	snprintf(label, sizeof label, "%s/%s", entry->name, variant->label);
	if (!wanted(label))
		return;
	if (options.list) {
		puts(label);
		return;
	}
	bool is_reference = same(&variant->table, &reference, entry->slot);
	double start = seconds();
	bool ok = check_entry_run(&check, entry, &reference, is_reference ? &reference : &variant->table, false);
	printf("%s %-40s %6.2f s\n", ok ? "PASS" : "FAIL", label, seconds() - start);
	if (!ok)
		printf("     %s\n     again: check --seed=%llu --filter=%s\n", check.failure,
		       (unsigned long long)options.seed, label);
	fflush(stdout);
	passed += ok;
	failed += !ok;
}

static void sweep(void)
{
	static struct variant variants[VARIANTS];

	for (const struct check_entry *const *family = check_families; *family; family++)
		for (const struct check_entry *entry = *family; entry->name; entry++) {
			size_t count = variants_of(entry->slot, variants);
			for (size_t i = 0; i < count; i++)
				run_variant(entry, &variants[i]);
		}
}

/* ---- Honesty ---- */

/* Which variants of a slot some check has called: all of them, unless checks were filtered out. */
static void account(enum check_slot slot)
{
	static struct variant variants[VARIANTS];
	size_t count = variants_of(slot, variants);

	for (size_t i = 0; i < count; i++) {
		struct identity kernel = identify(&variants[i].table, slot);
		bool visited = check_visited(kernel.name, kernel.code);
		if (visited && emulated(variants[i].mask))
			amx_emulated = true;
		else if (visited)
			executed |= variants[i].mask;
		reference_executed = reference_executed || (visited && variants[i].mask == 0);
		if (options.filters > 0)
			continue;
		if (!visited)
			printf("FAIL coverage: no check has called %s/%s\n", kernel.name, variants[i].label);
		passed += visited;
		failed += !visited;
	}
}

static void account_all(void)
{
#define ACCOUNT_SLOT(type, slot) account(SLOT_##slot);
	OCTAVO_SLOTS(ACCOUNT_SLOT)
#undef ACCOUNT_SLOT
}

static void check_self(void)
{
	size_t caught = 0, missed = check_mutants(&caught);
	printf("%s self-test: %zu wrong kernels caught, %zu wrong verdicts\n", missed ? "FAIL" : "PASS", caught,
	       missed);
	passed += caught;
	failed += missed;
}

static const char *why_not(uint32_t group)
{
	if (group == OCTAVO_CPU_AMX && amx_emulated)
		return "not by a processor: the tile instructions of its kernels were emulated";
	if (!(octavo_cpu_detect_all() & group))
		return "this machine (or OCTAVO_CPU) excludes it";
	return options.filters > 0 ? "no check that matched the filter calls it" : "no kernel of this build needs it";
}

static void report_skipped(void)
{
	for (size_t i = 0; i < GROUPS; i++) {
		uint32_t group = 1u << i;
		if (executed & group)
			continue;
		bool required = (options.require & group) != 0;
		printf("%s %s: not executed: %s\n", required ? "FAIL" : "SKIP", groups[i], why_not(group));
		failed += required;
		skipped += !required;
	}
	if (*octavo_cpu_reason())
		printf("     CPU: %s\n", octavo_cpu_reason());
}

static int summarise(void)
{
	printf("%zu passed, %zu failed, %zu skipped\n", passed, failed, skipped);
	printf("executed here:%s", reference_executed ? " ref" : "");
	for (size_t i = 0; i < GROUPS; i++)
		if (executed & 1u << i)
			printf(" %s", groups[i]);
	printf("%s\n", amx_emulated ? "; amx emulated" : "");
	return failed > 0 || passed == 0;
}

/* ---- Options ---- */

static void usage(FILE *out)
{
	fprintf(out,
	        "usage: check [--list] [--filter=TEXT]... [--seed=N] [--require=ISA]... [--unguarded] [--help]\n"
	        "Compares every kernel that this CPU can run with the reference, bit for bit.\n"
	        "  --list          print the names of the checks, run none\n"
	        "  --filter=TEXT   only checks whose name (slot.what/isa) contains one TEXT; without the self-tests\n"
	        "  --seed=N        inputs drawn from seed N (default 1)\n"
	        "  --require=ISA   fail if no kernel for ISA is executed: hwy, avx2, avx512, vbmi, gfni, amx,\n"
	        "                  neon, bf16\n"
	        "  --unguarded     no buffers beside inaccessible pages: for emulators that fault on what masks leave out\n");
}

static bool require(const char *name)
{
	for (size_t i = 0; i < GROUPS; i++)
		if (strcmp(groups[i], name) == 0) {
			options.require |= 1u << i;
			return true;
		}
	return false;
}

static bool parse(int argc, char **argv)
{
	static const struct option names[] = {
	        {"list", no_argument, NULL, 'l'},       {"filter", required_argument, NULL, 'f'},
	        {"seed", required_argument, NULL, 's'}, {"require", required_argument, NULL, 'r'},
	        {"help", no_argument, NULL, 'h'},       {"unguarded", no_argument, NULL, 'u'},
	        {0},
	};
	char *end;

	for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		switch (option) {
		case 'l':
			options.list = true;
			break;
		case 'f':
			if (options.filters == FILTERS)
				return false;
			options.filter[options.filters++] = optarg;
			break;
		case 'u':
			options.unguarded = true;
			break;
		case 's':
			options.seed = strtoull(optarg, &end, 0);
			if (end == optarg || *end)
				return false;
			break;
		case 'r':
			if (!require(optarg))
				return false;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			return false;
		}
	}
	return optind == argc;
}

int main(int argc, char **argv)
{
	if (!parse(argc, argv)) {
		usage(stderr);
		return 2;
	}
	octavo_kernels_init(&reference, 0);
	if (!check_open(options.seed, !options.unguarded)) {
		perror("check: memory or signals");
		return 2;
	}
	if (options.list) {
		sweep();
		return 0;
	}
	char features[64];
	describe_mask(check_features(), features, sizeof features);
	printf("seed %llu, features %s\n", (unsigned long long)options.seed, features);
	sweep();
	account_all();
	if (options.filters == 0)
		check_self();
	report_skipped();
	return summarise();
}
