/* SPDX-License-Identifier: Apache-2.0
 *
 * The hand-made tokenizer of tests/data/tokenizer, bent by a test.  Calls that cannot fail on a healthy machine
 * abort the test program.
 *
 * Its ids: 0..2 the control tokens <｜begin▁of▁sentence｜>, <｜end▁of▁sentence｜>, <｜▁pad▁｜>; 3 + b the byte b;
 * 259..283 the results of its 25 merges, of which 280, "<t>", is an added token too; 284 "xyz", which no merge makes;
 * 285..287 the added tokens <｜User｜>, <think> and "<think> deep" (normalized: true).  Its pre-tokenizer is
 * DeepSeek-V3's.
 */
#ifndef OCTAVO_TESTS_TOKFILE_H
#define OCTAVO_TESTS_TOKFILE_H

#include "engine/text/tokenizer.h"

#include <jansson.h>

enum { TOKFILE_VOCAB = 300 };

/* tokenizer.json as it is; the caller owns it. */
json_t *tokfile_load(void);
/* Replaces or adds (or removes, with NULL) what is at a path like "model/merges/0"; `json` may be any JSON value. */
void tokfile_set(json_t *root, const char *path, const char *json);
/* Writes tokenizer.json and, unless NULL, tokenizer_config.json to a fresh directory and opens that. */
enum octavo_status tokfile_open(struct octavo_tokenizer **out, const json_t *root, const char *config, size_t vocab,
                                struct octavo_error *error);
/* The same for a text that need not be JSON. */
enum octavo_status tokfile_open_text(struct octavo_tokenizer **out, const char *text, const char *config, size_t vocab,
                                     struct octavo_error *error);

#endif
