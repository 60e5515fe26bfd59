/* SPDX-License-Identifier: Apache-2.0
 *
 * A batch's rows as octavo_attend_run takes them: what MLA and grouped-query attention share.
 */
#ifndef OCTAVO_ATTEND_H
#define OCTAVO_ATTEND_H

#include "engine/internal.h"

/* The sizes of the model's attention, without sequences; for MLA's naive form `kv_b` is a layer's, else NULL. */
struct octavo_attend octavo_attend_of(const struct octavo_engine *e, const struct octavo_matrix *kv_b);

/* Attention of the batch's rows of one form, from e->work.queries to e->work.seen.  Rows that lie side by side in a
 * sequence belong together; where such `rows` rows begin with row `first`, theirs begin at element first * heads * k_dim,
 * or first * heads * v_dim, and are [kv_heads][rows][heads / kv_heads][k_dim or v_dim]. */
void octavo_attend_rows(struct octavo_engine *e, struct octavo_attend *a, size_t kv_layer, int naive);

/* The same from e->work.q, [rows][heads][k_dim], to e->work.attended, [rows][heads][v_dim], where each head of keys and
 * values has its own. */
void octavo_attend_heads(struct octavo_engine *e, struct octavo_attend *a, size_t kv_layer, int naive);

#endif
