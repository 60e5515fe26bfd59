/* SPDX-License-Identifier: Apache-2.0
 *
 * Stop strings (Knuth, Morris, Pratt, SIAM J. Comput. 6, 1977, one automaton per string).
 */
#include "engine/stop.h"

#include "fp8/error.h"

enum octavo_status octavo_stops_check(const struct octavo_stop *stop, size_t count, struct octavo_error *error)
{
	if (count && !stop)
		return octavo_fail(error, OCTAVO_EINVAL, "stop: %zu strings, but no list", count);
	for (size_t i = 0; i < count; i++)
		if (!stop[i].text || !stop[i].length || stop[i].length > UINT32_MAX)
			return octavo_fail(error, OCTAVO_EINVAL, "stop: string %zu is empty, or of 4 GiB and more", i);
	return OCTAVO_OK;
}

void octavo_stopper_carve(struct octavo_arena *a, struct octavo_stopper *s)
{
	size_t bytes = 0;
	for (size_t i = 0; i < s->count; i++)
		if (__builtin_add_overflow(bytes, s->stop[i].length, &bytes))
			a->overflow = 1;
	s->border = octavo_carve(a, bytes, sizeof *s->border);
	s->matched = octavo_carve(a, s->count, sizeof *s->matched);
}

/* The longest beginning of `stop` that ends with `byte`, if `matched` bytes of it, fewer than all, stood before. */
static uint32_t advance(const struct octavo_stop *stop, const uint32_t *border, uint32_t matched, char byte)
{
	while (matched && stop->text[matched] != byte)
		matched = border[matched - 1];
	return matched + (stop->text[matched] == byte);
}

void octavo_stopper_open(struct octavo_stopper *s)
{
	uint32_t *border = s->border;
	for (size_t i = 0; i < s->count; border += s->stop[i++].length) {
		border[0] = 0;
		for (size_t at = 1; at < s->stop[i].length; at++)
			border[at] = advance(&s->stop[i], border, border[at - 1], s->stop[i].text[at]);
	}
	octavo_stopper_begin(s);
}

void octavo_stopper_begin(struct octavo_stopper *s)
{
	for (size_t i = 0; i < s->count; i++)
		s->matched[i] = 0;
}

int octavo_stopper_feed(struct octavo_stopper *s, const char *text, size_t length, size_t *used, size_t *which)
{
	for (size_t at = 0; at < length; at++) {
		const uint32_t *border = s->border;
		size_t longest = 0;
		for (size_t i = 0; i < s->count; border += s->stop[i++].length) {
			s->matched[i] = advance(&s->stop[i], border, s->matched[i], text[at]);
			if (s->matched[i] < s->stop[i].length || s->stop[i].length <= longest)
				continue;
			longest = s->stop[i].length;
			*which = i;
		}
		*used = at + 1;
		if (longest)
			return 1;
	}
	return 0;
}

size_t octavo_stopper_held(const struct octavo_stopper *s)
{
	size_t held = 0;
	for (size_t i = 0; i < s->count; i++)
		if (s->matched[i] > held)
			held = s->matched[i];
	return held;
}
