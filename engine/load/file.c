/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine/load/file.h"

#include "fp8/error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int join(char path[PATH_MAX], const char *dir, const char *name)
{
	int length = snprintf(path, PATH_MAX, "%s/%s", dir, name);
	return length > 0 && length < PATH_MAX;
}

static enum octavo_status check_kind(const struct octavo_file *file, size_t limit, struct octavo_error *error)
{
	if (!S_ISREG(file->stat.st_mode))
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: not a regular file", file->name);
	if ((uintmax_t)file->stat.st_size > limit)
		return octavo_fail(error, OCTAVO_ELIMIT, "%s: %jd bytes, more than the limit of %zu", file->name,
		                   (intmax_t)file->stat.st_size, limit);
	return OCTAVO_OK;
}

enum octavo_status octavo_file_open(struct octavo_file *file, const char *dir, const char *name, size_t limit,
                                    struct octavo_error *error)
{
	char path[PATH_MAX];
	if (!join(path, dir, name))
		return octavo_fail(error, OCTAVO_EINVAL, "%s: the path of its directory is too long", name);
	/* O_NONBLOCK: opening a FIFO must not wait for a writer. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return octavo_fail(error, OCTAVO_EIO, "%s: cannot open: %s", path, strerror(errno));
	*file = (struct octavo_file){.fd = fd, .name = name};
	enum octavo_status status;
	if (fstat(fd, &file->stat) != 0)
		status = octavo_fail(error, OCTAVO_EIO, "%s: cannot stat: %s", path, strerror(errno));
	else
		status = check_kind(file, limit, error);
	if (status != OCTAVO_OK)
		octavo_file_close(file);
	return status;
}

void octavo_file_close(struct octavo_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

size_t octavo_file_size(const struct octavo_file *file)
{
	return (size_t)file->stat.st_size;
}

enum octavo_status octavo_file_read(const struct octavo_file *file, void *buffer, size_t bytes, size_t offset,
                                    struct octavo_error *error)
{
	unsigned char *next = buffer;
	while (bytes > 0) {
		ssize_t got = pread(file->fd, next, bytes, (off_t)offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return octavo_fail(error, OCTAVO_EIO, "%s: cannot read: %s", file->name, strerror(errno));
		if (got == 0)
			return octavo_fail(error, OCTAVO_EIO, "%s: became shorter while it was read", file->name);
		next += got;
		offset += (size_t)got;
		bytes -= (size_t)got;
	}
	return OCTAVO_OK;
}

enum octavo_status octavo_file_unchanged(const struct octavo_file *file, struct octavo_error *error)
{
	struct stat now;
	if (fstat(file->fd, &now) != 0)
		return octavo_fail(error, OCTAVO_EIO, "%s: cannot stat: %s", file->name, strerror(errno));
	if (now.st_size != file->stat.st_size || now.st_mtim.tv_sec != file->stat.st_mtim.tv_sec ||
	    now.st_mtim.tv_nsec != file->stat.st_mtim.tv_nsec)
		return octavo_fail(error, OCTAVO_EIO, "%s: changed while it was read", file->name);
	return OCTAVO_OK;
}

enum octavo_status octavo_file_refuse_pointer(const char *file, const void *begin, size_t bytes,
                                              struct octavo_error *error)
{
	static const char pointer[] = "version "; /* github.com/git-lfs/git-lfs, docs/spec.md */
	if (bytes < sizeof pointer - 1 || memcmp(begin, pointer, sizeof pointer - 1))
		return OCTAVO_OK;
	return octavo_fail(error, OCTAVO_EFORMAT, "%s: a pointer of Git LFS, not the file itself: fetch that (git lfs pull)",
	                   file);
}

int octavo_file_exists(const char *dir, const char *name)
{
	char path[PATH_MAX];
	return join(path, dir, name) && access(path, F_OK) == 0;
}
