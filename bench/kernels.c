/* SPDX-License-Identifier: Apache-2.0
 *
 * `specbench kernels`: every set of kernels against the two roofs.  Sets, row counts and plain read loops take
 * turns over the same memory, so that a machine that slows down slows all of them.
 */
#include "bench/kernel_bench.h"

#include <stdlib.h>
#include <string.h>

static const char help[] =
        "usage: specbench kernels [OPTIONS]\n"
        "\n"
        "Times the kernels with cold weights, beside plain read loops over the same memory and beside the peak of\n"
        "FP32 fused multiply-adds. First checks that each kernel gives the reference's bits.\n"
        "\n"
        "  --op NAME       gemm (FP8 weights; default), gemm_bf16, gemm_t; moe: a mixture of experts, each row with 8\n"
        "                  of 256 and a shared one; mla_up: latents to keys and values; attention (MLA's),\n"
        "                  attention_fp8 (of an FP8 cache), gqa, as the engine runs them; norm, swiglu, quantise,\n"
        "                  decode, encode; or emulate: no times, but the error of FP8 products as\n"
        "                  Hopper's tensor cores add them, by the interval N_C of promotion to FP32\n"
        "  --isa NAME      one set of kernels, ref too (default: every set this machine has, except ref)\n"
        "  --backend NAME  onednn or xsmm beside ours, for gemm and gemm_bf16; checked against its error bound\n"
        "  --peers         instead: gemm beside oneDNN, libxsmm, OpenBLAS and BLIS with weights in their own formats\n"
        "  --shape N,K     may be repeated (default: DeepSeek-V3's). gemm, gemm_bf16: rows and columns of the\n"
        "                  matrix; gemm_t: 128 rows per head, columns; moe: an expert's width, hidden size;\n"
        "                  mla_up: 256 rows per head, a latent's values; attention, attention_fp8, gqa: tokens,\n"
        "                  heads; emulate: outputs, products of each; others: 1,LENGTH\n"
        "  --rows LIST     activation rows per call (default 1,2,4,8,16; moe to 8; mla_up, whose rows are a prompt's\n"
        "                  tokens, 64,512; with --peers 1,4,16)\n"
        "  --threads N     default: all processors\n"
        "  --pool MIB      memory that the weights rotate through (default: 256, four times the L3 cache, or what a call needs)\n"
        "  --repeats N     interleaved measurements of each kernel (default 15; with --peers 21)\n"
        "  --json FILE     write the figures as JSON\n";

/* ---- What is asked for ------------------------------------------------------------------------------------------ */

static const struct op *find_op(const char *name)
{
	char known[128] = "";
	for (const struct op *const *op = kernel_ops; *op; op++) {
		if (!strcmp((*op)->name, name))
			return *op;
		snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", *known ? ", " : "", (*op)->name);
	}
	complain("kernels: option --op: unknown operation \"%s\" (known: %s, emulate)", name, known);
	return NULL;
}

static size_t pool_for(const struct options *o, const struct machine *m)
{
	size_t usual = (size_t)256 << 20;
	if (o->pool_mib)
		return o->pool_mib << 20;
	return usual > 4 * m->cache[3] ? usual : 4 * m->cache[3];
}

static size_t weight_bytes(const struct work *w)
{
	return w->op->weights ? w->op->weights(w) : 0;
}

/* What the rows that read most of this shape need. */
static size_t most_bytes(const struct plan *p, const size_t shape[2])
{
	size_t most = 0;
	for (size_t i = 0; i < p->rows_count; i++) {
		struct work work = {.op = p->op, .m = p->rows[i], .n = shape[0], .k = shape[1]};
		size_t bytes = weight_bytes(&work);
		most = bytes > most ? bytes : most;
	}
	return most;
}

/* Unless it was said how large it is, the pool grows with what a call reads. */
static bool fits(struct plan *p, const struct options *o, const size_t shape[2])
{
	size_t bytes = most_bytes(p, shape), available = machine_available();
	if (bytes > p->pool_bytes && !o->pool_mib && (!available || bytes < available))
		p->pool_bytes = bytes;
	if (bytes <= p->pool_bytes)
		return true;
	complain("kernels: option --shape: %zu,%zu needs %zu MiB, the pool has %zu (--pool)", shape[0], shape[1],
	         (bytes >> 20) + 1, p->pool_bytes >> 20);
	return false;
}

static bool plan_shapes(struct plan *p, const struct options *o)
{
	for (size_t i = 0; i < o->shapes; i++) {
		p->shape[i][0] = o->n[i];
		p->shape[i][1] = o->kdim[i];
	}
	p->shapes = o->shapes;
	for (size_t i = 0; !o->shapes && i < 4 && p->op->shape[i][0]; i++) {
		memcpy(p->shape[i], p->op->shape[i], sizeof p->shape[i]);
		p->shapes = i + 1;
	}
	for (size_t i = 0; i < p->shapes; i++) {
		size_t n = p->shape[i][0], k = p->shape[i][1];
		if (!p->op->takes(n, k)) {
			complain("kernels: option --shape: %zu,%zu: %s takes %s", n, k, p->op->name,
			         p->op->shape_means);
			return false;
		}
		if (!fits(p, o, p->shape[i]))
			return false;
	}
	return true;
}

/* The rows that are asked for, or the operation's usual ones. */
static void plan_rows(struct plan *p, const struct options *o)
{
	static const size_t usual[] = {1, 2, 4, 8, 16, 0}, peers[] = {1, 4, 16, 0};
	const size_t *rows = o->peers ? peers : p->op->rows[0] ? p->op->rows : usual;
	p->rows_count = o->rows_count;
	if (o->rows_count)
		memcpy(p->rows, o->rows, o->rows_count * sizeof *p->rows);
	else
		while (rows[p->rows_count]) {
			p->rows[p->rows_count] = rows[p->rows_count];
			p->rows_count++;
		}
}

/* What --peers and --backend leave no choice of. */
static bool options_agree(const struct options *o, const struct op *op)
{
	const char *other = o->peers && o->op        ? "op"
	                    : o->peers && o->isa     ? "isa"
	                    : o->peers && o->backend ? "backend"
	                                             : NULL;
	if (other)
		return complain("kernels: options --peers and --%s exclude each other", other) == EXIT_OK;
	if (o->backend && o->isa)
		return complain("kernels: options --backend and --isa exclude each other") == EXIT_OK;
	if (o->backend && op != &op_gemm && op != &op_gemm_bf16)
		return complain("kernels: option --backend: the backends have no %s", op->name) == EXIT_OK;
	return true;
}

static bool plan_full(struct plan *p, const struct options *o, const struct machine *m)
{
	*p = (struct plan){
	        .op = find_op(o->op ? o->op : "gemm"),
	        .isa = o->isa,
	        .backend = o->backend,
	        .all_sets = true,
	        .repeats = o->repeats ? o->repeats
	                   : o->peers ? 21
	                              : 15,
	        .pool_bytes = pool_for(o, m),
	};
	if (!p->op || !options_agree(o, p->op))
		return false;
	plan_rows(p, o);
	return plan_shapes(p, o);
}

/* What fits into the default report: some ten seconds on two busy cores. */
static struct plan plan_quick(const struct options *o, const struct machine *m)
{
	return (struct plan){
	        .op = kernel_ops[0],
	        .shape = {{2048, 7168}},
	        .shapes = 1,
	        .rows = {1, 4, 16},
	        .rows_count = 3,
	        .repeats = 15,
	        .pool_bytes = pool_for(o, m),
	        .seconds = 5,
	};
}

/* ---- The sets of kernels --------------------------------------------------------------------------------- */

/* The machine's sets whose kernel for this operation differs from the last one's, the reference first. */
static void find_sets(struct sets *s, const struct op *op)
{
	struct kernel_set all[MAX_SETS];
	size_t found = kernel_sets(all);
	s->count = 0;
	s->reference = all[0].table;
	for (size_t i = 0; i < found; i++)
		if (!i || op->slot(&all[i].table) != op->slot(&s->set[s->count - 1].table))
			s->set[s->count++] = all[i];
}

/* The best set, and with the backend's kernels over it. */
static bool choose_backend(struct sets *s, const char *backend)
{
	s->set[0] = s->set[1] = s->set[s->count - 1];
	s->set[1].name = backend;
	s->count = 2;
	return backend_overlay(backend, &s->set[1].table);
}

/* Keeps those that the plan asks for; false after complaining if there are none. */
static bool choose_sets(struct sets *s, const struct plan *p)
{
	if (p->backend)
		return choose_backend(s, p->backend);
	char known[128] = "";
	size_t first = 0, end = s->count;
	for (size_t i = 0; i < s->count; i++)
		snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", s->set[i].name);
	if (p->isa) {
		while (first < s->count && strcmp(s->set[first].name, p->isa))
			first++;
		end = first + 1;
		if (first == s->count) {
			complain("kernels: option --isa: no set \"%s\" for %s on this machine (there is: %s)", p->isa,
			         p->op->name, known);
			return false;
		}
	} else if (s->count > 1) {
		first = p->all_sets ? 1 : s->count - 1;
	}
	memmove(s->set, s->set + first, (end - first) * sizeof *s->set);
	s->count = end - first;
	return true;
}

/* ---- Timing ---------------------------------------------------------------------------------------------- */

/* Calls shorter than this are timed several at once, in ns. */
static const double least_ns = 200e3;

/* The next `bytes` of the pool, around and around: whoever is next finds them cold. */
static const unsigned char *take(struct bench *b, size_t bytes)
{
	size_t at = b->at + bytes <= b->plan->pool_bytes ? b->at : 0;
	b->at = at + (bytes + 63) / 64 * 64;
	return b->pool + at;
}

static double time_cell(struct bench *b, size_t set, size_t row)
{
	struct work *w = &b->work[row];
	size_t calls = b->cell[set][row].calls;
	uint64_t start = octavo_now_ns();
	for (size_t i = 0; i < calls; i++)
		w->op->run(w, &b->sets.set[set].table, take(b, weight_bytes(w)));
	return (double)(octavo_now_ns() - start) / (double)calls;
}

/* As many bytes as one call reads, so that an interruption weighs the same; not so few that starting counts. */
static void time_reads(struct bench *b)
{
	size_t least = (size_t)8 << 20, bytes = weight_bytes(&b->work[0]);
	bytes = bytes > least ? bytes : least;
	bytes = bytes < b->plan->pool_bytes ? bytes : b->plan->pool_bytes;
	for (size_t loop = 0; loop < machine_read_loops(); loop++)
		b->read[loop * b->plan->repeats + b->rounds] =
		        machine_read_once(loop, take(b, bytes), bytes, b->machine->threads);
}

/* Untimed calls, and from the last how many to time at once. */
static void warm_up(struct bench *b)
{
	for (size_t set = 0; set < b->sets.count; set++)
		for (size_t row = 0; row < b->plan->rows_count; row++) {
			b->cell[set][row].calls = 1;
			time_cell(b, set, row);
			b->cell[set][row].calls = 1 + (size_t)(least_ns / (time_cell(b, set, row) + 1));
		}
}

static void time_rounds(struct bench *b, const char *what)
{
	uint64_t start = octavo_now_ns();
	for (b->rounds = 0; b->rounds < b->plan->repeats; b->rounds++) {
		double spent = (double)(octavo_now_ns() - start) * 1e-9;
		if (b->plan->seconds > 0 && b->rounds && spent > b->plan->seconds)
			break;
		progress(what, b->rounds, b->plan->repeats);
		time_reads(b);
		for (size_t set = 0; set < b->sets.count; set++)
			for (size_t row = 0; row < b->plan->rows_count; row++)
				b->cell[set][row].ns[b->rounds] = time_cell(b, set, row);
	}
	progress_clear();
}

/* The reference's bits, or what a backend's bound allows; otherwise EXIT_CHECK_FAILED. */
static int verify(struct bench *b)
{
	for (size_t set = 0; set < b->sets.count; set++)
		for (size_t row = 0; row < b->plan->rows_count; row++) {
			const struct work *w = &b->work[row];
			progress("comparing with the reference", set * b->plan->rows_count + row,
			         b->sets.count * b->plan->rows_count);
			int agrees = work_agrees(w, b->pool, &b->sets.set[set].table, &b->sets.reference,
			                         backend_of(b, set) != NULL);
			if (agrees == 1)
				continue;
			if (agrees < 0)
				return complain("%s %zux%zu, %zu rows: %s", w->op->name, w->n, w->k, w->m,
				                octavo_status_string((enum octavo_status)agrees));
			complain("%s %zux%zu, %zu rows: %s %s", w->op->name, w->n, w->k, w->m, b->sets.set[set].name,
			         backend_of(b, set) ? "is not within its error bound"
			                            : "does not give the reference's bits");
			return EXIT_CHECK_FAILED;
		}
	progress_clear();
	return EXIT_OK;
}

/* ---- One shape, all shapes ------------------------------------------------------------------------------- */

static void close_shape(struct bench *b)
{
	for (size_t row = 0; row < b->plan->rows_count; row++)
		work_close(&b->work[row]);
	for (size_t set = 0; set < MAX_SETS; set++)
		for (size_t row = 0; row < MAX_LIST; row++) {
			free(b->cell[set][row].ns);
			b->cell[set][row].ns = NULL;
		}
}

static bool open_shape(struct bench *b, const size_t shape[2])
{
	for (size_t row = 0; row < b->plan->rows_count; row++) {
		struct work *w = &b->work[row];
		*w = (struct work){.op = b->plan->op,
		                   .m = b->plan->rows[row],
		                   .n = shape[0],
		                   .k = shape[1],
		                   .parallel = &b->parallel};
		if (!work_open(w))
			return false;
		for (size_t set = 0; set < b->sets.count; set++) {
			b->cell[set][row].ns = calloc(b->plan->repeats, sizeof(double));
			if (!b->cell[set][row].ns)
				return false;
		}
	}
	return true;
}

static bool summarise(struct bench *b)
{
	bool good = true;
	b->read_gbs = (struct octavo_summary){0};
	for (size_t loop = 0; good && loop < machine_read_loops(); loop++) {
		struct octavo_summary read;
		good = octavo_summarise(b->read + loop * b->plan->repeats, b->rounds, &read) == OCTAVO_OK;
		if (good && read.median > b->read_gbs.median)
			b->read_gbs = read;
	}
	if (b->read_gbs.median > b->machine->read_gbs)
		b->machine->read_gbs = b->read_gbs.median;
	for (size_t set = 0; set < b->sets.count; set++)
		for (size_t row = 0; row < b->plan->rows_count; row++) {
			struct cell *c = &b->cell[set][row];
			good = good && octavo_summarise(c->ns, b->rounds, &c->time) == OCTAVO_OK;
		}
	return good;
}

static int measure_shape(struct bench *b, const size_t shape[2], json_t *array)
{
	char what[64];
	int status = EXIT_BAD_INPUT;
	snprintf(what, sizeof what, "%s %zux%zu", b->plan->op->name, shape[0], shape[1]);
	if (!open_shape(b, shape))
		complain("%s: out of memory", what);
	else
		status = verify(b);
	if (status == EXIT_OK) {
		warm_up(b);
		time_rounds(b, what);
		if (!summarise(b))
			status = complain("%s: out of memory", what);
	}
	if (status == EXIT_OK) {
		kernels_print_shape(b);
		for (size_t set = 0; set < b->sets.count; set++)
			for (size_t row = 0; row < b->plan->rows_count; row++)
				json_array_append_new(array, kernels_row_json(b, set, row));
	}
	close_shape(b);
	return status;
}

static int measure_all(struct bench *b, json_t *array)
{
	const struct plan *p = b->plan;
	int status = EXIT_OK;
	progress("filling the pool", 0, 1);
	fill_random(b->pool, p->pool_bytes, p->op->fill, &b->parallel);
	machine_measure_peaks(b->machine);
	progress_clear();
	kernels_print_head(b);
	for (size_t i = 0; status == EXIT_OK && i < p->shapes; i++)
		status = measure_shape(b, p->shape[i], array);
	return status;
}

/* Appends to array and fills the machine's measured figures; an exit status. */
static int measure(const struct plan *plan, struct machine *m, json_t *array)
{
	struct bench *b = calloc(1, sizeof *b);
	int status = EXIT_BAD_INPUT;
	if (!b)
		return complain("out of memory");
	b->plan = plan;
	b->machine = m;
	b->parallel = bench_parallel(m->threads);
	find_sets(&b->sets, plan->op);
	b->pool = machine_pool(plan->pool_bytes);
	b->read = calloc(machine_read_loops() * plan->repeats, sizeof *b->read);
	if (b->pool && !b->read)
		complain("out of memory");
	else if (b->pool && choose_sets(&b->sets, plan))
		status = measure_all(b, array);
	free(b->pool);
	free(b->read);
	free(b);
	return status;
}

json_t *kernels_measure(const struct options *o, struct machine *m)
{
	struct plan plan = plan_quick(o, m);
	json_t *array = json_array();
	if (measure(&plan, m, array) == EXIT_OK)
		return array;
	json_decref(array);
	return NULL;
}

int command_kernels(int argc, char **argv)
{
	struct options o = {0};
	int parsed = options_parse(&o, argc, argv, "kernels",
	                           "op isa backend peers shape rows threads pool repeats json", help);
	if (parsed)
		return parsed < 0 ? EXIT_OK : parsed;
	if (o.op && !strcmp(o.op, "emulate"))
		return emulate_report(&o);
	struct machine machine;
	struct plan plan;
	machine_describe(&machine, o.threads);
	if (!plan_full(&plan, &o, &machine) || !json_writable(o.json))
		return EXIT_BAD_INPUT;
	cpu_choice_note();
	json_t *array = json_array(), *document = json_document();
	struct load start = load_start();
	int status = o.peers ? peers_measure(&plan, &machine, array) : measure(&plan, &machine, array);
	struct load load = load_since(&start);
	if (status == EXIT_OK)
		load_print(&load);
	json_object_set_new(document, "machine", machine_json(&machine));
	json_object_set_new(document, "busy", load_json(&load));
	json_object_set_new(document, "kernels", array);
	if (status == EXIT_OK && o.json && !json_write(document, o.json))
		status = EXIT_BAD_INPUT;
	json_decref(document);
	return status;
}
