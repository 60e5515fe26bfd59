/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules by name, and those that walk along the target's own tokens.
 */
#include "engine/verify/law.h"

#include <math.h>
#include <string.h>

typedef enum octavo_status rule_fn(const struct octavo_draft *draft, const struct octavo_judge *judge,
                                   struct octavo_outcome *out);

static const struct {
	const char *name;
	enum octavo_promise promise;
	rule_fn *run;
} rules[OCTAVO_ACCEPT_COUNT] = {
	[OCTAVO_ACCEPT_MATCH] = { "match", OCTAVO_SAME_TOKENS, octavo_accept_match },
	[OCTAVO_ACCEPT_GREEDY] = { "greedy", OCTAVO_SAME_TOKENS, octavo_accept_match },
	[OCTAVO_ACCEPT_REJECTION] = { "rejection", OCTAVO_SAME_LAW, octavo_accept_rejection },
	[OCTAVO_ACCEPT_BLOCK] = { "block", OCTAVO_SAME_LAW, octavo_accept_block },
	[OCTAVO_ACCEPT_MULTIROUND] = { "multiround", OCTAVO_SAME_LAW, octavo_accept_multiround },
	[OCTAVO_ACCEPT_TYPICAL] = { "typical", OCTAVO_LOSSY, octavo_accept_typical },
	[OCTAVO_ACCEPT_CANDIDATES] = { "candidates", OCTAVO_LOSSY, octavo_accept_match },
};

static int is_rule(enum octavo_accept rule)
{
	return (unsigned)rule < OCTAVO_ACCEPT_COUNT;
}

const char *octavo_accept_name(enum octavo_accept rule)
{
	return is_rule(rule) ? rules[rule].name : NULL;
}

enum octavo_accept octavo_accept_find(const char *name)
{
	int rule = 0;
	while (rule < OCTAVO_ACCEPT_COUNT && strcmp(rules[rule].name, name))
		rule++;
	return (enum octavo_accept)rule;
}

enum octavo_promise octavo_accept_promise(enum octavo_accept rule, const struct octavo_sampling *s)
{
	if (!is_rule(rule))
		return OCTAVO_LOSSY;
	if (rule == OCTAVO_ACCEPT_CANDIDATES) /* the best of a few need not be the best of all */
		return OCTAVO_LOSSY;
	return s && s->temperature == 0.0f ? OCTAVO_SAME_TOKENS : rules[rule].promise;
}

enum octavo_status octavo_accept(enum octavo_accept rule, const struct octavo_draft *draft,
                                 const struct octavo_judge *judge, struct octavo_outcome *out)
{
	return is_rule(rule) ? rules[rule].run(draft, judge, out) : OCTAVO_EINVAL;
}

/* ---- The walk ------------------------------------------------------------------------------------------------- */

enum octavo_status octavo_accept_walk(const struct octavo_draft *draft, octavo_choose_fn *choose, void *context,
                                      struct octavo_outcome *out)
{
	if (!octavo_draft_is_sound(draft) || !choose || !out)
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

struct bench {
	const struct octavo_draft *draft;
	const struct octavo_judge *judge;
};

static int32_t choose_draw(void *context, size_t row)
{
	const struct bench *b = context;
	struct octavo_mass p;
	if (octavo_judge_target(b->judge, row, &p) != OCTAVO_OK)
		return -1;
	return octavo_judge_next(b->draft, b->judge, row, p.law);
}

enum octavo_status octavo_accept_match(const struct octavo_draft *draft, const struct octavo_judge *judge,
                                       struct octavo_outcome *out)
{
	enum octavo_status status = octavo_judge_check(draft, judge, 0, out);
	struct bench b = { draft, judge };
	return status == OCTAVO_OK ? octavo_accept_walk(draft, choose_draw, &b, out) : status;
}
