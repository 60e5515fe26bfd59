/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of the table as a whole and of the drivers: threads, floating-point environment, bad arguments.
 */
#include "fpstate.h"
#include "gemm_case.h"
#include "memory.h"
#include "team.h"

#include <math.h>
#include <string.h>

/* ---- The table ---- */

static void complete(struct check *check)
{
	struct octavo_kernels reference;
	octavo_kernels_init(&reference, 0);
#define CHECK_DESCRIPTOR(type, slot)                                                                                   \
	check_case(check, "slot %s", #slot);                                                                           \
	check_that(check, check->new->slot && check->new->slot->run, "empty");                                         \
	check_that(check, strcmp(check->new->slot->name, #slot) == 0, "holds a kernel named %s",                       \
	           check->new->slot->name);                                                                            \
	check_that(check, !(check->new->slot->flags &OCTAVO_APPROXIMATE), "approximate kernel chosen by default");     \
	check_that(check, check->new->slot->granule > 0, "granule is zero");                                           \
	check_that(check, strcmp(reference.slot->isa, "ref") == 0, "the reference set holds %s", reference.slot->isa);
	OCTAVO_SLOTS(CHECK_DESCRIPTOR)
#undef CHECK_DESCRIPTOR
	check_case(check, "octavo_kernels_get");
	struct octavo_kernels detected;
	octavo_kernels_init(&detected, octavo_cpu_detect());
	check_that(check, memcmp(&detected, octavo_kernels_get(), sizeof detected) == 0,
	           "is not the table of octavo_cpu_detect");
}

/* ---- Groups ---- */

/* Large enough together to be cut between tasks; all slots, views inside scale blocks, W8A8. */
static const struct gemm_shape shapes[] = {
        {3, 200, 300, OCTAVO_E4M3, OCTAVO_F32, 5, 77, false, false, FILL_PLAIN, 0},
        {7, 129, 256, OCTAVO_E4M3, OCTAVO_BF16, 0, 0, true, false, FILL_PLAIN, 0},
        {1, 1000, 200, OCTAVO_BF16, OCTAVO_NONE, 0, 0, false, false, FILL_PLAIN, 0},
        {17, 65, 100, OCTAVO_F32, OCTAVO_NONE, 0, 0, false, false, FILL_PLAIN, 0},
        {1, 16, 32, OCTAVO_E5M2, OCTAVO_E8M0, 0, 0, false, false, FILL_PLAIN, 0},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static const struct octavo_gemm_kernel *kernel_for(const struct octavo_kernels *table, enum octavo_dtype dtype)
{
	return dtype == OCTAVO_F32 ? table->gemm_f32 : dtype == OCTAVO_BF16 ? table->gemm_bf16 : table->gemm_fp8;
}

/* All shapes as one group, and among them a product of no rows, whose y must stay as it is. */
static void group(struct check *check, struct team *team)
{
	struct octavo_parallel parallel = {team_run, team, team ? team->threads : 0};
	struct octavo_product product[SHAPES + 1] = {0};
	struct gemm_case c[SHAPES];

	check_case(check, "group on %zu worker threads%s", parallel.threads, team && team->hostile ? ", hostile" : "");
	for (size_t i = 0; i < SHAPES; i++) {
		c[i] = gemm_case_add(check, &shapes[i]);
		product[i] = (struct octavo_product){.w = &c[i].w, .x = c[i].x, .y = c[i].got, .ldy = c[i].ldy};
	}
	product[SHAPES] = product[0];
	product[0].y = c[0].want;
	product[0].x.rows = 0;
	product[2].checked = 1;
	enum octavo_status status = octavo_gemm_group(check->new, team ? &parallel : NULL, product, SHAPES + 1);
	check_that(check, status == OCTAVO_OK, "status %d", (int)status);
	check_that(check, !team || team->damaged == 0, "the control register of a worker thread changed");
	check_that(check, !team || team->failed == 0, "no thread could be started");
	const uint8_t *untouched = (const uint8_t *)c[0].want;
	for (size_t i = 0; i < c[0].x.rows * c[0].ldy * sizeof(float); i++)
		check_that(check, untouched[i] == MEMORY_CANARY, "a product of no rows wrote y");
	for (size_t i = 0; i < SHAPES; i++) {
		const struct octavo_gemm_kernel *truth = kernel_for(check->ref, c[i].w.dtype);
		check_run(check, truth, &c[i].w, 0, c[i].width, &c[i].x, c[i].want, c[i].ldy);
		gemm_case_equal(check, &c[i]);
	}
}

static void threads(struct check *check)
{
	group(check, NULL);
	for (size_t repeat = 0; repeat < 4; repeat++)
		for (size_t n = 1; n <= 4; n++)
			group(check, &(struct team){.threads = n});
}

/* A caller that rounds toward zero and flushes subnormals gets the same bits, and its environment back. */
static void environment(struct check *check)
{
	group(check, &(struct team){.threads = 2, .hostile = true});
	for (size_t i = 0; i < SHAPES; i++) {
		struct gemm_case c = gemm_case_make(check, &shapes[i]);
		fp_make_hostile();
		uint32_t control = fp_control();
		enum octavo_status status = octavo_gemm(check->new, NULL, &c.w, &c.x, c.got, c.ldy);
		uint32_t after = fp_control();
		fp_make_default();
		check_that(check, status == OCTAVO_OK, "status %d", (int)status);
		check_that(check, after == control, "the control register was 0x%x and is 0x%x", (unsigned)control,
		           (unsigned)after);
		check_run(check, kernel_for(check->ref, c.w.dtype), &c.w, 0, c.width, &c.x, c.want, c.ldy);
		gemm_case_equal(check, &c);
	}
}

static void transposed(struct check *check)
{
	for (size_t i = 0; i < SHAPES; i++) {
		struct gemm_shape shape = shapes[i];
		shape.transposed = true;
		shape.row_scales = false;
		struct gemm_case c = gemm_case_make(check, &shape);
		fp_make_hostile();
		uint32_t control = fp_control();
		enum octavo_status status = octavo_gemm_transposed(check->new, &c.w, &c.x, c.got, c.ldy);
		uint32_t after = fp_control();
		fp_make_default();
		check_that(check, status == OCTAVO_OK, "status %d", (int)status);
		check_that(check, after == control, "the control register changed");
		check_run(check, check->ref->gemm_t, &c.w, 0, c.width, &c.x, c.want, c.ldy);
		gemm_case_equal(check, &c);
	}
}

/* ---- Bad arguments ---- */

enum fault {
	NO_TABLE,
	NO_MATRIX,
	NO_ROWS,
	NO_WEIGHTS,
	NO_X,
	NO_Y,
	NO_SCALE,
	ZERO_N,
	ZERO_K,
	HUGE_N,
	NARROW_LD,
	NARROW_LDX,
	NARROW_LDY,
	NARROW_SCALES,
	BLOCK_START,
	WEIGHT_DTYPE,
	SCALE_DTYPE,
	ROW_SCALES_UNSCALED,
	ROW_SCALES_NARROW,
	ROW_SCALES_ODD,
	ODD_X,
	ODD_Y,
	SCALE_NAN,
	SCALE_NEGATIVE,
	SCALE_INFINITE,
	SCALE_LARGE,
	FAULTS
};

static const float bad_scale[] = {NAN, -1.0f, INFINITY, 0x1.000002p40f};

static void spoil(struct gemm_case *c, enum fault fault)
{
	static const float one = 1.0f, two[2] = {1.0f, 1.0f};

	switch (fault) {
	case NO_WEIGHTS:
		c->w.data = NULL;
		break;
	case NO_X:
		c->x.x = NULL;
		break;
	case NO_Y:
		c->got = NULL;
		break;
	case NO_SCALE:
		c->w.scale = NULL;
		break;
	case ZERO_N:
		c->w.rows = 0;
		break;
	case ZERO_K:
		c->w.cols = 0;
		break;
	case HUGE_N: /* rows * ld wraps around to something small */
		c->w.rows = SIZE_MAX / c->w.ld + 2;
		c->ldy = c->w.rows;
		break;
	case NARROW_LD:
		c->w.ld = c->w.cols - 1;
		break;
	case NARROW_LDX:
		c->x.ld = (c->transposed ? c->w.rows : c->w.cols) - 1;
		break;
	case NARROW_LDY:
		c->ldy = c->width - 1;
		break;
	case NARROW_SCALES:
		c->w.scale_ld = 0;
		break;
	case BLOCK_START:
		c->w.row0 = 128;
		break;
	case WEIGHT_DTYPE:
		c->w.dtype = OCTAVO_E8M0;
		break;
	case SCALE_DTYPE:
		c->w.scale_dtype = OCTAVO_E4M3;
		break;
	case ROW_SCALES_UNSCALED:
		c->w.scale_dtype = OCTAVO_NONE;
		c->x.scale = &one;
		c->x.scale_ld = 1;
		break;
	case ROW_SCALES_NARROW:
		c->x.scale = &one;
		c->x.scale_ld = 0;
		break;
	case ROW_SCALES_ODD:
		c->x.scale = memory_odd(two);
		c->x.scale_ld = 1;
		break;
	case ODD_X:
		c->x.x = memory_odd(c->x.x);
		break;
	case ODD_Y:
		c->got = memory_odd(c->got);
		break;
	case SCALE_NAN:
	case SCALE_NEGATIVE:
	case SCALE_INFINITE:
	case SCALE_LARGE:
		c->w.scale = &bad_scale[fault - SCALE_NAN];
		break;
	default:
		break;
	}
}

static enum octavo_status call(const struct octavo_kernels *table, const struct octavo_matrix *w,
                               const struct octavo_rows *x, const struct gemm_case *c)
{
	return c->transposed ? octavo_gemm_transposed(table, w, x, c->got, c->ldy)
	                     : octavo_gemm(table, NULL, w, x, c->got, c->ldy);
}

/* A right call with one thing spoilt, for both drivers. */
static void arguments(struct check *check)
{
	for (int i = 0; i < 2 * FAULTS; i++) {
		enum fault fault = (enum fault)(i / 2);
		struct gemm_shape shape = {2, 10, 20, OCTAVO_E4M3, OCTAVO_F32, 0, 0, false, i % 2, FILL_PLAIN, 0};
		struct gemm_case c = gemm_case_make(check, &shape);
		check_that(check, call(check->new, &c.w, &c.x, &c) == OCTAVO_OK, "refused before anything was wrong");
		spoil(&c, fault);
		enum octavo_status want = fault >= SCALE_NAN ? OCTAVO_ENUMERIC : OCTAVO_EINVAL;
		enum octavo_status got = call(fault == NO_TABLE ? NULL : check->new, fault == NO_MATRIX ? NULL : &c.w,
		                              fault == NO_ROWS ? NULL : &c.x, &c);
		check_that(check, got == want, "%s with fault %d gives status %d, must be %d",
		           c.transposed ? "octavo_gemm_transposed" : "octavo_gemm", (int)fault, (int)got, (int)want);
	}
	struct octavo_parallel nobody = {.threads = 2};
	check_that(check, octavo_gemm_group(check->new, &nobody, NULL, 0) == OCTAVO_EINVAL,
	           "no way to run is accepted");
	check_that(check, octavo_gemm_group(check->new, NULL, NULL, 0) == OCTAVO_OK, "an empty group is refused");
	check_that(check, octavo_gemm_group(check->new, NULL, NULL, 1) == OCTAVO_EINVAL, "a NULL group is accepted");
}

const struct check_entry check_driver_entries[] = {
        {"table.complete", SLOT_TABLE, complete},        /* what the table holds */
        {"driver.threads", SLOT_TABLE, threads},         /* groups on 1 to 4 threads */
        {"driver.environment", SLOT_TABLE, environment}, /* a caller with another rounding mode */
        {"driver.transposed", SLOT_TABLE, transposed},   /* the serial transposed driver */
        {"driver.arguments", SLOT_TABLE, arguments},     /* every refusal */
        {0},
};
