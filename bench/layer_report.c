/* SPDX-License-Identifier: Apache-2.0
 *
 * What the figures of `specbench layer` look like: as text, and as the "layer" of the JSON document.
 */
#include "bench/layer.h"

struct figures {
	double rows, formula;                 /* experts by the law that they are drawn from */
	double attention_bytes, expert_bytes; /* what one step reads */
	struct octavo_summary attention, experts, whole, gbs;
	double attention_gbs;
	double r_attention, r_experts, r; /* the medians over those of one row */
};

static struct octavo_summary summary(const double *x, size_t count)
{
	struct octavo_summary s = {0};
	octavo_summarise(x, count, &s);
	return s;
}

static struct figures figures_of(const struct layer_bench *b, size_t index)
{
	const struct layer_plan *p = b->plan;
	const struct layer_cell *c = &b->cell[index], *one = &b->cell[0];
	size_t cache = p->context * (V3_KV_LORA + V3_ROPE) * sizeof(uint16_t);
	struct figures f = {.rows = (double)p->rows[index],
	                    .formula = routes_expected(p->rows[index], p->overlap),
	                    .attention_bytes = (double)(b->attention_bytes + cache),
	                    .expert_bytes = (c->expert_union + 1) * (double)b->expert_bytes + (double)b->router_bytes,
	                    .attention = summary(c->attention, p->repeats),
	                    .experts = summary(c->experts, p->repeats),
	                    .whole = summary(c->whole, p->repeats),
	                    .gbs = summary(c->gbs, p->repeats)};
	f.attention_gbs = f.attention_bytes / f.attention.median;
	f.r_attention = f.attention.median / summary(one->attention, p->repeats).median;
	f.r_experts = f.experts.median / summary(one->experts, p->repeats).median;
	f.r = f.whole.median / summary(one->whole, p->repeats).median;
	return f;
}

static void print_law(const struct layer_plan *p)
{
	if (p->overlap > 0)
		printf("of the experts that no row before it has, a row exchanges %.0f%% for ones that one has",
		       100 * p->overlap);
	else
		printf("each row draws 8 of 256 without regard to the others");
}

static void print_head(const struct layer_bench *b)
{
	const struct layer_plan *p = b->plan;
	printf("layer: one of DeepSeek-V3's (MLA of 128 heads; 8 of 256 experts and a shared one), synthetic FP8 "
	       "weights, "
	       "W8A16\n  kernels %s, %zu thread%s, %zu tokens of context; medians of %zu interleaved rounds\n",
	       b->machine.chosen, b->machine.threads, b->machine.threads == 1 ? "" : "s", p->context, p->repeats);
	printf("  %.1f GB in memory: ", (double)b->bytes * 1e-9);
	if (p->experts < V3_EXPERTS)
		printf("weights for %zu experts (--experts), on which each step's experts of the 256 are laid\n",
		       p->experts);
	else
		printf("weights for all experts\n");
	printf("  experts: ");
	print_law(p);
	printf("\n  plain read loops over the same weights: %.2f GB/s (%.2f..%.2f)\n", b->read_gbs.median,
	       b->read_gbs.min, b->read_gbs.max);
}

static void print_part(double ms, double gbs, double read, double r)
{
	printf("  %8.2f %6.2f %6.1f%% %5.2f", ms, gbs, 100 * gbs / read, r);
}

void layer_print(const struct layer_bench *b)
{
	print_head(b);
	printf("\n        experts             attention                      mixture of experts             layer\n"
	       "  rows  read  formula      MB        ms   GB/s of read  r(M)        ms   GB/s of read  r(M)        ms  "
	       "min..max         r(M)\n");
	for (size_t i = 0; i < b->plan->rows_count; i++) {
		struct figures f = figures_of(b, i);
		char range[40];
		printf("  %4.0f %5.1f %8.1f %7.0f", f.rows, b->cell[i].expert_union, f.formula, f.expert_bytes * 1e-6);
		print_part(f.attention.median * 1e-6, f.attention_gbs, b->read_gbs.median, f.r_attention);
		print_part(f.experts.median * 1e-6, f.gbs.median, b->read_gbs.median, f.r_experts);
		snprintf(range, sizeof range, "%.2f..%.2f", f.whole.min * 1e-6, f.whole.max * 1e-6);
		printf("  %8.2f  %-15s %5.2f\n", f.whole.median * 1e-6, range, f.r);
	}
	printf("\n  MB and GB/s: of the weights that a step must read, each once (experts: the union, the shared one "
	       "and\n"
	       "  the router; attention: its %.0f MB and the cache's rows). formula: the union's mean by the law "
	       "above.\n",
	       (double)b->attention_bytes * 1e-6);
}

static json_t *times_json(const struct octavo_summary *s)
{
	return json_pack("{s:f, s:f, s:f}", "min", s->min, "median", s->median, "max", s->max);
}

static json_t *row_json(const struct layer_bench *b, size_t index)
{
	struct figures f = figures_of(b, index);
	double read = b->read_gbs.median;
	json_t *attention =
	        json_pack("{s:o, s:f, s:f, s:f, s:f}", "ns", times_json(&f.attention), "bytes", f.attention_bytes,
	                  "gbs", f.attention_gbs, "of_read", f.attention_gbs / read, "r", f.r_attention);
	json_t *experts = json_pack("{s:o, s:f, s:f, s:f, s:f, s:f, s:f}", "ns", times_json(&f.experts), "bytes",
	                            f.expert_bytes, "gbs", f.gbs.median, "of_read", f.gbs.median / read, "r",
	                            f.r_experts, "union", b->cell[index].expert_union, "union_formula", f.formula);
	return json_pack("{s:I, s:o, s:o, s:o, s:f}", "m", (json_int_t)b->plan->rows[index], "attention", attention,
	                 "experts", experts, "ns", times_json(&f.whole), "r", f.r);
}

json_t *layer_json(const struct layer_bench *b)
{
	const struct layer_plan *p = b->plan;
	json_t *rows = json_array();
	for (size_t i = 0; i < p->rows_count; i++)
		json_array_append_new(rows, row_json(b, i));
	return json_pack("{s:s, s:i, s:i, s:I, s:I, s:s, s:f, s:I, s:I, s:I, s:s, s:I, s:f, s:o}", "model",
	                 "deepseek-v3", "experts", V3_EXPERTS, "top_k", V3_TOP_K, "experts_in_memory",
	                 (json_int_t)p->experts, "bytes", (json_int_t)b->bytes, "union",
	                 p->overlap > 0 ? "overlap" : "independent", "overlap", p->overlap, "seed", (json_int_t)p->seed,
	                 "context", (json_int_t)p->context, "threads", (json_int_t)b->machine.threads, "isa",
	                 b->machine.chosen, "repeats", (json_int_t)p->repeats, "read_gbs", b->read_gbs.median, "rows",
	                 rows);
}
