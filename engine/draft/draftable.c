/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/draftable.h"

#include <string.h>

enum octavo_status octavo_draftable_check(const struct octavo_session_settings *settings, const struct octavo_engine *e,
                                          struct octavo_error *error)
{
	size_t n = settings->draft_vocab;
	if (n == 1 || n > e->config.vocab)
		return octavo_fail(error, OCTAVO_EINVAL, "draft_vocab: %zu is not 0 (all tokens) or 2 to %zu, the vocabulary", n,
		                   e->config.vocab);
	return OCTAVO_OK;
}

void octavo_draftable_carve(struct octavo_arena *a, struct octavo_session *s)
{
	const struct octavo_engine *e = s->engine;
	size_t below = s->settings.draft_vocab;
	if (!below || below >= e->choosable)
		return;
	size_t others = e->choosable - below, room = others < OCTAVO_DRAFT_OTHERS ? others : OCTAVO_DRAFT_OTHERS;
	size_t bytes = room * e->config.hidden * octavo_dtype_size(e->weights.head.dtype);
	struct octavo_draftable *d = octavo_carve(a, 1, sizeof *d);
	int32_t *token = octavo_carve(a, room, sizeof *token);
	void *weights = octavo_carve(a, bytes, 1);
	float *logits = octavo_carve(a, OCTAVO_MAX_DRAFT * room, sizeof *logits);
	if (!a->base)
		return;
	*d = (struct octavo_draftable){ .below = below, .choosable = e->choosable, .token = token, .room = room,
		                        .weights = weights, .bytes = bytes, .logits = logits };
	s->draftable = d;
}

/* The token becomes the last. */
static void take(struct octavo_draftable *d, int32_t token)
{
	size_t at = 0;
	if (token < 0 || (size_t)token < d->below || (size_t)token >= d->choosable)
		return;
	while (at < d->count && d->token[at] != token)
		at++;
	if (at == d->count && d->count < d->room)
		d->count++;
	else if (at == d->count)
		at = 0;
	memmove(d->token + at, d->token + at + 1, (d->count - at - 1) * sizeof *d->token);
	d->token[d->count - 1] = token;
}

void octavo_draftable_begin(struct octavo_draftable *d, const struct octavo_config *config)
{
	d->count = d->taken = 0;
	for (size_t i = 0; i < config->eos_count; i++)
		take(d, config->eos[i]);
}

void octavo_draftable_take(struct octavo_draftable *d, const int32_t *text, size_t length)
{
	for (; d->taken < length; d->taken++)
		take(d, text[d->taken]);
}
