/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/text/text.h"

#include "fp8/error.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

/* What one run of the splits needs from PCRE2. */
struct matcher {
	pcre2_match_data *data;
	pcre2_match_context *context;
};

static enum octavo_status no_memory(struct octavo_error *error)
{
	return octavo_fail(error, OCTAVO_ENOMEM, "text: out of memory for its pieces");
}

static enum octavo_status add_piece(struct octavo_pieces *list, size_t start, size_t end, int match,
                                    struct octavo_error *error)
{
	if (list->count == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 64;
		struct octavo_piece *grown = realloc(list->piece, cap * sizeof *grown);
		if (!grown)
			return no_memory(error);
		list->piece = grown;
		list->cap = cap;
	}
	list->piece[list->count++] = (struct octavo_piece){start, end, match};
	return OCTAVO_OK;
}

void octavo_pieces_free(struct octavo_pieces *pieces)
{
	free(pieces->own);
	free(pieces->piece);
	*pieces = (struct octavo_pieces){0};
}

/* ---- One split over one piece ------------------------------------------------------------------------------ */

/* *found says whether there is a match at or after `from`. */
static enum octavo_status match_once(const struct octavo_split *split, const struct matcher *matcher, const char *text,
                                     size_t length, size_t from, int *found, struct octavo_error *error)
{
	int rc = pcre2_match(split->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, matcher->data,
	                     matcher->context);
	if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
		rc = pcre2_match(split->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
		                 matcher->data, matcher->context);
	*found = rc >= 0;
	if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH)
		return OCTAVO_OK;
	char reason[256];
	pcre2_get_error_message(rc, (PCRE2_UCHAR *)reason, sizeof reason);
	return octavo_fail(error, rc == PCRE2_ERROR_NOMEMORY ? OCTAVO_ENOMEM : OCTAVO_ELIMIT,
	                   "%s: on a text of %zu bytes: %s", split->where, length, reason);
}

/* Cuts text[start, end) into matches and what lies between them, as Oniguruma's find_iter would: a match of no
 * characters counts unless the match before ended there. */
static enum octavo_status find_matches(const struct octavo_split *split, const struct matcher *matcher,
                                       const char *text, size_t start, size_t end, struct octavo_pieces *out,
                                       struct octavo_error *error)
{
	const PCRE2_SIZE *range = pcre2_get_ovector_pointer(matcher->data);
	size_t cut = start;         /* everything before is in a piece */
	size_t last_end = SIZE_MAX; /* of the match before */
	enum octavo_status status = OCTAVO_OK;
	for (size_t from = start; !status && from < end;) {
		int found;
		status = match_once(split, matcher, text + start, end - start, from - start, &found, error);
		if (status || !found)
			break;
		size_t left = start + range[0], right = start + range[1];
		if (left == right && right == last_end) {
			from = right + (size_t)utf8proc_utf8class[(unsigned char)text[right]];
			continue;
		}
		if (cut < left)
			status = add_piece(out, cut, left, split->invert, error);
		if (!status)
			status = add_piece(out, left, right, !split->invert, error);
		cut = last_end = from = right;
	}
	if (!status && cut < end)
		status = add_piece(out, cut, end, split->invert, error);
	return status;
}

/* Joins or drops the pieces from index `first` on, as the split's behaviour wants. */
static void apply_behavior(enum octavo_split_behavior behavior, struct octavo_pieces *list, size_t first)
{
	size_t kept = first;
	int previous_match = -1; /* neither, before the first */
	for (size_t i = first; i < list->count; i++) {
		struct octavo_piece *piece = &list->piece[i], now = *piece;
		int join = behavior == OCTAVO_SPLIT_CONTIGUOUS
		                   ? now.match == previous_match
		                   : behavior == OCTAVO_SPLIT_MERGED_WITH_PREVIOUS && now.match && previous_match == 0;
		previous_match = now.match;
		if (join)
			list->piece[kept - 1].end = now.end;
		else if (behavior == OCTAVO_SPLIT_MERGED_WITH_NEXT && now.match && i + 1 < list->count &&
		         !piece[1].match)
			piece[1].start = now.start;
		else if (behavior != OCTAVO_SPLIT_REMOVED || !now.match)
			list->piece[kept++] = now;
	}
	list->count = kept;
}

/* Not before the joins: an empty match has neighbours, too. */
static void drop_empty(struct octavo_pieces *list)
{
	size_t kept = 0;
	for (size_t i = 0; i < list->count; i++)
		if (list->piece[i].start < list->piece[i].end)
			list->piece[kept++] = list->piece[i];
	list->count = kept;
}

/* Cuts every piece.  `spare` lends its memory and takes back what is left over. */
static enum octavo_status run_split(const struct octavo_split *split, const struct matcher *matcher,
                                    struct octavo_pieces *pieces, struct octavo_pieces *spare,
                                    struct octavo_error *error)
{
	spare->count = 0;
	for (size_t i = 0; i < pieces->count; i++) {
		size_t first = spare->count;
		enum octavo_status status = find_matches(split, matcher, pieces->text, pieces->piece[i].start,
		                                         pieces->piece[i].end, spare, error);
		if (status)
			return status;
		apply_behavior(split->behavior, spare, first);
	}
	drop_empty(spare);
	struct octavo_pieces before = *pieces;
	pieces->piece = spare->piece;
	pieces->count = spare->count;
	pieces->cap = spare->cap;
	spare->piece = before.piece;
	spare->cap = before.cap;
	return OCTAVO_OK;
}

/* Copies the pieces into a new text, with a space before each that does not begin with one. */
static enum octavo_status prefix_spaces(struct octavo_pieces *pieces, struct octavo_error *error)
{
	size_t bytes = 1;
	for (size_t i = 0; i < pieces->count; i++)
		bytes += pieces->piece[i].end - pieces->piece[i].start + 1;
	char *text = malloc(bytes), *to = text;
	if (!text)
		return no_memory(error);
	for (size_t i = 0; i < pieces->count; i++) {
		struct octavo_piece *piece = &pieces->piece[i];
		const char *from = pieces->text + piece->start;
		size_t length = piece->end - piece->start;
		piece->start = (size_t)(to - text);
		if (*from != ' ')
			*to++ = ' ';
		memcpy(to, from, length);
		to += length;
		piece->end = (size_t)(to - text);
	}
	free(pieces->own);
	pieces->text = pieces->own = text;
	return OCTAVO_OK;
}

/* ---- All of them ---------------------------------------------------------------------------------------------- */

/* PCRE2's own limit, raised for long texts: honest patterns never meet it, and the hopeless ones end. */
static uint32_t match_limit(size_t length)
{
	return length < 40000000 ? 10000000 + 100 * (uint32_t)length : UINT32_MAX;
}

static enum octavo_status open_matcher(struct matcher *matcher, size_t length, struct octavo_error *error)
{
	matcher->data = pcre2_match_data_create(1, NULL);
	matcher->context = pcre2_match_context_create(NULL);
	if (!matcher->data || !matcher->context)
		return no_memory(error);
	pcre2_set_match_limit(matcher->context, match_limit(length));
	return OCTAVO_OK;
}

enum octavo_status octavo_pretokenize(const struct octavo_pretokenizer *pretokenizer, const char *text, size_t length,
                                      struct octavo_pieces *pieces, struct octavo_error *error)
{
	struct matcher matcher = {NULL, NULL};
	struct octavo_pieces spare = {0};
	pieces->text = text;
	pieces->count = 0;
	enum octavo_status status = open_matcher(&matcher, length, error);
	if (!status && length > 0)
		status = add_piece(pieces, 0, length, 0, error);
	for (size_t i = 0; !status && i < pretokenizer->count; i++) {
		const struct octavo_split *split = &pretokenizer->split[i];
		status = split->code ? run_split(split, &matcher, pieces, &spare, error) : prefix_spaces(pieces, error);
	}
	octavo_pieces_free(&spare);
	pcre2_match_data_free(matcher.data);
	pcre2_match_context_free(matcher.context);
	return status;
}
