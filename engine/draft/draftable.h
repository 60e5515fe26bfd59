/* SPDX-License-Identifier: Apache-2.0
 *
 * What a draft may hold where drafters' heads are not evaluated for all tokens: the vocabulary's first, which byte-level
 * BPE makes the frequent ones, in the order of its merges, and what the text has held of the others, since texts repeat
 * themselves.  Verification has the whole head, so no token of the output is lost by that (FR-Spec, Zhao et al., arXiv
 * 2502.14856; there the frequent tokens are counted beforehand).
 */
#ifndef OCTAVO_DRAFTABLE_H
#define OCTAVO_DRAFTABLE_H

#include "engine/session.h"

/* Whether what the settings ask for can be done. */
enum octavo_status octavo_draftable_check(const struct octavo_session_settings *settings, const struct octavo_engine *e,
                                          struct octavo_error *error);
/* Sets s->draftable, unless all tokens may be drafted. */
void octavo_draftable_carve(struct octavo_arena *arena, struct octavo_session *s);
/* A new text: of the others, those that may end it. */
void octavo_draftable_begin(struct octavo_draftable *d, const struct octavo_config *config);
/* The text is now text[length]: takes in what came to it.  Where there is no more room, the token goes that was not in
 * the text for longest. */
void octavo_draftable_take(struct octavo_draftable *d, const int32_t *text, size_t length);

#endif
