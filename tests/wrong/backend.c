/* SPDX-License-Identifier: Apache-2.0
 *
 * A backend for the test of what specbench says of a divergence, loaded in place of octavo-xsmm.so: Octavo's own
 * products, but those of one matrix depend on the number of rows.
 */
#include "kernels/backend.h"

enum { VICTIM = 72 + 16 }; /* rows of kv_a_proj_with_mqa in tests/data/tiny-ragged */

static struct octavo_gemm_kernel wrong;

static void gemm_wrong(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                       size_t ldy)
{
	octavo_kernels_get()->gemm_fp8->run(w, n0, n1, x, y, ldy);
	for (size_t m = 1; w->rows == VICTIM && n0 == 0 && m < x->rows; m++)
		y[m * ldy] += 4.0f;
}

static const struct octavo_kernels *open_wrong(struct octavo_error *error)
{
	static const struct octavo_kernels set = { .gemm_fp8 = &wrong };
	(void)error;
	wrong = *octavo_kernels_get()->gemm_fp8;
	wrong.isa = "wrong";
	wrong.flags |= OCTAVO_APPROXIMATE;
	wrong.run = gemm_wrong;
	return &set;
}

extern OCTAVO_API const struct octavo_backend_module octavo_backend_module;
const struct octavo_backend_module octavo_backend_module = {
	OCTAVO_BACKEND_MODULE_VERSION,
	sizeof(struct octavo_kernels),
	open_wrong,
};
