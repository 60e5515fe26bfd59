/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows by the panels of attention, which are two vectors wide, for any vectors: see simd_attention.h.  A row is widened
 * to F32 once for both vectors.
 */
#ifndef OCTAVO_SIMD_WIDE_H
#define OCTAVO_SIMD_WIDE_H

#include "kernels/simd_panel.h"

static inline void multiply_wide(const struct octavo_rows *x, size_t k0, size_t count, const float *panel,
                                 struct fold f)
{
	struct fold half[2];
	size_t halves = 0;

	for (size_t i = 0; i < f.count; i += LANES, halves++) {
		half[halves] = f;
		half[halves].y += i;
		half[halves].count = smaller(LANES, f.count - i);
	}
	multiply_panels(x, k0, count, panel, halves, half);
}

#endif
