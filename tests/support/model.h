/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests that run whole models: opening a checkpoint of the source tree, running token sequences.
 */
#ifndef OCTAVO_TEST_MODEL_H
#define OCTAVO_TEST_MODEL_H

#include "engine/internal.h"

/* The path of a file below the source tree's root; valid until the next call. */
const char *source_path(const char *relative);

/* Opens tests/data/NAME (or NAME itself if it is absolute) and fails the test with the error text otherwise. */
struct octavo_engine *open_model(const char *name, const struct octavo_engine_settings *settings);

/* Runs token[count] through the main model in sequence 0, `chunk` rows at a time, and commits them.
 * logits [count][vocab] and post [count][hidden], the state after the final norm, may be NULL. */
void run_tokens(struct octavo_engine *e, const int32_t *token, size_t count, size_t chunk, uint8_t flags, float *logits,
                float *post);

#endif
