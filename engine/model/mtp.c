/* SPDX-License-Identifier: Apache-2.0
 *
 * The multi-token prediction module (DeepSeek-V3 report, section 2.2): from the hidden state of position i and
 * the token at i + 1 it predicts the token at i + 2.  Checkpoints put the embedding first in eh_proj's input,
 * the opposite of the report's equation 21.  EAGLE's head (Li et al., arXiv 2401.15077) is the same without the norms
 * around it.
 */
#include "engine/internal.h"

#include "kernels/fpenv.h"

#include <string.h>

/* The first rows' cache entries; the others' inputs move up. */
static void store_quiet_rows(struct octavo_engine *e, const struct octavo_mtp *module, const struct octavo_mtp_batch *b)
{
	float *x = e->work.x;
	size_t hidden = e->config.hidden, quiet = b->logits_from;
	octavo_geometry_run(e, b->kv, b->seq, b->pos, quiet);
	octavo_block_store(e, &module->layer, b->layer);
	memmove(x, x + quiet * hidden, (b->rows - quiet) * hidden * sizeof *x);
}

/* The layer's input: x = eh_proj [enorm(embedding) | hnorm(state)]. */
static void enter(struct octavo_engine *e, const struct octavo_mtp *module, const struct octavo_mtp_batch *b)
{
	struct octavo_work *s = &e->work;
	size_t hidden = e->config.hidden;
	float eps = e->config.norm_eps;
	for (size_t row = 0; row < b->rows; row++)
		octavo_embed(e, b->next[row], s->y + row * hidden);
	octavo_norm_rows(e, s->wide, 2 * hidden, s->y, module->enorm, b->rows, hidden, eps);
	octavo_norm_rows(e, s->wide + hidden, 2 * hidden, b->g, module->hnorm, b->rows, hidden, eps);
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_DENSE);
	octavo_linear(e, &module->eh_proj, s->wide, b->rows, s->x);
	for (size_t i = 0; module->bias && i < b->rows * hidden; i++)
		s->x[i] += module->bias[i % hidden];
	octavo_phase_end(e->profiler, OCTAVO_PHASE_DENSE);
}

enum octavo_status octavo_mtp_forward(struct octavo_engine *e, const struct octavo_mtp *module,
                                      const struct octavo_mtp_batch *b, struct octavo_error *error)
{
	size_t rows = b->rows, slots = b->pos + rows + (b->parent ? b->first - 1 : 0);
	if (rows == 0 || rows > e->settings.max_rows || slots > b->kv->slots)
		return octavo_fail(error, OCTAVO_ELIMIT, "MTP: %zu rows at position %zu do not fit", rows, b->pos);
	struct octavo_work *s = &e->work;
	size_t hidden = e->config.hidden;
	octavo_fpenv saved = octavo_fpenv_enter();
	e->last_rows = 0; /* the main forward's rows share this scratch */
	enter(e, module, b);
	if (b->logits_from)
		store_quiet_rows(e, module, b);
	rows -= b->logits_from;
	if (b->parent)
		octavo_geometry_nodes(e, b->kv, b->seq, b->pos, b->parent, b->first, rows);
	else
		octavo_geometry_run(e, b->kv, b->seq, b->pos + b->logits_from, rows);
	octavo_block(e, &module->layer, b->layer);
	memcpy(e->mtp_hidden[OCTAVO_TAP_PRE_NORM], s->x, rows * hidden * sizeof *s->x);
	octavo_norm_rows(e, e->mtp_hidden[OCTAVO_TAP_POST_NORM], hidden, s->x, module->head_norm, rows, hidden,
	                 e->config.norm_eps);
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_HEAD);
	octavo_linear(e, &e->weights.head, e->mtp_hidden[OCTAVO_TAP_POST_NORM], rows, e->mtp_logits);
	octavo_phase_end(e->profiler, OCTAVO_PHASE_HEAD);
	octavo_fpenv_leave(saved);
	return OCTAVO_OK;
}
