/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lossless/trial.h"

#include "tests/lossless/chances.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* ---- The models -------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9E3779B97F4A7C15);
	x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
	return x ^ x >> 31;
}

static uint64_t hash(uint64_t seed, const int32_t *token, size_t count)
{
	for (size_t i = 0; i < count; i++)
		seed = mix(seed ^ (uint64_t)(token[i] + 1));
	return seed;
}

/* Logits in [-2, 2) after a prefix. */
static void raw_logits(uint64_t seed, const int32_t *token, size_t count, size_t vocab, float *logits)
{
	uint64_t h = hash(seed, token, count);
	for (size_t i = 0; i < vocab; i++)
		logits[i] = (float)(mix(h + i) >> 52) / 1024.0f - 2.0f;
}

static void target_logits(const struct trial *t, const int32_t *token, size_t count, size_t masked, float *logits)
{
	raw_logits(t->model, token, count, t->vocab, logits);
	if (t->mask == GRAMMAR)
		logits[hash(t->model + 1, token, masked) % t->vocab] = -INFINITY;
	for (size_t i = 0; t->adversary == DISJOINT && i < t->vocab / 2; i++)
		logits[i] = -INFINITY;
}

static void draft_logits(const struct trial *t, const int32_t *token, size_t count, float *logits)
{
	if (t->adversary == SAME) {
		target_logits(t, token, count, count, logits);
		return;
	}
	raw_logits(t->model + (t->adversary == REVERSED ? 0 : 2), token, count, t->vocab, logits);
	for (size_t i = 0; t->adversary == REVERSED && i < t->vocab; i++)
		logits[i] = -logits[i];
	if (t->adversary == ZEROS)
		logits[hash(t->model + 3, token, count) % t->vocab] = -INFINITY;
	for (size_t i = t->vocab / 2; t->adversary == DISJOINT && i < t->vocab; i++)
		logits[i] = -INFINITY;
}

/* ---- Plain decoding ------------------------------------------------------------------------------------------------ */

size_t trial_cells(const struct trial *t)
{
	size_t cells = 1;
	for (size_t i = 0; i < t->length; i++)
		cells *= t->vocab;
	return cells;
}

static const int32_t prompt[PROMPT] = { 0, 2, 0 };

static void plain_law(const struct trial *t, const int32_t *token, size_t count, double *law)
{
	float logits[MOST_VOCAB];
	uint32_t order[MOST_VOCAB];
	const struct octavo_prefix prefix = { token, count, PROMPT, NULL, 0 };
	target_logits(t, token, count, count, logits);
	enum octavo_status status = octavo_law(&t->sampling, &prefix, logits, t->vocab, law, order);
	assert(status == OCTAVO_OK);
	(void)status;
}

void trial_truth(const struct trial *t, double *truth)
{
	size_t cells = trial_cells(t);
	int32_t token[PROMPT + MOST_LENGTH];
	double law[MOST_VOCAB];
	memcpy(token, prompt, sizeof prompt);
	for (size_t cell = 0; cell < cells; cell++) {
		size_t left = cell, place = cells;
		truth[cell] = 1.0;
		for (size_t i = 0; i < t->length && truth[cell] > 0.0; i++) {
			place /= t->vocab;
			plain_law(t, token, PROMPT + i, law);
			token[PROMPT + i] = (int32_t)(left / place);
			left %= place;
			truth[cell] *= law[token[PROMPT + i]];
		}
	}
}

void trial_add(const struct trial *t, const double *truth, const int32_t *token, size_t count, double weight,
               double *law)
{
	size_t first = 0, cells = trial_cells(t);
	double share = 0.0;
	for (size_t i = 0; i < count; i++) {
		cells /= t->vocab;
		first += (size_t)token[i] * cells;
	}
	for (size_t i = 0; i < cells; i++)
		share += truth[first + i];
	for (size_t i = 0; i < cells; i++) /* what cannot be goes to the first of its cells */
		law[first + i] += share > 0.0 ? weight * truth[first + i] / share : i ? 0.0 : weight;
}

/* ---- One round ------------------------------------------------------------------------------------------------------- */

struct round {
	const struct trial *t;
	const int32_t *history; /* [count] the prompt and what was emitted */
	size_t count;
	struct octavo_draft draft;
	int32_t token[MOST_ROWS], parent[MOST_ROWS];
	int sampled[MOST_ROWS];
	double path[MOST_ROWS]; /* confidence along the path to the row */
	double q[MOST_ROWS][MOST_VOCAB];
	double told[MOST_ROWS][MOST_VOCAB]; /* what the judge is told of q: the same, but for mistakes */
	float logits[MOST_ROWS][MOST_VOCAB];
	double law[MOST_VOCAB], scratch[2 * MOST_VOCAB];
	uint32_t order[MOST_VOCAB];
	struct octavo_scored scored;
	struct octavo_sampling untruncated;
};

/* The numbers' counters, with the mistakes that can be made with them. */
static int32_t pick(void *context, uint32_t position, enum octavo_purpose purpose, uint32_t index, const double *law,
                    size_t n)
{
	const struct round *r = context;
	enum mistake m = r->t->mistake;
	if (m == RESIDUAL_SHARED && purpose == OCTAVO_DRAW_RESIDUAL) {
		purpose = OCTAVO_DRAW_DRAFT;
		index++;
	}
	if (m == ACCEPT_SHARED && purpose == OCTAVO_DRAW_ACCEPT)
		purpose = OCTAVO_DRAW_DRAFT;
	if (m == ACCEPT_REPEATED && purpose == OCTAVO_DRAW_ACCEPT)
		index = 1;
	if (m == REWOUND && purpose != OCTAVO_DRAW_TARGET)
		position = PROMPT;
	if (m == TARGET_REPEATED && purpose == OCTAVO_DRAW_TARGET)
		position = (uint32_t)r->count;
	return r->t->pick(r->t->pick_context, position, purpose, index, law, n);
}

/* The tokens before those that follow `row`. */
static size_t path_to(const struct round *r, size_t row, int32_t *path)
{
	size_t depth = 0;
	for (size_t at = row; at; at = (size_t)r->parent[at])
		depth++;
	memcpy(path, r->history, r->count * sizeof *path);
	size_t end = r->count + depth;
	for (size_t at = row, i = end; at; at = (size_t)r->parent[at])
		path[--i] = r->token[at];
	return end;
}

static void drafters_law(const struct round *r, const struct octavo_sampling *s, size_t parent, double *law)
{
	float logits[MOST_VOCAB];
	uint32_t order[MOST_VOCAB];
	int32_t path[PROMPT + MOST_LENGTH + MOST_ROWS];
	const struct octavo_prefix prefix = { r->history, r->count, PROMPT, &r->draft, parent };
	draft_logits(r->t, path, path_to(r, parent, path), logits);
	enum octavo_status status = octavo_law(s, &prefix, logits, r->t->vocab, law, order);
	assert(status == OCTAVO_OK);
	(void)status;
}

/* The token of a new row, or -1 if q has none left. */
static int32_t propose(struct round *r, size_t parent, size_t number, int sampled, const double *q)
{
	const struct trial *t = r->t;
	double left[MOST_VOCAB];
	int32_t best = 0;
	memcpy(left, q, t->vocab * sizeof *left);
	for (size_t row = parent + 1; row < r->draft.rows; row++)
		if ((size_t)r->parent[row] == parent && (!sampled || t->siblings == OCTAVO_WITHOUT_REPLACEMENT))
			left[r->token[row]] = 0.0;
	for (size_t i = 1; i < t->vocab; i++)
		best = left[i] > left[best] ? (int32_t)i : best;
	if (!(left[best] > 0.0) || !sampled)
		return left[best] > 0.0 ? best : -1;
	return pick(r, (uint32_t)r->count, OCTAVO_DRAW_DRAFT, (uint32_t)number, left, t->vocab);
}

static int is_dropped(const struct round *r, size_t parent, int32_t token, const double *q)
{
	double law[MOST_VOCAB];
	int32_t path[PROMPT + MOST_LENGTH + MOST_ROWS];
	switch (r->t->mistake) {
	case DRAFT_DROPPED:
		return q[token] < 0.3;
	case INVALID_DROPPED:
		plain_law(r->t, path, path_to(r, parent, path), law);
		return law[token] == 0.0;
	case DUPLICATE_DROPPED:
		for (size_t row = parent + 1; row < r->draft.rows; row++)
			if ((size_t)r->parent[row] == parent && r->token[row] == token)
				return 1;
		return 0;
	default:
		return 0;
	}
}

static void tell(struct round *r, size_t row)
{
	const struct trial *t = r->t;
	struct octavo_sampling s = t->draft_sampling;
	memcpy(r->told[row], r->q[t->mistake == STALE_Q && row > 1 ? row - 1 : row], sizeof r->told[row]);
	if (t->mistake == Q_UNTEMPERED)
		s.temperature = 1.0f;
	if (t->mistake == Q_UNTRUNCATED)
		s.top_k = 0;
	if (t->mistake == Q_UNTEMPERED || t->mistake == Q_UNTRUNCATED)
		drafters_law(r, &s, (size_t)r->parent[row], r->told[row]);
}

static size_t children_of(const struct round *r, size_t parent)
{
	size_t children = 0;
	for (size_t row = parent + 1; row < r->draft.rows; row++)
		children += (size_t)r->parent[row] == parent;
	return children;
}

static void make_draft(struct round *r)
{
	const struct trial *t = r->t;
	int32_t row_of[MOST_ROWS] = { 0 }; /* of the shape's rows; -1: left out */
	r->path[0] = 1.0;
	r->token[0] = r->history[r->count - 1];
	r->parent[0] = -1;
	r->draft = (struct octavo_draft){ 1, r->token, r->parent };
	for (size_t i = 1; i < t->shape.rows; i++) {
		int32_t parent = row_of[t->shape.parent[i]];
		size_t row = r->draft.rows;
		row_of[i] = -1;
		if (parent < 0)
			continue;
		int first = i == 1 || t->shape.parent[i - 1] != t->shape.parent[i];
		int sampled = t->drafting == SAMPLED || (t->drafting == MIXED && !first);
		drafters_law(r, &t->draft_sampling, (size_t)parent, r->q[row]);
		r->path[row] = r->path[parent];
		if (octavo_confident_width(&t->confidence, r->q[row], t->vocab, MOST_ROWS, &r->path[row]) <=
		    children_of(r, (size_t)parent))
			continue;
		int32_t token = propose(r, (size_t)parent, i, sampled, r->q[row]);
		if (token < 0 || is_dropped(r, (size_t)parent, token, r->q[row]))
			continue;
		if (t->mistake == TOKEN_OVERRIDDEN)
			token = (token + 1) % (int32_t)t->vocab;
		r->token[row] = token;
		r->parent[row] = parent;
		r->sampled[row] = sampled || t->mistake == Q_OF_ARGMAX;
		tell(r, row);
		row_of[i] = (int32_t)r->draft.rows++;
	}
}

static void score(struct round *r)
{
	int32_t path[PROMPT + MOST_LENGTH + MOST_ROWS];
	for (size_t row = 0; row < r->draft.rows; row++) {
		size_t end = path_to(r, row, path);
		target_logits(r->t, path, end, r->t->mistake == MASK_OF_ROOT ? r->count : end, r->logits[row]);
	}
}

static const double *drafted(void *context, size_t row)
{
	const struct round *r = context;
	return r->sampled[row] ? r->told[row] : NULL;
}

static const double *target(void *context, size_t row)
{
	struct round *r = context;
	int stale = r->t->mistake == STALE_P && row;
	r->scored.sampling = r->t->mistake == WARP_MISSING && row ? &r->untruncated : &r->t->sampling;
	return octavo_scored_law(&r->scored, stale ? row - 1 : row);
}

static enum octavo_status judge(struct round *r, struct octavo_outcome *out)
{
	const struct trial *t = r->t;
	int32_t twice[PROMPT + MOST_LENGTH + 1];
	struct octavo_prefix prefix = { r->history, r->count, PROMPT, &r->draft, 0 };
	if (t->mistake == PENALTY_OF_ROOT)
		prefix.draft = NULL;
	if (t->mistake == PENALTY_TWICE) {
		memcpy(twice, r->history, r->count * sizeof *twice);
		twice[r->count] = twice[r->count - 1];
		prefix.token = twice;
		prefix.count++;
	}
	r->untruncated = (struct octavo_sampling){ .temperature = t->sampling.temperature };
	r->scored = (struct octavo_scored){ .logits = r->logits[0], .ld = MOST_VOCAB, .vocab = t->vocab, .prefix = prefix,
		                            .law = r->law, .order = r->order };
	enum octavo_siblings other =
		t->siblings == OCTAVO_WITH_REPLACEMENT ? OCTAVO_WITHOUT_REPLACEMENT : OCTAVO_WITH_REPLACEMENT;
	const struct octavo_judge j = {
		.vocab = t->vocab, .target = target, .target_context = r, .drafted = drafted, .drafted_context = r,
		.siblings = t->mistake == SIBLINGS_SWAPPED ? other : t->siblings, .pick = pick, .pick_context = r,
		.position = (uint32_t)r->count, .scratch = r->scratch,
	};
	return t->rule(&r->draft, &j, out);
}

size_t trial_run(const struct trial *t, int32_t *token, size_t *kept)
{
	int32_t history[PROMPT + MOST_LENGTH];
	size_t count = 0;
	memcpy(history, prompt, sizeof prompt);
	*kept = 0;
	for (size_t i = 0; i < t->rounds && count < t->length; i++) {
		struct round r = { .t = t, .history = history, .count = PROMPT + count };
		struct octavo_outcome out;
		make_draft(&r);
		score(&r);
		if (judge(&r, &out) != OCTAVO_OK)
			return SIZE_MAX;
		*kept += out.accepted;
		for (size_t j = 0; j <= out.accepted && count < t->length; j++) {
			token[count] = j < out.accepted ? r.token[out.path[j]] : out.next;
			history[PROMPT + count] = token[count];
			count++;
		}
	}
	return count;
}

double trial_distance(struct trial *t, double *tokens)
{
	static double truth[3125], law[3125]; /* MOST_VOCAB^MOST_LENGTH */
	static struct chances chances;
	int32_t token[MOST_LENGTH];
	size_t kept, cells = trial_cells(t);
	double distance = 0.0;
	trial_truth(t, truth);
	memset(law, 0, sizeof law);
	chances = (struct chances){ .length = 0 };
	t->pick = chances_pick;
	t->pick_context = &chances;
	*tokens = 0.0;
	do {
		chances_begin(&chances);
		size_t count = trial_run(t, token, &kept);
		if (count == SIZE_MAX)
			return 2.0;
		*tokens += chances.weight * (double)(kept + 1);
		trial_add(t, truth, token, count, chances.weight, law);
	} while (chances_next(&chances));
	for (size_t i = 0; i < cells; i++)
		distance += 0.5 * fabs(law[i] - truth[i]);
	return distance;
}
