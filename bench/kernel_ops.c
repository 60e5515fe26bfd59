/* SPDX-License-Identifier: Apache-2.0
 *
 * What the timed operations share: the list of them, operands, the comparison with the reference.
 */
#include "bench/kernel_ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const struct op *const kernel_ops[] = {&op_gemm,     &op_gemm_bf16, &op_gemm_t,        &op_moe,
                                       &op_mla_up,   &op_attention, &op_attention_fp8, &op_gqa,
                                       &op_norm,     &op_swiglu,    &op_quantise,      &op_decode,
                                       &op_encode,   NULL};

/* ---- Random contents ------------------------------------------------------------------------------------------ */

enum { FILL_CHUNK = 1 << 20 };

struct filling {
	unsigned char *to;
	size_t bytes;
	enum fill fill;
};

/* Eight codes at a time: a code that is NaN (S.1111.111) loses its lowest bit. */
static uint64_t as_e4m3(uint64_t random)
{
	uint64_t nan = ((random & 0x7f7f7f7f7f7f7f7f) + 0x0101010101010101) & 0x8080808080808080;
	return random ^ (nan >> 7);
}

/* Four values at a time: sign and mantissa random, exponent from -7 to 0. */
static uint64_t as_bf16(uint64_t random)
{
	return (random & 0x83ff83ff83ff83ff) | 0x3c003c003c003c00;
}

static uint64_t as_filled(uint64_t random, enum fill fill)
{
	switch (fill) {
	case FILL_E4M3:
		return as_e4m3(random);
	case FILL_BF16:
		return as_bf16(random);
	default:
		return as_e4m3(as_bf16(random) & 0x7fffffff7fffffff);
	}
}

static void fill_chunk(void *arg, size_t task)
{
	const struct filling *f = arg;
	size_t from = task * FILL_CHUNK, to = from + FILL_CHUNK < f->bytes ? from + FILL_CHUNK : f->bytes;
	uint64_t state = (task + 1) * 0x9e3779b97f4a7c15;
	for (size_t i = from; i < to; i += sizeof state) {
		state ^= state << 13; /* xorshift64 (Marsaglia, 2003) */
		state ^= state >> 7;
		state ^= state << 17;
		uint64_t word = as_filled(state, f->fill);
		memcpy(f->to + i, &word, to - i < sizeof word ? to - i : sizeof word);
	}
}

void fill_random(void *to, size_t bytes, enum fill fill, const struct octavo_parallel *parallel)
{
	struct filling filling = {to, bytes, fill};
	parallel->run(parallel->context, (bytes + FILL_CHUNK - 1) / FILL_CHUNK, fill_chunk, &filling);
}

/* [count] values in (-2, 2), every 256 the same. */
static void fill_floats(float *to, size_t count)
{
	uint16_t value[256];
	struct filling filling = {(unsigned char *)value, sizeof value, FILL_BF16};
	fill_chunk(&filling, 0);
	for (size_t i = 0; i < count; i++)
		to[i] = octavo_bf16_decode(value[i % 256]);
}

/* ---- Operands --------------------------------------------------------------------------------------------------- */

static size_t bytes_of(size_t (*size)(const struct work *w), const struct work *w)
{
	return size ? size(w) : 0;
}

bool work_open(struct work *w)
{
	size_t scales = w->op->streams ? blocks_of(w->n) * blocks_of(w->k) : 1;
	size_t in = bytes_of(w->op->in, w), out = w->op->out(w), spare = bytes_of(w->op->spare, w);
	w->scale = malloc(scales * sizeof *w->scale);
	w->in = malloc(in ? in : 1);
	w->out = calloc(1, out);
	w->spare = spare ? calloc(1, spare) : NULL;
	if (!w->scale || !w->in || !w->out || (spare && !w->spare)) {
		work_close(w);
		return false;
	}
	fill_floats(w->scale, scales);
	for (size_t i = 0; i < scales; i++)
		w->scale[i] = w->scale[i] < 0 ? -w->scale[i] : w->scale[i];
	if (w->op->streams)
		fill_random(w->in, in, FILL_BF16, w->parallel);
	else
		fill_floats(w->in, in / sizeof(float));
	return true;
}

void work_close(struct work *w)
{
	free(w->scale);
	free(w->in);
	free(w->out);
	free(w->spare);
	w->scale = NULL;
	w->in = w->out = w->spare = NULL;
}

double work_bytes(const struct work *w)
{
	size_t scales =
	        w->op->fill == FILL_E4M3 && w->op->streams ? blocks_of(w->n) * blocks_of(w->k) * sizeof(float) : 0;
	return (double)(bytes_of(w->op->weights, w) + scales + bytes_of(w->op->in, w) + w->op->out(w));
}

/* Takes the signs off `bytes` of random contents. */
static void make_positive(void *at, size_t bytes, enum fill fill)
{
	uint64_t keep = fill == FILL_E4M3 ? 0x7f7f7f7f7f7f7f7f : 0x7fff7fff7fff7fff;
	uint64_t word = 0;
	for (size_t i = 0; i < bytes; i += sizeof word) {
		size_t count = bytes - i < sizeof word ? bytes - i : sizeof word;
		memcpy(&word, (char *)at + i, count);
		word &= keep;
		memcpy((char *)at + i, &word, count);
	}
}

/* Whether the product w->out and `want`, the reference's, can both be within the bound of the exact sums.  The sum of
 * magnitudes that the bound speaks of is the reference's product of the operands without their signs. */
static int is_near(struct work *w, const unsigned char *weights, const struct octavo_kernels *reference,
                   const float *want)
{
	size_t count = w->m * w->n, bytes = w->op->weights(w);
	unsigned char *positive = malloc(bytes);
	float *got = malloc(count * sizeof *got);
	enum octavo_status status = positive && got ? OCTAVO_OK : OCTAVO_ENOMEM;
	int near = 1;
	if (status == OCTAVO_OK) {
		memcpy(got, w->out, count * sizeof *got);
		memcpy(positive, weights, bytes);
		make_positive(positive, bytes, w->op->fill);
		make_positive(w->in, w->op->in(w), FILL_BF16);
		status = w->op->run(w, reference, positive);
	}
	/* Twice the bound, and a bit for the rounding of the magnitudes. */
	double bound = 2.01 * (128 + (double)blocks_of(w->k)) * 0x1p-24;
	const float *magnitude = w->out;
	for (size_t i = 0; status == OCTAVO_OK && i < count; i++)
		near &= fabs((double)got[i] - want[i]) <= bound * magnitude[i];
	free(positive);
	free(got);
	return status == OCTAVO_OK ? near : (int)status;
}

int work_agrees(const struct work *w, const unsigned char *weights, const struct octavo_kernels *table,
                const struct octavo_kernels *reference, bool approximate)
{
	struct work small = *w;
	w->op->shrink(&small);
	if (!work_open(&small))
		return OCTAVO_ENOMEM;
	size_t bytes = w->op->out(&small);
	void *want = malloc(bytes);
	enum octavo_status status = want ? small.op->run(&small, reference, weights) : OCTAVO_ENOMEM;
	int same = 0;
	if (status == OCTAVO_OK) {
		memcpy(want, small.out, bytes);
		memset(small.out, 0, bytes);
		status = small.op->run(&small, table, weights);
		same = approximate ? is_near(&small, weights, reference, want) : memcmp(want, small.out, bytes) == 0;
	}
	free(want);
	work_close(&small);
	return status == OCTAVO_OK ? same : (int)status;
}
