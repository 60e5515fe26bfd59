/* SPDX-License-Identifier: Apache-2.0
 *
 * Speed by category of the prompts, and the experts that runs read against the formula for independent routing.
 */
#include "bench/runs.h"

#include <math.h>

/* ---- Categories ------------------------------------------------------------------------------------------------- */

/* The speed-up over a category's prompts; 0: none was measured. */
static double speed_in(const struct runs *r, const struct run *run, const struct run *plain, const char *category)
{
	double plain_ns = 0, ns = 0;
	for (size_t i = 0; i < run->groups; i++)
		if (!strcmp(r->list->item[i].category, category)) {
			plain_ns += plain->ns[i];
			ns += run->ns[i];
		}
	return ns > 0 ? plain_ns / ns : 0;
}

/* The i-th category of the measured prompts; NULL behind the last one, and where prompts were measured in groups. */
static const char *category_of(const struct runs *r, size_t i)
{
	for (size_t at = 0; r->batch == 1 && at < r->prompts; at++) {
		size_t before = 0;
		while (strcmp(r->list->item[before].category, r->list->item[at].category))
			before++;
		if (before == at && !i--)
			return r->list->item[at].category;
	}
	return NULL;
}

/* The geometric mean of the speed-ups in the categories; 0 without categories. */
static double mean_speed(const struct runs *r, const struct run *run, const struct run *plain)
{
	double sum = 0;
	size_t count = 0;
	for (const char *c; (c = category_of(r, count)); count++)
		sum += log(speed_in(r, run, plain, c));
	return count ? exp(sum / (double)count) : 0;
}

void categories_print(const struct runs *r, size_t first, size_t end)
{
	enum { ABREAST = 8 };
	const struct run *plain = &r->run[first];
	struct columns columns = runs_columns(r, first, end);
	if (!category_of(r, 1) || end - first < 2)
		return;
	printf("\nSpeed by category of the prompts, and the geometric mean over %s\n\n",
	       category_of(r, ABREAST) ? "all of them (the first are shown)" : "them");
	columns_head(&columns);
	for (size_t i = 0; i < ABREAST && category_of(r, i); i++)
		printf("  %9.9s", category_of(r, i));
	printf("     mean\n");
	for (const struct run *run = plain + 1; run < r->run + end; run++) {
		columns_run(&columns, run);
		for (size_t i = 0; i < ABREAST && category_of(r, i); i++)
			printf("  %9.2f", speed_in(r, run, plain, category_of(r, i)));
		printf("  %7.2f\n", mean_speed(r, run, plain));
	}
}

void categories_json(json_t *o, const struct runs *r, const struct run *run, const struct run *plain)
{
	json_t *each = json_object();
	const char *c;
	for (size_t i = 0; (c = category_of(r, i)); i++)
		json_object_set_new(each, c, json_real(speed_in(r, run, plain, c)));
	json_object_set_new(o, "speedup_by_category", json_object_size(each) ? json_incref(each) : json_null());
	json_object_set_new(o, "speedup_geometric_mean",
	                    json_object_size(each) ? json_real(mean_speed(r, run, plain)) : json_null());
	json_decref(each);
}

/* ---- Experts ---------------------------------------------------------------------------------------------------- */

/* Distinct experts that a step reads in an MoE layer: more than one token's experts, fewer than as many for each of its
 * rows. */
struct experts {
	double rows;    /* of a step */
	double read;    /* 0 for a dense model */
	double formula; /* if each row chose its experts without regard to the others: E * (1 - (1 - k/E)^rows) */
};

static struct experts experts_of(const struct runs *r, const struct run *run)
{
	double rows = 0, formula = 0, read = 0, routed = 0, steps = 0;
	double all = (double)r->info->experts, missed = 1 - (double)r->info->experts_per_token / all;
	for (const struct half *h = run->half; h < run->half + 2; h++) {
		for (size_t i = 1; i <= MAX_ROWS; i++) {
			rows += (double)(i * h->rows[i]);
			formula += h->rows[i] ? (double)h->rows[i] * all * (1 - pow(missed, (double)i)) : 0;
		}
		read += (double)h->expert_union;
		routed += (double)h->expert_rows;
		steps += (double)h->steps;
	}
	if (!(routed > 0))
		return (struct experts){ 0 };
	return (struct experts){ rows / steps, read / steps / (routed / rows), formula / steps };
}

void experts_print(const struct runs *r, size_t first, size_t end)
{
	struct columns columns = runs_columns(r, first, end);
	if (!(experts_of(r, &r->run[first]).read > 0) || end - first < 2)
		return;
	printf("\nExperts that a step reads in a layer, of %zu; formula: if each row chose its %zu without regard to the\n"
	       "others, E (1 - (1 - k/E)^rows)\n\n",
	       r->info->experts, r->info->experts_per_token);
	columns_head(&columns);
	printf("      rows     read  formula\n");
	for (size_t i = first; i < end; i++) {
		struct experts e = experts_of(r, &r->run[i]);
		columns_run(&columns, &r->run[i]);
		printf("  %8.2f  %7.2f  %7.2f\n", e.rows, e.read, e.formula);
	}
}

void experts_json(json_t *o, const struct runs *r, const struct run *run)
{
	struct experts e = experts_of(r, run);
	json_object_set_new(o, "experts_per_step_and_layer", e.read > 0 ? json_real(e.read) : json_null());
	json_object_set_new(o, "experts_formula", e.read > 0 ? json_real(e.formula) : json_null());
}
