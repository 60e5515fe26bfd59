/* SPDX-License-Identifier: Apache-2.0 */
#include "octavo_verify.h"

#include "engine/verify/law.h"

#include <math.h>

enum octavo_status octavo_accept_walk(const struct octavo_draft *draft, octavo_choose_fn *choose, void *context,
                                      struct octavo_outcome *out)
{
	if (!draft || !draft->rows || draft->rows > OCTAVO_MAX_DRAFT || !draft->token || !draft->parent || !choose || !out)
		return OCTAVO_EINVAL;
	for (size_t row = 1; row < draft->rows; row++)
		if (draft->parent[row] < 0 || (size_t)draft->parent[row] >= row)
			return OCTAVO_EINVAL;
	size_t at = 0;
	out->accepted = 0;
	for (;;) {
		out->next = choose(context, at);
		if (out->next < 0)
			return OCTAVO_ENUMERIC;
		size_t child = at + 1; /* children come after their parent */
		while (child < draft->rows && !((size_t)draft->parent[child] == at && draft->token[child] == out->next))
			child++;
		if (child == draft->rows)
			return OCTAVO_OK;
		out->path[out->accepted++] = (uint32_t)child;
		at = child;
	}
}

struct rows {
	const float *logits;
	size_t ld, vocab;
	const struct octavo_sampling *sampling;
	const struct octavo_stream *stream;
	const struct octavo_draft *draft;
	uint32_t position;
	double *law;
	uint32_t *order;
};

static int32_t choose_best(void *context, size_t row)
{
	const struct rows *r = context;
	int32_t best = octavo_argmax(r->logits + row * r->ld, r->vocab);
	return best >= 0 && isfinite(r->logits[row * r->ld + (size_t)best]) ? best : -1;
}

enum octavo_status octavo_accept_greedy(const struct octavo_draft *draft, const float *logits, size_t ld, size_t vocab,
                                        struct octavo_outcome *out)
{
	if (!logits || !vocab || ld < vocab)
		return OCTAVO_EINVAL;
	struct rows r = { .logits = logits, .ld = ld, .vocab = vocab };
	return octavo_accept_walk(draft, choose_best, &r, out);
}

static uint32_t depth(const struct octavo_draft *draft, size_t row)
{
	uint32_t d = 0;
	for (; row; row = (size_t)draft->parent[row])
		d++;
	return d;
}

static int32_t choose_draw(void *context, size_t row)
{
	const struct rows *r = context;
	if (octavo_law(r->sampling, r->logits + row * r->ld, r->vocab, r->law, r->order) != OCTAVO_OK)
		return -1;
	double u = octavo_draw(r->stream, r->position + depth(r->draft, row), OCTAVO_DRAW_TARGET, 0);
	return octavo_quantile(r->law, r->vocab, u);
}

enum octavo_status octavo_accept_match(const struct octavo_draft *draft, const float *logits, size_t ld, size_t vocab,
                                       const struct octavo_sampling *sampling, const struct octavo_stream *stream,
                                       uint32_t position, double *law, uint32_t *order, struct octavo_outcome *out)
{
	if (!logits || !vocab || ld < vocab || !sampling || !stream || !law)
		return OCTAVO_EINVAL;
	if (octavo_law_truncates(sampling, vocab) && !order)
		return OCTAVO_EINVAL;
	if (sampling->temperature == 0.0f) /* the law is the argmax whatever the draw */
		return octavo_accept_greedy(draft, logits, ld, vocab, out);
	struct rows r = { logits, ld, vocab, sampling, stream, draft, position, law, order };
	return octavo_accept_walk(draft, choose_draw, &r, out);
}
