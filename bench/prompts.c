/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompt files: one JSON object per line.
 */
#include "bench/runs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char *copy_string(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? strdup(text) : NULL;
}

static bool encode_prompt(struct prompt *p, struct octavo_engine *engine, const char *path)
{
	struct octavo_error error;
	size_t line = p->line, length = strlen(p->text), context = octavo_engine_model(engine)->context;
	p->token = calloc(length + 1, sizeof *p->token); /* a byte makes at most one token; one more for BOS */
	if (!p->token) {
		complain("%s:%zu: out of memory", path, line);
		return false;
	}
	if (octavo_encode(engine, p->text, length, OCTAVO_ENCODE_BOS, p->token, length + 1, &p->tokens, &error) !=
	    OCTAVO_OK) {
		complain("%s:%zu: %s", path, line, error.text);
		return false;
	}
	if (!p->tokens || p->tokens >= context) {
		complain("%s:%zu: text: %zu tokens; 1 to %zu fit the context of %zu (--context)", path, line, p->tokens,
		         context - 1, context);
		return false;
	}
	return true;
}

static bool parse_line(struct prompt *p, const char *text, size_t length, const char *path)
{
	json_error_t why;
	size_t line = p->line;
	json_t *object = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
	if (!object) {
		complain("%s:%zu: not JSON: %s", path, line, why.text);
		return false;
	}
	p->id = copy_string(object, "id");
	p->category = copy_string(object, "category");
	p->text = copy_string(object, "text");
	json_decref(object);
	if (!p->text || !*p->text) {
		complain("%s:%zu: text: missing, empty or not a string", path, line);
		return false;
	}
	if (!p->id || !p->category) {
		complain("%s:%zu: %s: missing or not a string", path, line, p->id ? "category" : "id");
		return false;
	}
	return true;
}

static bool is_blank(const char *text)
{
	return text[strspn(text, " \t\r\n")] == 0;
}

/* ---- The mixed order -------------------------------------------------------------------------------------------- */

/* Where a prompt comes in it. */
struct place {
	struct prompt prompt;
	size_t turn, category, index;
};

static int compare_places(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	if (x->turn != y->turn)
		return x->turn < y->turn ? -1 : 1;
	if (x->category != y->category)
		return x->category < y->category ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

/* Two prompts of each category in turn: what is measured before the time is up, or within the limit, shows all
 * categories, and the even and the odd prompts have equal shares of each. */
static bool mix(struct prompts *p)
{
	struct place *place = calloc(p->count, sizeof *place);
	size_t *first = calloc(p->count, sizeof *first), *seen = calloc(p->count, sizeof *seen); /* [categories] */
	bool good = place && first && seen;
	for (size_t i = 0, categories = 0; good && i < p->count; i++) {
		size_t c = 0;
		while (c < categories && strcmp(p->item[first[c]].category, p->item[i].category))
			c++;
		if (c == categories)
			first[categories++] = i;
		place[i] = (struct place){ p->item[i], seen[c]++ / 2, c, i };
	}
	if (good)
		qsort(place, p->count, sizeof *place, compare_places);
	else
		complain("out of memory");
	for (size_t i = 0; good && i < p->count; i++)
		p->item[i] = place[i].prompt;
	free(place);
	free(first);
	free(seen);
	return good;
}

/* ---- The file --------------------------------------------------------------------------------------------------- */

static bool read_lines(struct prompts *out, FILE *file, const char *path)
{
	char *text = NULL;
	size_t room = 0, line = 0;
	ssize_t length;
	bool good = true;
	while (good && (length = getline(&text, &room, file)) >= 0) {
		line++;
		if (is_blank(text))
			continue;
		struct prompt *grown = realloc(out->item, (out->count + 1) * sizeof *grown);
		if (!grown) {
			complain("%s: out of memory", path);
			good = false;
			break;
		}
		out->item = grown;
		out->item[out->count] = (struct prompt){ .line = line };
		good = parse_line(&out->item[out->count++], text, (size_t)length, path);
	}
	if (good && ferror(file)) {
		complain("%s: cannot read: %s", path, strerror(errno));
		good = false;
	}
	if (good && !out->count) {
		complain("%s: no prompts in it", path);
		good = false;
	}
	free(text);
	return good;
}

static void free_prompt(struct prompt *p)
{
	free(p->id);
	free(p->category);
	free(p->text);
	free(p->token);
}

bool prompts_load(struct prompts *out, const char *path, struct octavo_engine *engine, size_t limit)
{
	*out = (struct prompts){ 0 };
	FILE *file = fopen(path, "rb");
	if (!file) {
		complain("%s: cannot open: %s", path, strerror(errno));
		return false;
	}
	bool good = read_lines(out, file, path) && mix(out);
	fclose(file);
	while (limit && out->count > limit)
		free_prompt(&out->item[--out->count]);
	for (size_t i = 0; good && i < out->count; i++)
		good = encode_prompt(&out->item[i], engine, path);
	if (!good)
		prompts_free(out);
	return good;
}

void prompts_free(struct prompts *p)
{
	for (size_t i = 0; i < p->count; i++)
		free_prompt(&p->item[i]);
	free(p->item);
	*p = (struct prompts){ 0 };
}
