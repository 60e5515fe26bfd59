/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights copied into memory: the bytes of the files, wherever the pages were asked to lie.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/load/copy.h"
#include "engine/load/load.h"
#include "tests/support/ckpt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HUGE_PAGE = 2 << 20 };

/* ---- A machine of so many nodes --------------------------------------------------------------------------------- */

struct mock {
	size_t nodes;
	int answer; /* of interleave */
	size_t calls, bytes;
	int misplaced; /* it was asked too late, or for half a page */
};

static size_t mock_nodes(void *context)
{
	return ((struct mock *)context)->nodes;
}

static int mock_interleave(void *context, void *at, size_t bytes)
{
	struct mock *m = context;
	unsigned char resident[16] = {0}; /* per page, of the first ones */
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	m->calls++;
	m->bytes += bytes;
	m->misplaced |= (uintptr_t)at % HUGE_PAGE || bytes % HUGE_PAGE;
	assert_int_equal(mincore(at, sizeof resident * page, resident), 0);
	for (size_t i = 0; i < sizeof resident; i++)
		m->misplaced |= resident[i] & 1;
	return m->answer;
}

static struct octavo_placer placer_of(struct mock *mock)
{
	return (struct octavo_placer){mock, mock_nodes, mock_interleave};
}

/* ---- Files ------------------------------------------------------------------------------------------------------ */

static unsigned char *write_random(const char *dir, size_t bytes)
{
	unsigned char *data = malloc(bytes);
	uint32_t seed = 1;
	assert_non_null(data);
	for (size_t i = 0; i < bytes; i++)
		data[i] = (unsigned char)((seed = seed * 1664525 + 1013904223) >> 24);
	ckpt_write_file(dir, "data", data, bytes);
	return data;
}

static void test_bytes(void **state)
{
	static const size_t sizes[] = {1, 4097, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1, 3 * HUGE_PAGE + 5};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		for (unsigned threads = 1; threads <= 3; threads += 2)
			for (size_t nodes = 1; nodes <= 2; nodes++) {
				struct mock mock = {.nodes = nodes};
				struct octavo_placer placer = placer_of(&mock);
				struct octavo_threads pool;
				struct octavo_file file;
				unsigned char *copy, *data = write_random(*state, sizes[i]);
				assert_int_equal(octavo_threads_open(&pool, threads, NULL, NULL, NULL), OCTAVO_OK);
				assert_int_equal(octavo_file_open(&file, *state, "data", SIZE_MAX / 2, NULL),
				                 OCTAVO_OK);
				assert_int_equal(
				        octavo_copy_file(&copy, &(struct octavo_copy){&placer, &pool}, &file, NULL),
				        OCTAVO_OK);
				assert_memory_equal(copy, data, sizes[i]);
				assert_int_equal(mock.calls, nodes > 1); /* nothing to spread over one node */
				assert_false(mock.misplaced);
				assert_true(nodes == 1 || mock.bytes >= sizes[i]);
				octavo_copy_free(copy, sizes[i]);
				octavo_file_close(&file);
				octavo_threads_close(&pool);
				free(data);
			}
}

/* Placement is about speed: without it the weights are the same. */
static void test_refused_placement(void **state)
{
	struct mock mock = {.nodes = 4, .answer = EPERM};
	struct octavo_placer placer = placer_of(&mock);
	struct octavo_threads pool;
	struct octavo_file file;
	unsigned char *copy, *data = write_random(*state, 5000);
	assert_int_equal(octavo_threads_open(&pool, 2, NULL, NULL, NULL), OCTAVO_OK);
	assert_int_equal(octavo_file_open(&file, *state, "data", SIZE_MAX / 2, NULL), OCTAVO_OK);
	assert_int_equal(octavo_copy_file(&copy, &(struct octavo_copy){&placer, &pool}, &file, NULL), OCTAVO_OK);
	assert_int_equal(mock.calls, 1);
	assert_memory_equal(copy, data, 5000);
	octavo_copy_free(copy, 5000);
	octavo_file_close(&file);
	octavo_threads_close(&pool);
	free(data);
}

static void test_shrunk_file(void **state)
{
	struct octavo_threads pool;
	struct octavo_file file;
	struct octavo_error error;
	unsigned char *copy;
	free(write_random(*state, 3 * HUGE_PAGE));
	assert_int_equal(octavo_threads_open(&pool, 2, NULL, NULL, NULL), OCTAVO_OK);
	assert_int_equal(octavo_file_open(&file, *state, "data", SIZE_MAX / 2, NULL), OCTAVO_OK);
	free(write_random(*state, HUGE_PAGE + 7)); /* the same file, shorter */
	assert_int_equal(octavo_copy_file(&copy, &(struct octavo_copy){&octavo_numa, &pool}, &file, &error),
	                 OCTAVO_EIO);
	assert_string_equal(error.text, "data: became shorter while it was read");
	octavo_file_close(&file);
	octavo_threads_close(&pool);
}

static void test_room(void **state)
{
	(void)state;
	struct octavo_error error;
	assert_int_equal(octavo_copy_room(1, &error), OCTAVO_OK);
	assert_int_equal(octavo_copy_room(SIZE_MAX - 1, &error), OCTAVO_ENOMEM);
	assert_memory_equal(error.text, "weights: a copy takes 17179869184.0 GiB, but ", 45);
}

/* The system's own placement, on as many nodes as there are. */
static void test_numa(void **state)
{
	(void)state;
	assert_true(octavo_numa.nodes(octavo_numa.context) >= 1);
	void *at = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	int answer = octavo_numa.interleave(octavo_numa.context, at, HUGE_PAGE);
#ifdef HAVE_NUMA
	assert_true(answer == 0 || answer == ENOSYS || answer == EPERM); /* containers may forbid it */
#else
	assert_int_equal(answer, ENOSYS);
#endif
	memset(at, 1, HUGE_PAGE);
	munmap(at, HUGE_PAGE);
}

/* ---- Checkpoints ------------------------------------------------------------------------------------------------ */

static void test_checkpoint(void **state)
{
	struct ckpt *ckpt = ckpt_new(&(struct ckpt_options){.mtp = 1});
	struct octavo_checkpoint *mapped, *copied;
	struct mock mock = {.nodes = 2};
	struct octavo_placer placer = placer_of(&mock);
	struct octavo_threads pool;
	ckpt->shards = 3;
	for (size_t i = 0; i < ckpt->count; i++)
		ckpt->tensor[i].shard = i % 3;
	ckpt_write(ckpt, *state);
	assert_int_equal(octavo_threads_open(&pool, 2, NULL, NULL, NULL), OCTAVO_OK);
	assert_int_equal(octavo_checkpoint_open(&mapped, *state, NULL, NULL), OCTAVO_OK);
	assert_int_equal(octavo_checkpoint_open(&copied, *state, &(struct octavo_copy){&placer, &pool}, NULL),
	                 OCTAVO_OK);
	assert_int_equal(mock.calls, 3);
	assert_int_equal(octavo_checkpoint_count(copied), octavo_checkpoint_count(mapped));
	for (size_t i = 0; i < octavo_checkpoint_count(mapped); i++) {
		const struct octavo_tensor *a = octavo_checkpoint_at(mapped, i), *b = octavo_checkpoint_at(copied, i);
		assert_string_equal(a->name, b->name);
		assert_int_equal(a->bytes, b->bytes);
		assert_ptr_not_equal(a->data, b->data);
		assert_memory_equal(a->data, b->data, a->bytes);
	}
	octavo_checkpoint_close(&mapped);
	octavo_checkpoint_close(&copied);
	octavo_threads_close(&pool);
	ckpt_free(ckpt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(test_bytes, ckpt_dir_setup, ckpt_dir_teardown),
	        cmocka_unit_test_setup_teardown(test_refused_placement, ckpt_dir_setup, ckpt_dir_teardown),
	        cmocka_unit_test_setup_teardown(test_shrunk_file, ckpt_dir_setup, ckpt_dir_teardown),
	        cmocka_unit_test(test_room),
	        cmocka_unit_test(test_numa),
	        cmocka_unit_test_setup_teardown(test_checkpoint, ckpt_dir_setup, ckpt_dir_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
