/* SPDX-License-Identifier: Apache-2.0
 *
 * Finding and loading a module: an optional part that stands on another library.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fp8/error.h"

#ifndef OCTAVO_MODULEDIR
#error "the build says where modules are installed"
#endif

/* The object of one file that exists, or NULL with the reason. */
static const void *load_path(const char *path, const char *symbol, struct octavo_error *error)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const void *object = library ? dlsym(library, symbol) : NULL;

	if (!library)
		octavo_fail(error, OCTAVO_ENOTSUP, "%s", dlerror());
	else if (!object)
		octavo_fail(error, OCTAVO_ENOTSUP, "%s: not a module of Octavo's: no %s", path, symbol);
	if (library && !object)
		dlclose(library);
	return object;
}

/* The directory of the file that this code lies in; "" if that cannot be told. */
static void own_directory(char *out, size_t size)
{
	Dl_info info;

	*out = 0;
	if (dladdr((const void *)load_path, &info) && info.dli_fname && strlen(info.dli_fname) < size)
		strcpy(out, info.dli_fname);
	*(strrchr(out, '/') ? strrchr(out, '/') : out) = 0;
}

const void *octavo_module_load(const char *file, const char *symbol, struct octavo_error *error)
{
	const char *search = secure_getenv("OCTAVO_MODULE_PATH");
	char own[PATH_MAX], directories[2 * PATH_MAX + sizeof OCTAVO_MODULEDIR + 2], path[3 * PATH_MAX];
	char *rest = directories;

	if (!file || !symbol) {
		octavo_fail(error, OCTAVO_EINVAL, "module: a null argument");
		return NULL;
	}
	own_directory(own, sizeof own);
	snprintf(directories, sizeof directories, "%s:%s:%s", search ? search : "", own, OCTAVO_MODULEDIR);
	for (char *directory; (directory = strsep(&rest, ":"));) {
		if (!*directory)
			continue;
		snprintf(path, sizeof path, "%s/%s", directory, file);
		if (access(path, R_OK) == 0)
			return load_path(path, symbol, error);
	}
	octavo_fail(error, OCTAVO_ENOTSUP, "%s is not installed", file);
	return NULL;
}
