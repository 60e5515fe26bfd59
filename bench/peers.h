/* SPDX-License-Identifier: Apache-2.0
 *
 * Other libraries' matrix products in the formats that suit them best, to stand beside ours.
 *
 * They know no FP8 blocks, so their weights are the values of the codes, converted and packed beforehand, without
 * block scales; the time that takes is not counted, the bytes are.
 */
#ifndef OCTAVO_PEERS_H
#define OCTAVO_PEERS_H

#include "octavo_kernels.h"

/* What a peer is to do: y[m][n] = sum_k x[m][k] * w[n][k], on `threads` threads. */
struct peer_task {
	size_t m, n, k, threads;
	const struct octavo_parallel *parallel; /* for a library that has no threads of its own */
	const uint16_t *x;                      /* [m][k] bf16 */
};

struct peer_plan; /* a peer's own */

struct peer_library {
	const char *name;    /* "onednn" */
	const char *package; /* what brings it */
	/* Prepares for a task, which outlives the plan; NULL with the reason in *why. */
	struct peer_plan *(*open)(const struct peer_task *task, struct octavo_error *why);
	void (*close)(struct peer_plan *plan);
	const char *(*format)(const struct peer_plan *plan); /* of the weights: "BF16, blocked" */
	size_t (*bytes)(const struct peer_plan *plan);       /* of the packed weights */
	/* Packs w [n][k], 64-byte aligned `to`; 0 or -1. */
	int (*pack)(struct peer_plan *plan, const uint16_t *w /* bf16 */, void *to);
	int (*run)(struct peer_plan *plan, const void *packed, float *y /* [m][n] */); /* 0 or -1 */
};

/* What the modules specbench-<name>.so define under the name PEER_MODULE_SYMBOL. */
enum { PEER_MODULE_VERSION = 1 };
#define PEER_MODULE_SYMBOL "specbench_peer_module"
struct peer_module {
	uint32_t version; /* PEER_MODULE_VERSION */
	const struct peer_library *library;
};

/* peer_blas.c: libraries that are loaded when they are asked for. */
extern const struct peer_library peer_openblas, peer_blis;

#endif
