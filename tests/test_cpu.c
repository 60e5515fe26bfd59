/* SPDX-License-Identifier: Apache-2.0
 *
 * CPU groups: what OCTAVO_CPU may change, and what the table makes of a mask.
 */
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cpu.h"
#include "octavo_kernels.h"

#define X86 (OCTAVO_CPU_AVX2 | OCTAVO_CPU_AVX512 | OCTAVO_CPU_VBMI | OCTAVO_CPU_GFNI | \
	     OCTAVO_CPU_BF16 | OCTAVO_CPU_AMX)

static const char *const names[] = {"ref", "hwy", "neon", "avx2", "avx512", "avx512bf16", "amx"};
#define NAMES (sizeof names / sizeof names[0])

static void each_name_allows_more(void **state)
{
	(void)state;
	uint32_t below = 0;

	for (size_t i = 0; i < NAMES; i++) {
		uint32_t allowed = octavo_cpu_allowed(names[i]);
		assert_int_equal(allowed & below, below);
		assert_string_equal(octavo_cpu_name(allowed), names[i]);
		assert_true(i == 0 || allowed != below);
		below = allowed;
	}
	assert_int_equal(octavo_cpu_allowed("ref"), 0);
	assert_int_equal(octavo_cpu_allowed("neon") & X86, 0);
	assert_int_equal(octavo_cpu_allowed("avx2") & X86, OCTAVO_CPU_AVX2);
	assert_int_equal(octavo_cpu_allowed("avx512") & (OCTAVO_CPU_BF16 | OCTAVO_CPU_AMX), 0);
	assert_int_equal(octavo_cpu_allowed("avx512bf16") & OCTAVO_CPU_AMX, 0);
}

static void no_name_allows_all_and_a_wrong_one_nothing(void **state)
{
	(void)state;
	assert_int_equal(octavo_cpu_allowed(NULL) & X86, X86);
	assert_int_equal(octavo_cpu_allowed(""), 0);
	assert_int_equal(octavo_cpu_allowed("AVX2"), 0);
	assert_int_equal(octavo_cpu_allowed("avx"), 0);
}

/* What a process finds under one setting of OCTAVO_CPU. */
struct found {
	uint32_t best, all;
	int loaded;       /* whether finding the best loaded the Highway module */
	char isa[16];     /* of the best table's FP8 GEMM */
	char reason[512]; /* after all was looked for */
};

static int is_hwy(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)size, (void)data;
	return strstr(info->dlpi_name, "octavo-hwy.so") != NULL;
}

static struct found detect(void)
{
	struct found f = {.best = octavo_cpu_detect()};

	snprintf(f.isa, sizeof f.isa, "%s", octavo_kernels_get()->gemm_fp8->isa);
	f.loaded = dl_iterate_phdr(is_hwy, NULL);
	f.all = octavo_cpu_detect_all();
	snprintf(f.reason, sizeof f.reason, "%s", octavo_cpu_reason());
	return f;
}

/* Detection happens once in a process: each setting gets a process of its own, which writes what it found. */
static struct found detect_under(const char *setting)
{
	struct found f;
	int ends[2], status;

	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (setting)
			setenv("OCTAVO_CPU", setting, 1);
		else
			unsetenv("OCTAVO_CPU");
		f = detect();
		_exit(write(ends[1], &f, sizeof f) != (ssize_t)sizeof f);
	}
	assert_int_equal(read(ends[0], &f, sizeof f), sizeof f);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(ends[0]);
	close(ends[1]);
	return f;
}

static void the_variable_only_lowers(void **state)
{
	(void)state;
	struct found unset = detect_under(NULL);

	for (size_t i = 0; i < NAMES; i++) {
		struct found f = detect_under(names[i]);
		assert_int_equal(f.all, unset.all & octavo_cpu_allowed(names[i]));
		assert_int_equal(f.best & ~f.all, 0);
		assert_string_equal(octavo_cpu_name(f.best), octavo_cpu_name(f.all));
		assert_non_null(strstr(f.reason, names[i]));
	}
	struct found wrong = detect_under("sse9");
	assert_int_equal(wrong.all, 0);
	assert_non_null(strstr(wrong.reason, "OCTAVO_CPU=sse9 is not one of"));
}

static void the_highway_module_is_loaded_where_it_is_used(void **state)
{
	(void)state;
	struct found unset = detect_under(NULL), ref = detect_under("ref"), hwy = detect_under("hwy");

	assert_false(ref.loaded);
	assert_int_equal(ref.all, 0);
	assert_int_equal(unset.loaded, unset.best == OCTAVO_CPU_HWY);
	assert_int_equal(hwy.best, unset.all & OCTAVO_CPU_HWY);
	assert_string_equal(hwy.isa, hwy.best ? "hwy" : "ref");
	if (hwy.best)
		assert_true(hwy.loaded);
	else
		print_message("no Highway here: %s\n", hwy.reason);
}

/* A file that is no module: what would use it falls to the reference and says why; the rest goes on. */
static void a_broken_highway_module_is_refused(void **state)
{
	(void)state;
	char directory[] = "/tmp/octavo-test-XXXXXX", path[64];
	char *search = getenv("OCTAVO_MODULE_PATH") ? strdup(getenv("OCTAVO_MODULE_PATH")) : NULL;
	struct found before = detect_under(NULL);

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/octavo-hwy.so", directory);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs("not a shared object\n", file);
	fclose(file);
	setenv("OCTAVO_MODULE_PATH", directory, 1);
	struct found unset = detect_under(NULL), hwy = detect_under("hwy");
	if (search)
		setenv("OCTAVO_MODULE_PATH", search, 1);
	else
		unsetenv("OCTAVO_MODULE_PATH");
	free(search);
	remove(path);
	rmdir(directory);

	assert_int_equal(unset.all, before.all & ~(uint32_t)OCTAVO_CPU_HWY);
	assert_int_equal(hwy.all, 0);
	assert_string_equal(hwy.isa, "ref");
	assert_non_null(strstr(hwy.reason, "hwy: "));
	assert_non_null(strstr(hwy.reason, "OCTAVO_CPU=hwy: using ref"));
	if (before.all) /* otherwise the CPU was reason enough not to look */
		assert_non_null(strstr(unset.reason, path));
}

static void a_set_needs_its_whole_group(void **state)
{
	(void)state;
	struct octavo_kernels ref, table;

	octavo_kernels_init(&ref, 0);
	assert_string_equal(ref.gemm_fp8->isa, "ref");
	octavo_kernels_init(&table, OCTAVO_CPU_VBMI | OCTAVO_CPU_GFNI); /* what comes beside AVX-512, without it */
	assert_memory_equal(&table, &ref, sizeof ref);
	octavo_kernels_init(&table, OCTAVO_CPU_AVX2);
	assert_string_not_equal(table.gemm_fp8->isa, "avx512");
	octavo_kernels_init(&table, X86 & ~(uint32_t)OCTAVO_CPU_VBMI); /* pairs and tiles need the decoder */
	assert_string_not_equal(table.gemm_fp8->isa, "amx");
	assert_string_not_equal(table.gemm_fp8->isa, "avx512bf16");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(each_name_allows_more),
	        cmocka_unit_test(no_name_allows_all_and_a_wrong_one_nothing),
	        cmocka_unit_test(the_variable_only_lowers),
	        cmocka_unit_test(the_highway_module_is_loaded_where_it_is_used),
	        cmocka_unit_test(a_broken_highway_module_is_refused),
	        cmocka_unit_test(a_set_needs_its_whole_group),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
