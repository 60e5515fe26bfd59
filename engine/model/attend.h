/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention of a chain's rows over all segments of their context: what MLA and grouped-query attention share.
 */
#ifndef OCTAVO_ATTEND_H
#define OCTAVO_ATTEND_H

#include "engine/internal.h"

enum { OCTAVO_CHAIN_ROWS = 8 }; /* rows of a chain that share one read of the cache */

/* Views into one thread's scratch, for up to OCTAVO_CHAIN_ROWS rows of `heads` heads. */
struct octavo_attend {
	float *o[2]; /* [OCTAVO_CHAIN_ROWS][heads][v_dim] running, and of this segment */
	float *m[2]; /* [OCTAVO_CHAIN_ROWS][heads] */
	float *l[2]; /* [OCTAVO_CHAIN_ROWS][heads] */
	size_t *end; /* [OCTAVO_CHAIN_ROWS][heads] */
	float *p;    /* [OCTAVO_CHAIN_ROWS][heads][512] */
};
void octavo_attend_carve(struct octavo_arena *arena, struct octavo_attend *s, size_t heads, size_t v_dim);

/* How many rows from `row` on are one chain of the same form, at most OCTAVO_CHAIN_ROWS. */
size_t octavo_chain_length(const struct octavo_geometry *g, size_t row);

/* Attention of a chain's `rows` rows from `row` on, `heads` heads each, over all segments; s->o[0] gets the
 * quotients [rows][heads][v_dim].  `a` brings queries [rows][heads], keys and values; rows that end before a segment
 * take no part in it. */
void octavo_attend(const struct octavo_engine *e, struct octavo_attend *s, struct octavo_attention a, size_t row,
                   size_t rows, size_t heads);

#endif
