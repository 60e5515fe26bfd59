/* SPDX-License-Identifier: Apache-2.0
 *
 * A checkpoint that the engine's loader has read: config, files and weights.
 */
#ifndef OCTAVO_TEST_LOADED_H
#define OCTAVO_TEST_LOADED_H

#include "engine/load/load.h"
#include "tests/support/ckpt.h"

struct loaded {
	char *dir;
	struct octavo_config config;
	struct octavo_checkpoint *checkpoint;
	struct octavo_weights weights;
	struct octavo_error error;
};

/* What is in a directory; unload it, whatever the status. */
enum octavo_status load_dir(struct loaded *l, const char *dir);
/* The same, written to a directory of its own. */
enum octavo_status load(struct loaded *l, const struct ckpt *ckpt);
void unload(struct loaded *l);

/* Each writes and frees the checkpoint; `text` is the whole message. */
void expect_good(struct ckpt *ckpt);
void expect_bad(struct ckpt *ckpt, enum octavo_status wanted, const char *text);

/* The tiny model with one MTP module. */
struct ckpt *tiny(void);

#endif
