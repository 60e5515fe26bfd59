/* SPDX-License-Identifier: Apache-2.0
 *
 * What every room and every user of Octavo may include: status codes, error text, export macro.
 */
#ifndef OCTAVO_BASE_H
#define OCTAVO_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define OCTAVO_API __attribute__((visibility("default")))
#define OCTAVO_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define OCTAVO_API
#define OCTAVO_PRINTF(fmt, first)
#endif

/* Buffers that the library allocates for vectors start on a cache line. */
#define OCTAVO_ALIGNMENT 64

/* Zero is success; every failure is negative. */
enum octavo_status {
	OCTAVO_OK = 0,
	OCTAVO_EINVAL = -1,   /* an argument is out of its documented range */
	OCTAVO_ENOMEM = -2,   /* memory could not be had */
	OCTAVO_EIO = -3,      /* a file could not be opened, read or mapped */
	OCTAVO_EFORMAT = -4,  /* a file's content breaks its format or contradicts the model's config */
	OCTAVO_ENOTSUP = -5,  /* valid, but not implemented here (an architecture, a dtype, an ISA) */
	OCTAVO_ELIMIT = -6,   /* a stated limit would be exceeded (context, rows of a batch) */
	OCTAVO_ENUMERIC = -7, /* a value outside the arithmetic contract: NaN logits, a bad scale */
	OCTAVO_ESYSTEM = -8,  /* the operating system refused something that is not a file */
};

/* Text that explains a failure in full: file, field and reason.  A caller passes one by address
 * (or NULL if it does not care); it is written only when the call fails. */
struct octavo_error {
	char text[1024];
};

/* One short phrase per status code; never NULL. */
OCTAVO_API const char *octavo_status_string(enum octavo_status status);

/* "MAJOR.MINOR.PATCH" of the library that is running, not of the headers. */
OCTAVO_API const char *octavo_version(void);

/* The optional parts of Octavo that stand on other libraries are modules: files that are loaded by name at run time,
 * from the directories in the environment variable OCTAVO_MODULE_PATH (colons between them), then beside this library
 * (a build that is not installed), then where they are installed.  Loads `file` for good and returns its `symbol`;
 * NULL, with the reason in *error, if there is none.  What it is, its version included, the caller must check. */
OCTAVO_API const void *octavo_module_load(const char *file, const char *symbol, struct octavo_error *error);

#ifdef __cplusplus
}
#endif
#endif
