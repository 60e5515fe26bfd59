/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine/load/copy.h"

#include "fp8/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#ifdef HAVE_NUMA
#include <numa.h>
#include <numaif.h>
#endif

enum { HUGE_PAGE = 2 << 20 }; /* bytes of a huge page, and of a task: a thread fills whole pages */

/* ---- Placement ---------------------------------------------------------------------------------------------- */

#ifdef HAVE_NUMA
static size_t nodes_of_system(void *context)
{
	(void)context;
	return numa_available() < 0 ? 1 : numa_bitmask_weight(numa_all_nodes_ptr);
}

static int interleave_on_system(void *context, void *at, size_t bytes)
{
	(void)context;
	/* numa_interleave_memory would write to stderr where this fails. */
	return mbind(at, bytes, MPOL_INTERLEAVE, numa_all_nodes_ptr->maskp, numa_all_nodes_ptr->size + 1, 0) ? errno : 0;
}
#else
static size_t nodes_of_system(void *context)
{
	(void)context;
	return 1; /* as far as we can know */
}

static int interleave_on_system(void *context, void *at, size_t bytes)
{
	(void)context, (void)at, (void)bytes;
	return ENOSYS;
}
#endif

const struct octavo_placer octavo_numa = {NULL, nodes_of_system, interleave_on_system};

/* ---- Room --------------------------------------------------------------------------------------------------- */

/* Linux's estimate, caches that can be dropped included; SIZE_MAX if it does not tell. */
static size_t available(void)
{
	FILE *file = fopen("/proc/meminfo", "r");
	char line[128];
	unsigned long long kib;
	size_t bytes = SIZE_MAX;
	if (!file)
		return bytes;
	while (bytes == SIZE_MAX && fgets(line, sizeof line, file))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			bytes = (size_t)kib << 10;
	fclose(file);
	return bytes;
}

enum octavo_status octavo_copy_room(size_t bytes, struct octavo_error *error)
{
	size_t room = available();
	if (bytes <= room)
		return OCTAVO_OK;
	return octavo_fail(error, OCTAVO_ENOMEM,
	                   "weights: a copy takes %.1f GiB, but %.1f GiB of memory are available: map them instead",
	                   (double)bytes / 0x1p30, (double)room / 0x1p30);
}

/* ---- Reading ------------------------------------------------------------------------------------------------- */

/* Huge pages need a begin at a multiple of their size: what is mapped is up to one longer, at its begin. */
static size_t mapped_bytes(size_t bytes)
{
	return (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

static unsigned char *reserve(size_t bytes)
{
	size_t whole = mapped_bytes(bytes) + HUGE_PAGE;
	unsigned char *at = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	size_t before = (HUGE_PAGE - (uintptr_t)at % HUGE_PAGE) % HUGE_PAGE;
	if (before)
		munmap(at, before);
	munmap(at + before + mapped_bytes(bytes), HUGE_PAGE - before);
	return at + before;
}

struct reading {
	const struct octavo_file *file;
	unsigned char *to;
	size_t bytes;
	pthread_mutex_t mutex; /* of what follows: the first failure */
	enum octavo_status status;
	struct octavo_error error;
};

static void read_part(void *arg, size_t part)
{
	struct reading *r = arg;
	struct octavo_error error;
	size_t from = part * HUGE_PAGE, bytes = r->bytes - from < HUGE_PAGE ? r->bytes - from : HUGE_PAGE;
	enum octavo_status status = octavo_file_read(r->file, r->to + from, bytes, from, &error);
	if (status == OCTAVO_OK)
		return;
	pthread_mutex_lock(&r->mutex);
	if (r->status == OCTAVO_OK) {
		r->status = status;
		r->error = error;
	}
	pthread_mutex_unlock(&r->mutex);
}

enum octavo_status octavo_copy_file(unsigned char **out, const struct octavo_copy *copy, const struct octavo_file *file,
                                    struct octavo_error *error)
{
	struct reading r = {.file = file, .bytes = octavo_file_size(file), .mutex = PTHREAD_MUTEX_INITIALIZER};
	const struct octavo_placer *placer = copy->placer;
	r.to = reserve(r.bytes);
	if (!r.to)
		return octavo_fail(error, OCTAVO_ENOMEM, "%s: no memory for a copy of %zu bytes", file->name, r.bytes);
	/* Both are about speed only: memory that is not as wished holds the same weights. */
#ifdef MADV_HUGEPAGE
	(void)madvise(r.to, mapped_bytes(r.bytes), MADV_HUGEPAGE);
#endif
	if (placer->nodes(placer->context) > 1)
		(void)placer->interleave(placer->context, r.to, mapped_bytes(r.bytes));
	octavo_run(copy->threads, (r.bytes + HUGE_PAGE - 1) / HUGE_PAGE, read_part, &r);
	pthread_mutex_destroy(&r.mutex);
	if (r.status == OCTAVO_OK && mprotect(r.to, mapped_bytes(r.bytes), PROT_READ))
		r.status = octavo_fail(&r.error, OCTAVO_ESYSTEM, "%s: cannot protect its copy: %s", file->name,
		                       strerror(errno));
	if (r.status != OCTAVO_OK) {
		octavo_copy_free(r.to, r.bytes);
		return octavo_fail(error, r.status, "%s", r.error.text);
	}
	*out = r.to;
	return OCTAVO_OK;
}

void octavo_copy_free(unsigned char *copy, size_t bytes)
{
	munmap(copy, mapped_bytes(bytes));
}
