/* SPDX-License-Identifier: Apache-2.0
 *
 * Cutting text into pieces: patterns, what they mean in Oniguruma, split behaviours, and what is refused.  The pieces
 * expected here are those of Hugging Face's `tokenizers`.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/text/text.h"

#include <stdlib.h>
#include <string.h>

static const char byte_level[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}";

/* A Sequence of `step` (takes the reference) and ByteLevel. */
static json_t *sequence(json_t *step)
{
	json_t *last = json_loads(byte_level, 0, NULL);
	return json_pack("{s:s, s:[o, o]}", "type", "Sequence", "pretokenizers", step, last);
}

static json_t *split(const char *kind, const char *pattern, const char *behavior, int invert)
{
	return sequence(json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", kind, pattern, "behavior",
	                          behavior, "invert", invert));
}

/* The text's pieces must be those in `want`, where | stands between them.  Takes the reference to json. */
static void check_pieces(json_t *json, const char *what, const char *text, const char *want)
{
	struct octavo_pretokenizer pretokenizer;
	struct octavo_pieces pieces = {0};
	struct octavo_error error;
	if (octavo_pretokenizer_open(&pretokenizer, json, &error) ||
	    octavo_pretokenize(&pretokenizer, text, strlen(text), &pieces, &error))
		fail_msg("%s: %s", what, error.text);
	char got[256];
	size_t length = 0;
	for (size_t i = 0; i < pieces.count; i++) {
		size_t bytes = pieces.piece[i].end - pieces.piece[i].start;
		assert_in_range(length + bytes + 2, 0, sizeof got);
		if (i > 0)
			got[length++] = '|';
		memcpy(got + length, pieces.text + pieces.piece[i].start, bytes);
		length += bytes;
	}
	got[length] = '\0';
	if (strcmp(got, want) != 0)
		print_error("%s on \"%s\"\n", what, text);
	assert_string_equal(got, want);
	octavo_pieces_free(&pieces);
	octavo_pretokenizer_close(&pretokenizer);
	json_decref(json);
}

struct split_case {
	const char *behavior;
	int invert;
	const char *pattern, *text, *pieces;
};
static const struct split_case splits[] = {
        {"Isolated", 0, "\\s|\\p{N}", "one  2x3,y", "one| | |2|x|3|,y"},
        {"Isolated", 1, "\\s|\\p{N}", "one  2x3,y", "one| | |2|x|3|,y"},
        {"Removed", 0, "\\s|\\p{N}", "one  2x3,y", "one|x|,y"},
        {"Removed", 1, "\\s|\\p{N}", "one  2x3,y", " | |2|3"},
        {"Contiguous", 0, "\\s|\\p{N}", "one  2x3,y", "one|  2|x|3|,y"},
        {"Contiguous", 1, "\\s|\\p{N}", "one  2x3,y", "one|  2|x|3|,y"},
        {"MergedWithPrevious", 0, "\\s|\\p{N}", "one  2x3,y", "one | |2|x3|,y"},
        {"MergedWithPrevious", 1, "\\s|\\p{N}", "one  2x3,y", "one| | |2x|3,y"},
        {"MergedWithNext", 0, "\\s|\\p{N}", "one  2x3,y", "one| | |2x|3,y"},
        {"MergedWithNext", 1, "\\s|\\p{N}", "one  2x3,y", "one | |2|x3|,y"},
        {"MergedWithPrevious", 1, "x*", "axxb", "a|xxb"},
};

static void test_behaviors(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof splits / sizeof *splits; i++)
		check_pieces(split("Regex", splits[i].pattern, splits[i].behavior, splits[i].invert),
		             splits[i].behavior, splits[i].text, splits[i].pieces);
}

struct pattern_case {
	const char *pattern, *text, *pieces;
};
static const struct pattern_case patterns[] = {
        {"\\p{N}{1,3}", "1234567 89", "123|456|7| |89"},
        {"(?=[A-Z])", "oneTwoThree", "one|Two|Three"},
        {"(?<=,)", "a,b,,c", "a,|b,|,|c"},
        {"x*", "axxb", "a|xx|b"},
        {"\\s+", "a\302\240\343\200\200b\341\240\216c\342\200\213d\302\205e",
         "a|\302\240\343\200\200|b\341\240\216c\342\200\213d|\302\205|e"},
        {"\\S+", "a\302\240\343\200\200b\341\240\216c", "a|\302\240\343\200\200|b\341\240\216c"},
        {"[\\s,]+", "a \342\200\203,b\341\240\216c", "a| \342\200\203,|b\341\240\216c"},
        {"[^\\s\\p{L}]+", "ab,.c !\342\200\211?", "ab|,.|c |!|\342\200\211|?"},
        {"[\\S\\n]+", "a b\nc\td", "a| |b\nc|\t|d"},
        {"[\\s-]+", "a - b-c.d", "a| - |b|-|c.d"},
        {"[a-c-]+", "ab-c-d-", "ab-c-|d|-"},
        {"[--0]+", "a-b./0,", "a|-|b|./0|,"},
        {"[+--]+", "a+b,-.", "a|+|b|,-|."},
        {"\\s+$", "a \n b  ", "a| |\n b|  "},
        {"^\\s", "\ta\n b", "\t|a\n| |b"},
        {"a.b", "a\nb acb a\rb", "a\nb |acb| |a\rb"},
        {"(?i:'s|'re)", "it'S we'Re a'ſ x's", "it|'S| we|'Re| a|'ſ| x|'s"},
        {"(?i)ab|cd", "ABxCdy", "AB|x|Cd|y"},
        {"\\p{Han}+", "中文、ー漢字々", "中文|、ー|漢字々"},
        {"\\P{Han}+", "中、文ab", "中|、|文|ab"},
        {"\\p{^L}+", "ab12cd", "ab|12|cd"},
        {"\\p{Lu}\\p{Ll}+", "FooBarBAZ", "Foo|Bar|BAZ"},
        {"[\\u4e00-\\u9fa5]+", "a中b", "a|中|b"},
        {"\\x{3042}|\\x41", "aAあ", "a|A|あ"},
        {"\\v+", "a\013\nb", "a|\013|\nb"},
        {"a++b|a?+c", "aab aac", "aab| a|ac"},
        {"(?>ab?)+", "aabab c", "aabab| c"},
        {"(ab|c)+?d", "abcd cd", "abcd| |cd"},
        {"\\.\\*\\[\\]", "a.*[]b", "a|.*[]|b"},
        {"a{2,}", "a aa aaa", "a |aa| |aaa"},
};

static void test_patterns(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
		check_pieces(split("Regex", patterns[i].pattern, "Isolated", 0), patterns[i].pattern, patterns[i].text,
		             patterns[i].pieces);
}

static void test_literals(void **state)
{
	(void)state;
	check_pieces(split("String", ".", "Isolated", 0), "a full stop", "a.b..c", "a|.|b|.|.|c");
	check_pieces(split("String", "[a", "Isolated", 0), "a bracket", "x[ay", "x|[a|y");
}

static void test_digits(void **state)
{
	(void)state;
	for (int individual = 0; individual < 2; individual++)
		check_pieces(sequence(json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", individual)),
		             "Digits", "a12b²½三Ⅳ", individual ? "a|1|2|b|²|½|三|Ⅳ" : "a|12|b|²½|三|Ⅳ");
}

/* ByteLevel puts a space before each piece of the steps before it. */
static void test_prefix_space(void **state)
{
	(void)state;
	check_pieces(
	        json_loads("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},"
	                   "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":true}]}",
	                   0, NULL),
	        "ByteLevel", "a1 b", " a| 1| b");
}

/* What means something else in PCRE2, or nothing. */
static void test_refused_patterns(void **state)
{
	(void)state;
	static const struct {
		const char *pattern, *reason;
	} cases[] = {
	        {"", "empty"},
	        {"a\\h", "\"\\h\" at byte 1: this escape is not supported"},
	        {"\\w+", "\"\\w\" at byte 0: this escape is not supported"},
	        {"\\b", "\"\\b\" at byte 0: this escape is not supported"},
	        {"(a)\\1", "\"\\1\" at byte 3: this escape is not supported"},
	        {"[\\z]", "\"\\z\" at byte 1: this escape is not supported"},
	        {"a\\", "\"\\\" at byte 1: this escape is not supported"},
	        {"\\pL", "\"\\p\" at byte 0: a property needs a name in braces"},
	        {"\\p{}", "\"\\p\" at byte 0: a property needs a name in braces"},
	        {"\\p{L", "\"\\p\" at byte 0: a property needs a name in braces"},
	        {"\\x{110000000}", "\"\\x\" at byte 0: not a hexadecimal code point"},
	        {"\\x{41", "\"\\x\" at byte 0: not a hexadecimal code point"},
	        {"\\u41", "\"\\u\" at byte 0: not a hexadecimal code point"},
	        {"\\xe9",
	         "\"\\xe9\" at byte 0: a single byte beyond ASCII is not supported; write \\x{..} for a character"},
	        {"[a&&b]", "\"&&\" at byte 2: class intersection is not supported"},
	        {"[a[b]]", "\"[\" at byte 2: a class within a class is not supported"},
	        {"[[:alpha:]]", "\"[\" at byte 1: a class within a class is not supported"},
	        {"x[]a]", "\"[]\" at byte 1: an empty class, or a bracket that should be escaped"},
	        {"[a", "\"[\" at byte 0: a class without end"},
	        {"[a-", "\"[\" at byte 0: a class without end"},
	        {"a(?i)b", "\"(?i)\" at byte 1: this kind of group is not supported"},
	        {"(?m:a)", "\"(?m:\" at byte 0: this kind of group is not supported"},
	        {"(*UTF)a", "\"(*UT\" at byte 0: this kind of group is not supported"},
	        {"a{2}+", "\"{\" at byte 1: not an interval {n}, {n,} or {n,m} that both kinds of pattern read alike"},
	        {"a{,2}", "\"{\" at byte 1: not an interval {n}, {n,} or {n,m} that both kinds of pattern read alike"},
	        {"a{2}?", "\"{\" at byte 1: not an interval {n}, {n,} or {n,m} that both kinds of pattern read alike"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		pcre2_code *code = NULL;
		struct octavo_error error = {""};
		enum octavo_status status = octavo_pattern_compile(&code, cases[i].pattern, "here", &error);
		if (status != OCTAVO_ENOTSUP)
			print_error("%s\n", cases[i].pattern);
		assert_int_equal(status, OCTAVO_ENOTSUP);
		assert_memory_equal(error.text, "here: ", 6);
		assert_string_equal(error.text + 6, cases[i].reason);
		assert_null(code);
	}
}

/* Errors that PCRE2 finds. */
static void test_broken_patterns(void **state)
{
	(void)state;
	static const char *const cases[] = {"(a", "a)", "*a", "[z-a]", "\\p{Nonsense}", "a{3,2}", "(?<=a+)b"};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		pcre2_code *code = NULL;
		struct octavo_error error = {""};
		assert_int_equal(octavo_pattern_compile(&code, cases[i], "here", &error), OCTAVO_EFORMAT);
		assert_memory_equal(error.text, "here: ", 6);
		assert_true(strlen(error.text) > 6);
		assert_null(code);
	}
}

/* A pattern that would try for ever is stopped; one that only needs much memory is not. */
static void test_hard_patterns(void **state)
{
	(void)state;
	enum { BYTES = 200000 };
	char *text = malloc(BYTES);
	assert_non_null(text);
	memset(text, 'a', BYTES);
	struct octavo_pretokenizer pretokenizer;
	struct octavo_pieces pieces = {0};
	struct octavo_error error = {""};

	json_t *json = split("Regex", "(?:a|aa)+\\p{Lu}", "Isolated", 0);
	assert_int_equal(octavo_pretokenizer_open(&pretokenizer, json, NULL), OCTAVO_OK);
	assert_int_equal(octavo_pretokenize(&pretokenizer, text, 60, &pieces, &error), OCTAVO_ELIMIT);
	assert_string_equal(error.text,
	                    "tokenizer.json: pre_tokenizer.pretokenizers[0].pattern: on a text of 60 bytes: "
	                    "match limit exceeded");
	octavo_pretokenizer_close(&pretokenizer);
	json_decref(json);

	json = split("Regex", "(?:a|b)+a", "Isolated", 0);
	assert_int_equal(octavo_pretokenizer_open(&pretokenizer, json, NULL), OCTAVO_OK);
	assert_int_equal(octavo_pretokenize(&pretokenizer, text, BYTES, &pieces, &error), OCTAVO_OK);
	assert_int_equal(pieces.count, 1);
	assert_int_equal(pieces.piece[0].end, BYTES);
	octavo_pretokenizer_close(&pretokenizer);
	json_decref(json);
	octavo_pieces_free(&pieces);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_behaviors),       cmocka_unit_test(test_patterns),
	        cmocka_unit_test(test_literals),        cmocka_unit_test(test_digits),
	        cmocka_unit_test(test_prefix_space),    cmocka_unit_test(test_refused_patterns),
	        cmocka_unit_test(test_broken_patterns), cmocka_unit_test(test_hard_patterns),
	};
	return cmocka_run_group_tests_name("pre-tokenizer", tests, NULL, NULL);
}
