/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafting with the checkpoint's multi-token prediction module, chained by recycling its own hidden state
 * (DeepSeek-V3 report, section 2.2; the recycling is what serving engines do with the one module that V3 ships).
 *
 * Cache discipline: the module's cache holds one row per position i, made from (hidden state of i, token i + 1).
 * Rows made while chaining come from recycled states; once the main model has scored those positions, they are
 * made again from its true states before anything new is drafted.
 */
#include "engine/draft/drafter.h"

#include <stdlib.h>
#include <string.h>

struct octavo_drafter {
	struct octavo_engine *engine;
	size_t sequence;
	size_t valid;    /* positions whose row was made from a true hidden state */
	size_t waiting;  /* positions after `valid` whose states wait in g */
	float *g;        /* [max_rows][hidden] */
	int32_t *next;   /* [max_rows] token after each waiting position */
};

static enum octavo_status open_mtp(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                   struct octavo_error *error)
{
	if (!e->config.mtp_layers)
		return octavo_fail(error, OCTAVO_ENOTSUP,
		                   "drafter mtp: this checkpoint has no multi-token prediction module "
		                   "(config.json: num_nextn_predict_layers is 0)");
	struct octavo_drafter *d = calloc(1, sizeof *d);
	if (d) {
		d->g = calloc(e->settings.max_rows * e->config.hidden, sizeof *d->g);
		d->next = calloc(e->settings.max_rows, sizeof *d->next);
	}
	if (!d || !d->g || !d->next) {
		octavo_drafter_mtp.close(d);
		return octavo_fail(error, OCTAVO_ENOMEM, "drafter mtp: out of memory");
	}
	d->engine = e;
	d->sequence = sequence;
	*out = d;
	return OCTAVO_OK;
}

static void close_mtp(struct octavo_drafter *d)
{
	if (!d)
		return;
	free(d->g);
	free(d->next);
	free(d);
}

static void begin_mtp(struct octavo_drafter *d)
{
	d->valid = d->waiting = 0;
}

/* Makes the rows of the waiting positions; afterwards the engine holds the last one's logits. */
static enum octavo_status catch_up(struct octavo_drafter *d, struct octavo_error *error)
{
	enum octavo_status status =
		octavo_mtp_forward(d->engine, 0, d->sequence, d->valid, d->next, d->g, d->waiting, error);
	if (status == OCTAVO_OK) {
		d->valid += d->waiting;
		d->waiting = 0;
	}
	return status;
}

static enum octavo_status commit_mtp(struct octavo_drafter *d, size_t pos, const int32_t *token, const uint32_t *row,
                                     size_t count, struct octavo_error *error)
{
	struct octavo_engine *e = d->engine;
	size_t hidden = e->config.hidden;
	if (pos != d->valid + d->waiting)
		return octavo_fail(error, OCTAVO_EINVAL, "drafter mtp: position %zu committed, %zu expected", pos,
		                   d->valid + d->waiting);
	/* A chunk of a prompt: what waits cannot wait longer.  The engine's hidden states survive, its scratch does not. */
	if (d->waiting + count > e->settings.max_rows) {
		enum octavo_status status = catch_up(d, error);
		if (status != OCTAVO_OK)
			return status;
	}
	for (size_t i = 0; i < count; i++) {
		const float *state = e->hidden[e->settings.mtp_first_tap] + (size_t)row[i] * hidden;
		memcpy(d->g + (d->waiting + i) * hidden, state, hidden * sizeof *d->g);
		d->next[d->waiting + i] = token[i + 1];
	}
	d->waiting += count;
	return OCTAVO_OK;
}

static enum octavo_status draft_mtp(struct octavo_drafter *d, size_t k, int32_t *token, size_t *count,
                                    struct octavo_error *error)
{
	struct octavo_engine *e = d->engine;
	*count = 0;
	if (!k || !d->waiting) /* before the first committed position there is no state to draft from */
		return OCTAVO_OK;
	size_t last = d->waiting - 1;
	enum octavo_status status = catch_up(d, error);
	for (size_t i = 0; status == OCTAVO_OK; last = 0) {
		int32_t best = octavo_argmax(e->mtp_logits, e->choosable);
		if (best < 0) /* a NaN: draft no further; what the target makes of it is the target's business */
			break;
		token[i++] = best;
		*count = i;
		if (i == k)
			break;
		/* Recycle: this row's own hidden state stands in for the main model's at the next position. */
		memcpy(d->g, e->mtp_hidden[e->settings.mtp_recycle_tap] + last * e->config.hidden,
		       e->config.hidden * sizeof *d->g);
		status = octavo_mtp_forward(e, 0, d->sequence, d->valid + i - 1, &best, d->g, 1, error);
	}
	return status;
}

const struct octavo_drafter_ops octavo_drafter_mtp = {
	"mtp", 1, open_mtp, close_mtp, begin_mtp, commit_mtp, draft_mtp,
};
