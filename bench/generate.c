/* SPDX-License-Identifier: Apache-2.0
 *
 * `specbench generate`: text in, text out, as it is decoded.
 */
#include "bench/bench.h"

#include <stdlib.h>
#include <string.h>

static const char help[] =
	"usage: specbench generate --prompt TEXT [OPTIONS]\n"
	"\n"
	"Prints the continuation of a text as it is decoded; a line of figures goes to standard error.\n"
	"\n"
	"  --prompt TEXT        what to continue (required)\n"
	"  --model DIR          default: the bundled model\n"
	"  --tokens N           new tokens, at most (default 128)\n"
	"  --context N          tokens in all, prompt included (default: the model's, at most 4096)\n"
	"  --drafter NAME       mtp (default where the model has a module), ngram, none; model (another model of the\n"
	"                       same tokenizer), medusa, hydra, parallel or eagle (heads), in MODEL/drafters/NAME or in\n"
	"                       DIR: NAME:DIR; or a pair: ngram+mtp\n"
	"  -k N                 drafted tokens per step, 1 to 8, or auto (default)\n"
	"  --tree SHAPE         draft a tree, such as 4,2,1 or dynamic:16,4,5\n"
	"  --accept RULE        match (default) or greedy: the text is that of plain decoding; rejection, block or\n"
	"                       multiround: another text, of the same law; typical and candidates:K[,P]: LOSSY\n"
	"  --draft-vocab N      draft only among the vocabulary's first N tokens and those that the text has held (default:\n"
	"                       all tokens)\n"
	"  --confidence P[,PATH[,MASS]]\n"
	"                       stop drafting where the drafter's best token has less than probability P, or the product of\n"
	"                       the best ones since the root less than PATH; of a tree's candidates only the fewest that hold\n"
	"                       MASS (0, the default: off); ngram and lookahead have no probabilities\n"
	"  --temperature T      0 is greedy (default: the model's generation_config.json, else 0.8)\n"
	"  --stop TEXT          end before this text; may be given up to 32 times\n"
	"  --top-k N, --top-p P, --min-p P, --repetition-penalty R, --frequency-penalty F, --presence-penalty P,\n"
	"  --logit-bias ID=V,…, --seed S, --ignore-eos, --arithmetic A, --kv F,\n"
	"  --weights PLACE, --backend NAME, --threads N  as for specbench run\n";

/* Text that has come but is not yet output for certain. */
struct waiting {
	char *text;
	size_t length, room, printed;
};

static bool wait_for(struct waiting *w, const char *text, size_t length)
{
	if (w->length + length > w->room) {
		char *grown = realloc(w->text, w->room = 2 * (w->length + length));
		if (!grown)
			return false;
		w->text = grown;
	}
	memcpy(w->text + w->length, text, length);
	w->length += length;
	return true;
}

/* Prints up to byte `end` of the output. */
static void print_settled(struct waiting *w, size_t end)
{
	size_t count = end - w->printed;
	fwrite(w->text, 1, count, stdout);
	fflush(stdout);
	memmove(w->text, w->text + count, w->length -= count);
	w->printed = end;
}

static bool is_eos(const struct octavo_model_info *model, int32_t token)
{
	for (size_t i = 0; i < model->eos_count; i++)
		if (model->eos[i] == token)
			return true;
	return false;
}

/* One step's tokens; *count gets how many. */
static enum octavo_status print_step(struct octavo_engine *engine, struct octavo_session *session, struct waiting *w,
                                     size_t *count, struct octavo_error *error)
{
	const int32_t *token;
	enum octavo_status status = octavo_session_step(session, &token, count, error);
	for (size_t i = 0; status == OCTAVO_OK && i < *count; i++) {
		size_t length;
		const char *text = octavo_token_text(engine, token[i], &length);
		if (!is_eos(octavo_engine_model(engine), token[i]) && text && !wait_for(w, text, length)) {
			snprintf(error->text, sizeof error->text, "out of memory");
			return OCTAVO_ENOMEM;
		}
	}
	if (status == OCTAVO_OK && *count && w->text)
		print_settled(w, octavo_session_stats(session)->text);
	return status;
}

static enum octavo_status stream(struct octavo_engine *engine, struct octavo_session *session,
                                 struct octavo_error *error)
{
	struct waiting waiting = { 0 };
	enum octavo_status status;
	size_t count;
	do
		status = print_step(engine, session, &waiting, &count, error);
	while (status == OCTAVO_OK && count);
	if (status == OCTAVO_OK)
		putchar('\n');
	fflush(stdout); /* before the line of figures */
	free(waiting.text);
	return status;
}

static void print_figures(const struct octavo_session_stats *s, const struct octavo_session_settings *settings,
                          const char *accept, const char *backend)
{
	static const char *const why[] = { "no prompt",   "running",      "end of sequence", "stop string",
		                           "token limit", "context full", "error" };
	size_t drafted = 0, accepted = 0;
	for (size_t i = 0; i < OCTAVO_MAX_K; i++) {
		drafted += s->drafted[i];
		accepted += s->accepted[i];
	}
	fprintf(stderr, "[%zu prompt tokens, %.1f/s; %zu new tokens, %.1f/s; drafter %s", s->prompt_tokens,
	        s->prefill_ns ? (double)(s->prompt_tokens - 1) * 1e9 / (double)s->prefill_ns : 0.0, s->emitted,
	        s->decode_ns ? (double)s->emitted * 1e9 / (double)s->decode_ns : 0.0, settings->drafter);
	if (drafted)
		fprintf(stderr, ", %zu of %zu drafted tokens accepted, %.2f tokens per step", accepted, drafted,
		        (double)s->emitted / (double)s->steps);
	enum octavo_promise promise = octavo_accept_promise(settings->accept, &settings->sampling);
	if (promise != OCTAVO_SAME_TOKENS)
		fprintf(stderr, ", accept %s%s", accept, promise == OCTAVO_LOSSY ? " (LOSSY)" : "");
	if (settings->accept == OCTAVO_ACCEPT_CANDIDATES && s->steps)
		fprintf(stderr, ", all logits in %zu of %zu steps", s->full_steps, s->steps);
	char bent[SAMPLING_TEXT];
	sampling_text(&settings->sampling, bent, sizeof bent);
	fprintf(stderr, "; temperature %g%s; %s%s%s]\n", (double)settings->sampling.temperature, bent, why[s->finish],
	        backend ? "; backend " : "", backend ? backend : "");
}

static int generate(const struct options *o, struct octavo_engine *engine, const struct acceptance *accept)
{
	struct octavo_error error;
	struct octavo_session *session = NULL;
	const struct octavo_model_info *model = octavo_engine_model(engine);
	if (!sampling_check(o, model))
		return EXIT_BAD_INPUT;
	struct octavo_session_settings settings = {
		.drafter = o->drafter ? o->drafter : octavo_engine_feeds(engine, "mtp") ? "mtp" : "none",
		.k = o->k_count ? (unsigned)o->k[0] : 0,
		.accept = accept->rule,
		.shortlist = accept->shortlist,
		.confidence = o->confidence,
		.draft_vocab = o->draft_vocab,
		.sampling = sampling_of(o, model, o->temperature_count ? o->temperature[0] : usual_temperature(model)),
		.stream = { o->seed, 0 },
		.max_new = o->tokens ? o->tokens : 128,
		.ignore_eos = o->ignore_eos,
		.stop = o->stop,
		.stops = o->stops,
	};
	struct tree tree;
	tree_parse(o, &tree); /* it was good when the command began */
	memcpy(settings.tree, tree.width, sizeof settings.tree);
	settings.dynamic = tree.dynamic;
	size_t length = strlen(o->prompt), count;
	int32_t *token = calloc(length + 1, sizeof *token);
	if (!token)
		return complain("out of memory");
	enum octavo_status status =
		octavo_encode(engine, o->prompt, length, OCTAVO_ENCODE_BOS, token, length + 1, &count, &error);
	if (status == OCTAVO_OK)
		status = octavo_session_open(&session, engine, &settings, &error);
	if (status == OCTAVO_OK)
		status = octavo_session_prompt(session, token, count, &error);
	if (status == OCTAVO_OK) {
		fputs(o->prompt, stdout);
		fflush(stdout);
		status = stream(engine, session, &error);
		print_figures(octavo_session_stats(session), &settings, accept->text, o->backend);
	}
	octavo_session_close(&session);
	free(token);
	return status == OCTAVO_OK ? EXIT_OK : complain("%s", error.text);
}

int command_generate(int argc, char **argv)
{
	struct options o = { 0 };
	int parsed = options_parse(
	        &o, argc, argv, "generate",
	        "model prompt tokens context drafter k tree accept draft-vocab confidence temperature top-k top-p min-p "
	        "repetition-penalty frequency-penalty presence-penalty logit-bias seed "
	        "stop ignore-eos arithmetic kv weights backend threads",
	        help);
	if (parsed)
		return parsed < 0 ? EXIT_OK : parsed;
	if (!o.prompt)
		return complain("generate: --prompt TEXT is required (see specbench generate --help)");
	if (!*o.prompt)
		return complain("generate: option --prompt: the text is empty");
	if (o.k_count > 1 || o.temperature_count > 1)
		return complain("generate: -k and --temperature take one value here");
	struct octavo_engine_settings settings = { .model_dir = find_model(&o), .threads = (unsigned)o.threads,
		                                   .max_context = o.context };
	struct acceptance accept;
	struct tree tree;
	if (!settings.model_dir || !tree_parse(&o, &tree) || !arithmetic_parse(&o, &settings.arithmetic) ||
	    !kv_parse(&o, &settings.kv) || !weights_parse(&o, &settings.weights) || !accept_parse(&o, &accept) ||
	    !engine_backend(&o, &settings) ||
	    (o.drafter && !drafter_check(o.drafter, strlen(o.drafter))))
		return EXIT_BAD_INPUT;
	cpu_choice_note();
	struct octavo_engine *engine;
	struct octavo_error error;
	if (octavo_engine_open(&engine, &settings, &error) != OCTAVO_OK)
		return complain("%s", error.text);
	int status = generate(&o, engine, &accept);
	octavo_engine_close(&engine);
	return status;
}
