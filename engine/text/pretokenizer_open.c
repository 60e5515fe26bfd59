/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/text/text.h"

#include "fp8/error.h"
#include "engine/load/fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ByteLevel's own pattern, GPT-2's. */
#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static struct octavo_split *add_split(struct octavo_pretokenizer *pretokenizer, const char *path, const char *field)
{
	if (pretokenizer->count == pretokenizer->cap) {
		size_t cap = pretokenizer->cap ? 2 * pretokenizer->cap : 8;
		struct octavo_split *grown = realloc(pretokenizer->split, cap * sizeof *grown);
		if (!grown)
			return NULL;
		pretokenizer->split = grown;
		pretokenizer->cap = cap;
	}
	struct octavo_split *split = &pretokenizer->split[pretokenizer->count++];
	*split = (struct octavo_split){.behavior = OCTAVO_SPLIT_ISOLATED};
	snprintf(split->where, sizeof split->where, OCTAVO_TOKENIZER_FILE ": %s%s", path, field);
	return split;
}

static void add_pattern(struct octavo_pretokenizer *pretokenizer, struct octavo_fields *fields, const char *field,
                        const char *regex)
{
	if (fields->status)
		return;
	struct octavo_split *split = add_split(pretokenizer, fields->prefix, field);
	if (!split)
		octavo_fields_fail(fields, OCTAVO_ENOMEM, field, "out of memory");
	else
		fields->status = octavo_pattern_compile(&split->code, regex, split->where, fields->error);
}

static enum octavo_split_behavior read_behavior(struct octavo_fields *fields)
{
	static const char *const names[] = {
	        [OCTAVO_SPLIT_ISOLATED] = "Isolated",
	        [OCTAVO_SPLIT_REMOVED] = "Removed",
	        [OCTAVO_SPLIT_CONTIGUOUS] = "Contiguous",
	        [OCTAVO_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
	        [OCTAVO_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
	};
	const char *name = "";
	octavo_field_string(fields, "behavior", OCTAVO_REQUIRED, &name);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(name, names[i]) == 0)
			return (enum octavo_split_behavior)i;
	if (!fields->status)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "behavior", "\"%.64s\" is not supported", name);
	return OCTAVO_SPLIT_ISOLATED;
}

/* {"pattern": {"Regex": ".."} or {"String": ".."}, "behavior": "..", "invert": ..} */
static void read_split(struct octavo_pretokenizer *pretokenizer, struct octavo_fields *fields)
{
	enum octavo_split_behavior behavior = read_behavior(fields);
	int invert = 0;
	octavo_field_bool(fields, "invert", OCTAVO_OPTIONAL, &invert);
	const json_t *pattern = octavo_field(fields, "pattern");
	const char *regex = json_string_value(json_object_get(pattern, "Regex"));
	const char *literal = json_string_value(json_object_get(pattern, "String"));
	if (fields->status)
		return;
	if (!regex == !literal) {
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "pattern", "neither {\"Regex\": ..} nor {\"String\": ..}");
		return;
	}
	struct octavo_split *split = add_split(pretokenizer, fields->prefix, "pattern");
	if (!split) {
		octavo_fields_fail(fields, OCTAVO_ENOMEM, "pattern", "out of memory");
		return;
	}
	split->behavior = behavior;
	split->invert = invert;
	fields->status = regex ? octavo_pattern_compile(&split->code, regex, split->where, fields->error)
	                       : octavo_pattern_literal(&split->code, literal, split->where, fields->error);
}

static void read_digits(struct octavo_pretokenizer *pretokenizer, struct octavo_fields *fields)
{
	int individual = 0;
	octavo_field_bool(fields, "individual_digits", OCTAVO_OPTIONAL, &individual);
	add_pattern(pretokenizer, fields, "individual_digits", individual ? "\\p{N}" : "\\p{N}+");
}

static void read_byte_level(struct octavo_pretokenizer *pretokenizer, struct octavo_fields *fields)
{
	int add_prefix_space = 1, use_regex = 1; /* what Hugging Face takes for a file without them */
	octavo_field_bool(fields, "add_prefix_space", OCTAVO_OPTIONAL, &add_prefix_space);
	octavo_field_bool(fields, "use_regex", OCTAVO_OPTIONAL, &use_regex);
	if (!fields->status && add_prefix_space && !add_split(pretokenizer, fields->prefix, "add_prefix_space"))
		octavo_fields_fail(fields, OCTAVO_ENOMEM, "add_prefix_space", "out of memory");
	if (use_regex)
		add_pattern(pretokenizer, fields, "use_regex", GPT2_PATTERN);
}

/* One pre-tokenizer that is not a Sequence.  Sets *byte_level if it was that. */
static enum octavo_status read_step(struct octavo_pretokenizer *pretokenizer, const json_t *json, const char *prefix,
                                    int *byte_level, struct octavo_error *error)
{
	struct octavo_fields fields = {json, OCTAVO_TOKENIZER_FILE, prefix, OCTAVO_OK, error};
	const char *type = "";
	octavo_field_string(&fields, "type", OCTAVO_REQUIRED, &type);
	*byte_level = strcmp(type, "ByteLevel") == 0;
	if (fields.status)
		return fields.status;
	if (*byte_level)
		read_byte_level(pretokenizer, &fields);
	else if (strcmp(type, "Split") == 0)
		read_split(pretokenizer, &fields);
	else if (strcmp(type, "Digits") == 0)
		read_digits(pretokenizer, &fields);
	else
		octavo_fields_fail(&fields, OCTAVO_ENOTSUP, "type",
		                   "\"%.64s\" is not supported, only Split, Digits and ByteLevel in a Sequence", type);
	return fields.status;
}

/* The steps of a Sequence, the last of which turns text into byte symbols. */
static enum octavo_status read_sequence(struct octavo_pretokenizer *pretokenizer, const json_t *steps,
                                        struct octavo_error *error)
{
	int byte_level = 0;
	for (size_t i = 0; i < json_array_size(steps); i++) {
		char prefix[64];
		snprintf(prefix, sizeof prefix, "pre_tokenizer.pretokenizers[%zu].", i);
		if (byte_level)
			return octavo_fail(error, OCTAVO_ENOTSUP,
			                   OCTAVO_TOKENIZER_FILE ": %stype: a step after ByteLevel is not supported",
			                   prefix);
		enum octavo_status status =
		        read_step(pretokenizer, json_array_get(steps, i), prefix, &byte_level, error);
		if (status)
			return status;
	}
	if (!byte_level)
		return octavo_fail(
		        error, OCTAVO_ENOTSUP,
		        OCTAVO_TOKENIZER_FILE
		        ": pre_tokenizer.pretokenizers: only byte-level BPE is supported, and no step is ByteLevel");
	return OCTAVO_OK;
}

enum octavo_status octavo_pretokenizer_open(struct octavo_pretokenizer *pretokenizer, const json_t *json,
                                            struct octavo_error *error)
{
	*pretokenizer = (struct octavo_pretokenizer){0};
	struct octavo_fields fields = {json, OCTAVO_TOKENIZER_FILE, "pre_tokenizer.", OCTAVO_OK, error};
	const char *type = "";
	octavo_field_string(&fields, "type", OCTAVO_REQUIRED, &type);
	if (fields.status)
		return fields.status;
	if (strcmp(type, "Sequence") != 0) {
		int byte_level;
		enum octavo_status status = read_step(pretokenizer, json, fields.prefix, &byte_level, error);
		if (!status && !byte_level)
			octavo_fields_fail(&fields, OCTAVO_ENOTSUP, "type",
			                   "only byte-level BPE is supported, and this is \"%.64s\"", type);
		return status ? status : fields.status;
	}
	const json_t *steps = octavo_field(&fields, "pretokenizers");
	if (json_is_array(steps))
		return read_sequence(pretokenizer, steps, error);
	octavo_fields_fail(&fields, OCTAVO_EFORMAT, "pretokenizers", steps ? "not an array" : "missing");
	return fields.status;
}

void octavo_pretokenizer_close(struct octavo_pretokenizer *pretokenizer)
{
	for (size_t i = 0; i < pretokenizer->count; i++)
		pcre2_code_free(pretokenizer->split[i].code);
	free(pretokenizer->split);
	*pretokenizer = (struct octavo_pretokenizer){0};
}
