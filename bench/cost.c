/* SPDX-License-Identifier: Apache-2.0
 *
 * The verify cost curve r(M): what one forward of M rows costs against one of a single row, on this machine and model.
 * Speculation pays only if it emits more tokens per step than r(k + 1) and the drafts cost together.
 */
#include "bench/runs.h"

#include <stdlib.h>

enum { REPEATS = 9, CONTEXT = 64 };

static const size_t row_counts[] = { 1, 2, 3, 4, 5, 6, 8, 16 };

/* One forward of `rows` provisional rows after the committed ones; its time in ns, or a negative number. */
static double time_forward(struct octavo_engine *engine, const int32_t *token, size_t rows, struct octavo_error *error)
{
	int32_t pos[16], seq[16], parent[16];
	uint8_t flags[16];
	size_t committed = octavo_sequence_length(engine, 0);
	for (size_t i = 0; i < rows; i++) {
		pos[i] = (int32_t)(committed + i);
		seq[i] = 0;
		parent[i] = (int32_t)i - 1;
		flags[i] = OCTAVO_ROW_LOGITS;
	}
	struct octavo_batch batch = { rows, token, pos, seq, parent, flags };
	uint64_t start = octavo_now_ns();
	if (octavo_forward(engine, &batch, error) != OCTAVO_OK)
		return -1.0;
	return (double)(octavo_now_ns() - start);
}

/* Commits `count` tokens to sequence 0, a few rows at a time. */
static bool fill(struct octavo_engine *engine, const int32_t *token, size_t count, struct octavo_error *error)
{
	static const uint32_t row[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
	for (size_t done = 0; done < count;) {
		size_t rows = count - done < 16 ? count - done : 16;
		if (time_forward(engine, token + done, rows, error) < 0 ||
		    octavo_commit(engine, 0, row, rows, error) != OCTAVO_OK)
			return false;
		done += rows;
	}
	return true;
}

static bool measure(struct cost *cost, struct octavo_engine *engine, const int32_t *token, struct octavo_error *error)
{
	enum { COUNTS = sizeof row_counts / sizeof *row_counts };
	double ns[COUNTS][REPEATS];
	struct octavo_summary summary;
	if (!fill(engine, token, CONTEXT, error))
		return false;
	for (size_t repeat = 0; repeat < REPEATS; repeat++)
		for (size_t i = 0; i < COUNTS; i++) {
			ns[i][repeat] = time_forward(engine, token + CONTEXT, row_counts[i], error);
			if (ns[i][repeat] < 0)
				return false;
		}
	for (size_t i = 0; i < COUNTS; i++) {
		octavo_summarise(ns[i], REPEATS, &summary);
		cost->rows[i] = row_counts[i];
		cost->ns[i] = summary.median;
	}
	cost->count = COUNTS;
	return true;
}

bool cost_measure(struct cost *cost, struct octavo_engine *engine, const struct prompts *prompts)
{
	struct octavo_error error;
	int32_t token[CONTEXT + 16];
	size_t count = 0;
	*cost = (struct cost){ 0 };
	if (octavo_engine_model(engine)->context < CONTEXT + 16)
		return true; /* too small a model for the curve: it is left out */
	/* Real text, so that the experts it chooses are those of real text. */
	for (size_t i = 0; count < CONTEXT + 16; i = (i + 1) % prompts->count)
		for (size_t j = 0; j < prompts->item[i].tokens && count < CONTEXT + 16; j++)
			token[count++] = prompts->item[i].token[j];
	bool good = measure(cost, engine, token, &error);
	if (!good)
		complain("cost curve: %s", error.text);
	octavo_rewind(engine, 0, 0, &error);
	return good;
}

void cost_print(const struct cost *cost)
{
	if (!cost->count)
		return;
	printf("\nverify cost: a forward of M rows takes r(M) times one of a single row (%.2f ms)\n\n  M     ",
	       cost->ns[0] * 1e-6);
	for (size_t i = 0; i < cost->count; i++)
		printf(" %6zu", cost->rows[i]);
	printf("\n  r(M)  ");
	for (size_t i = 0; i < cost->count; i++)
		printf(" %6.2f", cost->ns[i] / cost->ns[0]);
	putchar('\n');
}

json_t *cost_json(const struct cost *cost)
{
	json_t *r = json_object();
	for (size_t i = 0; i < cost->count; i++) {
		char key[24];
		snprintf(key, sizeof key, "%zu", cost->rows[i]);
		json_object_set_new(r, key, json_real(cost->ns[i] / cost->ns[0]));
	}
	return r;
}
