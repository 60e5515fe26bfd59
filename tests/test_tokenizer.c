/* SPDX-License-Identifier: Apache-2.0
 *
 * Text to ids and back with a hand-made tokenizer of 288 tokens.  All expected ids were checked against Hugging Face's
 * `tokenizers`.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/text/tokenizer.h"
#include "octavo_engine.h"
#include "tests/support/tokfile.h"
#include "tests/support/vectors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The hand-made tokenizer with one change (none if path is NULL). */
static struct octavo_tokenizer *open_changed(const char *path, const char *json, const char *config)
{
	json_t *root = tokfile_load();
	if (path)
		tokfile_set(root, path, json);
	struct octavo_tokenizer *tokenizer;
	struct octavo_error error;
	if (tokfile_open(&tokenizer, root, config, TOKFILE_VOCAB, &error))
		fail_msg("%s", error.text);
	json_decref(root);
	return tokenizer;
}

/* ---- The hand-made tokenizer ---------------------------------------------------------------------------- */

static const struct vector words[] = {
        VECTOR("hello world", 262, 267),
        VECTOR("hello  world", 262, 35, 267),
        VECTOR("12345", 274, 55, 56),              /* digits in threes, from the left */
        VECTOR("中中文", 282, 282, 233, 153, 138), /* a character without merges is its bytes */
        VECTOR("aaaaa", 272, 100),                 /* leftmost of equal merges */
        VECTOR("aaa", 271, 100),
        VECTOR("abc", 100, 268), /* "b c" ranks before "a b" */
        VECTOR("abcabc'sx", 100, 268, 100, 268, 277, 123),
        VECTOR("xyz", 123, 124, 125), /* a token, but no merge makes it */
        VECTOR("café", 102, 100, 105, 283),
        VECTOR("\n\n   x", 278, 275, 35, 123), /* the look-ahead leaves one space to the x */
        VECTOR("a\0b", 100, 3, 101),
};

static void test_words(void **state)
{
	(void)state;
	struct octavo_tokenizer *tokenizer = open_changed(NULL, NULL, NULL);
	CHECK_VECTORS(tokenizer, 0, words);
	CHECK_VECTORS(tokenizer, OCTAVO_ENCODE_CONTROL, words);
	octavo_tokenizer_close(&tokenizer);
	assert_null(tokenizer);
}

static void test_array_merges(void **state)
{
	(void)state;
	json_t *root = tokfile_load(), *merges = json_object_get(json_object_get(root, "model"), "merges");
	for (size_t i = 0; i < json_array_size(merges); i++) {
		const char *merge = json_string_value(json_array_get(merges, i)), *space = strchr(merge, ' ');
		json_t *pair = json_pack("[s%s]", merge, (int)(space - merge), space + 1);
		assert_int_equal(json_array_set_new(merges, i, pair), 0);
	}
	struct octavo_tokenizer *tokenizer;
	assert_int_equal(tokfile_open(&tokenizer, root, NULL, TOKFILE_VOCAB, NULL), OCTAVO_OK);
	CHECK_VECTORS(tokenizer, 0, words);
	octavo_tokenizer_close(&tokenizer);
	json_decref(root);
}

static void test_ignore_merges(void **state)
{
	(void)state;
	static const struct vector whole[] = {
	        VECTOR("xyz", 284),
	        VECTOR("abc", 270),
	        VECTOR("xyz hello<t", 284, 35, 262, 279),
	};
	struct octavo_tokenizer *tokenizer = open_changed("model/ignore_merges", "true", NULL);
	CHECK_VECTORS(tokenizer, 0, whole);
	octavo_tokenizer_close(&tokenizer);
}

static void test_byte_level_variants(void **state)
{
	(void)state;
	static const struct vector gpt2[] = {
	        VECTOR("hello world12345", 262, 267, 274, 55, 56),
	        VECTOR("world", 122, 264, 266),
	        VECTOR("ab'sc   x", 269, 277, 102, 275, 35, 123),
	};
	struct octavo_tokenizer *tokenizer =
	        open_changed("pre_tokenizer", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", NULL);
	CHECK_VECTORS(tokenizer, 0, gpt2);
	octavo_tokenizer_close(&tokenizer);

	static const struct vector prefixed[] = {
	        VECTOR("world", 267), VECTOR(" world", 267),
	        VECTOR("world<think>world", 267, 286, 267), /* every section between added tokens */
	};
	tokenizer = open_changed("pre_tokenizer", "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", NULL);
	CHECK_VECTORS(tokenizer, OCTAVO_ENCODE_CONTROL, prefixed);
	octavo_tokenizer_close(&tokenizer);

	static const struct vector uncut[] = {VECTOR("12345 world  world", 274, 55, 56, 267, 35, 267)};
	tokenizer = open_changed("pre_tokenizer",
	                         "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}", NULL);
	CHECK_VECTORS(tokenizer, 0, uncut);
	octavo_tokenizer_close(&tokenizer);
}

static void test_nfc(void **state)
{
	(void)state;
	static const struct vector composed[] = {
	        VECTOR("cafe\xcc\x81", 102, 100, 105, 283),
	        VECTOR("\xe2\x84\xab", 198, 136), /* the Angstrom sign is a letter */
	        VECTOR("<think> deep", 287),
	};
	struct octavo_tokenizer *tokenizer =
	        open_changed("normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}", NULL);
	CHECK_VECTORS(tokenizer, OCTAVO_ENCODE_CONTROL, composed);

	char run[2 * 1200]; /* combining characters without end */
	for (size_t i = 0; i < sizeof run; i += 2)
		memcpy(run + i, "\xcc\x81", 2);
	size_t count;
	struct octavo_error error;
	assert_int_equal(octavo_tokenizer_encode(tokenizer, run, sizeof run, 0, NULL, 0, &count, &error),
	                 OCTAVO_ELIMIT);
	assert_string_equal(error.text, "text: more than 1000 combining characters in a row");
	octavo_tokenizer_close(&tokenizer);
}

/* ---- Control tokens ---------------------------------------------------------------------------------------- */

static const struct vector controls[] = {
        VECTOR("a<t>b<think> deep<think>x", 100, 280, 101, 287, 286, 123), /* the longest of two */
        VECTOR("<｜User｜>hello<｜end▁of▁sentence｜>", 285, 262, 1),
        VECTOR("<t><t>", 280, 280),
        VECTOR("<t", 279),
};

static void test_control(void **state)
{
	(void)state;
	struct octavo_tokenizer *tokenizer = open_changed(NULL, NULL, NULL);
	CHECK_VECTORS(tokenizer, OCTAVO_ENCODE_CONTROL, controls);
	octavo_tokenizer_close(&tokenizer);
}

/* Whether merging or looking up whole pieces, plain text must not come out as an added token. */
static void test_control_safety(void **state)
{
	(void)state;
	for (int ignore_merges = 0; ignore_merges < 2; ignore_merges++) {
		struct octavo_tokenizer *tokenizer =
		        open_changed("model/ignore_merges", ignore_merges ? "true" : "false", NULL);
		for (size_t i = 0; i < sizeof controls / sizeof *controls; i++) {
			int32_t id[MAX_IDS];
			size_t count, bytes = 0;
			assert_int_equal(octavo_tokenizer_encode(tokenizer, controls[i].text, controls[i].length, 0, id,
			                                         MAX_IDS, &count, NULL),
			                 OCTAVO_OK);
			for (size_t j = 0; j < count; j++) {
				size_t length;
				const char *text = octavo_tokenizer_text(tokenizer, id[j], &length);
				assert_true(id[j] >= 3 && id[j] <= 284 && id[j] != 280);
				assert_memory_equal(text, controls[i].text + bytes, length);
				bytes += length;
			}
			assert_int_equal(bytes, controls[i].length);
		}
		octavo_tokenizer_close(&tokenizer);
	}
}

static void test_bos(void **state)
{
	(void)state;
	static const struct {
		const char *config;
		int32_t bos;
	} cases[] = {
	        {NULL, -1},
	        {"{}", -1},
	        {"{\"add_bos_token\":false,\"bos_token\":\"<t>\"}", -1},
	        {"{\"add_bos_token\":null,\"bos_token\":7}", -1},
	        {"{\"add_bos_token\":true,\"bos_token\":\"<｜begin▁of▁sentence｜>\"}", 0},
	        {"{\"add_bos_token\":true,\"bos_token\":{\"content\":\"<｜User｜>\",\"lstrip\":false}}", 285},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct octavo_tokenizer *tokenizer = open_changed(NULL, NULL, cases[i].config);
		int32_t id[2];
		size_t count;
		assert_int_equal(octavo_tokenizer_bos(tokenizer), cases[i].bos);
		assert_int_equal(octavo_tokenizer_encode(tokenizer, "hello", 5, OCTAVO_ENCODE_BOS, id, 2, &count, NULL),
		                 OCTAVO_OK);
		assert_int_equal(count, cases[i].bos < 0 ? 1 : 2);
		assert_int_equal(id[count - 1], 262);
		if (cases[i].bos >= 0)
			assert_int_equal(id[0], cases[i].bos);
		octavo_tokenizer_close(&tokenizer);
	}
}

/* As Llama 3's file has it: no add_bos_token, but a template that begins with the token. */
static void test_bos_of_a_template(void **state)
{
#define PIECE(kind, name) "{\"" kind "\":{\"id\":\"" name "\",\"type_id\":0}}"
#define TEMPLATE(single) \
	"{\"type\":\"TemplateProcessing\",\"single\":[" single "],\"special_tokens\":{" \
	"\"<t>\":{\"id\":\"<t>\",\"ids\":[280],\"tokens\":[\"<t>\"]}}}"
#define WITH_BOS TEMPLATE(PIECE("SpecialToken", "<t>") "," PIECE("Sequence", "A"))
	static const struct {
		const char *processor, *config;
		int32_t bos;
	} cases[] = {
	        {WITH_BOS, NULL, 280},
	        {"{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"}," WITH_BOS "]}", "{}", 280},
	        {WITH_BOS, "{\"add_bos_token\":null}", 280},
	        {WITH_BOS, "{\"add_bos_token\":false}", -1},
	        {WITH_BOS, "{\"add_bos_token\":true,\"bos_token\":\"<｜begin▁of▁sentence｜>\"}", 0},
	        {TEMPLATE(PIECE("Sequence", "A") "," PIECE("SpecialToken", "<t>")), NULL, -1},
	        {TEMPLATE(PIECE("SpecialToken", "<t>") "," PIECE("SpecialToken", "<t>") "," PIECE("Sequence", "A")), NULL, -1},
	        {"{\"type\":\"ByteLevel\"}", NULL, -1},
	        {"null", NULL, -1},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct octavo_tokenizer *tokenizer =
		        open_changed("post_processor", cases[i].processor, cases[i].config);
		assert_int_equal(octavo_tokenizer_bos(tokenizer), cases[i].bos);
		/* its length is not asked for */
		assert_string_equal(octavo_tokenizer_text(tokenizer, 280, NULL), "<t>");
		octavo_tokenizer_close(&tokenizer);
	}
	json_t *root = tokfile_load();
	struct octavo_tokenizer *tokenizer;
	struct octavo_error error;
	tokfile_set(root, "post_processor", TEMPLATE(PIECE("SpecialToken", "<s>") "," PIECE("Sequence", "A")));
	assert_int_equal(tokfile_open(&tokenizer, root, NULL, TOKFILE_VOCAB, &error), OCTAVO_EFORMAT);
	assert_string_equal(error.text,
	                    "tokenizer.json: post_processor.special_tokens[\"<s>\"].ids: not an array of one id");
	json_decref(root);
}

/* ---- Limits ---------------------------------------------------------------------------------------------------- */

static void test_room(void **state)
{
	(void)state;
	struct octavo_tokenizer *tokenizer = open_changed(NULL, NULL, NULL);
	int32_t id[3] = {-7, -7, -7};
	size_t count;
	struct octavo_error error;
	assert_int_equal(octavo_tokenizer_encode(tokenizer, "12345", 5, 0, id, 2, &count, &error), OCTAVO_ELIMIT);
	assert_int_equal(count, 3);
	assert_int_equal(id[0], 274);
	assert_int_equal(id[2], -7);
	assert_string_equal(error.text, "text: 3 tokens, and there is room for 2");
	assert_int_equal(octavo_tokenizer_encode(tokenizer, "12345", 5, 0, NULL, 0, &count, NULL), OCTAVO_ELIMIT);
	assert_int_equal(count, 3);
	assert_int_equal(octavo_tokenizer_encode(tokenizer, "", 0, OCTAVO_ENCODE_BOS, NULL, 0, &count, NULL),
	                 OCTAVO_OK);
	assert_int_equal(count, 0);
	octavo_tokenizer_close(&tokenizer);
}

static void test_invalid_utf8(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int offset;
	} cases[] = {
	        {"ab\xff", 2},
	        {"\x80", 0},
	        {"a\xc3", 1},                    /* cut short */
	        {"aa\xc0\xaf", 2},               /* overlong */
	        {"\xe4\xb8\xad\xed\xa0\x80", 3}, /* a surrogate */
	        {"\xf4\x90\x80\x80", 0},         /* beyond U+10FFFF */
	};
	struct octavo_tokenizer *tokenizer = open_changed(NULL, NULL, NULL);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct octavo_error error;
		char want[64];
		size_t count;
		snprintf(want, sizeof want, "text: byte %d: not valid UTF-8", cases[i].offset);
		assert_int_equal(octavo_tokenizer_encode(tokenizer, cases[i].text, strlen(cases[i].text), 0, NULL, 0,
		                                         &count, &error),
		                 OCTAVO_EFORMAT);
		assert_string_equal(error.text, want);
	}
	octavo_tokenizer_close(&tokenizer);
}

static void test_token_text(void **state)
{
	(void)state;
	struct octavo_tokenizer *tokenizer = open_changed(NULL, NULL, NULL);
	static const struct {
		int32_t id;
		const char *text;
	} cases[] = {{0, "<｜begin▁of▁sentence｜>"},
	             {267, " world"},
	             {281, "\xe4\xb8"},
	             {280, "<t>"},
	             {287, "<think> deep"}};
	size_t length;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_string_equal(octavo_tokenizer_text(tokenizer, cases[i].id, &length), cases[i].text);
		assert_int_equal(length, strlen(cases[i].text));
	}
	static const int32_t none[] = {-1, 288, 299, 300, INT32_MAX};
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		assert_null(octavo_tokenizer_text(tokenizer, none[i], &length));
		assert_int_equal(length, 0);
	}
	octavo_tokenizer_close(&tokenizer);
}

/* A piece of a megabyte: merging must neither overflow nor take the square of its length. */
static void test_long_piece(void **state)
{
	(void)state;
	enum { BYTES = 1 << 20 };
	char *text = malloc(BYTES);
	int32_t *id = malloc(BYTES * sizeof *id);
	struct octavo_tokenizer *tokenizer = open_changed(NULL, NULL, NULL);
	size_t count;
	memset(text, 'a', BYTES);
	assert_int_equal(octavo_tokenizer_encode(tokenizer, text, BYTES, 0, id, BYTES, &count, NULL), OCTAVO_OK);
	assert_int_equal(count, BYTES / 4);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(id[i], 272);
	memset(text, ' ', BYTES);
	text[BYTES - 1] = 'x';
	assert_int_equal(octavo_tokenizer_encode(tokenizer, text, BYTES, 0, id, BYTES, &count, NULL), OCTAVO_OK);
	assert_int_equal(count, (BYTES - 2) / 2 + 2); /* pairs merge first, and no single one is left for a triple */
	assert_int_equal(id[0], 275);
	assert_int_equal(id[count - 2], 35);
	assert_int_equal(id[count - 1], 123);
	free(text);
	free(id);
	octavo_tokenizer_close(&tokenizer);
}

/* ---- Round trips ---------------------------------------------------------------------------------------------- */

static void test_round_trip(void **state)
{
	(void)state;
	struct octavo_tokenizer *tokenizer = open_changed(NULL, NULL, NULL);
	check_round_trips(tokenizer);
	octavo_tokenizer_close(&tokenizer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_words),
	        cmocka_unit_test(test_array_merges),
	        cmocka_unit_test(test_ignore_merges),
	        cmocka_unit_test(test_byte_level_variants),
	        cmocka_unit_test(test_nfc),
	        cmocka_unit_test(test_control),
	        cmocka_unit_test(test_control_safety),
	        cmocka_unit_test(test_bos),
	        cmocka_unit_test(test_bos_of_a_template),
	        cmocka_unit_test(test_room),
	        cmocka_unit_test(test_invalid_utf8),
	        cmocka_unit_test(test_token_text),
	        cmocka_unit_test(test_long_piece),
	        cmocka_unit_test(test_round_trip),
	};
	return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
