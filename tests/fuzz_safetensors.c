/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzes the parser of safetensors headers.  With a fuzzing engine:
 *
 *     clang -fsanitize=fuzzer,address,undefined -DOCTAVO_FUZZING -I. -Ifp8 -Ikernels tests/fuzz_safetensors.c \
 *             engine/load/safetensors.c engine/load/file.c fp8/error.c -ljansson
 *
 * As a plain program it replays the files named on its command line, or else mutates a small file many times.
 */
#include "engine/load/safetensors.h"
#include "tests/support/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "fuzz_safetensors: %s\n", what);
		abort();
	}
}

/* A header that was let pass promises that its tensors tile the data. */
static void check_header(const struct octavo_header *header, const uint8_t *data, size_t bytes)
{
	const uint8_t *next = data;
	for (size_t i = 0; i < header->count; i++) {
		const struct octavo_tensor *tensor = &header->tensor[i];
		demand(tensor->data == next, "a tensor does not begin where the one before ends");
		demand(tensor->rank <= OCTAVO_MAX_RANK, "rank out of range");
		demand(strlen(tensor->name) <= OCTAVO_MAX_NAME, "name out of range");
		next += tensor->bytes;
	}
	demand(next == data + bytes, "the tensors do not fill the data");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct octavo_error error = {""};
	struct octavo_header header;
	size_t bytes;
	if (size < OCTAVO_PREFIX_BYTES)
		return 0;
	enum octavo_status status = octavo_safetensors_length(&bytes, data, size, "fuzz", &error);
	if (status == OCTAVO_OK) {
		const uint8_t *json = data + OCTAVO_PREFIX_BYTES, *body = json + bytes;
		size_t body_bytes = size - OCTAVO_PREFIX_BYTES - bytes;
		status = octavo_safetensors_parse(&header, (const char *)json, bytes, body, body_bytes, "fuzz", &error);
		if (status == OCTAVO_OK) {
			check_header(&header, body, body_bytes);
			octavo_safetensors_free(&header);
			return 0;
		}
	}
	demand(strncmp(error.text, "fuzz: ", 6) == 0, "a failure whose message does not name the file");
	return 0;
}

#ifndef OCTAVO_FUZZING

static int replay(const char *path)
{
	enum { ROOM = 1 << 24 };
	uint8_t *data = malloc(ROOM);
	FILE *file = fopen(path, "rb");
	if (!file || !data) {
		perror(path);
		free(data);
		return EXIT_FAILURE;
	}
	LLVMFuzzerTestOneInput(data, fread(data, 1, ROOM, file));
	fclose(file);
	free(data);
	return EXIT_SUCCESS;
}

/* Bytes that matter to the format come up more often than chance would have it. */
static uint8_t next_byte(uint64_t *state)
{
	static const char telling[] = "{}[]\",:\\-0129e. \xFF\xC3u";
	uint32_t random = random_bits(state);
	return random & 1 ? (uint8_t)telling[(random >> 8) % (sizeof telling - 1)] : (uint8_t)(random >> 8);
}

/* Overwrites, deletes or doubles a few places, and keeps the length prefix true most of the time. */
static size_t mutate(uint8_t *data, size_t size, size_t room, uint64_t *state)
{
	for (uint32_t n = 1 + random_bits(state) % 4; n > 0; n--) {
		size_t at = random_bits(state) % size, run = 1 + random_bits(state) % 8;
		switch (random_bits(state) % 3) {
		case 0:
			data[at] = next_byte(state);
			break;
		case 1:
			if (at + run < size) {
				memmove(data + at, data + at + run, size - at - run);
				size -= run;
			}
			break;
		default:
			if (size + run <= room && at + run < size) {
				memmove(data + at + run, data + at, size - at);
				size += run;
			}
		}
	}
	return size;
}

static size_t seed_file(uint8_t *data)
{
	static const char json[] = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,3],"
	                           "\"data_offsets\":[0,6]},"
	                           "\"a_scale_inv\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[6,10]},"
	                           "\"b\":{\"dtype\":\"BF16\",\"shape\":[0,4],\"data_offsets\":[10,10]}}  ";
	memset(data, 0, 8);
	memcpy(data + 8, json, sizeof json - 1);
	memset(data + 8 + sizeof json - 1, 0x38, 10);
	return 8 + sizeof json - 1 + 10;
}

int main(int argc, char **argv)
{
	enum { ROUNDS = 50000, ROOM = 1024 };
	uint64_t state = 1;
	for (int i = 1; i < argc; i++)
		if (replay(argv[i]) != EXIT_SUCCESS)
			return EXIT_FAILURE;
	for (int i = 0; argc == 1 && i < ROUNDS; i++) {
		uint8_t data[ROOM];
		size_t size = mutate(data, seed_file(data), ROOM, &state);
		if (i % 8 != 0) {
			memset(data, 0, 8);
			data[0] = (uint8_t)(size - 18);
			data[1] = (uint8_t)((size - 18) >> 8);
		}
		/* An exact copy on the heap, so that a sanitizer sees a read beyond the end. */
		uint8_t *copy = malloc(size);
		demand(copy != NULL, "out of memory");
		memcpy(copy, data, size);
		LLVMFuzzerTestOneInput(copy, size);
		free(copy);
	}
	return EXIT_SUCCESS;
}

#endif
