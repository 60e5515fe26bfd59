/* SPDX-License-Identifier: Apache-2.0
 *
 * What is done to logits before they become a law: bias, and penalties for what the row's own prefix holds.
 */
#include "engine/verify/law.h"

#include <string.h>

/* seen[token]: occurrences after the prompt, and whether the prompt has it */
#define IN_PROMPT 0x80000000u

static void see(uint32_t *seen, size_t vocab, int32_t token)
{
	if (token >= 0 && (size_t)token < vocab) /* others have no logit to penalise */
		seen[token]++;
}

static void count(const struct octavo_prefix *prefix, size_t vocab, uint32_t *seen)
{
	memset(seen, 0, vocab * sizeof *seen);
	for (size_t i = prefix->prompt; i < prefix->count; i++)
		see(seen, vocab, prefix->token[i]);
	const struct octavo_draft *draft = prefix->draft; /* its root is the last committed token, counted already */
	for (size_t row = draft ? prefix->row : 0; row; row = (size_t)draft->parent[row])
		see(seen, vocab, draft->token[row]);
	for (size_t i = 0; i < prefix->prompt && i < prefix->count; i++)
		if (prefix->token[i] >= 0 && (size_t)prefix->token[i] < vocab)
			seen[prefix->token[i]] |= IN_PROMPT;
}

static float penalised(const struct octavo_sampling *s, float logit, uint32_t seen)
{
	float times = (float)(seen & ~IN_PROMPT);
	if (s->repetition != 0.0f)
		logit = logit > 0.0f ? logit / s->repetition : logit * s->repetition;
	logit -= s->frequency * times;
	return times > 0.0f ? logit - s->presence : logit;
}

void octavo_adjust(const struct octavo_sampling *s, const struct octavo_prefix *prefix, const float *logits,
                   size_t vocab, double *adjusted, uint32_t *order)
{
	for (size_t i = 0; i < vocab; i++)
		adjusted[i] = (double)logits[i];
	for (size_t i = 0; i < s->biases; i++) {
		double *at = &adjusted[s->bias[i].token];
		*at = (double)((float)*at + s->bias[i].bias);
	}
	if (!octavo_law_penalises(s))
		return;
	count(prefix, vocab, order);
	for (size_t i = 0; i < vocab; i++)
		if (order[i])
			adjusted[i] = (double)penalised(s, (float)adjusted[i], order[i]);
}
