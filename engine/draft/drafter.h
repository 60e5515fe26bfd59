/* SPDX-License-Identifier: Apache-2.0
 *
 * What proposes tokens.  One file per method; a session holds one drafter.
 *
 * The session tells a drafter everything that became certain: for every committed position i, in order and
 * without gaps, the token at i, the one after it, and the main model's hidden state of i.
 */
#ifndef OCTAVO_DRAFTER_H
#define OCTAVO_DRAFTER_H

#include "engine/internal.h"

struct octavo_drafter;

struct octavo_drafter_ops {
	const char *name;
	unsigned default_k;
	enum octavo_status (*open)(struct octavo_drafter **out, struct octavo_engine *engine, size_t sequence,
	                           struct octavo_error *error);
	void (*close)(struct octavo_drafter *drafter);
	/* A new prompt starts at position 0. */
	void (*begin)(struct octavo_drafter *drafter);
	/* Positions [pos, pos + count) are committed: token[i] is the one at pos + i, token[count] the next, not yet
	 * committed one.  Hidden states are those of rows row[i] of the engine's last forward. */
	enum octavo_status (*commit)(struct octavo_drafter *drafter, size_t pos, const int32_t *token,
	                             const uint32_t *row, size_t count, struct octavo_error *error);
	/* Up to k tokens that may follow the next, not yet committed one; *count may be less, 0 included. */
	enum octavo_status (*draft)(struct octavo_drafter *drafter, size_t k, int32_t *token, size_t *count,
	                            struct octavo_error *error);
};

extern const struct octavo_drafter_ops octavo_drafter_none;
extern const struct octavo_drafter_ops octavo_drafter_mtp;
extern const struct octavo_drafter_ops octavo_drafter_ngram;

/* NULL if there is none of that name. */
const struct octavo_drafter_ops *octavo_drafter_find(const char *name);

#endif
