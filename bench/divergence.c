/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a run that promises plain decoding's tokens left them, and why: found, told and written down.
 */
#include "bench/runs.h"

#include <math.h>

/* In an engine of its own, since it takes two sequences. */
static void explain(const struct runs *r, struct divergence *d, const struct octavo_history *history)
{
	struct octavo_engine_settings settings = *r->engine;
	struct octavo_parting parting = { .at = d->token, .plain = d->plain };
	struct octavo_engine *engine;
	struct octavo_error error;
	settings.sequences = 2;
	settings.profiler = NULL;
	enum octavo_status status = octavo_engine_open(&engine, &settings, &error);
	if (status == OCTAVO_OK)
		status = octavo_explain(engine, history, &parting, &d->why, &error);
	if (status != OCTAVO_OK)
		complain("the divergence on prompt %s cannot be explained: %s", d->prompt, error.text);
	d->explained = status == OCTAVO_OK;
	octavo_engine_close(&engine);
}

void divergence_find(const struct runs *r, struct run *run, const struct output *got, const struct output *plain,
                     const struct prompt *prompt)
{
	for (size_t i = 0; i < got->count || i < plain->count; i++) {
		int32_t a = i < plain->count ? plain->token[i] : -1, b = i < got->count ? got->token[i] : -1;
		if (a == b)
			continue;
		run->divergence = (struct divergence){ .found = true, .prompt = prompt->id, .token = i,
			                               .position = prompt->tokens + i, .plain = a, .got = b,
			                               .margin = i < plain->count ? plain->margin[i] : 0.0f };
		explain(r, &run->divergence, got->history);
		return;
	}
}

/* ---- Text -------------------------------------------------------------------------------------------------------- */

static void print_first(const struct octavo_explanation *why)
{
	printf("    Run again, each row alone and in its batch, the first other bits are at position %zu (the prompt's first is\n"
	       "    0), row %zu of a batch of %zu: layer %zu, %s, element %zu of %zu is %.9g alone\n"
	       "    and %.9g in the batch; all of them are at most %.3g apart, the row's logits at most %.3g.\n",
	       why->position, why->row, why->rows, why->layer, why->operation, why->element, why->elements,
	       (double)why->alone, (double)why->together, why->largest, why->logits);
}

static void print_choice(const struct divergence *d)
{
	const struct octavo_choice *c = &d->why.choice;
	if (d->why.found && c->known)
		printf("    At position %zu, behind which the tokens differ, row %zu of %zu, the logits are up to %.3g apart:\n"
		       "    token %d has %.6f alone and %.6f in the batch, token %d has %.6f and %.6f.\n",
		       c->position, c->row, c->rows, c->logits, (int)d->plain, (double)c->plain[0], (double)c->plain[1],
		       (int)d->got, (double)c->got[0], (double)c->got[1]);
}

static void print_cause(const struct runs *r, const struct run *run)
{
	const struct divergence *d = &run->divergence;
	if (!d->why.found)
		printf("    Run again, each row alone and in its batch, %s all of it has the same bits%s.\n",
		       run->batch > 1 ? "but without the prompts beside it," : "up to there",
		       run->batch > 1 ? "" : ": kernels are not the cause");
	if (r->backend)
		printf("    Likely cause: backend %s, which is approximate: other numbers of rows, other sums. Without --backend the\n"
		       "    tokens are those of plain decoding.\n",
		       r->backend);
	else
		printf("    This must not happen, it is a defect of %s: please report it, with this text and what `specbench machine`\n"
		       "    and `specbench selftest` print.\n",
		       d->why.found ? "a kernel" : "Octavo's");
}

void divergence_print(const struct runs *r, const struct run *run)
{
	const struct divergence *d = &run->divergence;
	if (!d->found)
		return;
	printf("  %s%s%s left plain decoding on prompt %s behind %zu tokens: %d instead of %d at position %zu;\n"
	       "    margin of plain decoding's logits %.6g.\n",
	       run->label, run_is_plain(run) ? "" : " ", run_is_plain(run) ? ", side by side," : run->shape, d->prompt, d->token, (int)d->got, (int)d->plain, d->position, (double)d->margin);
	if (!d->explained)
		return; /* why not was said when it was tried */
	if (d->why.found)
		print_first(&d->why);
	print_choice(d);
	print_cause(r, run);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

/* What went wrong may have gone wrong far. */
static json_t *finite_json(double x)
{
	return isfinite(x) ? json_real(x) : json_null();
}

static json_t *choice_json(const struct octavo_choice *c)
{
	if (!c->known)
		return json_null();
	return json_pack("{s:I, s:I, s:I, s:[o, o], s:[o, o], s:o}", "position", (json_int_t)c->position, "row",
	                 (json_int_t)c->row, "rows", (json_int_t)c->rows, "plain", finite_json(c->plain[0]),
	                 finite_json(c->plain[1]), "got", finite_json(c->got[0]), finite_json(c->got[1]), "logits",
	                 finite_json(c->logits));
}

static json_t *explanation_json(const struct octavo_explanation *why)
{
	if (!why->found)
		return json_null();
	return json_pack("{s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "position",
	                 (json_int_t)why->position, "row", (json_int_t)why->row, "rows", (json_int_t)why->rows, "layer",
	                 (json_int_t)why->layer, "operation", why->operation, "element", (json_int_t)why->element,
	                 "elements", (json_int_t)why->elements, "alone", finite_json(why->alone), "together",
	                 finite_json(why->together), "largest", finite_json(why->largest), "logits",
	                 finite_json(why->logits), "choice", choice_json(&why->choice));
}

/* "backend": the likely cause; null if the kernels are Octavo's own. */
json_t *divergence_json(const struct runs *r, const struct run *run)
{
	const struct divergence *d = &run->divergence;
	if (!d->found)
		return json_null();
	return json_pack("{s:s, s:I, s:I, s:i, s:i, s:o, s:s?, s:o}", "prompt", d->prompt, "token",
	                 (json_int_t)d->token, "position", (json_int_t)d->position, "plain", (int)d->plain, "got",
	                 (int)d->got, "margin", finite_json(d->margin), "backend", r->backend, "explanation",
	                 explanation_json(&d->why));
}
