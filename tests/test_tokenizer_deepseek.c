/* SPDX-License-Identifier: Apache-2.0
 *
 * DeepSeek-V3's own tokenizer, where OCTAVO_DEEPSEEK_V3 names a directory with its tokenizer.json and
 * tokenizer_config.json.  All expected ids were checked against Hugging Face's `tokenizers`.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/text/tokenizer.h"
#include "octavo_engine.h"
#include "tests/support/vectors.h"

#include <stdlib.h>
#include <string.h>

/* NULL, said aloud, without it. */
static struct octavo_tokenizer *open_deepseek(void)
{
	const char *dir = getenv("OCTAVO_DEEPSEEK_V3");
	if (!dir || !*dir) {
		print_message("OCTAVO_DEEPSEEK_V3 is not set: DeepSeek-V3's tokenizer is not tested\n");
		return NULL;
	}
	struct octavo_tokenizer *tokenizer;
	struct octavo_error error;
	if (octavo_tokenizer_open(&tokenizer, dir, 129280, &error))
		fail_msg("%s", error.text);
	return tokenizer;
}

static const struct vector deepseek[] = {
        VECTOR("Hello, world!", 19923, 14, 2058, 3),
        VECTOR("Hello world", 19923, 2058),
        VECTOR("  leading", 223, 6646),
        VECTOR("a  b", 67, 223, 291),
        VECTOR("a   123", 67, 361, 6895),
        VECTOR("12345678", 6895, 18009, 2597),
        VECTOR("3.14159", 21, 16, 9926, 3318),
        VECTOR("你好，世界", 30594, 303, 3427),
        VECTOR("日本語テスト", 88768, 109288),
        VECTOR("こんにちは123abc", 4549, 7245, 2298, 12457, 2841, 6895, 32372),
        VECTOR("don't I'm we'll", 20385, 1664, 342, 4571, 579, 5922),
        VECTOR("foo_bar(x)=y;", 40897, 100869, 4042, 6912, 91, 29),
        VECTOR("\n\n  def f(x):\n\treturn x\n", 271, 223, 1351, 285, 4042, 3395, 5562, 1527, 201),
        VECTOR("tab\tsep\r\nline2", 14278, 200, 88351, 204, 201, 1836, 20),
        VECTOR("émigré café", 8242, 350, 17713, 57664),
        VECTOR("e\u0301", 71, 17793),
        VECTOR("👩\u200d👩\u200d👧", 25730, 105, 46088, 25730, 105, 46088, 25730, 103),
        VECTOR("\u200b zero", 35020, 8390),
        VECTOR("$100 + €20", 6, 1457, 940, 21820, 397),
        VECTOR("#include <stdio.h>", 6201, 818, 21968, 5196, 32),
        VECTOR("1/2 ²½", 19, 17, 20, 223, 1628, 23951),
        VECTOR("مرحبا بالعالم", 10393, 2212, 53067, 9254, 1183, 14059),
        VECTOR("   \n  x", 14320, 223, 1527),
        VECTOR(" !!! ", 4050, 6909, 223),
        VECTOR("end   ", 523, 361),
        VECTOR("<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>", 0, 128803, 23166, 128804),
};

static void test_vectors(void **state)
{
	(void)state;
	struct octavo_tokenizer *tokenizer = open_deepseek();
	if (!tokenizer)
		skip();
	CHECK_VECTORS(tokenizer, OCTAVO_ENCODE_CONTROL, deepseek);
	static const struct vector with_bos[] = {VECTOR("Hello world", 0, 19923, 2058)};
	CHECK_VECTORS(tokenizer, OCTAVO_ENCODE_BOS, with_bos);
	octavo_tokenizer_close(&tokenizer);
}

/* Here every piece that the patterns cut is one token. */
static void test_pieces(void **state)
{
	(void)state;
	struct octavo_tokenizer *tokenizer = open_deepseek();
	if (!tokenizer)
		skip();
	static const char text[] = "\n\n  def f(x):\n\treturn x\n";
	static const char *const piece[] = {"\n\n", " ", " def", " f", "(x", "):\n", "\treturn", " x", "\n"};
	int32_t id[MAX_IDS];
	size_t count;
	assert_int_equal(octavo_tokenizer_encode(tokenizer, text, strlen(text), 0, id, MAX_IDS, &count, NULL),
	                 OCTAVO_OK);
	assert_int_equal(count, 9);
	for (size_t i = 0; i < count; i++) {
		size_t length;
		assert_string_equal(octavo_tokenizer_text(tokenizer, id[i], &length), piece[i]);
	}
	octavo_tokenizer_close(&tokenizer);
}

static void test_control_safety(void **state)
{
	(void)state;
	struct octavo_tokenizer *tokenizer = open_deepseek();
	if (!tokenizer)
		skip();
	for (int32_t added = 0; added < 128815; added = added == 2 ? 128000 : added + 1) {
		size_t length, count;
		const char *text = octavo_tokenizer_text(tokenizer, added, &length);
		int32_t id[MAX_IDS];
		assert_int_equal(octavo_tokenizer_encode(tokenizer, text, length, 0, id, MAX_IDS, &count, NULL),
		                 OCTAVO_OK);
		assert_true(count > 1);
		for (size_t i = 0; i < count; i++)
			assert_true(id[i] > 2 && id[i] < 128000);
		assert_int_equal(octavo_tokenizer_encode(tokenizer, text, length, OCTAVO_ENCODE_CONTROL, id, MAX_IDS,
		                                         &count, NULL),
		                 OCTAVO_OK);
		assert_int_equal(count, 1);
		assert_int_equal(id[0], added);
	}
	octavo_tokenizer_close(&tokenizer);
}

static void test_round_trip(void **state)
{
	(void)state;
	struct octavo_tokenizer *tokenizer = open_deepseek();
	if (!tokenizer)
		skip();
	check_round_trips(tokenizer);
	octavo_tokenizer_close(&tokenizer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_vectors),
	        cmocka_unit_test(test_pieces),
	        cmocka_unit_test(test_control_safety),
	        cmocka_unit_test(test_round_trip),
	};
	return cmocka_run_group_tests_name("DeepSeek-V3's tokenizer", tests, NULL, NULL);
}
