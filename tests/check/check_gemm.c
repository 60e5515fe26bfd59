/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of the matrix products: shapes, values, slices, rows.  The four slots share one signature and one contract;
 * the transposed product differs in which axis of w is summed.
 */
#include "gemm_case.h"
#include "oracle.h"

#include <math.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* One slot and the weights that it takes. */
struct subject {
	struct octavo_gemm_kernel ref, new;
	bool transposed;
	enum octavo_dtype dtype[5];
	size_t dtypes;
};

static struct subject gemm_fp8(struct check *check)
{
	return (struct subject){*check->ref->gemm_fp8, *check->new->gemm_fp8, false, {OCTAVO_E4M3, OCTAVO_E5M2}, 2};
}

static struct subject gemm_bf16(struct check *check)
{
	return (struct subject){*check->ref->gemm_bf16, *check->new->gemm_bf16, false, {OCTAVO_BF16, OCTAVO_F16}, 2};
}

static struct subject gemm_f32(struct check *check)
{
	return (struct subject){*check->ref->gemm_f32, *check->new->gemm_f32, false, {OCTAVO_F32}, 1};
}

/* The types of the two functions are compatible; those of the descriptors are not. */
static struct octavo_gemm_kernel plain(const struct octavo_gemm_t_kernel *kernel)
{
	return (struct octavo_gemm_kernel){kernel->name, kernel->isa, kernel->flags, kernel->granule, kernel->run};
}

static struct subject gemm_t(struct check *check)
{
	return (struct subject){plain(check->ref->gemm_t),
	                        plain(check->new->gemm_t),
	                        true,
	                        {OCTAVO_E4M3, OCTAVO_E5M2, OCTAVO_BF16, OCTAVO_F16, OCTAVO_F32},
	                        5};
}

static void compare(struct check *check, const struct subject *s, const struct gemm_shape *shape)
{
	struct gemm_case c = gemm_case_make(check, shape);

	check_run(check, &s->new, &c.w, 0, c.width, &c.x, c.got, c.ldy);
	if (check->level_two)
		gemm_case_oracle(check, &c);
	else
		check_run(check, &s->ref, &c.w, 0, c.width, &c.x, c.want, c.ldy);
	gemm_case_equal(check, &c);
}

/* ---- Shapes ---- */

static const size_t all_m[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 33, 65, 129};
static const size_t widths[] = {1, 2, 7, 8, 15, 16, 17, 24, 31, 32, 33, 63, 64, 65, 127, 128, 129, 160, 192, 200};
static const size_t lengths[] = {1,   2,   7,   31,  32,  33,  63,  64,  65,  96,  127,
                                 128, 129, 160, 192, 200, 255, 256, 257, 384, 576, 1000};

/* y is [m][width] and each element a sum of `length` products; draws what this leaves open: dtypes and where the view
 * starts in its scale block. */
static struct gemm_shape draw_shape(struct check *check, const struct subject *s, size_t m, size_t width, size_t length)
{
	static const enum octavo_dtype scales[] = {OCTAVO_F32, OCTAVO_F32, OCTAVO_BF16, OCTAVO_E8M0, OCTAVO_NONE};
	struct gemm_shape shape = {
	        .m = m,
	        .n = s->transposed ? length : width,
	        .k = s->transposed ? width : length,
	        .dtype = s->dtype[check_pick(check, 0, s->dtypes - 1)],
	        .transposed = s->transposed,
	};

	if (shape.dtype == OCTAVO_E4M3 || shape.dtype == OCTAVO_E5M2)
		shape.scale_dtype = scales[check_pick(check, 0, COUNT(scales) - 1)];
	if (shape.scale_dtype != OCTAVO_NONE && check_pick(check, 0, 2) == 0) {
		shape.row0 = (unsigned)check_pick(check, 0, 127);
		shape.col0 = (unsigned)check_pick(check, 0, 127);
	}
	return shape;
}

/* Every M with every length and every M with every width, the third size drawn twice, small where others are large. */
static void shapes(struct check *check, const struct subject *s)
{
	for (size_t i = 0; i < COUNT(all_m); i++) {
		size_t most = all_m[i] > 17 ? 40 : 130;
		for (size_t j = 0; j < 2 * COUNT(lengths); j++) {
			size_t length = lengths[j / 2], width = check_pick(check, 1, length > 300 ? most / 3 : most);
			struct gemm_shape shape = draw_shape(check, s, all_m[i], width, length);
			compare(check, s, &shape);
		}
		for (size_t j = 0; j < 2 * COUNT(widths); j++) {
			size_t length = check_pick(check, 1, j % 2 ? most : 2 * most);
			struct gemm_shape shape = draw_shape(check, s, all_m[i], widths[j / 2], length);
			compare(check, s, &shape);
		}
	}
}

/* The inner sizes of DeepSeek-V3, and rows 4096 bytes apart, which meet in one set of the L1 cache. */
static void deep(struct check *check, const struct subject *s)
{
	static const size_t depth[] = {1536, 2048, 4096, 7168, 7169, 18432};

	for (size_t i = 0; i < COUNT(depth); i++)
		for (size_t m = 1; m <= 5; m += 2) {
			struct gemm_shape shape = draw_shape(check, s, m, check_pick(check, 1, 19), depth[i]);
			compare(check, s, &shape);
		}
}

/* Rows that all begin at the same place in a cache line, at each in turn: a buffer ends beside an inaccessible page, so
 * that place follows from K. */
static void lines(struct check *check, const struct subject *s)
{
	static const size_t length[] = {0, 320, 1984, 4032, 4160};

	for (size_t lead = 0; lead < 64; lead += 4)
		for (size_t i = 0; i < COUNT(length); i++)
			for (size_t m = 1; m <= 3; m++) {
				size_t k = length[i] + 64 - lead, width = check_pick(check, 1, k > 1000 ? 20 : 150);
				struct gemm_shape shape = draw_shape(check, s, m, width, k);
				shape.dtype = s->dtype[0];
				shape.ld = length[i] + 64 * check_pick(check, 1, 2);
				shape.col0 = shape.col0 % 4 * 32;
				shape.row_scales = shape.col0 == 0 && shape.scale_dtype != OCTAVO_NONE && k % 8 == 0;
				compare(check, s, &shape);
			}
}

/* So many rows that a set may take them, or K, in more than one part. */
static void many(struct check *check, const struct subject *s)
{
	static const size_t sizes[][3] = {{530, 70, 1100}, {1041, 18, 577}, {300, 40, 2500}, {512, 33, 300}};

	for (size_t i = 0; i < COUNT(sizes); i++) {
		struct gemm_shape shape = draw_shape(check, s, sizes[i][0], sizes[i][1], sizes[i][2]);
		shape.dtype = s->dtype[0];
		compare(check, s, &shape);
	}
}

/* ---- Values ---- */

static void values(struct check *check, const struct subject *s)
{
	for (int fill = 0; fill < FILL_COUNT; fill++)
		for (size_t i = 0; i < 100; i++) {
			size_t m = check_pick(check, 1, 18), width = check_pick(check, 1, 70);
			struct gemm_shape shape = draw_shape(check, s, m, width, check_pick(check, 1, 300));
			shape.fill = (enum gemm_fill)fill;
			compare(check, s, &shape);
		}
}

/* Each of the 256 codes at each place of a vector of 64, met by a single 1: y is the decoded code. */
static void codes(struct check *check, const struct subject *s)
{
	for (size_t i = 0; i < 2; i++) {
		check_case(check, "all codes of %s", octavo_dtype_name(s->dtype[i]));
		uint8_t *data = check_alloc(check, 256 * 64, 1);                /* [256][64], row n all code n */
		uint16_t *x = check_alloc(check, 64 * 64 * sizeof *x, 2);       /* [64][64], the identity */
		float *y = check_alloc(check, 64 * 256 * sizeof *y, sizeof *y); /* [64][256] */
		for (size_t j = 0; j < 256 * 64; j++)
			data[j] = (uint8_t)(j / 64);
		for (size_t j = 0; j < 64 * 64; j++)
			x[j] = j % 65 == 0 ? 0x3F80 : 0;
		struct octavo_matrix w = {.data = data, .rows = 256, .cols = 64, .ld = 64, .dtype = s->dtype[i]};
		struct octavo_rows identity = {.x = x, .rows = 64, .ld = 64};
		check_run(check, &s->new, &w, 0, 256, &identity, y, 256);
		for (size_t j = 0; j < 64 * 256; j++) {
			double value = oracle_element(s->dtype[i], data, j % 256 * 64);
			/* An infinity meets a zero in the same row: NaN. */
			check_close(check, "value of code", j % 256, isfinite(value) ? value : NAN, y[j], 0.0);
		}
	}
}

/* W8A8: activations with scales of their own. */
static void row_scales(struct check *check, const struct subject *s)
{
	static const enum octavo_dtype scales[] = {OCTAVO_F32, OCTAVO_BF16, OCTAVO_E8M0};

	for (size_t i = 0; i < COUNT(lengths) * 6; i++) {
		size_t m = i % 3 == 0 ? check_pick(check, 18, 40) : check_pick(check, 1, 17);
		struct gemm_shape shape =
		        draw_shape(check, s, m, check_pick(check, 1, 40), lengths[i % COUNT(lengths)]);

		shape.scale_dtype = scales[i % COUNT(scales)];
		shape.col0 = 0; /* else a piece of w would straddle two groups of x */
		shape.row_scales = true;
		static const enum gemm_fill fills[] = {FILL_TINY, FILL_NAN, FILL_LARGE, FILL_PLAIN, FILL_PLAIN, 0};
		shape.fill = fills[i % 5];
		compare(check, s, &shape);
	}
}

/* ---- Invariance ---- */

/* Slices give the columns that the whole gives, and touch no others. */
static void slices(struct check *check, const struct subject *s)
{
	for (size_t i = 0; i < 60; i++) {
		size_t m = check_pick(check, 1, 17), n = check_pick(check, 1, i % 4 == 0 ? 300 : 70);
		struct gemm_shape shape = draw_shape(check, s, m, n, check_pick(check, 1, 200));
		struct gemm_case c = gemm_case_make(check, &shape);
		check_run(check, &s->ref, &c.w, 0, n, &c.x, c.want, c.ldy);

		size_t a = check_pick(check, 0, n), b = check_pick(check, a, n);
		float *part = check_alloc(check, c.x.rows * c.ldy * sizeof *part, sizeof *part);
		check_run(check, &s->new, &c.w, a, b, &c.x, part, c.ldy);
		for (size_t j = 0; j < c.x.rows * c.ldy; j++) {
			bool inside = j % c.ldy >= a && j % c.ldy < b;
			/* The canary outside the slice, which c.got still holds everywhere. */
			check_equal_f32(check, inside ? "the slice's y" : "y outside the slice",
			                inside ? c.want + j : c.got + j, part + j, 1, 1);
		}
		check_run(check, &s->new, &c.w, 0, a, &c.x, c.got, c.ldy);
		check_run(check, &s->new, &c.w, b, n, &c.x, c.got, c.ldy);
		check_run(check, &s->new, &c.w, a, b, &c.x, c.got, c.ldy);
		gemm_case_equal(check, &c);
	}
}

/* M rows at once give the bits of M products of one row: what makes speculation exact. */
static void rows(struct check *check, const struct subject *s)
{
	for (size_t m = 2; m <= 33; m += m < 17 ? 1 : 8) {
		struct gemm_shape shape =
		        draw_shape(check, s, m, check_pick(check, 1, 140), check_pick(check, 33, 400));
		shape.fill = m % 4 == 0 ? FILL_ZERO : FILL_PLAIN;
		shape.row_scales = !s->transposed && shape.scale_dtype != OCTAVO_NONE && shape.col0 == 0;
		struct gemm_case c = gemm_case_make(check, &shape);
		for (size_t i = 0; i < m; i++) {
			struct octavo_rows row = gemm_case_row(&c, i);
			check_run(check, &s->new, &c.w, 0, c.width, &row, c.want + i * c.ldy, c.ldy);
		}
		check_run(check, &s->new, &c.w, 0, c.width, &c.x, c.got, c.ldy);
		gemm_case_equal(check, &c);
	}
}

/* Outputs beyond those that a transposed product takes down the rows of w together, and few summed elements. */
static void wide(struct check *check, const struct subject *s)
{
	static const size_t width[] = {511, 512, 576, 577, 1090};

	for (size_t m = 1; m <= 18; m++)
		for (size_t i = 0; i < COUNT(width); i++) {
			struct gemm_shape shape = draw_shape(check, s, m, width[i], check_pick(check, 1, 70));
			compare(check, s, &shape);
		}
}

/* ---- The table of entries ---- */

#define SUBJECT_CHECK(slot, body)                                                                                      \
	static void slot##_##body(struct check *check)                                                                 \
	{                                                                                                              \
		struct subject subject = slot(check);                                                                  \
		body(check, &subject);                                                                                 \
	}
SUBJECT_CHECK(gemm_fp8, shapes)
SUBJECT_CHECK(gemm_fp8, deep)
SUBJECT_CHECK(gemm_fp8, lines)
SUBJECT_CHECK(gemm_fp8, many)
SUBJECT_CHECK(gemm_fp8, values)
SUBJECT_CHECK(gemm_fp8, codes)
SUBJECT_CHECK(gemm_fp8, row_scales)
SUBJECT_CHECK(gemm_fp8, slices)
SUBJECT_CHECK(gemm_fp8, rows)
SUBJECT_CHECK(gemm_bf16, shapes)
SUBJECT_CHECK(gemm_bf16, deep)
SUBJECT_CHECK(gemm_bf16, lines)
SUBJECT_CHECK(gemm_bf16, many)
SUBJECT_CHECK(gemm_bf16, values)
SUBJECT_CHECK(gemm_bf16, slices)
SUBJECT_CHECK(gemm_bf16, rows)
SUBJECT_CHECK(gemm_f32, shapes)
SUBJECT_CHECK(gemm_f32, deep)
SUBJECT_CHECK(gemm_f32, values)
SUBJECT_CHECK(gemm_f32, slices)
SUBJECT_CHECK(gemm_f32, rows)
SUBJECT_CHECK(gemm_t, shapes)
SUBJECT_CHECK(gemm_t, wide)
SUBJECT_CHECK(gemm_t, values)
SUBJECT_CHECK(gemm_t, slices)
SUBJECT_CHECK(gemm_t, rows)

const struct check_entry check_gemm_entries[] = {
        {"gemm_fp8.shapes", SLOT_gemm_fp8, gemm_fp8_shapes},
        {"gemm_fp8.deep", SLOT_gemm_fp8, gemm_fp8_deep},
        {"gemm_fp8.lines", SLOT_gemm_fp8, gemm_fp8_lines},
        {"gemm_fp8.many", SLOT_gemm_fp8, gemm_fp8_many},
        {"gemm_fp8.values", SLOT_gemm_fp8, gemm_fp8_values},
        {"gemm_fp8.codes", SLOT_gemm_fp8, gemm_fp8_codes},
        {"gemm_fp8.row_scales", SLOT_gemm_fp8, gemm_fp8_row_scales},
        {"gemm_fp8.slices", SLOT_gemm_fp8, gemm_fp8_slices},
        {"gemm_fp8.rows", SLOT_gemm_fp8, gemm_fp8_rows},
        {"gemm_bf16.shapes", SLOT_gemm_bf16, gemm_bf16_shapes},
        {"gemm_bf16.deep", SLOT_gemm_bf16, gemm_bf16_deep},
        {"gemm_bf16.lines", SLOT_gemm_bf16, gemm_bf16_lines},
        {"gemm_bf16.many", SLOT_gemm_bf16, gemm_bf16_many},
        {"gemm_bf16.values", SLOT_gemm_bf16, gemm_bf16_values},
        {"gemm_bf16.slices", SLOT_gemm_bf16, gemm_bf16_slices},
        {"gemm_bf16.rows", SLOT_gemm_bf16, gemm_bf16_rows},
        {"gemm_f32.shapes", SLOT_gemm_f32, gemm_f32_shapes},
        {"gemm_f32.deep", SLOT_gemm_f32, gemm_f32_deep},
        {"gemm_f32.values", SLOT_gemm_f32, gemm_f32_values},
        {"gemm_f32.slices", SLOT_gemm_f32, gemm_f32_slices},
        {"gemm_f32.rows", SLOT_gemm_f32, gemm_f32_rows},
        {"gemm_t.shapes", SLOT_gemm_t, gemm_t_shapes},
        {"gemm_t.wide", SLOT_gemm_t, gemm_t_wide},
        {"gemm_t.values", SLOT_gemm_t, gemm_t_values},
        {"gemm_t.slices", SLOT_gemm_t, gemm_t_slices},
        {"gemm_t.rows", SLOT_gemm_t, gemm_t_rows},
        {0},
};
