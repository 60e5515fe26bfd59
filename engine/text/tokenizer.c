/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/text/tokenizer.h"

#include "octavo_engine.h"
#include "fp8/error.h"
#include "engine/load/file.h"
#include "engine/load/fields.h"
#include "engine/text/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_FILE "tokenizer_config.json"

/* Positions within a piece are 32-bit; a prefix space may be added to each of them. */
enum { MAX_TEXT_BYTES = 1 << 30 };

struct octavo_tokenizer {
	struct octavo_vocab vocab;
	struct octavo_added added;
	int nfc;
	struct octavo_pretokenizer pretokenizer;
	struct octavo_bpe bpe;
	int32_t bos; /* -1: none */
};

/* ---- Opening ----------------------------------------------------------------------------------------------- */

/* The id of a whole token by its text in the files, or -1. */
static int32_t token_id(const struct octavo_tokenizer *tokenizer, const char *content)
{
	size_t length = strlen(content);
	for (size_t id = 0; id < tokenizer->vocab.limit; id++) {
		const struct octavo_token *token = &tokenizer->vocab.token[id];
		if (token->text && token->length == length && memcmp(token->text, content, length) == 0)
			return (int32_t)id;
	}
	return -1;
}

/* The steps of post_processor: itself, or a Sequence's. */
static const json_t *find_template(const json_t *processor)
{
	static const char wanted[] = "TemplateProcessing";
	const char *type = json_string_value(json_object_get(processor, "type"));
	if (type && strcmp(type, wanted) == 0)
		return processor;
	const json_t *steps = json_object_get(processor, "processors");
	for (size_t i = 0; i < json_array_size(steps); i++) {
		const json_t *step = json_array_get(steps, i);
		type = json_string_value(json_object_get(step, "type"));
		if (type && strcmp(type, wanted) == 0)
			return step;
	}
	return NULL;
}

/* How Llama 3 has its BOS added: a template whose "single" begins with one special token and goes on with the text.
 * Templates that begin with more are those of chats, and are the caller's. */
static enum octavo_status read_template(struct octavo_tokenizer *tokenizer, const json_t *root,
                                        struct octavo_error *error)
{
	const json_t *template = find_template(json_object_get(root, "post_processor"));
	const json_t *single = json_object_get(template, "single");
	const json_t *special = json_object_get(json_array_get(single, 0), "SpecialToken");
	const char *name = json_string_value(json_object_get(special, "id"));
	if (!name || !json_object_get(json_array_get(single, 1), "Sequence"))
		return OCTAVO_OK;
	const json_t *ids = json_object_get(json_object_get(json_object_get(template, "special_tokens"), name), "ids");
	char where[128];
	snprintf(where, sizeof where, OCTAVO_TOKENIZER_FILE ": post_processor.special_tokens[\"%.32s\"].ids", name);
	if (json_array_size(ids) != 1)
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: not an array of one id", where);
	return octavo_vocab_id(&tokenizer->bos, json_array_get(ids, 0), tokenizer->vocab.limit, where, error);
}

/* add_bos_token, where it is given, overrides the template.  bos_token is the token's text, or an object that has it as
 * "content". */
static enum octavo_status read_bos(struct octavo_tokenizer *tokenizer, const json_t *config, struct octavo_error *error)
{
	struct octavo_fields fields = {config, CONFIG_FILE, "", OCTAVO_OK, error};
	int wanted = 0;
	const char *content = NULL;
	octavo_field_bool(&fields, "add_bos_token", OCTAVO_OPTIONAL, &wanted);
	if (fields.status || !octavo_field(&fields, "add_bos_token"))
		return fields.status;
	tokenizer->bos = -1;
	if (!wanted)
		return OCTAVO_OK;
	const json_t *object = octavo_field(&fields, "bos_token");
	if (json_is_object(object)) {
		fields.object = object;
		fields.prefix = "bos_token.";
		octavo_field_string(&fields, "content", OCTAVO_REQUIRED, &content);
	} else {
		octavo_field_string(&fields, "bos_token", OCTAVO_REQUIRED, &content);
	}
	if (fields.status)
		return fields.status;
	tokenizer->bos = token_id(tokenizer, content);
	if (tokenizer->bos < 0)
		return octavo_fail(error, OCTAVO_EFORMAT,
		                   CONFIG_FILE ": bos_token: \"%.64s\" is no token of " OCTAVO_TOKENIZER_FILE, content);
	return OCTAVO_OK;
}

static enum octavo_status require_type(const json_t *root, const char *part, const char *wanted,
                                       struct octavo_error *error)
{
	char prefix[32];
	snprintf(prefix, sizeof prefix, "%s.", part);
	struct octavo_fields fields = {json_object_get(root, part), OCTAVO_TOKENIZER_FILE, prefix, OCTAVO_OK, error};
	const char *type = "";
	octavo_field_string(&fields, "type", OCTAVO_REQUIRED, &type);
	if (!fields.status && strcmp(type, wanted) != 0)
		octavo_fields_fail(&fields, OCTAVO_ENOTSUP, "type", "\"%.64s\" is not supported, only %s", type,
		                   wanted);
	return fields.status;
}

/* Of "post_processor" the BOS alone is read; "truncation" and "padding" belong to Hugging Face's batch encoding. */
static enum octavo_status read_parts(struct octavo_tokenizer *tokenizer, const json_t *root, size_t vocab,
                                     struct octavo_error *error)
{
	const json_t *model = json_object_get(root, "model"), *entries = json_object_get(model, "vocab");
	enum octavo_status status = require_type(root, "model", "BPE", error);
	if (!status)
		status = require_type(root, "decoder", "ByteLevel", error);
	if (!status)
		status = octavo_normalizer_open(&tokenizer->nfc, json_object_get(root, "normalizer"), error);
	if (!status)
		status = octavo_pretokenizer_open(&tokenizer->pretokenizer, json_object_get(root, "pre_tokenizer"),
		                                  error);
	if (!status)
		status = octavo_vocab_open(&tokenizer->vocab, entries, vocab, error);
	if (!status)
		status = octavo_added_open(&tokenizer->added, json_object_get(root, "added_tokens"), entries,
		                           tokenizer->nfc, &tokenizer->vocab, error);
	if (!status)
		status = octavo_bpe_open(&tokenizer->bpe, model, &tokenizer->vocab, error);
	if (!status)
		status = read_template(tokenizer, root, error);
	return status;
}

/* Vocabularies of other kinds, named before tokenizer.json is reported as missing. */
static enum octavo_status refuse_foreign(const char *dir, struct octavo_error *error)
{
	static const char *const foreign[] = {"tiktoken.model", "tokenizer.model", "tekken.json", "vocab.json"};
	for (size_t i = 0; i < sizeof foreign / sizeof *foreign && !octavo_file_exists(dir, OCTAVO_TOKENIZER_FILE); i++)
		if (octavo_file_exists(dir, foreign[i]))
			return octavo_fail(error, OCTAVO_ENOTSUP,
			                   "%s/%s: not supported: a " OCTAVO_TOKENIZER_FILE " is needed, and there is none",
			                   dir, foreign[i]);
	return OCTAVO_OK;
}

static enum octavo_status read_files(struct octavo_tokenizer *tokenizer, const char *dir, size_t vocab,
                                     struct octavo_error *error)
{
	json_t *json = NULL;
	enum octavo_status status = refuse_foreign(dir, error);
	if (!status)
		status = octavo_json_load(&json, dir, OCTAVO_TOKENIZER_FILE, error);
	if (status)
		return status;
	status = read_parts(tokenizer, json, vocab, error);
	json_decref(json);
	if (status || !octavo_file_exists(dir, CONFIG_FILE))
		return status;
	status = octavo_json_load(&json, dir, CONFIG_FILE, error);
	if (status)
		return status;
	status = read_bos(tokenizer, json, error);
	json_decref(json);
	return status;
}

enum octavo_status octavo_tokenizer_open(struct octavo_tokenizer **out, const char *dir, size_t vocab,
                                         struct octavo_error *error)
{
	*out = NULL;
	if (vocab == 0 || vocab > INT32_MAX)
		return octavo_fail(error, OCTAVO_EINVAL, "vocab: %zu is not in 1 to %d", vocab, (int)INT32_MAX);
	struct octavo_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
	if (!tokenizer)
		return octavo_fail(error, OCTAVO_ENOMEM, OCTAVO_TOKENIZER_FILE ": out of memory");
	tokenizer->bos = -1;
	enum octavo_status status = read_files(tokenizer, dir, vocab, error);
	if (status)
		octavo_tokenizer_close(&tokenizer);
	*out = tokenizer;
	return status;
}

void octavo_tokenizer_close(struct octavo_tokenizer **tokenizer)
{
	if (!*tokenizer)
		return;
	octavo_bpe_close(&(*tokenizer)->bpe);
	octavo_pretokenizer_close(&(*tokenizer)->pretokenizer);
	octavo_added_close(&(*tokenizer)->added);
	octavo_vocab_close(&(*tokenizer)->vocab);
	free(*tokenizer);
	*tokenizer = NULL;
}

/* ---- Encoding ---------------------------------------------------------------------------------------------- */

/* What an encode carries from section to section. */
struct encoder {
	const struct octavo_tokenizer *tokenizer;
	int control; /* added tokens are looked for */
	struct octavo_pieces pieces;
	struct octavo_bpe_scratch scratch;
	struct octavo_id_sink sink;
	struct octavo_error *error;
};

typedef enum octavo_status section_fn(struct encoder *encoder, const char *text, size_t length);

/* Emits the list's tokens where they occur, and passes what lies between them on. */
static enum octavo_status cut_out(struct encoder *encoder, const struct octavo_added_list *list, const char *text,
                                  size_t length, section_fn *between)
{
	size_t from = 0;
	while (encoder->control && list->count > 0) {
		size_t start;
		const struct octavo_added_token *token = octavo_added_find(list, text, length, from, &start);
		if (!token)
			break;
		enum octavo_status status = between(encoder, text + from, start - from);
		if (status)
			return status;
		octavo_id_sink_put(&encoder->sink, token->id);
		from = start + token->length;
	}
	return between(encoder, text + from, length - from);
}

/* Text without added tokens, normalised. */
static enum octavo_status encode_plain(struct encoder *encoder, const char *text, size_t length)
{
	const struct octavo_tokenizer *tokenizer = encoder->tokenizer;
	struct octavo_pieces *pieces = &encoder->pieces;
	enum octavo_status status = octavo_pretokenize(&tokenizer->pretokenizer, text, length, pieces, encoder->error);
	for (size_t i = 0; !status && i < pieces->count; i++) {
		const struct octavo_piece *piece = &pieces->piece[i];
		status = octavo_bpe_encode(&tokenizer->bpe, pieces->text + piece->start, piece->end - piece->start,
		                           &encoder->scratch, &encoder->sink, encoder->error);
	}
	return status;
}

/* Text without those added tokens that are looked for before normalisation. */
static enum octavo_status encode_section(struct encoder *encoder, const char *text, size_t length)
{
	const struct octavo_added_list *list = &encoder->tokenizer->added.normalized;
	if (!encoder->tokenizer->nfc)
		return cut_out(encoder, list, text, length, encode_plain);
	char *normal;
	size_t normal_length;
	enum octavo_status status = octavo_nfc(&normal, &normal_length, text, length, encoder->error);
	if (status)
		return status;
	status = cut_out(encoder, list, normal, normal_length, encode_plain);
	free(normal);
	return status;
}

enum octavo_status octavo_tokenizer_encode(const struct octavo_tokenizer *tokenizer, const char *text, size_t length,
                                           unsigned flags, int32_t *id, size_t cap, size_t *count,
                                           struct octavo_error *error)
{
	*count = 0;
	if (length > MAX_TEXT_BYTES)
		return octavo_fail(error, OCTAVO_ELIMIT, "text: %zu bytes, and %d is the limit", length,
		                   MAX_TEXT_BYTES);
	enum octavo_status status = octavo_utf8_check(text, length, error);
	if (status)
		return status;
	struct encoder encoder = {.tokenizer = tokenizer,
	                          .control = (flags & OCTAVO_ENCODE_CONTROL) != 0,
	                          .sink = {id, cap, 0},
	                          .error = error};
	if ((flags & OCTAVO_ENCODE_BOS) && tokenizer->bos >= 0)
		octavo_id_sink_put(&encoder.sink, tokenizer->bos);
	status = cut_out(&encoder, &tokenizer->added.raw, text, length, encode_section);
	octavo_pieces_free(&encoder.pieces);
	octavo_bpe_scratch_free(&encoder.scratch);
	if (status)
		return status;
	*count = encoder.sink.count;
	if (*count > cap)
		return octavo_fail(error, OCTAVO_ELIMIT, "text: %zu tokens, and there is room for %zu", *count, cap);
	return OCTAVO_OK;
}

/* ---- Tokens --------------------------------------------------------------------------------------------------- */

const char *octavo_tokenizer_text(const struct octavo_tokenizer *tokenizer, int32_t id, size_t *length)
{
	const struct octavo_token *token =
	        id >= 0 && (size_t)id < tokenizer->vocab.limit ? &tokenizer->vocab.token[id] : NULL;
	if (length)
		*length = token && token->text ? token->length : 0;
	return token ? token->text : NULL;
}

int32_t octavo_tokenizer_bos(const struct octavo_tokenizer *tokenizer)
{
	return tokenizer->bos;
}
