/* SPDX-License-Identifier: Apache-2.0
 *
 * From states after the final norm to logits: of all tokens, or of some.
 */
#include "engine/internal.h"

#include "kernels/fpenv.h"

#include <assert.h>
#include <string.h>

void octavo_head(struct octavo_engine *e, size_t rows, const uint8_t *flags,
                 const struct octavo_draftable *const *draftable)
{
	size_t hidden = e->config.hidden, vocab = e->config.vocab, wanted = 0;
	float *packed = e->work.normed, *logits = e->logits + e->logit_rows * vocab;
	for (size_t row = 0; row < rows; row++) {
		if (e->logit_row[row] >= 0 || !(flags[row] & OCTAVO_ROW_LOGITS))
			continue;
		memcpy(packed + wanted * hidden, e->hidden[OCTAVO_TAP_POST_NORM] + row * hidden, hidden * sizeof *packed);
		e->logit_row[row] = (int32_t)(e->logit_rows + wanted++);
	}
	if (!wanted)
		return;
	octavo_fpenv saved = octavo_fpenv_enter();
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_HEAD);
	e->logit_rows += wanted;
	octavo_draft_head(e, &e->weights.head, packed, wanted, draftable, logits);
	for (size_t i = 0; i < wanted; i++)
		for (size_t id = e->choosable; id < vocab; id++) /* ids without a token can never win */
			logits[i * vocab + id] = -__builtin_inff();
	octavo_observe(e, e->config.layers, OCTAVO_AT_HEAD, logits, wanted, vocab);
	octavo_phase_end(e->profiler, OCTAVO_PHASE_HEAD);
	octavo_fpenv_leave(saved);
}

/* ---- Some tokens ------------------------------------------------------------------------------------------------- */

struct gather {
	const struct octavo_matrix *w;
	const int32_t *token;
	unsigned char *to; /* [count][bytes] */
	size_t bytes;      /* of a row */
};

static void copy_row(void *arg, size_t i)
{
	const struct gather *g = arg;
	size_t pitch = g->w->ld * octavo_dtype_size(g->w->dtype);
	memcpy(g->to + i * g->bytes, (const unsigned char *)g->w->data + (size_t)g->token[i] * pitch, g->bytes);
}

/* A head's rows of some tokens, one behind the other: the weights arrive from memory once either way, and are multiplied
 * from the cache.  A product for each row where it lies would leave most lanes of the kernels empty. */
static struct octavo_matrix gather(struct octavo_engine *e, const struct octavo_matrix *head, const int32_t *token,
                                   size_t count, void *weights)
{
	enum { SHARED = 256 << 10 }; /* bytes from which copying on all threads repays their waking */
	struct gather g = { head, token, weights, head->cols * octavo_dtype_size(head->dtype) };
	if (count * g.bytes >= SHARED)
		octavo_run(&e->threads, count, copy_row, &g);
	else
		for (size_t i = 0; i < count; i++)
			copy_row(&g, i);
	struct octavo_matrix few = *head;
	few.data = weights;
	few.rows = count;
	few.ld = head->cols;
	return few;
}

void octavo_head_some(struct octavo_engine *e, const float *x, size_t rows, const int32_t *token, size_t count,
                      void *weights, float *y)
{
	assert(e->weights.head.scale_dtype == OCTAVO_NONE); /* checkpoints have no FP8 here: a row is all that it takes */
	octavo_fpenv saved = octavo_fpenv_enter();
	octavo_phase_begin(e->profiler, OCTAVO_PHASE_HEAD);
	const struct octavo_matrix *head = &e->weights.head;
	struct octavo_matrix few = count < e->choosable ? gather(e, head, token, count, weights)
	                                                : octavo_matrix_view(head, 0, count, 0, e->config.hidden);
	octavo_linear(e, &few, x, rows, y);
	octavo_phase_end(e->profiler, OCTAVO_PHASE_HEAD);
	octavo_fpenv_leave(saved);
}

/* ---- What a draft may hold ---------------------------------------------------------------------------------- */

const struct octavo_draftable *const *octavo_shares_draftable(struct octavo_engine *e,
                                                              const struct octavo_share *shares)
{
	int some = 0;
	for (const struct octavo_share *s = shares; s; s = s->beside) {
		some |= s->draftable != NULL;
		for (size_t i = 0; i < s->laws; i++)
			e->work.draftable[s->result + i] = s->draftable;
	}
	return some ? e->work.draftable : NULL;
}

size_t octavo_draft_head_first(const struct octavo_engine *e, size_t rows,
                               const struct octavo_draftable *const *draftable)
{
	size_t most = draftable ? 0 : e->config.vocab;
	for (size_t row = 0; draftable && row < rows; row++)
		most = octavo_larger(most, draftable[row] ? draftable[row]->below : e->config.vocab);
	return most;
}

/* y[rows][vocab] for the others that these rows may draft: as many at a time as there is room to gather, or in FP8,
 * whose rows share scales, each where it lies. */
static void add_others(struct octavo_engine *e, const struct octavo_matrix *w, const float *x, size_t rows,
                       const struct octavo_draftable *d, float *y)
{
	size_t bytes = w->cols * octavo_dtype_size(w->dtype), vocab = e->config.vocab;
	size_t room = w->scale_dtype == OCTAVO_NONE ? d->bytes / bytes : 0, n;
	for (const int32_t *token = d->token, *end = token + d->count; token < end; token += n) {
		n = (size_t)(end - token) < room ? (size_t)(end - token) : room;
		n = n ? n : 1;
		struct octavo_matrix few =
			n > 1 ? gather(e, w, token, n, d->weights) : octavo_matrix_view(w, (size_t)*token, 1, 0, w->cols);
		octavo_linear(e, &few, x, rows, d->logits);
		for (size_t row = 0; row < rows; row++)
			for (size_t i = 0; i < n; i++)
				y[row * vocab + (size_t)token[i]] = d->logits[row * n + i];
	}
}

void octavo_draft_head_rest(struct octavo_engine *e, const struct octavo_matrix *w, const float *x, size_t rows,
                            const struct octavo_draftable *const *draftable, float *y)
{
	size_t hidden = e->config.hidden, vocab = e->config.vocab;
	for (size_t row = 0, n; draftable && row < rows; row += n) {
		const struct octavo_draftable *d = draftable[row];
		for (n = 0; row + n < rows && n < OCTAVO_MAX_DRAFT && draftable[row + n] == d; n++)
			for (size_t id = d ? d->below : vocab; id < vocab; id++)
				y[(row + n) * vocab + id] = -__builtin_inff();
		if (d)
			add_others(e, w, x + row * hidden, n, d, y + row * vocab);
	}
}

void octavo_draft_head(struct octavo_engine *e, const struct octavo_matrix *w, const float *x, size_t rows,
                       const struct octavo_draftable *const *draftable, float *y)
{
	struct octavo_matrix first =
		octavo_matrix_view(w, 0, octavo_draft_head_first(e, rows, draftable), 0, e->config.hidden);
	octavo_linear_into(e, &first, x, rows, y, e->config.vocab);
	octavo_draft_head_rest(e, w, x, rows, draftable, y);
}
