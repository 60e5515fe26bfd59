/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine/load/fields.h"

#include "fp8/error.h"
#include "engine/load/file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static enum octavo_status parse(json_t **out, const char *text, size_t bytes, const char *name,
                                struct octavo_error *error)
{
	json_error_t detail;
	enum octavo_status status = octavo_file_refuse_pointer(name, text, bytes, error);
	if (status != OCTAVO_OK)
		return status;
	json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &detail);
	if (!root)
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: line %d: %s", name, detail.line, detail.text);
	if (!json_is_object(root)) {
		json_decref(root);
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: not a JSON object", name);
	}
	*out = root;
	return OCTAVO_OK;
}

enum octavo_status octavo_json_load(json_t **out, const char *dir, const char *name, struct octavo_error *error)
{
	struct octavo_file file;
	enum octavo_status status = octavo_file_open(&file, dir, name, OCTAVO_MAX_JSON_BYTES, error);
	if (status != OCTAVO_OK)
		return status;
	size_t bytes = octavo_file_size(&file);
	char *text = malloc(bytes + 1);
	if (!text)
		status = octavo_fail(error, OCTAVO_ENOMEM, "%s: out of memory for %zu bytes", name, bytes);
	else
		status = octavo_file_read(&file, text, bytes, 0, error);
	if (status == OCTAVO_OK)
		status = parse(out, text, bytes, name, error);
	free(text);
	octavo_file_close(&file);
	return status;
}

void octavo_fields_fail(struct octavo_fields *fields, enum octavo_status status, const char *field, const char *format,
                        ...)
{
	char reason[512];
	va_list args;
	va_start(args, format);
	vsnprintf(reason, sizeof reason, format, args);
	va_end(args);
	fields->status =
	        octavo_fail(fields->error, status, "%s: %s%.64s: %s", fields->file, fields->prefix, field, reason);
}

const json_t *octavo_field(const struct octavo_fields *fields, const char *field)
{
	const json_t *value = json_object_get(fields->object, field);
	return json_is_null(value) ? NULL : value;
}

/* The field, if there is one to read. */
static const json_t *take(struct octavo_fields *fields, const char *field, enum octavo_presence presence)
{
	if (fields->status != OCTAVO_OK)
		return NULL;
	const json_t *value = octavo_field(fields, field);
	if (!value && presence == OCTAVO_REQUIRED)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, field, "missing");
	return value;
}

void octavo_field_size(struct octavo_fields *fields, const char *field, enum octavo_presence presence, size_t min,
                       size_t max, size_t *value)
{
	const json_t *json = take(fields, field, presence);
	if (!json)
		return;
	json_int_t number = json_integer_value(json);
	if (!json_is_integer(json))
		octavo_fields_fail(fields, OCTAVO_EFORMAT, field, "not an integer");
	else if (number < 0 || (uintmax_t)number < min || (uintmax_t)number > max)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, field, "%jd is not in %zu to %zu", (intmax_t)number, min,
		                   max);
	else
		*value = (size_t)number;
}

void octavo_field_number(struct octavo_fields *fields, const char *field, enum octavo_presence presence, double min,
                         double max, double *value)
{
	const json_t *json = take(fields, field, presence);
	if (!json)
		return;
	double number = json_number_value(json);
	if (!json_is_number(json))
		octavo_fields_fail(fields, OCTAVO_EFORMAT, field, "not a number");
	else if (!(number >= min && number <= max))
		octavo_fields_fail(fields, OCTAVO_EFORMAT, field, "%g is not in %g to %g", number, min, max);
	else
		*value = number;
}

void octavo_field_bool(struct octavo_fields *fields, const char *field, enum octavo_presence presence, int *value)
{
	const json_t *json = take(fields, field, presence);
	if (!json)
		return;
	if (!json_is_boolean(json))
		octavo_fields_fail(fields, OCTAVO_EFORMAT, field, "neither true nor false");
	else
		*value = json_is_true(json);
}

void octavo_field_string(struct octavo_fields *fields, const char *field, enum octavo_presence presence,
                         const char **value)
{
	const json_t *json = take(fields, field, presence);
	if (!json)
		return;
	if (!json_is_string(json))
		octavo_fields_fail(fields, OCTAVO_EFORMAT, field, "not a string");
	else
		*value = json_string_value(json);
}
