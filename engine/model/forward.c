/* SPDX-License-Identifier: Apache-2.0
 *
 * The main model's pass over a batch, or over a level of a tree: embedding, layers, final norm, head.
 */
#include "engine/internal.h"

#include "fp8/bits.h"
#include "kernels/fpenv.h"

#include <string.h>

void octavo_embed(const struct octavo_engine *e, int32_t token, float *x)
{
	const struct octavo_matrix *embed = &e->weights.embed;
	const unsigned char *row = (const unsigned char *)embed->data + (size_t)token * embed->ld * sizeof(uint16_t);
	uint16_t bits;
	for (size_t i = 0; embed->dtype == OCTAVO_BF16 && i < embed->cols; i++) { /* nearly always, and of any alignment */
		memcpy(&bits, row + i * sizeof bits, sizeof bits);
		x[i] = octavo_bf16_float(bits);
	}
	for (size_t i = 0; embed->dtype != OCTAVO_BF16 && i < embed->cols; i++)
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

/* The rows of the geometry, from embedding to logits: of drafts by `draftable`, as octavo_head has it. */
static void run(struct octavo_engine *e, const int32_t *token, const uint8_t *flags,
                const struct octavo_draftable *const *draftable)
{
	octavo_fpenv saved = octavo_fpenv_enter();
	size_t hidden = e->config.hidden, rows = e->geometry.rows;
	e->expert_union = e->expert_rows = 0;
	for (size_t row = 0; row < rows; row++)
		octavo_embed(e, token[row], e->work.x + row * hidden);
	octavo_observe(e, 0, OCTAVO_AT_EMBEDDING, e->work.x, rows, hidden);
	for (size_t layer = 0; layer < e->config.layers; layer++) {
		octavo_block(e, &e->weights.layer[layer], layer);
		octavo_observe(e, layer, OCTAVO_AT_LAYER, e->work.x, rows, hidden);
	}
	memcpy(e->hidden[OCTAVO_TAP_PRE_NORM], e->work.x, rows * hidden * sizeof *e->work.x);
	octavo_norm_rows(e, e->hidden[OCTAVO_TAP_POST_NORM], hidden, e->work.x, e->weights.final_norm, rows, hidden,
	                 e->config.norm_eps);
	octavo_observe(e, e->config.layers, OCTAVO_AT_FINAL_NORM, e->hidden[OCTAVO_TAP_POST_NORM], rows, hidden);
	for (size_t row = 0; row < rows; row++)
		e->logit_row[row] = -1;
	e->logit_rows = 0;
	octavo_head(e, rows, flags, draftable);
	octavo_fpenv_leave(saved);
}

enum octavo_status octavo_forward(struct octavo_engine *e, const struct octavo_batch *b, struct octavo_error *error)
{
	if (!e || !b || !b->token || !b->pos || !b->seq || !b->parent || !b->flags)
		return octavo_fail(error, OCTAVO_EINVAL, "forward: a null argument");
	enum octavo_status status = octavo_geometry_of(e, b, error);
	if (status != OCTAVO_OK)
		return status;
	remember(e, b);
	run(e, b->token, b->flags, NULL);
	return OCTAVO_OK;
}

enum octavo_status octavo_append(struct octavo_engine *e, size_t seq, const int32_t *token, size_t rows, uint8_t flags,
                                 uint8_t last, struct octavo_error *error)
{
	struct octavo_staging *b = &e->staging;
	for (size_t i = 0; i < rows; i++) {
		b->pos[i] = (int32_t)(e->kv.length[seq] + i);
		b->seq[i] = (int32_t)seq;
		b->parent[i] = (int32_t)i - 1;
		b->flags[i] = i + 1 < rows ? flags : flags | last;
		b->row[i] = (uint32_t)i;
	}
	struct octavo_batch batch = { rows, token, b->pos, b->seq, b->parent, b->flags };
	enum octavo_status status = octavo_forward(e, &batch, error);
	return status == OCTAVO_OK ? octavo_commit(e, (int32_t)seq, b->row, rows, error) : status;
}

enum octavo_status octavo_forward_shares(struct octavo_engine *e, struct octavo_share *shares,
                                         struct octavo_error *error)
{
	struct octavo_staging *b = &e->staging;
	size_t row = 0, results = 0;
	enum octavo_status status = octavo_shares_check(e, &e->kv, shares, error);
	if (status != OCTAVO_OK)
		return status;
	e->last_rows = 0; /* these rows are not committed as a batch's are */
	octavo_geometry_begin(e, &e->kv);
	for (struct octavo_share *s = shares; s; s = s->beside) {
		s->result = results;
		s->laws = s->rows - s->quiet;
		results += s->laws;
		octavo_geometry_add(e, s, 0, s->rows);
		for (size_t i = 0; i < s->rows; i++, row++) {
			b->token[row] = s->token[i];
			b->flags[row] = i < s->quiet ? 0 : OCTAVO_ROW_LOGITS;
		}
	}
	run(e, b->token, b->flags, octavo_shares_draftable(e, shares));
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
