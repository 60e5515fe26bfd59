/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of the latent cache in FP8, made of the table's codecs.
 */
#include "kernels/fpenv.h"
#include "octavo_kernels.h"

#include <string.h>

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t groups_of(size_t latent)
{
	return (latent + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK;
}

size_t octavo_kv_row_bytes(size_t latent, size_t rope)
{
	return latent + groups_of(latent) * sizeof(float) + rope * sizeof(uint16_t);
}

void octavo_kv_row_write(const struct octavo_kernels *table, uint8_t *entry, const float *row, size_t latent,
                         size_t rope)
{
	uint8_t *scale_at = entry + latent, *rope_at = scale_at + groups_of(latent) * sizeof(float);
	uint16_t value[OCTAVO_BLOCK];
	float wide[OCTAVO_BLOCK], scale;
	octavo_fpenv caller = octavo_fpenv_enter();

	for (size_t i = 0; i < latent; i += OCTAVO_BLOCK) {
		size_t count = smaller(OCTAVO_BLOCK, latent - i);
		table->quantise->run(value, &scale, row + i, count, OCTAVO_SCALE_AMAX);
		for (size_t j = 0; j < count; j++)
			wide[j] = octavo_bf16_decode(value[j]);
		table->encode_e4m3->run(entry + i, wide, count);
		memcpy(scale_at, &scale, sizeof scale); /* a latent of odd width aligns nothing */
		scale_at += sizeof scale;
	}
	for (size_t i = 0; i < rope; i += OCTAVO_BLOCK) {
		size_t count = smaller(OCTAVO_BLOCK, rope - i);
		table->round->run(value, row + latent + i, count);
		memcpy(rope_at + i * sizeof *value, value, count * sizeof *value);
	}
	octavo_fpenv_leave(caller);
}

void octavo_kv_row_read(const struct octavo_kernels *table, uint16_t *row, const uint8_t *entry, size_t latent,
                        size_t rope)
{
	const uint8_t *scale_at = entry + latent;
	octavo_fpenv caller = octavo_fpenv_enter();
	float scale;

	for (size_t i = 0; i < latent; i += OCTAVO_BLOCK) {
		memcpy(&scale, scale_at, sizeof scale);
		scale_at += sizeof scale;
		table->decode_e4m3->run(row + i, entry + i, scale, smaller(OCTAVO_BLOCK, latent - i));
	}
	memcpy(row + latent, scale_at, rope * sizeof *row);
	octavo_fpenv_leave(caller);
}
