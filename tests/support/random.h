/* SPDX-License-Identifier: Apache-2.0
 *
 * Random numbers that are the same everywhere, for tests that try many inputs.
 */
#ifndef OCTAVO_TEST_RANDOM_H
#define OCTAVO_TEST_RANDOM_H

#include <stdint.h>

/* 31 bits of Knuth's MMIX generator. */
static inline uint32_t random_bits(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* Uniform from 0 to below 1, of 24 bits; the generator of Numerical Recipes. */
static inline double random_uniform(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return (*state >> 8) * 0x1p-24;
}

#endif
