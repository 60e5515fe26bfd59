/* SPDX-License-Identifier: Apache-2.0
 *
 * Byte-level BPE from a Hugging Face tokenizer.json (Sennrich et al. 2016, on bytes as in GPT-2).
 */
#ifndef OCTAVO_TOKENIZER_H
#define OCTAVO_TOKENIZER_H

#include "octavo_base.h"

struct octavo_tokenizer;

/* Reads DIR/tokenizer.json and, if present, DIR/tokenizer_config.json (for add_bos_token and bos_token).
 * `vocab` is the model's: an id beyond it is an error.  ENOTSUP for a vocabulary of another kind, by its file. */
enum octavo_status octavo_tokenizer_open(struct octavo_tokenizer **out, const char *dir, size_t vocab,
                                         struct octavo_error *error);
void octavo_tokenizer_close(struct octavo_tokenizer **tokenizer);

/* As octavo_encode in octavo_engine.h, with its flags. */
enum octavo_status octavo_tokenizer_encode(const struct octavo_tokenizer *tokenizer, const char *text, size_t length,
                                           unsigned flags, int32_t *id, size_t cap, size_t *count,
                                           struct octavo_error *error);
/* As octavo_token_text. */
const char *octavo_tokenizer_text(const struct octavo_tokenizer *tokenizer, int32_t id, size_t *length);
/* The BOS id that OCTAVO_ENCODE_BOS adds, or -1. */
int32_t octavo_tokenizer_bos(const struct octavo_tokenizer *tokenizer);

#endif
