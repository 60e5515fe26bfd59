/* SPDX-License-Identifier: Apache-2.0
 *
 * Measuring.  For each prompt all configurations decode the same number of tokens with the same random numbers,
 * one after the other, in an order that rotates from prompt to prompt: a machine that slows down slows all of
 * them.  Prefill is timed apart.
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
static bool add_run(struct runs *r, const struct options *o, enum octavo_accept accept, const char *drafter,
                    size_t length, unsigned k, const struct tree *tree, double temperature)
{
	struct run *grown = realloc(r->run, (r->count + 1) * sizeof *grown);
	if (grown)
		r->run = grown;
	char *name = strndup(drafter, length);
	if (!grown || !name) {
		free(name);
		complain("out of memory");
		return false;
	}
	struct run *run = &r->run[r->count++];
	*run = (struct run){
		.drafter = name,
		.k = k,
		.accept = accept,
		.temperature = temperature,
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
} usual_k[] = {
	{ "mtp", { 1, 2, 4, 0 }, 4 },
	{ "parallel", { 4, 0 }, 2 },
	{ "eagle", { 1, 2, 4, 0 }, 4 },
	{ "ngram", { 4, 0 }, 2 },
	{ "lookahead", { 4, 0 }, 2 },
	{ "medusa", { 4, 0 }, 2 },
	{ "hydra", { 4, 0 }, 2 },
	{ "none", { 0 }, 0 },
};
static const long only_auto[] = { 0 };

static bool add_drafter(struct runs *r, const struct options *o, enum octavo_accept accept, const char *name,
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
			k = usual_k[i].k;
			count = usual_k[i].count;
		}
	for (size_t i = 0; i < count; i++)
		if (!add_run(r, o, accept, name, length, (unsigned)k[i], NULL, temperature))
			return false;
	return true;
}

/* Each name of a comma list with each k. */
static bool add_drafters(struct runs *r, const struct options *o, enum octavo_accept accept, const char *list,
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
	enum octavo_accept accept;
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

/* All that the model can feed, and the usual pair, as a comma list. */
static void feasible(char list[256], const struct octavo_engine *engine)
{
	const char *const *name = octavo_drafter_names();
	size_t used = 0;
	for (*list = 0; *name && used < 256; name++)
		if (strcmp(*name, "none") && octavo_engine_feeds(engine, *name))
			used += (size_t)snprintf(list + used, 256 - used, used ? ",%s" : "%s", *name);
	if (used < 256 && octavo_engine_feeds(engine, "ngram+mtp"))
		snprintf(list + used, 256 - used, ",ngram+mtp");
}

bool runs_plan(struct runs *r, const struct options *o, const struct octavo_engine *engine)
{
	char all[256];
	feasible(all, engine);
	const char *drafters = o->drafter ? o->drafter : all;
	enum octavo_accept accept;
	if (!accept_parse(o, &accept))
		return false;
	r->info = octavo_engine_model(engine);
	if (!biases_check(o, r->info))
		return false;
	double usual = usual_temperature(r->info);
	const double *temperature = o->temperature_count ? o->temperature : &usual;
	for (size_t i = 0; i < (o->temperature_count ? o->temperature_count : 1); i++)
		if (!add_run(r, o, accept, "none", 4, 0, NULL, temperature[i]) || !add_drafters(r, o, accept, drafters, temperature[i]))
			return false;
	return true;
}

void runs_free(struct runs *r)
{
	for (size_t i = 0; i < r->count; i++) {
		free(r->run[i].drafter);
		free(r->run[i].ns);
		free(r->run[i].per_prompt);
		free(r->run[i].thread_ns);
	}
	free(r->run);
	r->run = NULL;
	r->count = 0;
}

/* ---- One prompt under one configuration ----------------------------------------------------------------------- */

struct output {
	int32_t *token; /* [tokens] */
	float *margin;  /* [tokens] */
	size_t count;
	struct octavo_session_stats stats;
};

static bool decode(struct octavo_engine *engine, struct run *run, const struct options *o,
                   const struct prompt *prompt, size_t stream, size_t tokens, struct output *out)
{
	struct octavo_error error;
	struct octavo_session *session;
	struct octavo_session_settings settings = {
		.drafter = run->drafter, .k = run->k, .accept = run->accept, .sampling = run->sampling,
		.confidence = { .best = o->confidence },
		.stream = { o->seed, stream }, .max_new = tokens, .ignore_eos = o->ignore_eos, .depth = &run->depth,
		.stop = o->stop, .stops = o->stops,
	};
	memcpy(settings.tree, run->tree.width, sizeof settings.tree);
	settings.dynamic = run->tree.dynamic;
	const int32_t *token;
	size_t count = 0;
	out->count = 0;
	if (octavo_session_open(&session, engine, &settings, &error) != OCTAVO_OK) {
		complain("%s", error.text);
		return false;
	}
	enum octavo_status status = octavo_session_prompt(session, prompt->token, prompt->tokens, &error);
	while (status == OCTAVO_OK) {
		status = octavo_session_step(session, &token, &count, &error);
		if (status != OCTAVO_OK || !count)
			break;
		memcpy(out->token + out->count, token, count * sizeof *token);
		out->count += count;
	}
	int32_t second;
	for (size_t i = 0; status == OCTAVO_OK && i < out->count; i++)
		octavo_session_margin(session, i, &out->margin[i], &second);
	out->stats = *octavo_session_stats(session);
	octavo_session_close(&session);
	if (status != OCTAVO_OK)
		complain("prompt %s: %s", prompt->id, error.text);
	return status == OCTAVO_OK;
}

/* ---- Adding up -------------------------------------------------------------------------------------------------- */

static int compare_grams(const void *a, const void *b)
{
	return memcmp(a, b, 4 * sizeof(int32_t));
}

/* Distinct 4-grams over 4-grams: 1 for text that never repeats itself, near 0 for a loop. */
static double distinct4(const int32_t *token, size_t count)
{
	if (count < 4)
		return 1.0;
	size_t grams = count - 3, distinct = 1;
	int32_t(*gram)[4] = malloc(grams * sizeof *gram);
	if (!gram)
		return 1.0;
	for (size_t i = 0; i < grams; i++)
		memcpy(gram[i], token + i, sizeof *gram);
	qsort(gram, grams, sizeof *gram, compare_grams);
	for (size_t i = 1; i < grams; i++)
		distinct += memcmp(gram[i - 1], gram[i], sizeof *gram) != 0;
	free(gram);
	return (double)distinct / (double)grams;
}

static void add_profile(struct octavo_profile *sum, const struct octavo_profile *p)
{
	struct octavo_profile old = *sum;
	*sum = *p;
	sum->overhead_ns += old.overhead_ns;
	sum->mismatches += old.mismatches;
	for (int c = 0; c < OCTAVO_COUNTER_COUNT; c++) {
		sum->total[c] += old.total[c];
		sum->unattributed[c] += old.unattributed[c];
		sum->overhead[c] += old.overhead[c];
		for (int phase = 0; phase < OCTAVO_PHASE_COUNT; phase++) {
			sum->phase[phase].self[c] += old.phase[phase].self[c];
			sum->phase[phase].inclusive[c] += old.phase[phase].inclusive[c];
			sum->phase[phase].owner_self[c] += old.phase[phase].owner_self[c];
			sum->phase[phase].owner_inclusive[c] += old.phase[phase].owner_inclusive[c];
		}
	}
	for (int phase = 0; phase < OCTAVO_PHASE_COUNT; phase++)
		sum->phase[phase].calls += old.phase[phase].calls;
}

/* The profiler knows the threads in the order in which they came, which is the same at every report. */
static void add_threads(struct run *run, struct octavo_profiler *profiler, size_t threads)
{
	struct octavo_thread_report one;
	if (threads > run->threads) {
		double(*grown)[OCTAVO_PHASE_COUNT] = realloc(run->thread_ns, threads * sizeof *grown);
		if (!grown)
			return; /* the figure is dropped, the measurement goes on */
		memset(grown + run->threads, 0, (threads - run->threads) * sizeof *grown);
		run->thread_ns = grown;
		run->threads = threads;
	}
	for (unsigned i = 0; i < threads && octavo_profiler_thread(profiler, i, &one) == OCTAVO_OK; i++)
		for (int phase = 0; phase < OCTAVO_PHASE_COUNT; phase++)
			run->thread_ns[i][phase] += one.self[phase][OCTAVO_COUNTER_WALL_NS];
}

static void add_half(struct half *h, const struct octavo_session_stats *s)
{
	h->tokens += s->emitted;
	h->steps += s->steps;
	h->ns += (double)s->decode_ns;
	h->draft_ns += (double)s->draft_ns;
	h->verify_ns += (double)s->verify_ns;
	for (size_t rows = 0; rows <= OCTAVO_MAX_DRAFT; rows++)
		h->rows[rows] += s->rows[rows];
}

static void add_output(struct run *run, const struct output *out, size_t index)
{
	const struct octavo_session_stats *s = &out->stats;
	run->ns[index] = (double)s->decode_ns;
	run->per_prompt[index] = out->count;
	run->decode_ns += (double)s->decode_ns;
	run->prefill_ns += (double)s->prefill_ns;
	run->tokens += out->count;
	run->steps += s->steps;
	run->zero_draft_steps += s->zero_draft_steps;
	run->expert_union += s->expert_union;
	run->expert_rows += s->expert_rows;
	run->distinct4 += distinct4(out->token, out->count);
	for (size_t i = 0; i < OCTAVO_MAX_K; i++) {
		run->drafted[i] += s->drafted[i];
		run->accepted[i] += s->accepted[i];
	}
	add_half(&run->half[index % 2], s);
	run->prompts = index + 1;
}

static void compare(struct run *run, const struct output *got, const struct output *plain, const struct prompt *prompt)
{
	if (run->divergence.found || run_promise(run) != OCTAVO_SAME_TOKENS)
		return;
	for (size_t i = 0; i < got->count || i < plain->count; i++) {
		int32_t a = i < plain->count ? plain->token[i] : -1, b = i < got->count ? got->token[i] : -1;
		if (a == b)
			continue;
		run->divergence = (struct divergence){ true, prompt->id, i, a, b, i < plain->count ? plain->margin[i] : 0.0f };
		return;
	}
}

/* ---- The measurement ---------------------------------------------------------------------------------------------- */

static bool allocate(struct runs *r, struct output **outputs, size_t prompts)
{
	*outputs = calloc(r->count, sizeof **outputs);
	bool good = *outputs != NULL;
	for (size_t i = 0; good && i < r->count; i++) {
		r->run[i].ns = calloc(prompts, sizeof *r->run[i].ns);
		r->run[i].per_prompt = calloc(prompts, sizeof *r->run[i].per_prompt);
		(*outputs)[i].token = calloc(r->tokens, sizeof *(*outputs)[i].token);
		(*outputs)[i].margin = calloc(r->tokens, sizeof *(*outputs)[i].margin);
		good = r->run[i].ns && r->run[i].per_prompt && (*outputs)[i].token && (*outputs)[i].margin;
	}
	if (!good)
		complain("out of memory");
	return good;
}

static void free_outputs(struct output *outputs, size_t count)
{
	for (size_t i = 0; outputs && i < count; i++) {
		free(outputs[i].token);
		free(outputs[i].margin);
	}
	free(outputs);
}

static bool measure_prompt(struct runs *r, const struct options *o, struct octavo_engine *engine,
                           struct octavo_profiler *profiler, const struct prompts *prompts, size_t index,
                           struct output *outputs)
{
	const struct prompt *prompt = &prompts->item[index];
	struct octavo_profile profile;
	for (size_t i = 0; i < r->count; i++) {
		size_t at = (i + index) % r->count;
		struct run *run = &r->run[at];
		if (profiler)
			octavo_profiler_reset(profiler);
		if (!decode(engine, run, o, prompt, index, r->tokens, &outputs[at]))
			return false;
		if (profiler && octavo_profiler_report(profiler, &profile) == OCTAVO_OK) {
			add_profile(&run->profile, &profile);
			add_threads(run, profiler, profile.threads);
		}
		add_output(run, &outputs[at], index);
	}
	size_t plain = 0;
	for (size_t i = 0; i < r->count; i++) {
		if (!strcmp(r->run[i].drafter, "none"))
			plain = i;
		compare(&r->run[i], &outputs[i], &outputs[plain], prompt);
	}
	return true;
}

/* Speed against plain decoding of the same temperature: the ratio of the times per token.  Where the tokens are the same
 * it is that of the times as they are. */
static void finish(struct runs *r, uint64_t seed)
{
	const struct run *plain = NULL;
	for (size_t i = 0; i < r->count; i++) {
		struct run *run = &r->run[i];
		if (!strcmp(run->drafter, "none"))
			plain = run;
		run->distinct4 /= (double)run->prompts;
		run->tokens_per_s = (double)run->tokens * 1e9 / run->decode_ns;
		for (size_t p = 0; p < run->prompts; p++) /* another text may have ended elsewhere */
			run->ns[p] *= (double)plain->per_prompt[p] / (double)run->per_prompt[p];
		octavo_bootstrap_ratio(plain->ns, run->ns, run->prompts, seed, &run->speedup, &run->lo, &run->hi);
	}
}

bool runs_measure(struct runs *r, const struct options *o, struct octavo_engine *engine,
                  struct octavo_profiler *profiler, const struct prompts *prompts)
{
	struct output *outputs;
	char what[64];
	r->loaded = prompts->count;
	bool good = allocate(r, &outputs, prompts->count);
	for (size_t i = 0; good && i < r->count; i++) {
		progress("warming up", i, r->count);
		good = decode(engine, &r->run[i], o, &prompts->item[0], 0, r->tokens < 16 ? r->tokens : 16, &outputs[i]);
	}
	uint64_t start = octavo_now_ns();
	while (good && r->prompts < prompts->count) {
		double spent = (double)(octavo_now_ns() - start) * 1e-9;
		if (o->seconds > 0 && r->prompts && spent * (double)(r->prompts + 1) / (double)r->prompts > o->seconds)
			break;
		snprintf(what, sizeof what, "prompt %zu of %zu, %.0f s", r->prompts + 1, prompts->count, spent);
		progress(what, r->prompts, prompts->count);
		good = measure_prompt(r, o, engine, profiler, prompts, r->prompts, outputs);
		r->prompts += good;
	}
	progress_clear();
	r->seconds = (double)(octavo_now_ns() - start) * 1e-9;
	free_outputs(outputs, r->count);
	if (good)
		finish(r, o->seed);
	return good;
}
