/* SPDX-License-Identifier: Apache-2.0
 *
 * Each rule for safetensors files and for their index, broken once.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/load/load.h"
#include "engine/load/safetensors.h"
#include "tests/support/ckpt.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Helpers --------------------------------------------------------------------------------------- */

/* A file of `header` behind its length, then data_bytes zeros. */
static void write_tensors(const char *dir, const char *name, const char *header, size_t header_bytes,
                          uint64_t claimed_bytes, size_t data_bytes)
{
	unsigned char *file = calloc(8 + header_bytes + data_bytes, 1);
	assert_non_null(file);
	for (int i = 0; i < 8; i++)
		file[i] = (unsigned char)(claimed_bytes >> 8 * i);
	memcpy(file + 8, header, header_bytes);
	ckpt_write_file(dir, name, file, 8 + header_bytes + data_bytes);
	free(file);
}

static void write_simple(const char *dir, const char *name, const char *header, size_t data_bytes)
{
	write_tensors(dir, name, header, strlen(header), strlen(header), data_bytes);
}

/* Opens the checkpoint in dir, expects `status` and, if that is a failure, a message that begins with `text`. */
static void expect(const char *dir, enum octavo_status status, const char *text)
{
	struct octavo_checkpoint *checkpoint = NULL;
	struct octavo_error error = {"no message"};
	enum octavo_status got = octavo_checkpoint_open(&checkpoint, dir, NULL, &error);
	if (got != status || (status != OCTAVO_OK && strncmp(error.text, text, strlen(text)) != 0))
		print_error("status %d: %s\n", got, error.text);
	assert_int_equal(got, status);
	if (status != OCTAVO_OK) {
		assert_null(checkpoint);
		assert_memory_equal(error.text, text, strlen(text));
	}
	octavo_checkpoint_close(&checkpoint);
}

/* ---- Headers --------------------------------------------------------------------------------------- */

#define ENTRY(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define ONE(dtype, shape, offsets) "{\"a\":" ENTRY(dtype, shape, offsets) "}"
#define TWO(first, second) "{\"a\":" ENTRY("U8", "[4]", first) ",\"b\":" ENTRY("U8", "[4]", second) "}"
#define FILE_NAME "model.safetensors: "

struct header_case {
	const char *what, *header;
	size_t data_bytes;
	const char *text; /* NULL: the file is good */
};

static const struct header_case header_cases[] = {
        /* rule 2: the text */
        {"empty", "", 0, FILE_NAME "header: does not begin with '{'"},
        {"leading space", " {}", 0, FILE_NAME "header: does not begin with '{'"},
        {"array", "[]", 0, FILE_NAME "header: does not begin with '{'"},
        {"trailing newline", "{}\n", 0, FILE_NAME "header: something other than spaces behind the closing brace"},
        {"trailing text", "{}x", 0, FILE_NAME "header: something other than spaces behind the closing brace"},
        {"second object", "{}{}", 0, FILE_NAME "header: end of file expected"},
        {"cut", "{\"a\":{}", 0, FILE_NAME "header: "},
        {"not UTF-8", "{\"\xC3(\":" ENTRY("U8", "[1]", "[0,1]") "}", 1, FILE_NAME "header: unable to decode byte 0xc3"},
        {"overlong UTF-8", "{\"\xC0\xAF\":" ENTRY("U8", "[1]", "[0,1]") "}", 1, FILE_NAME "header: unable to decode"},
        {"escape sequence in a name", "{\"\\u001b[2J\":[]}", 0, FILE_NAME "?[2J: not an object"},
        {"NUL in a name", "{\"a\\u0000b\":" ENTRY("U8", "[1]", "[0,1]") "}", 1, FILE_NAME "header: "},
        {"duplicate tensor", "{\"a\":" ENTRY("U8", "[4]", "[0,4]") ",\"a\":" ENTRY("U8", "[4]", "[0,4]") "}", 4,
         FILE_NAME "header: duplicate object key near"},
        {"duplicate key", "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
         FILE_NAME "header: duplicate object key near"},
        /* rule 3: integers and limits */
        {"negative", ONE("U8", "[-4]", "[0,4]"), 4, FILE_NAME "header: a negative number at byte 28"},
        {"negative zero", ONE("U8", "[4]", "[-0,4]"), 4, FILE_NAME "header: a negative number at byte 47"},
        {"plus sign", ONE("U8", "[+4]", "[0,4]"), 4, FILE_NAME "header: invalid token near '+'"},
        {"leading zero", ONE("U8", "[04]", "[0,4]"), 4, FILE_NAME "header: invalid token near"},
        {"fraction", ONE("U8", "[4.0]", "[0,4]"), 4, FILE_NAME "a: shape: dimension 0 is not a plain integer"},
        {"exponent", ONE("U8", "[4]", "[0,4e0]"), 4, FILE_NAME "a: data_offsets: not two plain integers"},
        {"string for a number", ONE("U8", "[\"4\"]", "[0,4]"), 4,
         FILE_NAME "a: shape: dimension 0 is not a plain integer"},
        {"integer of 2^63", ONE("U8", "[4]", "[0,9223372036854775808]"), 4, FILE_NAME "header: too big integer near"},
        {"rank 9", ONE("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1,
         FILE_NAME "a: shape: rank 9, more than the limit of 8"},
        {"deep nesting", ONE("U8", "[[4]]", "[0,4]"), 4, FILE_NAME "header: nested deeper than 3 at byte 28"},
        {"empty name", "{\"\":" ENTRY("U8", "[1]", "[0,1]") "}", 1,
         FILE_NAME "…: a tensor's name of 0 bytes, not in 1 to 512"},
        /* rule 4: sizes */
        {"elements overflow", ONE("U8", "[4294967296,4294967296,2]", "[0,4]"), 4,
         FILE_NAME "a: shape: the number of elements overflows"},
        {"bits overflow", ONE("F32", "[4611686018427387904]", "[0,4]"), 4,
         FILE_NAME "a: shape: the number of bits overflows"},
        {"half a byte", ONE("F4", "[3]", "[0,2]"), 2, FILE_NAME "a: shape: 3 elements of 4 bits are no whole bytes"},
        {"begin behind end", ONE("U8", "[4]", "[4,0]"), 4, FILE_NAME "a: data_offsets: begin 4 lies behind end 0"},
        {"wrong size", ONE("F32", "[2]", "[0,4]"), 4,
         FILE_NAME "a: data_offsets: 4 bytes, but F32 of its shape takes 8"},
        {"end beyond the file", ONE("U8", "[5]", "[0,5]"), 4,
         FILE_NAME "a: data_offsets: end 5 lies beyond the data, 4 bytes"},
        /* rule 5: the tensors tile the data */
        {"hole at the start", ONE("U8", "[4]", "[1,5]"), 5,
         FILE_NAME "a: data_offsets: a hole of 1 bytes before its begin 1"},
        {"hole between", TWO("[0,4]", "[6,10]"), 10, FILE_NAME "b: data_offsets: a hole of 2 bytes before its begin 6"},
        {"overlap", TWO("[0,4]", "[3,7]"), 7, FILE_NAME "b: data_offsets: overlaps a"},
        {"same bytes twice", TWO("[0,4]", "[0,4]"), 4, FILE_NAME},
        {"empty tensor inside another", "{\"a\":" ENTRY("U8", "[4]", "[0,4]") ",\"b\":" ENTRY("U8", "[0]", "[2,2]") "}",
         4, FILE_NAME "b: data_offsets: overlaps a"},
        {"trailing bytes", ONE("U8", "[4]", "[0,4]"), 5, FILE_NAME "1 trailing bytes behind the last tensor"},
        {"data without tensors", "{}", 1, FILE_NAME "1 trailing bytes behind the last tensor"},
        /* rule 6: the entry */
        {"unknown dtype", ONE("F8_E4M4", "[4]", "[0,4]"), 4, FILE_NAME "a: dtype: F8_E4M4 is not one of the format's"},
        {"dtype in small letters", ONE("u8", "[4]", "[0,4]"), 4, FILE_NAME "a: dtype: u8 is not one of the format's"},
        {"dtype no string", "{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, FILE_NAME "a: dtype: "},
        {"no shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, FILE_NAME "a: shape: missing"},
        {"no offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, FILE_NAME "a: data_offsets: missing"},
        {"unknown key", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"strides\":[1]}}", 1,
         FILE_NAME "a: a key other than dtype, shape, data_offsets"},
        {"entry no object", "{\"a\":[]}", 0, FILE_NAME "a: not an object"},
        {"shape no array", ONE("U8", "4", "[0,4]"), 4, FILE_NAME "a: shape: not an array"},
        {"three offsets", ONE("U8", "[4]", "[0,2,4]"), 4, FILE_NAME "a: data_offsets: not two plain integers"},
        {"metadata no object", "{\"__metadata__\":\"pt\"}", 0, FILE_NAME "__metadata__: not an object"},
        {"metadata of numbers", "{\"__metadata__\":{\"version\":1}}", 0,
         FILE_NAME "__metadata__: version: not a string"},
        /* what is legal, however odd */
        {"good: nothing", "{}", 0, NULL},
        {"good: spaces behind", ONE("U8", "[4]", "[0,4]") "   ", 4, NULL},
        {"good: minus in a name", "{\"a-\\\"-0\":" ENTRY("U8", "[1]", "[0,1]") "}", 1, NULL},
        {"good: metadata", "{\"__metadata__\":{\"format\":\"pt\"},\"a\":" ENTRY("U8", "[1]", "[0,1]") "}", 1, NULL},
        {"good: rank 0", ONE("F32", "[]", "[0,4]"), 4, NULL},
        {"good: rank 8", ONE("U8", "[1,1,2,1,1,1,1,2]", "[0,4]"), 4, NULL},
        {"good: zero dimension", TWO("[0,4]", "[4,8]") " ", 8, NULL},
        {"good: empty tensor between",
         "{\"c\":" ENTRY("F32", "[3,0]", "[4,4]") ",\"b\":" ENTRY("U8", "[4]", "[4,8]") ",\"a\":" ENTRY("U8", "[4]",
                                                                                                        "[0,4]") "}",
         8, NULL},
        {"good: any order", TWO("[4,8]", "[0,4]"), 8, NULL},
        {"good: half bytes", ONE("F4", "[2,3]", "[0,3]"), 3, NULL},
        {"good: six bits", ONE("F6_E2M3", "[4]", "[0,3]"), 3, NULL},
};

static void test_header(void **state)
{
	const struct header_case *c = *state;
	char *dir = ckpt_dir_new();
	write_simple(dir, "model.safetensors", c->header, c->data_bytes);
	expect(dir, c->text ? OCTAVO_EFORMAT : OCTAVO_OK, c->text);
	ckpt_dir_free(dir);
}

/* Rule 1. */
static void test_length(void **state)
{
	const char *dir = *state, good[] = ONE("U8", "[4]", "[0,4]");
	size_t bytes = sizeof good - 1;
	ckpt_write_file(dir, "model.safetensors", "", 0);
	expect(dir, OCTAVO_EFORMAT, FILE_NAME "0 bytes, too short for a header");
	ckpt_write_file(dir, "model.safetensors", "\x02\0\0\0\0\0\0", 7);
	expect(dir, OCTAVO_EFORMAT, FILE_NAME "7 bytes, too short for a header");
	write_tensors(dir, "model.safetensors", good, bytes, bytes + 5, 4);
	expect(dir, OCTAVO_EFORMAT, FILE_NAME "header length: 58 bytes, but only 57 follow");
	write_tensors(dir, "model.safetensors", good, bytes, 100000001, 4);
	expect(dir, OCTAVO_EFORMAT, FILE_NAME "header length: 100000001 bytes, more than the limit of 100000000");
	write_tensors(dir, "model.safetensors", good, bytes, UINT64_MAX, 4);
	expect(dir, OCTAVO_EFORMAT, FILE_NAME "header length: 18446744073709551615 bytes, more than");
	static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
	ckpt_write_file(dir, "model.safetensors", pointer, sizeof pointer - 1);
	expect(dir, OCTAVO_EFORMAT, FILE_NAME "a pointer of Git LFS, not the file itself: fetch that (git lfs pull)");
	write_tensors(dir, "model.safetensors", good, bytes, bytes, 4);
	expect(dir, OCTAVO_OK, NULL);
}

/* The rest of rule 3. */
static void test_limits(void **state)
{
	const char *dir = *state;
	char header[1024];
	snprintf(header, sizeof header, "{\"%0512d\":" ENTRY("U8", "[1]", "[0,1]") "}", 0);
	write_simple(dir, "model.safetensors", header, 1);
	expect(dir, OCTAVO_OK, NULL);
	snprintf(header, sizeof header, "{\"%0513d\":" ENTRY("U8", "[1]", "[0,1]") "}", 0);
	write_simple(dir, "model.safetensors", header, 1);
	expect(dir, OCTAVO_EFORMAT, FILE_NAME "00000000000000000000000000000000…: a tensor's name of 513 bytes");

	enum { COUNT = OCTAVO_MAX_TENSORS + 1, EACH = 11 };
	char *many = malloc(EACH * COUNT + 2);
	assert_non_null(many);
	many[0] = '{';
	for (int i = 0; i < COUNT; i++)
		sprintf(many + 1 + EACH * (size_t)i, "\"%06x\":0,", i);
	many[EACH * (size_t)COUNT] = '}';
	write_tensors(dir, "model.safetensors", many, EACH * (size_t)COUNT + 1, EACH * (size_t)COUNT + 1, 0);
	expect(dir, OCTAVO_ELIMIT, FILE_NAME "header: 1048577 entries, more than the limit of 1048576");
	free(many);
}

static void test_dtypes(void **state)
{
	static const struct {
		const char *name;
		size_t bytes; /* of eight elements */
		enum octavo_dtype dtype;
	} dtypes[] = {
	        {"F4", 4, OCTAVO_NONE},      {"F6_E2M3", 6, OCTAVO_NONE},     {"F6_E3M2", 6, OCTAVO_NONE},
	        {"BOOL", 8, OCTAVO_NONE},    {"U8", 8, OCTAVO_NONE},          {"I8", 8, OCTAVO_NONE},
	        {"F8_E5M2", 8, OCTAVO_E5M2}, {"F8_E4M3", 8, OCTAVO_E4M3},     {"F8_E8M0", 8, OCTAVO_E8M0},
	        {"I16", 16, OCTAVO_NONE},    {"F8_E4M3FNUZ", 8, OCTAVO_NONE}, {"F8_E5M2FNUZ", 8, OCTAVO_NONE},
	        {"U16", 16, OCTAVO_NONE},    {"F16", 16, OCTAVO_F16},         {"BF16", 16, OCTAVO_BF16},
	        {"I32", 32, OCTAVO_NONE},    {"U32", 32, OCTAVO_NONE},        {"F32", 32, OCTAVO_F32},
	        {"C64", 64, OCTAVO_NONE},    {"F64", 64, OCTAVO_NONE},        {"I64", 64, OCTAVO_NONE},
	        {"U64", 64, OCTAVO_NONE},
	};
	for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
		char header[256];
		struct octavo_checkpoint *checkpoint;
		snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"%s\",\"shape\":[2,4],\"data_offsets\":[0,%zu]}}",
		         dtypes[i].name, dtypes[i].bytes);
		write_simple(*state, "model.safetensors", header, dtypes[i].bytes);
		assert_int_equal(octavo_checkpoint_open(&checkpoint, *state, NULL, NULL), OCTAVO_OK);
		const struct octavo_tensor *tensor = octavo_checkpoint_find(checkpoint, "a");
		assert_non_null(tensor);
		assert_string_equal(tensor->dtype_name, dtypes[i].name);
		assert_int_equal(tensor->dtype, dtypes[i].dtype);
		assert_int_equal(tensor->bytes, dtypes[i].bytes);
		assert_int_equal(tensor->rank, 2);
		assert_int_equal(tensor->shape[0], 2);
		assert_int_equal(tensor->shape[1], 4);
		octavo_checkpoint_close(&checkpoint);
	}
}

/* Rule 7: the data may begin at any byte. */
static void test_unaligned(void **state)
{
	static const char text[] = "{\"a\":" ENTRY("F32", "[1]", "[3,7]") ",\"b\":" ENTRY("U8", "[3]", "[0,3]") "}";
	for (size_t pad = 0; pad < 8; pad++) {
		unsigned char file[8 + sizeof text + 16] = {0};
		size_t header = sizeof text - 1 + pad;
		float value = 1.5f;
		file[0] = (unsigned char)header;
		memcpy(file + 8, text, sizeof text - 1);
		memset(file + 8 + sizeof text - 1, ' ', pad);
		memcpy(file + 8 + header + 3, &value, sizeof value);
		ckpt_write_file(*state, "model.safetensors", file, 8 + header + 7);
		struct octavo_checkpoint *checkpoint;
		assert_int_equal(octavo_checkpoint_open(&checkpoint, *state, NULL, NULL), OCTAVO_OK);
		assert_memory_equal(octavo_checkpoint_find(checkpoint, "a")->data, &value, sizeof value);
		octavo_checkpoint_close(&checkpoint);
	}
}

/* Rule 8. */
static void test_kind_of_file(void **state)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/model.safetensors", (char *)*state);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect(*state, OCTAVO_EFORMAT, FILE_NAME "not a regular file");
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	expect(*state, OCTAVO_EFORMAT, FILE_NAME "not a regular file");
	rmdir(path);
}

static void test_changed_file(void **state)
{
	struct octavo_file file;
	struct octavo_error error;
	char byte[8];
	ckpt_write_file(*state, "f", "12345678", 8);
	assert_int_equal(octavo_file_open(&file, *state, "f", 7, &error), OCTAVO_ELIMIT);
	assert_string_equal(error.text, "f: 8 bytes, more than the limit of 7");
	assert_int_equal(octavo_file_open(&file, *state, "f", 8, &error), OCTAVO_OK);
	assert_int_equal(octavo_file_unchanged(&file, &error), OCTAVO_OK);
	ckpt_write_file(*state, "f", "1234567", 7);
	assert_int_equal(octavo_file_unchanged(&file, &error), OCTAVO_EIO);
	assert_string_equal(error.text, "f: changed while it was read");
	assert_int_equal(octavo_file_read(&file, byte, 8, 0, &error), OCTAVO_EIO);
	assert_string_equal(error.text, "f: became shorter while it was read");
	octavo_file_close(&file);
}

/* ---- The index ------------------------------------------------------------------------------------- */

#define INDEX_NAME "model.safetensors.index.json: "
#define FIRST "one.safetensors"
#define SECOND "two.safetensors"
#define MAP(map) "{\"metadata\":{\"total_size\":1},\"weight_map\":{" map "}}"

struct index_case {
	const char *what, *index;
	enum octavo_status status;
	const char *text;
};

/* one.safetensors holds a and b, two.safetensors holds c. */
static const struct index_case index_cases[] = {
        {"good", MAP("\"a\":\"" FIRST "\",\"b\":\"" FIRST "\",\"c\":\"" SECOND "\""), OCTAVO_OK, NULL},
        {"tensor not in its file", MAP("\"a\":\"" FIRST "\",\"b\":\"" FIRST "\",\"d\":\"" SECOND "\""), OCTAVO_EFORMAT,
         INDEX_NAME "weight_map: d: not in " SECOND},
        {"tensor in the other file", MAP("\"a\":\"" FIRST "\",\"b\":\"" SECOND "\",\"c\":\"" SECOND "\""),
         OCTAVO_EFORMAT, INDEX_NAME "weight_map: b: said to be in " SECOND ", but lies in " FIRST},
        {"tensor not in the map", MAP("\"a\":\"" FIRST "\",\"c\":\"" SECOND "\""), OCTAVO_EFORMAT,
         FIRST ": b: not in the weight_map of model.safetensors.index.json"},
        {"directory", MAP("\"a\":\"x/" FIRST "\""), OCTAVO_EFORMAT,
         INDEX_NAME "weight_map: a: x/" FIRST " is not the plain name of a .safetensors file"},
        {"parent", MAP("\"a\":\"../" FIRST "\""), OCTAVO_EFORMAT,
         INDEX_NAME "weight_map: a: ../" FIRST " is not the plain"},
        {"absolute", MAP("\"a\":\"/" FIRST "\""), OCTAVO_EFORMAT,
         INDEX_NAME "weight_map: a: /" FIRST " is not the plain"},
        {"backslash", MAP("\"a\":\"x\\\\" FIRST "\""), OCTAVO_EFORMAT, INDEX_NAME "weight_map: a: x\\" FIRST " is not"},
        {"hidden", MAP("\"a\":\"." FIRST "\""), OCTAVO_EFORMAT,
         INDEX_NAME "weight_map: a: ." FIRST " is not the plain"},
        {"empty", MAP("\"a\":\"\""), OCTAVO_EFORMAT, INDEX_NAME "weight_map: a:  is not the plain name"},
        {"other extension", MAP("\"a\":\"config.json\""), OCTAVO_EFORMAT,
         INDEX_NAME "weight_map: a: config.json is not the plain name"},
        {"NUL", MAP("\"a\":\"one\\u0000.safetensors\""), OCTAVO_EFORMAT, INDEX_NAME "line 1: "},
        {"not a string", MAP("\"a\":1"), OCTAVO_EFORMAT, INDEX_NAME "weight_map: a: its value is not the plain name"},
        {"duplicate", MAP("\"a\":\"" FIRST "\",\"a\":\"" SECOND "\""), OCTAVO_EFORMAT,
         INDEX_NAME "line 1: duplicate object key"},
        {"empty map", MAP(""), OCTAVO_EFORMAT, INDEX_NAME "weight_map: not an object with tensors"},
        {"no map", "{}", OCTAVO_EFORMAT, INDEX_NAME "weight_map: not an object with tensors"},
        {"map no object", "{\"weight_map\":[]}", OCTAVO_EFORMAT, INDEX_NAME "weight_map: not an object with tensors"},
        {"no object", "[]", OCTAVO_EFORMAT, INDEX_NAME "not a JSON object"},
        {"no JSON", "{\n", OCTAVO_EFORMAT, INDEX_NAME "line 2: "},
};

static void write_two(const char *dir)
{
	write_simple(dir, FIRST, TWO("[0,4]", "[4,8]"), 8);
	write_simple(dir, SECOND, "{\"c\":" ENTRY("U8", "[2]", "[0,2]") "}", 2);
}

static void test_index(void **state)
{
	const struct index_case *c = *state;
	char *dir = ckpt_dir_new();
	write_two(dir);
	ckpt_write_file(dir, "model.safetensors.index.json", c->index, strlen(c->index));
	expect(dir, c->status, c->text);
	ckpt_dir_free(dir);
}

static void test_missing_shard(void **state)
{
	static const char index[] = MAP("\"a\":\"gone.safetensors\"");
	char text[PATH_MAX];
	ckpt_write_file(*state, "model.safetensors.index.json", index, sizeof index - 1);
	snprintf(text, sizeof text, "%s/gone.safetensors: cannot open: ", (char *)*state);
	expect(*state, OCTAVO_EIO, text);
}

static void test_tensor_in_two_files(void **state)
{
	static const char index[] = MAP("\"a\":\"" FIRST "\",\"b\":\"" FIRST "\",\"c\":\"" SECOND "\"");
	write_two(*state);
	write_simple(*state, SECOND, "{\"b\":" ENTRY("U8", "[2]", "[0,2]") "}", 2);
	ckpt_write_file(*state, "model.safetensors.index.json", index, sizeof index - 1);
	struct octavo_error error;
	struct octavo_checkpoint *checkpoint;
	assert_int_equal(octavo_checkpoint_open(&checkpoint, *state, NULL, &error), OCTAVO_EFORMAT);
	assert_non_null(strstr(error.text, ": b: also in "));
	assert_non_null(strstr(error.text, FIRST));
	assert_non_null(strstr(error.text, SECOND));
}

static void test_without_index(void **state)
{
	char text[PATH_MAX];
	snprintf(text, sizeof text, "%s: no *.safetensors file", (char *)*state);
	expect(*state, OCTAVO_EIO, text);
	write_two(*state);
	struct octavo_checkpoint *checkpoint;
	assert_int_equal(octavo_checkpoint_open(&checkpoint, *state, NULL, NULL), OCTAVO_OK);
	assert_int_equal(octavo_checkpoint_count(checkpoint), 3);
	assert_int_equal(octavo_checkpoint_bytes(checkpoint), 10);
	assert_string_equal(octavo_checkpoint_at(checkpoint, 0)->name, "a");
	assert_string_equal(octavo_checkpoint_at(checkpoint, 2)->file, SECOND);
	assert_null(octavo_checkpoint_find(checkpoint, "d"));
	assert_non_null(octavo_checkpoint_find(checkpoint, "b"));
	size_t i = 0;
	assert_string_equal(octavo_checkpoint_unused(checkpoint, &i)->name, "a");
	assert_string_equal(octavo_checkpoint_unused(checkpoint, &i)->name, "c");
	assert_null(octavo_checkpoint_unused(checkpoint, &i));
	octavo_checkpoint_close(&checkpoint);
	assert_null(checkpoint);
	/* model.safetensors comes before its neighbours. */
	write_simple(*state, "model.safetensors", "{}", 0);
	assert_int_equal(octavo_checkpoint_open(&checkpoint, *state, NULL, NULL), OCTAVO_OK);
	assert_int_equal(octavo_checkpoint_count(checkpoint), 0);
	octavo_checkpoint_close(&checkpoint);
}

int main(void)
{
	enum {
		HEADERS = sizeof header_cases / sizeof *header_cases,
		INDEXES = sizeof index_cases / sizeof *index_cases
	};
	struct CMUnitTest headers[HEADERS], indexes[INDEXES];
	for (size_t i = 0; i < HEADERS; i++)
		headers[i] =
		        (struct CMUnitTest){header_cases[i].what, test_header, NULL, NULL, (void *)&header_cases[i]};
	for (size_t i = 0; i < INDEXES; i++)
		indexes[i] = (struct CMUnitTest){index_cases[i].what, test_index, NULL, NULL, (void *)&index_cases[i]};
	const struct CMUnitTest files[] = {
	        cmocka_unit_test_setup_teardown(test_length, ckpt_dir_setup, ckpt_dir_teardown),
	        cmocka_unit_test_setup_teardown(test_limits, ckpt_dir_setup, ckpt_dir_teardown),
	        cmocka_unit_test_setup_teardown(test_dtypes, ckpt_dir_setup, ckpt_dir_teardown),
	        cmocka_unit_test_setup_teardown(test_unaligned, ckpt_dir_setup, ckpt_dir_teardown),
	        cmocka_unit_test_setup_teardown(test_kind_of_file, ckpt_dir_setup, ckpt_dir_teardown),
	        cmocka_unit_test_setup_teardown(test_changed_file, ckpt_dir_setup, ckpt_dir_teardown),
	        cmocka_unit_test_setup_teardown(test_missing_shard, ckpt_dir_setup, ckpt_dir_teardown),
	        cmocka_unit_test_setup_teardown(test_tensor_in_two_files, ckpt_dir_setup, ckpt_dir_teardown),
	        cmocka_unit_test_setup_teardown(test_without_index, ckpt_dir_setup, ckpt_dir_teardown),
	};
	return cmocka_run_group_tests_name("headers", headers, NULL, NULL) +
	       cmocka_run_group_tests_name("index", indexes, NULL, NULL) +
	       cmocka_run_group_tests_name("files", files, NULL, NULL);
}
