/* SPDX-License-Identifier: Apache-2.0
 *
 * What the figures of `specbench kernels` look like: as text, and as the "kernels" of the JSON document.
 */
#include "bench/kernel_bench.h"

#include <string.h>

struct figures {
	double gbs, gflops;      /* gflops 0: not counted for this operation */
	double of_read, of_peak; /* shares of the roofs, 0: does not apply */
	double roofline;         /* share of what the lower of the two roofs allows */
	double r;                /* T(M) / T(1), 0: one row was not measured */
};

/* The arithmetic roof: some sets' products are made in tiles, or of pairs. */
static double peak_of(const struct bench *b, size_t set)
{
	const struct machine *m = b->machine;
	if (!strcmp(b->sets.set[set].name, "amx"))
		return m->tile_gflops;
	return strcmp(b->sets.set[set].name, "avx512bf16") ? m->peak_gflops : m->pair_gflops;
}

static struct figures figures_of(const struct bench *b, size_t set, size_t row)
{
	const struct work *w = &b->work[row];
	double ns = b->cell[set][row].time.median, read = b->read_gbs.median, peak = peak_of(b, set);
	double flops = w->op->flops ? w->op->flops(w) : 0;
	struct figures f = {.gbs = work_bytes(w) / ns, .gflops = flops / ns};
	if (w->op->streams) {
		double allowed = read * flops / work_bytes(w);
		f.of_read = f.gbs / read;
		f.of_peak = f.gflops / peak;
		f.roofline = f.gflops / (allowed < peak ? allowed : peak);
	}
	for (size_t i = 0; i < b->plan->rows_count; i++)
		if (b->work[i].m == 1)
			f.r = ns / b->cell[set][i].time.median;
	return f;
}

static void print_share(double share)
{
	if (share > 0)
		printf("  %6.1f%%", 100 * share);
	else
		printf("  %7s", "-");
}

static void print_row(const struct bench *b, size_t set, size_t row)
{
	const struct work *w = &b->work[row];
	const struct octavo_summary *t = &b->cell[set][row].time;
	struct figures f = figures_of(b, set, row);
	char shape[32], range[48];
	snprintf(shape, sizeof shape, "%zux%zu", w->n, w->k);
	snprintf(range, sizeof range, "%.1f..%.1f", t->min * 1e-3, t->max * 1e-3);
	printf("  %-10s %-10s %-11s %3zu  %9.1f  %-19s %7.2f", w->op->name, b->sets.set[set].name, shape, w->m,
	       t->median * 1e-3, range, f.gbs);
	print_share(f.of_read);
	if (f.gflops > 0)
		printf("  %8.1f", f.gflops);
	else
		printf("  %8s", "-");
	print_share(f.of_peak);
	if (f.r > 0)
		printf("  %5.2f\n", f.r);
	else
		printf("  %5s\n", "-");
}

void kernels_print_head(const struct bench *b)
{
	printf("\nkernels: medians of %zu interleaved measurements, %zu thread%s, weights cold (rotating through %zu "
	       "MiB)\n",
	       b->plan->repeats, b->machine->threads, b->machine->threads == 1 ? "" : "s", b->plan->pool_bytes >> 20);
	printf("  peak of FP32 fused multiply-adds: %.0f GFLOP/s", b->machine->peak_gflops);
	if (b->machine->pair_gflops > 0)
		printf("; of BF16 pairs, for the set avx512bf16: %.0f", b->machine->pair_gflops);
	if (b->machine->tile_gflops > 0)
		printf("; in tiles, for the set amx: %.0f", b->machine->tile_gflops);
	printf("\n  r(M) is the time of M rows over that of one\n");
	if (b->plan->backend)
		printf("  backend %s: approximate, not the bits of the other sets; checked against its error bound\n",
		       b->plan->backend);
}

void kernels_print_shape(const struct bench *b)
{
	printf("\n  plain read loops: %.2f GB/s (%.2f..%.2f)%s\n", b->read_gbs.median, b->read_gbs.min, b->read_gbs.max,
	       b->rounds < b->plan->repeats ? "; fewer measurements, the time was up" : "");
	printf("  %-10s %-10s %-11s %3s  %9s  %-19s %7s  %7s  %8s  %7s  %5s\n", "op", "set", "shape", "M", "us",
	       "min..max", "GB/s", "of read", "GFLOP/s", "of peak", "r(M)");
	for (size_t set = 0; set < b->sets.count; set++)
		for (size_t row = 0; row < b->plan->rows_count; row++)
			print_row(b, set, row);
}

static json_t *real_or_null(double x)
{
	return x > 0 ? json_real(x) : json_null();
}

json_t *kernels_row_json(const struct bench *b, size_t set, size_t row)
{
	const struct work *w = &b->work[row];
	const struct octavo_summary *t = &b->cell[set][row].time;
	struct figures f = figures_of(b, set, row);
	return json_pack("{s:s, s:s, s:s?, s:I, s:I, s:I, s:I, s:{s:f, s:f, s:f}, s:I, s:f, s:o, s:f, s:o, s:o, s:o}",
	                 "op", w->op->name, "backend", backend_of(b, set) ? backend_of(b, set) : "native", "isa",
	                 backend_of(b, set) ? NULL : b->sets.set[set].name, "m", (json_int_t)w->m, "n",
	                 (json_int_t)w->n, "k", (json_int_t)w->k, "threads", (json_int_t)b->machine->threads, "ns",
	                 "min", t->min, "median", t->median, "max", t->max, "measurements", (json_int_t)b->rounds,
	                 "gbs", f.gbs, "gflops", real_or_null(f.gflops), "read_gbs", b->read_gbs.median, "roofline",
	                 real_or_null(f.roofline), "r", real_or_null(f.r), "peak_share", real_or_null(f.of_peak));
}
