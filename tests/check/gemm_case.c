/* SPDX-License-Identifier: Apache-2.0
 *
 * Random operands for the checks of matrix products.
 */
#include "gemm_case.h"
#include "oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool one_in(struct check *check, uint32_t n)
{
	return check_random(check) % n == 0;
}

/* ---- Weights ---- */

static uint8_t random_code(struct check *check, enum octavo_dtype dtype, enum gemm_fill fill)
{
	uint8_t sign = check_random(check) & 0x80;
	uint8_t largest = dtype == OCTAVO_E4M3 ? 0x7E : 0x7B;

	switch (fill) {
	case FILL_NAN:
		return one_in(check, 200) ? sign | 0x7F : sign | (uint8_t)check_pick(check, 0, largest);
	case FILL_TINY:
		return sign | (uint8_t)check_pick(check, 0, dtype == OCTAVO_E4M3 ? 9 : 5);
	case FILL_LARGE:
		return sign | (uint8_t)(largest - check_pick(check, 0, 9));
	case FILL_ZERO:
		return one_in(check, 3) ? sign : sign | (uint8_t)check_pick(check, 0, largest);
	default:
		return sign | (uint8_t)check_pick(check, 0, largest);
	}
}

/* BF16 and F32 weights are at least 2^-72 in magnitude: smaller ones are outside the contract. */
static float random_weight(struct check *check, enum gemm_fill fill)
{
	switch (fill) {
	case FILL_NAN:
		return one_in(check, 200) ? NAN : check_float(check, -12, 8);
	case FILL_TINY:
		return check_float(check, -72, -69);
	case FILL_LARGE:
		return check_float(check, 2, 8);
	case FILL_ZERO:
		return one_in(check, 3) ? copysignf(0.0f, check_float(check, 0, 0)) : check_float(check, -12, 8);
	default:
		return check_float(check, -12, 8);
	}
}

static uint16_t random_f16(struct check *check, enum gemm_fill fill)
{
	uint16_t bits = (uint16_t)check_random(check);

	switch (fill) {
	case FILL_NAN:
		return one_in(check, 200) ? 0x7E00 : bits & 0xBFFF;
	case FILL_TINY:
		return bits & 0x83FF; /* subnormal */
	case FILL_LARGE:
		return (bits & 0x83FF) | 0x7800;
	case FILL_ZERO:
		return one_in(check, 3) ? bits & 0x8000 : bits & 0xBFFF;
	default:
		return bits & 0xBFFF; /* below 2 */
	}
}

static void store_weight(struct check *check, uint8_t *data, size_t index, enum octavo_dtype dtype, enum gemm_fill fill)
{
	if (dtype == OCTAVO_F32) {
		float value = random_weight(check, fill);
		memcpy(data + 4 * index, &value, sizeof value);
	} else if (dtype == OCTAVO_BF16 || dtype == OCTAVO_F16) {
		uint16_t half = random_f16(check, fill);
		if (dtype == OCTAVO_BF16) {
			float value = random_weight(check, fill);
			uint32_t bits;
			memcpy(&bits, &value, sizeof bits);
			half = (uint16_t)(bits >> 16);
		}
		memcpy(data + 2 * index, &half, sizeof half);
	} else {
		data[index] = random_code(check, dtype, fill);
	}
}

/* All bits set is a NaN in every dtype. */
static void *random_weights(struct check *check, const struct gemm_shape *s, size_t ld)
{
	size_t count = (s->n - 1) * ld + s->k;
	uint8_t *data = check_alloc(check, count * octavo_dtype_size(s->dtype), 1);

	memset(data, 0xFF, count * octavo_dtype_size(s->dtype));
	for (size_t n = 0; n < s->n; n++) {
		bool zero_row = s->fill == FILL_ZERO && one_in(check, 4);
		for (size_t k = 0; k < s->k; k++) {
			if (zero_row)
				memset(data + (n * ld + k) * octavo_dtype_size(s->dtype), 0,
				       octavo_dtype_size(s->dtype));
			else
				store_weight(check, data, n * ld + k, s->dtype, s->fill);
		}
	}
	return data;
}

/* ---- Scales ---- */

static float random_scale(struct check *check, enum gemm_fill fill)
{
	/* Zero, a subnormal, the largest that counts as zero, the bound itself, and just above. */
	static const float tiny[] = {0.0f, 0x1p-140f, 0x1.fep-41f, 0x1p-40f, 0x1.02p-40f};

	if (fill == FILL_TINY)
		return tiny[check_pick(check, 0, 4)];
	if (fill == FILL_LARGE)
		return one_in(check, 2) ? 0x1p40f : fabsf(check_float(check, 0, 39));
	return fabsf(check_float(check, -14, -4));
}

static void store_scale(uint8_t *scale, size_t index, enum octavo_dtype dtype, float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	if (dtype == OCTAVO_F32) {
		memcpy(scale + 4 * index, &value, sizeof value);
	} else if (dtype == OCTAVO_BF16) {
		uint16_t half = (uint16_t)(bits >> 16);
		memcpy(scale + 2 * index, &half, sizeof half);
	} else {
		scale[index] = (uint8_t)(bits >> 23);
	}
}

static void random_scales(struct check *check, const struct gemm_shape *s, struct octavo_matrix *w)
{
	size_t size = octavo_dtype_size(s->scale_dtype);
	size_t rows = (s->row0 + s->n - 1) / OCTAVO_BLOCK + 1, cols = (s->col0 + s->k - 1) / OCTAVO_BLOCK + 1;

	w->scale_ld = cols + (one_in(check, 2) ? check_pick(check, 0, 3) : 0);
	size_t count = (rows - 1) * w->scale_ld + cols;
	uint8_t *scale = check_alloc(check, count * size, 1);
	memset(scale, 0xFF, count * size);
	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < cols; j++)
			store_scale(scale, i * w->scale_ld + j, s->scale_dtype, random_scale(check, s->fill));
	w->scale = scale;
}

/* ---- Activations ---- */

static uint16_t random_activation(struct check *check, const struct gemm_shape *s)
{
	switch (s->fill) {
	case FILL_TINY:
		return check_bf16(check, -40, -38);
	case FILL_LARGE: /* a product with the largest weight, E5M2's 57344, stays finite */
		if (s->k % 2 == 0) /* about where the vector sets leave their short cut */
			return check_bf16(check, 64, (int)(64 + s->m % 4));
		return check_bf16(check, 98, 110);
	case FILL_ZERO:
		return one_in(check, 3) ? check_bf16(check, 0, 0) & 0x8000 : check_bf16(check, -8, 8);
	case FILL_SPECIAL:
		return one_in(check, 100) ? (uint16_t)(0x7F80 | (check_random(check) & 0x8001))
		                          : check_bf16(check, -8, 8);
	default:
		return check_bf16(check, -8, 8);
	}
}

/* The value of a random code, as the quantiser leaves them. */
static uint16_t random_quantised(struct check *check, enum gemm_fill fill)
{
	float value = octavo_e4m3_decode(random_code(check, OCTAVO_E4M3, fill));
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	return (uint16_t)(bits >> 16);
}

static struct octavo_rows random_rows(struct check *check, const struct gemm_shape *s, size_t length)
{
	size_t groups = (length + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK;
	struct octavo_rows rows = {.rows = s->m};
	rows.ld = length + (one_in(check, 2) ? check_pick(check, 0, 40) : 0);
	rows.scale_ld = groups + (one_in(check, 2) ? check_pick(check, 0, 2) : 0);

	size_t count = (s->m - 1) * rows.ld + length;
	uint16_t *x = check_alloc(check, count * sizeof *x, sizeof *x);
	memset(x, 0xFF, count * sizeof *x);
	for (size_t m = 0; m < s->m; m++)
		for (size_t i = 0; i < length; i++)
			x[m * rows.ld + i] =
			        s->row_scales ? random_quantised(check, s->fill) : random_activation(check, s);
	rows.x = x;
	if (!s->row_scales)
		return rows;

	count = (s->m - 1) * rows.scale_ld + groups;
	float *scale = check_alloc(check, count * sizeof *scale, sizeof *scale);
	memset(scale, 0xFF, count * sizeof *scale);
	for (size_t m = 0; m < s->m; m++)
		for (size_t i = 0; i < groups; i++) /* the quantiser's least scale is 1e-4 / 448, or 2^-22 */
			scale[m * rows.scale_ld + i] = fabsf(check_float(check, -22, s->fill == FILL_TINY ? -20 : 2));
	for (size_t i = 0; i < groups && s->fill == FILL_LARGE; i++)
		scale[check_pick(check, 0, s->m - 1) * rows.scale_ld + i] = fabsf(check_float(check, 24, 30));
	rows.scale = scale;
	return rows;
}

/* ---- The case ---- */

struct gemm_case gemm_case_make(struct check *check, const struct gemm_shape *s)
{
	static const char *const fills[] = {"plain", "nan", "tiny", "large", "zero", "special"};

	check_case(check, "M=%zu N=%zu K=%zu ld=%zu %s scale=%s row0=%u col0=%u%s fill=%s", s->m, s->n, s->k, s->ld,
	           octavo_dtype_name(s->dtype), octavo_dtype_name(s->scale_dtype), s->row0, s->col0,
	           s->row_scales ? " row scales" : "", fills[s->fill]);
	return gemm_case_add(check, s);
}

struct gemm_case gemm_case_add(struct check *check, const struct gemm_shape *s)
{
	struct gemm_case c = {.transposed = s->transposed, .fill = s->fill};

	c.w = (struct octavo_matrix){
	        .rows = s->n,
	        .cols = s->k,
	        .ld = s->ld ? s->ld : s->k + (one_in(check, 2) ? check_pick(check, 0, 70) : 0),
	        .dtype = s->dtype,
	        .scale_dtype = s->scale_dtype,
	        .row0 = s->row0,
	        .col0 = s->col0,
	};
	c.w.data = random_weights(check, s, c.w.ld);
	if (s->scale_dtype != OCTAVO_NONE)
		random_scales(check, s, &c.w);
	c.x = random_rows(check, s, s->transposed ? s->n : s->k);
	c.width = s->transposed ? s->k : s->n;
	c.ldy = c.width + (one_in(check, 2) ? check_pick(check, 0, 9) : 0);
	/* Room for the last row's padding too: that it stays untouched is part of the comparison. */
	c.want = check_alloc(check, s->m * c.ldy * sizeof *c.want, sizeof *c.want);
	c.got = check_alloc(check, s->m * c.ldy * sizeof *c.got, sizeof *c.got);
	return c;
}

void gemm_case_equal(struct check *check, const struct gemm_case *c)
{
	check_equal_f32(check, "y", c->want, c->got, c->x.rows, c->ldy);
}

void gemm_case_oracle(struct check *check, const struct gemm_case *c)
{
	size_t count = c->x.rows * c->width, far = count;
	struct oracle_near *near = malloc(count * sizeof *near); /* [rows][width] */
	/* Sums may overflow to infinity: within the chain rule, but beyond the bound. */
	bool bounded = c->fill != FILL_LARGE && c->fill != FILL_SPECIAL;

	check_that(check, near, "out of memory");
	oracle_take_subnormals();
	oracle_gemm(&c->w, c->transposed, 0, c->width, &c->x, c->want, c->ldy, near);
	for (size_t i = 0; bounded && i < count; i++) {
		double got = c->got[i / c->width * c->ldy + i % c->width];
		bool close = isnan(near[i].sum) ? isnan(got) : fabs(got - near[i].sum) <= near[i].bound;
		far = close ? far : i;
	}
	free(near);
	check_that(check, far == count, "y[%zu][%zu] is too far from the exact sum", far / c->width, far % c->width);
	/* Only F32 weights can cancel below the normal numbers, and FMA units do not mind. */
	check_that(check, oracle_take_subnormals() == 0 || c->w.dtype == OCTAVO_F32,
	           "an intermediate result is subnormal");
}

struct octavo_rows gemm_case_row(const struct gemm_case *c, size_t m)
{
	struct octavo_rows row = c->x;
	row.x += m * row.ld;
	row.rows = 1;
	if (row.scale)
		row.scale += m * row.scale_ld;
	return row;
}
