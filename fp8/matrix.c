/* SPDX-License-Identifier: Apache-2.0
 *
 * Block-scaled matrix views.  The scale of element (n, k) is that of block
 * ((row0 + n) / 128, (col0 + k) / 128), counted from the block that the view starts in:
 *
 *       col0
 *       |-->
 *     - +------------+------------+------------+
 * row0| |   scale    |            |            |
 *     v |  +[0][0]---|---[0][1]---|---[0][2]+  |
 *       |  |         |            |         |  |
 *       +--|---------+------------+---------|--+
 *       |  |[1][0]   |   [1][1]   |   [1][2]|  |
 *       |  +---------|------------|---------+  |
 *       +------------+------------+------------+
 *
 * Checkpoints align nothing, so every element is read by memcpy.
 */
#include "octavo_fp8.h"

#include "fp8/bits.h"

static float load(enum octavo_dtype dtype, const void *array, size_t index)
{
	size_t size = octavo_dtype_size(dtype);
	const unsigned char *at = (const unsigned char *)array + index * size;
	uint16_t half;
	float single;
	switch (dtype) {
	case OCTAVO_F32:
		memcpy(&single, at, sizeof single);
		return single;
	case OCTAVO_BF16:
		memcpy(&half, at, sizeof half);
		return octavo_bf16_decode(half);
	case OCTAVO_F16:
		memcpy(&half, at, sizeof half);
		return octavo_f16_decode(half);
	case OCTAVO_E4M3:
		return octavo_e4m3_decode(*at);
	case OCTAVO_E5M2:
		return octavo_e5m2_decode(*at);
	case OCTAVO_E8M0:
		return octavo_e8m0_decode(*at);
	case OCTAVO_NONE:
		break;
	}
	return 0.0f;
}

float octavo_matrix_scale(const struct octavo_matrix *w, size_t n, size_t k)
{
	if (w->scale_dtype == OCTAVO_NONE)
		return 1.0f;
	size_t block = (w->row0 + n) / OCTAVO_BLOCK * w->scale_ld + (w->col0 + k) / OCTAVO_BLOCK;
	float scale = load(w->scale_dtype, w->scale, block);
	return scale < 0x1p-40f ? 0.0f : scale;
}

float octavo_matrix_value(const struct octavo_matrix *w, size_t n, size_t k)
{
	return load(w->dtype, w->data, n * w->ld + k) * octavo_matrix_scale(w, n, k);
}

struct octavo_matrix octavo_matrix_view(const struct octavo_matrix *w, size_t n0, size_t rows, size_t k0, size_t cols)
{
	struct octavo_matrix view = *w;
	view.data = (const unsigned char *)w->data + (n0 * w->ld + k0) * octavo_dtype_size(w->dtype);
	view.rows = rows;
	view.cols = cols;
	if (w->scale_dtype == OCTAVO_NONE)
		return view;
	size_t row = w->row0 + n0, col = w->col0 + k0;
	size_t block = row / OCTAVO_BLOCK * w->scale_ld + col / OCTAVO_BLOCK;
	view.scale = (const unsigned char *)w->scale + block * octavo_dtype_size(w->scale_dtype);
	view.row0 = row % OCTAVO_BLOCK;
	view.col0 = col % OCTAVO_BLOCK;
	return view;
}

/* Whether [rows][ld] elements can exist at all: no object is larger than PTRDIFF_MAX bytes. */
static int extent_fits(size_t rows, size_t ld, enum octavo_dtype dtype)
{
	return ld <= PTRDIFF_MAX / octavo_dtype_size(dtype) / rows;
}

static int dtypes_fit(enum octavo_dtype dtype, enum octavo_dtype scale_dtype)
{
	switch (dtype) {
	case OCTAVO_E4M3:
	case OCTAVO_E5M2:
		return scale_dtype == OCTAVO_NONE || scale_dtype == OCTAVO_F32 || scale_dtype == OCTAVO_BF16 ||
		       scale_dtype == OCTAVO_E8M0;
	case OCTAVO_F32:
	case OCTAVO_BF16:
	case OCTAVO_F16:
		return scale_dtype == OCTAVO_NONE;
	default:
		return 0;
	}
}

static enum octavo_status check_scales(const struct octavo_matrix *w)
{
	if (!w->scale || w->row0 >= OCTAVO_BLOCK || w->col0 >= OCTAVO_BLOCK)
		return OCTAVO_EINVAL;
	size_t block_rows = (w->row0 + w->rows - 1) / OCTAVO_BLOCK + 1;
	size_t block_cols = (w->col0 + w->cols - 1) / OCTAVO_BLOCK + 1;
	if (w->scale_ld < block_cols || !extent_fits(block_rows, w->scale_ld, w->scale_dtype))
		return OCTAVO_EINVAL;
	for (size_t i = 0; i < block_rows; i++)
		for (size_t j = 0; j < block_cols; j++) {
			float scale = load(w->scale_dtype, w->scale, i * w->scale_ld + j);
			if (!(scale >= 0.0f && scale <= 0x1p40f)) /* a NaN fails both comparisons */
				return OCTAVO_ENUMERIC;
		}
	return OCTAVO_OK;
}

enum octavo_status octavo_matrix_check(const struct octavo_matrix *w)
{
	if (!w || !w->data || w->rows == 0 || w->cols == 0 || w->ld < w->cols)
		return OCTAVO_EINVAL;
	if (!dtypes_fit(w->dtype, w->scale_dtype) || !extent_fits(w->rows, w->ld, w->dtype))
		return OCTAVO_EINVAL;
	return w->scale_dtype == OCTAVO_NONE ? OCTAVO_OK : check_scales(w);
}
