/* SPDX-License-Identifier: Apache-2.0
 *
 * Stochastic rounding to E4M3: unbiased where rounding to nearest would lose small updates for good.
 */
#include "octavo_fp8.h"

#include "fp8/bits.h"
#include "fp8/philox.h"

/* The last counter word of every block here.  It keeps this stream apart from that of the acceptance rules,
 * which may share the seed and has a small purpose number in the word's top byte. */
#define STOCHASTIC_PURPOSE 0xF8000000

/* The fraction of significand / 2^shift in units of 2^-32, lower bits cut off. */
static uint32_t fraction32(uint32_t significand, unsigned shift)
{
	if (shift >= 64)
		return 0;
	return (uint32_t)(shift <= 32 ? (uint64_t)significand << (32 - shift) : (uint64_t)significand >> (shift - 32));
}

uint8_t octavo_e4m3_encode_stochastic(float x, uint32_t random)
{
	uint32_t bits = octavo_float_bits(x), magnitude = bits & OCTAVO_F32_MAGNITUDE;
	uint8_t sign = (uint8_t)(bits >> 24 & 0x80);
	if (magnitude >= octavo_float_bits(448.0f)) /* no upper neighbour, or NaN */
		return octavo_e4m3_encode_sat(x);
	struct octavo_unrounded u = octavo_unrounded(magnitude, OCTAVO_E4M3_MANTISSA, OCTAVO_E4M3_BIAS);
	uint32_t below = u.shift < 32 ? u.significand >> u.shift : 0;
	return sign | (uint8_t)(u.base + below + (random < fraction32(u.significand, u.shift)));
}

void octavo_e4m3_encode_stochastic_n(uint8_t *code, const float *x, size_t count, uint64_t seed, uint64_t first)
{
	struct octavo_philox block = {{0}};
	for (size_t i = 0; i < count; i++) {
		uint64_t index = first + i; /* four elements to a block */
		if (i == 0 || index % 4 == 0) {
			uint64_t n = index / 4;
			struct octavo_philox counter = {{(uint32_t)n, (uint32_t)(n >> 32), 0, STOCHASTIC_PURPOSE}};
			block = octavo_philox(counter, seed);
		}
		code[i] = octavo_e4m3_encode_stochastic(x[i], block.word[index % 4]);
	}
}
