/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts and the ids that a tokenizer has to give for them.
 */
#ifndef OCTAVO_TEST_VECTORS_H
#define OCTAVO_TEST_VECTORS_H

#include "engine/text/tokenizer.h"

enum { MAX_IDS = 64 };

struct vector {
	const char *text;
	size_t length;
	int32_t id[32];
	size_t count;
};
#define VECTOR(text, ...)                                                                                              \
	{                                                                                                              \
		text, sizeof(text) - 1, {__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)              \
	}

/* Encodes each text of an array; fails the test for other ids. */
#define CHECK_VECTORS(tokenizer, flags, table) check_vectors(tokenizer, flags, table, sizeof(table) / sizeof *(table))
void check_vectors(const struct octavo_tokenizer *tokenizer, unsigned flags, const struct vector *table, size_t count);

/* Random texts come back byte for byte. */
void check_round_trips(const struct octavo_tokenizer *tokenizer);

#endif
