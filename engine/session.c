/* SPDX-License-Identifier: Apache-2.0
 *
 * The decode loop: draft, forward, accept, commit.
 *
 * Between calls the sequence is `token[0 .. committed]`: the committed tokens and one more, the last emitted (or
 * the prompt's last), which is the root of the next batch.  So the first emitted token comes out of a round like
 * all others, and plain decoding is this loop with a drafter that never drafts.
 */
#include "engine/draft/drafter.h"
#include "engine/verify/law.h"

#include <stdlib.h>
#include <string.h>

struct octavo_session {
	struct octavo_engine *engine;
	const struct octavo_drafter_ops *ops;
	struct octavo_drafter *drafter;
	struct octavo_session_settings settings;
	size_t sequence, committed;
	int32_t *token;     /* [context + 1] the prompt and what was emitted */
	float *margin;      /* [context + 1] of emitted tokens, by absolute position */
	int32_t *second;    /* [context + 1] */
	double *law;        /* [vocab] */
	uint32_t *order;    /* [vocab] */
	struct chain {      /* one batch: rows of this sequence, each the next one's parent; all [max_rows] */
		int32_t *token, *pos, *seq, *parent;
		uint8_t *flags;
		uint32_t *row; /* 0, 1, 2, … for commits */
	} chain;
	struct octavo_session_stats stats;
	void *arena;
};

/* ---- Open and close ------------------------------------------------------------------------------------ */

static enum octavo_status check(struct octavo_session_settings *s, const struct octavo_drafter_ops *ops,
                                struct octavo_error *error)
{
	if (!ops)
		return octavo_fail(error, OCTAVO_EINVAL, "drafter: there is none called \"%s\"", s->drafter);
	if (s->k > OCTAVO_MAX_K)
		return octavo_fail(error, OCTAVO_EINVAL, "k: %u drafted tokens, at most %d", s->k, OCTAVO_MAX_K);
	if (s->accept != OCTAVO_ACCEPT_MATCH && s->accept != OCTAVO_ACCEPT_GREEDY)
		return octavo_fail(error, OCTAVO_EINVAL, "accept: unknown rule %d", (int)s->accept);
	if (s->accept == OCTAVO_ACCEPT_GREEDY && s->sampling.temperature != 0.0f)
		return octavo_fail(error, OCTAVO_EINVAL, "accept: the greedy rule needs temperature 0, not %g",
		                   (double)s->sampling.temperature);
	if (!s->k)
		s->k = ops->default_k;
	return octavo_sampling_check(&s->sampling, error);
}

static void carve(struct octavo_arena *a, struct octavo_session *s)
{
	size_t positions = s->engine->settings.max_context + 1, vocab = s->engine->config.vocab;
	s->token = octavo_carve(a, positions, sizeof *s->token);
	s->margin = octavo_carve(a, positions, sizeof *s->margin);
	s->second = octavo_carve(a, positions, sizeof *s->second);
	s->law = octavo_carve(a, vocab, sizeof *s->law);
	s->order = octavo_carve(a, vocab, sizeof *s->order);
	struct chain *c = &s->chain;
	size_t rows = s->engine->settings.max_rows;
	c->token = octavo_carve(a, rows, sizeof *c->token);
	c->pos = octavo_carve(a, rows, sizeof *c->pos);
	c->seq = octavo_carve(a, rows, sizeof *c->seq);
	c->parent = octavo_carve(a, rows, sizeof *c->parent);
	c->flags = octavo_carve(a, rows, sizeof *c->flags);
	c->row = octavo_carve(a, rows, sizeof *c->row);
}

static enum octavo_status allocate(struct octavo_session *s, struct octavo_error *error)
{
	struct octavo_arena arena = { 0 };
	carve(&arena, s);
	s->arena = arena.overflow ? NULL : calloc(1, arena.used + OCTAVO_ALIGNMENT);
	if (!s->arena)
		return octavo_fail(error, OCTAVO_ENOMEM, "session: out of memory");
	arena = (struct octavo_arena){ .base = octavo_aligned(s->arena) };
	carve(&arena, s);
	return OCTAVO_OK;
}

static enum octavo_status take_sequence(struct octavo_session *s, struct octavo_error *error)
{
	struct octavo_kv *kv = &s->engine->kv;
	for (size_t i = 0; i < kv->sequences; i++) {
		if (kv->used[i] || kv->length[i]) /* a session's, or the caller's own */
			continue;
		kv->used[i] = 1;
		kv->length[i] = 0;
		s->sequence = i;
		return OCTAVO_OK;
	}
	return octavo_fail(error, OCTAVO_ELIMIT, "session: all %zu sequences of the engine are in use", kv->sequences);
}

enum octavo_status octavo_session_open(struct octavo_session **out, struct octavo_engine *engine,
                                       const struct octavo_session_settings *settings, struct octavo_error *error)
{
	if (!out || !engine || !settings)
		return octavo_fail(error, OCTAVO_EINVAL, "session: a null argument");
	*out = NULL;
	struct octavo_session *s = calloc(1, sizeof *s);
	if (!s)
		return octavo_fail(error, OCTAVO_ENOMEM, "session: out of memory");
	s->engine = engine;
	s->settings = *settings;
	s->sequence = SIZE_MAX;
	s->ops = octavo_drafter_find(settings->drafter ? settings->drafter : "none");
	enum octavo_status status = check(&s->settings, s->ops, error);
	if (status == OCTAVO_OK && s->settings.k + 1 > engine->settings.max_rows)
		status = octavo_fail(error, OCTAVO_ELIMIT, "k: %u drafted tokens do not fit the engine's %zu rows",
		                     s->settings.k, engine->settings.max_rows);
	if (status == OCTAVO_OK)
		status = allocate(s, error);
	if (status == OCTAVO_OK)
		status = take_sequence(s, error);
	if (status == OCTAVO_OK)
		status = s->ops->open(&s->drafter, engine, s->sequence, error);
	s->settings.drafter = s->ops ? s->ops->name : NULL; /* borrowed for the call only */
	if (status != OCTAVO_OK)
		octavo_session_close(&s);
	*out = s;
	return status;
}

void octavo_session_close(struct octavo_session **session)
{
	if (!session || !*session)
		return;
	struct octavo_session *s = *session;
	if (s->drafter)
		s->ops->close(s->drafter);
	if (s->sequence != SIZE_MAX)
		s->engine->kv.used[s->sequence] = s->engine->kv.length[s->sequence] = 0;
	free(s->arena);
	free(s);
	*session = NULL;
}

/* ---- A batch that is one chain of this sequence ---------------------------------------------------------- */

/* `rows` rows from the next position on; their tokens are in place. */
static struct octavo_batch make_chain(struct octavo_session *s, size_t rows, uint8_t flags)
{
	struct chain *c = &s->chain;
	for (size_t i = 0; i < rows; i++) {
		c->pos[i] = (int32_t)(s->committed + i);
		c->seq[i] = (int32_t)s->sequence;
		c->parent[i] = (int32_t)i - 1;
		c->flags[i] = flags;
		c->row[i] = (uint32_t)i;
	}
	return (struct octavo_batch){ rows, c->token, c->pos, c->seq, c->parent, c->flags };
}

/* Rows [0, count) of the last forward are certain; s->token holds them and the one after. */
static enum octavo_status commit(struct octavo_session *s, size_t count, struct octavo_error *error)
{
	const uint32_t *row = s->chain.row;
	enum octavo_status status = octavo_commit(s->engine, (int32_t)s->sequence, row, count, error);
	if (status == OCTAVO_OK)
		status = s->ops->commit(s->drafter, s->committed, s->token + s->committed, row, count, error);
	s->committed += count;
	return status;
}

/* ---- Prompt ---------------------------------------------------------------------------------------------- */

static enum octavo_status prefill(struct octavo_session *s, size_t count, struct octavo_error *error)
{
	size_t chunk = s->engine->settings.max_rows;
	uint8_t flags = count >= s->engine->settings.naive_min ? OCTAVO_ROW_NAIVE : 0;
	enum octavo_status status = OCTAVO_OK;
	/* The last token stays out: it is the root of the first round. */
	while (status == OCTAVO_OK && s->committed + 1 < count) {
		size_t left = count - 1 - s->committed, rows = left < chunk ? left : chunk;
		memcpy(s->chain.token, s->token + s->committed, rows * sizeof *s->token);
		struct octavo_batch batch = make_chain(s, rows, flags);
		status = octavo_forward(s->engine, &batch, error);
		if (status == OCTAVO_OK)
			status = commit(s, rows, error);
	}
	return status;
}

enum octavo_status octavo_session_prompt(struct octavo_session *s, const int32_t *token, size_t count,
                                         struct octavo_error *error)
{
	if (!s || !token || !count)
		return octavo_fail(error, OCTAVO_EINVAL, "prompt: empty");
	size_t context = s->engine->settings.max_context;
	if (count > context)
		return octavo_fail(error, OCTAVO_ELIMIT, "prompt: %zu tokens, the context holds %zu (max_context)", count,
		                   context);
	for (size_t i = 0; i < count; i++)
		if (token[i] < 0 || (size_t)token[i] >= s->engine->config.vocab)
			return octavo_fail(error, OCTAVO_EINVAL, "prompt: token %zu is %d, outside the vocabulary", i, token[i]);
	enum octavo_status status = octavo_rewind(s->engine, (int32_t)s->sequence, 0, error);
	if (status != OCTAVO_OK)
		return status;
	memcpy(s->token, token, count * sizeof *token);
	s->committed = 0;
	s->stats = (struct octavo_session_stats){ .prompt_tokens = count, .finish = OCTAVO_RUNNING };
	if (s->drafter)
		s->ops->begin(s->drafter);
	uint64_t start = octavo_now_ns();
	octavo_phase_begin(s->engine->profiler, OCTAVO_PHASE_PREFILL);
	status = prefill(s, count, error);
	octavo_phase_end(s->engine->profiler, OCTAVO_PHASE_PREFILL);
	s->stats.prefill_ns = octavo_now_ns() - start;
	if (status != OCTAVO_OK)
		s->stats.finish = OCTAVO_FINISH_ERROR;
	return status;
}

/* ---- One round -------------------------------------------------------------------------------------------- */

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* How many tokens may be drafted: one of the round's tokens always comes from the target itself. */
static size_t budget(const struct octavo_session *s)
{
	size_t k = s->settings.k;
	if (s->settings.max_new)
		k = least(k, s->settings.max_new - s->stats.emitted - 1);
	return least(k, s->engine->settings.max_context - s->committed - 1);
}

/* Best and second best logit behind an emitted token, for octavo_session_margin. */
static void keep_margin(struct octavo_session *s, size_t position, const float *logits)
{
	size_t best = 0, second = s->engine->choosable > 1;
	if (logits[second] > logits[best]) {
		best = 1;
		second = 0;
	}
	for (size_t i = 2; i < s->engine->choosable; i++) {
		if (!(logits[i] > logits[second]))
			continue;
		second = logits[i] > logits[best] ? best : i;
		best = second == best ? i : best;
	}
	s->margin[position] = logits[best] - logits[second];
	s->second[position] = (int32_t)second;
}

static int is_eos(const struct octavo_session *s, int32_t token)
{
	const struct octavo_config *c = &s->engine->config;
	for (size_t i = 0; i < c->eos_count; i++)
		if (c->eos[i] == token)
			return !s->settings.ignore_eos;
	return 0;
}

static enum octavo_status accept(struct octavo_session *s, const struct octavo_draft *draft,
                                 struct octavo_outcome *outcome, struct octavo_error *error)
{
	struct octavo_engine *e = s->engine;
	struct octavo_scored scored = {
		.logits = octavo_logits(e, 0), .ld = e->config.vocab, .vocab = e->choosable, .sampling = &s->settings.sampling,
		.prefix = { s->token, s->committed + 1, s->stats.prompt_tokens, draft, 0 }, .law = s->law, .order = s->order,
	};
	const struct octavo_judge judge = {
		.vocab = e->choosable, .target = octavo_scored_law, .target_context = &scored,
		.pick = octavo_pick, .pick_context = &s->settings.stream, .position = (uint32_t)s->committed + 1,
	};
	enum octavo_status status =
		octavo_law_is_argmax(&s->settings.sampling) /* then all rules are one, and need no laws */
			? octavo_accept_greedy(draft, scored.logits, scored.ld, scored.vocab, outcome)
			: octavo_accept(s->settings.accept, draft, &judge, outcome);
	if (status != OCTAVO_OK)
		return octavo_fail(error, status,
		                   "position %zu: the model's logits hold a NaN or nothing finite: its weights are damaged, "
		                   "or overflow",
		                   s->committed + 1);
	return OCTAVO_OK;
}

/* Takes over the accepted run and the target's own token, cut at EOS, at max_new or at the end of the context;
 * returns how many tokens were emitted. */
static size_t emit(struct octavo_session *s, const struct octavo_draft *draft, const struct octavo_outcome *outcome)
{
	size_t emitted = 0;
	while (emitted <= outcome->accepted && s->stats.finish == OCTAVO_RUNNING) {
		int32_t token = emitted < outcome->accepted ? draft->token[outcome->path[emitted]] : outcome->next;
		size_t position = s->committed + 1 + emitted;
		s->token[position] = token;
		emitted++;
		if (is_eos(s, token))
			s->stats.finish = OCTAVO_FINISH_EOS;
		else if (s->settings.max_new && s->stats.emitted + emitted == s->settings.max_new)
			s->stats.finish = OCTAVO_FINISH_LENGTH;
		else if (position >= s->engine->settings.max_context) /* no room for it as a root */
			s->stats.finish = OCTAVO_FINISH_CONTEXT;
	}
	return emitted;
}

/* After commit: the margins of the round's tokens, which the phases of speculation do not pay for. */
static void keep_margins(struct octavo_session *s, size_t first, const struct octavo_outcome *outcome, size_t emitted)
{
	const float *logits = s->engine->logits;
	for (size_t i = 0; i < emitted; i++)
		keep_margin(s, first + i, logits + (i ? outcome->path[i - 1] : 0) * s->engine->config.vocab);
}

static void count_round(struct octavo_session *s, size_t drafted, size_t accepted, size_t emitted)
{
	struct octavo_session_stats *stats = &s->stats;
	stats->steps++;
	stats->emitted += emitted;
	stats->zero_draft_steps += drafted == 0;
	for (size_t i = 0; i < drafted; i++)
		stats->drafted[i]++;
	for (size_t i = 0; i < accepted; i++)
		stats->accepted[i]++;
	stats->expert_union += s->engine->expert_union;
	stats->expert_rows += s->engine->expert_rows;
}

static enum octavo_status round_trip(struct octavo_session *s, size_t *emitted, struct octavo_error *error)
{
	struct octavo_profiler *p = s->engine->profiler;
	struct chain *c = &s->chain;
	size_t drafted = 0, first = s->committed + 1;
	octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
	enum octavo_status status = s->ops->draft(s->drafter, budget(s), c->token + 1, &drafted, error);
	octavo_phase_switch(p, OCTAVO_PHASE_DRAFT, OCTAVO_PHASE_VERIFY);
	c->token[0] = s->token[s->committed];
	struct octavo_batch batch = make_chain(s, drafted + 1, OCTAVO_ROW_LOGITS);
	if (status == OCTAVO_OK)
		status = octavo_forward(s->engine, &batch, error);
	octavo_phase_switch(p, OCTAVO_PHASE_VERIFY, OCTAVO_PHASE_ACCEPT);
	struct octavo_draft draft = { drafted + 1, c->token, c->parent };
	struct octavo_outcome outcome = { 0 };
	size_t count = 0;
	if (status == OCTAVO_OK)
		status = accept(s, &draft, &outcome, error);
	if (status == OCTAVO_OK) {
		count = emit(s, &draft, &outcome);
		status = commit(s, count, error); /* the root and all but the last of the emitted */
	}
	octavo_phase_switch(p, OCTAVO_PHASE_ACCEPT, OCTAVO_PHASE_OTHER);
	if (status == OCTAVO_OK) {
		keep_margins(s, first, &outcome, count);
		count_round(s, drafted, least(outcome.accepted, count), count);
		*emitted = count;
	}
	octavo_phase_end(p, OCTAVO_PHASE_OTHER);
	return status;
}

enum octavo_status octavo_session_step(struct octavo_session *s, const int32_t **token, size_t *count,
                                       struct octavo_error *error)
{
	if (!s || !token || !count)
		return octavo_fail(error, OCTAVO_EINVAL, "step: a null argument");
	*count = 0;
	*token = s->token; /* never NULL: a caller may copy *count = 0 tokens from it */
	if (s->stats.finish != OCTAVO_RUNNING)
		return OCTAVO_OK;
	size_t first = s->committed + 1;
	uint64_t start = octavo_now_ns();
	enum octavo_status status = round_trip(s, count, error);
	s->stats.decode_ns += octavo_now_ns() - start;
	*token = s->token + first;
	if (status != OCTAVO_OK)
		s->stats.finish = OCTAVO_FINISH_ERROR;
	return status;
}

const struct octavo_session_stats *octavo_session_stats(const struct octavo_session *s)
{
	return s ? &s->stats : NULL;
}

enum octavo_status octavo_session_margin(const struct octavo_session *s, size_t i, float *margin, int32_t *second)
{
	if (!s || i >= s->stats.emitted || !margin || !second)
		return OCTAVO_EINVAL;
	*margin = s->margin[s->stats.prompt_tokens + i];
	*second = s->second[s->stats.prompt_tokens + i];
	return OCTAVO_OK;
}
