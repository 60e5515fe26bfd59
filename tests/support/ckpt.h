/* SPDX-License-Identifier: Apache-2.0
 *
 * Tiny checkpoints, built in memory, bent by a test, written to a directory.  Calls that cannot fail on a healthy
 * machine abort the test program.
 */
#ifndef OCTAVO_TESTS_CKPT_H
#define OCTAVO_TESTS_CKPT_H

#include "octavo_fp8.h"

#include <jansson.h>

enum { CKPT_MAX_RANK = 4, CKPT_MAX_TENSORS = 1024 };

struct ckpt_tensor {
	char name[160];
	char dtype[16];
	size_t rank, shape[CKPT_MAX_RANK];
	unsigned char *data; /* [bytes] */
	size_t bytes;
	unsigned shard; /* which file, from 0 */
};

struct ckpt {
	json_t *config;     /* config.json */
	json_t *generation; /* generation_config.json, or NULL */
	struct ckpt_tensor tensor[CKPT_MAX_TENSORS];
	size_t count;
	unsigned shards; /* 1: model.safetensors; more: model-00001-of-0000N.safetensors and an index */
	unsigned pad;    /* spaces behind each header */
};

/* Aborts for a null pointer; else returns it. */
void *ckpt_must(void *pointer);

/* What the tiny model looks like; zero-initialised: FP8 with F32 scales, q_lora, YaRN and no MTP. */
struct ckpt_options {
	int bf16;      /* all matrices BF16, no scales */
	int no_q_lora; /* q_lora_rank null */
	unsigned mtp;  /* MTP modules, with copies of embedding and head */
	int dense;     /* n_routed_experts null */
	int e8m0;      /* scales are powers of two, scale_fmt ue8m0 */
	uint64_t seed;
};

/* A deepseek_v3 of awkward sizes: hidden 160, 2 heads (48 + 32, v 40), kv_lora 128, q_lora 144, 3 layers (1
 * dense), 8 experts in 4 groups, vocabulary 300.  Weights are random, of a size that keeps activations near 1. */
struct ckpt *ckpt_new(const struct ckpt_options *options);
void ckpt_free(struct ckpt *ckpt);
/* What is in DIR/config.json and DIR/model.safetensors. */
struct ckpt *ckpt_load(const char *dir);
/* Its config.json alone; the caller owns it. */
json_t *ckpt_config(const struct ckpt_options *options);

/* Appends a tensor of zero bytes and returns it. */
struct ckpt_tensor *ckpt_add(struct ckpt *ckpt, const char *name, const char *dtype, size_t rank, const size_t *shape);
struct ckpt_tensor *ckpt_find(struct ckpt *ckpt, const char *name);
void ckpt_remove(struct ckpt *ckpt, const char *name);
/* Changes dtype and shape; the data become zero bytes. */
void ckpt_reshape(struct ckpt_tensor *tensor, const char *dtype, size_t rank, const size_t *shape);

/* A fresh temporary directory (to be given to ckpt_dir_free). */
char *ckpt_dir_new(void);
/* Removes the directory and the files in it, and frees the path. */
void ckpt_dir_free(char *dir);
/* The same for cmocka: each test's state is a fresh directory. */
int ckpt_dir_setup(void **state);
int ckpt_dir_teardown(void **state);
void ckpt_write(const struct ckpt *ckpt, const char *dir);
void ckpt_write_file(const char *dir, const char *name, const void *data, size_t bytes);
/* Reads DIR/NAME whole; the caller frees. */
unsigned char *ckpt_read_file(const char *dir, const char *name, size_t *bytes);

#endif
