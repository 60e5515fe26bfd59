/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/screen.h"

#include <assert.h>
#include <string.h>

enum octavo_status octavo_screen_check(const struct octavo_session_settings *settings, struct octavo_error *error)
{
	const struct octavo_sampling *s = &settings->sampling;
	const struct octavo_shortlist *list = &settings->shortlist;
	if (settings->accept != OCTAVO_ACCEPT_CANDIDATES) {
		if (list->most || list->sure != 0.0)
			return octavo_fail(error, OCTAVO_EINVAL, "shortlist: it is for the candidates rule, not for %s",
			                   octavo_accept_name(settings->accept));
		return OCTAVO_OK;
	}
	if (!list->most)
		return octavo_fail(error, OCTAVO_EINVAL, "shortlist: the candidates rule needs at least 1 token of each law");
	if (!(list->sure >= 0.0 && list->sure <= 1.0))
		return octavo_fail(error, OCTAVO_EINVAL, "shortlist: %g is not in (0, 1], nor 0 (the usual %g)", list->sure,
		                   OCTAVO_USUAL_SURE);
	if (s->biases || (s->repetition != 0.0f && s->repetition != 1.0f) || s->frequency != 0.0f || s->presence != 0.0f)
		return octavo_fail(error, OCTAVO_EINVAL,
		                   "accept: the candidates rule sees the logits of some tokens alone: no logit bias and no "
		                   "repetition, frequency or presence penalty goes with it");
	return octavo_drafter_suits(settings->drafter, settings->accept, error) ? OCTAVO_OK : OCTAVO_EINVAL;
}

/* The most laws of a round: behind each row that the drafter runs, and where both of a pair have one, behind the root. */
static size_t most_laws(const struct octavo_session_settings *s, size_t rows)
{
	const struct octavo_dynamic *d = &s->dynamic;
	return (d->rows ? 1 + (size_t)d->top_k * (d->depth - 1) : rows) + OCTAVO_MAX_SOURCES - 1;
}

void octavo_screen_carve(struct octavo_arena *a, struct octavo_session *s, size_t rows)
{
	const struct octavo_engine *e = s->engine;
	struct octavo_screen *screen = octavo_carve(a, 1, sizeof *screen);
	size_t most = s->settings.shortlist.most < e->choosable ? s->settings.shortlist.most : e->choosable;
	size_t room = most * most_laws(&s->settings, rows) + rows;
	room = room < e->choosable ? room : e->choosable;
	struct octavo_candidate_list list = { .most = most, .vocab = e->choosable, .room = room };
	list.listed = octavo_carve(a, e->choosable / 64 + 1, sizeof *list.listed);
	list.best = octavo_carve(a, most, sizeof *list.best);
	list.token = octavo_carve(a, room, sizeof *list.token);
	void *weights = octavo_carve(a, room, e->config.hidden * octavo_dtype_size(e->weights.head.dtype));
	float *logits = octavo_carve(a, room * rows, sizeof *logits);
	if (!a->base)
		return;
	screen->list = list;
	screen->weights = weights;
	screen->logits = logits;
	s->screen = screen;
}

void octavo_screen_begin(struct octavo_session *s)
{
	octavo_candidate_list_begin(&s->screen->list);
}

/* What the rule sees of the session's round. */
static struct octavo_screened screened_of(struct octavo_session *s)
{
	const struct octavo_screen *screen = s->screen;
	return (struct octavo_screened){
		.vocab = s->engine->choosable, .token = screen->list.token, .count = screen->list.count, .row = screen->row,
		.sure = s->settings.shortlist.sure, .sampling = &s->settings.sampling, .pick = octavo_pick,
		.pick_context = &s->settings.stream, .position = (uint32_t)s->committed + 1, .law = s->law, .order = s->order,
	};
}

/* Logits of the candidates behind the rows that the drafter has a law for. */
static void evaluate(struct octavo_session *s, size_t rows)
{
	struct octavo_screen *screen = s->screen;
	struct octavo_engine *e = s->engine;
	size_t hidden = e->config.hidden, wanted = 0;
	const float *state = e->hidden[OCTAVO_TAP_POST_NORM] + s->first_row * hidden;
	float *packed = e->work.normed;
	octavo_candidate_list_end(&screen->list, s->tree.token + 1, rows - 1);
	for (size_t row = 0; row < rows; row++) {
		int node = s->tree.run[row];
		double mass = node < 0 ? 0.0 : screen->list.mass[node];
		screen->row[row] = (struct octavo_screened_row){ .mass = mass };
		if (!(mass > 0.0))
			continue;
		memcpy(packed + wanted * hidden, state + row * hidden, hidden * sizeof *packed);
		screen->row[row].few = screen->logits + wanted++ * screen->list.count;
	}
	if (wanted)
		octavo_head_some(e, packed, wanted, screen->list.token, screen->list.count, screen->weights, screen->logits);
}

static enum octavo_status walk(struct octavo_session *s, struct octavo_error *error)
{
	const struct octavo_draft draft = octavo_tree_offered(&s->tree);
	const struct octavo_screened screened = screened_of(s);
	enum octavo_status status = octavo_accept_candidates(&draft, &screened, &s->outcome, &s->screen->unsure);
	return status == OCTAVO_OK ? OCTAVO_OK : octavo_logits_fail(s, status, error);
}

enum octavo_status octavo_screen_look(struct octavo_session *s, struct octavo_error *error)
{
	evaluate(s, s->tree.rows);
	return walk(s, error);
}

/* Whether a row is `top`, or below it. */
static int is_below(const struct octavo_tree *tree, size_t row, size_t top)
{
	while (row > top)
		row = (size_t)tree->parent[row];
	return row == top;
}

/* Below the row that the walk waits at, all that do not decide: the head's weights pass by once for all of them. */
size_t octavo_screen_want(struct octavo_session *s, uint8_t *flags)
{
	const struct octavo_screened screened = screened_of(s);
	size_t wanted = 0;
	for (size_t row = s->screen->unsure; row < s->tree.rows; row++)
		if (is_below(&s->tree, row, s->screen->unsure) && !octavo_screened_decides(&screened, row)) {
			flags[s->first_row + row] |= OCTAVO_ROW_LOGITS;
			wanted++;
		}
	return wanted;
}

enum octavo_status octavo_screen_accept(struct octavo_session *s, struct octavo_error *error)
{
	struct octavo_screen *screen = s->screen;
	if (screen->unsure == s->tree.rows)
		return OCTAVO_OK;
	for (size_t row = 0; row < s->tree.rows; row++)
		screen->row[row].all = octavo_logits(s->engine, s->first_row + row);
	enum octavo_status status = walk(s, error);
	assert(status != OCTAVO_OK || screen->unsure == s->tree.rows); /* all that it could ask for is there */
	return status;
}

void octavo_screen_count(struct octavo_session *s)
{
	struct octavo_session_stats *stats = &s->stats;
	int evaluated = 0;
	for (size_t row = 0; row < s->tree.rows; row++)
		evaluated |= s->screen->row[row].all != NULL;
	for (size_t i = 0; i < s->emitted; i++)
		stats->full_rows += s->screen->row[octavo_session_maker(s, i)].all != NULL;
	stats->candidates += s->screen->list.count;
	stats->full_steps += (size_t)evaluated;
}
