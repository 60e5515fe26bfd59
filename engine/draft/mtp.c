/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafting with the checkpoint's multi-token prediction modules, one for each depth (DeepSeek-V3 report, section 2.2),
 * and beyond them with the last one, which recycles its own hidden state: what serving engines do with the one module
 * that V3 ships.
 */
#include "engine/draft/recycle.h"

static int feeds_mtp(const struct octavo_engine *e)
{
	return e->config.mtp_layers > 0;
}

static enum octavo_status open_mtp(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                   const char *dir, struct octavo_error *error)
{
	/* A draft is no deeper than OCTAVO_MAX_K. */
	size_t count = e->config.mtp_layers < OCTAVO_MAX_K ? e->config.mtp_layers : OCTAVO_MAX_K;
	const struct octavo_modules modules = { e->weights.mtp, count, &e->kv, e->config.layers };
	struct octavo_recycler *d;
	(void)dir;
	if (!feeds_mtp(e))
		return octavo_fail(error, OCTAVO_ENOTSUP,
		                   "drafter mtp: this checkpoint has no multi-token prediction module "
		                   "(config.json: num_nextn_predict_layers is 0, or the files do not hold it)");
	enum octavo_status status = octavo_recycler_open(&d, &octavo_drafter_mtp, &modules, e, sequence, error);
	if (status != OCTAVO_OK)
		return status;
	d->base.tap = e->settings.mtp_first_tap;
	d->recycled = e->settings.mtp_recycle_tap;
	*out = &d->base.base;
	return OCTAVO_OK;
}

const struct octavo_drafter_ops octavo_drafter_mtp = {
	.name = "mtp", .laws = 1, .open = open_mtp, .close = octavo_recycler_close, .begin = octavo_recycler_begin,
	.commit = octavo_follower_commit, .draft = octavo_recycler_draft, .run = octavo_follower_run,
	.grow = octavo_recycler_grow, .feeds = feeds_mtp,
};
