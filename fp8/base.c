/* SPDX-License-Identifier: Apache-2.0
 *
 * Status phrases and the version of the running library.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "octavo_base.h"

/* configure defines it; a build by hand, without config.h, says so by this number. */
#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0.0.0"
#endif

const char *octavo_status_string(enum octavo_status status)
{
	switch (status) {
	case OCTAVO_OK:
		return "success";
	case OCTAVO_EINVAL:
		return "invalid argument";
	case OCTAVO_ENOMEM:
		return "out of memory";
	case OCTAVO_EIO:
		return "file cannot be read";
	case OCTAVO_EFORMAT:
		return "malformed or contradictory file";
	case OCTAVO_ENOTSUP:
		return "not supported";
	case OCTAVO_ELIMIT:
		return "limit exceeded";
	case OCTAVO_ENUMERIC:
		return "number outside the arithmetic contract";
	case OCTAVO_ESYSTEM:
		return "operating system error";
	}
	return "unknown status";
}

const char *octavo_version(void)
{
	return PACKAGE_VERSION;
}
