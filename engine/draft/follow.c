/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/draft/follow.h"

#include <stdlib.h>
#include <string.h>

enum octavo_status octavo_follower_open(struct octavo_follower **out, const struct octavo_drafter_ops *ops, size_t size,
                                        struct octavo_engine *e, size_t sequence, size_t layers,
                                        struct octavo_error *error)
{
	struct octavo_follower *f = calloc(1, size);
	if (!f)
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory");
	f->base = (struct octavo_drafter){ .ops = ops, .sources = 1 };
	f->engine = e;
	f->kv = layers ? &f->own : &e->kv;
	f->sequence = layers ? 0 : sequence;
	f->g = calloc(e->settings.max_rows * e->config.hidden, sizeof *f->g);
	f->next = calloc(e->settings.max_rows, sizeof *f->next);
	enum octavo_status status =
		f->g && f->next ? OCTAVO_OK : octavo_fail(error, OCTAVO_ENOMEM, "out of memory");
	if (status == OCTAVO_OK && layers)
		status = octavo_kv_open(&f->own, e, sequence, layers, error);
	if (status != OCTAVO_OK)
		octavo_follower_close(&f->base);
	else
		*out = f;
	return status;
}

void octavo_follower_close(struct octavo_drafter *drafter)
{
	struct octavo_follower *f = (struct octavo_follower *)drafter;
	octavo_kv_close(&f->own);
	free(f->g);
	free(f->next);
	free(f);
}

void octavo_follower_begin(struct octavo_drafter *drafter)
{
	struct octavo_follower *f = (struct octavo_follower *)drafter;
	f->valid = f->waiting = 0;
}

static enum octavo_status catch_up(struct octavo_follower *f, const struct octavo_shape *shape, struct octavo_error *error)
{
	enum octavo_status status = f->catch_up(f, shape, error);
	if (status == OCTAVO_OK) {
		f->valid += f->waiting;
		f->waiting = 0;
	}
	return status;
}

enum octavo_status octavo_follower_commit(struct octavo_drafter *drafter, size_t pos, const int32_t *token,
                                          const uint32_t *row, size_t count, struct octavo_error *error)
{
	struct octavo_follower *f = (struct octavo_follower *)drafter;
	struct octavo_engine *e = f->engine;
	size_t hidden = e->config.hidden;
	if (pos != f->valid + f->waiting)
		return octavo_fail(error, OCTAVO_EINVAL, "drafter %s: position %zu committed, %zu expected", f->base.ops->name,
		                   pos, f->valid + f->waiting);
	/* A chunk of a prompt: what waits cannot wait longer.  The engine's hidden states survive, its scratch does not. */
	if (f->waiting + count > e->settings.max_rows) {
		enum octavo_status status = catch_up(f, NULL, error);
		if (status != OCTAVO_OK)
			return status;
	}
	for (size_t i = 0; i < count; i++) {
		const float *state = e->hidden[f->tap] + (size_t)row[i] * hidden;
		memcpy(f->g + (f->waiting + i) * hidden, state, hidden * sizeof *f->g);
		f->next[f->waiting + i] = token[i + 1];
	}
	f->waiting += count;
	return OCTAVO_OK;
}

enum octavo_status octavo_follower_catch_up(struct octavo_follower *f, const struct octavo_shape *shape, int *ready,
                                            struct octavo_error *error)
{
	*ready = shape->depth && f->waiting;
	return *ready ? catch_up(f, shape, error) : OCTAVO_OK;
}
