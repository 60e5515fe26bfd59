/* SPDX-License-Identifier: Apache-2.0
 *
 * `specbench layer`: what a decode step and a verification of several rows cost in a decoder layer of DeepSeek-V3 in
 * full size.  The engine runs it as it runs any checkpoint; row counts and plain read loops over the weights take
 * turns, so that a machine that slows down slows all of them.
 */
#include "bench/layer.h"

#include <stdlib.h>
#include <string.h>

static const char help[] =
        "usage: specbench layer [OPTIONS]\n"
        "\n"
        "Times one decoder layer of DeepSeek-V3 in full size (attention and mixture of experts, synthetic FP8 "
        "weights)\n"
        "for steps of several rows: what verifying a draft costs where weights come from memory. The weights are made\n"
        "in memory and vanish with the process.\n"
        "\n"
        "  --experts N     experts that have weights, 44 MB each: a multiple of 8 up to 256 (11.5 GB in all). "
        "Default:\n"
        "                  as few as the largest step can choose, at least 64; the unions are those of 256 anyway\n"
        "  --rows LIST     rows of a step, each 1 to 32 (default 1,2,4,8; 1 is always there)\n"
        "  --union LAW     independent: each row draws its experts without regard to the others (default);\n"
        "                  overlap:F: of those that no row before it has, it exchanges a share F for ones that one "
        "has\n"
        "  --context N     tokens in the cache before a step (default 1024)\n"
        "  --threads N     default: all processors\n"
        "  --repeats N     interleaved rounds, each with experts of its own (default 15)\n"
        "  --seed S        of the drawing (default 0)\n"
        "  --json FILE     write the figures as JSON; specbench run --layer FILE reads them\n";

enum { FILL_ROWS = 64, MOST_ROWS = 32, LEAST_EXPERTS = 64, READ_BYTES = 128 << 20 };

/* ---- What is asked for ---------------------------------------------------------------------------------------- */

static bool parse_union(const struct options *o, double *overlap)
{
	char *end;
	*overlap = 0;
	if (!o->law || !strcmp(o->law, "independent"))
		return true;
	if (!strncmp(o->law, "overlap:", 8) && o->law[8] >= '0' && o->law[8] <= '9') {
		*overlap = strtod(o->law + 8, &end);
		if (!*end && *overlap <= 1)
			return true;
	}
	complain("layer: option --union: \"%s\" is neither independent nor overlap:F with F from 0 to 1", o->law);
	return false;
}

static int ascending(const void *a, const void *b)
{
	size_t x = *(const size_t *)a, y = *(const size_t *)b;
	return (x > y) - (x < y);
}

/* r(M) needs one row. */
static bool plan_rows(struct layer_plan *p, const struct options *o)
{
	static const size_t usual[] = {1, 2, 4, 8};
	p->rows[p->rows_count++] = 1;
	for (size_t i = 0; i < (o->rows_count ? o->rows_count : sizeof usual / sizeof *usual); i++) {
		size_t rows = o->rows_count ? o->rows[i] : usual[i];
		if (rows > MOST_ROWS)
			return complain("layer: option --rows: %zu is more than %d", rows, MOST_ROWS) == EXIT_OK;
		if (rows > 1 && p->rows_count == OCTAVO_MAX_KNOTS)
			return complain("layer: option --rows: more than %d row counts, with one row",
			                OCTAVO_MAX_KNOTS) == EXIT_OK;
		if (rows > 1)
			p->rows[p->rows_count++] = rows;
	}
	qsort(p->rows, p->rows_count, sizeof *p->rows, ascending);
	return true;
}

static bool plan_experts(struct layer_plan *p, const struct options *o)
{
	size_t most = p->rows[p->rows_count - 1], needed = most * V3_TOP_K;
	needed = needed < V3_EXPERTS ? needed : V3_EXPERTS;
	p->experts = o->experts ? o->experts : needed > LEAST_EXPERTS ? needed : LEAST_EXPERTS;
	if (p->experts % V3_TOP_K)
		return complain("layer: option --experts: %zu is not a multiple of %d", p->experts, V3_TOP_K) ==
		       EXIT_OK;
	if (p->experts < needed)
		return complain("layer: option --experts: %zu rows can choose %zu, more than %zu (--rows)", most,
		                needed, p->experts) == EXIT_OK;
	return true;
}

static bool make_plan(struct layer_plan *p, const struct options *o)
{
	*p = (struct layer_plan){
	        .context = o->context ? o->context : 1024, .repeats = o->repeats ? o->repeats : 15, .seed = o->seed};
	return parse_union(o, &p->overlap) && plan_rows(p, o) && plan_experts(p, o);
}

/* ---- Steps ------------------------------------------------------------------------------------------------------- */

struct bed {
	const struct layer_plan *plan;
	struct layer_routes routes;
	struct layer_model model;
	struct octavo_parallel parallel;
	struct octavo_profiler *profiler;
	struct octavo_engine *engine;
	double *read;   /* [loops][repeats] GB/s */
	size_t read_at; /* byte of the weights that the next read begins with */
};

/* A forward of `rows` rows behind what the cache holds: tokens from `first` on, around and around within `among`. */
static bool forward(struct bed *b, size_t first, size_t rows, size_t among)
{
	int32_t token[FILL_ROWS], pos[FILL_ROWS], seq[FILL_ROWS] = {0}, parent[FILL_ROWS];
	uint8_t flags[FILL_ROWS] = {0};
	struct octavo_error error;
	size_t before = octavo_sequence_length(b->engine, 0);
	for (size_t i = 0; i < rows; i++) {
		token[i] = (int32_t)(first + i % among);
		pos[i] = (int32_t)(before + i);
		parent[i] = (int32_t)i - 1;
	}
	struct octavo_batch batch = {rows, token, pos, seq, parent, flags};
	if (octavo_forward(b->engine, &batch, &error) == OCTAVO_OK)
		return true;
	complain("layer: %s", error.text);
	return false;
}

/* Which also reads every expert, so that all weights are mapped when the measurement begins. */
static bool fill_context(struct bed *b)
{
	uint32_t row[FILL_ROWS];
	struct octavo_error error;
	for (size_t i = 0; i < FILL_ROWS; i++)
		row[i] = (uint32_t)i;
	if (!forward(b, 0, b->routes.cover, b->routes.cover))
		return false;
	for (size_t done = 0, rows; done < b->plan->context; done += rows) {
		progress("filling the cache", done, b->plan->context);
		rows = b->plan->context - done < FILL_ROWS ? b->plan->context - done : FILL_ROWS;
		if (!forward(b, 0, rows, b->routes.cover))
			return false;
		if (octavo_commit(b->engine, 0, row, rows, &error) != OCTAVO_OK)
			return complain("layer: %s", error.text) == EXIT_OK;
	}
	progress_clear();
	return true;
}

/* The experts that the step was drawn to choose. */
static size_t drawn_union(const struct bed *b, size_t first, size_t rows)
{
	bool seen[V3_EXPERTS] = {false};
	size_t count = 0;
	for (size_t row = 0; row < rows; row++)
		for (size_t i = 0; i < V3_TOP_K; i++) {
			count += !seen[b->routes.expert[first + row][i]];
			seen[b->routes.expert[first + row][i]] = true;
		}
	return count;
}

static double phase_ns(const struct octavo_profile *p, enum octavo_phase phase)
{
	return p->phase[phase].owner_inclusive[OCTAVO_COUNTER_WALL_NS];
}

static bool time_step(struct bed *b, struct layer_bench *out, size_t round, size_t index)
{
	struct layer_cell *cell = &out->cell[index];
	struct octavo_profile profile;
	size_t rows = b->plan->rows[index], first = routes_step(&b->routes, b->plan, round, index), read, forwarded;
	octavo_profiler_reset(b->profiler);
	if (!forward(b, first, rows, rows))
		return false;
	if (octavo_profiler_report(b->profiler, &profile) != OCTAVO_OK)
		return complain("layer: the profiler gave no report") == EXIT_OK;
	octavo_forward_experts(b->engine, &read, &forwarded);
	if (read != drawn_union(b, first, rows))
		return complain("layer: %zu rows read %zu experts and not the %zu that were drawn", rows, read,
		                drawn_union(b, first, rows)) == EXIT_OK;
	cell->attention[round] = phase_ns(&profile, OCTAVO_PHASE_ATTENTION);
	cell->experts[round] = phase_ns(&profile, OCTAVO_PHASE_EXPERTS);
	cell->whole[round] = cell->attention[round] + cell->experts[round];
	cell->gbs[round] = (double)((read + 1) * out->expert_bytes + out->router_bytes) / cell->experts[round];
	cell->expert_union += (double)read / (double)b->plan->repeats;
	return true;
}

/* Each loop reads the next piece of the weights' own mapping. */
static void time_reads(struct bed *b, size_t round)
{
	for (size_t loop = 0; loop < machine_read_loops(); loop++) {
		size_t bytes = READ_BYTES < b->model.bytes ? READ_BYTES : b->model.bytes;
		if (b->read_at + bytes > b->model.bytes)
			b->read_at = 0;
		b->read[loop * b->plan->repeats + round] =
		        machine_read_once(loop, b->model.map + b->read_at, bytes, b->parallel.threads);
		b->read_at += bytes;
	}
}

static bool time_rounds(struct bed *b, struct layer_bench *out)
{
	for (size_t round = 0; round < b->plan->repeats; round++) {
		progress("measuring", round, b->plan->repeats);
		time_reads(b, round);
		for (size_t i = 0; i < b->plan->rows_count; i++)
			if (!time_step(b, out, round, i))
				return false;
	}
	progress_clear();
	return true;
}

/* ---- The whole --------------------------------------------------------------------------------------------------- */

static bool open_engine(struct bed *b)
{
	struct octavo_error error;
	struct octavo_profiler_settings profiling = {.enabled = 1, .best_tier = OCTAVO_TIER_TIME};
	if (octavo_profiler_open(&b->profiler, &profiling, &error) != OCTAVO_OK)
		return complain("profiler: %s", error.text) == EXIT_OK;
	struct octavo_engine_settings settings = {.model_dir = b->model.dir,
	                                          .parallel = &b->parallel,
	                                          .profiler = b->profiler,
	                                          .max_context = b->plan->context + FILL_ROWS,
	                                          .max_rows = FILL_ROWS};
	bool good = octavo_engine_open(&b->engine, &settings, &error) == OCTAVO_OK;
	if (!good)
		complain("layer: %s", error.text);
	model_unlink(&b->model);
	return good;
}

static bool allocate(struct bed *b, struct layer_bench *out)
{
	size_t count = b->plan->repeats;
	b->read = calloc(machine_read_loops() * count, sizeof *b->read);
	bool good = b->read != NULL;
	for (size_t i = 0; good && i < b->plan->rows_count; i++) {
		struct layer_cell *c = &out->cell[i];
		c->attention = calloc(count, sizeof(double));
		c->experts = calloc(count, sizeof(double));
		c->whole = calloc(count, sizeof(double));
		c->gbs = calloc(count, sizeof(double));
		good = c->attention && c->experts && c->whole && c->gbs;
	}
	return good || complain("layer: out of memory") == EXIT_OK;
}

static void summarise_reads(const struct bed *b, struct layer_bench *out)
{
	for (size_t loop = 0; loop < machine_read_loops(); loop++) {
		struct octavo_summary s;
		if (octavo_summarise(b->read + loop * b->plan->repeats, b->plan->repeats, &s) == OCTAVO_OK &&
		    s.median > out->read_gbs.median)
			out->read_gbs = s;
	}
	out->machine.read_gbs = out->read_gbs.median;
}

static bool measure(const struct layer_plan *plan, struct layer_bench *out)
{
	struct bed b = {.plan = plan, .parallel = bench_parallel(out->machine.threads), .model.fd = -1};
	bool good = allocate(&b, out) && routes_draw(&b.routes, plan) &&
	            model_make(&b.model, plan, &b.routes, &b.parallel) && open_engine(&b);
	out->bytes = b.model.bytes;
	out->attention_bytes = b.model.attention_bytes;
	out->expert_bytes = b.model.expert_bytes;
	out->router_bytes = b.model.router_bytes;
	good = good && fill_context(&b) && time_rounds(&b, out);
	if (good)
		summarise_reads(&b, out);
	octavo_engine_close(&b.engine);
	octavo_profiler_close(&b.profiler);
	model_free(&b.model);
	routes_free(&b.routes);
	free(b.read);
	return good;
}

static void free_cells(struct layer_bench *b)
{
	for (size_t i = 0; i < b->plan->rows_count; i++) {
		free(b->cell[i].attention);
		free(b->cell[i].experts);
		free(b->cell[i].whole);
		free(b->cell[i].gbs);
	}
}

int command_layer(int argc, char **argv)
{
	struct options o = {0};
	struct layer_plan plan;
	int parsed =
	        options_parse(&o, argc, argv, "layer", "experts rows union context threads repeats seed json", help);
	if (parsed)
		return parsed < 0 ? EXIT_OK : parsed;
	if (!make_plan(&plan, &o) || !json_writable(o.json))
		return EXIT_BAD_INPUT;
	cpu_choice_note();
	struct layer_bench b = {.plan = &plan};
	machine_describe(&b.machine, o.threads);
	struct load start = load_start();
	bool good = measure(&plan, &b);
	if (good) {
		struct load load = load_since(&start);
		layer_print(&b);
		load_print(&load);
		json_t *document = json_document();
		json_object_set_new(document, "machine", machine_json(&b.machine));
		json_object_set_new(document, "busy", load_json(&load));
		json_object_set_new(document, "layer", layer_json(&b));
		good = !o.json || json_write(document, o.json);
		json_decref(document);
	}
	free_cells(&b);
	return good ? EXIT_OK : EXIT_BAD_INPUT;
}
