/* SPDX-License-Identifier: Apache-2.0
 *
 * Quantisers of DeepSeek-V3: activations in 1x128 groups, weights in 128x128 blocks
 * (report, arXiv 2412.19437, section 3.3.2).
 */
#include "octavo_fp8.h"

#include "fp8/bits.h"

static const float e4m3_max = 448.0f;
/* The floor of DeepSeek's kernels: a group of zeros gets a scale that can be divided by. */
static const float smallest_amax = 1e-4f;

static float scale_of(float amax, enum octavo_scale_rule rule)
{
	float scale = amax / e4m3_max;
	return rule == OCTAVO_SCALE_E8M0 ? octavo_e8m0_decode(octavo_e8m0_encode_up(scale)) : scale;
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static float quantise_group(uint8_t *code, const uint16_t *x, size_t count, enum octavo_scale_rule rule)
{
	uint16_t amax = 0; /* magnitudes order like their bits */
	for (size_t i = 0; i < count; i++)
		if ((x[i] & 0x7FFF) > amax)
			amax = x[i] & 0x7FFF;
	if (amax >= 0x7F80) { /* infinity or NaN */
		memset(code, OCTAVO_FP8_NAN, count);
		return 1.0f;
	}
	float largest = octavo_bf16_decode(amax);
	float scale = scale_of(largest > smallest_amax ? largest : smallest_amax, rule);
	for (size_t i = 0; i < count; i++)
		code[i] = octavo_e4m3_encode_sat(octavo_bf16_decode(x[i]) / scale);
	return scale;
}

void octavo_quantise_1x128(uint8_t *code, float *scale, const uint16_t *x, size_t cols, enum octavo_scale_rule rule)
{
	for (size_t k = 0; k < cols; k += OCTAVO_BLOCK)
		scale[k / OCTAVO_BLOCK] = quantise_group(code + k, x + k, min_size(cols - k, OCTAVO_BLOCK), rule);
}

/* Returns the scale, or a negative number if the contract has none for the block. */
static float quantise_block(uint8_t *code, size_t ldcode, const float *w, size_t ld, size_t rows, size_t cols,
                            enum octavo_scale_rule rule)
{
	uint32_t amax = 0;
	for (size_t n = 0; n < rows; n++)
		for (size_t k = 0; k < cols; k++) {
			uint32_t magnitude = octavo_float_bits(w[n * ld + k]) & OCTAVO_F32_MAGNITUDE;
			if (magnitude > amax)
				amax = magnitude;
		}
	if (amax >= OCTAVO_F32_INFINITY)
		return -1.0f;
	float scale = scale_of(octavo_bits_float(amax), rule);
	if (scale > 0x1p40f)
		return -1.0f;
	/* The block counts as zero.  Scale 1 makes it so, and no division by zero can turn a weight into NaN. */
	if (scale < 0x1p-40f)
		scale = 1.0f;
	for (size_t n = 0; n < rows; n++)
		for (size_t k = 0; k < cols; k++)
			code[n * ldcode + k] = octavo_e4m3_encode_sat(w[n * ld + k] / scale);
	return scale;
}

enum octavo_status octavo_quantise_128x128(uint8_t *code, float *scale, const float *w, size_t rows, size_t cols,
                                           size_t ld, enum octavo_scale_rule rule)
{
	if (!code || !scale || !w || rows == 0 || cols == 0 || ld < cols || rows > PTRDIFF_MAX / sizeof *w / ld)
		return OCTAVO_EINVAL;
	for (size_t n = 0; n < rows; n += OCTAVO_BLOCK)
		for (size_t k = 0; k < cols; k += OCTAVO_BLOCK) {
			float s = quantise_block(code + n * cols + k, cols, w + n * ld + k, ld,
			                         min_size(rows - n, OCTAVO_BLOCK), min_size(cols - k, OCTAVO_BLOCK),
			                         rule);
			if (s < 0.0f)
				return OCTAVO_ENUMERIC;
			*scale++ = s;
		}
	return OCTAVO_OK;
}
