/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over whole contexts, inside: attend.c cuts the work, attend_part.c does a piece of it.
 */
#ifndef OCTAVO_ATTEND_PARTS_H
#define OCTAVO_ATTEND_PARTS_H

#include "octavo_kernels.h"

enum { ATTEND_BLOCK = 256 }; /* queries of one kernel call: more no longer fit the cache beside their probabilities */

/* A task's scratch. */
struct attend_task {
	float *m, *l;            /* [ATTEND_BLOCK] */
	float *o;                /* [ATTEND_BLOCK][v_dim] */
	float *p;                /* [ATTEND_BLOCK][512] */
	size_t *end;             /* [ATTEND_BLOCK] */
	uint16_t *entry;         /* [512][latent + rope] bf16: a segment of an FP8 cache, or of a path to be expanded */
	uint16_t *keys, *values; /* [512][k_dim], [512][v_dim] bf16: a head's, expanded */
	/* What is in `entry`: this segment of this sequence, as row `row` sees it */
	size_t sequence, segment, row;
};

/* One segment of one sequence, for one head of keys and values. */
struct attend_part {
	const struct octavo_kernels *k;
	const struct octavo_attend *a;
	size_t sequence, segment, head;
	float *m, *l, *o; /* the head's queries: where the merged ones are, or, `alone`, where this segment's go */
	int alone;
};

static inline size_t attend_smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The sizes of a latent cache's entries. */
static inline size_t attend_latent(const struct octavo_attend *a)
{
	return a->kv_b ? a->kv_b->cols : a->v_dim;
}

static inline size_t attend_rope(const struct octavo_attend *a)
{
	return a->kv_b ? a->k_dim - (a->kv_b->rows / a->kv_heads - a->v_dim) : a->k_dim - a->v_dim;
}

/* Queries [q0, q1) of the part's [rows][group]. */
void octavo_attend_part_run(const struct attend_part *part, struct attend_task *task, size_t q0, size_t q1);

/* Divides the row's queries [q0, q1) by their sums if no segment behind `segment` is left for it. */
void octavo_attend_settle(const struct attend_part *part, size_t row, size_t q0, size_t q1);

#endif
