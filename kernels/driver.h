/* SPDX-License-Identifier: Apache-2.0
 *
 * What the drivers share, and whoever else calls the slots of matrix products.
 */
#ifndef OCTAVO_DRIVER_H
#define OCTAVO_DRIVER_H

#include "octavo_kernels.h"

/* The GEMM slot for a matrix's dtype. */
static inline const struct octavo_gemm_kernel *octavo_gemm_slot(const struct octavo_kernels *table,
                                                                const struct octavo_matrix *w)
{
	switch (w->dtype) {
	case OCTAVO_BF16:
	case OCTAVO_F16:
		return table->gemm_bf16;
	case OCTAVO_F32:
		return table->gemm_f32;
	default:
		return table->gemm_fp8;
	}
}

/* Columns of output that are never cut apart: whole granules, and whole cache lines of y. */
static inline size_t octavo_gemm_unit(const struct octavo_kernels *table, const struct octavo_matrix *w)
{
	enum { LINE = 16 };
	size_t granule = octavo_gemm_slot(table, w)->granule;

	return (granule + LINE - 1) / LINE * LINE;
}

/* Can [rows][ld] elements of `size` bytes be addressed, with ld at least `width`? */
static inline int octavo_addressable(size_t rows, size_t ld, size_t width, size_t size)
{
	return ld >= width && width > 0 && rows <= SIZE_MAX / size / ld;
}

/* Is p there, and where elements of `size` bytes may lie? */
static inline int octavo_is_array(const void *p, size_t size)
{
	return p && (uintptr_t)p % size == 0;
}

/* NULL runs everything serially. */
static inline int octavo_can_run(const struct octavo_parallel *parallel)
{
	return !parallel || parallel->run;
}

#endif
