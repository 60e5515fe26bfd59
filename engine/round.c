/* SPDX-License-Identifier: Apache-2.0
 *
 * One round: draft, forward, accept, commit, for one sequence or many.
 */
#include "engine/draft/draftable.h"
#include "engine/screen.h"
#include "engine/verify/law.h"

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- Draft ------------------------------------------------------------------------------------------------ */

/* How many tokens may be drafted in a row: one of the round's tokens always comes from the target itself. */
static size_t budget(const struct octavo_session *s)
{
	size_t k = s->engine->settings.max_context - s->committed - 1;
	return s->settings.max_new ? least(k, s->settings.max_new - s->stats.emitted - 1) : k;
}

/* What stands before the root's next token. */
static struct octavo_prefix prefix_of(const struct octavo_session *s)
{
	return (struct octavo_prefix){ s->token, s->committed + 1, s->stats.prompt_tokens, NULL, 0 };
}

/* Chooses how much each source drafts. */
static void choose_depth(struct octavo_session *s)
{
	const struct octavo_drafter *d = s->drafter;
	struct octavo_ahead ahead[OCTAVO_MAX_SOURCES];
	for (unsigned i = 0; i < d->sources; i++) {
		const struct octavo_drafter_ops *ops = d->pair[i] ? d->pair[i]->ops : d->ops;
		size_t most = least(budget(s), least(OCTAVO_MAX_K, s->room - 1));
		if (d->most[i])
			most = least(most, d->most[i]);
		ahead[i] = (struct octavo_ahead){ .most = (unsigned)most, .company = s->company, .late = s->late[i],
			                          .shares = ops->laws && s->chance.extent, .at_once = ops->at_once };
	}
	octavo_depth_plan(s->depth, &s->engine->cost, ahead, d->sources, s->extent);
	for (unsigned i = 0; i < d->sources; i++)
		s->shape[i] = octavo_shape_chain(s->extent[i].most);
}

/* Doubtful tokens stay out of the forward. */
static void leave_out(struct octavo_session *s)
{
	const struct octavo_extent *extent = &s->extent[s->tree.source];
	s->drafted = octavo_tree_deepest(&s->tree);
	if (s->adaptive && extent->weighs)
		s->tree.rows = least(s->tree.rows, extent->submitted + 1);
}

static void watch(struct octavo_session *s, const struct octavo_shape *shape)
{
	size_t offered = s->tree.rows;
	s->drafter->ops->watch(s->drafter, shape, &s->tree);
	s->tree.watched = s->tree.rows - offered;
}

/* What the session wants drafted. */
static enum octavo_status ask(struct octavo_session *s, struct octavo_error *error)
{
	struct octavo_drafting *d = &s->drafting;
	size_t room = s->shape[0].most ? least(s->room, s->shape[0].most) : s->room;
	(void)error;
	if (s->adaptive)
		choose_depth(s);
	d->whole = s->drafter;
	d->tree = &s->tree;
	d->draftable = s->draftable;
	if (s->draftable)
		octavo_draftable_take(s->draftable, s->token, s->committed + 1);
	for (size_t i = 0; i < OCTAVO_MAX_SOURCES; i++) {
		d->shapes[i] = s->shape[i];
		d->shapes[i].depth = (unsigned)least(s->shape[i].depth, budget(s));
	}
	s->chance.prefix = prefix_of(s);
	if (s->screen)
		octavo_screen_begin(s);
	octavo_tree_begin(&s->tree, s->token[s->committed], room, &s->chance);
	return OCTAVO_OK;
}

/* What else is to run with the draft. */
static enum octavo_status complete(struct octavo_session *s, struct octavo_error *error)
{
	uint64_t start = octavo_now_ns();
	(void)error;
	s->tree.room = s->room;
	leave_out(s);
	if (s->drafting.status == OCTAVO_OK && s->drafter->ops->watch)
		watch(s, s->drafting.shapes);
	s->drafting.ns += octavo_now_ns() - start;
	return s->drafting.status;
}

/* The session's rows go behind those that are there. */
static size_t stage(struct octavo_session *s, size_t rows)
{
	struct octavo_staging *b = &s->engine->staging;
	const struct octavo_tree *tree = &s->tree;
	s->first_row = rows;
	for (size_t i = 0; i < tree->rows; i++, rows++) {
		b->token[rows] = tree->token[i];
		b->pos[rows] = (int32_t)(s->committed + octavo_tree_depth(tree, i));
		b->seq[rows] = (int32_t)s->sequence;
		b->parent[rows] = i ? tree->parent[i] + (int32_t)s->first_row : -1;
		b->flags[rows] = s->screen ? 0 : OCTAVO_ROW_LOGITS;
	}
	return rows;
}

/* ---- Accept ----------------------------------------------------------------------------------------------- */

enum octavo_status octavo_logits_fail(const struct octavo_session *s, enum octavo_status status,
                                      struct octavo_error *error)
{
	return octavo_fail(error, status,
	                   "position %zu: the model's logits hold a NaN or nothing finite: its weights are damaged, "
	                   "or overflow, or the biases ban every token",
	                   s->committed + 1);
}

static enum octavo_status accept(struct octavo_session *s, struct octavo_error *error)
{
	struct octavo_engine *e = s->engine;
	const struct octavo_draft draft = octavo_tree_offered(&s->tree);
	struct octavo_scored scored = {
		.logits = octavo_logits(e, s->first_row), .ld = e->config.vocab, .vocab = e->choosable,
		.sampling = &s->settings.sampling, .prefix = prefix_of(s), .law = s->law, .order = s->order,
	};
	scored.prefix.draft = &draft;
	const struct octavo_judge judge = {
		.vocab = e->choosable, .target = octavo_scored_law, .target_context = &scored,
		.drafted = octavo_tree_law, .drafted_context = &s->tree, .siblings = OCTAVO_WITHOUT_REPLACEMENT,
		.pick = octavo_pick, .pick_context = &s->settings.stream, .position = (uint32_t)s->committed + 1,
		.scratch = s->residual,
	};
	/* At temperature 0 all rules are one. */
	enum octavo_accept rule = octavo_accept_promise(s->settings.accept, &s->settings.sampling) == OCTAVO_SAME_TOKENS
	                                  ? OCTAVO_ACCEPT_MATCH
	                                  : s->settings.accept;
	enum octavo_status status =
		octavo_law_is_argmax(&s->settings.sampling)
			? octavo_accept_greedy(&draft, scored.logits, scored.ld, scored.vocab, &s->outcome) /* needs no laws */
			: octavo_accept(rule, &draft, &judge, &s->outcome);
	return status == OCTAVO_OK ? OCTAVO_OK : octavo_logits_fail(s, status, error);
}

static int is_eos(const struct octavo_session *s, int32_t token)
{
	const struct octavo_config *c = &s->engine->config;
	for (size_t i = 0; i < c->eos_count; i++)
		if (c->eos[i] == token)
			return 1;
	return 0;
}

/* Adds a token's text to the output's; 1 if that completes a stop string: then it is what stands before that. */
static int is_stop(struct octavo_session *s, int32_t token)
{
	size_t length, used;
	const char *text = octavo_tokenizer_text(s->engine->tokenizer, token, &length);
	int complete = octavo_stopper_feed(&s->stopper, text, length, &used, &s->stats.stop);
	s->text += complete ? used - s->stopper.stop[s->stats.stop].length : length;
	return complete;
}

/* Whether the session goes on behind `token`, which is its new token number `number` and stands at `position`. */
static enum octavo_finish judge_end(struct octavo_session *s, int32_t token, size_t number, size_t position)
{
	int eos = is_eos(s, token);
	if (eos && !s->settings.ignore_eos)
		return OCTAVO_FINISH_EOS;
	if (!eos && is_stop(s, token))
		return OCTAVO_FINISH_STOP;
	if (number == s->settings.max_new) /* never 0 */
		return OCTAVO_FINISH_LENGTH;
	/* no room for it as a root */
	return position >= s->engine->settings.max_context ? OCTAVO_FINISH_CONTEXT : OCTAVO_RUNNING;
}

/* Takes over the accepted run and the target's own token, cut at EOS, at a stop string, at max_new or at the end of the
 * context. */
static void emit(struct octavo_session *s)
{
	const struct octavo_outcome *outcome = &s->outcome;
	s->first = s->committed + 1;
	while (s->emitted <= outcome->accepted && s->stats.finish == OCTAVO_RUNNING) {
		int32_t token =
			s->emitted < outcome->accepted ? s->tree.token[outcome->path[s->emitted]] : outcome->next;
		size_t position = s->first + s->emitted;
		s->token[position] = token;
		s->emitted++;
		s->stats.finish = judge_end(s, token, s->stats.emitted + s->emitted, position);
	}
	s->stats.text = s->text;
	if (s->stats.finish == OCTAVO_RUNNING)
		s->stats.text -= octavo_stopper_held(&s->stopper);
}

size_t octavo_session_maker(const struct octavo_session *s, size_t i)
{
	return i ? s->outcome.path[i - 1] : 0;
}

/* Rows of the root and of all but the last of the emitted tokens: they become part of the sequence. */
static void kept_rows(const struct octavo_session *s, uint32_t row[OCTAVO_MAX_DRAFT])
{
	for (size_t i = 0; i < s->emitted; i++)
		row[i] = (uint32_t)(s->first_row + octavo_session_maker(s, i));
}

static enum octavo_status accept_and_commit(struct octavo_session *s, struct octavo_error *error)
{
	uint32_t row[OCTAVO_MAX_DRAFT];
	enum octavo_status status = s->screen ? octavo_screen_accept(s, error) : accept(s, error);
	if (status != OCTAVO_OK)
		return status;
	emit(s);
	kept_rows(s, row);
	return octavo_commit(s->engine, (int32_t)s->sequence, row, s->emitted, error);
}

/* What a drafter learns may cost forwards of its own, which end the life of the main forward's rows: so this comes
 * when all sequences are committed. */
static enum octavo_status teach(struct octavo_session *s, struct octavo_error *error)
{
	uint32_t row[OCTAVO_MAX_DRAFT];
	kept_rows(s, row);
	size_t pos = s->committed;
	s->committed += s->emitted;
	return s->drafter->ops->commit(s->drafter, pos, row, s->emitted, error);
}

/* ---- Afterwards ------------------------------------------------------------------------------------------- */

/* Best and second best of logits[count] behind an emitted token, for octavo_session_margin; id NULL: those of the first
 * tokens. */
static void keep_margin(struct octavo_session *s, size_t position, const float *logits, const int32_t *id, size_t count)
{
	size_t best = 0, second = count > 1;
	if (logits[second] > logits[best]) {
		best = 1;
		second = 0;
	}
	for (size_t i = 2; i < count; i++) {
		if (!(logits[i] > logits[second]))
			continue;
		second = logits[i] > logits[best] ? best : i;
		best = second == best ? i : best;
	}
	s->margin[position] = logits[best] - logits[second];
	s->second[position] = id ? id[second] : (int32_t)second;
}

/* The margins of the round's tokens, which the phases of speculation do not pay for. */
static void keep_margins(struct octavo_session *s)
{
	const struct octavo_engine *e = s->engine;
	for (size_t i = 0; i < s->emitted; i++) {
		size_t row = octavo_session_maker(s, i);
		const struct octavo_screen *screen = s->screen;
		int32_t made = e->logit_row[s->first_row + row];
		if (screen && !screen->row[row].all)
			keep_margin(s, s->first + i, screen->row[row].few, screen->list.token, screen->list.count);
		else
			keep_margin(s, s->first + i, e->logits + (size_t)made * e->config.vocab, NULL, e->choosable);
	}
}

static void count_round(struct octavo_session *s)
{
	struct octavo_session_stats *stats = &s->stats;
	size_t drafted = octavo_tree_deepest(&s->tree), accepted = least(s->outcome.accepted, s->emitted);
	stats->steps++;
	stats->emitted += s->emitted;
	stats->zero_draft_steps += drafted == 0;
	stats->rows[s->tree.rows]++;
	for (size_t i = 0; i < drafted; i++)
		stats->drafted[i]++;
	for (size_t i = 0; i < accepted; i++)
		stats->accepted[i]++;
	if (s->screen)
		octavo_screen_count(s);
}

/* ---- The round -------------------------------------------------------------------------------------------- */

struct round {
	struct octavo_session *const *session;
	size_t count;
	size_t rows; /* of the forward */
	enum octavo_status status; /* the first failure */
	struct octavo_error *error;
};

/* A step for every session that is in the round; one that fails is out of it, and of all others until its next
 * prompt. */
static void each(struct round *r, enum octavo_status (*step)(struct octavo_session *s, struct octavo_error *error))
{
	struct octavo_error later;
	for (size_t i = 0; i < r->count; i++) {
		struct octavo_session *s = r->session[i];
		if (s->stats.finish == OCTAVO_FINISH_ERROR)
			continue;
		enum octavo_status status = step(s, r->status == OCTAVO_OK ? r->error : &later);
		if (status == OCTAVO_OK)
			continue;
		s->stats.finish = OCTAVO_FINISH_ERROR;
		s->emitted = 0;
		if (r->status == OCTAVO_OK)
			r->status = status;
	}
}

static void draft(struct round *r)
{
	struct octavo_drafting **drafting = r->session[0]->engine->staging.drafting;
	each(r, ask);
	for (size_t i = 0; i < r->count; i++)
		drafting[i] = &r->session[i]->drafting;
	r->status = octavo_draft_together(drafting, r->count, r->error);
	each(r, complete);
}

static enum octavo_status look(struct octavo_session *s, struct octavo_error *error)
{
	return s->screen ? octavo_screen_look(s, error) : OCTAVO_OK;
}

/* Where the forward left the head out. */
static void complete_head(struct round *r)
{
	struct octavo_engine *e = r->session[0]->engine;
	size_t wanted = 0;
	each(r, look);
	for (size_t i = 0; i < r->count; i++)
		if (r->session[i]->screen && r->session[i]->stats.finish == OCTAVO_RUNNING)
			wanted += octavo_screen_want(r->session[i], e->staging.flags);
	if (wanted)
		octavo_head(e, r->rows, e->staging.flags, NULL);
}

/* All drafts in one forward. */
static void verify(struct round *r)
{
	struct octavo_engine *e = r->session[0]->engine;
	struct octavo_staging *b = &e->staging;
	for (size_t i = 0; i < r->count; i++)
		if (r->session[i]->stats.finish == OCTAVO_RUNNING)
			r->rows = stage(r->session[i], r->rows);
	if (!r->rows)
		return;
	struct octavo_batch batch = { r->rows, b->token, b->pos, b->seq, b->parent, b->flags };
	enum octavo_status status = octavo_forward(e, &batch, r->error);
	for (size_t i = 0; status != OCTAVO_OK && i < r->count; i++)
		r->session[i]->stats.finish = OCTAVO_FINISH_ERROR;
	if (status != OCTAVO_OK)
		r->status = status;
	else
		complete_head(r);
}

static enum octavo_status finish(struct octavo_session *s, struct octavo_error *error)
{
	(void)error;
	if (s->settings.history)
		octavo_history_note(s->settings.history, &s->tree, s->token + s->first, s->emitted);
	keep_margins(s);
	count_round(s);
	return OCTAVO_OK;
}

/* What the choice of k learns from the round. */
static void learn(struct octavo_session *s, size_t rows, double verify_ns, double accept_ns)
{
	const struct octavo_extent *extent = &s->extent[s->tree.source];
	struct octavo_step step = { .drafted = s->drafted, .submitted = octavo_tree_deepest(&s->tree),
		                    .accepted = (unsigned)s->outcome.accepted,
		                    .share = extent->drafted == s->drafted ? extent->share : NULL,
		                    .watched = s->tree.watched, .draft_ns = (double)s->drafting.ns,
		                    .verify_ns = verify_ns, .accept_ns = accept_ns, .rows = rows };
	step.late = step.drafted ? s->late[s->tree.source] : 0;
	for (unsigned i = 0; i < s->drafter->sources; i++) {
		int took_part = i == s->tree.source;
		octavo_depth_update(&s->depth->source[i], &s->engine->cost, &step, took_part);
		s->late[i] = took_part && step.drafted ? 0 : least(s->late[i] + s->emitted, s->engine->settings.max_rows);
	}
}

/* Shares the round's times out. */
static void account(struct octavo_session *s, size_t rows, uint64_t verify_ns, uint64_t accept_ns)
{
	struct octavo_session_stats *stats = &s->stats;
	stats->draft_ns += s->drafting.ns;
	stats->verify_ns += verify_ns / s->company;
	stats->accept_ns += accept_ns / s->company;
	stats->expert_union += s->engine->expert_union; /* of the whole batch */
	stats->expert_rows += s->engine->expert_rows;
	if (s->adaptive && stats->finish != OCTAVO_FINISH_ERROR)
		learn(s, rows, (double)verify_ns, (double)accept_ns / (double)s->company);
}

enum octavo_status octavo_round(struct octavo_session *const *session, size_t count, struct octavo_error *error)
{
	struct round r = { .session = session, .count = count, .error = error };
	struct octavo_engine *e = session[0]->engine;
	struct octavo_profiler *p = e->profiler;
	uint64_t at[4];
	for (size_t i = 0; i < count; i++) {
		session[i]->emitted = 0;
		session[i]->company = count;
		session[i]->room = least(e->settings.max_rows / count, OCTAVO_MAX_DRAFT);
	}
	octavo_phase_begin(p, OCTAVO_PHASE_DRAFT);
	at[0] = octavo_now_ns();
	draft(&r);
	octavo_phase_switch(p, OCTAVO_PHASE_DRAFT, OCTAVO_PHASE_VERIFY);
	at[1] = octavo_now_ns();
	verify(&r);
	octavo_phase_switch(p, OCTAVO_PHASE_VERIFY, OCTAVO_PHASE_ACCEPT);
	at[2] = octavo_now_ns();
	each(&r, accept_and_commit);
	each(&r, teach);
	octavo_phase_switch(p, OCTAVO_PHASE_ACCEPT, OCTAVO_PHASE_OTHER);
	at[3] = octavo_now_ns();
	each(&r, finish);
	octavo_phase_end(p, OCTAVO_PHASE_OTHER);
	uint64_t end = octavo_now_ns();
	for (size_t i = 0; i < count; i++) {
		account(session[i], r.rows, at[2] - at[1], at[3] - at[2]);
		session[i]->stats.decode_ns += end - at[0];
	}
	return r.status;
}
