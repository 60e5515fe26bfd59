/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/vectors.h"

#include "octavo_engine.h"
#include "tests/support/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

static void check_vector(const struct octavo_tokenizer *tokenizer, const struct vector *vector, unsigned flags)
{
	int32_t id[MAX_IDS];
	size_t count;
	struct octavo_error error;
	enum octavo_status status =
	        octavo_tokenizer_encode(tokenizer, vector->text, vector->length, flags, id, MAX_IDS, &count, &error);
	if (status)
		fail_msg("\"%s\": %s", vector->text, error.text);
	int same = count == vector->count && memcmp(id, vector->id, count * sizeof *id) == 0;
	if (!same) {
		print_error("\"%s\" gave", vector->text);
		for (size_t i = 0; i < count; i++)
			print_error(" %d", (int)id[i]);
		print_error("\n");
	}
	assert_true(same);
}

void check_vectors(const struct octavo_tokenizer *tokenizer, unsigned flags, const struct vector *table, size_t count)
{
	for (size_t i = 0; i < count; i++)
		check_vector(tokenizer, &table[i], flags);
}

static uint64_t random_state;
static uint32_t random_below(uint32_t n)
{
	return random_bits(&random_state) % n;
}

/* Appends a random character: ASCII, white space, any of the basic plane, any at all. */
static size_t random_character(char *out)
{
	static const char *const spaces[] = {" ", "\n", "\r\n", "\t", "\xc2\xa0", "\xe3\x80\x80", "\xe2\x80\x8b"};
	uint32_t kind = random_below(4), c;
	if (kind == 1) {
		const char *space = spaces[random_below(7)];
		memcpy(out, space, strlen(space));
		return strlen(space);
	}
	do
		c = random_below(kind == 0 ? 0x80 : kind == 2 ? 0x10000 : 0x110000);
	while (c >= 0xd800 && c < 0xe000);
	size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
	for (size_t i = length; i-- > 1; c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)(lead[length] | c);
	return length;
}

static void round_trip(const struct octavo_tokenizer *tokenizer, const char *text, size_t bytes, unsigned flags)
{
	int32_t id[1024];
	size_t count, at = 0;
	struct octavo_error error;
	if (octavo_tokenizer_encode(tokenizer, text, bytes, flags, id, 1024, &count, &error))
		fail_msg("%s", error.text);
	for (size_t i = 0; i < count; i++) {
		size_t length;
		const char *token = octavo_tokenizer_text(tokenizer, id[i], &length);
		assert_non_null(token);
		assert_true(length <= bytes - at);
		assert_memory_equal(token, text + at, length);
		at += length;
	}
	assert_int_equal(at, bytes);
}

void check_round_trips(const struct octavo_tokenizer *tokenizer)
{
	random_state = 20240101;
	for (int i = 0; i < 3000; i++) {
		char text[1024];
		size_t bytes = 0;
		for (uint32_t characters = random_below(200); characters > 0; characters--)
			bytes += random_character(text + bytes);
		round_trip(tokenizer, text, bytes, i % 2 ? OCTAVO_ENCODE_CONTROL : 0);
	}
}
