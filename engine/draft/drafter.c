/* SPDX-License-Identifier: Apache-2.0
 *
 * What a drafter is asked for by, and the one that never drafts: plain decoding.
 */
#include "engine/draft/drafter.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const struct octavo_drafter_ops *const drafters[] = {
#define DRAFTER_OPS(name) &octavo_drafter_##name,
	OCTAVO_DRAFTERS(DRAFTER_OPS)
#undef DRAFTER_OPS
};

const char *const *octavo_drafter_names(void)
{
	static const char *const names[] = {
#define DRAFTER_NAME(name) #name,
		OCTAVO_DRAFTERS(DRAFTER_NAME)
#undef DRAFTER_NAME
		NULL
	};
	return names;
}

/* ---- Specs ------------------------------------------------------------------------------------------------- */

/* One drafter of a spec. */
struct part {
	const struct octavo_drafter_ops *ops;
	const char *dir; /* [length], not terminated; NULL: none is given */
	size_t length;
};

static const struct octavo_drafter_ops *find(const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof drafters / sizeof *drafters; i++)
		if (strlen(drafters[i]->name) == length && !strncmp(drafters[i]->name, name, length))
			return drafters[i];
	return NULL;
}

/* Where the first part of a spec ends: at the first +, but in a directory only at one that a drafter's name follows. */
static const char *end_of_part(const char *spec)
{
	const char *at = spec + strcspn(spec, ":+");
	while (*at && (*at != '+' || (memchr(spec, ':', (size_t)(at - spec)) && !find(at + 1, strcspn(at + 1, ":+")))))
		at++;
	return at;
}

static enum octavo_status parse_part(struct part *part, const char *text, const char *end, struct octavo_error *error)
{
	size_t length = strcspn(text, ":+");
	*part = (struct part){ .ops = find(text, length) };
	if (!part->ops) {
		char known[256] = "";
		for (size_t i = 0, at = 0; i < sizeof drafters / sizeof *drafters && at < sizeof known; i++)
			at += (size_t)snprintf(known + at, sizeof known - at, i ? ", %s" : "%s", drafters[i]->name);
		return octavo_fail(error, OCTAVO_EINVAL,
		                   "drafter: there is none called \"%.*s\" (known: %s, and pairs such as ngram+mtp)",
		                   (int)length, text, known);
	}
	if (text[length] == ':') {
		part->dir = text + length + 1;
		part->length = (size_t)(end - part->dir);
	}
	if (part->dir && part->ops->argument == OCTAVO_NO_ARGUMENT)
		return octavo_fail(error, OCTAVO_EINVAL, "drafter %s: takes no argument, here \"%.*s\"", part->ops->name,
		                   (int)part->length, part->dir);
	if (part->dir && !part->length)
		return octavo_fail(error, OCTAVO_EINVAL, "drafter %s: needs a directory: %s:DIR", part->ops->name,
		                   part->ops->name);
	return OCTAVO_OK;
}

/* A spec's drafters, one or two.  A pair holds two different ones that draft. */
static enum octavo_status parse(struct part part[OCTAVO_MAX_SOURCES], size_t *count, const char *spec,
                                struct octavo_error *error)
{
	const char *end = end_of_part(spec);
	*count = *end ? 2 : 1;
	enum octavo_status status = parse_part(&part[0], spec, end, error);
	if (status != OCTAVO_OK || !*end)
		return status;
	status = parse_part(&part[1], end + 1, end + strlen(end), error);
	if (status != OCTAVO_OK)
		return status;
	if (end_of_part(end + 1)[0])
		return octavo_fail(error, OCTAVO_EINVAL, "drafter: \"%s\" has more than two parts", spec);
	if (part[0].ops == part[1].ops || part[0].ops == &octavo_drafter_none || part[1].ops == &octavo_drafter_none)
		return octavo_fail(error, OCTAVO_EINVAL, "drafter: \"%s\" is no pair of two different drafters", spec);
	return OCTAVO_OK;
}

int octavo_drafter_known(const char *spec, struct octavo_error *error)
{
	struct part part[OCTAVO_MAX_SOURCES];
	size_t count;
	if (!spec)
		return octavo_fail(error, OCTAVO_EINVAL, "drafter: no name") == OCTAVO_OK;
	return parse(part, &count, spec, error) == OCTAVO_OK;
}

int octavo_drafter_suits(const char *spec, enum octavo_accept rule, struct octavo_error *error)
{
	struct part part[OCTAVO_MAX_SOURCES];
	size_t count;
	int laws = 0;
	if (parse(part, &count, spec ? spec : "none", error) != OCTAVO_OK)
		return 0;
	for (size_t i = 0; i < count; i++) {
		laws |= part[i].ops->laws;
		if (rule == OCTAVO_ACCEPT_CANDIDATES && part[i].ops->watch)
			return octavo_fail(error, OCTAVO_EINVAL,
			                   "accept: the candidates rule leaves logits out, and drafter %s learns from all of its rows'",
			                   part[i].ops->name) == OCTAVO_OK;
	}
	if (rule != OCTAVO_ACCEPT_CANDIDATES || laws)
		return 1;
	return octavo_fail(error, OCTAVO_EINVAL,
	                   "accept: the candidates rule needs a drafter with laws over the tokens, which %s has not: a head, a "
	                   "model, or a pair with one",
	                   spec ? spec : "none") == OCTAVO_OK;
}

/* ---- Directories ------------------------------------------------------------------------------------------- */

/* The part's directory, which is there. */
static enum octavo_status find_directory(char path[PATH_MAX], const struct part *part, const struct octavo_engine *e,
                                         struct octavo_error *error)
{
	const char *name = part->ops->name;
	struct stat status;
	int length = part->dir ? snprintf(path, PATH_MAX, "%.*s", (int)part->length, part->dir)
	                       : snprintf(path, PATH_MAX, "%s/drafters/%s", e->model_dir, name);
	if (length < 0 || length >= PATH_MAX)
		return octavo_fail(error, OCTAVO_EINVAL, "drafter %s: the path of its directory is too long", name);
	if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
		return OCTAVO_OK;
	return octavo_fail(error, OCTAVO_EIO, "drafter %s: %s is no directory%s%s%s", name, path,
	                   part->dir ? "" : " (", part->dir ? "" : name, part->dir ? "" : ":DIR names another)");
}

int octavo_engine_feeds(const struct octavo_engine *e, const char *spec)
{
	struct part part[OCTAVO_MAX_SOURCES];
	size_t count;
	char path[PATH_MAX];
	if (!e || !spec || parse(part, &count, spec, NULL) != OCTAVO_OK)
		return 0;
	for (size_t i = 0; i < count; i++) {
		const struct octavo_drafter_ops *ops = part[i].ops;
		if ((ops->feeds && !ops->feeds(e)) ||
		    (ops->argument != OCTAVO_NO_ARGUMENT && find_directory(path, &part[i], e, NULL) != OCTAVO_OK))
			return 0;
	}
	return 1;
}

/* ---- Open and close ---------------------------------------------------------------------------------------- */

static enum octavo_status open_part(struct octavo_drafter **out, const struct part *part, struct octavo_engine *e,
                                    size_t sequence, struct octavo_error *error)
{
	char path[PATH_MAX];
	struct octavo_error reason = { "" };
	if (part->ops->argument == OCTAVO_NO_ARGUMENT)
		return part->ops->open(out, e, sequence, NULL, error);
	enum octavo_status status = find_directory(path, part, e, error);
	if (status != OCTAVO_OK)
		return status;
	status = part->ops->open(out, e, sequence, path, &reason);
	if (status != OCTAVO_OK)
		octavo_fail(error, status, "drafter %s: %.256s: %s", part->ops->name, path, reason.text);
	return status;
}

enum octavo_status octavo_drafter_open(struct octavo_drafter **out, const char *spec, struct octavo_engine *engine,
                                       size_t sequence, struct octavo_error *error)
{
	struct part part[OCTAVO_MAX_SOURCES];
	struct octavo_drafter *drafter[OCTAVO_MAX_SOURCES] = { NULL };
	size_t count;
	*out = NULL;
	enum octavo_status status = parse(part, &count, spec ? spec : "none", error);
	for (size_t i = 0; status == OCTAVO_OK && i < count; i++)
		status = open_part(&drafter[i], &part[i], engine, sequence, error);
	if (status != OCTAVO_OK) {
		octavo_drafter_close(&drafter[0]);
		return status;
	}
	if (count == 2)
		return octavo_pair_open(out, drafter[0], drafter[1], error);
	*out = drafter[0];
	return OCTAVO_OK;
}

void octavo_drafter_close(struct octavo_drafter **drafter)
{
	if (*drafter)
		(*drafter)->ops->close(*drafter);
	*drafter = NULL;
}

/* ---- The one that never drafts ----------------------------------------------------------------------------- */

static enum octavo_status open_none(struct octavo_drafter **out, struct octavo_engine *engine, size_t sequence,
                                    const char *dir, struct octavo_error *error)
{
	static struct octavo_drafter none = { .ops = &octavo_drafter_none }; /* it has no state */
	(void)engine, (void)sequence, (void)dir, (void)error;
	*out = &none;
	return OCTAVO_OK;
}

static void close_none(struct octavo_drafter *drafter)
{
	(void)drafter;
}

static void begin_none(struct octavo_drafter *drafter, const int32_t *text)
{
	(void)drafter, (void)text;
}

static enum octavo_status commit_none(struct octavo_drafter *drafter, size_t pos, const uint32_t *row, size_t count,
                                      struct octavo_error *error)
{
	(void)drafter, (void)pos, (void)row, (void)count, (void)error;
	return OCTAVO_OK;
}

const struct octavo_drafter_ops octavo_drafter_none = {
	.name = "none", .open = open_none, .close = close_none, .begin = begin_none, .commit = commit_none,
};
