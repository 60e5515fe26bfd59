/* SPDX-License-Identifier: Apache-2.0
 *
 * Acceptance where the logits of a few tokens are known, and all of a row's only if need be.  LOSSY: a token outside the
 * few has no chance where the best of them is sure.
 */
#include "engine/verify/law.h"

#include "kernels/fpenv.h"

#include <math.h>

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

/* The token that `count` logits give behind a row: an index into them. */
static int32_t draw(const struct walk *w, size_t row, const float *logits, size_t count)
{
	const struct octavo_screened *c = w->c;
	if (octavo_law(c->sampling, NULL, logits, count, c->law, c->order) != OCTAVO_OK)
		return -1;
	return c->pick(c->pick_context, c->position + octavo_depth(w->draft, row), OCTAVO_DRAW_TARGET, 0, c->law, count);
}

static int32_t choose(void *context, size_t row)
{
	struct walk *w = context;
	const struct octavo_screened *c = w->c;
	if (c->row[row].all)
		return draw(w, row, c->row[row].all, c->vocab);
	if (octavo_screened_decides(c, row)) {
		int32_t i = draw(w, row, c->row[row].few, c->count);
		return i < 0 ? i : c->token[i];
	}
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
