/* SPDX-License-Identifier: Apache-2.0
 *
 * One measurement of `specbench kernels`: what is asked for, what was timed.
 */
#ifndef OCTAVO_KERNEL_BENCH_H
#define OCTAVO_KERNEL_BENCH_H

#include "bench/kernel_ops.h"

struct plan {
	const struct op *op;
	const char *isa; /* NULL: see all_sets */
	const char *backend; /* in place of the sets; NULL: none */
	bool all_sets;   /* else the one that the table chooses */
	size_t shape[MAX_LIST][2], shapes;
	size_t rows[MAX_LIST], rows_count;
	size_t repeats, pool_bytes;
	double seconds; /* stop a shape's rounds after this long; 0: never */
};

struct sets {
	struct kernel_set set[MAX_SETS];
	size_t count;
	struct octavo_kernels reference;
};

struct cell {
	size_t calls; /* at once */
	double *ns;   /* [repeats] per call */
	struct octavo_summary time;
};

struct bench {
	const struct plan *plan;
	struct machine *machine;
	struct octavo_parallel parallel;
	unsigned char *pool; /* [pool_bytes] */
	size_t at;           /* byte of the pool that the next call or read begins with */
	struct sets sets;
	struct work work[MAX_LIST];           /* one per row count */
	struct cell cell[MAX_SETS][MAX_LIST]; /* [sets][rows] */
	size_t rounds;                        /* measured of this shape */
	double *read;                         /* [loops][repeats] GB/s */
	struct octavo_summary read_gbs;       /* of the loop with the best median */
};

/* The backend that this set stands for; NULL for a set of ours, which a backend's comes beside. */
static inline const char *backend_of(const struct bench *b, size_t set)
{
	return set == b->sets.count - 1 ? b->plan->backend : NULL;
}

/* kernels_peers.c: measures, prints and appends to array; an exit status. */
int peers_measure(const struct plan *plan, const struct machine *machine, json_t *array);

/* kernel_report.c: the text before all shapes and for one of them; the JSON of one kernel at one row count. */
void kernels_print_head(const struct bench *b);
void kernels_print_shape(const struct bench *b);
json_t *kernels_row_json(const struct bench *b, size_t set, size_t row);

#endif
