/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON files of a model directory, and typed fields of their objects.
 */
#ifndef OCTAVO_FIELDS_H
#define OCTAVO_FIELDS_H

#include "octavo_base.h"

#include <jansson.h>

enum { OCTAVO_MAX_JSON_BYTES = 100000000 };

/* Reads DIR/NAME, a JSON object without duplicate keys.  The caller owns *out. */
enum octavo_status octavo_json_load(json_t **out, const char *dir, const char *name, struct octavo_error *error);

/* Reads fields of one object.  The first failure sticks: later reads do nothing, so that a list of fields needs
 * one check at its end.  Messages are `file: prefix.field: reason`. */
struct octavo_fields {
	const json_t *object;
	const char *file;
	const char *prefix; /* "" at the top, else "rope_scaling." */
	enum octavo_status status;
	struct octavo_error *error;
};

void octavo_fields_fail(struct octavo_fields *fields, enum octavo_status status, const char *field,
                        const char *format, ...) OCTAVO_PRINTF(4, 5);
/* NULL for a field that is absent or null. */
const json_t *octavo_field(const struct octavo_fields *fields, const char *field);

/* For each: `required` makes absence (or null) a failure; otherwise *value keeps what it holds. */
enum octavo_presence { OCTAVO_OPTIONAL, OCTAVO_REQUIRED };
void octavo_field_size(struct octavo_fields *fields, const char *field, enum octavo_presence presence, size_t min,
                       size_t max, size_t *value);
/* A finite number in [min, max]. */
void octavo_field_number(struct octavo_fields *fields, const char *field, enum octavo_presence presence, double min,
                         double max, double *value);
void octavo_field_bool(struct octavo_fields *fields, const char *field, enum octavo_presence presence, int *value);
/* *value is borrowed from the object. */
void octavo_field_string(struct octavo_fields *fields, const char *field, enum octavo_presence presence,
                         const char **value);

#endif
