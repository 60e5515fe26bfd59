/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokenizer's parts, in the order in which text passes through them: added tokens, normaliser,
 * pre-tokenizer, BPE.  Each is read from its own piece of tokenizer.json and knows nothing of the others.
 * Their results are those of Hugging Face's `tokenizers` for every file they accept (characters apart that are newer
 * than one side's Unicode tables); whatever they do not implement they refuse by name, since a tokenizer that is only
 * nearly right spoils a model without a trace.
 */
#ifndef OCTAVO_TEXT_H
#define OCTAVO_TEXT_H

#include "octavo_base.h"

#include <jansson.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define OCTAVO_TOKENIZER_FILE "tokenizer.json"

/* ---- vocab.c: ids and their bytes ------------------------------------------------------------------ */

struct octavo_token {
	const char *text; /* raw bytes, NUL after them; NULL if no token has this id */
	size_t length;
	int added; /* an added token: BPE never produces it */
};

struct octavo_vocab {
	size_t limit;               /* ids are below it */
	struct octavo_token *token; /* [limit] */
	char *arena;                /* the texts of model.vocab */
	int32_t byte[256];          /* id of each single byte, -1 if it has none */
	int32_t *slot;              /* [slots] ids hashed by text, -1 empty; tokens that are spelt in byte symbols */
	size_t slots;               /* a power of two */
};

/* `entries` is model.vocab. */
enum octavo_status octavo_vocab_open(struct octavo_vocab *vocab, const json_t *entries, size_t limit,
                                     struct octavo_error *error);
void octavo_vocab_close(struct octavo_vocab *vocab);
/* The id of the token with these raw bytes, or -1. */
int32_t octavo_vocab_find(const struct octavo_vocab *vocab, const char *text, size_t length);
/* Reads an id, an integer from 0 to limit - 1; `where` names it in the error text. */
enum octavo_status octavo_vocab_id(int32_t *id, const json_t *value, size_t limit, const char *where,
                                   struct octavo_error *error);
/* Turns GPT-2's byte symbols (each byte as one printable character) into bytes, at most as many as the text has.
 * 0 if a character is no byte symbol. */
int octavo_byte_symbols_decode(const char *symbols, size_t length, char *bytes, size_t *count);

/* ---- bpe.c: merges ----------------------------------------------------------------------------------- */

struct octavo_merge {
	uint64_t pair; /* left id << 32 | right id; UINT64_MAX: an empty slot */
	uint32_t rank;
	int32_t token; /* what the pair becomes */
};

struct octavo_bpe {
	const struct octavo_vocab *vocab; /* borrowed */
	struct octavo_merge *merge;       /* [slots] hashed by pair */
	size_t slots;                     /* a power of two */
	int ignore_merges;                /* a piece that is a token is emitted without merging */
};

/* Where ids go.  Ids beyond cap are only counted. */
struct octavo_id_sink {
	int32_t *id; /* [cap] */
	size_t cap, count;
};
void octavo_id_sink_put(struct octavo_id_sink *sink, int32_t id);

/* Memory for merging, grown to the longest piece; zero-initialise. */
struct octavo_bpe_scratch {
	void *symbols, *heap;
	size_t cap; /* bytes of a piece that fit */
};
void octavo_bpe_scratch_free(struct octavo_bpe_scratch *scratch);

/* `model` is the file's "model"; the vocabulary's added tokens must be marked already. */
enum octavo_status octavo_bpe_open(struct octavo_bpe *bpe, const json_t *model, const struct octavo_vocab *vocab,
                                   struct octavo_error *error);
void octavo_bpe_close(struct octavo_bpe *bpe);
/* One piece of at most 2^31 - 1 bytes in O(n log n). */
enum octavo_status octavo_bpe_encode(const struct octavo_bpe *bpe, const char *piece, size_t length,
                                     struct octavo_bpe_scratch *scratch, struct octavo_id_sink *sink,
                                     struct octavo_error *error);

/* ---- added.c: tokens that are matched as they stand --------------------------------------------------- */

struct octavo_added_token {
	char *text; /* what is looked for */
	size_t length;
	int32_t id;
};

struct octavo_added_list {
	struct octavo_added_token *token; /* [count] sorted by text */
	size_t count;
	unsigned char starts[256]; /* whether some token starts with this byte */
};

struct octavo_added {
	struct octavo_added_list raw;        /* normalized: false: looked for in the text as given */
	struct octavo_added_list normalized; /* normalized: true: then, in the normalised text */
	char **content;                      /* [contents] the texts that the vocabulary shows */
	size_t contents;
};

/* `entries` is added_tokens, `vocab_json` model.vocab.  Marks the tokens in the vocabulary. */
enum octavo_status octavo_added_open(struct octavo_added *added, const json_t *entries, const json_t *vocab_json,
                                     int nfc, struct octavo_vocab *vocab, struct octavo_error *error);
void octavo_added_close(struct octavo_added *added);
/* The leftmost match at or after `from`, the longest of those; NULL if there is none. */
const struct octavo_added_token *octavo_added_find(const struct octavo_added_list *list, const char *text,
                                                   size_t length, size_t from, size_t *start);

/* ---- normalize.c ------------------------------------------------------------------------------------- */

/* Reads "normalizer": *nfc says whether text is brought to normalisation form C; otherwise it stays as it is. */
enum octavo_status octavo_normalizer_open(int *nfc, const json_t *normalizer, struct octavo_error *error);
/* Valid UTF-8 to normalisation form C.  *out is malloc'ed. */
enum octavo_status octavo_nfc(char **out, size_t *out_length, const char *text, size_t length,
                              struct octavo_error *error);
/* EFORMAT with the offset of the first byte that is not UTF-8. */
enum octavo_status octavo_utf8_check(const char *text, size_t length, struct octavo_error *error);

/* ---- pattern.c: regular expressions --------------------------------------------------------------------- */

/* Compiles one of the file's patterns, written for Oniguruma, to mean the same in PCRE2. */
enum octavo_status octavo_pattern_compile(pcre2_code **code, const char *regex, const char *where,
                                          struct octavo_error *error);
/* Compiles a text that matches itself. */
enum octavo_status octavo_pattern_literal(pcre2_code **code, const char *text, const char *where,
                                          struct octavo_error *error);

/* ---- pretokenize.c: cutting text into the pieces that BPE must not join ---------------------------------- */

enum octavo_split_behavior {
	OCTAVO_SPLIT_ISOLATED,
	OCTAVO_SPLIT_REMOVED,
	OCTAVO_SPLIT_CONTIGUOUS,
	OCTAVO_SPLIT_MERGED_WITH_PREVIOUS,
	OCTAVO_SPLIT_MERGED_WITH_NEXT,
};

struct octavo_split {
	pcre2_code *code; /* NULL: no split, but a space is put before every piece that has none */
	enum octavo_split_behavior behavior;
	int invert;     /* what does not match is the delimiter */
	char where[96]; /* for error texts */
};

struct octavo_pretokenizer {
	struct octavo_split *split; /* [count] in order */
	size_t count, cap;
};

struct octavo_piece {
	size_t start, end;
	int match; /* while a split runs: matched its pattern */
};

struct octavo_pieces {
	const char *text;           /* the caller's, or `own` */
	char *own;                  /* malloc'ed if a step changed the text */
	struct octavo_piece *piece; /* [count], in order, none empty */
	size_t count, cap;
};
void octavo_pieces_free(struct octavo_pieces *pieces);

enum octavo_status octavo_pretokenizer_open(struct octavo_pretokenizer *pretokenizer, const json_t *json,
                                            struct octavo_error *error);
void octavo_pretokenizer_close(struct octavo_pretokenizer *pretokenizer);
/* Cuts valid UTF-8.  *pieces must be zero or come from an earlier call; the caller frees it, also after an error. */
enum octavo_status octavo_pretokenize(const struct octavo_pretokenizer *pretokenizer, const char *text, size_t length,
                                      struct octavo_pieces *pieces, struct octavo_error *error);

#endif
