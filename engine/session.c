/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions: opening, prompts, and what they tell about themselves.  round.c is the decode loop.
 */
#include "engine/draft/draftable.h"
#include "engine/screen.h"

#include <stdlib.h>
#include <string.h>

/* ---- Open and close ------------------------------------------------------------------------------------ */

static enum octavo_status check(const struct octavo_session_settings *s, const struct octavo_engine *e,
                                struct octavo_error *error)
{
	if (s->k > OCTAVO_MAX_K)
		return octavo_fail(error, OCTAVO_EINVAL, "k: %u drafted tokens, at most %d", s->k, OCTAVO_MAX_K);
	if (!octavo_accept_name(s->accept))
		return octavo_fail(error, OCTAVO_EINVAL, "accept: unknown rule %d", (int)s->accept);
	if (s->accept == OCTAVO_ACCEPT_GREEDY && s->sampling.temperature != 0.0f)
		return octavo_fail(error, OCTAVO_EINVAL, "accept: the greedy rule needs temperature 0, not %g",
		                   (double)s->sampling.temperature);
	const double level[] = { s->confidence.best, s->confidence.path, s->confidence.mass };
	for (size_t i = 0; i < 3; i++)
		if (!(level[i] >= 0.0 && level[i] <= 1.0))
			return octavo_fail(error, OCTAVO_EINVAL, "confidence: %g is not in [0, 1]", level[i]);
	for (size_t i = 0; s->sampling.bias && i < s->sampling.biases; i++)
		if (s->sampling.bias[i].token < 0 || (size_t)s->sampling.bias[i].token >= e->choosable)
			return octavo_fail(error, OCTAVO_EINVAL, "bias: token %d is outside the vocabulary",
			                   (int)s->sampling.bias[i].token);
	enum octavo_status status = octavo_stops_check(s->stop, s->stops, error);
	if (status == OCTAVO_OK)
		status = octavo_sampling_check(&s->sampling, error);
	if (status == OCTAVO_OK)
		status = octavo_draftable_check(s, e, error);
	return status == OCTAVO_OK ? octavo_screen_check(s, error) : status;
}

static int is_chain(const struct octavo_shape *shape)
{
	for (unsigned i = 0; i < shape->depth; i++)
		if (shape->width[i] != 1)
			return 0;
	return 1;
}

static enum octavo_status check_dynamic(const struct octavo_session *s, struct octavo_error *error)
{
	const struct octavo_dynamic *d = &s->settings.dynamic;
	size_t room = s->engine->settings.max_rows, most = room < OCTAVO_MAX_DRAFT ? room : OCTAVO_MAX_DRAFT;
	if (s->settings.tree[0])
		return octavo_fail(error, OCTAVO_EINVAL, "tree: fixed widths and a dynamic tree exclude each other");
	if (d->rows < 2 || !d->top_k || !d->depth || d->depth > OCTAVO_MAX_K)
		return octavo_fail(error, OCTAVO_EINVAL,
		                   "tree: a dynamic one has at least 2 rows, the root included, a top_k from 1 and a depth of 1 "
		                   "to %d, not %u, %u and %u", OCTAVO_MAX_K, d->rows, d->top_k, d->depth);
	/* The drafter runs all nodes that get children; top_k is bounded first, so that the product is small. */
	if (d->rows > most || d->top_k > most || 1 + d->top_k * (d->depth - 1) > most)
		return octavo_fail(error, OCTAVO_ELIMIT,
		                   "tree: a dynamic one of %u rows that grows from %u nodes at each of %u depths exceeds the %zu "
		                   "rows there are", d->rows, d->top_k, d->depth, most);
	if (octavo_accept_promise(s->settings.accept, &s->settings.sampling) == OCTAVO_SAME_LAW)
		return octavo_fail(error, OCTAVO_EINVAL,
		                   "tree: the %s rule draws the drafted tokens, and a dynamic tree drops some for what they are, "
		                   "which would change the law; match and greedy take dynamic trees",
		                   octavo_accept_name(s->settings.accept));
	return OCTAVO_OK;
}

/* The shape of the drafts: the tree that was asked for, a chain of k, or whatever each round decides. */
static enum octavo_status shape_drafts(struct octavo_session *s, struct octavo_error *error)
{
	const struct octavo_session_settings *settings = &s->settings;
	const struct octavo_dynamic *dynamic = &settings->dynamic;
	struct octavo_shape shape = octavo_shape_chain(settings->k);
	int is_dynamic = dynamic->rows || dynamic->top_k || dynamic->depth;
	if ((settings->tree[0] || is_dynamic) && settings->k)
		return octavo_fail(error, OCTAVO_EINVAL, "tree: k must be 0 where a tree says how much is drafted");
	if (is_dynamic) {
		enum octavo_status status = check_dynamic(s, error);
		if (status != OCTAVO_OK)
			return status;
		shape = octavo_shape_dynamic(dynamic);
	}
	if (settings->tree[0])
		for (shape.depth = 0; shape.depth < OCTAVO_MAX_K && settings->tree[shape.depth]; shape.depth++)
			shape.width[shape.depth] = settings->tree[shape.depth];
	if ((settings->accept == OCTAVO_ACCEPT_REJECTION || settings->accept == OCTAVO_ACCEPT_BLOCK) && !is_chain(&shape))
		return octavo_fail(error, OCTAVO_EINVAL, "accept: the %s rule is for chains; multiround takes trees",
		                   octavo_accept_name(settings->accept));
	size_t rows = octavo_shape_rows(&shape);
	if (rows > OCTAVO_MAX_DRAFT)
		return octavo_fail(error, OCTAVO_ELIMIT, "tree: more than %d rows, the root included", OCTAVO_MAX_DRAFT);
	if (rows > s->engine->settings.max_rows)
		return octavo_fail(error, OCTAVO_ELIMIT, "drafts of %zu rows, the root included, do not fit the engine's %zu",
		                   rows, s->engine->settings.max_rows);
	for (size_t i = 0; i < OCTAVO_MAX_SOURCES; i++)
		s->shape[i] = shape;
	s->depth = settings->depth ? settings->depth : &s->own_depth;
	return OCTAVO_OK;
}

static void carve(struct octavo_arena *a, struct octavo_session *s)
{
	size_t positions = s->engine->settings.max_context + 1, vocab = s->engine->config.vocab;
	s->token = octavo_carve(a, positions, sizeof *s->token);
	s->margin = octavo_carve(a, positions, sizeof *s->margin);
	s->second = octavo_carve(a, positions, sizeof *s->second);
	s->law = octavo_carve(a, vocab, sizeof *s->law);
	s->order = octavo_carve(a, vocab, sizeof *s->order);
	octavo_stopper_carve(a, &s->stopper);
	octavo_draftable_carve(a, s);
	size_t rows = octavo_larger(octavo_shape_rows(&s->shape[0]), OCTAVO_MAX_K + 1); /* of any tree, of any chain */
	if (s->settings.accept == OCTAVO_ACCEPT_CANDIDATES)
		octavo_screen_carve(a, s, rows);
	if (octavo_accept_promise(s->settings.accept, &s->settings.sampling) != OCTAVO_SAME_LAW)
		return;
	s->residual = octavo_carve(a, 2 * vocab, sizeof *s->residual);
	s->chance.law = octavo_carve(a, rows * vocab, sizeof *s->chance.law);
}

/* Whether acceptance compares drafts with tokens that the target draws with its own numbers. */
static int takes_target_draws(const struct octavo_session_settings *settings)
{
	return settings->sampling.temperature > 0.0f &&
	       (settings->accept == OCTAVO_ACCEPT_MATCH || settings->accept == OCTAVO_ACCEPT_CANDIDATES);
}

static enum octavo_status allocate(struct octavo_session *s, struct octavo_error *error)
{
	struct octavo_arena arena = { 0 };
	s->stopper = (struct octavo_stopper){ .stop = s->settings.stop, .count = s->settings.stops };
	carve(&arena, s);
	s->arena = arena.overflow ? NULL : calloc(1, arena.used + OCTAVO_ALIGNMENT);
	if (!s->arena)
		return octavo_fail(error, OCTAVO_ENOMEM, "session: out of memory");
	arena = (struct octavo_arena){ .base = octavo_aligned(s->arena) };
	carve(&arena, s);
	octavo_stopper_open(&s->stopper);
	s->chance.sampling = &s->settings.sampling;
	s->chance.stream = s->settings.stream;
	s->chance.vocab = s->engine->config.vocab;
	s->chance.order = s->order;
	s->chance.scratch = s->law; /* free while drafts are made */
	s->chance.race = takes_target_draws(&s->settings);
	s->chance.confidence = s->settings.confidence;
	s->chance.candidates = s->screen ? &s->screen->list : NULL;
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
	enum octavo_status status = check(&s->settings, engine, error);
	if (status == OCTAVO_OK)
		status = shape_drafts(s, error);
	if (status == OCTAVO_OK)
		status = allocate(s, error);
	if (status == OCTAVO_OK)
		status = take_sequence(s, error);
	if (status == OCTAVO_OK)
		status = octavo_drafter_open(&s->drafter, settings->drafter, engine, s->sequence, error);
	s->settings.drafter = NULL; /* borrowed for the call only */
	s->adaptive = status == OCTAVO_OK && !s->shape[0].depth && s->drafter->sources;
	s->chance.extent = s->adaptive && !s->chance.law ? s->extent : NULL;
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
	octavo_drafter_close(&s->drafter);
	if (s->sequence != SIZE_MAX)
		s->engine->kv.used[s->sequence] = s->engine->kv.length[s->sequence] = 0;
	free(s->arena);
	free(s);
	*session = NULL;
}

/* ---- Prompt ---------------------------------------------------------------------------------------------- */

/* The next `rows` tokens of the prompt: a chain behind what is committed. */
static enum octavo_status prefill_rows(struct octavo_session *s, size_t rows, uint8_t flags, struct octavo_error *error)
{
	struct octavo_engine *e = s->engine;
	enum octavo_status status = octavo_append(e, s->sequence, s->token + s->committed, rows, flags, 0, error);
	if (status == OCTAVO_OK)
		status = s->drafter->ops->commit(s->drafter, s->committed, e->staging.row, rows, error);
	s->committed += rows;
	return status;
}

static enum octavo_status prefill(struct octavo_session *s, size_t count, struct octavo_error *error)
{
	size_t chunk = s->engine->settings.max_rows;
	uint8_t flags = count >= s->engine->settings.naive_min ? OCTAVO_ROW_NAIVE : 0;
	enum octavo_status status = OCTAVO_OK;
	/* The last token stays out: it is the root of the first round. */
	while (status == OCTAVO_OK && s->committed + 1 < count) {
		size_t left = count - 1 - s->committed;
		status = prefill_rows(s, left < chunk ? left : chunk, flags, error);
	}
	return status;
}

/* The choice of k needs the cost curve: the first session that has room for all of it measures it, on its own
 * prompt. */
static enum octavo_status know_costs(struct octavo_session *s, size_t count, struct octavo_error *error)
{
	struct octavo_engine *e = s->engine;
	struct octavo_cost cost;
	if (e->cost.count >= octavo_cost_knots(e, s->committed))
		return OCTAVO_OK;
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_OTHER);
	enum octavo_status status = octavo_measure_cost(e, (int32_t)s->sequence, s->token, count, &cost, error);
	octavo_phase_end(e->profiler, OCTAVO_PHASE_OTHER);
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
	for (size_t i = 0; i < OCTAVO_MAX_SOURCES; i++) /* drafters catch up on what was longer in the meantime */
		s->late[i] = count < s->engine->settings.max_rows ? count : s->engine->settings.max_rows;
	s->text = 0;
	octavo_stopper_begin(&s->stopper);
	if (s->draftable)
		octavo_draftable_begin(s->draftable, &s->engine->config);
	if (s->settings.history)
		octavo_history_begin(s->settings.history, token, count);
	s->drafter->ops->begin(s->drafter, s->token);
	uint64_t start = octavo_now_ns();
	octavo_phase_begin(s->engine->profiler, OCTAVO_PHASE_PREFILL);
	status = prefill(s, count, error);
	octavo_phase_end(s->engine->profiler, OCTAVO_PHASE_PREFILL);
	s->stats.prefill_ns = octavo_now_ns() - start;
	if (status == OCTAVO_OK && s->adaptive)
		status = know_costs(s, count, error);
	if (status != OCTAVO_OK)
		s->stats.finish = OCTAVO_FINISH_ERROR;
	return status;
}

/* ---- Rounds ---------------------------------------------------------------------------------------------- */

/* Those of the sessions that still run, in `running`. */
static size_t find_running(struct octavo_session *const *session, size_t count, struct octavo_session **running)
{
	size_t found = 0;
	for (size_t i = 0; i < count; i++)
		if (session[i]->stats.finish == OCTAVO_RUNNING)
			running[found++] = session[i];
	return found;
}

enum octavo_status octavo_sessions_step(struct octavo_session *const *session, size_t count,
                                        struct octavo_emitted *emitted, struct octavo_error *error)
{
	if (!session || !count || !emitted)
		return octavo_fail(error, OCTAVO_EINVAL, "step: a null argument, or no session");
	for (size_t i = 0; i < count; i++) {
		if (!session[i] || session[i]->engine != session[0]->engine)
			return octavo_fail(error, OCTAVO_EINVAL, "step: session %zu is null, or of another engine", i);
		for (size_t j = 0; j < i; j++)
			if (session[i] == session[j])
				return octavo_fail(error, OCTAVO_EINVAL, "step: session %zu is there twice", i);
	}
	struct octavo_engine *e = session[0]->engine;
	if (count > e->settings.max_rows)
		return octavo_fail(error, OCTAVO_ELIMIT, "step: %zu sessions, the engine has %zu rows", count,
		                   e->settings.max_rows);
	size_t running = find_running(session, count, e->staging.running);
	enum octavo_status status = running ? octavo_round(e->staging.running, running, error) : OCTAVO_OK;
	for (size_t i = 0, next = 0; i < count; i++) {
		const struct octavo_session *s = session[i];
		int took_part = next < running && e->staging.running[next] == s;
		next += (size_t)took_part;
		/* never NULL: a caller may copy *count = 0 tokens from it */
		emitted[i] = (struct octavo_emitted){ s->token, 0 };
		if (took_part && s->emitted)
			emitted[i] = (struct octavo_emitted){ s->token + s->first, s->emitted };
	}
	return status;
}

enum octavo_status octavo_session_step(struct octavo_session *s, const int32_t **token, size_t *count,
                                       struct octavo_error *error)
{
	struct octavo_emitted emitted = { 0 };
	if (!s || !token || !count)
		return octavo_fail(error, OCTAVO_EINVAL, "step: a null argument");
	enum octavo_status status = octavo_sessions_step(&s, 1, &emitted, error);
	*token = emitted.token;
	*count = emitted.count;
	return status;
}

const struct octavo_session_stats *octavo_session_stats(const struct octavo_session *s)
{
	return s ? &s->stats : NULL;
}

enum octavo_status octavo_session_last(const struct octavo_session *s, struct octavo_session_round *round)
{
	if (!s || !round || !s->stats.steps || s->stats.finish == OCTAVO_FINISH_ERROR)
		return OCTAVO_EINVAL;
	const struct octavo_engine *e = s->engine;
	*round = (struct octavo_session_round){
		.context = s->token, .length = s->first, .draft = octavo_tree_offered(&s->tree),
		.rows = s->tree.rows, .source = s->tree.source, .outcome = &s->outcome, .emitted = s->emitted,
		.hidden = e->hidden[OCTAVO_TAP_POST_NORM] + s->first_row * e->config.hidden,
	};
	return OCTAVO_OK;
}

enum octavo_status octavo_session_margin(const struct octavo_session *s, size_t i, float *margin, int32_t *second)
{
	if (!s || i >= s->stats.emitted || !margin || !second)
		return OCTAVO_EINVAL;
	*margin = s->margin[s->stats.prompt_tokens + i];
	*second = s->second[s->stats.prompt_tokens + i];
	return OCTAVO_OK;
}
