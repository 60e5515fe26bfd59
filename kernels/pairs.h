/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether this processor's VDPBF16PS keeps the contract's chains: see dot.h.
 */
#ifndef OCTAVO_PAIRS_H
#define OCTAVO_PAIRS_H

/* 1 if the kernels of AVX512_BF16 agree with the reference on numbers that tell two roundings in turn from any other
 * way to add two products; 0 if not.  Executes them: only for a CPU that has their instructions. */
int octavo_pairs_are_chains(void);

#endif
