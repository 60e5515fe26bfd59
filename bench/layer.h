/* SPDX-License-Identifier: Apache-2.0
 *
 * `specbench layer`: one decoder layer of DeepSeek-V3 in full size, with synthetic weights.
 */
#ifndef OCTAVO_LAYER_H
#define OCTAVO_LAYER_H

#include "bench/bench.h"

#include <limits.h>

/* DeepSeek-V3's layer (arXiv 2412.19437, section 4.2). */
enum {
	V3_HIDDEN = 7168,
	V3_HEADS = 128,
	V3_Q_LORA = 1536,
	V3_KV_LORA = 512,
	V3_NOPE = 128,
	V3_ROPE = 64,
	V3_V_DIM = 128,
	V3_EXPERTS = 256,
	V3_TOP_K = 8,
	V3_EXPERT_WIDTH = 2048,
};

struct layer_plan {
	size_t experts; /* that have weights of their own; a multiple of V3_TOP_K */
	size_t context, repeats;
	size_t rows[MAX_LIST], rows_count; /* ascending, the first is 1 */
	double overlap;
	uint64_t seed;
};

/* ---- layer_routes.c: who chooses which experts ---------------------------------------------------------------
 * A token's id decides its experts, since the embedding and the router are made so.  The first tokens cover all
 * experts; then each measured step has tokens of its own. */
struct layer_routes {
	size_t tokens, cover;         /* the first `cover` tokens choose every expert once */
	uint16_t (*expert)[V3_TOP_K]; /* [tokens] distinct, below plan->experts */
};
/* False after complaining. */
bool routes_draw(struct layer_routes *r, const struct layer_plan *plan);
void routes_free(struct layer_routes *r);
/* The first token of the step that measures rows[index] in this round. */
size_t routes_step(const struct layer_routes *r, const struct layer_plan *plan, size_t round, size_t index);
/* How many different experts `rows` rows choose on average, by the law they are drawn from. */
double routes_expected(size_t rows, double overlap);

/* ---- layer_model.c: a checkpoint of that one layer ------------------------------------------------------------- */
struct layer_model {
	char dir[PATH_MAX]; /* "" when removed */
	int fd;             /* the weights: a file in memory, without a name */
	unsigned char *map; /* [bytes] */
	size_t bytes;
	size_t attention_bytes, expert_bytes, router_bytes; /* what a forward reads: all, of one expert, all */
};
/* Makes the directory that an engine can open, and the weights; false after complaining, with all removed. */
bool model_make(struct layer_model *m, const struct layer_plan *plan, const struct layer_routes *routes,
                const struct octavo_parallel *parallel);
/* Removes the directory: an open engine keeps the weights. */
void model_unlink(struct layer_model *m);
void model_free(struct layer_model *m);

/* ---- layer_report.c ---------------------------------------------------------------------------------------------- */

/* What was measured at one row count. */
struct layer_cell {
	double *attention, *experts, *whole; /* [repeats] ns */
	double *gbs;                         /* [repeats] of the experts */
	double expert_union;                 /* mean over the steps */
};

struct layer_bench {
	const struct layer_plan *plan;
	struct machine machine;
	struct layer_cell cell[MAX_LIST]; /* per plan->rows */
	struct octavo_summary read_gbs;
	size_t bytes, attention_bytes, expert_bytes, router_bytes;
};
void layer_print(const struct layer_bench *b);
json_t *layer_json(const struct layer_bench *b);

#endif
