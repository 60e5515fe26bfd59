/* SPDX-License-Identifier: Apache-2.0 */
#include "fp8/error.h"

#include <stdarg.h>
#include <stdio.h>

enum octavo_status octavo_fail(struct octavo_error *error, enum octavo_status status, const char *format, ...)
{
	if (error) {
		va_list args;
		va_start(args, format);
		vsnprintf(error->text, sizeof error->text, format, args);
		va_end(args);
		/* Names out of files must not steer the terminal that the text is printed on. */
		for (char *c = error->text; *c; c++)
			if ((unsigned char)*c < ' ' || *c == 0x7F)
				*c = '?';
	}
	return status;
}
