/* SPDX-License-Identifier: Apache-2.0
 *
 * Measuring.  For each prompt, or each group of prompts where several are decoded side by side, all configurations
 * decode the same number of tokens with the same random numbers, one after the other, in an order that rotates: a
 * machine that slows down slows all of them.  Prefill is timed apart.
 */
#include "bench/runs.h"

#include <stdlib.h>
#include <string.h>

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

/* What a sequence knows of itself; add_round in decode.c has the rest. */
static void add_times(struct half *half, const struct output *out)
{
	half->tokens += out->count;
	half->draft_ns += (double)out->stats.draft_ns;
	half->verify_ns += (double)out->stats.verify_ns;
}

static void add_output(struct run *run, const struct output *out)
{
	const struct octavo_session_stats *s = &out->stats;
	run->prefill_ns += (double)s->prefill_ns;
	run->tokens += out->count;
	run->steps += s->steps;
	run->zero_draft_steps += s->zero_draft_steps;
	run->candidates += s->candidates;
	run->full_rows += s->full_rows;
	run->full_steps += s->full_steps;
	run->distinct4 += distinct4(out->token, out->count);
	for (size_t i = 0; i < OCTAVO_MAX_K; i++) {
		run->drafted[i] += s->drafted[i];
		run->accepted[i] += s->accepted[i];
	}
	run->prompts++;
}

static void compare_lossy(struct parting *p, const struct output *got, const struct output *plain)
{
	size_t same = 0;
	while (same < got->count && same < plain->count && got->token[same] == plain->token[same])
		same++;
	bool parted = same < got->count || same < plain->count;
	p->prompts += parted;
	p->tokens += same + parted;
}

static void compare(const struct runs *r, struct run *run, const struct output *got, const struct output *plain,
                    const struct prompt *prompt)
{
	if (run_promise(run) == OCTAVO_LOSSY)
		compare_lossy(&run->parting, got, plain);
	if (!run->divergence.found && run_promise(run) == OCTAVO_SAME_TOKENS)
		divergence_find(r, run, got, plain, prompt);
}

/* ---- The measurement --------------------------------------------------------------------------------------------- */

/* All that measuring needs; the prompts are measured in groups. */
struct measurement {
	struct runs *runs;
	const struct options *options;
	struct octavo_engine *engine;
	struct octavo_profiler *profiler; /* NULL: none */
	struct recorder *recorder;        /* NULL: none */
	const struct prompts *prompts;
	size_t group;           /* prompts in a group: some rounds of full batches, and one in which they run out */
	size_t room;            /* tokens of an output */
	struct output *outputs; /* [runs][group] */
};

static bool allocate(struct measurement *m)
{
	struct runs *r = m->runs;
	size_t batch = r->batch, groups;
	m->group = batch == 1 ? 1 : 4 * batch < m->prompts->count ? 4 * batch : m->prompts->count;
	m->room = r->tokens < r->info->context ? r->tokens : r->info->context;
	groups = (m->prompts->count + m->group - 1) / m->group;
	m->outputs = calloc(r->total * m->group, sizeof *m->outputs);
	bool good = m->outputs != NULL;
	for (size_t i = 0; good && i < r->total; i++) {
		r->run[i].ns = calloc(groups, sizeof *r->run[i].ns);
		r->run[i].per_group = calloc(groups, sizeof *r->run[i].per_group);
		good = r->run[i].ns && r->run[i].per_group;
	}
	for (size_t i = 0; good && i < r->total * m->group; i++) {
		m->outputs[i].token = calloc(m->room, sizeof *m->outputs[i].token);
		m->outputs[i].margin = calloc(m->room, sizeof *m->outputs[i].margin);
		good = m->outputs[i].token && m->outputs[i].margin &&
		       octavo_history_open(&m->outputs[i].history, NULL) == OCTAVO_OK;
	}
	if (!good)
		complain("out of memory");
	return good;
}

static void release(struct measurement *m)
{
	for (size_t i = 0; m->outputs && i < m->runs->total * m->group; i++) {
		free(m->outputs[i].token);
		free(m->outputs[i].margin);
		octavo_history_close(&m->outputs[i].history);
	}
	free(m->outputs);
}

/* Run `at` decodes prompts first, first + 1, …, of group number `index`; once more if `again`, which is for the times
 * alone. */
static bool measure_run(struct measurement *m, size_t at, size_t first, size_t count, size_t index, bool again)
{
	struct run *run = &m->runs->run[at];
	struct output *out = m->outputs + at * m->group;
	struct half *half = &run->half[index % 2];
	double before = half->ns;
	struct octavo_profile profile;
	struct decoding decoding = { m->engine, run, m->options, m->prompts, m->runs->tokens,
		                     at < m->runs->count && !again ? m->recorder : NULL };
	if (m->profiler)
		octavo_profiler_reset(m->profiler);
	if (!decode_prompts(&decoding, first, count, out, half))
		return false;
	if (m->profiler && !again && octavo_profiler_report(m->profiler, &profile) == OCTAVO_OK) {
		add_profile(&run->profile, &profile);
		add_threads(run, m->profiler, profile.threads);
	}
	run->ns[index] += half->ns - before;
	for (size_t i = 0; i < count; i++) {
		add_times(half, &out[i]);
		if (!again)
			add_output(run, &out[i]);
		run->per_group[index] += out[i].count;
	}
	run->groups = index + 1;
	return true;
}

/* What a run's tokens are compared with: those of plain decoding of the same temperature, one prompt at a time. */
static size_t reference_of(const struct runs *r, size_t i)
{
	size_t plain = r->total;
	while (plain-- && (!run_is_plain(&r->run[plain]) || r->run[plain].batch != 1 ||
	                   r->run[plain].temperature != r->run[i].temperature))
		;
	return plain;
}

/* The plain run that a run's speed is compared with. */
static size_t plain_of(const struct runs *r, size_t i)
{
	while (!run_is_plain(&r->run[i]))
		i--;
	return i;
}

/* All speeds hang on plain decoding's: it is timed again after every few runs. */
static bool measure_runs(struct measurement *m, size_t first, size_t count, size_t index)
{
	enum { AGAIN = 4 };
	struct runs *r = m->runs;
	for (size_t i = 0, drafted = 0; i < r->total; i++) {
		size_t at = (i + index) % r->total, plain = plain_of(r, at);
		if (!measure_run(m, at, first, count, index, false))
			return false;
		drafted += at != plain;
		if (at != plain && drafted % AGAIN == 0 && !measure_run(m, plain, first, count, index, true))
			return false;
	}
	return true;
}

static bool measure_group(struct measurement *m, size_t index)
{
	struct runs *r = m->runs;
	size_t first = index * m->group, left = m->prompts->count - first, count = left < m->group ? left : m->group;
	if (!measure_runs(m, first, count, index))
		return false;
	for (size_t i = 0; i < r->total; i++)
		for (size_t p = 0; p < count; p++)
			compare(r, &r->run[i], &m->outputs[i * m->group + p],
			        &m->outputs[reference_of(r, i) * m->group + p], &m->prompts->item[first + p]);
	r->prompts += count;
	return true;
}

/* Speed against plain decoding of the same temperature and batch: the ratio of the times per token.  Where the tokens
 * are the same it is that of the times as they are. */
static void finish(struct runs *r, uint64_t seed)
{
	const struct run *plain = NULL;
	for (size_t i = 0; i < r->total; i++) {
		struct run *run = &r->run[i];
		if (run_is_plain(run))
			plain = run;
		run->distinct4 /= (double)run->prompts;
		run->tokens_per_s =
		        (double)(run->half[0].tokens + run->half[1].tokens) * 1e9 / (run->half[0].ns + run->half[1].ns);
		run->decode_ns = (double)run->tokens * 1e9 / run->tokens_per_s;
		for (size_t p = 0; p < run->groups; p++) /* another text may have ended elsewhere */
			run->ns[p] *= (double)plain->per_group[p] / (double)run->per_group[p];
		octavo_bootstrap_ratio(plain->ns, run->ns, run->groups, seed, &run->speedup, &run->lo, &run->hi);
	}
	for (size_t i = 0; r->batch > 1 && i < r->total; i++)
		r->run[i].alone_tokens_per_s = r->run[reference_of(r, i)].tokens_per_s;
}

/* A few tokens of the first prompts, for each run. */
static bool warm_up(struct measurement *m)
{
	struct runs *r = m->runs;
	bool good = true;
	for (size_t i = 0; good && i < r->total; i++) {
		struct decoding decoding = { m->engine, &r->run[i], m->options, m->prompts,
			                     r->tokens < 16 ? r->tokens : 16, NULL };
		size_t most = r->run[i].batch < m->group ? r->run[i].batch : m->group;
		progress("warming up", i, r->total);
		good = decode_prompts(&decoding, 0, most, m->outputs + i * m->group, NULL);
	}
	return good;
}

bool runs_measure(struct runs *r, const struct options *o, struct octavo_engine *engine,
                  struct octavo_profiler *profiler, struct recorder *recorder, const struct prompts *prompts)
{
	struct measurement m = { .runs = r, .options = o, .engine = engine, .profiler = profiler, .recorder = recorder,
		                 .prompts = prompts };
	char what[64];
	r->loaded = prompts->count;
	r->list = prompts;
	bool good = allocate(&m) && warm_up(&m);
	uint64_t start = octavo_now_ns();
	struct load load = load_start();
	interrupt_watch();
	for (size_t index = 0; good && r->prompts < prompts->count && !(index && interrupted()); index++) {
		double spent = (double)(octavo_now_ns() - start) * 1e-9;
		if (o->seconds > 0 && index && spent * (double)(index + 1) / (double)index > o->seconds)
			break;
		snprintf(what, sizeof what, "prompt %zu of %zu, %.0f s", r->prompts + 1, prompts->count, spent);
		progress(what, r->prompts, prompts->count);
		good = measure_group(&m, index);
	}
	progress_clear();
	r->load = load_since(&load);
	r->seconds = (double)(octavo_now_ns() - start) * 1e-9;
	release(&m);
	if (good)
		finish(r, o->seed);
	return good;
}
