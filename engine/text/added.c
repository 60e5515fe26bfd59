/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/text/text.h"

#include "fp8/error.h"
#include "engine/load/fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Looking for them ---------------------------------------------------------------------------------- */

/* The byte of a token at `depth`; a token that has ended sorts first. */
static int byte_at(const struct octavo_added_token *token, size_t depth)
{
	return depth < token->length ? (unsigned char)token->text[depth] : -1;
}

/* The first index from lo to hi whose byte at `depth` is at least `byte`; all agree on the bytes before. */
static size_t lower_bound(const struct octavo_added_list *list, size_t lo, size_t hi, size_t depth, int byte)
{
	while (lo < hi) {
		size_t middle = lo + (hi - lo) / 2;
		if (byte_at(&list->token[middle], depth) < byte)
			lo = middle + 1;
		else
			hi = middle;
	}
	return lo;
}

/* The longest token that the text begins with. */
static const struct octavo_added_token *longest_prefix(const struct octavo_added_list *list, const char *text,
                                                       size_t length)
{
	const struct octavo_added_token *best = NULL;
	size_t lo = 0, hi = list->count;
	for (size_t depth = 0; depth < length && lo < hi; depth++) {
		int byte = (unsigned char)text[depth];
		lo = lower_bound(list, lo, hi, depth, byte);
		hi = lower_bound(list, lo, hi, depth, byte + 1);
		if (lo < hi && list->token[lo].length == depth + 1)
			best = &list->token[lo];
	}
	return best;
}

const struct octavo_added_token *octavo_added_find(const struct octavo_added_list *list, const char *text,
                                                   size_t length, size_t from, size_t *start)
{
	for (size_t at = from; at < length; at++) {
		if (!list->starts[(unsigned char)text[at]])
			continue;
		const struct octavo_added_token *token = longest_prefix(list, text + at, length - at);
		if (token) {
			*start = at;
			return token;
		}
	}
	return NULL;
}

/* ---- Reading them ---------------------------------------------------------------------------------------- */

static int compare_tokens(const void *a, const void *b)
{
	const struct octavo_added_token *x = a, *y = b;
	int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
	return order ? order : (x->length > y->length) - (x->length < y->length);
}

static enum octavo_status sort_list(struct octavo_added_list *list, struct octavo_error *error)
{
	if (list->count > 0)
		qsort(list->token, list->count, sizeof *list->token, compare_tokens);
	for (size_t i = 0; i < list->count; i++) {
		list->starts[(unsigned char)list->token[i].text[0]] = 1;
		if (i > 0 && compare_tokens(&list->token[i - 1], &list->token[i]) == 0)
			return octavo_fail(error, OCTAVO_EFORMAT,
			                   OCTAVO_TOKENIZER_FILE ": added_tokens: \"%.64s\" occurs twice",
			                   list->token[i].text);
	}
	return OCTAVO_OK;
}

struct entry {
	const char *content;
	int32_t id;
	int normalized;
};

static enum octavo_status read_entry(struct entry *entry, const json_t *json, size_t index, size_t limit,
                                     struct octavo_error *error)
{
	char prefix[64], where[128];
	snprintf(prefix, sizeof prefix, "added_tokens[%zu].", index);
	snprintf(where, sizeof where, OCTAVO_TOKENIZER_FILE ": %sid", prefix);
	struct octavo_fields fields = {json, OCTAVO_TOKENIZER_FILE, prefix, OCTAVO_OK, error};
	octavo_field_string(&fields, "content", OCTAVO_REQUIRED, &entry->content);
	if (!fields.status && !*entry->content)
		octavo_fields_fail(&fields, OCTAVO_EFORMAT, "content", "empty");
	entry->normalized = 1;
	octavo_field_bool(&fields, "normalized", OCTAVO_OPTIONAL, &entry->normalized);
	static const char *const context[] = {"lstrip", "rstrip", "single_word"};
	for (int i = 0; i < 3; i++) {
		int wanted = 0;
		octavo_field_bool(&fields, context[i], OCTAVO_OPTIONAL, &wanted);
		if (!fields.status && wanted)
			octavo_fields_fail(&fields, OCTAVO_ENOTSUP, context[i], "true is not supported");
	}
	if (fields.status)
		return fields.status;
	return octavo_vocab_id(&entry->id, json_object_get(json, "id"), limit, where, error);
}

/* Enters it into the vocabulary under its own text; it may be there already, under the same id. */
static enum octavo_status register_entry(struct octavo_added *added, const struct entry *entry, size_t index,
                                         const json_t *vocab_json, struct octavo_vocab *vocab,
                                         struct octavo_error *error)
{
	struct octavo_token *token = &vocab->token[entry->id];
	const json_t *known = json_object_get(vocab_json, entry->content);
	if (known && json_integer_value(known) != entry->id)
		return octavo_fail(error, OCTAVO_EFORMAT,
		                   OCTAVO_TOKENIZER_FILE ": added_tokens[%zu].id: %d, but model.vocab has %lld", index,
		                   (int)entry->id, (long long)json_integer_value(known));
	if (token->added || (token->text && !known))
		return octavo_fail(error, OCTAVO_EFORMAT,
		                   OCTAVO_TOKENIZER_FILE ": added_tokens[%zu].id: %d is taken by another token", index,
		                   (int)entry->id);
	char *text = strdup(entry->content);
	if (!text)
		return octavo_fail(error, OCTAVO_ENOMEM, OCTAVO_TOKENIZER_FILE ": out of memory");
	added->content[added->contents++] = text;
	*token = (struct octavo_token){text, strlen(text), 1};
	return OCTAVO_OK;
}

/* Appends what will be looked for. */
static enum octavo_status list_entry(struct octavo_added_list *list, const struct entry *entry, int nfc,
                                     struct octavo_error *error)
{
	struct octavo_added_token token = {NULL, strlen(entry->content), entry->id};
	if (nfc && entry->normalized) {
		enum octavo_status status = octavo_nfc(&token.text, &token.length, entry->content, token.length, error);
		if (status)
			return status;
	} else if (!(token.text = strdup(entry->content))) {
		return octavo_fail(error, OCTAVO_ENOMEM, OCTAVO_TOKENIZER_FILE ": out of memory");
	}
	list->token[list->count++] = token;
	return OCTAVO_OK;
}

enum octavo_status octavo_added_open(struct octavo_added *added, const json_t *entries, const json_t *vocab_json,
                                     int nfc, struct octavo_vocab *vocab, struct octavo_error *error)
{
	*added = (struct octavo_added){0};
	if (!entries || json_is_null(entries))
		return OCTAVO_OK;
	if (!json_is_array(entries))
		return octavo_fail(error, OCTAVO_EFORMAT, OCTAVO_TOKENIZER_FILE ": added_tokens: not an array");
	size_t count = json_array_size(entries);
	added->content = calloc(count + 1, sizeof *added->content);
	added->raw.token = calloc(count + 1, sizeof *added->raw.token);
	added->normalized.token = calloc(count + 1, sizeof *added->normalized.token);
	if (!added->content || !added->raw.token || !added->normalized.token)
		return octavo_fail(error, OCTAVO_ENOMEM, OCTAVO_TOKENIZER_FILE ": out of memory");
	enum octavo_status status = OCTAVO_OK;
	for (size_t i = 0; !status && i < count; i++) {
		struct entry entry;
		status = read_entry(&entry, json_array_get(entries, i), i, vocab->limit, error);
		if (!status)
			status = register_entry(added, &entry, i, vocab_json, vocab, error);
		if (!status)
			status = list_entry(entry.normalized ? &added->normalized : &added->raw, &entry, nfc, error);
	}
	if (!status)
		status = sort_list(&added->raw, error);
	return status ? status : sort_list(&added->normalized, error);
}

static void free_list(struct octavo_added_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->token[i].text);
	free(list->token);
}

void octavo_added_close(struct octavo_added *added)
{
	free_list(&added->raw);
	free_list(&added->normalized);
	for (size_t i = 0; i < added->contents; i++)
		free(added->content[i]);
	free(added->content);
	*added = (struct octavo_added){0};
}
