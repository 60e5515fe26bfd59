/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafting with the checkpoint's multi-token prediction module, chained by recycling its own hidden state
 * (DeepSeek-V3 report, section 2.2; the recycling is what serving engines do with the one module that V3 ships).
 * A draft grows by levels (growth.h), each of them one forward of the module.
 *
 * Cache discipline: the module's cache holds one row per position i, made from (hidden state of i, token i + 1).
 * Rows made while drafting come from recycled states and lie behind; once the main model has scored those positions,
 * they are made again from its true states before anything new is drafted.
 */
#include "engine/draft/drafter.h"
#include "engine/draft/growth.h"

#include <stdlib.h>
#include <string.h>

struct mtp {
	struct octavo_drafter base;
	struct octavo_engine *engine;
	size_t sequence;
	size_t valid;    /* positions whose row was made from a true hidden state */
	size_t waiting;  /* positions after `valid` whose states wait in g */
	float *g;        /* [max_rows][hidden]; while drafting, the states that a level is made from */
	int32_t *next;   /* [max_rows] token after each waiting position */
};

static void close_mtp(struct octavo_drafter *drafter)
{
	struct mtp *d = (struct mtp *)drafter;
	free(d->g);
	free(d->next);
	free(d);
}

static int feeds_mtp(const struct octavo_engine *e)
{
	return e->config.mtp_layers > 0;
}

static enum octavo_status open_mtp(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                   const char *dir, struct octavo_error *error)
{
	(void)dir;
	if (!feeds_mtp(e))
		return octavo_fail(error, OCTAVO_ENOTSUP,
		                   "drafter mtp: this checkpoint has no multi-token prediction module "
		                   "(config.json: num_nextn_predict_layers is 0)");
	struct mtp *d = calloc(1, sizeof *d);
	if (d) {
		d->g = calloc(e->settings.max_rows * e->config.hidden, sizeof *d->g);
		d->next = calloc(e->settings.max_rows, sizeof *d->next);
	}
	if (!d || !d->g || !d->next) {
		if (d)
			close_mtp(&d->base);
		return octavo_fail(error, OCTAVO_ENOMEM, "drafter mtp: out of memory");
	}
	d->base = (struct octavo_drafter){ .ops = &octavo_drafter_mtp, .sources = 1 };
	d->engine = e;
	d->sequence = sequence;
	*out = &d->base;
	return OCTAVO_OK;
}

static void begin_mtp(struct octavo_drafter *drafter)
{
	struct mtp *d = (struct mtp *)drafter;
	d->valid = d->waiting = 0;
}

/* Makes the rows of the waiting positions; afterwards the engine holds the last one's state and logits. */
static enum octavo_status catch_up(struct mtp *d, struct octavo_error *error)
{
	struct octavo_mtp_batch b = { .seq = d->sequence, .pos = d->valid, .rows = d->waiting, .next = d->next, .g = d->g,
		                      .logits_from = d->waiting - 1 };
	enum octavo_status status = octavo_mtp_forward(d->engine, 0, &b, error);
	if (status == OCTAVO_OK) {
		d->valid += d->waiting;
		d->waiting = 0;
	}
	return status;
}

static enum octavo_status commit_mtp(struct octavo_drafter *drafter, size_t pos, const int32_t *token,
                                     const uint32_t *row, size_t count, struct octavo_error *error)
{
	struct mtp *d = (struct mtp *)drafter;
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

/* Runs the module over the growth's last level, each node with the state of its parent. */
static enum octavo_status run_level(struct mtp *d, const struct octavo_growth *growth, struct octavo_error *error)
{
	struct octavo_engine *e = d->engine;
	size_t hidden = e->config.hidden, first = growth->first;
	const float *recycled = e->mtp_hidden[e->settings.mtp_recycle_tap]; /* of the level above */
	for (size_t node = first; node < growth->rows; node++)
		memcpy(d->g + (node - first) * hidden, recycled + ((size_t)growth->parent[node] - growth->above) * hidden,
		       hidden * sizeof *d->g);
	struct octavo_mtp_batch b = { .seq = d->sequence, .pos = d->valid, .rows = growth->rows - first,
		                      .next = growth->token + first, .g = d->g, .parent = growth->parent, .first = first };
	return octavo_mtp_forward(e, 0, &b, error);
}

static enum octavo_status draft_mtp(struct octavo_drafter *drafter, const struct octavo_shape *shape,
                                    struct octavo_tree *tree, struct octavo_error *error)
{
	struct mtp *d = (struct mtp *)drafter;
	struct octavo_growth growth;
	if (!shape->depth || !d->waiting) /* before the first committed position there is no state to draft from */
		return OCTAVO_OK;
	octavo_growth_begin(&growth, tree);
	enum octavo_status status = catch_up(d, error);
	while (status == OCTAVO_OK && octavo_growth_next(&growth, shape, tree, d->engine->mtp_logits,
	                                                 d->engine->config.vocab, d->engine->choosable))
		status = run_level(d, &growth, error);
	return status;
}

const struct octavo_drafter_ops octavo_drafter_mtp = {
	.name = "mtp", .open = open_mtp, .close = close_mtp, .begin = begin_mtp, .commit = commit_mtp, .draft = draft_mtp,
	.feeds = feeds_mtp,
};
