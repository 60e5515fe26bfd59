/* SPDX-License-Identifier: Apache-2.0
 *
 * Regular files, opened once and read with care: what lies in a model directory is not trusted.
 */
#ifndef OCTAVO_FILE_H
#define OCTAVO_FILE_H

#include "octavo_base.h"

#include <sys/stat.h>

struct octavo_file {
	int fd;
	const char *name; /* borrowed, for messages */
	struct stat stat; /* when it was opened */
};

/* Opens DIR/NAME for reading.  EIO if that fails, EFORMAT if it is not a regular file (a FIFO would block, a
 * device has no length), ELIMIT if it is longer than `limit` bytes. */
enum octavo_status octavo_file_open(struct octavo_file *file, const char *dir, const char *name, size_t limit,
                                    struct octavo_error *error);
void octavo_file_close(struct octavo_file *file);
size_t octavo_file_size(const struct octavo_file *file);
/* Fills buffer[bytes] from `offset`; EIO also if the file ends before. */
enum octavo_status octavo_file_read(const struct octavo_file *file, void *buffer, size_t bytes, size_t offset,
                                    struct octavo_error *error);
/* EIO if the file's length or modification time is no longer what octavo_file_open saw. */
enum octavo_status octavo_file_unchanged(const struct octavo_file *file, struct octavo_error *error);
/* EFORMAT if the file, whose first bytes are begin[bytes], is only the pointer that Git LFS leaves in its place. */
enum octavo_status octavo_file_refuse_pointer(const char *file, const void *begin, size_t bytes,
                                              struct octavo_error *error);
/* Whether DIR/NAME exists, of whatever kind. */
int octavo_file_exists(const char *dir, const char *name);

#endif
