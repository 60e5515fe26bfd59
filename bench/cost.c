/* SPDX-License-Identifier: Apache-2.0
 *
 * The verify cost curve r(M): what one forward of M rows costs against one of a single row, on this machine and model.
 * Speculation pays only if it emits more tokens per step than r(k + 1) and the drafts cost together.
 */
#include "bench/runs.h"

enum { CONTEXT = 64, CHUNK = 16, TEXT = 128 };

/* Commits `count` tokens to sequence 0, a few rows at a time. */
static bool fill(struct octavo_engine *engine, const int32_t *token, size_t count, struct octavo_error *error)
{
	int32_t pos[CHUNK], seq[CHUNK] = { 0 }, parent[CHUNK];
	uint32_t row[CHUNK];
	uint8_t flags[CHUNK] = { 0 };
	for (size_t done = 0, rows; done < count; done += rows) {
		rows = count - done < CHUNK ? count - done : CHUNK;
		for (size_t i = 0; i < rows; i++) {
			pos[i] = (int32_t)(done + i);
			parent[i] = (int32_t)i - 1;
			row[i] = (uint32_t)i;
		}
		struct octavo_batch batch = { rows, token + done, pos, seq, parent, flags };
		if (octavo_forward(engine, &batch, error) != OCTAVO_OK ||
		    octavo_commit(engine, 0, row, rows, error) != OCTAVO_OK)
			return false;
	}
	return true;
}

bool cost_measure(struct octavo_cost *cost, struct octavo_engine *engine, const struct prompts *prompts)
{
	struct octavo_error error;
	int32_t token[CONTEXT + TEXT];
	size_t count = 0;
	*cost = (struct octavo_cost){ 0 };
	if (octavo_engine_model(engine)->context < CONTEXT + CHUNK)
		return true; /* too small a model for the curve: it is left out */
	/* Real text, so that the experts it chooses are those of real text. */
	for (size_t i = 0; count < CONTEXT + TEXT; i = (i + 1) % prompts->count)
		for (size_t j = 0; j < prompts->item[i].tokens && count < CONTEXT + TEXT; j++)
			token[count++] = prompts->item[i].token[j];
	bool good = fill(engine, token, CONTEXT, &error) &&
	            octavo_measure_cost(engine, 0, token + CONTEXT, TEXT, cost, &error) == OCTAVO_OK;
	if (!good)
		complain("cost curve: %s", error.text);
	octavo_rewind(engine, 0, 0, &error);
	return good;
}

void cost_print(const struct octavo_cost *cost)
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

json_t *cost_json(const struct octavo_cost *cost)
{
	json_t *r = json_object();
	for (size_t i = 0; i < cost->count; i++) {
		char key[24];
		snprintf(key, sizeof key, "%zu", cost->rows[i]);
		json_object_set_new(r, key, json_real(cost->ns[i] / cost->ns[0]));
	}
	return r;
}
