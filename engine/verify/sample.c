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

int32_t octavo_argmax(const float *logits, size_t vocab)
{
	size_t best = 0;
	for (size_t i = 0; i < vocab; i++) {
		if (logits[i] != logits[i])
			return -1;
		if (logits[i] > logits[best])
			best = i;
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

/* Zeroes all but the top_k best, and of these all but the fewest that hold top_p of their mass. */
static void truncate_tail(const struct octavo_sampling *s, double *law, size_t vocab, double total, uint32_t *order)
{
	size_t most = s->top_k && s->top_k < vocab ? s->top_k : vocab;
	double wanted = s->top_p > 0.0f && s->top_p < 1.0f ? (double)s->top_p : 2.0; /* 2: never reached */
	for (size_t i = 0; i < vocab; i++)
		order[i] = (uint32_t)i;
	for (size_t i = vocab / 2; i-- > 0;)
		sift(order, vocab, i, law);
	size_t popped = 0;
	double mass = 0.0;
	if (most < vocab) {
		/* top-p counts relative to what top-k leaves */
		while (popped < most)
			mass += law[pop(order, vocab - popped++, law)];
		total = mass;
		size_t kept = 0;
		for (mass = 0.0; kept < popped && mass < wanted * total; kept++)
			mass += law[order[vocab - 1 - kept]];
		for (size_t i = kept; i < popped; i++)
			law[order[vocab - 1 - i]] = 0.0;
	} else {
		while (popped < most && mass < wanted * total)
			mass += law[pop(order, vocab - popped++, law)];
	}
	for (size_t i = 0; i < vocab - popped; i++)
		law[order[i]] = 0.0;
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

/* law[i] = exp((score[i] - best) / temperature), unnormalised; returns the sum, or a negative number for an infinite
 * one.  The scores may be in law: each is read before its place is written. */
static double exponentials(const struct octavo_sampling *s, const struct scores *x, size_t vocab, size_t best,
                           double *law)
{
	const struct octavo_kernels *k = octavo_kernels_get();
	float tempered[256], p[256];
	float max = score(x, best) / s->temperature;
	if (!isfinite(max))
		return -1.0;
	double total = 0.0;
	for (size_t first = 0; first < vocab; first += 256) {
		size_t n = vocab - first < 256 ? vocab - first : 256;
		for (size_t i = 0; i < n; i++)
			tempered[i] = score(x, first + i) / s->temperature;
		k->exp_row->run(p, tempered, max, n);
		for (size_t i = 0; i < n; i++)
			total += law[first + i] = (double)p[i];
	}
	return total;
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
	double total = exponentials(s, &x, vocab, (size_t)best, law);
	if (!(total > 0.0))
		return OCTAVO_ENUMERIC;
	if (octavo_law_truncates(s, vocab))
		truncate_tail(s, law, vocab, total, order);
	if (s->min_p > 0.0f) /* the best token has mass exp(0) = 1 */
		for (size_t i = 0; i < vocab; i++)
			if (law[i] < (double)s->min_p)
				law[i] = 0.0;
	total = 0.0;
	for (size_t i = 0; i < vocab; i++)
		total += law[i];
	for (size_t i = 0; i < vocab; i++)
		law[i] /= total;
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
