/* SPDX-License-Identifier: Apache-2.0
 *
 * The multi-token prediction module (DeepSeek-V3 report, section 2.2): from the hidden state of position i and
 * the token at i + 1 it predicts the token at i + 2.  Checkpoints put the embedding first in eh_proj's input,
 * the opposite of the report's equation 21.
 */
#include "engine/internal.h"

#include "kernels/fpenv.h"

#include <string.h>

/* The first rows' cache entries, which depend on the layer's input alone; the others' inputs move up. */
static void store_quiet_rows(struct octavo_engine *e, const struct octavo_mtp *mtp, size_t module,
                             const struct octavo_mtp_batch *b)
{
	struct octavo_work *s = &e->work;
	size_t hidden = e->config.hidden, quiet = b->logits_from;
	octavo_geometry_run(e, b->seq, b->pos, quiet);
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_ATTENTION);
	octavo_norm_rows(e, s->normed, hidden, s->x, mtp->layer.input_norm, quiet, hidden, e->config.norm_eps);
	octavo_mla_store(e, &mtp->layer, e->config.layers + module);
	octavo_phase_end(e->profiler, OCTAVO_PHASE_ATTENTION);
	memmove(s->x, s->x + quiet * hidden, (b->rows - quiet) * hidden * sizeof *s->x);
}

enum octavo_status octavo_mtp_forward(struct octavo_engine *e, size_t module, const struct octavo_mtp_batch *b,
                                      struct octavo_error *error)
{
	size_t rows = b->rows, slots = b->pos + rows + (b->parent ? b->first - 1 : 0);
	if (rows == 0 || rows > e->settings.max_rows || slots > e->kv.slots)
		return octavo_fail(error, OCTAVO_ELIMIT, "MTP: %zu rows at position %zu do not fit", rows, b->pos);
	const struct octavo_mtp *mtp = &e->weights.mtp[module];
	struct octavo_work *s = &e->work;
	size_t hidden = e->config.hidden;
	float eps = e->config.norm_eps;
	octavo_fpenv saved = octavo_fpenv_enter();
	e->last_rows = 0; /* the main forward's rows share this scratch */
	for (size_t row = 0; row < rows; row++)
		octavo_embed(e, b->next[row], s->y + row * hidden);
	octavo_norm_rows(e, s->wide, 2 * hidden, s->y, mtp->enorm, rows, hidden, eps);
	octavo_norm_rows(e, s->wide + hidden, 2 * hidden, b->g, mtp->hnorm, rows, hidden, eps);
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_DENSE);
	octavo_linear(e, &mtp->eh_proj, s->wide, rows, s->x);
	octavo_phase_end(e->profiler, OCTAVO_PHASE_DENSE);
	if (b->logits_from)
		store_quiet_rows(e, mtp, module, b);
	rows -= b->logits_from;
	if (b->parent)
		octavo_geometry_nodes(e, b->seq, b->pos, b->parent, b->first, rows);
	else
		octavo_geometry_run(e, b->seq, b->pos + b->logits_from, rows);
	octavo_block(e, &mtp->layer, e->config.layers + module);
	memcpy(e->mtp_hidden[OCTAVO_TAP_PRE_NORM], s->x, rows * hidden * sizeof *s->x);
	octavo_norm_rows(e, e->mtp_hidden[OCTAVO_TAP_POST_NORM], hidden, s->x, mtp->head_norm, rows, hidden, eps);
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_HEAD);
	octavo_linear(e, &e->weights.head, e->mtp_hidden[OCTAVO_TAP_POST_NORM], rows, e->mtp_logits);
	octavo_phase_end(e->profiler, OCTAVO_PHASE_HEAD);
	octavo_fpenv_leave(saved);
	return OCTAVO_OK;
}
