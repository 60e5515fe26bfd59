/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention for AMX-BF16.  All heads share one read of the cache: 32 tokens, or 32 columns of v, go into the panel
 * and meet the heads' queries, or their probabilities, which are read in place.
 */
#include "kernels/amx_panel.h"
#include "kernels/simd_softmax.h"

#include "kernels/sets.h"

/* q . k_t of all heads for up to 32 tokens from t on, into p[head][t - t0]. */
static void scores(const struct octavo_attention *a, size_t t, struct panel *p)
{
	const struct octavo_rows q = {.x = a->q, .rows = a->heads, .ld = a->ldq};
	struct panel_fold f = {.y = a->p + (t - a->t0), .ldy = OCTAVO_SEGMENT};
	const uint8_t *row[PLAIN_COLUMNS];

	f.columns = smaller(PLAIN_COLUMNS, a->t1 - t);
	for (size_t i = 0; i < PLAIN_COLUMNS; i++) /* columns without a token repeat the last one */
		row[i] = (const uint8_t *)(a->k + slot_of(a, t + smaller(i, f.columns - 1)) * a->ldk);
	for (size_t k0 = 0, k1; k0 < a->k_dim; k0 = k1) {
		k1 = k0 + smaller(PLAIN_CHUNKS * OCTAVO_CHUNK, a->k_dim - k0);
		for (size_t j = 0; j < f.columns; j += SIDE)
			for (size_t k = k0; k < k1; k += OCTAVO_CHUNK)
				fill_transposed(panel_chunk(p, j / SIDE, (k - k0) / OCTAVO_CHUNK), row + j, 2 * k,
				                k1 - k);
		f.first = k0 == 0;
		multiply_panel(p, &q, k0, k1 - k0, &f);
	}
}

/* o[head][j..j + 32) over all tokens: a segment's chunks fit one panel. */
static void weigh(const struct octavo_attention *a, const uint16_t *const *v, size_t j, struct panel *p)
{
	_Static_assert(OCTAVO_SEGMENT <= PLAIN_CHUNKS * OCTAVO_CHUNK, "a segment goes into one panel");
	const struct octavo_rows x = {.x = (const void *)a->p, .rows = a->heads, .ld = 2 * OCTAVO_SEGMENT};
	struct panel_fold f = {.y = a->o + j, .ldy = a->v_dim, .first = 1};
	const size_t tokens = a->t1 - a->t0, all = (tokens + OCTAVO_CHUNK - 1) / OCTAVO_CHUNK * OCTAVO_CHUNK;

	f.columns = smaller(PLAIN_COLUMNS, a->v_dim - j);
	for (size_t t = 0; t < all; t += 2) {
		size_t chunk = t / OCTAVO_CHUNK, i = t % OCTAVO_CHUNK / 2;
		vi even = t < tokens ? load_chunk(v[t] + j, f.columns) : vi_set1(0);
		vi odd = t + 1 < tokens ? load_chunk(v[t + 1] + j, f.columns) : vi_set1(0);
		fill_pair(panel_chunk(p, 0, chunk) + i * SIDE, panel_chunk(p, 1, chunk) + i * SIDE, even, odd);
	}
	multiply_panel(p, &x, 0, all, &f); /* probabilities are +0 to the end of the last chunk */
}

static void attention(const struct octavo_attention *a)
{
	const struct octavo_rows heads = {.rows = a->heads};
	const uint16_t *v[OCTAVO_SEGMENT];
	struct panel p;

	p.chunks = PLAIN_CHUNKS;
	panel_open(&heads);
	for (size_t t = a->t0; t < a->t1; t += PLAIN_COLUMNS)
		scores(a, t, &p);
	softmax(a);
	for (size_t t = a->t0; t < a->t1; t++)
		v[t - a->t0] = a->v + slot_of(a, t) * a->ldv;
	for (size_t j = 0; j < a->v_dim; j += PLAIN_COLUMNS)
		weigh(a, v, j, &p);
	_tile_release();
}

const struct octavo_kernels octavo_set_attention_amx = {
        .attention = OCTAVO_KERNEL(attention, attention, "amx", 1, attention),
};
