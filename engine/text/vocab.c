/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/text/text.h"

#include "fp8/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

/* The byte that a character stands for, or -1.  GPT-2 writes every byte as one printable character: printable bytes
 * of Latin-1 as themselves, the other 68 (0..32, 127..160, 173), ascending, as U+0100 and up. */
static int symbol_byte(utf8proc_int32_t symbol)
{
	if (symbol < 0x100)
		return (symbol >= 33 && symbol <= 126) || (symbol >= 161 && symbol != 173) ? symbol : -1;
	int index = symbol - 0x100;
	if (index <= 32)
		return index;
	if (index <= 66)
		return index - 33 + 127;
	return index == 67 ? 173 : -1;
}

int octavo_byte_symbols_decode(const char *symbols, size_t length, char *bytes, size_t *count)
{
	*count = 0;
	for (size_t at = 0; at < length;) {
		utf8proc_int32_t symbol;
		utf8proc_ssize_t size = utf8proc_iterate((const utf8proc_uint8_t *)symbols + at,
		                                         (utf8proc_ssize_t)(length - at), &symbol);
		int byte = size > 0 ? symbol_byte(symbol) : -1;
		if (byte < 0)
			return 0;
		bytes[(*count)++] = (char)byte;
		at += (size_t)size;
	}
	return 1;
}

enum octavo_status octavo_vocab_id(int32_t *id, const json_t *value, size_t limit, const char *where,
                                   struct octavo_error *error)
{
	if (!json_is_integer(value))
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: not an integer", where);
	json_int_t integer = json_integer_value(value);
	if (integer < 0)
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: id %lld is negative", where, (long long)integer);
	if ((unsigned long long)integer >= limit)
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: id %lld is not below the model's vocabulary of %zu",
		                   where, (long long)integer, limit);
	*id = (int32_t)integer;
	return OCTAVO_OK;
}

/* The slot of this text, or the empty one where it belongs. */
static size_t find_slot(const struct octavo_vocab *vocab, const char *text, size_t length)
{
	uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
	size_t slot = hash & (vocab->slots - 1);
	for (; vocab->slot[slot] >= 0; slot = (slot + 1) & (vocab->slots - 1)) {
		const struct octavo_token *token = &vocab->token[vocab->slot[slot]];
		if (token->length == length && memcmp(token->text, text, length) == 0)
			break;
	}
	return slot;
}

int32_t octavo_vocab_find(const struct octavo_vocab *vocab, const char *text, size_t length)
{
	return vocab->slot[find_slot(vocab, text, length)];
}

/* Puts one entry of model.vocab at `text` in the arena; *used is what it takes there. */
static enum octavo_status add_entry(struct octavo_vocab *vocab, const char *key, const json_t *value, char *text,
                                    size_t *used, struct octavo_error *error)
{
	char where[128];
	snprintf(where, sizeof where, OCTAVO_TOKENIZER_FILE ": model.vocab[\"%.64s\"]", key);
	int32_t id;
	enum octavo_status status = octavo_vocab_id(&id, value, vocab->limit, where, error);
	if (status)
		return status;
	struct octavo_token *token = &vocab->token[id];
	if (token->text)
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: id %d is taken by another token", where, (int)id);

	size_t length = strlen(key);
	int spelt_in_bytes = octavo_byte_symbols_decode(key, length, text, &token->length);
	if (!spelt_in_bytes) { /* then it is its own text, as for Hugging Face's ByteLevel decoder */
		memcpy(text, key, length);
		token->length = length;
	}
	text[token->length] = '\0';
	token->text = text;
	*used = token->length + 1;
	if (spelt_in_bytes)
		vocab->slot[find_slot(vocab, text, token->length)] = id;
	return OCTAVO_OK;
}

static enum octavo_status allocate(struct octavo_vocab *vocab, const json_t *entries, struct octavo_error *error)
{
	size_t bytes = 1;
	const char *key;
	json_t *value;
	json_object_foreach ((json_t *)entries, key, value)
		bytes += strlen(key) + 1;
	for (vocab->slots = 16; vocab->slots < 2 * json_object_size(entries);)
		vocab->slots *= 2;
	vocab->arena = malloc(bytes);
	vocab->token = calloc(vocab->limit, sizeof *vocab->token);
	vocab->slot = malloc(vocab->slots * sizeof *vocab->slot);
	if (!vocab->arena || !vocab->token || !vocab->slot)
		return octavo_fail(error, OCTAVO_ENOMEM, OCTAVO_TOKENIZER_FILE ": out of memory");
	memset(vocab->slot, 0xff, vocab->slots * sizeof *vocab->slot);
	return OCTAVO_OK;
}

/* Every byte that UTF-8 can contain needs a token of its own, or some text could not be written down. */
static enum octavo_status find_bytes(struct octavo_vocab *vocab, struct octavo_error *error)
{
	for (int byte = 0; byte < 256; byte++) {
		char text = (char)byte;
		vocab->byte[byte] = octavo_vocab_find(vocab, &text, 1);
		if (vocab->byte[byte] < 0 && byte != 0xc0 && byte != 0xc1 && byte < 0xf5)
			return octavo_fail(error, OCTAVO_EFORMAT,
			                   OCTAVO_TOKENIZER_FILE ": model.vocab: no token for the byte 0x%02x", byte);
	}
	return OCTAVO_OK;
}

enum octavo_status octavo_vocab_open(struct octavo_vocab *vocab, const json_t *entries, size_t limit,
                                     struct octavo_error *error)
{
	*vocab = (struct octavo_vocab){.limit = limit};
	if (!json_is_object(entries))
		return octavo_fail(error, OCTAVO_EFORMAT, OCTAVO_TOKENIZER_FILE ": model.vocab: %s",
		                   entries ? "not an object" : "missing");
	enum octavo_status status = allocate(vocab, entries, error);
	char *text = vocab->arena;
	void *entry = json_object_iter((json_t *)entries);
	for (; !status && entry; entry = json_object_iter_next((json_t *)entries, entry)) {
		size_t used = 0;
		status = add_entry(vocab, json_object_iter_key(entry), json_object_iter_value(entry), text, &used,
		                   error);
		text += used;
	}
	return status ? status : find_bytes(vocab, error);
}

void octavo_vocab_close(struct octavo_vocab *vocab)
{
	free(vocab->token);
	free(vocab->arena);
	free(vocab->slot);
	*vocab = (struct octavo_vocab){0};
}
