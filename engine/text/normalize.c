/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/text/text.h"

#include "fp8/error.h"
#include "engine/load/fields.h"

#include <string.h>

#include <utf8proc.h>

enum octavo_status octavo_normalizer_open(int *nfc, const json_t *normalizer, struct octavo_error *error)
{
	*nfc = 0;
	if (!normalizer || json_is_null(normalizer))
		return OCTAVO_OK;
	struct octavo_fields fields = {normalizer, OCTAVO_TOKENIZER_FILE, "normalizer.", OCTAVO_OK, error};
	const char *type = NULL;
	octavo_field_string(&fields, "type", OCTAVO_REQUIRED, &type);
	if (fields.status)
		return fields.status;
	if (strcmp(type, "NFC") == 0) {
		*nfc = 1;
		return OCTAVO_OK;
	}
	if (strcmp(type, "Sequence") != 0) {
		octavo_fields_fail(&fields, OCTAVO_ENOTSUP, "type", "\"%.64s\" is not supported, only NFC", type);
		return fields.status;
	}
	const json_t *steps = octavo_field(&fields, "normalizers");
	if (!json_is_array(steps)) {
		octavo_fields_fail(&fields, OCTAVO_EFORMAT, "normalizers", steps ? "not an array" : "missing");
		return fields.status;
	}
	for (size_t i = 0; i < json_array_size(steps); i++) {
		int step_nfc;
		enum octavo_status status = octavo_normalizer_open(&step_nfc, json_array_get(steps, i), error);
		if (status)
			return status;
		*nfc |= step_nfc; /* NFC twice is NFC once */
	}
	return OCTAVO_OK;
}

/* utf8proc sorts runs of combining characters in quadratic time.  Text in a language has at most a few together;
 * Unicode's own Stream-Safe format (UAX #15) stops at 30. */
enum { MAX_COMBINING_RUN = 1000 };

static enum octavo_status check_runs(const char *text, size_t length, struct octavo_error *error)
{
	size_t run = 0;
	for (size_t at = 0; at < length;) {
		utf8proc_int32_t code_point;
		at += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(length - at),
		                               &code_point);
		run = utf8proc_get_property(code_point)->combining_class ? run + 1 : 0;
		if (run > MAX_COMBINING_RUN)
			return octavo_fail(error, OCTAVO_ELIMIT, "text: more than %d combining characters in a row",
			                   MAX_COMBINING_RUN);
	}
	return OCTAVO_OK;
}

enum octavo_status octavo_nfc(char **out, size_t *out_length, const char *text, size_t length,
                              struct octavo_error *error)
{
	enum octavo_status status = check_runs(text, length, error);
	if (status)
		return status;
	utf8proc_uint8_t *normal = NULL;
	utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &normal,
	                                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	if (size == UTF8PROC_ERROR_NOMEM)
		return octavo_fail(error, OCTAVO_ENOMEM, "text: out of memory for its normalisation");
	if (size < 0)
		return octavo_fail(error, OCTAVO_EFORMAT, "text: normalisation: %s", utf8proc_errmsg(size));
	*out = (char *)normal;
	*out_length = (size_t)size;
	return OCTAVO_OK;
}

enum octavo_status octavo_utf8_check(const char *text, size_t length, struct octavo_error *error)
{
	for (size_t at = 0; at < length;) {
		utf8proc_int32_t code_point;
		utf8proc_ssize_t size = utf8proc_iterate((const utf8proc_uint8_t *)text + at,
		                                         (utf8proc_ssize_t)(length - at), &code_point);
		if (size <= 0)
			return octavo_fail(error, OCTAVO_EFORMAT, "text: byte %zu: not valid UTF-8", at);
		at += (size_t)size;
	}
	return OCTAVO_OK;
}
