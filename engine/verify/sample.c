/* SPDX-License-Identifier: Apache-2.0
 *
 * One function makes the target's law from logits, for plain decoding and for every verified row alike.
 */
#include "octavo_verify.h"

#include "fp8/error.h"
#include "engine/verify/law.h"
#include "kernels/fpenv.h"
#include "octavo_kernels.h"

#include <math.h>
#include <string.h>

enum octavo_status octavo_sampling_check(const struct octavo_sampling *s, struct octavo_error *error)
{
	/* Written so that a NaN fails. */
	if (!(s->temperature >= 0.0f && s->temperature <= 1e6f))
		return octavo_fail(error, OCTAVO_EINVAL, "temperature: %g is not 0 (greedy) or positive", (double)s->temperature);
	if (s->temperature > 0.0f && s->temperature < 1e-3f)
		return octavo_fail(error, OCTAVO_EINVAL, "temperature: %g is below 0.001; use 0 for greedy decoding",
		                   (double)s->temperature);
	if (!(s->top_p >= 0.0f && s->top_p <= 1.0f))
		return octavo_fail(error, OCTAVO_EINVAL, "top_p: %g is not in [0, 1]", (double)s->top_p);
	if (!(s->min_p >= 0.0f && s->min_p < 1.0f))
		return octavo_fail(error, OCTAVO_EINVAL, "min_p: %g is not in [0, 1)", (double)s->min_p);
	if (!(s->repetition >= 0.0f && s->repetition <= 100.0f))
		return octavo_fail(error, OCTAVO_EINVAL, "repetition: %g is not in (0, 100], nor 0 (off)", (double)s->repetition);
	if (!(s->frequency >= -100.0f && s->frequency <= 100.0f))
		return octavo_fail(error, OCTAVO_EINVAL, "frequency: %g is not in [-100, 100]", (double)s->frequency);
	if (!(s->presence >= -100.0f && s->presence <= 100.0f))
		return octavo_fail(error, OCTAVO_EINVAL, "presence: %g is not in [-100, 100]", (double)s->presence);
	if (s->biases && !s->bias)
		return octavo_fail(error, OCTAVO_EINVAL, "bias: %zu of them, but no list", s->biases);
	for (size_t i = 0; i < s->biases; i++)
		if (s->bias[i].token < 0 || !(s->bias[i].bias < INFINITY))
			return octavo_fail(error, OCTAVO_EINVAL, "bias: %g for token %d; tokens are at least 0, biases finite or "
			                   "-infinity", (double)s->bias[i].bias, (int)s->bias[i].token);
	return OCTAVO_OK;
}

/* Vocabularies are long: whole pieces of them go through loops of a fixed length, of which compilers make vectors. */
enum { PIECE = 64 };

/* The largest of a piece; NaN if there is one. */
static float piece_max(const float *x)
{
	float max[8];
	int nan = 0;
	for (size_t i = 0; i < 8; i++)
		max[i] = x[i];
	for (size_t at = 0; at < PIECE; at += 8)
		for (size_t i = 0; i < 8; i++) {
			nan |= x[at + i] != x[at + i];
			max[i] = x[at + i] > max[i] ? x[at + i] : max[i];
		}
	for (size_t i = 1; i < 8; i++)
		max[0] = max[i] > max[0] ? max[i] : max[0];
	return nan ? NAN : max[0];
}

int32_t octavo_argmax(const float *logits, size_t vocab)
{
	size_t best = 0, i = 0;
	while (i < vocab) {
		if (vocab - i >= PIECE) {
			float max = piece_max(logits + i);
			if (max != max)
				return -1;
			if (i && !(max > logits[best])) {
				i += PIECE;
				continue;
			}
		}
		for (size_t end = vocab - i >= PIECE ? i + PIECE : vocab; i < end; i++) {
			if (logits[i] != logits[i])
				return -1;
			if (logits[i] > logits[best])
				best = i;
		}
	}
	return (int32_t)best;
}

/* Whether token a comes before token b: heavier first, equal masses by id.  A total order, the same everywhere. */
static int before(const double *law, uint32_t a, uint32_t b)
{
	return law[a] > law[b] || (law[a] == law[b] && a < b);
}

static void sift(uint32_t *heap, size_t size, size_t at, const double *law)
{
	for (size_t child; (child = 2 * at + 1) < size; at = child) {
		if (child + 1 < size && before(law, heap[child + 1], heap[child]))
			child++;
		if (!before(law, heap[child], heap[at]))
			return;
		uint32_t t = heap[at];
		heap[at] = heap[child];
		heap[child] = t;
	}
}

/* Moves the best token of heap[size] behind the others and returns it. */
static uint32_t pop(uint32_t *heap, size_t size, const double *law)
{
	uint32_t best = heap[0];
	heap[0] = heap[size - 1];
	heap[size - 1] = best;
	sift(heap, size - 1, 0, law);
	return best;
}

/* The tokens with masses in [floor, ceiling), but for 0. */
static size_t gather(const double *law, size_t vocab, double floor, double ceiling, uint32_t *token)
{
	size_t count = 0;
	for (size_t i = 0; i < vocab; i++) {
		token[count] = (uint32_t)i;
		count += law[i] >= floor && law[i] < ceiling && law[i] > 0.0;
	}
	return count;
}

/* Zeroes all but the best tokens: as few as have the mass `wanted`, and no more than `most`.  The best of all has
 * mass 1; it and some behind it mostly are enough, so tokens are put in order one range of masses after the other.
 * Returns the mass of those that are left. */
static double keep_best(double *law, size_t vocab, size_t most, double wanted, uint32_t *order)
{
	double mass = 0.0, floor = 0x1p-6, ceiling = INFINITY;
	size_t kept = 0;
	uint32_t last = 0;
	while (kept < most && mass < wanted && ceiling > 0.0) {
		size_t size = gather(law, vocab, floor, ceiling, order);
		for (size_t i = size / 2; i-- > 0;)
			sift(order, size, i, law);
		for (; size && kept < most && mass < wanted; kept++)
			mass += law[last = pop(order, size--, law)];
		ceiling = floor;
		floor = floor > 0x1p-126 ? floor * 0x1p-6 : 0.0;
	}
	double least = law[last];
	for (size_t i = 0; i < vocab; i++)
		law[i] = law[i] > least || (law[i] == least && i <= last) ? law[i] : 0.0;
	return mass;
}

/* Zeroes all but the top_k best, and of these all but the fewest that hold top_p of their mass. */
static void truncate_tail(const struct octavo_sampling *s, double *law, size_t vocab, double total, uint32_t *order)
{
	if (s->top_k && s->top_k < vocab)
		total = keep_best(law, vocab, s->top_k, INFINITY, order);
	if (s->top_p > 0.0f && s->top_p < 1.0f)
		keep_best(law, vocab, vocab, (double)s->top_p * total, order);
}

/* A row's logits: as the model gave them, or adjusted and kept where the law will be. */
struct scores {
	const float *logits;    /* [vocab]; NULL: look there */
	const double *adjusted; /* [vocab] */
};

static float score(const struct scores *x, size_t i)
{
	return x->logits ? x->logits[i] : (float)x->adjusted[i];
}

/* As octavo_argmax, but -1 also if the best is not finite. */
static int32_t best_score(const struct scores *x, size_t vocab)
{
	if (x->logits) {
		int32_t best = octavo_argmax(x->logits, vocab);
		return best >= 0 && isfinite(x->logits[best]) ? best : -1;
	}
	size_t best = 0;
	for (size_t i = 0; i < vocab; i++) {
		if (isnan(x->adjusted[i]))
			return -1;
		if (x->adjusted[i] > x->adjusted[best])
			best = i;
	}
	return isfinite(x->adjusted[best]) ? (int32_t)best : -1;
}

static void get_scores(const struct scores *x, size_t first, size_t n, float *score)
{
	if (x->logits)
		memcpy(score, x->logits + first, n * sizeof *score);
	else
		for (size_t i = 0; i < n; i++)
			score[i] = (float)x->adjusted[first + i];
}

enum { STRETCH = 256 };

/* In eight lanes, which then are added in order; as variables, since compilers keep an array of them in memory. */
static double sum_of(const double *law, size_t n)
{
	double a = 0.0, b = 0.0, c = 0.0, d = 0.0, e = 0.0, f = 0.0, g = 0.0, h = 0.0;
	size_t i = 0;
	for (; n - i >= 8; i += 8) {
		a += law[i];
		b += law[i + 1];
		c += law[i + 2];
		d += law[i + 3];
		e += law[i + 4];
		f += law[i + 5];
		g += law[i + 6];
		h += law[i + 7];
	}
	double lane[8] = { a, b, c, d, e, f, g, h };
	for (size_t j = 0; i + j < n; j++)
		lane[j] += law[i + j];
	for (size_t j = 1; j < 8; j++)
		lane[0] += lane[j];
	return lane[0];
}

/* law[i] = exp((score[i] - best) / temperature), unnormalised; 0 for a best that is infinite then.  The scores may
 * be in law: each is read before its place is written. */
static int make_exponentials(const struct octavo_sampling *s, const struct scores *x, size_t vocab, size_t best,
                             double *law)
{
	const struct octavo_kernels *k = octavo_kernels_get();
	float tempered[STRETCH] = { 0.0f }, p[STRETCH] = { 0.0f };
	double wide[STRETCH];
	float max = score(x, best) / s->temperature;
	if (!isfinite(max))
		return 0;
	for (size_t first = 0; first < vocab; first += STRETCH) {
		size_t n = vocab - first < STRETCH ? vocab - first : STRETCH;
		get_scores(x, first, n, tempered);
		for (size_t i = 0; i < STRETCH; i++)
			tempered[i] /= s->temperature;
		k->exp_row->run(p, tempered, max, n);
		for (size_t i = 0; i < STRETCH; i++)
			wide[i] = (double)p[i];
		memcpy(law + first, wide, n * sizeof *law);
	}
	return 1;
}

static void scale(double *law, size_t n, double factor)
{
	size_t i = 0;
	for (; n - i >= 8; i += 8)
		for (size_t j = 0; j < 8; j++)
			law[i + j] *= factor;
	for (; i < n; i++)
		law[i] *= factor;
}

static enum octavo_status make_law(const struct octavo_sampling *s, const struct octavo_prefix *prefix,
                                   const float *logits, size_t vocab, double *law, uint32_t *order)
{
	struct scores x = { logits, NULL };
	if (s->biases || octavo_law_penalises(s)) {
		octavo_adjust(s, prefix, logits, vocab, law, order);
		x = (struct scores){ NULL, law };
	}
	int32_t best = best_score(&x, vocab);
	if (best < 0)
		return OCTAVO_ENUMERIC;
	if (s->temperature == 0.0f) {
		for (size_t i = 0; i < vocab; i++)
			law[i] = i == (size_t)best;
		return OCTAVO_OK;
	}
	if (!make_exponentials(s, &x, vocab, (size_t)best, law))
		return OCTAVO_ENUMERIC;
	if (octavo_law_truncates(s, vocab))
		truncate_tail(s, law, vocab, sum_of(law, vocab), order);
	if (s->min_p > 0.0f) /* the best token has mass exp(0) = 1 */
		for (size_t i = 0; i < vocab; i++)
			if (law[i] < (double)s->min_p)
				law[i] = 0.0;
	scale(law, vocab, 1.0 / sum_of(law, vocab));
	return OCTAVO_OK;
}

/* Whether everything is there that the parameters look at. */
static int is_complete(const struct octavo_sampling *s, const struct octavo_prefix *prefix, size_t vocab,
                       const uint32_t *order)
{
	for (size_t i = 0; i < s->biases; i++)
		if (!s->bias || s->bias[i].token < 0 || (size_t)s->bias[i].token >= vocab)
			return 0;
	if (octavo_law_penalises(s) && (!prefix || (prefix->count && !prefix->token)))
		return 0;
	return order || !(octavo_law_truncates(s, vocab) || octavo_law_penalises(s));
}

/* A law decides tokens, so it is made in the contract's floating-point environment, whatever the caller's is. */
enum octavo_status octavo_law(const struct octavo_sampling *s, const struct octavo_prefix *prefix, const float *logits,
                              size_t vocab, double *law, uint32_t *order)
{
	if (!s || !vocab || !logits || !law || !is_complete(s, prefix, vocab, order))
		return OCTAVO_EINVAL;
	octavo_fpenv saved = octavo_fpenv_enter();
	enum octavo_status status = make_law(s, prefix, logits, vocab, law, order);
	octavo_fpenv_leave(saved);
	return status;
}

static int32_t find_quantile(const double *law, size_t vocab, double u)
{
	double total = 0.0, mass = 0.0;
	int32_t last = -1;
	for (size_t i = 0; i < vocab; i++)
		total += law[i];
	for (size_t i = 0; i < vocab; i++) {
		if (law[i] <= 0.0)
			continue;
		last = (int32_t)i;
		mass += law[i];
		if (u * total < mass)
			return last;
	}
	return last; /* u * total rounded up to the whole mass */
}

int32_t octavo_quantile(const double *law, size_t vocab, double u)
{
	octavo_fpenv saved = octavo_fpenv_enter();
	int32_t token = find_quantile(law, vocab, u);
	octavo_fpenv_leave(saved);
	return token;
}
