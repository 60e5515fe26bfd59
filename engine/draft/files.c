/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/files.h"

#include "engine/load/copy.h"

#include <stdlib.h>
#include <string.h>

static void release(struct octavo_draft_files *files)
{
	if (files->format->release)
		files->format->release(files);
	octavo_checkpoint_close(&files->checkpoint);
	free(files->arena);
	free(files->dir);
	free(files);
}

static enum octavo_status load(struct octavo_draft_files **out, struct octavo_engine *e,
                               const struct octavo_draft_format *format, const char *dir, struct octavo_error *error)
{
	struct octavo_draft_files *files = calloc(1, format->size);
	if (files) {
		files->format = format;
		files->dir = strdup(dir);
	}
	if (!files || !files->dir) {
		free(files);
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory");
	}
	enum octavo_status status = format->load(files, e, error);
	if (status != OCTAVO_OK) {
		release(files);
		return status;
	}
	files->next = e->draft_files;
	e->draft_files = *out = files;
	return OCTAVO_OK;
}

enum octavo_status octavo_draft_files_open(struct octavo_draft_files **out, struct octavo_engine *e,
                                           const struct octavo_draft_format *format, const char *dir,
                                           struct octavo_error *error)
{
	for (*out = e->draft_files; *out; *out = (*out)->next)
		if ((*out)->format == format && !strcmp((*out)->dir, dir))
			return OCTAVO_OK;
	return load(out, e, format, dir, error);
}

void octavo_draft_files_close(struct octavo_engine *e)
{
	while (e->draft_files) {
		struct octavo_draft_files *next = e->draft_files->next;
		release(e->draft_files);
		e->draft_files = next;
	}
}

enum octavo_status octavo_draft_checkpoint(struct octavo_draft_files *files, struct octavo_engine *e,
                                           struct octavo_error *error)
{
	const struct octavo_copy copy = { &octavo_numa, &e->threads };
	return octavo_checkpoint_open(&files->checkpoint, files->dir,
	                              e->settings.weights == OCTAVO_WEIGHTS_COPY ? &copy : NULL, error);
}

enum octavo_status octavo_draft_fits(const struct octavo_engine *e, size_t hidden, size_t vocab,
                                     struct octavo_error *error)
{
	if (hidden != e->config.hidden)
		return octavo_fail(error, OCTAVO_EFORMAT, "config.json: hidden_size: %zu, but the model's is %zu", hidden,
		                   e->config.hidden);
	if (vocab != e->config.vocab)
		return octavo_fail(error, OCTAVO_EFORMAT, "config.json: vocab_size: %zu, but the model's is %zu", vocab,
		                   e->config.vocab);
	return OCTAVO_OK;
}
