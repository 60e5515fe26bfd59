/* SPDX-License-Identifier: Apache-2.0
 *
 * `specbench selftest`: does this machine compute what the contract says, and can its counters be read?
 * Each set of kernels is compared with the reference bit for bit; the reference, the random numbers and exp with
 * values written down here.
 */
#include "bench/bench.h"

#include <math.h>
#include <string.h>

static const char help[] =
        "usage: specbench selftest [--threads N]\n"
        "\n"
        "Checks every set of kernels of this machine against the reference and the reference against known values,\n"
        "bit for bit, then tries each counter. One line per test: ok, FAIL, or absent with the reason (a counter\n"
        "that cannot be read is no failure). Exit status 1 if a test failed.\n"
        "\n"
        "  --threads N   for the tests with threads (default: all processors)\n";

/* ---- Operands: the same numbers at every run -------------------------------------------------------------------- */

enum { ROWS = 17, MAX_N = 272, MAX_K = 416 };

static uint64_t state;

static uint32_t next_random(void)
{
	state ^= state << 13; /* xorshift64 (Marsaglia, 2003) */
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32);
}

/* Random sign and mantissa, exponent from -7 to 0, in BF16. */
static uint16_t random_bf16(void)
{
	return (uint16_t)((next_random() & 0x83ff) | 0x3c00);
}

static float random_float(void)
{
	uint32_t bits = (next_random() & 0x83ffffff) | 0x3c000000;
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

static void fill_bf16(uint16_t *to, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = random_bf16();
}

static void fill_floats(float *to, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = random_float();
}

/* ---- The tests of a set of kernels ------------------------------------------------------------------------------ */

struct subject {
	const struct octavo_kernels *table, *reference;
	struct octavo_parallel parallel;
};

static struct octavo_matrix fp8_matrix(const uint8_t *data, const float *scale, size_t n, size_t k)
{
	return (struct octavo_matrix){.data = data,
	                              .rows = n,
	                              .cols = k,
	                              .ld = k,
	                              .dtype = OCTAVO_E4M3,
	                              .scale_dtype = scale ? OCTAVO_F32 : OCTAVO_NONE,
	                              .scale = scale,
	                              .scale_ld = (k + OCTAVO_BLOCK - 1) / OCTAVO_BLOCK};
}

/* The diagonal matrix of all codes times a row of ones: y[code] is the code's value. */
static bool all_codes(const struct subject *s)
{
	static uint8_t w[256][256];
	static uint16_t x[256];
	float scale[4] = {1, 1, 1, 1}, y[256];
	for (size_t i = 0; i < 256; i++) {
		w[i][i] = (uint8_t)i;
		x[i] = octavo_bf16_encode(1.0f);
	}
	struct octavo_matrix matrix = fp8_matrix(w[0], scale, 256, 256);
	struct octavo_rows rows = {x, 1, 256, NULL, 0};
	s->table->gemm_fp8->run(&matrix, 0, 256, &rows, y, 256);
	for (size_t i = 0; i < 256; i++) {
		float value = octavo_e4m3_decode((uint8_t)i);
		if (!(y[i] == value || (isnan(value) && isnan(y[i]))))
			return false;
	}
	return true;
}

/* Operands of one random product. */
struct product {
	uint32_t w[MAX_N * MAX_K]; /* [n][k] of any dtype */
	float scale[4 * 4];        /* [ceil(n/128)][ceil(k/128)] */
	uint16_t x[ROWS * MAX_K];  /* [rows][k] */
	float row_scale[ROWS * 4]; /* [rows][ceil(k/128)] */
	float want[ROWS * MAX_N], got[ROWS * MAX_N];
	struct octavo_matrix matrix;
	struct octavo_rows rows;
};

static struct product p;

static void fill_weights(enum octavo_dtype dtype, size_t count)
{
	uint8_t *codes = (uint8_t *)p.w;
	for (size_t i = 0; i < count; i++) {
		uint8_t code = (uint8_t)next_random();
		if (dtype == OCTAVO_F32)
			((float *)(void *)p.w)[i] = random_float();
		else if (dtype == OCTAVO_BF16 || dtype == OCTAVO_F16)
			((uint16_t *)(void *)p.w)[i] = random_bf16(); /* as F16: magnitudes from 1 to 2 */
		else if (dtype == OCTAVO_E5M2)
			codes[i] = code & 0xbf; /* no infinity, no NaN */
		else
			codes[i] = (code & 0x7f) == 0x7f ? 0 : code;
	}
}

static void make_product(size_t n, size_t k, enum octavo_dtype dtype, bool row_scales)
{
	bool scaled = dtype == OCTAVO_E4M3 || dtype == OCTAVO_E5M2;
	fill_weights(dtype, n * k);
	fill_bf16(p.x, ROWS * k);
	for (size_t i = 0; i < sizeof p.scale / sizeof *p.scale; i++)
		p.scale[i] = fabsf(random_float());
	for (size_t i = 0; i < sizeof p.row_scale / sizeof *p.row_scale; i++)
		p.row_scale[i] = fabsf(random_float());
	p.matrix = fp8_matrix((const uint8_t *)p.w, scaled ? p.scale : NULL, n, k);
	p.matrix.dtype = dtype;
	p.rows = (struct octavo_rows){p.x, ROWS, k, row_scales ? p.row_scale : NULL, p.matrix.scale_ld};
	memset(p.want, 0, sizeof p.want);
	memset(p.got, 0, sizeof p.got);
}

static const struct octavo_gemm_kernel *gemm_for(const struct octavo_kernels *table, enum octavo_dtype dtype)
{
	return dtype == OCTAVO_F32                           ? table->gemm_f32
	       : dtype == OCTAVO_BF16 || dtype == OCTAVO_F16 ? table->gemm_bf16
	                                                     : table->gemm_fp8;
}

static bool random_products(const struct subject *s)
{
	static const struct {
		size_t n, k;
		enum octavo_dtype dtype;
		bool row_scales;
	} cases[] = {
	        {128, 384, OCTAVO_E4M3, false}, {272, 416, OCTAVO_E4M3, false}, {37, 150, OCTAVO_E4M3, false},
	        {272, 416, OCTAVO_E4M3, true},  {130, 301, OCTAVO_E4M3, true},  {64, 256, OCTAVO_E5M2, false},
	        {96, 320, OCTAVO_BF16, false},  {33, 77, OCTAVO_BF16, false},   {64, 131, OCTAVO_F16, false},
	        {48, 129, OCTAVO_F32, false},
	};
	static const size_t counts[] = {1, 2, 3, 4, 7, 8, 16, ROWS};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (size_t j = 0; j < sizeof counts / sizeof *counts; j++) {
			size_t n = cases[i].n, cut = n / 3;
			enum octavo_dtype dtype = cases[i].dtype;
			make_product(n, cases[i].k, dtype, cases[i].row_scales);
			p.rows.rows = counts[j];
			gemm_for(s->reference, dtype)->run(&p.matrix, 0, n, &p.rows, p.want, n);
			/* In two slices whose border no kernel would choose. */
			gemm_for(s->table, dtype)->run(&p.matrix, 0, cut, &p.rows, p.got, n);
			gemm_for(s->table, dtype)->run(&p.matrix, cut, n, &p.rows, p.got, n);
			if (memcmp(p.want, p.got, sizeof p.want))
				return false;
		}
	return true;
}

/* What verifying a draft rests on: a row's bits do not depend on the rows beside it. */
static bool rows_alone(const struct subject *s)
{
	make_product(MAX_N, MAX_K, OCTAVO_E4M3, false);
	s->table->gemm_fp8->run(&p.matrix, 0, MAX_N, &p.rows, p.want, MAX_N);
	for (size_t row = 0; row < ROWS; row++) {
		struct octavo_rows one = {p.x + row * MAX_K, 1, MAX_K, NULL, 0};
		s->table->gemm_fp8->run(&p.matrix, 0, MAX_N, &one, p.got + row * MAX_N, MAX_N);
	}
	return memcmp(p.want, p.got, sizeof p.want) == 0;
}

static bool any_threads(const struct subject *s)
{
	make_product(MAX_N, MAX_K, OCTAVO_E4M3, false);
	if (octavo_gemm(s->table, NULL, &p.matrix, &p.rows, p.want, MAX_N) != OCTAVO_OK)
		return false;
	struct octavo_parallel more = s->parallel;
	for (more.threads = 1; more.threads <= 2 * s->parallel.threads; more.threads++) {
		memset(p.got, 0, sizeof p.got);
		if (octavo_gemm(s->table, &more, &p.matrix, &p.rows, p.got, MAX_N) != OCTAVO_OK ||
		    memcmp(p.want, p.got, sizeof p.want))
			return false;
	}
	return true;
}

static bool transposed_products(const struct subject *s)
{
	enum { N = 136, K = 200 };
	make_product(N, K, OCTAVO_E4M3, false);
	for (size_t rows = 1; rows <= ROWS; rows += 4) {
		struct octavo_rows x = {p.x, rows, N, NULL, 0};
		s->reference->gemm_t->run(&p.matrix, 0, K, &x, p.want, K);
		s->table->gemm_t->run(&p.matrix, 0, 67, &x, p.got, K);
		s->table->gemm_t->run(&p.matrix, 67, K, &x, p.got, K);
		if (memcmp(p.want, p.got, sizeof p.want))
			return false;
	}
	return true;
}

/* ---- Attention: two segments, the second partial, its last tokens behind a path ---------------------------------- */

enum { HEADS = 5, K_DIM = 72, V_DIM = 40, SLOTS = 640, COMMITTED = 600, TOKENS = 608 };

struct attended {
	float m[2][HEADS], l[2][HEADS], o[2][HEADS][V_DIM];
};

static void attend(const struct octavo_kernels *table, const uint16_t *q, const uint16_t *cache, struct attended *a)
{
	static float scratch[HEADS * OCTAVO_SEGMENT];
	static const uint32_t path[TOKENS - COMMITTED] = {639, 601, 620, 605, 633, 600, 611, 612};
	static const size_t end[HEADS] = {COMMITTED + 1, COMMITTED + 1, COMMITTED + 4, COMMITTED + 7, TOKENS};
	for (size_t segment = 0; segment < 2; segment++) {
		struct octavo_attention job = {.q = q,
		                               .heads = HEADS,
		                               .ldq = K_DIM,
		                               .k_dim = K_DIM,
		                               .v_dim = V_DIM,
		                               .k = cache,
		                               .v = cache,
		                               .ldk = K_DIM,
		                               .ldv = K_DIM,
		                               .committed = COMMITTED,
		                               .path = path,
		                               .t0 = segment * OCTAVO_SEGMENT,
		                               .t1 = segment ? TOKENS : OCTAVO_SEGMENT,
		                               .end = segment ? end : NULL,
		                               .tau = 0.118f,
		                               .m = a->m[segment],
		                               .l = a->l[segment],
		                               .o = a->o[segment][0],
		                               .p = scratch};
		table->attention->run(&job);
	}
	table->attention_merge->run(HEADS, V_DIM, a->m[0], a->l[0], a->o[0][0], a->m[1], a->l[1], a->o[1][0]);
	table->attention_finish->run(HEADS, V_DIM, a->o[0][0], a->l[0]);
}

static bool attention(const struct subject *s)
{
	static uint16_t q[HEADS * K_DIM], cache[SLOTS * K_DIM];
	static struct attended want, got;
	fill_bf16(q, sizeof q / sizeof *q);
	fill_bf16(cache, sizeof cache / sizeof *cache);
	attend(s->reference, q, cache, &want);
	attend(s->table, q, cache, &got);
	return memcmp(&want, &got, sizeof want) == 0;
}

/* ---- Row operations -------------------------------------------------------------------------------------- */

enum { LONGEST = 300 };

/* Everything that the row operations make of two rows of n elements. */
struct row_results {
	uint32_t number[OCTAVO_NUMBERS];
	float norm[LONGEST], rope[LONGEST], swiglu[LONGEST], axpy[LONGEST], exps[LONGEST], scale[2][3];
	uint16_t round[LONGEST], quantised[2][LONGEST], decoded[LONGEST];
	uint8_t encoded[LONGEST];
};

static void do_rows(const struct octavo_kernels *t, const float *a, const float *b, size_t n, struct row_results *r)
{
	uint32_t counter[4] = { 0 };
	memset(r, 0, sizeof *r);
	memcpy(r->rope, a, n * sizeof *a);
	memcpy(r->axpy, b, n * sizeof *b);
	t->norm->run(r->norm, a, b, n, 1e-6f);
	t->rope->run(r->rope, b, n & ~(size_t)1);
	t->swiglu->run(r->swiglu, a, b, n);
	t->axpy->run(r->axpy, a, 0.3f, n);
	t->exp_row->run(r->exps, a, 2.0f, n);
	memcpy(counter, a, n < 4 ? n * sizeof *a : sizeof counter);
	t->numbers->run(r->number, counter, n);
	t->round->run(r->round, a, n);
	t->quantise->run(r->quantised[0], r->scale[0], a, n, OCTAVO_SCALE_AMAX);
	t->quantise->run(r->quantised[1], r->scale[1], a, n, OCTAVO_SCALE_E8M0);
	t->encode_e4m3->run(r->encoded, a, n);
	t->decode_e4m3->run(r->decoded, r->encoded, r->scale[0][0], n);
}

static bool row_operations(const struct subject *s)
{
	static float a[LONGEST], b[LONGEST];
	static struct row_results want, got;
	for (size_t n = 1; n <= LONGEST; n += n < 40 ? 1 : 13) {
		fill_floats(a, n);
		fill_floats(b, n);
		do_rows(s->reference, a, b, n, &want);
		do_rows(s->table, a, b, n, &got);
		if (memcmp(&want, &got, sizeof want))
			return false;
	}
	return true;
}

/* exp is a polynomial of our own: its bits over a grid from -90 to 90, as FNV-1a. */
static bool exp_values(const struct subject *s)
{
	enum { STEPS = 180 * 64 };
	static float x[STEPS + 1], y[STEPS + 1];
	uint64_t hash = 0xcbf29ce484222325;
	for (int i = 0; i <= STEPS; i++)
		x[i] = (float)(i - STEPS / 2) / 64;
	s->table->exp_row->run(y, x, 0.0f, STEPS + 1);
	for (size_t i = 0; i <= STEPS; i++) {
		uint32_t bits;
		memcpy(&bits, &y[i], sizeof bits);
		for (int byte = 0; byte < 4; byte++)
			hash = (hash ^ (bits >> 8 * byte & 0xff)) * 0x100000001b3;
	}
	return hash == 0x1fa59e2780c7187c;
}

static const struct test {
	const char *name;
	bool (*run)(const struct subject *s);
} tests[] = {
        {"all 256 E4M3 codes through a product", all_codes},
        {"random products, 1 to 17 rows, in slices", random_products},
        {"a row alone and among 16 others", rows_alone},
        {"one thread and many", any_threads},
        {"transposed products", transposed_products},
        {"attention over segments and a tree path", attention},
        {"row operations", row_operations},
        {"exp over a grid, against a known hash", exp_values},
};

/* ---- Random numbers: the published vectors of Philox4x32-10 (Random123, kat_vectors) --------------------- */

static bool draws(void)
{
	static const struct {
		struct octavo_stream stream;
		uint32_t position, purpose, index;
		uint64_t bits;
	} known[] = {
	        {{0, 0}, 0, 0, 0, 0xe169c58d6627e8d5},
	        {{0x299f31d0a4093822, 0x13198a2e85a308d3}, 0x243f6a88, 3, 0x707344, 0x94fdccebd16cfe09},
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (octavo_draw(&known[i].stream, known[i].position, (enum octavo_purpose)known[i].purpose,
		                known[i].index) != (double)(known[i].bits >> 11) * 0x1p-53)
			return false;
	return true;
}

/* ---- Counters -------------------------------------------------------------------------------------------- */

/* The profiler runs known work under each counter before it calls it available. */
static bool counters(size_t *absent)
{
	struct octavo_error error;
	struct octavo_profiler *profiler;
	struct octavo_profile profile;
	struct octavo_profiler_settings settings = {.enabled = 1, .best_tier = OCTAVO_TIER_HARDWARE};
	if (octavo_profiler_open(&profiler, &settings, &error) != OCTAVO_OK) {
		printf("FAIL    counters: %s\n", error.text);
		return false;
	}
	bool good = octavo_profiler_report(profiler, &profile) == OCTAVO_OK;
	octavo_profiler_close(&profiler);
	for (int c = 0; good && c < OCTAVO_COUNTER_COUNT; c++) {
		const struct octavo_counter_source *source = &profile.source[c];
		const char *name = octavo_counter_name((enum octavo_counter)c);
		if (source->available)
			printf("ok      counter %s: %s\n", name, source->source);
		else
			printf("absent  counter %s: %s\n", name, source->reason);
		*absent += !source->available;
	}
	if (!good)
		printf("FAIL    counters: no report\n");
	return good;
}

/* ---- The command ----------------------------------------------------------------------------------------------- */

static size_t test_set(const struct subject *s, const char *name, size_t *run)
{
	size_t failed = 0;
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
		state = 0x9e3779b97f4a7c15;
		bool good = tests[i].run(s);
		printf("%s  %-10s %s\n", good ? "ok    " : "FAIL  ", name, tests[i].name);
		failed += !good;
		++*run;
	}
	return failed;
}

static size_t test_sets(size_t threads, size_t *run)
{
	struct kernel_set set[MAX_SETS];
	size_t count = kernel_sets(set), failed = 0;
	for (size_t i = 0; i < count; i++) {
		struct subject s = {&set[i].table, &set[0].table, bench_parallel(threads)};
		failed += test_set(&s, set[i].name, run);
	}
	return failed;
}

int command_selftest(int argc, char **argv)
{
	struct options o = {0};
	int parsed = options_parse(&o, argc, argv, "selftest", "threads", help);
	if (parsed)
		return parsed < 0 ? EXIT_OK : parsed;
	size_t run = 2, absent = 0, failed = test_sets(o.threads, &run);
	bool drawn = draws();
	printf("%s  random numbers against published vectors\n", drawn ? "ok    " : "FAIL  ");
	failed += !drawn;
	failed += !counters(&absent);
	if (*octavo_cpu_reason())
		printf("note: %s\n", octavo_cpu_reason());
	printf("%zu tests, %zu failed; %zu counters absent%s\n", run, failed, absent,
	       absent ? " (specbench machine says what would bring them)" : "");
	return failed ? EXIT_CHECK_FAILED : EXIT_OK;
}
