/* SPDX-License-Identifier: Apache-2.0
 *
 * `specbench eval`: how well the model predicts a text, in each arithmetic, and how far quantisation moved it.
 */
#include "bench/tensors.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
        "usage: specbench eval [OPTIONS]\n"
        "\n"
        "Scores a text: the loss in nats per token and in bits per byte. The text is cut into windows of at most 512\n"
        "tokens, each starting afresh behind the beginning-of-sequence token if the tokenizer has one. If the model\n"
        "brings eval/heldout_bf16.safetensors (logits of its weights before quantisation), also how far each\n"
        "arithmetic and cache is from those: the KL divergence in nats, and how often the best token is the same.\n"
        "\n"
        "  --model DIR       a Hugging Face checkpoint directory (default: the bundled model)\n"
        "  --text FILE       UTF-8 text (default: MODEL/eval/heldout.txt)\n"
        "  --arithmetic A    w8a16 or w8a8 (default: both)\n"
        "  --kv F            what the latent cache keeps, bf16 or fp8 (default: both)\n"
        "  --emulate NAME    w8a8 also with the sums of a GPU's tensor cores, slowly: hopper, or hopper:NC for a\n"
        "                    promotion to FP32 every NC = 32, 64, 96 or 128 products (default 128)\n"
        "  --backend NAME    onednn or xsmm for the matrix products (approximate; default: Octavo's own kernels)\n"
        "  --tokens N        score the first N tokens only\n"
        "  --context N       tokens per window, at most 512 (default: 512, or the model's context)\n"
        "  --threads N       default: all processors\n"
        "  --json FILE       write the figures as JSON\n";

enum { WINDOW = 512 };

struct score {
	size_t tokens, bytes, windows; /* scored */
	double nats;                   /* their sum */
	double seconds;
};

struct distance {
	size_t positions, same_best;
	double sum, max; /* KL in nats */
};

struct eval {
	struct octavo_engine *engine;
	const char *model, *path; /* path: of the text */
	const char *backend;
	unsigned char *text;      /* [bytes] */
	size_t bytes, limit;      /* limit: tokens to score, 0: all */
	size_t window, max_rows;
	int32_t *token; /* [tokens] of the text, without BOS */
	size_t tokens;
};

/* ---- Running tokens through the model -------------------------------------------------------------------- */

enum { BATCH = 32 };

/* What to do with the logits behind token `index` of a sequence. */
typedef void visit_fn(void *context, size_t index, const float *logits);

/* Feeds token[count] to an empty sequence in batches and visits every row. */
static bool feed(struct octavo_engine *engine, const int32_t *token, size_t count, visit_fn *visit, void *context)
{
	struct octavo_error error;
	int32_t pos[BATCH], seq[BATCH] = {0}, parent[BATCH];
	uint8_t flags[BATCH];
	uint32_t row[BATCH];
	enum octavo_status status = octavo_rewind(engine, 0, 0, &error);
	for (size_t from = 0; status == OCTAVO_OK && from < count; from += BATCH) {
		size_t rows = count - from < BATCH ? count - from : BATCH;
		for (size_t i = 0; i < rows; i++) {
			pos[i] = (int32_t)(from + i);
			parent[i] = (int32_t)i - 1;
			flags[i] = OCTAVO_ROW_LOGITS;
			row[i] = (uint32_t)i;
		}
		struct octavo_batch batch = {rows, token + from, pos, seq, parent, flags};
		status = octavo_forward(engine, &batch, &error);
		for (size_t i = 0; status == OCTAVO_OK && i < rows; i++)
			visit(context, from + i, octavo_logits(engine, i));
		if (status == OCTAVO_OK)
			status = octavo_commit(engine, 0, row, rows, &error);
	}
	if (status != OCTAVO_OK)
		complain("%s", error.text);
	return status == OCTAVO_OK;
}

/* log sum exp(logits), in double. */
static double log_sum(const float *logits, size_t count)
{
	double max = -INFINITY, sum = 0;
	for (size_t i = 0; i < count; i++)
		max = logits[i] > max ? logits[i] : max;
	for (size_t i = 0; i < count; i++)
		sum += exp(logits[i] - max);
	return max + log(sum);
}

/* ---- The loss -------------------------------------------------------------------------------------------- */

struct scoring {
	const struct eval *e;
	const int32_t *token; /* [count] of this window */
	size_t count;
	struct score *score;
};

static void score_row(void *context, size_t index, const float *logits)
{
	struct scoring *s = context;
	size_t length = 0;
	if (index + 1 == s->count)
		return; /* nothing follows in this window */
	int32_t next = s->token[index + 1];
	s->score->nats += log_sum(logits, octavo_engine_model(s->e->engine)->vocab) - logits[next];
	s->score->tokens++;
	octavo_token_text(s->e->engine, next, &length);
	s->score->bytes += length;
}

static bool score_text(const struct eval *e, struct score *score)
{
	int32_t window[WINDOW];
	int32_t bos = octavo_engine_model(e->engine)->bos;
	size_t lead = bos >= 0, at = 0;
	uint64_t start = octavo_now_ns();
	*score = (struct score){0};
	/* Without BOS a window's first token is given, not scored. */
	while (e->tokens - at > 1 - lead && (!e->limit || score->tokens < e->limit)) {
		size_t count = e->tokens - at < e->window - lead ? e->tokens - at : e->window - lead;
		size_t left = e->limit - score->tokens + 1 - lead;
		if (e->limit && count > left)
			count = left;
		window[0] = bos;
		memcpy(window + lead, e->token + at, count * sizeof *window);
		struct scoring scoring = {e, window, count + lead, score};
		progress("scoring", at, e->limit && e->limit < e->tokens ? e->limit : e->tokens);
		if (!feed(e->engine, window, count + lead, score_row, &scoring))
			return false;
		at += count;
		score->windows++;
	}
	progress_clear();
	score->seconds = (double)(octavo_now_ns() - start) * 1e-9;
	return true;
}

/* ---- The distance from the weights before quantisation --------------------------------------------------- */

struct comparing {
	struct tensor positions, logits; /* [P] and [P][vocab] */
	size_t vocab;
	float *reference; /* [vocab] */
	struct distance *distance;
};

/* KL(reference || engine) over the ids that have a token: the engine gives -infinity to the others. */
static void compare_position(struct comparing *c, size_t row, const float *logits)
{
	double kl = 0;
	for (size_t i = 0; i < c->vocab; i++)
		c->reference[i] = isinf(logits[i]) ? -INFINITY : tensor_float(&c->logits, row * c->vocab + i);
	double sum = log_sum(logits, c->vocab), reference_sum = log_sum(c->reference, c->vocab);
	for (size_t i = 0; i < c->vocab; i++) {
		double p = c->reference[i] - reference_sum, q = logits[i] - sum;
		if (!isinf(c->reference[i]))
			kl += exp(p) * (p - q);
	}
	struct distance *d = c->distance;
	d->positions++;
	d->sum += kl;
	d->max = kl > d->max ? kl : d->max;
	d->same_best += octavo_argmax(logits, c->vocab) == octavo_argmax(c->reference, c->vocab);
}

static void compare_row(void *context, size_t index, const float *logits)
{
	struct comparing *c = context;
	for (size_t row = 0; row < c->positions.shape[0]; row++)
		if ((size_t)tensor_int(&c->positions, row) == index)
			compare_position(c, row, logits);
}

/* Whether the reference speaks of this model: its ids, its vocabulary, its context. */
static bool check_reference(const struct eval *e, const struct tensors *file, const struct tensor *tokens,
                            const struct comparing *c)
{
	const struct octavo_model_info *model = octavo_engine_model(e->engine);
	const char *wrong = NULL;
	if (tokens->shape[0] > model->context)
		wrong = "tokens: more than the model's context";
	for (size_t i = 0; i < tokens->shape[0]; i++)
		if (tensor_int(tokens, i) < 0 || (size_t)tensor_int(tokens, i) >= model->vocab)
			wrong = "tokens: an id outside the vocabulary";
	for (size_t i = 0; i < c->positions.shape[0]; i++)
		if (tensor_int(&c->positions, i) < 0 || (size_t)tensor_int(&c->positions, i) >= tokens->shape[0])
			wrong = "positions: one outside tokens";
	if (c->logits.shape[0] != c->positions.shape[0] || c->logits.shape[1] != model->vocab)
		wrong = "logits: shape is not [positions][vocabulary]";
	for (size_t i = 0; !wrong && i < c->logits.shape[0] * c->logits.shape[1]; i++)
		if (!isfinite(tensor_float(&c->logits, i)))
			wrong = "logits: a value that is not finite";
	if (wrong)
		complain("%s: %s", file->path, wrong);
	return !wrong;
}

static bool compare_with(const struct eval *e, const struct tensors *file, struct distance *distance)
{
	struct comparing c = {.vocab = octavo_engine_model(e->engine)->vocab, .distance = distance};
	struct tensor tokens;
	if (!tensors_find(file, "tokens", "I32", 1, &tokens) ||
	    !tensors_find(file, "positions", "I32", 1, &c.positions) ||
	    !tensors_find(file, "logits", "float", 2, &c.logits) || !check_reference(e, file, &tokens, &c))
		return false;
	int32_t *token = calloc(tokens.shape[0], sizeof *token);
	c.reference = calloc(c.vocab, sizeof *c.reference);
	bool good = token && c.reference;
	for (size_t i = 0; good && i < tokens.shape[0]; i++)
		token[i] = tensor_int(&tokens, i);
	if (!good)
		complain("out of memory");
	good = good && feed(e->engine, token, tokens.shape[0], compare_row, &c);
	free(token);
	free(c.reference);
	return good;
}

/* A model without the file has no distance: positions stays 0. */
static bool compare_reference(const struct eval *e, struct distance *distance)
{
	char path[PATH_MAX];
	struct tensors file;
	*distance = (struct distance){0};
	snprintf(path, sizeof path, "%s/eval/heldout_bf16.safetensors", e->model);
	if (access(path, F_OK))
		return true;
	if (!tensors_open(&file, path))
		return false;
	bool good = compare_with(e, &file, distance);
	tensors_close(&file);
	return good;
}

/* ---- One arithmetic -------------------------------------------------------------------------------------- */

static bool encode(struct eval *e)
{
	struct octavo_error error;
	e->token = calloc(e->bytes, sizeof *e->token); /* a byte makes at most one token */
	if (!e->token) {
		complain("out of memory");
		return false;
	}
	if (octavo_encode(e->engine, (const char *)e->text, e->bytes, 0, e->token, e->bytes, &e->tokens, &error) !=
	    OCTAVO_OK) {
		complain("%s: %s", e->path, error.text);
		return false;
	}
	if (e->tokens < 2) {
		complain("%s: too short to score", e->path);
		return false;
	}
	return true;
}

static const char *const arithmetic_names[] = {[OCTAVO_W8A16] = "w8a16", [OCTAVO_W8A8] = "w8a8"};
static const char *const kv_names[] = {[OCTAVO_KV_BF16] = "bf16", [OCTAVO_KV_FP8] = "fp8"};

/* One line of the table. */
struct variant {
	enum octavo_arithmetic arithmetic;
	enum octavo_kv_format kv;
	const char *emulate; /* NULL: the usual kernels */
};

static void print_result(const struct variant *v, const struct score *s, const struct distance *d)
{
	double nats = s->nats / (double)s->tokens;
	char name[32];
	snprintf(name, sizeof name, "%s%s%s", arithmetic_names[v->arithmetic], v->emulate ? " " : "",
	         v->emulate ? v->emulate : "");
	printf("  %-16s  %-4s  %10.4f  %9.4f  %10.2f  %8.1f", name, kv_names[v->kv], nats,
	       s->nats / M_LN2 / (double)s->bytes, exp(nats), (double)s->tokens / s->seconds);
	if (d->positions)
		printf("  %.5f (%.5f)  %zu of %zu", d->sum / (double)d->positions, d->max, d->same_best, d->positions);
	putchar('\n');
}

static void print_head(const struct eval *e, const struct score *s, bool distance)
{
	printf("eval: model %s, text %s\n  %zu tokens scored (%zu bytes of text), in %zu window%s of at most %zu "
	       "tokens%s%s%s\n\n",
	       e->model, e->path, s->tokens, s->bytes, s->windows, s->windows == 1 ? "" : "s", e->window,
	       octavo_engine_model(e->engine)->bos >= 0 ? ", BOS included" : "",
	       strcmp(e->backend, "native") ? "; backend " : "", strcmp(e->backend, "native") ? e->backend : "");
	printf("  %-16s  %-4s  %10s  %9s  %10s  %8s%s\n", "arithmetic", "KV", "nats/token", "bits/byte", "perplexity",
	       "tokens/s",
	       distance ? "  KL to BF16 (largest), same best" : "");
}

static json_t *result_json(const struct eval *e, const struct variant *v, const struct score *s,
                           const struct distance *d)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:s}", "model", e->model,
	                      "text", e->path, "arithmetic", arithmetic_names[v->arithmetic], "kv", kv_names[v->kv],
	                      "emulate", v->emulate ? json_string(v->emulate) : json_null(), "tokens",
	                      (json_int_t)s->tokens, "bytes", (json_int_t)s->bytes, "windows", (json_int_t)s->windows,
	                      "window", (json_int_t)e->window, "nats_per_token", s->nats / (double)s->tokens,
	                      "bits_per_byte", s->nats / M_LN2 / (double)s->bytes, "tokens_per_s",
	                      (double)s->tokens / s->seconds, "backend", e->backend);
	json_object_set_new(o, "kl_bf16",
	                    d->positions ? json_pack("{s:I, s:f, s:f, s:f}", "positions", (json_int_t)d->positions,
	                                             "mean", d->sum / (double)d->positions, "max", d->max,
	                                             "top1_agreement", (double)d->same_best / (double)d->positions)
	                                 : json_null());
	return o;
}

/* The engine is open: everything with it. */
static bool evaluate(struct eval *e, const struct variant *v, json_t *results)
{
	struct score score;
	struct distance distance;
	size_t context = octavo_engine_model(e->engine)->context;
	e->window = context < WINDOW ? context : WINDOW;
	if (e->window < 2) {
		complain("%s: a context of %zu tokens is too short to score anything", e->model, context);
		return false;
	}
	if (!encode(e) || !score_text(e, &score) || !compare_reference(e, &distance))
		return false;
	if (!isfinite(score.nats)) {
		complain("%s: the loss is not a finite number", e->model);
		return false;
	}
	if (!json_array_size(results))
		print_head(e, &score, distance.positions > 0);
	print_result(v, &score, &distance);
	fflush(stdout);
	json_array_append_new(results, result_json(e, v, &score, &distance));
	return true;
}

static int evaluate_in(struct eval *e, const struct options *o, const struct variant *v, json_t *results)
{
	struct octavo_error error;
	struct octavo_kernels table = *octavo_kernels_get();
	if (v->emulate)
		octavo_kernels_emulate(&table, v->emulate); /* the name is known to be one */
	struct octavo_engine_settings settings = {
	        .model_dir = e->model,
	        .threads = (unsigned)o->threads,
	        .kernels = &table,
	        .arithmetic = v->arithmetic,
	        .kv = v->kv,
	        .max_context = o->context};
	if (o->backend && !backend_overlay(o->backend, &table))
		return EXIT_BAD_INPUT;
	enum octavo_status status = octavo_engine_open(&e->engine, &settings, &error);
	if (status == OCTAVO_ENOTSUP && v->kv == OCTAVO_KV_FP8 && !o->kv) { /* a dense model: nobody asked for it */
		printf("  %-16s  fp8   not run: %s\n", arithmetic_names[v->arithmetic], error.text);
		return EXIT_OK;
	}
	if (status != OCTAVO_OK)
		return complain("%s", error.text);
	bool good = evaluate(e, v, results);
	free(e->token);
	e->token = NULL;
	octavo_engine_close(&e->engine);
	return good ? EXIT_OK : EXIT_BAD_INPUT;
}

/* What the options leave of all combinations. */
static size_t plan(const struct options *o, struct variant variant[6])
{
	enum octavo_arithmetic arithmetic;
	enum octavo_kv_format kv;
	struct octavo_kernels table;
	size_t count = 0;
	if (!arithmetic_parse(o, &arithmetic) || !kv_parse(o, &kv))
		return 0;
	if (o->emulate && o->arithmetic && arithmetic != OCTAVO_W8A8) {
		complain("option --emulate: tensor cores multiply FP8 by FP8: it needs --arithmetic w8a8");
		return 0;
	}
	if (o->emulate && o->backend) {
		complain("eval: options --emulate and --backend exclude each other");
		return 0;
	}
	if (o->emulate && octavo_kernels_emulate(&table, o->emulate) != OCTAVO_OK) {
		complain("option --emulate: \"%s\" is not hopper or hopper:NC with NC 32, 64, 96 or 128", o->emulate);
		return 0;
	}
	for (int a = OCTAVO_W8A16; a <= OCTAVO_W8A8; a++)
		for (int f = OCTAVO_KV_BF16; f <= OCTAVO_KV_FP8; f++) {
			if ((o->arithmetic && a != (int)arithmetic) || (o->kv && f != (int)kv))
				continue;
			variant[count++] = (struct variant){(enum octavo_arithmetic)a, (enum octavo_kv_format)f, NULL};
			if (o->emulate && a == OCTAVO_W8A8)
				variant[count++] = (struct variant){OCTAVO_W8A8, (enum octavo_kv_format)f, o->emulate};
		}
	return count;
}

static int evaluate_all(struct eval *e, const struct options *o)
{
	struct variant variant[6];
	json_t *document = json_document(), *results = json_array();
	size_t count = plan(o, variant);
	int status = count ? EXIT_OK : EXIT_BAD_INPUT;
	json_object_set_new(document, "eval", results);
	for (size_t i = 0; status == EXIT_OK && i < count; i++)
		status = evaluate_in(e, o, &variant[i], results);
	if (status == EXIT_OK && o->emulate)
		printf("\n  %s: approximate. FP8 products are added as a Hopper tensor core adds them, with 13 fraction bits\n"
		       "  and promotion to FP32 every N_C products (128 unless given); other sums are as in w8a8.\n",
		       o->emulate);
	if (status == EXIT_OK && o->json && !json_write(document, o->json))
		status = EXIT_BAD_INPUT;
	json_decref(document);
	return status;
}

int command_eval(int argc, char **argv)
{
	struct options o = {0};
	char path[PATH_MAX];
	int parsed = options_parse(&o, argc, argv, "eval",
	                           "model text arithmetic kv emulate backend tokens context threads json", help);
	if (parsed)
		return parsed < 0 ? EXIT_OK : parsed;
	struct eval e = {.model = find_model(&o),
	                 .path = o.text ? o.text : path,
	                 .backend = backend_name(&o),
	                 .limit = o.tokens};
	if (!e.model || !model_there(e.model) || !json_writable(o.json))
		return EXIT_BAD_INPUT;
	cpu_choice_note();
	snprintf(path, sizeof path, "%s/eval/heldout.txt", e.model);
	if (!o.text && access(path, R_OK))
		return complain("%s: cannot open: %s (--text FILE names another)", path, strerror(errno));
	e.text = read_file(e.path, &e.bytes);
	if (!e.text)
		return EXIT_BAD_INPUT;
	int status = e.bytes ? evaluate_all(&e, &o) : complain("%s: the file is empty", e.path);
	free(e.text);
	return status;
}
