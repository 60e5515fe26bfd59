/* SPDX-License-Identifier: Apache-2.0
 *
 * Records what tests/test_depth_recorded.c plays back, from a model with prompts.jsonl and the drafters mtp, eagle and
 * ngram:
 *
 *     make tests/record_depth
 *     tests/record_depth outcomes bench/model >tests/data/depth/outcomes.txt
 *     tests/record_depth times bench/model >tests/data/depth/times.txt     (on a machine that does nothing else)
 *
 * Outcomes: at every position of the text that plain decoding emits, how many of eight drafted tokens would have been
 * kept, and how sure the drafter was of each.  With acceptance `match` the text is the same however much is drafted, so
 * these say what any choice of k would have met.  Times: of single steps, as they were measured, by rows of the forward
 * and by tokens drafted.
 */
#include "engine/draft/drafter.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DRAFTERS = 3, PROMPT = 512, TOKENS = 64, AHEAD = OCTAVO_MAX_K, PER_CATEGORY = 9, RANDOM_PROMPT = 64 };
enum { TIMED_PER_CATEGORY = 1, TIMED = 32, REPEATS = 3, SAMPLES = 48, MOST_SAMPLES = 2048 };
static const char *const drafters[DRAFTERS] = { "mtp", "eagle", "ngram" };
static const double temperatures[] = { 0.8, 0.0 };

static struct octavo_error error;

static void need(enum octavo_status status)
{
	if (status == OCTAVO_OK)
		return;
	fprintf(stderr, "record_depth: %s\n", error.text);
	exit(1);
}

/* ---- Prompts ---------------------------------------------------------------------------------------------------- */

struct text {
	char category[32];
	int32_t token[PROMPT];
	size_t count;
};

/* Up to `per` prompts of each category, in the file's order, which has the categories one after the other. */
static size_t read_prompts(struct text *text, size_t room, struct octavo_engine *e, const char *dir, size_t per)
{
	char path[4096], *line = NULL;
	size_t length = 0, count = 0, alike = 0;
	snprintf(path, sizeof path, "%s/prompts.jsonl", dir);
	FILE *file = fopen(path, "r");
	while (file && count < room && getline(&line, &length, file) > 0) {
		const char *category, *content;
		json_t *object = json_loads(line, 0, NULL);
		if (!object || json_unpack(object, "{s:s, s:s}", "category", &category, "text", &content))
			exit(1);
		alike = count && !strcmp(text[count - 1].category, category) ? alike + 1 : 0;
		if (alike < per) {
			struct text *t = &text[count++];
			snprintf(t->category, sizeof t->category, "%s", category);
			need(octavo_encode(e, content, strlen(content), OCTAVO_ENCODE_BOS, t->token, PROMPT, &t->count,
			                   &error));
		}
		json_decref(object);
	}
	free(line);
	if (file)
		fclose(file);
	return count;
}

/* Tokens drawn evenly from the vocabulary: where drafts fail. */
static size_t random_prompts(struct text *text, size_t count, const struct octavo_engine *e)
{
	uint32_t state = 1;
	for (size_t i = 0; i < count; i++) {
		struct text *t = &text[i];
		strcpy(t->category, "random");
		for (t->count = 0; t->count < RANDOM_PROMPT;) {
			state = state * 1664525u + 1013904223u;
			int32_t id = (int32_t)((uint64_t)state * e->choosable >> 32);
			size_t length;
			if (octavo_token_text(e, id, &length))
				t->token[t->count++] = id;
		}
	}
	return count;
}

/* ---- Outcomes --------------------------------------------------------------------------------------------------- */

/* What plain decoding says, behind the prompt's tokens. */
static size_t plain_text(struct octavo_engine *e, const struct text *t, uint64_t index, double temperature,
                         int32_t *token)
{
	struct octavo_session *s;
	struct octavo_session_settings settings = { .sampling = { .temperature = (float)temperature },
		                                    .stream = { 0, index }, .max_new = TOKENS + AHEAD,
		                                    .ignore_eos = 1 };
	const int32_t *emitted;
	size_t count, all = t->count;
	memcpy(token, t->token, t->count * sizeof *token);
	need(octavo_session_open(&s, e, &settings, &error));
	need(octavo_session_prompt(s, t->token, t->count, &error));
	while (need(octavo_session_step(s, &emitted, &count, &error)), count) {
		memcpy(token + all, emitted, count * sizeof *token);
		all += count;
	}
	octavo_session_close(&s);
	return all;
}

/* Tokens [at, at + rows) become part of sequence 0, and the drafters learn of them. */
static void commit(struct octavo_engine *e, struct octavo_drafter **d, const int32_t *token, size_t at, size_t rows)
{
	need(octavo_append(e, 0, token + at, rows, 0, OCTAVO_ROW_LOGITS, &error));
	for (size_t i = 0; i < DRAFTERS; i++)
		need(d[i]->ops->commit(d[i], at, e->staging.row, rows, &error));
}

/* Drafts run the target's race, as in sessions with acceptance `match`. */
struct race {
	struct octavo_sampling sampling;
	struct octavo_extent extent; /* only takes down the shares */
	struct octavo_chance chance;
	double *scratch; /* [vocab] */
	uint32_t *order; /* [vocab] */
};

static void open_race(struct race *r, const struct octavo_engine *e, uint64_t index, double temperature)
{
	size_t vocab = e->config.vocab;
	*r = (struct race){ .sampling = { .temperature = (float)temperature }, .scratch = calloc(vocab, sizeof *r->scratch),
		            .order = calloc(vocab, sizeof *r->order) };
	if (!r->scratch || !r->order)
		exit(1);
	r->chance = (struct octavo_chance){ .sampling = &r->sampling, .stream = { 0, index }, .vocab = vocab,
		                            .race = temperature > 0.0, .extent = &r->extent, .scratch = r->scratch,
		                            .order = r->order };
}

static void close_race(struct race *r)
{
	free(r->scratch);
	free(r->order);
}

/* Half octaves of odds: m stands for those from even on. */
static char letter(double share)
{
	double octaves = share < 1.0 ? floor(2.0 * log2(share / (1.0 - share))) : 13.0;
	return (char)('m' + (int)fmax(-12.0, fmin(octaves, 13.0)));
}

/* How many tokens are drafted behind the root token[at], how many of them the text has, and how sure the drafter is of
 * each, if it says: sure[AHEAD]. */
static void judge(struct octavo_drafter *d, struct race *r, const int32_t *token, size_t at, char *drafted, char *kept,
                  char *sure)
{
	struct octavo_tree tree;
	struct octavo_shape shape = octavo_shape_chain(AHEAD);
	size_t same = 0;
	r->extent = (struct octavo_extent){ .most = AHEAD };
	octavo_tree_begin(&tree, token[at], AHEAD + 1, &r->chance);
	need(octavo_draft(d, &shape, &tree, &error));
	while (same + 1 < tree.rows && tree.token[same + 1] == token[at + 1 + same])
		same++;
	*drafted = (char)('0' + tree.rows - 1);
	*kept = (char)('0' + same);
	for (size_t i = 0; i < r->extent.drafted; i++)
		sure[i] = letter(r->extent.share[i]);
}

static void record_outcome(struct octavo_engine *e, const struct text *t, uint64_t index, double temperature)
{
	int32_t token[PROMPT + TOKENS + AHEAD];
	char drafted[DRAFTERS][TOKENS + 1] = { { 0 } }, kept[DRAFTERS][TOKENS + 1] = { { 0 } };
	char sure[DRAFTERS][TOKENS * AHEAD + 1] = { { 0 } };
	struct octavo_drafter *d[DRAFTERS];
	struct race race;
	open_race(&race, e, index, temperature);
	plain_text(e, t, index, temperature, token);
	for (size_t i = 0; i < DRAFTERS; i++) {
		need(octavo_drafter_open(&d[i], drafters[i], e, 0, &error));
		d[i]->ops->begin(d[i], token);
	}
	for (size_t at = 0, rows; at + 1 < t->count; at += rows) {
		size_t left = t->count - 1 - at;
		rows = left < e->settings.max_rows ? left : e->settings.max_rows;
		commit(e, d, token, at, rows);
	}
	for (size_t i = 0, at = t->count - 1; i < TOKENS; i++, at++) {
		race.chance.prefix = (struct octavo_prefix){ token, at + 1, t->count, NULL, 0 };
		for (size_t j = 0; j < DRAFTERS; j++)
			judge(d[j], &race, token, at, &drafted[j][i], &kept[j][i], &sure[j][i * AHEAD]);
		commit(e, d, token, at, 1);
	}
	printf("text %g %s\n", temperature, t->category);
	for (size_t i = 0; i < DRAFTERS; i++) {
		if (!strcmp(drafters[i], "ngram"))
			printf("offered %s %s\n", drafters[i], drafted[i]);
		printf("kept %s %s\n", drafters[i], kept[i]);
		if (*sure[i])
			printf("sure %s %s\n", drafters[i], sure[i]);
		octavo_drafter_close(&d[i]);
	}
	close_race(&race);
	need(octavo_rewind(e, 0, 0, &error));
}

static void record_outcomes(struct octavo_engine *e, const struct text *text, size_t count)
{
	printf("# Of eight tokens drafted at each of %d positions behind a prompt, how many would have been kept: a digit\n"
	       "# per position, of the text that plain decoding emits at this temperature.  offered: how many there were,\n"
	       "# where that is not always eight.  sure: a letter for each of the eight, how likely the drafter holds it to\n"
	       "# be kept behind those before it, in half octaves of odds, m from even on.  random: prompts of tokens drawn\n"
	       "# evenly from the vocabulary.\n",
	       TOKENS);
	for (size_t t = 0; t < sizeof temperatures / sizeof *temperatures; t++)
		for (size_t i = 0; i < count; i++)
			record_outcome(e, &text[i], i, temperatures[t]);
}

/* ---- Times ------------------------------------------------------------------------------------------------------ */

struct samples {
	size_t count;
	double ns[MOST_SAMPLES];
};

static struct times {
	struct samples verify[AHEAD + 1], draft[DRAFTERS][AHEAD + 1], accept, late[DRAFTERS];
} recorded[sizeof temperatures / sizeof *temperatures];

static void add(struct samples *s, double ns)
{
	if (s->count < MOST_SAMPLES)
		s->ns[s->count++] = ns;
}

static double middle(const struct samples *s)
{
	struct octavo_summary summary = { 0 };
	octavo_summarise(s->ns, s->count, &summary);
	return summary.median;
}

/* Those that took half as long again as usual were interrupted each time. */
static void drop_strays(struct samples *s)
{
	double most = 1.5 * middle(s);
	size_t kept = 0;
	for (size_t i = 0; i < s->count; i++)
		if (s->ns[i] <= most)
			s->ns[kept++] = s->ns[i];
	s->count = kept;
}

/* Evenly from all there are, in the order in which they came. */
static void print_samples(struct samples *s)
{
	drop_strays(s);
	size_t count = s->count < SAMPLES ? s->count : SAMPLES;
	for (size_t i = 0; i < count; i++)
		printf(" %.*f", s->ns[0] < 1e4, s->ns[i * s->count / count] * 1e-3);
	putchar('\n');
}

/* A prompt's steps with k drafted tokens, from the first one on. */
struct steps {
	size_t count, rows[TIMED], emitted[TIMED];
	double draft_ns[TIMED], verify_ns[TIMED], accept_ns[TIMED];
};

static void keep_shorter(double *ns, uint64_t now, uint64_t before, int again)
{
	double value = (double)(now - before);
	*ns = again && *ns < value ? *ns : value;
}

/* Of a step that is taken again and again, the shortest: what else ran on the machine is no part of it. */
static void keep_step(struct steps *s, size_t at, const struct octavo_session_stats *before,
                      const struct octavo_session_stats *now, int again)
{
	for (s->rows[at] = 1; now->rows[s->rows[at]] == before->rows[s->rows[at]];)
		s->rows[at]++;
	s->emitted[at] = now->emitted - before->emitted;
	keep_shorter(&s->draft_ns[at], now->draft_ns, before->draft_ns, again);
	keep_shorter(&s->verify_ns[at], now->verify_ns, before->verify_ns, again);
	keep_shorter(&s->accept_ns[at], now->accept_ns, before->accept_ns, again);
}

static void take_steps(struct octavo_engine *e, const struct text *text, size_t heat, size_t which, unsigned k,
                       struct steps *s, int again)
{
	struct octavo_session *session;
	struct octavo_session_settings settings = { .drafter = k ? drafters[which] : "none", .k = k ? k : 1,
		                                    .sampling = { .temperature = (float)temperatures[heat] },
		                                    .max_new = TIMED, .ignore_eos = 1 };
	const int32_t *emitted;
	size_t count;
	need(octavo_session_open(&session, e, &settings, &error));
	need(octavo_session_prompt(session, text->token, text->count, &error));
	struct octavo_session_stats before = *octavo_session_stats(session);
	for (s->count = 0; need(octavo_session_step(session, &emitted, &count, &error)), count; s->count++) {
		keep_step(s, s->count, &before, octavo_session_stats(session), again);
		before = *octavo_session_stats(session);
	}
	octavo_session_close(&session);
}

/* The first step of a prompt drafts with all of it to catch up on. */
static void time_prompt(struct octavo_engine *e, const struct text *text, size_t heat, size_t which, unsigned k)
{
	struct steps s;
	struct times *t = &recorded[heat];
	size_t waiting = (text->count - 2) % e->settings.max_rows + 1, full = 0;
	double usual = 0.0;
	for (int i = 0; i < REPEATS; i++)
		take_steps(e, text, heat, which, k, &s, i > 0);
	for (size_t i = 1; i < s.count; i++)
		if (k && s.rows[i] == k + 1) {
			usual += s.draft_ns[i];
			full++;
		}
	if (full && s.rows[0] == k + 1)
		add(&t->late[which], (s.draft_ns[0] - usual / (double)full) / (double)waiting);
	for (size_t i = 0; i < s.count; i++) {
		if (which == 0)
			add(&t->verify[s.rows[i] - 1], s.verify_ns[i]);
		add(&t->accept, s.accept_ns[i] / (double)s.emitted[i]);
		if (k && i && s.rows[i] == k + 1)
			add(&t->draft[which][k], s.draft_ns[i]);
	}
}

static void print_times(struct times *t)
{
	for (unsigned k = 0; k <= AHEAD; k++) {
		printf("verify %u", k + 1);
		print_samples(&t->verify[k]);
	}
	printf("accept");
	print_samples(&t->accept);
	for (size_t d = 0; d < DRAFTERS; d++) {
		for (unsigned k = 1; k <= AHEAD; k++) {
			printf("draft %s %u", drafters[d], k);
			print_samples(&t->draft[d][k]);
		}
		printf("late %s %.1f\n", drafters[d], middle(&t->late[d]) * 1e-3);
	}
}

static void record_times(struct octavo_engine *e, const struct text *text, size_t count)
{
	struct octavo_cost cost;
	for (size_t d = 0; d < DRAFTERS; d++) /* to warm up */
		time_prompt(e, text, 0, d, AHEAD);
	memset(recorded, 0, sizeof recorded);
	for (size_t i = 0; i < count; i++)
		for (unsigned j = 0; j <= AHEAD; j++)
			for (size_t d = 0; d < 2 * DRAFTERS; d++)
				time_prompt(e, &text[i], d % 2, d / 2, (unsigned)((j + i) % (AHEAD + 1)));
	need(octavo_append(e, 0, text->token, 32, 0, 0, &error));
	need(octavo_measure_cost(e, 0, text->token + 32, text->count - 32, &cost, &error));
	printf("# Microseconds of single steps, each the shortest of %d, and no strays: of a forward of so many rows, of\n"
	       "# accepting per emitted token, of drafting so many tokens; late: of catching up, per token that was committed\n"
	       "# without a draft.\n"
	       "# curve: of forwards of so many rows, as the engine measured it at its start.\n",
	       REPEATS);
	for (size_t t = 0; t < sizeof temperatures / sizeof *temperatures; t++) {
		printf("times %g\ncurve", temperatures[t]);
		for (size_t i = 0; i < cost.count; i++)
			printf(" %.0f", cost.ns[i] * 1e-3);
		putchar('\n');
		print_times(&recorded[t]);
	}
}

int main(int argc, char **argv)
{
	static struct text text[16 * PER_CATEGORY];
	if (argc != 3 || (strcmp(argv[1], "outcomes") && strcmp(argv[1], "times"))) {
		fprintf(stderr, "usage: record_depth outcomes|times MODEL\n");
		return 2;
	}
	int times = !strcmp(argv[1], "times");
	struct octavo_engine *e;
	struct octavo_engine_settings settings = { .model_dir = argv[2] };
	need(octavo_engine_open(&e, &settings, &error));
	size_t count = read_prompts(text, 15 * PER_CATEGORY, e, argv[2], times ? TIMED_PER_CATEGORY : PER_CATEGORY);
	if (times) {
		record_times(e, text, count);
	} else {
		count += random_prompts(text + count, PER_CATEGORY, e);
		record_outcomes(e, text, count);
	}
	octavo_engine_close(&e);
	return 0;
}
