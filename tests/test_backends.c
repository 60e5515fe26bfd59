/* SPDX-License-Identifier: Apache-2.0
 *
 * The backends against the bound that octavo_kernels.h states, around sums in double precision.
 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "octavo_kernels.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

struct shape {
	size_t m, n, k;
	enum octavo_dtype dtype, scale_dtype;
	unsigned row0, col0;
	int row_scales; /* W8A8 */
	int nans;
};

struct operands {
	struct octavo_matrix w;
	struct octavo_rows x;
	float *y; /* [m][ldy] */
	size_t ldy;
	void *buffer[5];
};

/* ---- Random operands -------------------------------------------------------------------------------------------- */

static uint64_t state;

static uint32_t random32(void)
{
	state ^= state << 13; /* xorshift64 (Marsaglia, 2003) */
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32);
}

/* Either sign, the exponent uniform in [low, high]. */
static float random_float(int low, int high)
{
	float fraction = 1 + (float)(random32() >> 8) * 0x1p-24f;
	float value = ldexpf(fraction, low + (int)(random32() % (unsigned)(high - low + 1)));
	return random32() & 1 ? -value : value;
}

static void fill_weights(const struct octavo_matrix *w, void *data, int nans)
{
	for (size_t i = 0; i < w->rows * w->ld; i++) {
		uint8_t code = (uint8_t)random32();
		uint16_t wide = octavo_bf16_encode(random_float(-20, 20));
		int is_nan = nans && random32() % 300 == 0;
		switch (w->dtype) {
		case OCTAVO_E4M3:
			((uint8_t *)data)[i] = is_nan ? 0x7f : (code & 0x7f) == 0x7f ? 0 : code;
			break;
		case OCTAVO_E5M2:
			((uint8_t *)data)[i] = is_nan ? 0xfe : (code & 0x7f) >= 0x7c ? 1 : code;
			break;
		case OCTAVO_BF16:
			((uint16_t *)data)[i] = is_nan ? 0x7fff : wide;
			break;
		default: /* F16: all codes that are numbers, subnormal ones too */
			wide = (uint16_t)random32();
			((uint16_t *)data)[i] = is_nan ? 0xfc01 : (wide & 0x7c00) == 0x7c00 ? 1 : wide;
		}
	}
}

static void fill_scales(const struct octavo_matrix *w, void *scale, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		float value = i % 7 == 3 ? 0x1p-41f : fabsf(random_float(-12, 4)); /* some count as zero */
		if (w->scale_dtype == OCTAVO_F32)
			((float *)scale)[i] = value;
		else if (w->scale_dtype == OCTAVO_BF16)
			((uint16_t *)scale)[i] = octavo_bf16_encode(value);
		else
			((uint8_t *)scale)[i] = octavo_e8m0_encode_up(value);
	}
}

static struct operands make(const struct shape *s)
{
	struct operands o = {0};
	size_t ld = s->k + random32() % 5, x_ld = s->k + random32() % 5, groups = (s->k + 127) / 128;
	size_t blocks = ((s->row0 + s->n + 127) / 128) * ((s->col0 + s->k + 127) / 128);
	uint16_t *x = calloc(s->m * x_ld, sizeof *x);
	float *x_scale = calloc(s->m * groups, sizeof *x_scale);
	void *data = malloc(s->n * ld * 2), *scale = malloc(blocks * sizeof(float));

	o.ldy = s->n + random32() % 5;
	o.y = malloc(s->m * o.ldy * sizeof *o.y);
	assert_true(x && x_scale && data && scale && o.y);
	memcpy(o.buffer, (void *[]){x, x_scale, data, scale, o.y}, sizeof o.buffer);
	for (size_t i = 0; i < s->m * x_ld; i++)
		x[i] = s->row_scales ? octavo_bf16_encode(octavo_e4m3_decode((uint8_t)(random32() % 127)))
		                     : octavo_bf16_encode(random_float(-30, 6));
	for (size_t i = 0; i < s->m * groups; i++)
		x_scale[i] = fabsf(random_float(-12, 2));
	o.w = (struct octavo_matrix){.data = data,
	                             .rows = s->n,
	                             .cols = s->k,
	                             .ld = ld,
	                             .dtype = s->dtype,
	                             .scale_dtype = s->scale_dtype,
	                             .scale = s->scale_dtype ? scale : NULL,
	                             .scale_ld = (s->col0 + s->k + 127) / 128,
	                             .row0 = s->row0,
	                             .col0 = s->col0};
	o.x = (struct octavo_rows){x, s->m, x_ld, s->row_scales ? x_scale : NULL, groups};
	fill_weights(&o.w, data, s->nans);
	if (s->scale_dtype)
		fill_scales(&o.w, scale, blocks);
	return o;
}

static void discard(struct operands *o)
{
	for (size_t i = 0; i < COUNT(o->buffer); i++)
		free(o->buffer[i]);
}

/* ---- The bound ----------------------------------------------------------------------------------------------------
 */

struct near {
	double sum, bound, typical; /* typical: the mean magnitude of a product */
};

static double weight(const struct octavo_matrix *w, size_t n, size_t k)
{
	size_t i = n * w->ld + k;
	switch (w->dtype) {
	case OCTAVO_E4M3:
		return octavo_e4m3_decode(((const uint8_t *)w->data)[i]);
	case OCTAVO_E5M2:
		return octavo_e5m2_decode(((const uint8_t *)w->data)[i]);
	case OCTAVO_BF16:
		return octavo_bf16_decode(((const uint16_t *)w->data)[i]);
	default:
		return octavo_f16_decode(((const uint16_t *)w->data)[i]);
	}
}

static struct near exact(const struct operands *o, size_t m, size_t n)
{
	const struct octavo_matrix *w = &o->w;
	double sum = 0, magnitude = 0, pieces = (double)((w->col0 + w->cols + 127) / 128);

	for (size_t k = 0; k < w->cols; k++) {
		double product = octavo_matrix_scale(w, n, k);
		product *= o->x.scale ? o->x.scale[m * o->x.scale_ld + k / 128] : 1.0f;
		product *= weight(w, n, k) * octavo_bf16_decode(o->x.x[m * o->x.ld + k]);
		sum += product;
		magnitude += fabs(product);
	}
	double g = (128 + pieces * (w->dtype == OCTAVO_F16 ? 2 : 1)) * 0x1p-24;
	/* The sums here are rounded too, to 53 bits. */
	return (struct near){sum, (g / (1 - g) + 0x1p-40) * magnitude, magnitude / (double)w->cols};
}

static int is_near(const struct near *want, double got)
{
	return isnan(want->sum) ? isnan(got) : fabs(got - want->sum) <= want->bound;
}

/* ---- The tests ----------------------------------------------------------------------------------------------------
 */

static const char *backend; /* under test */

/* The table with the backend, or a skip that says why not. */
static const struct octavo_kernels *table_with_backend(void)
{
	static struct octavo_kernels table;
	struct octavo_error error;

	octavo_kernels_init(&table, 0);
	enum octavo_status status = octavo_backend_overlay(&table, backend, &error);
	if (status == OCTAVO_ENOTSUP) {
		print_message("SKIPPED: %s\n", error.text);
		skip();
	}
	assert_int_equal(status, OCTAVO_OK);
	return &table;
}

static void check_shape(const struct octavo_kernels *table, const struct shape *s)
{
	struct operands o = make(s);
	const struct octavo_gemm_kernel *kernel =
	        s->dtype == OCTAVO_E4M3 || s->dtype == OCTAVO_E5M2 ? table->gemm_fp8 : table->gemm_bf16;
	size_t n0 = s->n > 3 ? random32() % 3 : 0, n1 = s->n - n0;

	memset(o.y, 0xa5, s->m * o.ldy * sizeof *o.y);
	kernel->run(&o.w, n0, n1, &o.x, o.y, o.ldy);
	for (size_t m = 0; m < s->m; m++)
		for (size_t n = 0; n < o.ldy; n++) {
			float got = o.y[m * o.ldy + n];
			if (n < n0 || n >= n1) {
				assert_memory_equal(&got, "\xa5\xa5\xa5\xa5", sizeof got);
				continue;
			}
			struct near want = exact(&o, m, n);
			if (!is_near(&want, got))
				fail_msg("%s %zux%zux%zu %s scales %s row0 %u col0 %u%s: y[%zu][%zu] = %.9g, not %.9g "
				         "within %.3g",
				         kernel->isa, s->m, s->n, s->k, octavo_dtype_name(s->dtype),
				         octavo_dtype_name(s->scale_dtype), s->row0, s->col0,
				         s->row_scales ? " W8A8" : "", m, n, got, want.sum, want.bound);
			/* The bound would notice one product too few or too many. */
			if (!isnan(want.sum) && want.typical > 0)
				assert_false(is_near(&want, got + 2 * want.bound + want.typical * 0x1p-2));
		}
	discard(&o);
}

static void stays_in_its_bound(void **unused)
{
	static const size_t rows[] = {1, 2, 3, 5, 8, 15, 16, 17, 33, 64, 65, 130};
	static const size_t widths[] = {1, 7, 127, 128, 129, 200, 257};
	static const size_t lengths[] = {1, 2, 31, 127, 128, 129, 384, 640, 1000, 1024, 1200};
	static const enum octavo_dtype types[] = {OCTAVO_E4M3, OCTAVO_E5M2, OCTAVO_BF16, OCTAVO_F16};
	static const enum octavo_dtype scales[] = {OCTAVO_F32, OCTAVO_BF16, OCTAVO_E8M0, OCTAVO_NONE};
	const struct octavo_kernels *table = table_with_backend();

	(void)unused;
	state = 1;
	for (size_t i = 0; i < 8 * COUNT(rows); i++) {
		struct shape s = {.m = rows[i % COUNT(rows)],
		                  .n = widths[random32() % COUNT(widths)],
		                  .k = lengths[random32() % COUNT(lengths)],
		                  .dtype = types[i / COUNT(rows) % COUNT(types)],
		                  .nans = random32() % 4 == 0};
		int fp8 = s.dtype == OCTAVO_E4M3 || s.dtype == OCTAVO_E5M2;
		s.scale_dtype = fp8 ? scales[random32() % COUNT(scales)] : OCTAVO_NONE;
		s.row_scales = s.scale_dtype && i >= 4 * COUNT(rows);
		if (s.scale_dtype && !s.row_scales && random32() % 2) {
			s.row0 = random32() % 128;
			s.col0 = random32() % 128;
		}
		check_shape(table, &s);
	}
}

/* Every code alone against 1: the decoding is exact. */
static void decodes_every_code(void **unused)
{
	const struct octavo_kernels *table = table_with_backend();
	uint8_t code[256];
	uint16_t one = octavo_bf16_encode(1);
	float y[256];

	(void)unused;
	for (unsigned i = 0; i < 256; i++)
		code[i] = (uint8_t)i;
	for (int e5m2 = 0; e5m2 < 2; e5m2++) {
		struct octavo_matrix w = {
		        .data = code, .rows = 256, .cols = 1, .ld = 1, .dtype = e5m2 ? OCTAVO_E5M2 : OCTAVO_E4M3};
		struct octavo_rows x = {&one, 1, 1, NULL, 0};
		table->gemm_fp8->run(&w, 0, 256, &x, y, 256);
		for (unsigned i = 0; i < 256; i++) {
			float want = e5m2 ? octavo_e5m2_decode((uint8_t)i) : octavo_e4m3_decode((uint8_t)i);
			assert_true(isnan(want) ? isnan(y[i]) : isinf(want) ? !isfinite(y[i]) : y[i] == want);
		}
	}
}

/* ---- Threads: several at once, each result as one thread's ---- */

struct share {
	octavo_task_fn *fn;
	void *arg;
	size_t first, tasks;
};

enum { THREADS = 3 };

static void *run_share(void *at)
{
	const struct share *s = at;
	for (size_t task = s->first; task < s->tasks; task += THREADS)
		s->fn(s->arg, task);
	return NULL;
}

static void run_threads(void *context, size_t tasks, octavo_task_fn *fn, void *arg)
{
	pthread_t thread[THREADS];
	struct share share[THREADS];

	(void)context;
	for (size_t i = 0; i < THREADS; i++) {
		share[i] = (struct share){fn, arg, i, tasks};
		assert_int_equal(pthread_create(&thread[i], NULL, run_share, &share[i]), 0);
	}
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
}

static void several_threads_agree(void **unused)
{
	const struct octavo_kernels *table = table_with_backend();
	const struct octavo_parallel parallel = {run_threads, NULL, THREADS};
	struct shape s = {.m = 6, .n = 1500, .k = 700, .dtype = OCTAVO_E4M3, .scale_dtype = OCTAVO_F32};

	(void)unused;
	state = 2;
	struct operands o = make(&s);
	float *alone = calloc(s.m * o.ldy, sizeof *alone);
	assert_non_null(alone);
	memset(o.y, 0, s.m * o.ldy * sizeof *o.y);
	assert_int_equal(octavo_gemm(table, NULL, &o.w, &o.x, alone, o.ldy), OCTAVO_OK);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(octavo_gemm(table, &parallel, &o.w, &o.x, o.y, o.ldy), OCTAVO_OK);
		assert_memory_equal(alone, o.y, s.m * o.ldy * sizeof *o.y);
	}
	free(alone);
	discard(&o);
}

static void is_marked_and_alone(void **unused)
{
	const struct octavo_kernels *table = table_with_backend();
	struct octavo_kernels plain;

	(void)unused;
	octavo_kernels_init(&plain, 0);
	assert_string_equal(table->gemm_fp8->isa, backend);
	assert_int_equal(table->gemm_fp8->flags, OCTAVO_APPROXIMATE);
	assert_int_equal(table->gemm_bf16->flags, OCTAVO_APPROXIMATE);
	plain.gemm_fp8 = table->gemm_fp8;
	plain.gemm_bf16 = table->gemm_bf16;
	assert_memory_equal(&plain, table, sizeof plain);
	/* Never by default. */
	assert_int_equal(octavo_kernels_get()->gemm_fp8->flags, 0);
	assert_int_equal(octavo_kernels_get()->gemm_bf16->flags, 0);
}

static void says_why_not(void **unused)
{
	struct octavo_kernels table, before;
	struct octavo_error error;
	const char *path = getenv("OCTAVO_MODULE_PATH");
	char *saved = path ? strdup(path) : NULL;

	(void)unused;
	octavo_kernels_init(&table, 0);
	before = table;
	assert_int_equal(octavo_backend_overlay(NULL, "onednn", &error), OCTAVO_EINVAL);
	assert_int_equal(octavo_backend_overlay(&table, NULL, &error), OCTAVO_EINVAL);
	assert_int_equal(octavo_backend_overlay(&table, "mkl", &error), OCTAVO_EINVAL);
	assert_non_null(strstr(error.text, "\"mkl\""));
	assert_int_equal(octavo_backend_overlay(&table, "../onednn", NULL), OCTAVO_EINVAL);
	assert_null(octavo_module_load(NULL, "octavo_backend_module", &error));
	assert_non_null(strstr(error.text, "null"));
	assert_null(octavo_module_load("octavo-onednn.so", NULL, NULL));
	unsetenv("OCTAVO_MODULE_PATH");
	for (const char *const *name = octavo_backend_names(); *name; name++)
		if (octavo_backend_overlay(&table, *name, &error) != OCTAVO_OK) /* unless there is an installed one */
			assert_non_null(strstr(error.text, *name));
		else
			table = before;
	if (saved)
		setenv("OCTAVO_MODULE_PATH", saved, 1);
	free(saved);
	assert_memory_equal(&before, &table, sizeof table);
}

int main(void)
{
	static const struct CMUnitTest each[] = {
	        cmocka_unit_test(stays_in_its_bound),
	        cmocka_unit_test(decodes_every_code),
	        cmocka_unit_test(several_threads_agree),
	        cmocka_unit_test(is_marked_and_alone),
	};
	static const struct CMUnitTest once[] = {cmocka_unit_test(says_why_not)};
	int failed = cmocka_run_group_tests_name("backends", once, NULL, NULL);

	for (const char *const *name = octavo_backend_names(); *name; name++) {
		backend = *name;
		failed += cmocka_run_group_tests_name(backend, each, NULL, NULL);
	}
	return failed;
}
