/* SPDX-License-Identifier: Apache-2.0
 *
 * --record: every verification as a line of JSON; README.md says what is in it.
 */
#include "bench/runs.h"

#include "octavo_fp8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a, 64 bits, over the tokens as 32-bit little-endian integers. */
static uint64_t hash_tokens(const int32_t *token, size_t count)
{
	uint64_t hash = 0xcbf29ce484222325u;
	for (size_t i = 0; i < count; i++)
		for (unsigned shift = 0; shift < 32; shift += 8) {
			hash ^= (uint32_t)token[i] >> shift & 0xff;
			hash *= 0x100000001b3u;
		}
	return hash;
}

static json_t *integers(const int32_t *value, size_t count)
{
	json_t *all = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(all, json_integer(value[i]));
	return all;
}

/* x[count] as BF16, little-endian, in base 64 (RFC 4648, padded); NULL without memory. */
static json_t *base64_bf16(const float *x, size_t count)
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t bytes = 2 * count, used = 0;
	char *text = malloc((bytes + 2) / 3 * 4 + 1);
	if (!text)
		return NULL;
	for (size_t at = 0; at < bytes; at += 3) {
		uint32_t group = 0;
		for (size_t i = at; i < at + 3; i++) {
			uint32_t half = i < bytes ? octavo_bf16_encode(x[i / 2]) : 0;
			group = group << 8 | (half >> (i % 2 ? 8 : 0) & 0xff);
		}
		for (size_t i = 0; i < 4; i++) /* a group of n bytes has n + 1 digits */
			text[used++] = i <= bytes - at ? digit[group >> (18 - 6 * i) & 63] : '=';
	}
	text[used] = 0;
	json_t *string = json_string(text);
	free(text);
	return string;
}

bool record_open(struct recorder *r, const struct options *o)
{
	*r = (struct recorder){ .path = o->record, .hidden = o->record_hidden };
	r->file = fopen(o->record, "w");
	if (!r->file) {
		complain("%s: cannot write: %s", r->path, strerror(errno));
		return false;
	}
	setvbuf(r->file, NULL, _IOFBF, 1 << 18); /* a line, hidden state included */
	return true;
}

/* The part that is the verification's own. */
static json_t *verification(const struct octavo_session_round *round)
{
	const struct octavo_outcome *outcome = round->outcome;
	json_t *path = json_array(), *choice = json_array();
	for (size_t i = 0; i < outcome->accepted; i++) {
		json_array_append_new(path, json_integer(outcome->path[i]));
		json_array_append_new(choice, json_integer(round->draft.token[outcome->path[i]]));
	}
	json_array_append_new(choice, json_integer(outcome->next));
	return json_pack("{s:o, s:o, s:o, s:o, s:I, s:I}", "draft",
	                 integers(round->draft.token + 1, round->draft.rows - 1), "parents",
	                 integers(round->draft.parent + 1, round->draft.rows - 1), "path", path, "choice", choice,
	                 "accepted", (json_int_t)outcome->accepted, "emitted", (json_int_t)round->emitted);
}

bool record_step(struct recorder *r, const struct run *run, const struct prompt *prompt,
                 const struct octavo_session *session)
{
	struct octavo_session_round round;
	char hash[17];
	if (octavo_session_last(session, &round) != OCTAVO_OK) {
		complain("prompt %s: nothing to record", prompt->id);
		return false;
	}
	snprintf(hash, sizeof hash, "%016" PRIx64, hash_tokens(round.context, round.length));
	json_t *line = json_pack("{s:s, s:s, s:s?, s:s, s:f, s:I, s:I, s:s}", "prompt", prompt->id,
	                         "drafter", run->drafter,
	                         "k", run_is_plain(run) ? NULL : run->shape, "rule", run->accept.text,
	                         "temperature", run->temperature, "batch", (json_int_t)run->batch,
	                         "position", (json_int_t)round.length, "context", hash);
	json_t *rest = verification(&round);
	bool good = line && rest && json_object_update(line, rest) == 0;
	json_decref(rest);
	if (good && octavo_session_stats(session)->steps == 1)
		json_object_set_new(line, "prompt_tokens", integers(prompt->token, prompt->tokens));
	if (good && r->hidden) {
		json_t *state = base64_bf16(round.hidden, r->width);
		good = state && json_object_set_new(line, "hidden", state) == 0;
	}
	/* Each line at once, so that what ends this process leaves whole ones. */
	good = good && json_dumpf(line, r->file, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0 &&
	       putc('\n', r->file) != EOF && fflush(r->file) == 0;
	json_decref(line);
	r->lines += good;
	if (!good)
		complain("%s: cannot write: %s", r->path, strerror(errno));
	return good;
}

bool record_close(struct recorder *r)
{
	if (!r->file)
		return true;
	bool good = fclose(r->file) == 0;
	r->file = NULL;
	if (!good)
		complain("%s: cannot write: %s", r->path, strerror(errno));
	return good;
}
