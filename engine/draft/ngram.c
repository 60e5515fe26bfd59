/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompt lookup: what followed the latest earlier occurrence of the last few tokens is proposed again
 * (A. Saxena, Prompt Lookup Decoding, 2023).  Longer matches are tried first.
 */
#include "engine/draft/drafter.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST = 5, SHORTEST = 2 };

struct octavo_drafter {
	size_t length, cap;
	int32_t *token; /* [cap] the whole sequence, the next, not yet committed token included */
};

static enum octavo_status open_ngram(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                     struct octavo_error *error)
{
	(void)sequence;
	struct octavo_drafter *d = calloc(1, sizeof *d);
	if (d)
		d->token = calloc(d->cap = e->settings.max_context + 1, sizeof *d->token);
	if (!d || !d->token) {
		free(d);
		return octavo_fail(error, OCTAVO_ENOMEM, "drafter ngram: out of memory");
	}
	*out = d;
	return OCTAVO_OK;
}

static void close_ngram(struct octavo_drafter *d)
{
	if (!d)
		return;
	free(d->token);
	free(d);
}

static void begin_ngram(struct octavo_drafter *d)
{
	d->length = 0;
}

static enum octavo_status commit_ngram(struct octavo_drafter *d, size_t pos, const int32_t *token,
                                       const uint32_t *row, size_t count, struct octavo_error *error)
{
	(void)row;
	if (pos + count + 1 > d->cap)
		return octavo_fail(error, OCTAVO_ELIMIT, "drafter ngram: the context is full");
	memcpy(d->token + pos, token, (count + 1) * sizeof *token);
	d->length = pos + count + 1;
	return OCTAVO_OK;
}

/* The end of the latest earlier occurrence of the last n tokens, or 0. */
static size_t find(const struct octavo_drafter *d, size_t n)
{
	const int32_t *suffix = d->token + d->length - n;
	for (size_t end = d->length - 1; end >= n; end--)
		if (!memcmp(d->token + end - n, suffix, n * sizeof *suffix))
			return end;
	return 0;
}

static enum octavo_status draft_ngram(struct octavo_drafter *d, size_t k, int32_t *token, size_t *count,
                                      struct octavo_error *error)
{
	(void)error;
	*count = 0;
	for (size_t n = LONGEST; n >= SHORTEST; n--) {
		if (n >= d->length)
			continue;
		size_t end = find(d, n);
		if (!end)
			continue;
		/* A match that overlaps the end goes on with what it has just proposed. */
		for (size_t i = 0; i < k; i++)
			token[i] = end + i < d->length ? d->token[end + i] : token[end + i - d->length];
		*count = k;
		break;
	}
	return OCTAVO_OK;
}

const struct octavo_drafter_ops octavo_drafter_ngram = {
	"ngram", 4, open_ngram, close_ngram, begin_ngram, commit_ngram, draft_ngram,
};
