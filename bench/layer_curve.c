/* SPDX-License-Identifier: Apache-2.0
 *
 * `specbench run --layer`: what the measured drafters would gain where a forward of M rows costs what it costs in a
 * layer of full size, whose weights no cache holds and whose rows need experts of their own.
 */
#include "bench/runs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One row's time; 0 if it is none. */
static double row_ns(json_t *row, json_int_t *m)
{
	double ns = 0;
	if (json_unpack(row, "{s:I, s:{s:F}}", "m", m, "ns", "median", &ns) || *m < 1 || !isfinite(ns))
		return 0;
	return ns;
}

/* Rows ascend from 1; more rows never cost less: that was noise. */
static bool read_rows(struct octavo_cost *cost, const json_t *rows)
{
	size_t i;
	json_t *row;
	*cost = (struct octavo_cost){0};
	json_array_foreach (rows, i, row) {
		json_int_t m;
		double ns = row_ns(row, &m), before = i ? cost->ns[i - 1] : 0;
		if (i == OCTAVO_MAX_KNOTS || ns <= 0 || (i ? (size_t)m <= cost->rows[i - 1] : m != 1))
			return false;
		cost->rows[i] = (size_t)m;
		cost->ns[i] = ns > before ? ns : before;
		cost->count++;
	}
	return cost->count > 1;
}

bool layer_curve_load(struct octavo_cost *cost, const char *path)
{
	json_error_t error;
	size_t bytes;
	unsigned char *text = read_file(path, &bytes);
	if (!text)
		return false;
	json_t *document = json_loadb((const char *)text, bytes, JSON_REJECT_DUPLICATES, &error);
	free(text);
	if (!document)
		return complain("option --layer: %s:%d: %s", path, error.line, error.text) == EXIT_OK;
	bool good = read_rows(cost, json_object_get(json_object_get(document, "layer"), "rows"));
	json_decref(document);
	if (!good)
		complain("option --layer: %s: no times of a layer at one row and at more (specbench layer --json "
		         "writes them)",
		         path);
	return good;
}

struct outlook outlook_of(const struct octavo_cost *full, const struct run *run, const struct run *plain)
{
	double verify = 0, draft_ns = 0, plain_ns = 0;
	if (!full->count || !run->steps || !plain->steps)
		return (struct outlook){0};
	for (size_t i = 0; i < 2; i++) {
		draft_ns += run->half[i].draft_ns;
		plain_ns += plain->half[i].verify_ns;
		for (size_t rows = 1; rows <= OCTAVO_MAX_DRAFT; rows++)
			verify += (double)run->half[i].rows[rows] * octavo_cost_at(full, rows) / full->ns[0];
	}
	double steps = (double)run->steps, one = plain_ns / (double)plain->steps;
	struct outlook o = {.known = true,
	                    .tau = (double)run->tokens / steps,
	                    .draft = draft_ns / steps / one,
	                    .verify = verify / steps};
	o.speedup = o.tau / (o.draft + o.verify);
	o.speedup_free = o.tau / o.verify;
	return o;
}

void outlook_head(const struct octavo_cost *full, const char *path, const struct columns *columns)
{
	printf("\nAt full size: these drafters, if a forward of M rows cost r(M) of %s\n\n  M     ", path);
	for (size_t i = 0; i < full->count; i++)
		printf(" %6zu", full->rows[i]);
	printf("\n  r(M)  ");
	for (size_t i = 0; i < full->count; i++)
		printf(" %6.2f", full->ns[i] / full->ns[0]);
	printf("\n\n"
	       "  speed-up = tokens per step / (draft + r(rows)), with this model's acceptance; accepting, which takes\n"
	       "  microseconds, is free. Drafts as here: at this model's share of a forward. Drafts free: a large model's\n"
	       "  MTP module is one layer beside many, so the truth lies between, nearer to this one.\n\n");
	columns_head(columns);
	printf("  tok/step  r(rows)   draft  drafts as here  drafts free\n");
}

void outlook_print(const struct outlook *o, const struct run *run, const struct columns *columns)
{
	columns_run(columns, run);
	printf("  %8.2f  %7.2f  %6.2f  %14.2f  %11.2f\n", o->tau, o->verify, o->draft, o->speedup, o->speedup_free);
}

json_t *outlook_json(const struct outlook *o)
{
	if (!o->known)
		return json_null();
	return json_pack("{s:f, s:f, s:f, s:f, s:f}", "tau", o->tau, "draft", o->draft, "verify", o->verify, "speedup",
	                 o->speedup, "speedup_drafts_free", o->speedup_free);
}
