/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCTAVO_LAW_H
#define OCTAVO_LAW_H

#include "octavo_verify.h"

/* Whether a law needs the tokens in order of their mass. */
static inline int octavo_law_truncates(const struct octavo_sampling *s, size_t vocab)
{
	return (s->top_k && s->top_k < vocab) || (s->top_p > 0.0f && s->top_p < 1.0f);
}

#endif
