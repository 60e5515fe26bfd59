/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCTAVO_ERROR_H
#define OCTAVO_ERROR_H

#include "octavo_base.h"

/* Writes the text (truncated to fit, control characters replaced by '?') if error is not NULL, and returns status,
 * so that a failing function can `return octavo_fail(error, OCTAVO_EFORMAT, "%s: …", …)`.
 * Exported by liboctavo-kernels for liboctavo; not part of the public interface. */
OCTAVO_API enum octavo_status octavo_fail(struct octavo_error *error, enum octavo_status status, const char *format, ...)
	OCTAVO_PRINTF(3, 4);

#endif
