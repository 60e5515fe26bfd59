/* SPDX-License-Identifier: Apache-2.0
 *
 * Philox4x32-10: 128 random bits as a function of a 128-bit counter and a 64-bit key.
 * J. Salmon, M. Moraes, R. Dror, D. Shaw: Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011.
 */
#ifndef OCTAVO_PHILOX_H
#define OCTAVO_PHILOX_H

#include <stdint.h>

struct octavo_philox {
	uint32_t word[4];
};

static inline struct octavo_philox octavo_philox(struct octavo_philox counter, uint64_t key)
{
	uint32_t key0 = (uint32_t)key, key1 = (uint32_t)(key >> 32);
	uint32_t *c = counter.word;
	for (int round = 0; round < 10; round++) {
		uint64_t product0 = UINT64_C(0xD2511F53) * c[0];
		uint64_t product1 = UINT64_C(0xCD9E8D57) * c[2];
		c[0] = (uint32_t)(product1 >> 32) ^ c[1] ^ key0;
		c[1] = (uint32_t)product1;
		c[2] = (uint32_t)(product0 >> 32) ^ c[3] ^ key1;
		c[3] = (uint32_t)product0;
		key0 += 0x9E3779B9; /* Weyl sequences: the golden ratio and sqrt(3) - 1 */
		key1 += 0xBB67AE85;
	}
	return counter;
}

#endif
