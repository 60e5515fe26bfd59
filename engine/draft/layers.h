/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafters' files that hold decoder layers of the main model's kind: EAGLE's head, parallel heads.
 */
#ifndef OCTAVO_LAYERS_H
#define OCTAVO_LAYERS_H

#include "engine/draft/files.h"
#include "engine/load/bind.h"
#include "engine/load/fields.h"

/* Layers, and the rows of all sessions that they leave: layer i's in layer i of the cache. */
struct octavo_draft_layers {
	struct octavo_draft_files base;
	struct octavo_layer *layer; /* [count] */
	size_t count;
	struct octavo_kv kv;
};

/* What a drafter's files hold besides. */
struct octavo_draft_layers_format {
	struct octavo_draft_format base; /* of a struct that begins with octavo_draft_layers */
	const char *stem; /* layer i's tensors are STEM.i.* */
	/* Reads and checks what else config.json says. */
	void (*read)(struct octavo_fields *fields, const struct octavo_config *config);
	/* Room for vectors, and before the layers the other tensors; NULL: there are none. */
	void (*carve)(struct octavo_arena *arena, struct octavo_draft_layers *layers, const struct octavo_config *config);
	void (*bind)(struct octavo_binder *b, struct octavo_draft_layers *layers);
};

/* The format's load() and release().  EFORMAT or ENOTSUP, by field and reason, unless the layers are dense and fit the
 * model: same hidden size, vocabulary, attention and rotation. */
enum octavo_status octavo_draft_layers_load(struct octavo_draft_files *files, struct octavo_engine *engine,
                                            struct octavo_error *error);
void octavo_draft_layers_release(struct octavo_draft_files *files);

#endif
