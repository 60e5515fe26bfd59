/* SPDX-License-Identifier: Apache-2.0
 *
 * What a run's figures look like: as text, and as the "runs" of the JSON document.
 */
#include "bench/runs.h"

#include <string.h>

enum octavo_promise run_promise(const struct run *run)
{
	return run_is_plain(run) ? OCTAVO_SAME_TOKENS : octavo_accept_promise(run->accept.rule, &run->sampling);
}

static bool is_lossy(const struct run *run)
{
	return run_promise(run) == OCTAVO_LOSSY;
}

/* Of the tokens that followed plain decoding's text, those that were others than its next. */
static double share_differing(const struct run *run)
{
	return (double)run->parting.prompts / (double)run->parting.tokens;
}

/* The column "lossless". */
enum { VERDICT_TEXT = 32 };
static const char *verdict(const struct run *run, char text[VERDICT_TEXT])
{
	enum octavo_promise promise = run_promise(run);
	if (run_is_plain(run) && run->batch == 1)
		return "-";
	if (promise == OCTAVO_SAME_TOKENS)
		return run->divergence.found ? "NO" : "identical";
	if (promise == OCTAVO_SAME_LAW)
		return "in law";
	snprintf(text, VERDICT_TEXT, "LOSSY: %.2f %% differ", 100.0 * share_differing(run));
	return text;
}

bool runs_identical(const struct runs *r)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->run[i].divergence.found)
			return false;
	return true;
}

/* ---- Text: speed ------------------------------------------------------------------------------------------------ */

static double tokens_per_step(const struct run *run)
{
	return (double)run->tokens / (double)run->steps;
}

/* A range over fewer prompts says nothing of the spread between prompts. */
static bool has_range(const struct run *run)
{
	return run->groups >= 5;
}

static bool loops(const struct run *run)
{
	return run->distinct4 < 0.7;
}

/* "0.50 0.27", by depth. */
enum { ACCEPTANCE_TEXT = OCTAVO_MAX_K * 5 + 1 };
static size_t acceptance_text(const struct run *run, char text[ACCEPTANCE_TEXT])
{
	size_t at = 0;
	strcpy(text, "-");
	for (size_t i = 0; i < OCTAVO_MAX_K && run->drafted[i]; i++)
		at += (size_t)snprintf(text + at, ACCEPTANCE_TEXT - at, "%s%.2f", i ? " " : "",
		                       (double)run->accepted[i] / (double)run->drafted[i]);
	return strlen(text);
}

static int wider(int width, size_t length)
{
	return (int)length > width ? (int)length : width;
}

struct columns runs_columns(const struct runs *r, size_t first, size_t end)
{
	struct columns c = { (int)strlen("ngram+mtp"), (int)strlen("auto"), (int)strlen("accepted by depth") };
	char text[ACCEPTANCE_TEXT];
	for (const struct run *run = r->run + first; run < r->run + end; run++) {
		c.drafter = wider(c.drafter, strlen(run->label));
		c.shape = wider(c.shape, strlen(run->shape));
		c.acceptance = wider(c.acceptance, acceptance_text(run, text));
	}
	return c;
}

void columns_head(const struct columns *c)
{
	printf("  %-*s %-*s", c->drafter, "drafter", c->shape, "k");
}

void columns_run(const struct columns *c, const struct run *run)
{
	printf("  %-*s %-*s", c->drafter, run->label, c->shape, run_is_plain(run) ? "-" : run->shape);
}

static void print_speed_row(const struct run *run, const struct columns *c)
{
	char text[ACCEPTANCE_TEXT];
	columns_run(c, run);
	printf(" %8.1f  %5.2f", run->tokens_per_s, run->speedup);
	if (run_is_plain(run))
		printf("  %-10s", "");
	else if (has_range(run))
		printf("  %4.2f..%-4.2f", run->lo, run->hi);
	else
		printf("  %-10s", "-");
	acceptance_text(run, text);
	printf("  %-*s  %8.2f  %5.2f", c->acceptance, text, tokens_per_step(run), run->distinct4);
	printf("  %s%s\n", verdict(run, text), loops(run) ? ", loops" : "");
}

/* What a lossy rule cost, and what the candidates rule saved. */
static void print_parting(const struct run *run)
{
	const struct parting *p = &run->parting;
	if (!is_lossy(run))
		return;
	printf("  LOSSY: %s %s left plain decoding on %zu of %zu prompts: %zu of the %zu tokens up to there differ\n",
	       run->label, run->shape, p->prompts, run->prompts, p->prompts, p->tokens);
	if (run->accept.shortlist.most)
		printf("    %.1f candidates a step; the head for all tokens in %.1f %% of the steps, for %.1f %% of the tokens\n",
		       (double)run->candidates / (double)run->steps,
		       100.0 * (double)run->full_steps / (double)run->steps,
		       100.0 * (double)run->full_rows / (double)run->tokens);
}

/* The verdict of a table, of those that keep plain decoding's tokens or law. */
static void print_fastest(const struct runs *r, size_t first, size_t end)
{
	const struct run *best = &r->run[first];
	for (const struct run *run = best + 1; run < r->run + end; run++)
		if (!is_lossy(run) && !run->divergence.found && run->speedup > best->speedup)
			best = run;
	if (end - first < 2)
		return;
	const char *doubt = !has_range(best)  ? "; too few prompts to say whether that is chance"
	                    : best->lo <= 1.0 ? "; that may be chance, since its range holds 1"
	                                      : "";
	if (run_is_plain(best))
		printf("\n  fastest: plain decoding\n");
	else
		printf("\n  fastest: %s %s, %.2f times plain decoding%s\n", best->label, best->shape, best->speedup,
		       doubt);
}

/* What the labels leave out. */
static void print_directories(const struct runs *r, size_t first, size_t end)
{
	for (size_t i = first; i < end; i++)
		if (strcmp(r->run[i].label, r->run[i].drafter) && strcmp(r->run[i].drafter, r->run[i - 1].drafter))
			printf("  %s: %s\n", r->run[i].label, r->run[i].drafter);
}

static void print_batch(const struct run *plain)
{
	if (plain->batch > 1)
		printf("\n  one prompt at a time, plain decoding emits %.1f tokens/s: %zu side by side are %.2f times as fast, and all\n"
		       "  tokens above were compared with those\n",
		       plain->alone_tokens_per_s, plain->batch, plain->tokens_per_s / plain->alone_tokens_per_s);
}

static void print_speed(const struct runs *r, size_t first, size_t end)
{
	char bent[SAMPLING_TEXT];
	sampling_text(&r->run[first].sampling, bent, sizeof bent);
	char crowd[64] = "";
	if (r->batch > 1)
		snprintf(crowd, sizeof crowd, ", %zu side by side", r->batch);
	char among[80] = "";
	if (r->draft_vocab)
		snprintf(among, sizeof among, ",\ndrafts among the first %zu tokens and the text's", r->draft_vocab);
	printf("\n%s%s at temperature %g%s: %zu prompt%s%s, up to %zu tokens each, acceptance rule %s%s%s\n\n",
	       r->arithmetic, strcmp(r->kv, "fp8") ? "" : ", FP8 KV cache,", r->run[first].temperature, bent,
	       r->prompts, r->prompts == 1 ? "" : "s", crowd, r->tokens, r->run[first].accept.text,
	       is_lossy(&r->run[end - 1]) ? " (LOSSY)" : "", among);
	struct columns columns = runs_columns(r, first, end);
	columns_head(&columns);
	printf(" tokens/s  speed  95 %% range  %-*s  tok/step  dist4  lossless\n", columns.acceptance,
	       "accepted by depth");
	for (size_t i = first; i < end; i++)
		print_speed_row(&r->run[i], &columns);
	print_fastest(r, first, end);
	for (size_t i = first; i < end; i++)
		divergence_print(r, &r->run[i]);
	for (size_t i = first; i < end; i++)
		print_parting(&r->run[i]);
	print_directories(r, first, end);
	print_batch(&r->run[first]);
	if (!first) /* once is enough */
		printf("\n"
		       "  speed: plain decoding's time per token over this run's, prefill apart; its 95 %% range is a\n"
		       "  bootstrap over the prompts (over groups of them where several are decoded side by side), if there are\n"
		       "  five. accepted by depth: accepted / drafted at that depth, over all steps that drafted so deep.\n"
		       "  tok/step: of a sequence. dist4: distinct 4-grams / 4-grams; below 0.7 the text loops.\n");
}

/* ---- Text: predictions ------------------------------------------------------------------------------------------- */

static void print_predictions(const struct runs *r, size_t first, size_t end)
{
	struct columns columns = runs_columns(r, first, end);
	bool any = false;
	for (size_t i = first + 1; i < end; i++) {
		struct prediction p = predict(&r->cost, &r->run[i], &r->run[first]);
		if (!p.known)
			continue;
		if (!any) {
			printf("\nPredicted: tokens per step / (draft + verify + accept), in forwards of one row, from the even\n"
			       "prompts; measured: the odd prompts; r(rows): what r(M) above says of verify\n\n");
			columns_head(&columns);
			printf("  tok/step   draft  verify  r(rows)  accept  predicted  measured   error\n");
		}
		any = true;
		columns_run(&columns, &r->run[i]);
		printf("  %8.2f  %6.2f  %6.2f  %7.2f  %6.2f  %9.2f  %8.2f  %+5.1f%%%s%s\n", p.tau, p.draft, p.verify,
		       p.curve, p.accept, p.speedup, p.measured, 100.0 * (p.speedup / p.measured - 1.0),
		       p.off ? ", because of " : "", p.off ? p.off : "");
	}
}

static void print_outlook(const struct runs *r, size_t first, size_t end)
{
	if (!r->full.count || end - first < 2)
		return;
	struct columns columns = runs_columns(r, first, end);
	outlook_head(&r->full, r->full_file, &columns);
	for (size_t i = first + 1; i < end; i++) {
		struct outlook o = outlook_of(&r->full, &r->run[i], &r->run[first]);
		if (o.known)
			outlook_print(&o, &r->run[i], &columns);
	}
}

/* ---- Text: all of it -------------------------------------------------------------------------------------------- */

static bool any_promises(const struct runs *r, enum octavo_promise promise)
{
	for (size_t i = 0; i < r->count; i++)
		if (run_promise(&r->run[i]) == promise && (!run_is_plain(&r->run[i]) || r->count == 1))
			return true;
	return false;
}

static void print_verdicts(const struct runs *r)
{
	putchar('\n');
	if (!runs_identical(r))
		printf("  identical: NO. See the divergences above.\n");
	else if (any_promises(r, OCTAVO_SAME_TOKENS))
		printf("  identical: yes. Every run%s emitted the tokens of plain decoding, bit for bit.\n",
		       any_promises(r, OCTAVO_SAME_LAW) || any_promises(r, OCTAVO_LOSSY) ? " at temperature 0" : "");
	if (any_promises(r, OCTAVO_SAME_LAW))
		printf("  lossless: in law. The rule emits other tokens than plain decoding, with exactly the same law: this is\n"
		       "  proven by enumeration (make check), it cannot be seen in one text.\n");
	if (any_promises(r, OCTAVO_LOSSY))
		printf("  LOSSY: the rule emits tokens that the model would not have drawn; the text has another law. What differs is\n"
		       "  counted against plain decoding with the same random numbers, up to the first difference of each prompt.\n");
}

void runs_print(const struct runs *r)
{
	cost_print(&r->cost);
	for (size_t first = 0, end; first < r->count; first = end) {
		for (end = first + 1; end < r->count && !run_is_plain(&r->run[end]);)
			end++;
		print_speed(r, first, end);
		categories_print(r, first, end);
		print_predictions(r, first, end);
		experts_print(r, first, end);
		print_outlook(r, first, end);
		phases_print(r, first, end);
	}
	phases_notes(&r->run[0].profile);
	load_print(&r->load);
	if (r->prompts < r->loaded)
		printf("\n  %zu of %zu prompts: %s\n", r->prompts, r->loaded,
		       interrupted() ? "interrupted" : "the time for this report was up (--seconds)");
	print_verdicts(r);
}

json_t *runs_stopped_json(const struct runs *r)
{
	return r->prompts == r->loaded ? json_null() : json_string(interrupted() ? "interrupt" : "seconds");
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static json_t *prediction_json(const struct prediction *p)
{
	if (!p->known)
		return json_null();
	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s?}", "tau", p->tau, "draft", p->draft, "verify",
	                 p->verify, "curve", p->curve, "accept", p->accept, "speedup", p->speedup, "measured",
	                 p->measured, "off", p->off);
}

/* Of a lossy rule, measured. */
static json_t *parting_json(const struct run *run)
{
	if (!is_lossy(run))
		return json_null();
	return json_pack("{s:I, s:I, s:f}", "tokens", (json_int_t)run->parting.tokens, "prompts",
	                 (json_int_t)run->parting.prompts, "share", share_differing(run));
}

/* Of the candidates rule. */
static json_t *shortlist_json(const struct run *run)
{
	const struct octavo_shortlist *list = &run->accept.shortlist;
	if (run_is_plain(run) || !list->most)
		return json_null();
	return json_pack("{s:I, s:f, s:f, s:f, s:f}", "most", (json_int_t)list->most, "sure", list->sure,
	                 "candidates_per_step", (double)run->candidates / (double)run->steps, "full_steps",
	                 (double)run->full_steps / (double)run->steps, "full_tokens",
	                 (double)run->full_rows / (double)run->tokens);
}

static const char *const promises[] = { [OCTAVO_SAME_TOKENS] = "in tokens", [OCTAVO_SAME_LAW] = "in law",
	                                [OCTAVO_LOSSY] = "no" };

static json_t *run_json(const struct runs *r, const struct run *run, const struct run *plain)
{
	json_t *acceptance = json_array();
	for (size_t i = 0; i < OCTAVO_MAX_K && run->drafted[i]; i++)
		json_array_append_new(acceptance, json_real((double)run->accepted[i] / (double)run->drafted[i]));
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:b, s:f, s:I, s:I, s:f, s:f, s:f}", "model", r->model,
	                      "arithmetic", r->arithmetic, "kv", r->kv, "drafter", run->drafter, "k",
	                      (json_int_t)run->k, "accept", run->accept.text, "lossy", is_lossy(run), "temperature",
	                      run->temperature, "tokens", (json_int_t)run->tokens, "prompts",
	                      (json_int_t)run->prompts, "tokens_per_s", run->tokens_per_s, "baseline_tokens_per_s",
	                      plain->tokens_per_s, "speedup", run->speedup);
	json_object_set_new(o, "speedup_ci", has_range(run) ? json_pack("[f, f]", run->lo, run->hi) : json_null());
	struct prediction predicted = run_is_plain(run) ? (struct prediction){ 0 } : predict(&r->cost, run, plain);
	json_object_set_new(o, "batch", json_integer((json_int_t)run->batch));
	json_object_set_new(o, "alone_tokens_per_s", run->batch > 1 ? json_real(run->alone_tokens_per_s) : json_null());
	json_object_set_new(o, "shape", run_is_plain(run) ? json_null() : json_string(run->shape));
	json_object_set_new(o, "speedup_predicted", predicted.known ? json_real(predicted.speedup) : json_null());
	json_object_set_new(o, "prediction", prediction_json(&predicted));
	struct outlook outlook = run_is_plain(run) ? (struct outlook){ 0 } : outlook_of(&r->full, run, plain);
	json_object_set_new(o, "full_size", outlook_json(&outlook));
	json_object_set_new(o, "lossless", json_string(promises[run_promise(run)]));
	json_object_set_new(o, "identical",
	                    run_promise(run) == OCTAVO_SAME_TOKENS ? json_boolean(!run->divergence.found)
	                                                           : json_null());
	json_object_set_new(o, "divergence", divergence_json(r, run));
	json_object_set_new(o, "parting", parting_json(run));
	json_object_set_new(o, "shortlist", shortlist_json(run));
	json_object_set_new(o, "tau", json_real(tokens_per_step(run)));
	json_object_set_new(o, "acceptance", acceptance);
	json_object_set_new(o, "distinct4", json_real(run->distinct4));
	json_object_set_new(o, "zero_draft_steps", json_integer((json_int_t)run->zero_draft_steps));
	json_object_set_new(o, "steps", json_integer((json_int_t)run->steps));
	json_object_set_new(o, "prefill_ns", json_real(run->prefill_ns));
	json_object_set_new(o, "decode_ns", json_real(run->decode_ns));
	json_object_set_new(o, "loops", json_boolean(loops(run)));
	categories_json(o, r, run, plain);
	experts_json(o, r, run);
	json_object_set_new(o, "r", cost_json(&r->cost));
	json_object_set_new(o, "phases", phases_json(&run->profile));
	json_object_set_new(o, "threads", phases_threads_json(run));
	return o;
}

json_t *runs_json(const struct runs *r)
{
	json_t *all = json_array();
	const struct run *plain = NULL;
	for (size_t i = 0; i < r->count; i++) {
		if (run_is_plain(&r->run[i]))
			plain = &r->run[i];
		json_array_append_new(all, run_json(r, &r->run[i], plain));
	}
	return all;
}
