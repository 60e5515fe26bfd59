/* SPDX-License-Identifier: Apache-2.0
 *
 * Files read into memory of the process's own instead of being mapped: in huge pages, which file mappings do not get, and
 * spread over the NUMA nodes, where mapped pages lie wherever the file was first read from.
 */
#ifndef OCTAVO_COPY_H
#define OCTAVO_COPY_H

#include "engine/load/file.h"
#include "engine/threads.h"

/* Where memory can lie.  The system's is octavo_numa; tests bring their own. */
struct octavo_placer {
	void *context;
	size_t (*nodes)(void *context); /* that this process may take memory from */
	/* Spreads the pages of [at, at + bytes), not touched before, over those nodes; at is a page's begin.  0, or an
	 * errno. */
	int (*interleave)(void *context, void *at, size_t bytes);
};
extern const struct octavo_placer octavo_numa;

struct octavo_copy {
	const struct octavo_placer *placer;
	const struct octavo_threads *threads; /* that read */
};

/* ENOMEM, with both figures, if `bytes` are more than the system can give without swapping. */
enum octavo_status octavo_copy_room(size_t bytes, struct octavo_error *error);

/* The whole file at *out, [file size], for octavo_copy_free.  EIO, ENOMEM. */
enum octavo_status octavo_copy_file(unsigned char **out, const struct octavo_copy *copy, const struct octavo_file *file,
                                    struct octavo_error *error);
void octavo_copy_free(unsigned char *copy, size_t bytes);

#endif
