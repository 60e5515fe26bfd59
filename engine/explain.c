/* SPDX-License-Identifier: Apache-2.0
 *
 * Why a stream left plain decoding: a session's rounds are run again as they were, and beside them every committed row
 * alone, as plain decoding runs it.  What a row's operations give both ways is compared in the order in which they come.
 * The first difference is often a last bit that chooses nothing: the cache carries it on, and it grows.  So the row whose
 * logits chose another token is compared too.
 */
#include "engine/history.h"
#include "engine/internal.h"
#include "engine/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
	[OCTAVO_AT_EMBEDDING] = "embedding",
	[OCTAVO_AT_ATTENTION_NORM] = "norm before attention",
	[OCTAVO_AT_QUERY] = "query projection",
	[OCTAVO_AT_KEY_VALUE] = "key-value projection",
	[OCTAVO_AT_ATTENTION] = "attention",
	[OCTAVO_AT_OUTPUT] = "output projection",
	[OCTAVO_AT_FFN_NORM] = "norm before the feed-forward part",
	[OCTAVO_AT_FFN] = "feed-forward part",
	[OCTAVO_AT_LAYER] = "residual stream",
	[OCTAVO_AT_FINAL_NORM] = "final norm",
	[OCTAVO_AT_HEAD] = "logits",
};

/* All that the operations of a forward give for one row. */
struct trace {
	float *value; /* [used] of the row alone */
	size_t used, room;
	int lost;     /* out of memory */
	size_t row;   /* its row in the batch it is compared with */
	size_t at;    /* how much of `value` is compared */
	int first;    /* no row before it differed */
	const int32_t *choice; /* [2] what was chosen behind it, alone and in the batch; NULL: the same */
	struct octavo_explanation *out;
};

static void keep(void *context, size_t layer, enum octavo_operation operation, const float *x, size_t rows, size_t cols)
{
	struct trace *t = context;
	(void)layer, (void)operation, (void)rows;
	if (t->used + cols > t->room) {
		size_t room = 2 * (t->used + cols);
		float *grown = realloc(t->value, room * sizeof *grown);
		t->lost |= !grown;
		if (!grown)
			return;
		t->value = grown;
		t->room = room;
	}
	memcpy(t->value + t->used, x, cols * sizeof *x);
	t->used += cols;
}

/* Any NaN equals any NaN. */
static int differ(float a, float b)
{
	return memcmp(&a, &b, sizeof a) && !(isnan(a) && isnan(b));
}

static double largest_difference(const float *a, const float *b, size_t count)
{
	double largest = 0.0;
	for (size_t i = 0; i < count; i++)
		if (fabs((double)a[i] - (double)b[i]) > largest) /* padding ids have -infinity both ways: no number */
			largest = fabs((double)a[i] - (double)b[i]);
	return largest;
}

/* A token's logit both ways; -1, no token, has none. */
static void copy_logits(float to[2], const float *alone, const float *together, int32_t token)
{
	to[0] = token < 0 ? -INFINITY : alone[token];
	to[1] = token < 0 ? -INFINITY : together[token];
}

static void compare_choice(const struct trace *t, const float *alone, const float *together, size_t rows, size_t cols)
{
	struct octavo_choice *choice = &t->out->choice;
	*choice = (struct octavo_choice){ .known = 1, .row = t->row, .rows = rows,
		                          .logits = largest_difference(alone, together, cols) };
	copy_logits(choice->plain, alone, together, t->choice[0]);
	copy_logits(choice->got, alone, together, t->choice[1]);
}

static void compare(void *context, size_t layer, enum octavo_operation operation, const float *x, size_t rows, size_t cols)
{
	struct trace *t = context;
	struct octavo_explanation *out = t->out;
	const float *alone = t->value + t->at, *together = x + t->row * cols;
	t->at += cols;
	for (size_t i = 0; i < cols && !out->found; i++)
		if (differ(alone[i], together[i]))
			*out = (struct octavo_explanation){
				.found = 1, .row = t->row, .rows = rows, .layer = layer, .operation = names[operation],
				.element = i, .elements = cols, .alone = alone[i], .together = together[i],
				.largest = largest_difference(alone, together, cols),
			};
	if (operation != OCTAVO_AT_HEAD)
		return;
	if (out->found && t->first)
		out->logits = largest_difference(alone, together, cols);
	if (t->choice)
		compare_choice(t, alone, together, rows, cols);
}

struct replay {
	struct octavo_engine *engine;
	const struct octavo_history *history;
	size_t last;       /* the position behind which another token was chosen; SIZE_MAX: nowhere */
	int32_t choice[2]; /* plain decoding's and the history's */
	struct octavo_session *alone, *together;
	struct trace trace;
};

/* A forward under observation. */
static enum octavo_status forward(struct replay *r, size_t rows,
                                  void (*observe)(void *context, size_t layer, enum octavo_operation operation,
                                                  const float *x, size_t rows, size_t cols),
                                  struct octavo_error *error)
{
	struct octavo_engine *e = r->engine;
	const struct octavo_staging *b = &e->staging;
	struct octavo_batch batch = { rows, b->token, b->pos, b->seq, b->parent, b->flags };
	e->observe = observe;
	e->observe_context = &r->trace;
	enum octavo_status status = octavo_forward(e, &batch, error);
	e->observe = NULL;
	return status;
}

static void stage(struct replay *r, size_t row, const struct octavo_session *s, int32_t token, size_t pos, int32_t parent)
{
	struct octavo_staging *b = &r->engine->staging;
	b->token[row] = token;
	b->pos[row] = (int32_t)pos;
	b->seq[row] = (int32_t)s->sequence;
	b->parent[row] = parent;
	b->flags[row] = OCTAVO_ROW_LOGITS;
}

/* The token at position `pos` both ways: by itself, and as row `row` of a round's tree[rows][2] whose root is at
 * `root`. */
static enum octavo_status run_both(struct replay *r, size_t pos, const int32_t *tree, size_t rows, size_t root, size_t row,
                                   struct octavo_error *error)
{
	size_t depth[OCTAVO_MAX_DRAFT] = { 0 };
	r->trace.used = r->trace.at = 0;
	r->trace.row = row;
	r->trace.first = !r->trace.out->found;
	r->trace.choice = pos == r->last ? r->choice : NULL;
	stage(r, 0, r->alone, r->history->token[pos], pos, -1);
	enum octavo_status status = forward(r, 1, keep, error);
	if (status == OCTAVO_OK && r->trace.lost)
		status = octavo_fail(error, OCTAVO_ENOMEM, "explain: out of memory");
	if (status == OCTAVO_OK)
		status = octavo_commit(r->engine, (int32_t)r->alone->sequence, (const uint32_t[]){ 0 }, 1, error);
	if (status != OCTAVO_OK)
		return status;
	for (size_t i = 0; i < rows; i++) {
		depth[i] = i ? depth[tree[2 * i + 1]] + 1 : 0;
		stage(r, i, r->together, tree[2 * i], root + depth[i], i ? tree[2 * i + 1] : -1);
	}
	status = forward(r, rows, compare, error);
	if (r->trace.first && r->trace.out->found)
		r->trace.out->position = pos;
	if (r->trace.choice)
		r->trace.out->choice.position = pos;
	return status;
}

/* Row i of the path: the child of the row before that carries the token at `pos`; `rows` if there is none. */
static size_t next_row(const int32_t *tree, size_t rows, size_t parent, int32_t token)
{
	size_t row = parent + 1;
	while (row < rows && (tree[2 * row + 1] != (int32_t)parent || tree[2 * row] != token))
		row++;
	return row;
}

/* A round whose root is at position `root`, up to the row of the choice. */
static enum octavo_status run_round(struct replay *r, const struct octavo_past *round, const int32_t *tree, size_t root,
                                    struct octavo_error *error)
{
	uint32_t path[OCTAVO_MAX_DRAFT] = { 0 };
	enum octavo_status status = OCTAVO_OK;
	for (size_t i = 0; status == OCTAVO_OK && !r->trace.out->choice.known && i < round->emitted; i++) {
		size_t row = i ? next_row(tree, round->rows, path[i - 1], r->history->token[root + i]) : 0;
		if (row == round->rows)
			return octavo_fail(error, OCTAVO_EINVAL, "explain: the history's rounds do not hold its tokens");
		path[i] = (uint32_t)row;
		status = run_both(r, root + i, tree, round->rows, root, row, error);
	}
	if (status != OCTAVO_OK || r->trace.out->choice.known)
		return status;
	return octavo_commit(r->engine, (int32_t)r->together->sequence, path, round->emitted, error);
}

static enum octavo_status run_rounds(struct replay *r, struct octavo_error *error)
{
	const struct octavo_history *h = r->history;
	const int32_t *tree = h->row;
	size_t root = h->prompt - 1;
	enum octavo_status status = octavo_session_prompt(r->alone, h->token, h->prompt, error);
	if (status == OCTAVO_OK)
		status = octavo_session_prompt(r->together, h->token, h->prompt, error);
	for (size_t i = 0; status == OCTAVO_OK && !r->trace.out->choice.known && i < h->rounds; i++) {
		status = run_round(r, &h->round[i], tree, root, error);
		tree += 2 * h->round[i].rows;
		root += h->round[i].emitted;
	}
	return status;
}

/* What can be said of the request without running anything. */
static enum octavo_status check(const struct octavo_engine *engine, const struct octavo_history *history,
                                const struct octavo_parting *parting, const struct octavo_explanation *out,
                                struct octavo_error *error)
{
	if (!engine || !history || !parting || !out)
		return octavo_fail(error, OCTAVO_EINVAL, "explain: a null argument");
	if (history->lost || !history->tokens)
		return octavo_fail(error, OCTAVO_EINVAL, "explain: the history is empty, or memory ran out while it was kept");
	if (parting->plain < -1 || parting->plain >= (int32_t)engine->config.vocab)
		return octavo_fail(error, OCTAVO_EINVAL, "explain: token %d is not in the vocabulary", (int)parting->plain);
	for (size_t i = 0; i < history->tokens; i++)
		if ((size_t)history->token[i] >= engine->config.vocab)
			return octavo_fail(error, OCTAVO_EINVAL, "explain: the history's token %d is not in the vocabulary",
			                   (int)history->token[i]);
	for (size_t i = 0; i < history->rounds; i++)
		if (history->round[i].rows > engine->settings.max_rows)
			return octavo_fail(error, OCTAVO_ELIMIT, "explain: round %zu has %zu rows, the engine was opened for 1 to %zu",
			                   i, history->round[i].rows, engine->settings.max_rows);
	return OCTAVO_OK;
}

enum octavo_status octavo_explain(struct octavo_engine *engine, const struct octavo_history *history,
                                  const struct octavo_parting *parting, struct octavo_explanation *out,
                                  struct octavo_error *error)
{
	struct octavo_session_settings plain = { 0 };
	struct replay r = { .engine = engine, .history = history, .last = SIZE_MAX, .trace = { .out = out } };
	enum octavo_status status = check(engine, history, parting, out, error);
	if (status != OCTAVO_OK)
		return status;
	*out = (struct octavo_explanation){ 0 };
	if (parting->at < history->tokens - history->prompt) {
		r.last = history->prompt - 1 + parting->at;
		r.choice[0] = parting->plain;
		r.choice[1] = history->token[r.last + 1];
	}
	status = octavo_session_open(&r.alone, engine, &plain, error);
	if (status == OCTAVO_OK)
		status = octavo_session_open(&r.together, engine, &plain, error);
	if (status == OCTAVO_OK)
		status = run_rounds(&r, error);
	octavo_session_close(&r.together);
	octavo_session_close(&r.alone);
	free(r.trace.value);
	return status;
}
