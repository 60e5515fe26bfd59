/* SPDX-License-Identifier: Apache-2.0
 *
 * `specbench kernels --peers`: our FP8 product beside other libraries', each with weights in its own best format, all
 * cold and taking turns.  Libraries keep their threads spinning for a while after a call (OpenBLAS for 2^26 cycles), so
 * each turn begins with a pause.  Afterwards all threads sleep, and the system may wake them on one processor and take
 * milliseconds to part them: a while of calls that are not timed comes next, as calls follow each other in a decode.
 */
#include "bench/kernel_bench.h"
#include "bench/peers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_PEERS = 8, SAMPLES = 64 };

static const struct timespec settle = {.tv_nsec = 30000000};
static const uint64_t warm_ns = 20000000; /* calls that are not timed */
static const double least_ns = 5e6;       /* shorter calls are timed several at once */

/* A library, or ourselves (library NULL). */
struct contender {
	const struct peer_library *library;
	struct peer_plan *plan;
	const char *name, *package;
	struct octavo_error why_not; /* "" if it takes part */
	bool told;                   /* that it does not */
	unsigned char *pool;         /* [copies][bytes] */
	size_t bytes, copies, next, room; /* room: bytes of the pool */
	size_t calls;    /* at once */
	double *ns;      /* [repeats] per call */
	double *to_ours; /* [repeats] its time over ours of the same round */
	struct octavo_summary time, ratio;
};

struct contest {
	const struct plan *plan;
	const struct machine *machine;
	struct octavo_parallel parallel;
	struct peer_task task;
	const struct octavo_kernels *kernels;
	float *scale; /* all 1 */
	float *y;     /* [m][n] */
	struct contender contender[MOST_PEERS];
	size_t contenders;
};

/* ---- Who is there ------------------------------------------------------------------------------------------------ */

static const struct peer_library *load_library(const char *name, struct octavo_error *why)
{
	char file[64];
	snprintf(file, sizeof file, "specbench-%s.so", name);
	const struct peer_module *module = octavo_module_load(file, PEER_MODULE_SYMBOL, why);
	if (module && module->version == PEER_MODULE_VERSION)
		return module->library;
	if (module)
		snprintf(why->text, sizeof why->text, "%s is of another version", file);
	return NULL;
}

static void find_peers(struct contest *c)
{
	static const struct {
		const char *name, *package;
		const struct peer_library *library; /* NULL: in a module */
	} known[] = {{"onednn", "libdnnl-dev, then build again", NULL},
	             {"xsmm", "libxsmm-dev (x86-64), then build again", NULL},
	             {"openblas", NULL, &peer_openblas},
	             {"blis", NULL, &peer_blis}};
	c->contender[0].name = "octavo";
	c->contenders = 1;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		struct contender *p = &c->contender[c->contenders++];
		p->name = known[i].name;
		p->library = known[i].library ? known[i].library : load_library(p->name, &p->why_not);
		p->package = known[i].package ? known[i].package : p->library->package;
	}
}

static bool takes_part(const struct contender *p)
{
	return !p->why_not.text[0];
}

/* ---- One call ------------------------------------------------------------------------------------------------------
 */

static int run_ours(const struct contest *c, const void *weights)
{
	const struct peer_task *t = &c->task;
	struct octavo_matrix w = {.data = weights,
	                          .rows = t->n,
	                          .cols = t->k,
	                          .ld = t->k,
	                          .dtype = OCTAVO_E4M3,
	                          .scale_dtype = OCTAVO_F32,
	                          .scale = c->scale,
	                          .scale_ld = blocks_of(t->k)};
	struct octavo_product product = {&w, {t->x, t->m, t->k, NULL, 0}, c->y, t->n, 1};
	return octavo_gemm_group(c->kernels, &c->parallel, &product, 1) == OCTAVO_OK ? 0 : -1;
}

/* With the next copy of its weights: the others' copies have passed through the caches since. */
static int run_next(const struct contest *c, struct contender *p)
{
	const unsigned char *weights = p->pool + p->next * p->bytes;
	p->next = (p->next + 1) % p->copies;
	return p->library ? p->library->run(p->plan, weights, c->y) : run_ours(c, weights);
}

static double time_turn(const struct contest *c, struct contender *p)
{
	nanosleep(&settle, NULL);
	uint64_t start = octavo_now_ns();
	do
		run_next(c, p);
	while (octavo_now_ns() - start < warm_ns);
	start = octavo_now_ns();
	for (size_t i = 0; i < p->calls; i++)
		run_next(c, p);
	return (double)(octavo_now_ns() - start) / (double)p->calls;
}

/* ---- Weights -------------------------------------------------------------------------------------------------------
 */

/* As many copies as fill the pool, at least one; all of them the same. */
static bool fill_pool(struct contest *c, struct contender *p, const uint16_t *values)
{
	size_t bytes = p->library ? p->library->bytes(p->plan) : c->task.n * c->task.k;
	p->bytes = (bytes + 63) / 64 * 64;
	p->copies = (c->plan->pool_bytes + p->bytes - 1) / p->bytes;
	p->next = 0;
	if (p->copies * p->bytes > p->room) { /* otherwise the last task's will do, and saves the page faults */
		free(p->pool);
		p->pool = machine_pool(p->copies * p->bytes);
		p->room = p->pool ? p->copies * p->bytes : 0;
	}
	if (!p->pool)
		return false;
	if (!p->library)
		fill_random(p->pool, p->bytes, FILL_E4M3, &c->parallel);
	else if (p->library->pack(p->plan, values, p->pool))
		return complain("kernels: --peers: %s cannot pack its weights", p->name) == EXIT_OK;
	for (size_t copy = 1; copy < p->copies; copy++)
		memcpy(p->pool + copy * p->bytes, p->pool, p->bytes);
	return true;
}

/* Opens everyone for the task and fills the pools; false after complaining. */
static bool open_all(struct contest *c)
{
	const size_t count = c->task.n * c->task.k;
	uint16_t *values = malloc(count * sizeof *values);
	bool good = values && fill_pool(c, &c->contender[0], NULL);
	for (size_t i = 0; good && i < count; i++)
		values[i] = octavo_bf16_encode(octavo_e4m3_decode(c->contender[0].pool[i]));
	for (size_t i = 0; good && i < c->contenders; i++) {
		struct contender *p = &c->contender[i];
		if (p->library) {
			p->why_not.text[0] = 0;
			p->plan = p->library->open(&c->task, &p->why_not);
			good = !p->plan || fill_pool(c, p, values);
		}
		p->ns = calloc(c->plan->repeats, sizeof *p->ns);
		p->to_ours = calloc(c->plan->repeats, sizeof *p->to_ours);
		good = good && p->ns && p->to_ours;
	}
	free(values);
	return good || complain("kernels: --peers: %zux%zu cannot be measured", c->task.n, c->task.k) == EXIT_OK;
}

static void close_all(struct contest *c)
{
	for (size_t i = 0; i < c->contenders; i++) {
		struct contender *p = &c->contender[i];
		if (p->plan)
			p->library->close(p->plan);
		free(p->ns);
		free(p->to_ours);
		p->plan = NULL;
		p->ns = p->to_ours = NULL;
	}
}

/* Whether some of y are the exact sums, as far as K roundings may lead away from them. */
static bool is_right(const struct contest *c)
{
	const struct peer_task *t = &c->task;
	for (size_t i = 0; i < SAMPLES; i++) {
		size_t m = i % t->m, n = i * 7919 % t->n;
		double sum = 0, magnitude = 0;
		for (size_t k = 0; k < t->k; k++) {
			double product = octavo_e4m3_decode(c->contender[0].pool[n * t->k + k]);
			product *= octavo_bf16_decode(t->x[m * t->k + k]);
			sum += product;
			magnitude += fabs(product);
		}
		if (!(fabs(c->y[m * t->n + n] - sum) <= magnitude * (double)t->k * 0x1p-24))
			return false;
	}
	return true;
}

/* ---- Measuring -----------------------------------------------------------------------------------------------------
 */

static int check_all(struct contest *c)
{
	for (size_t i = 0; i < c->contenders; i++) {
		struct contender *p = &c->contender[i];
		if (!takes_part(p))
			continue;
		memset(c->y, 0xff, c->task.m * c->task.n * sizeof *c->y);
		if (run_next(c, p))
			return complain("kernels: --peers: %s failed", p->name);
		if (!is_right(c)) {
			complain("kernels: --peers: %s gives wrong sums for %zux%zu, %zu rows", p->name, c->task.n,
			         c->task.k, c->task.m);
			return EXIT_CHECK_FAILED;
		}
		p->calls = 1;
		p->calls += (size_t)(least_ns / (time_turn(c, p) + 1));
	}
	return EXIT_OK;
}

static bool time_all(struct contest *c)
{
	const size_t repeats = c->plan->repeats;
	bool good = true;
	for (size_t round = 0; round < repeats; round++) {
		progress("taking turns", round, repeats);
		for (size_t i = 0; i < c->contenders; i++)
			if (takes_part(&c->contender[i]))
				c->contender[i].ns[round] = time_turn(c, &c->contender[i]);
		for (size_t i = 0; i < c->contenders; i++)
			c->contender[i].to_ours[round] = c->contender[i].ns[round] / c->contender[0].ns[round];
	}
	progress_clear();
	for (size_t i = 0; good && i < c->contenders; i++)
		good = octavo_summarise(c->contender[i].ns, repeats, &c->contender[i].time) == OCTAVO_OK &&
		       octavo_summarise(c->contender[i].to_ours, repeats, &c->contender[i].ratio) == OCTAVO_OK;
	return good || complain("out of memory") == EXIT_OK;
}

/* ---- Reporting -----------------------------------------------------------------------------------------------------
 */

static const char *format_of(const struct contender *p)
{
	return p->library ? p->library->format(p->plan) : "FP8, in place";
}

/* Weights, input and output, each once. */
static double bytes_moved(const struct contest *c, const struct contender *p)
{
	const struct peer_task *t = &c->task;
	return (double)(p->bytes + t->m * t->k * sizeof *t->x + t->m * t->n * sizeof *c->y);
}

static void print_head(const struct contest *c)
{
	printf("\npeers: medians of %zu interleaved turns, %zu thread%s, weights cold (rotating through at least %zu "
	       "MiB each)\n"
	       "  The peers' weights are the values of the same FP8 codes, without block scales, packed beforehand; MB "
	       "is what\n"
	       "  a call reads. time/ours compares with %s of the same round.\n\n"
	       "  %-11s %3s  %-9s %-27s %6s  %9s  %-19s %7s  %8s  %9s\n",
	       c->plan->repeats, c->machine->threads, c->machine->threads == 1 ? "" : "s", c->plan->pool_bytes >> 20,
	       c->kernels->gemm_fp8->isa, "shape", "M", "library", "weights", "MB", "us", "min..max", "GB/s", "GFLOP/s",
	       "time/ours");
}

static void print_row(const struct contest *c, const struct contender *p)
{
	const struct peer_task *t = &c->task;
	double ns = p->time.median;
	char shape[32], range[48];
	snprintf(shape, sizeof shape, "%zux%zu", t->n, t->k);
	snprintf(range, sizeof range, "%.1f..%.1f", p->time.min * 1e-3, p->time.max * 1e-3);
	printf("  %-11s %3zu  %-9s %-27s %6.1f  %9.1f  %-19s %7.2f  %8.1f  %9.2f", shape, t->m, p->name, format_of(p),
	       (double)p->bytes * 1e-6, ns * 1e-3, range, bytes_moved(c, p) / ns,
	       2.0 * (double)(t->m * t->n * t->k) / ns, p->ratio.median);
	if (p->library)
		printf(" (%.2f..%.2f)", p->ratio.min, p->ratio.max);
	putchar('\n');
}

static json_t *row_json(const struct contest *c, const struct contender *p)
{
	const struct peer_task *t = &c->task;
	double ns = p->time.median;
	return json_pack("{s:s, s:s, s:s?, s:s, s:I, s:I, s:I, s:I, s:I, s:{s:f, s:f, s:f}, s:I, s:f, s:f, "
	                 "s:{s:f, s:f, s:f}}",
	                 "op", "gemm", "backend", p->library ? p->name : "native", "isa",
	                 p->library ? NULL : c->kernels->gemm_fp8->isa, "weights", format_of(p), "m", (json_int_t)t->m,
	                 "n", (json_int_t)t->n, "k", (json_int_t)t->k, "threads", (json_int_t)t->threads,
	                 "weight_bytes", (json_int_t)p->bytes, "ns", "min", p->time.min, "median", ns, "max",
	                 p->time.max, "measurements", (json_int_t)c->plan->repeats, "gbs", bytes_moved(c, p) / ns,
	                 "gflops", 2.0 * (double)(t->m * t->n * t->k) / ns, "time_to_native", "min", p->ratio.min,
	                 "median", p->ratio.median, "max", p->ratio.max);
}

static void report(struct contest *c, json_t *array)
{
	for (size_t i = 0; i < c->contenders; i++) {
		struct contender *p = &c->contender[i];
		if (takes_part(p)) {
			print_row(c, p);
			json_array_append_new(array, row_json(c, p));
		} else if (!p->told) {
			printf("  without %s: %s (package: %s)\n", p->name, p->why_not.text, p->package);
			p->told = true;
		}
	}
	fflush(stdout);
}

/* ---- All shapes ----------------------------------------------------------------------------------------------------
 */

static int measure_task(struct contest *c, json_t *array)
{
	struct peer_task *t = &c->task;
	uint16_t *x = malloc(t->m * t->k * sizeof *x);
	size_t scales = blocks_of(t->n) * blocks_of(t->k);
	int status = EXIT_BAD_INPUT;
	c->y = malloc(t->m * t->n * sizeof *c->y);
	c->scale = malloc(scales * sizeof *c->scale);
	t->x = x;
	if (!x || !c->y || !c->scale) {
		complain("out of memory");
	} else {
		fill_random(x, t->m * t->k * sizeof *x, FILL_BF16, &c->parallel);
		for (size_t i = 0; i < scales; i++)
			c->scale[i] = 1;
		progress("packing weights", 0, 1);
		if (open_all(c))
			status = check_all(c);
		if (status == EXIT_OK && !time_all(c))
			status = EXIT_BAD_INPUT;
		if (status == EXIT_OK)
			report(c, array);
		close_all(c);
	}
	free(x);
	free(c->y);
	free(c->scale);
	return status;
}

int peers_measure(const struct plan *plan, const struct machine *machine, json_t *array)
{
	struct contest c = {.plan = plan,
	                    .machine = machine,
	                    .parallel = bench_parallel(machine->threads),
	                    .kernels = octavo_kernels_get()};
	int status = EXIT_OK;
	find_peers(&c);
	print_head(&c);
	fflush(stdout);
	for (size_t i = 0; status == EXIT_OK && i < plan->shapes; i++)
		for (size_t row = 0; status == EXIT_OK && row < plan->rows_count; row++) {
			c.task = (struct peer_task){.m = plan->rows[row],
			                            .n = plan->shape[i][0],
			                            .k = plan->shape[i][1],
			                            .threads = machine->threads,
			                            .parallel = &c.parallel};
			status = measure_task(&c, array);
		}
	for (size_t i = 0; i < c.contenders; i++)
		free(c.contender[i].pool);
	return status;
}
