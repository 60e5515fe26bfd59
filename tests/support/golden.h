/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests against the oracle (tests/oracle): golden tensors read from a safetensors file by a reader that shares
 * nothing with the engine's, and the measures by which outputs are compared with them.
 */
#ifndef OCTAVO_TEST_GOLDEN_H
#define OCTAVO_TEST_GOLDEN_H

#include <stddef.h>
#include <stdint.h>

struct golden;

/* Reads the whole file.  NULL if it cannot be opened (a test then skips).  A file that is there but broken ends the
 * program with a message: it is part of the source tree. */
struct golden *golden_open(const char *path);
void golden_close(struct golden *golden);

/* Tensors are rows x cols; one of rank 1 has one column.  NULL if there is no such tensor; a dtype other than the
 * one asked for ends the program.  The values live as long as the golden. */
const float *golden_f32(const struct golden *golden, const char *name, size_t *rows, size_t *cols);
const int32_t *golden_i32(const struct golden *golden, const char *name, size_t *count);

/* |x - reference| / |reference| over n values, in double; NaN where x has one. */
double golden_relative_l2(const float *x, const float *reference, size_t n);

/* KL(softmax(reference) || softmax(x)) in nats, of two rows of n logits. */
double golden_kl(const float *x, const float *reference, size_t n);

/* Index of the largest of n logits, ties to the lowest; *margin gets its distance to the second largest. */
size_t golden_top(const float *x, size_t n, double *margin);

/* One row or many against the golden, in the figures of tests/data/faults.json. */
struct golden_distance {
	double relative_l2;
	double kl;           /* of the worst row */
	size_t top1_changed; /* rows whose best token differs although the golden's margin exceeds `margin` */
};
struct golden_distance golden_compare(const float *x, const float *reference, size_t rows, size_t cols, double margin);

#endif
