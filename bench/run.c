/* SPDX-License-Identifier: Apache-2.0
 *
 * `specbench` and `specbench run`: measure, print, write JSON.
 */
#include "bench/runs.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

static const char run_help[] =
	"usage: specbench run [OPTIONS]\n"
	"\n"
	"Decodes prompts with each drafter, interleaved with plain decoding, and compares speed and output.\n"
	"\n"
	"  --model DIR          a Hugging Face checkpoint directory (default: the bundled model)\n"
	"  --prompts FILE       JSON lines with id, category, text (default: MODEL/prompts.jsonl)\n"
	"  --limit N            N prompts only, two of each category in turn\n"
	"  --tokens N           new tokens per prompt (default 64)\n"
	"  --context N          tokens per sequence, prompt included (default: the model's, at most 4096)\n"
	"  --drafter LIST       mtp, ngram, lookahead, none; model (another model of the same tokenizer), medusa, hydra,\n"
	"                       parallel or eagle (heads), in MODEL/drafters/NAME, or NAME:DIR for another directory; or a\n"
	"                       pair: ngram+mtp drafts with the second where the first has nothing. lookahead adds 14\n"
	"                       rows to every forward: on a CPU it rarely pays\n"
	"                       (default: all that the model can feed)\n"
	"  -k LIST              drafted tokens per step: 1 to 8, or auto, chosen for each step from measured costs and\n"
	"                       acceptance (default: mtp, eagle, model 1,2,4,auto; others 4,auto; pairs auto); heads draft\n"
	"                       no more tokens than there are heads\n"
	"  --tree SHAPE         draft a tree: 4,2,1 is four candidates, two below each, one below each of these;\n"
	"                       dynamic:ROWS,TOPK,DEPTH grows where the drafter is sure: the likeliest TOPK nodes of each\n"
	"                       depth get TOPK children, and the likeliest ROWS of all, root included, are verified\n"
	"  --accept RULE        which drafted tokens are kept. The tokens of plain decoding: match (default), the target's\n"
	"                       keyed draw decides, and drafters draw with the same numbers; greedy, its argmax. Other\n"
	"                       tokens with exactly their law: rejection and block for chains, multiround for trees\n"
	"                       too. LOSSY: typical; candidates:K[,P], which\n"
	"                       evaluates the head for the drafter's K likeliest tokens of each row alone, and for all\n"
	"                       tokens where the best of them is worth less than P (default 0.5; README.md says how that\n"
	"                       is reckoned). The share of tokens that differ is measured and shown\n"
	"  --draft-vocab N      draft only among the vocabulary's first N tokens, which should be the frequent ones, and those\n"
	"                       that the text has held: for large vocabularies, whose head is most of a draft's cost. The\n"
	"                       output is what it is without (default: all tokens); not for ngram and lookahead\n"
	"  --confidence P[,PATH[,MASS]]\n"
	"                       stop drafting where the drafter's best token has less than probability P, or the product of\n"
	"                       the best ones since the root less than PATH; of a tree's candidates only the fewest that hold\n"
	"                       MASS (0, the default: off); ngram and lookahead have no probabilities\n"
	"  --temperature LIST   0 is greedy\n"
	"                       (default: the model's generation_config.json, else 0.8; of these too)\n"
	"  --top-k N, --top-p P, --min-p P\n"
	"                       truncate the target's law, in this order; 0 is off\n"
	"  --repetition-penalty R, --frequency-penalty F, --presence-penalty P\n"
	"                       R divides positive logits of tokens seen, prompt included, and multiplies others; F is\n"
	"                       subtracted per occurrence in the output, P once. Each drafted row sees its own prefix\n"
	"  --logit-bias ID=V,…  added to these tokens' logits; -inf bans one\n"
	"  --seed S             key of the random numbers (default 0)\n"
	"  --stop TEXT          end where the output holds this text; up to 32 of them\n"
	"  --ignore-eos         decode on past the end-of-sequence token\n"
	"  --arithmetic A       w8a16 (default) or w8a8\n"
	"  --weights PLACE      map (default): the files, shared and mapped; copy: memory of the process's own, in\n"
	"                       huge pages, spread over the NUMA nodes\n"
	"  --kv F               what the latent cache keeps: bf16 (default) or fp8\n"
	"  --backend NAME       onednn or xsmm for the matrix products: approximate, not the same bits for all numbers of\n"
	"                       rows; default: Octavo's own kernels\n"
	"  --batch N            N prompts side by side in one forward, their drafts of any lengths; where one ends the next\n"
	"                       joins. Compared with plain decoding of the same batch, and in its tokens with that of one\n"
	"                       prompt at a time\n"
	"  --threads N          default: all processors\n"
	"  --seconds S          stop after the prompt that ends nearest to S seconds. Ctrl-C stops after the present one, and\n"
	"                       reports what was measured; a second Ctrl-C ends at once\n"
	"  --no-profile         leave the phase profiler out\n"
	"  --layer FILE         of specbench layer --json: also the speed-up that would follow from its r(M)\n"
	"  --record FILE        write every verification as a line of JSON: context, draft, the target's choices, what was\n"
	"                       kept (README.md, Records)\n"
	"  --record-hidden      with the main model's hidden state of the root, BF16 in base 64\n"
	"  --json FILE          write the figures as JSON\n";

static const char run_options[] =
        "model prompts limit tokens context drafter k tree accept draft-vocab confidence temperature top-k top-p min-p "
        "repetition-penalty frequency-penalty presence-penalty logit-bias seed "
        "stop ignore-eos arithmetic kv weights backend threads seconds no-profile layer batch record record-hidden json";

static const char default_help[] =
	"usage: specbench [OPTIONS]   (specbench --help lists the commands)\n"
	"\n"
	"  --model DIR, --prompts FILE, --threads N, --tokens N, --seed S, --seconds S, --json FILE\n"
	"                       as for specbench run; the JSON goes to specbench.json unless told otherwise\n";

static void print_model(const char *dir, const struct octavo_model_info *m, double open_seconds)
{
	char text[PATH_MAX + 256], experts[64] = "";
	if (m->experts)
		snprintf(experts, sizeof experts, ", %zu experts of which %zu per token", m->experts,
		         m->experts_per_token);
	snprintf(text, sizeof text, "model %s: %s, %zu layers + %zu MTP, hidden %zu, vocabulary %zu%s", dir,
	         m->architecture, m->layers, m->mtp_layers, m->hidden, m->vocab, experts);
	putchar('\n');
	print_wrapped(text, 0, 2);
	printf("  %.1f M parameters, %.1f M active per token, %.1f MB of weights, opened in %.2f s\n",
	       (double)m->parameters * 1e-6, (double)m->active_parameters * 1e-6, (double)m->weight_bytes * 1e-6,
	       open_seconds);
}

/* Whether the memory holds the caches of a batch; complains otherwise. */
static bool caches_fit(const struct octavo_model_info *model, size_t batch)
{
	size_t available = machine_available();
	if (!available || model->kv_bytes <= available / batch)
		return true;
	complain(
	        "option --batch: %zu sequences of %zu tokens need %.2f GiB of KV cache; %.2f GiB of memory are available, for "
	        "%zu of them (fewer tokens with --context; --kv fp8)",
	        batch, model->context, (double)model->kv_bytes * (double)batch * 0x1p-30, (double)available * 0x1p-30,
	        available / model->kv_bytes);
	return false;
}

/* Rows that a batch may want in one forward: all that can be drafted, if the engine can have so many. */
static size_t rows_wanted(const struct options *o, size_t batch)
{
	struct tree tree;
	size_t nodes = 1, level = 1, chain = OCTAVO_MAX_K + 1;
	if (!tree_parse(o, &tree))
		return 0;
	for (size_t i = 0; i < OCTAVO_MAX_K && tree.width[i]; i++)
		nodes += level *= tree.width[i];
	nodes = tree.dynamic.rows ? tree.dynamic.rows : nodes;
	size_t rows = batch * (nodes > chain ? nodes : chain);
	rows = rows > OCTAVO_MAX_DRAFT ? rows : OCTAVO_MAX_DRAFT;
	return rows < MAX_ROWS ? rows : MAX_ROWS;
}

/* Whether prompts and model are there, before minutes go into the model; fills path[] for the default file. */
static bool find_prompts(struct runs *r, const struct options *o, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/prompts.jsonl", r->model);
	r->prompts_file = o->prompts ? o->prompts : path;
	if (access(r->prompts_file, R_OK) == 0)
		return model_there(r->model);
	if (!o->prompts && !model_there(r->model))
		return false;
	complain("%s: cannot open: %s%s", r->prompts_file, strerror(errno),
	         o->prompts ? "" : " (--prompts FILE names another)");
	return false;
}

/* A model with its prompts and plan, from the checks of what was asked for to the document. */
struct report {
	char path[PATH_MAX];
	struct octavo_engine_settings settings;
	struct octavo_engine *engine;
	struct octavo_profiler *profiler; /* NULL: none */
	struct prompts prompts;
	struct runs runs;
	double open_seconds;
};

static bool open_engine(struct report *r, const struct options *o)
{
	struct octavo_error error;
	struct octavo_profiler_settings profiling = { .enabled = 1, .best_tier = OCTAVO_TIER_HARDWARE };
	if (!o->no_profile && octavo_profiler_open(&r->profiler, &profiling, &error) != OCTAVO_OK) {
		complain("profiler: %s", error.text);
		return false;
	}
	r->settings.profiler = r->profiler;
	uint64_t start = octavo_now_ns();
	enum octavo_status status = octavo_engine_open(&r->engine, &r->settings, &error);
	r->open_seconds = (double)(octavo_now_ns() - start) * 1e-9;
	if (status == OCTAVO_ENOMEM && r->runs.batch > 1)
		complain("option --batch: %zu sequences: %s", r->runs.batch, error.text);
	else if (status != OCTAVO_OK)
		complain("%s", error.text);
	return status == OCTAVO_OK;
}

/* All that can be refused is refused here, before anything is measured; false after complaining. */
static bool report_open(struct report *r, const struct options *o)
{
	size_t batch = o->batch ? o->batch : 1;
	*r = (struct report){
		.settings = { .model_dir = find_model(o), .threads = (unsigned)o->threads, .max_context = o->context,
		              .sequences = batch },
		.runs = { .batch = batch, .tokens = o->tokens ? o->tokens : 64,
		          .arithmetic = o->arithmetic ? o->arithmetic : "w8a16", .kv = o->kv ? o->kv : "bf16",
		          .full_file = o->layer, .draft_vocab = o->draft_vocab,
		          .backend = o->backend, .engine = &r->settings },
	};
	r->runs.model = r->settings.model_dir;
	if (!r->runs.model || !arithmetic_parse(o, &r->settings.arithmetic) || !kv_parse(o, &r->settings.kv) ||
	    !weights_parse(o, &r->settings.weights) || !engine_backend(o, &r->settings) || !runs_check(o) ||
	    (o->layer && !layer_curve_load(&r->runs.full, o->layer)) || !find_prompts(&r->runs, o, r->path))
		return false;
	r->settings.max_rows = rows_wanted(o, batch); /* the tree was checked with the runs */
	return open_engine(r, o) && caches_fit(octavo_engine_model(r->engine), batch) &&
	       runs_plan(&r->runs, o, r->engine) &&
	       prompts_load(&r->prompts, r->runs.prompts_file, r->engine, o->limit) && runs_try(&r->runs, o, r->engine);
}

static void report_close(struct report *r)
{
	runs_free(&r->runs);
	prompts_free(&r->prompts);
	octavo_engine_close(&r->engine);
	octavo_profiler_close(&r->profiler);
}

static bool measure_and_record(struct report *r, const struct options *o)
{
	struct recorder recorder;
	if (!o->record)
		return runs_measure(&r->runs, o, r->engine, r->profiler, NULL, &r->prompts);
	if (!record_open(&recorder, o))
		return false;
	recorder.width = r->runs.info->hidden;
	bool good = runs_measure(&r->runs, o, r->engine, r->profiler, &recorder, &r->prompts);
	return record_close(&recorder) && good;
}

/* Measures, prints and adds to the document; an exit status. */
static int report_runs(struct report *r, const struct options *o, const struct machine *m, json_t *document)
{
	const struct octavo_model_info *model = octavo_engine_model(r->engine);
	print_model(r->runs.model, model, r->open_seconds);
	if (o->backend)
		printf("  matrix products by backend %s: approximate; other row counts may give other tokens\n",
		       o->backend);
	json_object_set_new(document, "settings", runs_settings_json(&r->runs, o, m, model));
	if (!cost_measure(&r->runs.cost, r->engine, &r->prompts) || !measure_and_record(r, o))
		return EXIT_BAD_INPUT;
	runs_print(&r->runs);
	json_object_set_new(document, "counters", counters_json(&r->runs.run[0].profile));
	json_object_set_new(document, "runs", runs_json(&r->runs));
	json_object_set_new(document, "busy", load_json(&r->runs.load));
	json_object_set_new(document, "stopped_by", runs_stopped_json(&r->runs));
	return runs_identical(&r->runs) ? EXIT_OK : EXIT_CHECK_FAILED;
}

int command_run(int argc, char **argv)
{
	struct options o = { 0 };
	struct report report;
	struct machine machine;
	int parsed = options_parse(&o, argc, argv, "run", run_options, run_help);
	if (parsed)
		return parsed < 0 ? EXIT_OK : parsed;
	if (o.record_hidden && !o.record)
		return complain("run: option --record-hidden needs --record FILE");
	if (o.layer && o.batch > 1)
		return complain("run: option --layer looks at single sequences: it does not go with --batch");
	if (!json_writable(o.json) || !json_writable(o.record))
		return EXIT_BAD_INPUT;
	cpu_choice_note();
	int status = EXIT_BAD_INPUT;
	json_t *document = json_document();
	if (report_open(&report, &o)) {
		machine_describe(&machine, o.threads);
		json_object_set_new(document, "machine", machine_json(&machine));
		status = report_runs(&report, &o, &machine, document);
	}
	report_close(&report);
	if (status != EXIT_BAD_INPUT && o.json && !json_write(document, o.json))
		status = EXIT_BAD_INPUT;
	json_decref(document);
	interrupt_pass_on();
	return status;
}

/* Machine, kernels and runs, of a report that is open. */
static int measure_all(struct report *r, const struct options *o, json_t *document)
{
	struct machine machine;
	machine_describe(&machine, o->threads);
	machine_print(&machine);
	fflush(stdout);
	json_t *kernels = kernels_measure(o, &machine);
	json_object_set_new(document, "machine", machine_json(&machine));
	json_object_set_new(document, "kernels", kernels ? kernels : json_array());
	return kernels ? report_runs(r, o, &machine, document) : EXIT_CHECK_FAILED;
}

int command_default(int argc, char **argv)
{
	struct options o = { 0 };
	struct report report;
	int parsed = options_parse(&o, argc, argv, "", "model prompts threads tokens seed seconds json", default_help);
	if (parsed)
		return parsed < 0 ? EXIT_OK : parsed;
	/* Two minutes on two cores, kernels included: one temperature, at which no text loops, and few draft lengths,
	 * so that there are prompts enough. */
	o.temperature[o.temperature_count++] = USUAL_TEMPERATURE;
	o.brief = true;
	if (o.seconds == 0)
		o.seconds = 100;
	const char *path = o.json ? o.json : "specbench.json";
	if (!json_writable(path))
		return EXIT_BAD_INPUT;
	json_t *document = json_document();
	int status = report_open(&report, &o) ? measure_all(&report, &o, document) : EXIT_BAD_INPUT;
	report_close(&report);
	if (status != EXIT_BAD_INPUT) {
		if (json_write(document, path))
			printf("\n  written: %s\n", path);
		else
			status = EXIT_BAD_INPUT;
	}
	json_decref(document);
	interrupt_pass_on();
	return status;
}
