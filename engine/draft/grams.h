/* SPDX-License-Identifier: Apache-2.0
 *
 * A pool of n-grams, found by their first token, the latest first.  It holds the last OCTAVO_GRAMS of them: older ones
 * are forgotten.
 */
#ifndef OCTAVO_GRAMS_H
#define OCTAVO_GRAMS_H

#include <stddef.h>
#include <stdint.h>

enum { OCTAVO_GRAMS = 4096 };

struct octavo_grams {
	size_t n, vocab;
	size_t count;    /* that were ever put in: the i-th, from 1, lies at i % OCTAVO_GRAMS */
	int32_t *token;  /* [OCTAVO_GRAMS][n] */
	size_t *before;  /* [OCTAVO_GRAMS] the one with the same first token before it; 0: none */
	size_t *latest;  /* [vocab] of each first token; 0: none */
};

/* n >= 2.  0, or -1 if out of memory, and then nothing needs to be closed. */
int octavo_grams_open(struct octavo_grams *g, size_t n, size_t vocab);
void octavo_grams_close(struct octavo_grams *g);
void octavo_grams_clear(struct octavo_grams *g);

/* token[n], each in [0, vocab). */
void octavo_grams_put(struct octavo_grams *g, const int32_t *token);
/* The latest n-gram that begins with `first`, or the one before n-gram `i`; 0: there is none, any more. */
size_t octavo_grams_latest(const struct octavo_grams *g, int32_t first);
size_t octavo_grams_before(const struct octavo_grams *g, size_t i);
/* The tokens [n] of n-gram i. */
const int32_t *octavo_grams_token(const struct octavo_grams *g, size_t i);

#endif
