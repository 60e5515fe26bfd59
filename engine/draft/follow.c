/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/follow.h"

#include <stdlib.h>
#include <string.h>

enum octavo_status octavo_follower_open(struct octavo_follower **out, const struct octavo_drafter_ops *ops, size_t size,
                                        struct octavo_engine *e, size_t sequence, struct octavo_kv *kv,
                                        size_t held, struct octavo_error *error)
{
	struct octavo_follower *f = calloc(1, size);
	if (!f)
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory");
	f->base = (struct octavo_drafter){ .ops = ops, .sources = 1, .crew_rows = e->settings.max_rows };
	f->engine = e;
	f->kv = kv;
	f->sequence = sequence;
	f->catch_up = octavo_follower_catch_up;
	f->g = calloc((e->settings.max_rows + held) * e->config.hidden, sizeof *f->g);
	if (!f->g) {
		octavo_follower_close(&f->base);
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory");
	}
	*out = f;
	return OCTAVO_OK;
}

void octavo_follower_close(struct octavo_drafter *drafter)
{
	struct octavo_follower *f = (struct octavo_follower *)drafter;
	free(f->g);
	free(f);
}

void octavo_follower_begin(struct octavo_drafter *drafter, const int32_t *text)
{
	struct octavo_follower *f = (struct octavo_follower *)drafter;
	f->text = text;
	f->valid = f->waiting = 0;
}

struct octavo_share octavo_follower_share(const struct octavo_follower *f)
{
	return (struct octavo_share){ .seq = f->sequence, .pos = f->valid, .rows = f->waiting,
		                          .token = f->text + f->valid + 1, .state = f->g };
}

void octavo_follower_caught_up(struct octavo_follower *f)
{
	f->valid += f->waiting;
	f->waiting = 0;
}

enum octavo_status octavo_follower_catch_up(struct octavo_follower *f, struct octavo_error *error)
{
	struct octavo_share share = octavo_follower_share(f);
	share.quiet = share.rows;
	enum octavo_status status = f->forward(f, &share, error);
	if (status == OCTAVO_OK)
		octavo_follower_caught_up(f);
	return status;
}

enum octavo_status octavo_follower_commit(struct octavo_drafter *drafter, size_t pos, const uint32_t *row, size_t count,
                                          struct octavo_error *error)
{
	struct octavo_follower *f = (struct octavo_follower *)drafter;
	struct octavo_engine *e = f->engine;
	size_t hidden = e->config.hidden;
	if (pos != f->valid + f->waiting)
		return octavo_fail(error, OCTAVO_EINVAL, "drafter %s: position %zu committed, %zu expected", f->base.ops->name,
		                   pos, f->valid + f->waiting);
	/* As with prompts: what waits cannot wait longer.  The engine's hidden states survive, its scratch does not. */
	if (f->waiting + count > e->settings.max_rows) {
		enum octavo_status status = f->catch_up(f, error);
		if (status != OCTAVO_OK)
			return status;
	}
	for (size_t i = 0; i < count; i++)
		memcpy(f->g + f->waiting++ * hidden, e->hidden[f->tap] + (size_t)row[i] * hidden, hidden * sizeof *f->g);
	return OCTAVO_OK;
}

enum octavo_status octavo_follower_run(struct octavo_drafting **d, size_t count, struct octavo_error *error)
{
	const struct octavo_follower *f = (const struct octavo_follower *)d[0]->drafter;
	return f->forward(f, octavo_draft_shares(d, count), error);
}
