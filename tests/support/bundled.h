/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests of the bundled model: where it is, and its prompts.
 */
#ifndef OCTAVO_TEST_BUNDLED_H
#define OCTAVO_TEST_BUNDLED_H

#include "tests/support/model.h"

#include <stdio.h>

enum { MOST_PROMPT = 512 };

/* The path of one of its files, "" for its directory; valid until the next call. */
const char *bundled_path(const char *file);
/* Skips the test, and says why, where the model is not there. */
void need_bundled(void);
/* The next prompt of an open prompts.jsonl, encoded; 0 at its end.  Fails the test for a line that is none. */
size_t read_prompt(FILE *file, const struct octavo_engine *e, int32_t prompt[MOST_PROMPT]);

#endif
