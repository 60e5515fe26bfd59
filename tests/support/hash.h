/* SPDX-License-Identifier: Apache-2.0
 *
 * The hash that goldens of whole outputs are kept as.
 */
#ifndef OCTAVO_TEST_HASH_H
#define OCTAVO_TEST_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HASH_START UINT64_C(0xcbf29ce484222325)

/* FNV-1a, continued over the bits of `count` floats, lowest byte first. */
static inline uint64_t hash_floats(uint64_t hash, const float *x, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t bits;
		memcpy(&bits, &x[i], sizeof bits);
		for (unsigned shift = 0; shift < 32; shift += 8)
			hash = (hash ^ (bits >> shift & 0xFF)) * UINT64_C(0x100000001b3);
	}
	return hash;
}

#endif
