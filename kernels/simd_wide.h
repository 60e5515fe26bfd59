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
	alignas(64) float xf[BLOCK * PANEL];
	size_t chunks = (count + CHUNK - 1) / CHUNK;

	for (size_t m = 0; m < x->rows; m += BLOCK) {
		size_t rows = smaller(BLOCK, x->rows - m);
		for (size_t i = 0; i < rows; i++)
			widen_row(x->x + (m + i) * x->ld + k0, count, 0, xf + i * PANEL);
		for (size_t i = 0; i < f.count; i += LANES) {
			struct fold part = f;
			part.y = f.y + m * f.ldy + i;
			part.count = smaller(LANES, f.count - i);
			multiply_block(rows, panel + i * PANEL, xf, chunks, &part);
		}
	}
}

#endif
