/* SPDX-License-Identifier: Apache-2.0
 *
 * Intel's and AMD's manuals give VDPBF16PS as two multiply-adds, one after the other.  A processor or an emulator that
 * fused them, or rounded otherwise, would break the one arithmetic without a sign: so it is tried first.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "kernels/pairs.h"

#ifdef HAVE_AVX512BF16

#include "kernels/fpenv.h"
#include "kernels/sets.h"

#include <string.h>

enum { ROWS = 3, OUTPUTS = 16, COLUMNS = 192 };

/* Numbers of either sign in [2^-4, 2^4): products of two are seldom far apart, so nearly every sum rounds. */
static void fill(uint16_t *to, size_t count, uint32_t *state)
{
	for (size_t i = 0; i < count; i++) {
		*state = *state * 1664525u + 1013904223u; /* Numerical Recipes' generator */
		uint32_t bits = *state >> 8;
		to[i] = (uint16_t)((bits & 0x807f) | (123 + (bits >> 16) % 8) << 7);
	}
}

int octavo_pairs_are_chains(void)
{
	static uint16_t w[OUTPUTS * COLUMNS], x[ROWS * COLUMNS];
	float y[2][ROWS * OUTPUTS];
	uint32_t state = 1;
	const struct octavo_matrix matrix = {
	        .data = w, .dtype = OCTAVO_BF16, .rows = OUTPUTS, .cols = COLUMNS, .ld = COLUMNS};
	const struct octavo_rows rows = {.x = x, .rows = ROWS, .ld = COLUMNS};

	fill(w, OUTPUTS * COLUMNS, &state);
	fill(x, ROWS * COLUMNS, &state);
	octavo_fpenv saved = octavo_fpenv_enter();
	octavo_set_gemm_ref.gemm_bf16->run(&matrix, 0, OUTPUTS, &rows, y[0], OUTPUTS);
	octavo_set_gemm_avx512bf16.gemm_bf16->run(&matrix, 0, OUTPUTS, &rows, y[1], OUTPUTS);
	octavo_fpenv_leave(saved);
	return !memcmp(y[0], y[1], sizeof y[0]);
}

#else

int octavo_pairs_are_chains(void)
{
	return 1; /* there is nothing that would use them */
}

#endif
