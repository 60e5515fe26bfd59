/* SPDX-License-Identifier: Apache-2.0
 *
 * Parallel heads (Gloeckle et al., arXiv 2404.19737): each one decoder layer on the residual stream that the main model's
 * last layer leaves, then the main model's final norm and head.  Head i's law at position s is that of token s + 2 + i.
 */
#include "engine/internal.h"

#include "kernels/fpenv.h"

#include <string.h>

/* Positions [first, end) of the batch become the scratch's rows. */
static void place(struct octavo_engine *e, const struct octavo_trunk_batch *b, size_t first, size_t end)
{
	size_t hidden = e->config.hidden;
	memcpy(e->work.x, b->x + first * hidden, (end - first) * hidden * sizeof *b->x);
	octavo_geometry_run(e, b->kv, 0, b->pos + first, end - first);
}

enum octavo_status octavo_trunk_heads(struct octavo_engine *e, const struct octavo_layer *head, size_t heads,
                                      const struct octavo_trunk_batch *b, struct octavo_error *error)
{
	size_t hidden = e->config.hidden, most = e->settings.max_rows;
	float *pre = e->mtp_hidden[OCTAVO_TAP_PRE_NORM], *post = e->mtp_hidden[OCTAVO_TAP_POST_NORM];
	if (b->rows == 0 || b->rows > most || b->pos + b->rows > b->kv->slots || b->wanted > most || b->wanted > heads)
		return octavo_fail(error, OCTAVO_ELIMIT, "heads: %zu rows at position %zu do not fit", b->rows, b->pos);
	octavo_fpenv saved = octavo_fpenv_enter();
	e->last_rows = 0; /* the main forward's rows share this scratch */
	for (size_t i = 0; i < heads; i++) {
		size_t quiet = b->rows - (i < b->wanted);
		if (quiet) {
			place(e, b, 0, quiet);
			octavo_block_store(e, &head[i], i);
		}
		if (quiet == b->rows)
			continue;
		place(e, b, quiet, b->rows);
		octavo_block(e, &head[i], i);
		memcpy(pre + i * hidden, e->work.x, hidden * sizeof *pre);
	}
	if (b->wanted) { /* all heads meet the vocabulary in one product */
		octavo_norm_rows(e, post, hidden, pre, e->weights.final_norm, b->wanted, hidden, e->config.norm_eps);
		octavo_phase_begin(e->profiler, OCTAVO_PHASE_HEAD);
		octavo_linear(e, &e->weights.head, post, b->wanted, e->mtp_logits);
		octavo_phase_end(e->profiler, OCTAVO_PHASE_HEAD);
	}
	octavo_fpenv_leave(saved);
	return OCTAVO_OK;
}
