/* SPDX-License-Identifier: Apache-2.0
 *
 * Which configurations are measured.
 */
#include "bench/runs.h"

#include <stdlib.h>
#include <string.h>

/* ---- The plan ----------------------------------------------------------------------------------------------- */

/* The shape as a table says it. */
static void name_shape(struct run *run, const char *tree)
{
	if (tree)
		snprintf(run->shape, sizeof run->shape, "%s", tree);
	else if (run->k)
		snprintf(run->shape, sizeof run->shape, "%u", run->k);
	else
		snprintf(run->shape, sizeof run->shape, "auto");
}

/* One more configuration: of k tokens, or of a tree where there is one. */
static bool add_run(struct runs *r, const struct options *o, const struct acceptance *accept, const char *drafter,
                    size_t length, unsigned k, const struct tree *tree, double temperature)
{
	struct run *grown = realloc(r->run, (r->total + 1) * sizeof *grown);
	if (grown)
		r->run = grown;
	char *name = strndup(drafter, length);
	if (!grown || !name) {
		free(name);
		complain("out of memory");
		return false;
	}
	struct run *run = &r->run[r->total++];
	*run = (struct run){
		.drafter = name,
		.k = k,
		.accept = *accept,
		.temperature = temperature,
		.batch = r->batch,
		.sampling = sampling_of(o, r->info, temperature),
	};
	if (tree)
		run->tree = *tree;
	drafter_label(name, run->label);
	name_shape(run, tree ? o->tree : NULL);
	return true;
}

/* The draft lengths of a drafter when none are asked for: those worth comparing; 0 is auto. */
static const struct {
	const char *drafter;
	long k[4];
	size_t count;
	long brief[2]; /* of a report that shows every drafter in little time */
	size_t brief_count;
} usual_k[] = {
	{ "mtp", { 1, 2, 4, 0 }, 4, { 1, 0 }, 2 },
	{ "parallel", { 4, 0 }, 2, { 2, 0 }, 2 },
	{ "eagle", { 1, 2, 4, 0 }, 4, { 1, 0 }, 2 },
	{ "model", { 1, 2, 4, 0 }, 4, { 1, 0 }, 2 },
	{ "ngram", { 4, 0 }, 2, { 0 }, 1 },
	{ "lookahead", { 4, 0 }, 2, { 4 }, 1 },
	{ "medusa", { 4, 0 }, 2, { 2, 0 }, 2 },
	{ "hydra", { 4, 0 }, 2, { 2, 0 }, 2 },
	{ "none", { 0 }, 0, { 0 }, 0 },
};
static const long only_auto[] = { 0 };

static bool add_drafter(struct runs *r, const struct options *o, const struct acceptance *accept, const char *name,
                        size_t length, double temperature)
{
	const long *k = o->k_count ? o->k : only_auto;
	size_t count = o->k_count ? o->k_count : 1;
	struct tree tree;
	if (length == 4 && !strncmp(name, "none", 4)) /* plain decoding is there already */
		return true;
	if (!tree_parse(o, &tree))
		return false;
	if (o->tree && !add_run(r, o, accept, name, length, 0, &tree, temperature))
		return false;
	if (o->tree && !o->k_count)
		return true;
	size_t bare = strcspn(name, ":,"); /* without a directory */
	for (size_t i = 0; !o->k_count && i < sizeof usual_k / sizeof *usual_k; i++)
		if (strlen(usual_k[i].drafter) == bare && !strncmp(usual_k[i].drafter, name, bare)) {
			k = o->brief ? usual_k[i].brief : usual_k[i].k;
			count = o->brief ? usual_k[i].brief_count : usual_k[i].count;
		}
	for (size_t i = 0; i < count; i++)
		if (!add_run(r, o, accept, name, length, (unsigned)k[i], NULL, temperature))
			return false;
	return true;
}

/* Each name of a comma list with each k. */
static bool add_drafters(struct runs *r, const struct options *o, const struct acceptance *accept, const char *list,
                         double temperature)
{
	for (const char *at = list;; at++) {
		size_t length = strcspn(at, ",");
		if (!drafter_check(at, length) || !add_drafter(r, o, accept, at, length, temperature))
			return false;
		at += length;
		if (!*at)
			return true;
	}
}

bool runs_check(const struct options *o)
{
	struct acceptance accept;
	struct tree tree;
	struct {
		const char *text;
		size_t length;
	} seen[MAX_LIST];
	size_t count = 0;
	if (!accept_parse(o, &accept) || !tree_parse(o, &tree))
		return false;
	for (const char *at = o->drafter; at; at = *at ? at + 1 : NULL) {
		size_t length = strcspn(at, ",");
		if (!drafter_check(at, length))
			return false;
		for (size_t i = 0; i < count; i++)
			if (seen[i].length == length && !strncmp(seen[i].text, at, length)) {
				complain("option --drafter: %.*s is there twice", (int)length, at);
				return false;
			}
		if (count == MAX_LIST) {
			complain("option --drafter: more than %d drafters", MAX_LIST);
			return false;
		}
		seen[count].text = at;
		seen[count++].length = length;
		at += length;
	}
	return true;
}

/* All that the model can feed and the rule can do with, and the usual pair, as a comma list. */
static void feasible(char list[256], const struct octavo_engine *engine, enum octavo_accept rule)
{
	const char *const *name = octavo_drafter_names();
	size_t used = 0;
	for (*list = 0; *name && used < 256; name++)
		if (strcmp(*name, "none") && octavo_engine_feeds(engine, *name) &&
		    octavo_drafter_suits(*name, rule, NULL))
			used += (size_t)snprintf(list + used, 256 - used, used ? ",%s" : "%s", *name);
	if (used < 256 && octavo_engine_feeds(engine, "ngram+mtp"))
		snprintf(list + used, 256 - used, ",ngram+mtp");
}

/* Plain decoding of one prompt at a time, for each temperature: what batches are compared with. */
static bool add_references(struct runs *r, const struct options *o, const struct acceptance *accept)
{
	for (size_t i = 0; i < r->count; i++) {
		if (!run_is_plain(&r->run[i]))
			continue;
		if (!add_run(r, o, accept, "none", 4, 0, NULL, r->run[i].temperature))
			return false;
		r->run[r->total - 1].batch = 1;
	}
	return true;
}

bool runs_plan(struct runs *r, const struct options *o, const struct octavo_engine *engine)
{
	char all[256];
	struct acceptance accept;
	if (!accept_parse(o, &accept))
		return false;
	feasible(all, engine, accept.rule);
	const char *drafters = o->drafter ? o->drafter : all;
	r->info = octavo_engine_model(engine);
	if (!sampling_check(o, r->info))
		return false;
	double usual = usual_temperature(r->info);
	const double *temperature = o->temperature_count ? o->temperature : &usual;
	for (size_t i = 0; i < (o->temperature_count ? o->temperature_count : 1); i++)
		if (!add_run(r, o, &accept, "none", 4, 0, NULL, temperature[i]) ||
		    !add_drafters(r, o, &accept, drafters, temperature[i]))
			return false;
	r->count = r->total;
	return r->batch == 1 || add_references(r, o, &accept);
}

void runs_free(struct runs *r)
{
	for (size_t i = 0; i < r->total; i++) {
		free(r->run[i].drafter);
		free(r->run[i].ns);
		free(r->run[i].per_group);
		free(r->run[i].thread_ns);
	}
	free(r->run);
	r->run = NULL;
	r->count = r->total = 0;
}
