/* SPDX-License-Identifier: Apache-2.0
 *
 * From states after the final norm to logits: of all tokens, or of some.
 */
#include "engine/internal.h"

#include "kernels/fpenv.h"

#include <assert.h>
#include <string.h>

void octavo_head(struct octavo_engine *e, size_t rows, const uint8_t *flags)
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
	octavo_linear(e, &e->weights.head, packed, wanted, logits);
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

/* The head's rows of some tokens, one behind the other: the weights arrive from memory once either way, and are multiplied
 * from the cache.  A product for each row where it lies would leave most lanes of the kernels empty. */
static struct octavo_matrix gather(struct octavo_engine *e, const int32_t *token, size_t count, void *weights)
{
	enum { SHARED = 256 << 10 }; /* bytes from which copying on all threads repays their waking */
	const struct octavo_matrix *head = &e->weights.head;
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
	struct octavo_matrix few = count < e->choosable ? gather(e, token, count, weights)
	                                                : octavo_matrix_view(&e->weights.head, 0, count, 0, e->config.hidden);
	octavo_linear(e, &few, x, rows, y);
	octavo_phase_end(e->profiler, OCTAVO_PHASE_HEAD);
	octavo_fpenv_leave(saved);
}
