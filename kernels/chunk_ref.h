/* SPDX-License-Identifier: Apache-2.0
 *
 * The chunk of the contract, as the reference kernels share it: 32 weights decoded to F32, and the two
 * chains over the even and the odd elements.
 */
#ifndef OCTAVO_CHUNK_REF_H
#define OCTAVO_CHUNK_REF_H

#include "octavo_fp8.h"

#include "fp8/bits.h"

#include <math.h>
#include <string.h>

#define OCTAVO_CHUNK 32

/* A matrix with the values of its 256 codes, if it has codes. */
struct octavo_decoder {
	const struct octavo_matrix *w;
	float value[256];
};

static inline void octavo_decoder_init(struct octavo_decoder *d, const struct octavo_matrix *w)
{
	d->w = w;
	if (w->dtype == OCTAVO_E4M3)
		for (unsigned code = 0; code < 256; code++)
			d->value[code] = octavo_e4m3_decode((uint8_t)code);
	if (w->dtype == OCTAVO_E5M2)
		for (unsigned code = 0; code < 256; code++)
			d->value[code] = octavo_e5m2_decode((uint8_t)code);
}

/* `count` unscaled elements from storage index `first`, `step` apart: 1 along a row, ld down a column. */
static inline void octavo_decode(const struct octavo_decoder *d, size_t first, size_t step, size_t count,
                                 float out[OCTAVO_CHUNK])
{
	const uint8_t *data = d->w->data;
	uint16_t half;

	switch (d->w->dtype) {
	case OCTAVO_BF16:
		for (size_t i = 0; i < count; i++) {
			memcpy(&half, data + 2 * (first + i * step), sizeof half);
			out[i] = octavo_bf16_float(half);
		}
		break;
	case OCTAVO_F16:
		for (size_t i = 0; i < count; i++) {
			memcpy(&half, data + 2 * (first + i * step), sizeof half);
			out[i] = octavo_f16_decode(half);
		}
		break;
	case OCTAVO_F32:
		for (size_t i = 0; i < count; i++)
			memcpy(&out[i], data + 4 * (first + i * step), sizeof out[i]);
		break;
	default:
		for (size_t i = 0; i < count; i++)
			out[i] = d->value[data[first + i * step]];
	}
}

/* E + O.  The product of a BF16 value with a BF16, F16 or FP8 one is exact in F32, so a multiplication and
 * an addition round as one fused operation does; this costs a machine without FMA units no emulation. */
static inline float octavo_chunk(const uint16_t *x, const float *w, size_t count)
{
	float even = 0.0f, odd = 0.0f;
	size_t i = 0;

	for (; i + 1 < count; i += 2) {
		even = even + octavo_bf16_float(x[i]) * w[i];
		odd = odd + octavo_bf16_float(x[i + 1]) * w[i + 1];
	}
	if (i < count)
		even = even + octavo_bf16_float(x[i]) * w[i];
	return even + odd;
}

/* The same for F32 weights, whose products are not exact. */
static inline float octavo_chunk_f32(const uint16_t *x, const float *w, size_t count)
{
	float even = 0.0f, odd = 0.0f;

	for (size_t i = 0; i < count; i++) {
		float *chain = i % 2 ? &odd : &even;
		*chain = fmaf(octavo_bf16_float(x[i]), w[i], *chain);
	}
	return even + odd;
}

/* Where the piece that holds index i ends, on an axis of `size` that starts at `offset` in its scale block. */
static inline size_t octavo_piece_end(const struct octavo_matrix *w, unsigned offset, size_t i, size_t size)
{
	if (w->scale_dtype == OCTAVO_NONE)
		return size;
	size_t left = OCTAVO_BLOCK - (offset + i) % OCTAVO_BLOCK;
	return left < size - i ? i + left : size;
}

#endif
