/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafters' files that hold decoder layers of the main model's kind, with MLA: EAGLE's head, parallel heads.
 */
#ifndef OCTAVO_LAYERS_H
#define OCTAVO_LAYERS_H

#include "engine/draft/files.h"
#include "engine/load/bind.h"
#include "engine/load/fields.h"

/* Reads config.json, then `read` what else it says.  EFORMAT or ENOTSUP, by field and reason, unless its layers are dense
 * and fit the model: same hidden size, vocabulary, attention and rotation. */
enum octavo_status octavo_draft_layers_config(struct octavo_config *config, const struct octavo_draft_files *files,
                                              const struct octavo_engine *engine,
                                              void (*read)(struct octavo_fields *fields, struct octavo_config *config),
                                              struct octavo_error *error);
/* Opens the tensors.  `config` must live as long as the binder. */
enum octavo_status octavo_draft_layers_begin(struct octavo_binder *b, struct octavo_draft_files *files,
                                             struct octavo_engine *engine, const struct octavo_config *config,
                                             struct octavo_error *error);
/* Memory for what was measured: `arena` begins again, with a base. */
enum octavo_status octavo_draft_layers_allocate(struct octavo_draft_files *files, struct octavo_arena *arena,
                                                struct octavo_error *error);
/* All tensors below `stem`.`index`. */
void octavo_draft_layer_bind(struct octavo_binder *b, struct octavo_layer *layer, const char *stem, size_t index);
/* Refuses what was not bound, and makes room for the layers in the engine's scratch. */
void octavo_draft_layers_end(struct octavo_binder *b, struct octavo_engine *engine);

#endif
