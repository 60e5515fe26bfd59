/* SPDX-License-Identifier: Apache-2.0
 *
 * Acceptance where the logits of a few tokens are known, and all of a row's only if need be.  LOSSY: a token
 * outside the few has no chance where the best of them is sure.
 */
#include "engine/verify/law.h"

#include "kernels/fpenv.h"

#include <string.h>

double octavo_screened_worth(const struct octavo_screened *c, size_t row)
{
	static const struct octavo_sampling plain = { .temperature = 1.0f };
	const struct octavo_screened_row *r = &c->row[row];
	double best = 0.0;
	if (!r->few || !(r->mass > 0.0) ||
	    octavo_law(&plain, NULL, r->few, c->count, c->law, NULL) != OCTAVO_OK)
		return 0.0;
	for (size_t i = 0; i < c->count; i++)
		best = c->law[i] > best ? c->law[i] : best;
	octavo_fpenv saved = octavo_fpenv_enter();
	double worth = r->mass * best;
	octavo_fpenv_leave(saved);
	return worth;
}

int octavo_screened_decides(const struct octavo_screened *c, size_t row)
{
	return octavo_screened_worth(c, row) >= (c->sure > 0.0 ? c->sure : OCTAVO_USUAL_SURE);
}

struct walk {
	const struct octavo_draft *draft;
	const struct octavo_screened *c;
	size_t unsure; /* the row at which it stopped */
};

/* Candidates' law to one of all tokens, in its place: tokens ascend, so none comes before its index. */
static void spread(const struct octavo_screened *c)
{
	size_t end = c->vocab;
	for (size_t i = c->count; i--;) {
		size_t token = (size_t)c->token[i];
		double mass = c->law[i];
		memset(c->law + token, 0, (end - token) * sizeof *c->law);
		c->law[token] = mass;
		end = token;
	}
	memset(c->law, 0, end * sizeof *c->law);
}

/* The token that logits of all tokens, or of the candidates, give behind a row.  A candidate runs with the number
 * it has among all tokens: wherever the best of all is a candidate it is drawn. */
static int32_t draw(const struct walk *w, size_t row, const float *logits, size_t count)
{
	const struct octavo_screened *c = w->c;
	if (octavo_law(c->sampling, NULL, logits, count, c->law, c->order) != OCTAVO_OK)
		return -1;
	if (count < c->vocab)
		spread(c);
	return c->pick(c->pick_context, c->position + octavo_depth(w->draft, row), OCTAVO_DRAW_TARGET, 0, c->law, c->vocab);
}

static int32_t choose(void *context, size_t row)
{
	struct walk *w = context;
	const struct octavo_screened *c = w->c;
	if (c->row[row].all)
		return draw(w, row, c->row[row].all, c->vocab);
	if (octavo_screened_decides(c, row))
		return draw(w, row, c->row[row].few, c->count);
	w->unsure = row;
	return -1;
}

static int is_sound(const struct octavo_screened *c)
{
	if (!c || !c->vocab || !c->row || !c->sampling || !c->pick || !c->law || (c->count && !c->token))
		return 0;
	if (c->sampling->biases || octavo_law_penalises(c->sampling))
		return 0;
	if (!c->order && octavo_law_truncates(c->sampling, c->vocab))
		return 0;
	if (!(c->sure >= 0.0 && c->sure <= 1.0))
		return 0;
	for (size_t i = 0; i < c->count; i++)
		if (c->token[i] < 0 || (size_t)c->token[i] >= c->vocab || (i && c->token[i] <= c->token[i - 1]))
			return 0;
	return 1;
}

enum octavo_status octavo_accept_candidates(const struct octavo_draft *draft, const struct octavo_screened *screened,
                                            struct octavo_outcome *out, size_t *unsure)
{
	if (!is_sound(screened) || !octavo_draft_is_sound(draft) || !out || !unsure)
		return OCTAVO_EINVAL;
	for (size_t row = 1; row < draft->rows; row++)
		if (draft->token[row] < 0 || (size_t)draft->token[row] >= screened->vocab)
			return OCTAVO_EINVAL;
	struct walk walk = { draft, screened, draft->rows };
	enum octavo_status status = octavo_accept_walk(draft, choose, &walk, out);
	*unsure = walk.unsure;
	return walk.unsure < draft->rows ? OCTAVO_OK : status;
}
