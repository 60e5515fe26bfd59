/* SPDX-License-Identifier: Apache-2.0
 *
 * Multi-token prediction modules (DeepSeek-V3 report, section 2.2): from the hidden state of position i and the token
 * at i + 1 the first predicts the token at i + 2; module k, from what module k - 1 made of i and the token at i + k,
 * the token at i + k + 1.  Checkpoints put the embedding first in eh_proj's input, the opposite of the report's
 * equation 21.  EAGLE's head (Li et al., arXiv 2401.15077) is the same without the norms around it.
 */
#include "engine/internal.h"

#include "kernels/fpenv.h"

#include <string.h>

/* The input of a share's rows [first, end): embeddings to row `at` of work.y, states to work.wide. */
static void lay(struct octavo_engine *e, const struct octavo_mtp *module, const struct octavo_share *s, size_t first,
                size_t end, size_t at)
{
	size_t hidden = e->config.hidden;
	for (size_t row = first; row < end; row++)
		octavo_embed(e, s->token[row], e->work.y + (at + row - first) * hidden);
	octavo_norm_rows(e, e->work.wide + at * 2 * hidden + hidden, 2 * hidden, s->state + first * hidden, module->hnorm,
	                 end - first, hidden, e->config.norm_eps);
}

/* The layer's input, x = eh_proj [enorm(embedding) | hnorm(state)], of all quiet rows and then all others.  Returns how
 * many are quiet. */
static size_t enter(struct octavo_engine *e, const struct octavo_mtp *module, struct octavo_share *shares, size_t *rows)
{
	struct octavo_work *w = &e->work;
	size_t hidden = e->config.hidden, at = 0, laws = 0;
	for (const struct octavo_share *s = shares; s; s = s->beside) {
		lay(e, module, s, 0, s->quiet, at);
		at += s->quiet;
	}
	size_t quiet = at;
	for (struct octavo_share *s = shares; s; s = s->beside) {
		lay(e, module, s, s->quiet, s->rows, at);
		s->left = at - quiet;
		s->result = laws;
		s->laws = s->rows - s->quiet - s->mute;
		at += s->rows - s->quiet;
		laws += s->laws;
	}
	octavo_norm_rows(e, w->wide, 2 * hidden, w->y, module->enorm, at, hidden, e->config.norm_eps);
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_DENSE);
	octavo_linear(e, &module->eh_proj, w->wide, at, w->x);
	for (float *x = w->x, *end = x + at * hidden; module->bias && x < end; x += hidden)
		for (size_t i = 0; i < hidden; i++)
			x[i] += module->bias[i];
	octavo_phase_end(e->profiler, OCTAVO_PHASE_DENSE);
	*rows = at - quiet;
	return quiet;
}

/* The first rows' cache entries; the others' inputs move up. */
static void store_quiet_rows(struct octavo_engine *e, const struct octavo_mtp *module, size_t layer,
                             const struct octavo_share *shares, size_t rows)
{
	float *x = e->work.x;
	size_t hidden = e->config.hidden;
	for (const struct octavo_share *s = shares; s; s = s->beside)
		octavo_geometry_add(e, s, 0, s->quiet);
	octavo_block_store(e, &module->layer, layer);
	memmove(x, x + e->geometry.rows * hidden, rows * hidden * sizeof *x);
}

/* What goes to the head of the states [rows]: those whose laws are wanted, side by side.  *laws of them. */
static const float *heard(struct octavo_engine *e, const struct octavo_share *shares, size_t rows, size_t *laws)
{
	const float *post = e->mtp_hidden[OCTAVO_TAP_POST_NORM];
	size_t hidden = e->config.hidden;
	*laws = 0;
	for (const struct octavo_share *s = shares; s; s = s->beside)
		*laws += s->laws;
	if (*laws == rows)
		return post;
	for (const struct octavo_share *s = shares; s; s = s->beside)
		memcpy(e->work.normed + s->result * hidden, post + (s->left + s->mute) * hidden,
		       s->laws * hidden * sizeof *post);
	return e->work.normed;
}

static void run(struct octavo_engine *e, const struct octavo_mtp *module, size_t layer,
                const struct octavo_share *shares)
{
	struct octavo_work *w = &e->work;
	size_t hidden = e->config.hidden;
	for (const struct octavo_share *s = shares; s; s = s->beside)
		octavo_geometry_add(e, s, s->quiet, s->rows - s->quiet);
	size_t rows = e->geometry.rows, laws;
	octavo_block(e, &module->layer, layer);
	memcpy(e->mtp_hidden[OCTAVO_TAP_PRE_NORM], w->x, rows * hidden * sizeof *w->x);
	octavo_norm_rows(e, e->mtp_hidden[OCTAVO_TAP_POST_NORM], hidden, w->x, module->head_norm, rows, hidden,
	                 e->config.norm_eps);
	const float *states = heard(e, shares, rows, &laws);
	if (!laws)
		return;
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_HEAD);
	octavo_draft_head(e, &e->weights.head, states, laws, octavo_shares_draftable(e, shares), e->mtp_logits);
	octavo_phase_end(e->profiler, OCTAVO_PHASE_HEAD);
}

enum octavo_status octavo_mtp_forward(struct octavo_engine *e, const struct octavo_mtp *module, struct octavo_kv *kv,
                                      size_t layer, struct octavo_share *shares, struct octavo_error *error)
{
	size_t rows;
	enum octavo_status status = octavo_shares_check(e, kv, shares, error);
	if (status != OCTAVO_OK)
		return status;
	octavo_fpenv saved = octavo_fpenv_enter();
	e->last_rows = 0; /* the main forward's rows share this scratch */
	octavo_geometry_begin(e, kv);
	if (enter(e, module, shares, &rows)) {
		store_quiet_rows(e, module, layer, shares, rows);
		octavo_geometry_begin(e, kv);
	}
	if (rows)
		run(e, module, layer, shares);
	octavo_fpenv_leave(saved);
	return OCTAVO_OK;
}
