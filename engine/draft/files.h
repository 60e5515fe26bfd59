/* SPDX-License-Identifier: Apache-2.0
 *
 * What drafters read from directories of their own.  It is opened once per engine and shared by the drafters of all its
 * sessions.  A drafter's own struct begins with octavo_draft_files:
 *
 *     struct heads { struct octavo_draft_files base; struct octavo_matrix head; };
 *     static const struct octavo_draft_format format = { "medusa", sizeof(struct heads), load, NULL };
 *     status = octavo_draft_files_open(&files, engine, &format, dir, error);
 *
 * where load() reads config.json (octavo_json_load and engine/load/fields.h, or octavo_config_load), compares its sizes
 * with the model's (octavo_draft_fits), opens base.checkpoint (octavo_draft_checkpoint) and binds its tensors
 * (engine/load/bind.h), vectors into memory at base.arena.
 */
#ifndef OCTAVO_FILES_H
#define OCTAVO_FILES_H

#include "engine/internal.h"

struct octavo_draft_files {
	struct octavo_draft_files *next; /* of the engine's */
	const struct octavo_draft_format *format;
	char *dir;
	struct octavo_checkpoint *checkpoint; /* NULL or what load() opened: closed with the rest */
	void *arena;                          /* NULL or from malloc: freed with the rest */
};

struct octavo_draft_format {
	const char *drafter;
	size_t size; /* of the drafter's own struct */
	/* Fills `files`, which is zeroed apart from format and dir; after a failure release() is called as well. */
	enum octavo_status (*load)(struct octavo_draft_files *files, struct octavo_engine *engine,
	                           struct octavo_error *error);
	void (*release)(struct octavo_draft_files *files); /* whatever else it holds; NULL: nothing */
};

/* The files of `dir` in this format: those that the engine has, or they are loaded now.  They live until the engine is
 * closed. */
enum octavo_status octavo_draft_files_open(struct octavo_draft_files **out, struct octavo_engine *engine,
                                           const struct octavo_draft_format *format, const char *dir,
                                           struct octavo_error *error);
/* All of the engine's. */
void octavo_draft_files_close(struct octavo_engine *engine);

/* Opens files->checkpoint: mapped or copied, as the engine's own weights are. */
enum octavo_status octavo_draft_checkpoint(struct octavo_draft_files *files, struct octavo_engine *engine,
                                           struct octavo_error *error);

/* EFORMAT if config.json's hidden_size or vocab_size is not the model's. */
enum octavo_status octavo_draft_fits(const struct octavo_engine *engine, size_t hidden, size_t vocab,
                                     struct octavo_error *error);

#endif
