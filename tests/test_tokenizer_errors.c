/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokenizer files that are broken, or that ask for what is not implemented: each is refused with its own message.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/text/tokenizer.h"
#include "octavo_engine.h"
#include "tests/support/ckpt.h"
#include "tests/support/tokfile.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Opening must have failed like this. */
static void check_failure(enum octavo_status status, const struct octavo_tokenizer *tokenizer,
                          const struct octavo_error *error, enum octavo_status want, const char *message)
{
	assert_int_equal(status, want);
	assert_string_equal(error->text, message);
	assert_null(tokenizer);
}

struct bad_file {
	const char *path, *json; /* one change to the hand-made tokenizer.json; NULL removes */
	enum octavo_status status;
	const char *message; /* after "tokenizer.json: " */
};

static void check_files(const struct bad_file *bad, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		json_t *root = tokfile_load();
		tokfile_set(root, bad[i].path, bad[i].json);
		struct octavo_tokenizer *tokenizer;
		struct octavo_error error = {""};
		enum octavo_status status = tokfile_open(&tokenizer, root, NULL, TOKFILE_VOCAB, &error);
		static const char file[] = "tokenizer.json: ";
		assert_memory_equal(error.text, file, sizeof file - 1);
		memmove(error.text, error.text + sizeof file - 1, strlen(error.text + sizeof file - 1) + 1);
		check_failure(status, tokenizer, &error, bad[i].status, bad[i].message);
		json_decref(root);
	}
}
#define CHECK_FILES(table) check_files(table, sizeof(table) / sizeof *(table))

static void test_model(void **state)
{
	(void)state;
	static const struct bad_file bad[] = {
	        {"model", NULL, OCTAVO_EFORMAT, "model.type: missing"},
	        {"model", "[]", OCTAVO_EFORMAT, "model.type: missing"},
	        {"model/type", "\"Unigram\"", OCTAVO_ENOTSUP, "model.type: \"Unigram\" is not supported, only BPE"},
	        {"model/type", "7", OCTAVO_EFORMAT, "model.type: not a string"},
	        {"model/dropout", "0.1", OCTAVO_ENOTSUP, "model.dropout: 0.1 is not supported, only 0"},
	        {"model/continuing_subword_prefix", "\"##\"", OCTAVO_ENOTSUP,
	         "model.continuing_subword_prefix: not supported"},
	        {"model/end_of_word_suffix", "\"</w>\"", OCTAVO_ENOTSUP, "model.end_of_word_suffix: not supported"},
	        {"model/ignore_merges", "1", OCTAVO_EFORMAT, "model.ignore_merges: neither true nor false"},
	        {"decoder", "null", OCTAVO_EFORMAT, "decoder.type: missing"},
	        {"decoder/type", "\"Metaspace\"", OCTAVO_ENOTSUP,
	         "decoder.type: \"Metaspace\" is not supported, only ByteLevel"},
	};
	CHECK_FILES(bad);
}

static void test_vocab(void **state)
{
	(void)state;
	static const struct bad_file bad[] = {
	        {"model/vocab", NULL, OCTAVO_EFORMAT, "model.vocab: missing"},
	        {"model/vocab", "[]", OCTAVO_EFORMAT, "model.vocab: not an object"},
	        {"model/vocab", "{}", OCTAVO_EFORMAT, "model.vocab: no token for the byte 0x00"},
	        {"model/vocab/a", NULL, OCTAVO_EFORMAT, "model.vocab: no token for the byte 0x61"},
	        {"model/vocab/a", "\"100\"", OCTAVO_EFORMAT, "model.vocab[\"a\"]: not an integer"},
	        {"model/vocab/a", "1.0", OCTAVO_EFORMAT, "model.vocab[\"a\"]: not an integer"},
	        {"model/vocab/a", "-1", OCTAVO_EFORMAT, "model.vocab[\"a\"]: id -1 is negative"},
	        {"model/vocab/a", "300", OCTAVO_EFORMAT,
	         "model.vocab[\"a\"]: id 300 is not below the model's vocabulary of 300"},
	        {"model/vocab/new", "100", OCTAVO_EFORMAT, "model.vocab[\"new\"]: id 100 is taken by another token"},
	};
	CHECK_FILES(bad);
}

static void test_merges(void **state)
{
	(void)state;
	static const struct bad_file bad[] = {
	        {"model/merges", NULL, OCTAVO_EFORMAT, "model.merges: missing"},
	        {"model/merges", "{}", OCTAVO_EFORMAT, "model.merges: not an array"},
	        {"model/merges/3", "7", OCTAVO_EFORMAT, "model.merges[3]: not two tokens"},
	        {"model/merges/3", "\"ab\"", OCTAVO_EFORMAT, "model.merges[3]: not two tokens"},
	        {"model/merges/3", "\"a b c\"", OCTAVO_EFORMAT, "model.merges[3]: not two tokens"},
	        {"model/merges/3", "[\"a\"]", OCTAVO_EFORMAT, "model.merges[3]: not two tokens"},
	        {"model/merges/3", "[\"a\", null]", OCTAVO_EFORMAT, "model.merges[3]: not two tokens"},
	        {"model/merges/3", "\"qq a\"", OCTAVO_EFORMAT, "model.merges[3]: \"qq\" is not in model.vocab"},
	        {"model/merges/3", "[\"a\", \"日\"]", OCTAVO_EFORMAT, "model.merges[3]: \"日\" is not in model.vocab"},
	        {"model/merges/3", "\"a q\"", OCTAVO_EFORMAT,
	         "model.merges[3]: \"a\" and \"q\" make no token of model.vocab"},
	};
	CHECK_FILES(bad);
}

static void test_added_tokens(void **state)
{
	(void)state;
	static const struct bad_file bad[] = {
	        {"added_tokens", "{}", OCTAVO_EFORMAT, "added_tokens: not an array"},
	        {"added_tokens/1", "7", OCTAVO_EFORMAT, "added_tokens[1].content: missing"},
	        {"added_tokens/1/content", "\"\"", OCTAVO_EFORMAT, "added_tokens[1].content: empty"},
	        {"added_tokens/1/id", "null", OCTAVO_EFORMAT, "added_tokens[1].id: not an integer"},
	        {"added_tokens/6/id", "300", OCTAVO_EFORMAT,
	         "added_tokens[6].id: id 300 is not below the model's vocabulary of 300"},
	        {"added_tokens/6/id", "285", OCTAVO_EFORMAT, "added_tokens[6].id: 285 is taken by another token"},
	        {"added_tokens/6/id", "100", OCTAVO_EFORMAT, "added_tokens[6].id: 100 is taken by another token"},
	        {"added_tokens/1/id", "290", OCTAVO_EFORMAT, "added_tokens[1].id: 290, but model.vocab has 1"},
	        {"added_tokens/6/content", "\"<think>\"", OCTAVO_EFORMAT, "added_tokens: \"<think>\" occurs twice"},
	        {"added_tokens/1/lstrip", "true", OCTAVO_ENOTSUP, "added_tokens[1].lstrip: true is not supported"},
	        {"added_tokens/1/rstrip", "true", OCTAVO_ENOTSUP, "added_tokens[1].rstrip: true is not supported"},
	        {"added_tokens/1/single_word", "true", OCTAVO_ENOTSUP,
	         "added_tokens[1].single_word: true is not supported"},
	        {"added_tokens/1/normalized", "\"no\"", OCTAVO_EFORMAT,
	         "added_tokens[1].normalized: neither true nor false"},
	};
	CHECK_FILES(bad);
}

static void test_normalizer(void **state)
{
	(void)state;
	static const struct bad_file bad[] = {
	        {"normalizer", "\"NFC\"", OCTAVO_EFORMAT, "normalizer.type: missing"},
	        {"normalizer", "{\"type\":\"NFKC\"}", OCTAVO_ENOTSUP,
	         "normalizer.type: \"NFKC\" is not supported, only NFC"},
	        {"normalizer", "{\"type\":\"Sequence\"}", OCTAVO_EFORMAT, "normalizer.normalizers: missing"},
	        {"normalizer/normalizers", "[{\"type\":\"NFC\"},{\"type\":\"Lowercase\"}]", OCTAVO_ENOTSUP,
	         "normalizer.type: \"Lowercase\" is not supported, only NFC"},
	};
	CHECK_FILES(bad);
}

static void test_pre_tokenizer(void **state)
{
	(void)state;
	static const struct bad_file bad[] = {
	        {"pre_tokenizer", "null", OCTAVO_EFORMAT, "pre_tokenizer.type: missing"},
	        {"pre_tokenizer", "{\"type\":\"Metaspace\"}", OCTAVO_ENOTSUP,
	         "pre_tokenizer.type: \"Metaspace\" is not supported, only Split, Digits and ByteLevel in a Sequence"},
	        {"pre_tokenizer", "{\"type\":\"Digits\",\"individual_digits\":true}", OCTAVO_ENOTSUP,
	         "pre_tokenizer.type: only byte-level BPE is supported, and this is \"Digits\""},
	        {"pre_tokenizer/pretokenizers", "7", OCTAVO_EFORMAT, "pre_tokenizer.pretokenizers: not an array"},
	        {"pre_tokenizer/pretokenizers", "[]", OCTAVO_ENOTSUP,
	         "pre_tokenizer.pretokenizers: only byte-level BPE is supported, and no step is ByteLevel"},
	        {"pre_tokenizer/pretokenizers/4", "{\"type\":\"Digits\"}", OCTAVO_ENOTSUP,
	         "pre_tokenizer.pretokenizers[4].type: a step after ByteLevel is not supported"},
	        {"pre_tokenizer/pretokenizers/1", "{\"type\":\"Whitespace\"}", OCTAVO_ENOTSUP,
	         "pre_tokenizer.pretokenizers[1].type: \"Whitespace\" is not supported, only Split, Digits and "
	         "ByteLevel in a Sequence"},
	        {"pre_tokenizer/pretokenizers/1/behavior", "\"Sideways\"", OCTAVO_ENOTSUP,
	         "pre_tokenizer.pretokenizers[1].behavior: \"Sideways\" is not supported"},
	        {"pre_tokenizer/pretokenizers/1/invert", "0", OCTAVO_EFORMAT,
	         "pre_tokenizer.pretokenizers[1].invert: neither true nor false"},
	        {"pre_tokenizer/pretokenizers/1/pattern", "\"x\"", OCTAVO_EFORMAT,
	         "pre_tokenizer.pretokenizers[1].pattern: neither {\"Regex\": ..} nor {\"String\": ..}"},
	        {"pre_tokenizer/pretokenizers/1/pattern/String", "\"x\"", OCTAVO_EFORMAT,
	         "pre_tokenizer.pretokenizers[1].pattern: neither {\"Regex\": ..} nor {\"String\": ..}"},
	        {"pre_tokenizer/pretokenizers/1/pattern", "{\"String\":\"\"}", OCTAVO_ENOTSUP,
	         "pre_tokenizer.pretokenizers[1].pattern: empty"},
	        {"pre_tokenizer/pretokenizers/3/use_regex", "\"yes\"", OCTAVO_EFORMAT,
	         "pre_tokenizer.pretokenizers[3].use_regex: neither true nor false"},
	};
	CHECK_FILES(bad);
}

/* Texts that are no tokenizer.json at all. */
static void test_not_json(void **state)
{
	(void)state;
	static const struct {
		const char *text, *start; /* of the message: the rest is the parser's own */
	} cases[] = {
	        {"", "tokenizer.json: line 1: "},
	        {"[1]", "tokenizer.json: not a JSON object"},
	        {"{\"model\": {\"type\": \"BPE\",\n\"vocab\": {\"a\": 1", "tokenizer.json: line 2: "},
	        {"{\"model\": {},\n\n \"model\": {}}", "tokenizer.json: line 3: duplicate object key"},
	        {"{\"model\": \"\\u0000\"}", "tokenizer.json: line 1: "},
	        {"{\"model\": \"\xff\"}", "tokenizer.json: line 1: "},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct octavo_tokenizer *tokenizer;
		struct octavo_error error = {""};
		assert_int_equal(tokfile_open_text(&tokenizer, cases[i].text, NULL, TOKFILE_VOCAB, &error),
		                 OCTAVO_EFORMAT);
		assert_memory_equal(error.text, cases[i].start, strlen(cases[i].start));
		assert_null(tokenizer);
	}
}

/* Wherever the file ends too early, it is refused, and not by a crash. */
static void test_truncated(void **state)
{
	(void)state;
	json_t *root = tokfile_load();
	char *text = json_dumps(root, 0);
	assert_non_null(text);
	for (size_t length = strlen(text); length > 0; length -= length < 97 ? length : 97) {
		text[length - 1] = '\0';
		struct octavo_tokenizer *tokenizer;
		struct octavo_error error;
		enum octavo_status status = tokfile_open_text(&tokenizer, text, NULL, TOKFILE_VOCAB, &error);
		assert_int_equal(status, OCTAVO_EFORMAT);
		assert_null(tokenizer);
		assert_non_null(strstr(error.text, "tokenizer.json: line 1: "));
	}
	free(text);
	json_decref(root);
}

/* Whatever a few changed bytes make of the file: it opens and encodes, or it is refused with a message. */
static void test_mutated(void **state)
{
	(void)state;
	json_t *root = tokfile_load();
	char *whole = json_dumps(root, JSON_COMPACT);
	assert_non_null(whole);
	size_t length = strlen(whole);
	char *text = malloc(length + 1);
	assert_non_null(text);
	static const char bytes[] = "\"\\[]{}()*+?:,0129-aZ \x80\xff";
	uint64_t random = 7;
	for (int i = 0; i < 1500; i++) {
		memcpy(text, whole, length + 1);
		for (int changes = 1 + i % 3; changes > 0; changes--) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			text[(random >> 33) % length] = bytes[(random >> 16) % (sizeof bytes - 1)];
		}
		struct octavo_tokenizer *tokenizer;
		struct octavo_error error = {""};
		enum octavo_status status = tokfile_open_text(&tokenizer, text, NULL, TOKFILE_VOCAB, &error);
		static const char sample[] = "hello  wörld 12345<think>中\n\n x";
		int32_t id[64];
		size_t count;
		if (!status)
			status = octavo_tokenizer_encode(tokenizer, sample, sizeof sample - 1, OCTAVO_ENCODE_CONTROL,
			                                 id, 64, &count, &error);
		octavo_tokenizer_close(&tokenizer);
		assert_true(status == OCTAVO_OK || (status >= OCTAVO_ELIMIT && status <= OCTAVO_EFORMAT));
		assert_true(status == OCTAVO_OK || error.text[0]);
	}
	free(text);
	free(whole);
	json_decref(root);
}

static void test_tokenizer_config(void **state)
{
	(void)state;
	static const struct {
		const char *config, *message;
	} cases[] = {
	        {"[]", "tokenizer_config.json: not a JSON object"},
	        {"{\"add_bos_token\":1}", "tokenizer_config.json: add_bos_token: neither true nor false"},
	        {"{\"add_bos_token\":true}", "tokenizer_config.json: bos_token: missing"},
	        {"{\"add_bos_token\":true,\"bos_token\":0}", "tokenizer_config.json: bos_token: not a string"},
	        {"{\"add_bos_token\":true,\"bos_token\":{}}", "tokenizer_config.json: bos_token.content: missing"},
	        {"{\"add_bos_token\":true,\"bos_token\":\"<s>\"}",
	         "tokenizer_config.json: bos_token: \"<s>\" is no token of tokenizer.json"},
	};
	json_t *root = tokfile_load();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct octavo_tokenizer *tokenizer;
		struct octavo_error error;
		enum octavo_status status = tokfile_open(&tokenizer, root, cases[i].config, TOKFILE_VOCAB, &error);
		check_failure(status, tokenizer, &error, OCTAVO_EFORMAT, cases[i].message);
	}
	json_decref(root);
}

static void test_arguments(void **state)
{
	(void)state;
	struct octavo_tokenizer *tokenizer;
	struct octavo_error error;
	enum octavo_status status = octavo_tokenizer_open(&tokenizer, "/nonexistent", TOKFILE_VOCAB, &error);
	assert_int_equal(status, OCTAVO_EIO);
	assert_non_null(strstr(error.text, "tokenizer.json"));
	assert_null(tokenizer);
	char *dir = ckpt_dir_new(); /* a vocabulary of another kind, as Kimi K2's */
	ckpt_write_file(dir, "tiktoken.model", "IQ== 0\n", 7);
	assert_int_equal(octavo_tokenizer_open(&tokenizer, dir, TOKFILE_VOCAB, &error), OCTAVO_ENOTSUP);
	assert_non_null(strstr(error.text, "/tiktoken.model: not supported"));
	ckpt_dir_free(dir);
	static const size_t sizes[] = {0, (size_t)INT32_MAX + 1, SIZE_MAX};
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(octavo_tokenizer_open(&tokenizer, ".", sizes[i], NULL), OCTAVO_EINVAL);
	octavo_tokenizer_close(&tokenizer); /* of what could not be opened */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_model),      cmocka_unit_test(test_vocab),
	        cmocka_unit_test(test_merges),     cmocka_unit_test(test_added_tokens),
	        cmocka_unit_test(test_normalizer), cmocka_unit_test(test_pre_tokenizer),
	        cmocka_unit_test(test_not_json),   cmocka_unit_test(test_truncated),
	        cmocka_unit_test(test_mutated),    cmocka_unit_test(test_tokenizer_config),
	        cmocka_unit_test(test_arguments),
	};
	return cmocka_run_group_tests_name("tokenizer errors", tests, NULL, NULL);
}
