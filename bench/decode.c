/* SPDX-License-Identifier: Apache-2.0
 *
 * Decoding prompts under one configuration, one after the other or side by side: where a sequence ends, the next prompt
 * takes its place.  Prefill is timed apart from the rounds.
 */
#include "bench/runs.h"

#include <stdlib.h>
#include <string.h>

/* A prompt on its way. */
struct lane {
	const struct prompt *prompt;
	struct output *out;
};

struct lanes {
	struct lane *lane;               /* [batch], of which `running` are taken */
	struct octavo_session **session; /* the same */
	struct octavo_emitted *emitted;
	size_t running;
};

static bool allocate(struct lanes *l, size_t batch)
{
	*l = (struct lanes){ calloc(batch, sizeof *l->lane), calloc(batch, sizeof(void *)),
		             calloc(batch, sizeof *l->emitted), 0 };
	if (l->lane && l->session && l->emitted)
		return true;
	complain("out of memory");
	return false;
}

static void release(struct lanes *l)
{
	for (size_t i = 0; l->session && i < l->running; i++)
		octavo_session_close(&l->session[i]);
	free(l->lane);
	free(l->session);
	free(l->emitted);
}

static struct octavo_session_settings settings_of(const struct run *run, const struct options *o)
{
	bool plain = run_is_plain(run); /* which no rule makes other than it is */
	struct octavo_session_settings settings = {
		.drafter = run->drafter, .k = run->k, .sampling = run->sampling,
		.accept = plain ? OCTAVO_ACCEPT_MATCH : run->accept.rule,
		.confidence = o->confidence, .draft_vocab = o->draft_vocab, .dynamic = run->tree.dynamic, .stream = { o->seed, 0 },
		.ignore_eos = o->ignore_eos, .stop = o->stop, .stops = o->stops,
	};
	if (!plain)
		settings.shortlist = run->accept.shortlist;
	memcpy(settings.tree, run->tree.width, sizeof settings.tree);
	return settings;
}

bool runs_try(const struct runs *r, const struct options *o, struct octavo_engine *engine)
{
	struct octavo_error error;
	for (size_t i = 0; i < r->total; i++) {
		struct octavo_session *session;
		struct octavo_session_settings settings = settings_of(&r->run[i], o);
		if (octavo_session_open(&session, engine, &settings, &error) != OCTAVO_OK) {
			complain("%s", error.text);
			return false;
		}
		octavo_session_close(&session);
	}
	return true;
}

/* Prompt `index` takes the next lane. */
static bool join(const struct decoding *d, struct lanes *l, size_t index, struct output *out)
{
	struct octavo_error error;
	const struct prompt *prompt = &d->prompts->item[index];
	struct octavo_session **session = &l->session[l->running];
	struct octavo_session_settings settings = settings_of(d->run, d->options);
	settings.stream.stream = index;
	settings.max_new = d->tokens;
	settings.depth = &d->run->depth;
	settings.history = out->history;
	out->count = 0;
	if (octavo_session_open(session, d->engine, &settings, &error) != OCTAVO_OK) {
		complain("%s", error.text);
		return false;
	}
	l->lane[l->running++] = (struct lane){ prompt, out };
	if (octavo_session_prompt(*session, prompt->token, prompt->tokens, &error) == OCTAVO_OK)
		return true;
	complain("prompt %s: %s", prompt->id, error.text);
	return false;
}

static void add_round(struct half *h, const struct octavo_session_stats *before, const struct lanes *l, uint64_t ns)
{
	const struct octavo_session_stats *after =
	        octavo_session_stats(l->session[0]); /* what a batch shares, each has */
	struct octavo_session_round round;
	size_t rows = 0;
	for (size_t i = 0; i < l->running; i++)
		if (octavo_session_last(l->session[i], &round) == OCTAVO_OK)
			rows += round.rows;
	h->steps++;
	h->rows[rows]++;
	h->ns += (double)ns;
	h->expert_union += after->expert_union - before->expert_union;
	h->expert_rows += after->expert_rows - before->expert_rows;
}

/* One round of all lanes; all of them run. */
static bool step(const struct decoding *d, struct lanes *l, struct half *sums)
{
	struct octavo_error error;
	struct octavo_session_stats before = *octavo_session_stats(l->session[0]);
	uint64_t start = octavo_now_ns();
	if (octavo_sessions_step(l->session, l->running, l->emitted, &error) != OCTAVO_OK) {
		complain("prompt %s%s: %s", l->lane[0].prompt->id, l->running > 1 ? " and others" : "", error.text);
		return false;
	}
	uint64_t ns = octavo_now_ns() - start;
	for (size_t i = 0; i < l->running; i++) {
		struct output *out = l->lane[i].out;
		memcpy(out->token + out->count, l->emitted[i].token, l->emitted[i].count * sizeof *out->token);
		out->count += l->emitted[i].count;
		if (d->recorder && !record_step(d->recorder, d->run, l->lane[i].prompt, l->session[i]))
			return false;
	}
	if (sums)
		add_round(sums, &before, l, ns);
	return true;
}

/* Sequences that have ended leave; those behind them move up. */
static void leave(struct lanes *l)
{
	size_t stay = 0;
	for (size_t i = 0; i < l->running; i++) {
		struct octavo_session *session = l->session[i];
		const struct octavo_session_stats *stats = octavo_session_stats(session);
		struct output *out = l->lane[i].out;
		int32_t second;
		if (stats->finish == OCTAVO_RUNNING) {
			l->lane[stay] = l->lane[i];
			l->session[stay++] = session;
			continue;
		}
		for (size_t at = 0; at < out->count; at++)
			octavo_session_margin(session, at, &out->margin[at], &second);
		out->stats = *stats;
		octavo_session_close(&session);
	}
	l->running = stay;
}

bool decode_prompts(const struct decoding *d, size_t first, size_t count, struct output *out, struct half *sums)
{
	struct lanes lanes;
	bool good = allocate(&lanes, d->run->batch);
	for (size_t next = 0; good && (next < count || lanes.running);) {
		for (; good && next < count && lanes.running < d->run->batch; next++)
			good = join(d, &lanes, first + next, &out[next]);
		good = good && step(d, &lanes, sums);
		if (good)
			leave(&lanes);
	}
	release(&lanes);
	return good;
}
