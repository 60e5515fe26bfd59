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

static bool encode_prompt(struct prompt *p, struct octavo_engine *engine, const char *path, size_t line)
{
	struct octavo_error error;
	size_t length = strlen(p->text), context = octavo_engine_model(engine)->context;
	p->token = calloc(length + 1, sizeof *p->token); /* a byte makes at most one token; one more for BOS */
	if (!p->token) {
		complain("%s:%zu: out of memory", path, line);
		return false;
	}
	if (octavo_encode(engine, p->text, length, OCTAVO_ENCODE_BOS, p->token, length + 1, &p->tokens, &error) != OCTAVO_OK) {
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

static bool parse_line(struct prompt *p, const char *text, size_t length, const char *path, size_t line)
{
	json_error_t why;
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

/* Where a prompt comes in the mixed order. */
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

/* Two prompts of each category in turn: what is measured before the time is up shows all categories, and the even and the
 * odd prompts have equal shares of each. */
static bool mix(struct prompts *p)
{
	struct place *place = calloc(p->count, sizeof *place);
	if (!place) {
		complain("out of memory");
		return false;
	}
	for (size_t i = 0; i < p->count; i++) {
		size_t before = 0, first = i;
		for (size_t j = i; j--;)
			if (!strcmp(p->item[j].category, p->item[i].category)) {
				before++;
				first = j;
			}
		place[i] = (struct place){ p->item[i], before / 2, first, i };
	}
	qsort(place, p->count, sizeof *place, compare_places);
	for (size_t i = 0; i < p->count; i++)
		p->item[i] = place[i].prompt;
	free(place);
	return true;
}

bool prompts_load(struct prompts *out, const char *path, struct octavo_engine *engine, size_t limit)
{
	*out = (struct prompts){ 0 };
	FILE *file = fopen(path, "rb");
	if (!file) {
		complain("%s: cannot open: %s", path, strerror(errno));
		return false;
	}
	char *text = NULL;
	size_t room = 0, line = 0;
	ssize_t length;
	bool good = true;
	while (good && (!limit || out->count < limit) && (length = getline(&text, &room, file)) >= 0) {
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
		out->item[out->count] = (struct prompt){ 0 };
		struct prompt *p = &out->item[out->count++];
		good = parse_line(p, text, (size_t)length, path, line) && encode_prompt(p, engine, path, line);
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
	fclose(file);
	good = good && mix(out);
	if (!good)
		prompts_free(out);
	return good;
}

void prompts_free(struct prompts *p)
{
	for (size_t i = 0; i < p->count; i++) {
		free(p->item[i].id);
		free(p->item[i].category);
		free(p->item[i].text);
		free(p->item[i].token);
	}
	free(p->item);
	*p = (struct prompts){ 0 };
}
