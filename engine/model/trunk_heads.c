/* SPDX-License-Identifier: Apache-2.0
 *
 * Parallel heads (Gloeckle et al., arXiv 2404.19737): each one decoder layer on the residual stream that the main model's
 * last layer leaves, then the main model's final norm and head.  Head i's law at position s is that of token s + 2 + i.
 */
#include "engine/internal.h"

#include "kernels/fpenv.h"

#include <string.h>

/* Rows [first, end) of a share become the scratch's next rows. */
static void place(struct octavo_engine *e, const struct octavo_share *s, size_t first, size_t end)
{
	size_t hidden = e->config.hidden;
	memcpy(e->work.x + e->geometry.rows * hidden, s->state + first * hidden, (end - first) * hidden * sizeof(float));
	octavo_geometry_add(e, s, first, end - first);
}

/* The entries of all rows but those whose laws are wanted. */
static void store_quiet_rows(struct octavo_engine *e, const struct octavo_layer *layer, size_t head,
                             const struct octavo_share *shares)
{
	for (const struct octavo_share *s = shares; s; s = s->beside)
		place(e, s, 0, s->rows - (head < s->heads));
	if (e->geometry.rows)
		octavo_block_store(e, layer, head);
}

/* What comes out behind the others goes to the shares' places for this head. */
static void run_last_rows(struct octavo_engine *e, const struct octavo_layer *layer, size_t head,
                          const struct octavo_share *shares)
{
	const float *x = e->work.x;
	size_t hidden = e->config.hidden;
	for (const struct octavo_share *s = shares; s; s = s->beside)
		if (head < s->heads)
			place(e, s, s->rows - 1, s->rows);
	if (!e->geometry.rows)
		return;
	octavo_block(e, layer, head);
	for (const struct octavo_share *s = shares; s; s = s->beside) {
		if (head >= s->heads)
			continue;
		memcpy(e->mtp_hidden[OCTAVO_TAP_PRE_NORM] + (s->result + head) * hidden, x, hidden * sizeof *x);
		x += hidden;
	}
}

enum octavo_status octavo_trunk_heads(struct octavo_engine *e, const struct octavo_layer *head, size_t heads,
                                      struct octavo_kv *kv, struct octavo_share *shares, struct octavo_error *error)
{
	size_t hidden = e->config.hidden, wanted = 0;
	const float *pre = e->mtp_hidden[OCTAVO_TAP_PRE_NORM];
	float *post = e->mtp_hidden[OCTAVO_TAP_POST_NORM];
	enum octavo_status status = octavo_shares_check(e, kv, shares, error);
	for (struct octavo_share *s = shares; s; s = s->beside) {
		s->result = wanted;
		s->laws = s->heads;
		wanted += s->laws;
	}
	if (status == OCTAVO_OK && wanted > e->settings.max_rows)
		status = octavo_fail(error, OCTAVO_ELIMIT, "heads: %zu laws wanted, the engine has %zu rows", wanted,
		                     e->settings.max_rows);
	if (status != OCTAVO_OK)
		return status;
	octavo_fpenv saved = octavo_fpenv_enter();
	e->last_rows = 0; /* the main forward's rows share this scratch */
	for (size_t i = 0; i < heads; i++) {
		octavo_geometry_begin(e, kv);
		store_quiet_rows(e, &head[i], i, shares);
		octavo_geometry_begin(e, kv);
		run_last_rows(e, &head[i], i, shares);
	}
	if (wanted) { /* all heads meet the vocabulary in one product */
		octavo_norm_rows(e, post, hidden, pre, e->weights.final_norm, wanted, hidden, e->config.norm_eps);
		octavo_phase_begin(e->profiler, OCTAVO_PHASE_HEAD);
		octavo_draft_head(e, &e->weights.head, post, wanted, octavo_shares_draftable(e, shares), e->mtp_logits);
		octavo_phase_end(e->profiler, OCTAVO_PHASE_HEAD);
	}
	octavo_fpenv_leave(saved);
	return OCTAVO_OK;
}
