/* SPDX-License-Identifier: Apache-2.0
 *
 * CPU groups: what OCTAVO_CPU may change, and what the table makes of a mask.
 */
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

#define X86 (OCTAVO_CPU_AVX2 | OCTAVO_CPU_AVX512 | OCTAVO_CPU_VBMI | OCTAVO_CPU_GFNI | OCTAVO_CPU_AMX)

static const char *const names[] = {"ref", "hwy", "neon", "avx2", "avx512", "amx"};
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
	assert_int_equal(octavo_cpu_allowed("avx512") & OCTAVO_CPU_AMX, 0);
}

static void no_name_allows_all_and_a_wrong_one_nothing(void **state)
{
	(void)state;
	assert_int_equal(octavo_cpu_allowed(NULL) & X86, X86);
	assert_int_equal(octavo_cpu_allowed(""), 0);
	assert_int_equal(octavo_cpu_allowed("AVX2"), 0);
	assert_int_equal(octavo_cpu_allowed("avx"), 0);
}

/* Detection happens once in a process: each setting gets a process of its own, which writes what it found. */
static uint32_t detect_under(const char *setting, char reason[512])
{
	int ends[2], status;
	uint32_t found;

	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (setting)
			setenv("OCTAVO_CPU", setting, 1);
		else
			unsetenv("OCTAVO_CPU");
		found = octavo_cpu_detect();
		char text[512] = {0};
		snprintf(text, sizeof text, "%s", octavo_cpu_reason());
		int bad = write(ends[1], &found, sizeof found) != (ssize_t)sizeof found ||
		          write(ends[1], text, sizeof text) != (ssize_t)sizeof text;
		_exit(bad);
	}
	assert_int_equal(read(ends[0], &found, sizeof found), sizeof found);
	assert_int_equal(read(ends[0], reason, 512), 512);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(ends[0]);
	close(ends[1]);
	return found;
}

static void the_variable_only_lowers(void **state)
{
	(void)state;
	char reason[512];
	uint32_t all = detect_under(NULL, reason);

	for (size_t i = 0; i < NAMES; i++) {
		uint32_t found = detect_under(names[i], reason);
		assert_int_equal(found, all & octavo_cpu_allowed(names[i]));
		assert_non_null(strstr(reason, names[i]));
	}
	assert_int_equal(detect_under("sse9", reason), 0);
	assert_non_null(strstr(reason, "OCTAVO_CPU=sse9 is not one of"));
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
	octavo_kernels_init(&table, X86 & ~(uint32_t)OCTAVO_CPU_VBMI); /* tiles are nothing without the decoder */
	assert_string_not_equal(table.gemm_fp8->isa, "amx");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(each_name_allows_more),
	        cmocka_unit_test(no_name_allows_all_and_a_wrong_one_nothing),
	        cmocka_unit_test(the_variable_only_lowers),
	        cmocka_unit_test(a_set_needs_its_whole_group),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
