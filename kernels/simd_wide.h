/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows by the panels of attention, WIDE outputs at once, for any vectors: see simd_attention.h.  A row's terms are made
 * once for all of a panel's vectors.
 */
#ifndef OCTAVO_SIMD_WIDE_H
#define OCTAVO_SIMD_WIDE_H

#include "kernels/simd_panel.h"

static inline void multiply_wide(const struct octavo_rows *x, size_t k0, size_t count, const term *panel, struct fold f)
{
	struct fold part[WIDE / LANES];
	size_t parts = 0;

	for (size_t i = 0; i < f.count; i += LANES, parts++) {
		part[parts] = f;
		part[parts].y += i;
		part[parts].count = smaller(LANES, f.count - i);
	}
	multiply_panels(x, k0, count, panel, parts, part);
}

#endif
