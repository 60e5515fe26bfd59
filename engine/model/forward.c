/* SPDX-License-Identifier: Apache-2.0
 *
 * The main model's pass over a batch: embedding, layers, final norm, head.
 */
#include "engine/internal.h"

#include "kernels/fpenv.h"

#include <string.h>

void octavo_embed(const struct octavo_engine *e, int32_t token, float *x)
{
	const struct octavo_matrix *embed = &e->weights.embed;
	for (size_t i = 0; i < embed->cols; i++)
		x[i] = octavo_matrix_value(embed, (size_t)token, i);
}

static void remember(struct octavo_engine *e, const struct octavo_batch *b)
{
	e->last_rows = b->rows;
	for (size_t row = 0; row < b->rows; row++) {
		e->last_seq[row] = b->seq[row];
		e->last_pos[row] = (size_t)b->pos[row];
		e->last_parent[row] = b->parent[row];
	}
}

/* Logits of the rows that want them, packed; ids without a token can never win. */
static void head(struct octavo_engine *e, const struct octavo_batch *b)
{
	size_t hidden = e->config.hidden, vocab = e->config.vocab, wanted = 0;
	float *packed = e->work.normed;
	for (size_t row = 0; row < b->rows; row++) {
		e->logit_row[row] = -1;
		if (!(b->flags[row] & OCTAVO_ROW_LOGITS))
			continue;
		memcpy(packed + wanted * hidden, e->hidden[OCTAVO_TAP_POST_NORM] + row * hidden, hidden * sizeof *packed);
		e->logit_row[row] = (int32_t)wanted++;
	}
	if (!wanted)
		return;
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_HEAD);
	octavo_linear(e, &e->weights.head, packed, wanted, e->logits);
	for (size_t i = 0; i < wanted; i++)
		for (size_t id = e->choosable; id < vocab; id++)
			e->logits[i * vocab + id] = -__builtin_inff();
	octavo_phase_end(e->profiler, OCTAVO_PHASE_HEAD);
}

enum octavo_status octavo_forward(struct octavo_engine *e, const struct octavo_batch *b, struct octavo_error *error)
{
	if (!e || !b || !b->token || !b->pos || !b->seq || !b->parent || !b->flags)
		return octavo_fail(error, OCTAVO_EINVAL, "forward: a null argument");
	enum octavo_status status = octavo_geometry_of(e, b, error);
	if (status != OCTAVO_OK)
		return status;
	octavo_fpenv saved = octavo_fpenv_enter();
	size_t hidden = e->config.hidden;
	remember(e, b);
	e->expert_union = e->expert_rows = 0;
	for (size_t row = 0; row < b->rows; row++)
		octavo_embed(e, b->token[row], e->work.x + row * hidden);
	for (size_t layer = 0; layer < e->config.layers; layer++) {
		octavo_block(e, &e->weights.layer[layer], layer);
		if (e->observe)
			e->observe(e->observe_context, layer, e->work.x, b->rows);
	}
	memcpy(e->hidden[OCTAVO_TAP_PRE_NORM], e->work.x, b->rows * hidden * sizeof *e->work.x);
	octavo_norm_rows(e, e->hidden[OCTAVO_TAP_POST_NORM], hidden, e->work.x, e->weights.final_norm, b->rows, hidden,
	                 e->config.norm_eps);
	head(e, b);
	octavo_fpenv_leave(saved);
	return OCTAVO_OK;
}

const float *octavo_logits(const struct octavo_engine *e, size_t row)
{
	if (!e || row >= e->last_rows || e->logit_row[row] < 0)
		return NULL;
	return e->logits + (size_t)e->logit_row[row] * e->config.vocab;
}

void octavo_forward_experts(const struct octavo_engine *e, size_t *distinct, size_t *rows)
{
	if (distinct)
		*distinct = e ? e->expert_union : 0;
	if (rows)
		*rows = e ? e->expert_rows : 0;
}

const float *octavo_hidden(const struct octavo_engine *e, size_t row, enum octavo_tap tap)
{
	if (!e || row >= e->last_rows)
		return NULL;
	return e->hidden[tap == OCTAVO_TAP_PRE_NORM ? OCTAVO_TAP_PRE_NORM : OCTAVO_TAP_POST_NORM] +
	       row * e->config.hidden;
}
