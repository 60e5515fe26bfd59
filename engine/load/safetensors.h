/* SPDX-License-Identifier: Apache-2.0
 *
 * One safetensors file: u64 little-endian N, N bytes of JSON, then the data.
 * Format: github.com/huggingface/safetensors, README, section "Format".
 */
#ifndef OCTAVO_SAFETENSORS_H
#define OCTAVO_SAFETENSORS_H

#include "engine/load/copy.h"
#include "engine/load/file.h"
#include "engine/load/load.h"

enum {
	OCTAVO_PREFIX_BYTES = 8,           /* of N */
	OCTAVO_MAX_HEADER_BYTES = 100000000, /* as the format's own reader caps it */
	OCTAVO_MAX_TENSORS = 1 << 20,
	OCTAVO_MAX_NAME = 512,
};

struct octavo_header {
	struct octavo_tensor *tensor; /* [count], in the order of their data */
	size_t count;
	char *names; /* what tensor[].name points into */
};

/* N, checked against the length of the file, file_bytes >= OCTAVO_PREFIX_BYTES. */
enum octavo_status octavo_safetensors_length(size_t *header_bytes, const unsigned char prefix[OCTAVO_PREFIX_BYTES],
                                             size_t file_bytes, const char *file, struct octavo_error *error);

/* Parses and validates the JSON text json[bytes] of a file whose data section is data[data_bytes].  The tensors
 * tile that section exactly.  Nothing in it is read.  `file` is borrowed for the life of the header. */
enum octavo_status octavo_safetensors_parse(struct octavo_header *header, const char *json, size_t bytes,
                                            const unsigned char *data, size_t data_bytes, const char *file,
                                            struct octavo_error *error);
void octavo_safetensors_free(struct octavo_header *header);

/* A file that stays open, mapped or copied.  A shard is not to be moved while its tensors are in use: they borrow `name`. */
struct octavo_shard {
	char name[256];
	struct octavo_file file;
	unsigned char *map; /* [map_bytes], read-only */
	size_t map_bytes;
	int copied; /* `map` is a copy */
	struct octavo_header header;
};

/* copy NULL: mapped. */
enum octavo_status octavo_shard_open(struct octavo_shard *shard, const char *dir, const char *name,
                                     const struct octavo_copy *copy, struct octavo_error *error);
void octavo_shard_close(struct octavo_shard *shard);

#endif
