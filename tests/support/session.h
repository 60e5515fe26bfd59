/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests that decode: a session from its settings to its last token.
 */
#ifndef OCTAVO_TEST_SESSION_H
#define OCTAVO_TEST_SESSION_H

#include "engine/session.h"
#include "tests/support/model.h"

enum { MOST_TOKENS = 256 };

struct output {
	int32_t token[MOST_TOKENS];
	size_t count;
	struct octavo_session_stats stats;
};

/* Tests that run with both kinds of KV cache have a state that is not NULL for FP8. */
static inline enum octavo_kv_format cache_of(void **state)
{
	return *state ? OCTAVO_KV_FP8 : OCTAVO_KV_BF16;
}

/* Each fails the test with the library's error text. */
struct octavo_session *open_session(struct octavo_engine *e, const struct octavo_session_settings *settings);
/* In sequence 0, begun with the text, of which it sees what is committed. */
struct octavo_drafter *open_drafter(struct octavo_engine *e, const char *spec, const int32_t *text);
/* Steps until nothing more comes. */
void finish(struct octavo_session *s, struct output *out);
void decode(struct octavo_engine *e, const struct octavo_session_settings *settings, const int32_t *prompt,
            size_t length, struct output *out);
/* Steps `count` sessions side by side until nothing more comes: each has to emit what it emitted alone.  Closes them. */
void finish_together(struct octavo_session **s, size_t count, const struct output *alone);
void expect_same(const struct output *plain, const struct output *got, const char *what);

#endif
