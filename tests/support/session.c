/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

struct octavo_session *open_session(struct octavo_engine *e, const struct octavo_session_settings *settings)
{
	struct octavo_session *s;
	struct octavo_error error;
	if (octavo_session_open(&s, e, settings, &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
	return s;
}

struct octavo_drafter *open_drafter(struct octavo_engine *e, const char *spec, const int32_t *text)
{
	struct octavo_error error = { "" };
	struct octavo_drafter *d;
	if (octavo_drafter_open(&d, spec, e, 0, &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
	d->ops->begin(d, text);
	return d;
}

void finish(struct octavo_session *s, struct output *out)
{
	const int32_t *token;
	size_t count;
	struct octavo_error error;
	out->count = 0;
	do {
		if (octavo_session_step(s, &token, &count, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		assert_true(out->count + count <= MOST_TOKENS);
		memcpy(out->token + out->count, token, count * sizeof *token);
		out->count += count;
	} while (count);
	out->stats = *octavo_session_stats(s);
	assert_int_equal(out->stats.emitted, out->count);
}

void decode(struct octavo_engine *e, const struct octavo_session_settings *settings, const int32_t *prompt,
            size_t length, struct output *out)
{
	struct octavo_error error;
	struct octavo_session *s = open_session(e, settings);
	if (octavo_session_prompt(s, prompt, length, &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
	finish(s, out);
	octavo_session_close(&s);
}

void finish_together(struct octavo_session **s, size_t count, const struct output *alone)
{
	enum { MOST = 8 };
	size_t emitted[MOST] = { 0 };
	struct octavo_error error;
	assert_true(count <= MOST);
	for (size_t more = 1; more;) {
		struct octavo_emitted got[MOST];
		more = 0;
		if (octavo_sessions_step(s, count, got, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		for (size_t i = 0; i < count; i++) {
			more += got[i].count;
			assert_true(emitted[i] + got[i].count <= alone[i].count);
			assert_memory_equal(got[i].token, alone[i].token + emitted[i], got[i].count * sizeof *got[i].token);
			emitted[i] += got[i].count;
		}
	}
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(emitted[i], alone[i].count);
		octavo_session_close(&s[i]);
	}
}

void expect_same(const struct output *plain, const struct output *got, const char *what)
{
	assert_int_equal(plain->count, got->count);
	for (size_t i = 0; i < plain->count; i++)
		if (plain->token[i] != got->token[i])
			fail_msg("%s: token %zu is %d instead of %d", what, i, got->token[i], plain->token[i]);
	assert_int_equal(plain->stats.finish, got->stats.finish);
}
