/* SPDX-License-Identifier: Apache-2.0
 *
 * Speculation changes nothing, whatever comes together: token streams and cache bytes of the bundled model under
 * drafter x acceptance x temperature x threads x sequences x shape x kernels, in a covering set: every two values of
 * different factors meet in at least one case.  All of it with 256 tokens each in `make check-long` (OCTAVO_LONG); a
 * few cases with few tokens otherwise.
 */
#include "tests/support/bundled.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- Covering sets ------------------------------------------------------------------------------------------ */

enum factor { DRAFTER, ACCEPT, TEMPERATURE, THREADS, SEQUENCES, SHAPE, KERNELS, FACTORS };
enum { MOST_VALUES = 24, MOST_CASES = 512, UNSET = -1 };

struct cover {
	int values[FACTORS]; /* of each factor */
	int (*together)(int f, int x, int g, int y); /* whether value x of factor f can meet value y of g */
	unsigned char met[FACTORS][MOST_VALUES][FACTORS][MOST_VALUES];
	int chosen[MOST_CASES][FACTORS];
	size_t cases;
};

/* Pairs that a case would be the first to hold if factor f had value x; -1: it cannot have it. */
static int gain(const struct cover *c, const int *chosen, int f, int x)
{
	int news = 0;
	for (int g = 0; g < FACTORS; g++) {
		if (g == f || chosen[g] == UNSET)
			continue;
		if (!c->together(f, x, g, chosen[g]))
			return -1;
		news += !c->met[f][x][g][chosen[g]];
	}
	return news;
}

/* The value of the largest gain; ties go round from case to case. */
static int best_value(const struct cover *c, const int *chosen, int f)
{
	int best = -1, value = UNSET;
	for (int i = 0; i < c->values[f]; i++) {
		int x = (int)((size_t)i + c->cases) % c->values[f], news = gain(c, chosen, f, x);
		if (news > best) {
			best = news;
			value = x;
		}
	}
	assert_true(value != UNSET);
	return value;
}

/* A case around two values that have not met. */
static void add_case(struct cover *c, int f, int x, int g, int y)
{
	int *chosen = c->chosen[c->cases];
	assert_true(c->cases < MOST_CASES);
	for (int i = 0; i < FACTORS; i++)
		chosen[i] = i == f ? x : i == g ? y : UNSET;
	for (int i = 0; i < FACTORS; i++)
		if (chosen[i] == UNSET)
			chosen[i] = best_value(c, chosen, i);
	for (int i = 0; i < FACTORS; i++)
		for (int j = 0; j < FACTORS; j++)
			c->met[i][chosen[i]][j][chosen[j]] = 1;
	c->cases++;
}

/* fn(c, f, x, g, y) for every two values that can meet. */
static void each_pair(struct cover *c, void (*fn)(struct cover *c, int f, int x, int g, int y))
{
	for (int f = 0; f < FACTORS; f++)
		for (int g = f + 1; g < FACTORS; g++)
			for (int x = 0; x < c->values[f]; x++)
				for (int y = 0; y < c->values[g]; y++)
					if (c->together(f, x, g, y))
						fn(c, f, x, g, y);
}

static void cover_pair(struct cover *c, int f, int x, int g, int y)
{
	if (!c->met[f][x][g][y])
		add_case(c, f, x, g, y);
}

/* By the cases alone, not by what the generator noted. */
static void check_pair(struct cover *c, int f, int x, int g, int y)
{
	for (size_t i = 0; i < c->cases; i++)
		if (c->chosen[i][f] == x && c->chosen[i][g] == y)
			return;
	fail_msg("value %d of factor %d and value %d of factor %d never meet", x, f, y, g);
}

static void make_cover(struct cover *c)
{
	memset(c->met, 0, sizeof c->met);
	c->cases = 0;
	each_pair(c, cover_pair);
	each_pair(c, check_pair);
	for (size_t i = 0; i < c->cases; i++)
		for (int f = 0; f < FACTORS; f++)
			for (int g = 0; g < f; g++)
				assert_true(c->together(f, c->chosen[i][f], g, c->chosen[i][g]));
}

/* ---- What is combined --------------------------------------------------------------------------------------- */

static const float temperatures[] = { 0.0f, 0.8f, 1.2f };
static const unsigned threads[] = { 1, 2 };
static const size_t sequences[] = { 1, 4 };
static const enum octavo_accept rules[] = { OCTAVO_ACCEPT_MATCH, OCTAVO_ACCEPT_GREEDY };
enum { CHAIN, TREE, DYNAMIC, SHAPES };
static const char *const shape_names[SHAPES] = { "chain", "tree", "dynamic tree" };
enum { PROMPTS = 4 };

/* The greedy rule is for temperature 0. */
static int together(int f, int x, int g, int y)
{
	if (f > g)
		return together(g, y, f, x);
	return f != ACCEPT || g != TEMPERATURE || rules[x] != OCTAVO_ACCEPT_GREEDY || temperatures[y] == 0.0f;
}

struct world {
	char dir[PATH_MAX];
	char drafter[MOST_VALUES][PATH_MAX + 16];
	size_t drafters;
	struct octavo_kernels table[MOST_VALUES];
	uint32_t mask[MOST_VALUES];
	size_t tables;
	size_t tokens;
	int32_t prompt[PROMPTS][MOST_PROMPT];
	size_t length[PROMPTS];
	/* Of plain decoding, by prompt and temperature */
	struct output plain[PROMPTS][3];
	unsigned char *cache[PROMPTS][3]; /* [layers][prompt + tokens - 1][bytes] */
};

/* Every drafter that the model can feed: with the directory that the bundle would have it in, if it wants one. */
static void find_drafters(struct world *w, const struct octavo_engine *e)
{
	const char *const pairs[] = { "ngram+mtp", "lookahead+mtp" };
	for (const char *const *name = octavo_drafter_names(); *name; name++) {
		char given[PATH_MAX + 16];
		assert_true(w->drafters + 3 < MOST_VALUES);
		snprintf(given, sizeof given, "%s:%s/drafters/%s", *name, w->dir, *name);
		const char *spec = octavo_engine_feeds(e, *name) ? *name : octavo_engine_feeds(e, given) ? given : NULL;
		if (spec)
			strcpy(w->drafter[w->drafters++], spec);
		else
			print_message("NOT TESTED: drafter %s, which the bundled model cannot feed\n", *name);
	}
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
		if (octavo_engine_feeds(e, pairs[i]))
			strcpy(w->drafter[w->drafters++], pairs[i]);
}

/* One set of kernels of each name that this machine has. */
static void find_tables(struct world *w)
{
	uint32_t have = octavo_cpu_detect_all(), subset = 0;
	do {
		size_t i = 0;
		while (i < w->tables && strcmp(octavo_cpu_name(w->mask[i]), octavo_cpu_name(subset)))
			i++;
		assert_true(i < MOST_VALUES);
		w->mask[i] = subset; /* the last one has the most features */
		w->tables += i == w->tables;
		subset = (subset - have) & have;
	} while (subset);
	for (size_t i = 0; i < w->tables; i++)
		octavo_kernels_init(&w->table[i], w->mask[i]);
}

static struct octavo_session_settings settings_of(const struct world *w, size_t prompt, int temperature)
{
	return (struct octavo_session_settings){ .max_new = w->tokens, .ignore_eos = 1, .stream = { 7, prompt },
		                                 .sampling = { .temperature = temperatures[temperature] } };
}

/* The committed entries of a sequence, layer by layer. */
static void copy_cache(const struct octavo_engine *e, size_t sequence, size_t slots, unsigned char *out)
{
	for (size_t layer = 0; layer < e->config.layers; layer++)
		memcpy(out + layer * slots * e->kv.bytes, octavo_kv_slots(&e->kv, sequence, layer),
		       slots * e->kv.bytes);
}

static void decode_plainly(struct world *w, struct octavo_engine *e)
{
	struct octavo_error error;
	for (size_t p = 0; p < PROMPTS; p++)
		for (int t = 0; t < 3; t++) {
			struct octavo_session_settings settings = settings_of(w, p, t);
			struct octavo_session *s = open_session(e, &settings);
			assert_int_equal(octavo_session_prompt(s, w->prompt[p], w->length[p], &error), OCTAVO_OK);
			finish(s, &w->plain[p][t]);
			size_t slots = w->length[p] + w->tokens - 1;
			assert_int_equal(octavo_sequence_length(e, 0), slots);
			w->cache[p][t] = test_malloc(e->config.layers * slots * e->kv.bytes);
			copy_cache(e, 0, slots, w->cache[p][t]);
			octavo_session_close(&s);
		}
}

static void open_world(struct world *w)
{
	struct octavo_engine_settings settings = { .threads = 1 };
	snprintf(w->dir, sizeof w->dir, "%s", bundled_path(""));
	w->dir[strlen(w->dir) - 1] = 0; /* its last slash */
	w->tokens = getenv("OCTAVO_LONG") ? MOST_TOKENS : 20;
	struct octavo_engine *e = open_model(w->dir, &settings);
	FILE *file = fopen(bundled_path("prompts.jsonl"), "rb");
	assert_non_null(file);
	for (size_t p = 0; p < PROMPTS; p++)
		assert_true((w->length[p] = read_prompt(file, e, w->prompt[p])) > 0);
	fclose(file);
	find_drafters(w, e);
	find_tables(w);
	decode_plainly(w, e);
	octavo_engine_close(&e);
}

/* ---- A case ------------------------------------------------------------------------------------------------- */

static void check_stream(const struct world *w, const struct octavo_engine *e, size_t i, size_t p, int t,
                         const struct output *got, const char *what)
{
	size_t slots = w->length[p] + w->tokens - 1;
	expect_same(&w->plain[p][t], got, what);
	unsigned char *cache = test_malloc(e->config.layers * slots * e->kv.bytes);
	assert_int_equal(octavo_sequence_length(e, (int32_t)i), slots);
	copy_cache(e, i, slots, cache);
	if (memcmp(cache, w->cache[p][t], e->config.layers * slots * e->kv.bytes))
		fail_msg("%s: prompt %zu: the cache is not plain decoding's", what, p);
	test_free(cache);
}

static void run_case(const struct world *w, const int *chosen, size_t number)
{
	struct octavo_engine_settings machine = { .threads = threads[chosen[THREADS]],
	                                          .kernels = &w->table[chosen[KERNELS]],
		                                  .sequences = sequences[chosen[SEQUENCES]] };
	struct octavo_session *s[PROMPTS];
	struct octavo_emitted got[PROMPTS];
	static struct output out[PROMPTS];
	struct octavo_error error;
	char what[PATH_MAX + 128];
	size_t count = machine.sequences;
	int t = chosen[TEMPERATURE];
	snprintf(what, sizeof what, "case %zu: %s, %s, temperature %g, %u threads, %zu sequences, %s, %s kernels",
	         number, w->drafter[chosen[DRAFTER]], octavo_accept_name(rules[chosen[ACCEPT]]),
	         (double)temperatures[t], machine.threads, count, shape_names[chosen[SHAPE]],
	         octavo_cpu_name(w->mask[chosen[KERNELS]]));
	struct octavo_engine *e = open_model(w->dir, &machine);
	for (size_t i = 0; i < count; i++) {
		size_t p = (number + i) % PROMPTS;
		struct octavo_session_settings settings = settings_of(w, p, t);
		settings.drafter = w->drafter[chosen[DRAFTER]];
		settings.accept = rules[chosen[ACCEPT]];
		settings.k = chosen[SHAPE] == CHAIN ? 3 + (unsigned)number % 3 : 0;
		if (chosen[SHAPE] == TREE)
			memcpy(settings.tree, (const unsigned[]){ 3, 2, 1 }, 3 * sizeof(unsigned));
		if (chosen[SHAPE] == DYNAMIC)
			settings.dynamic = (struct octavo_dynamic){ 9, 3, 4 };
		s[i] = open_session(e, &settings);
		out[i].count = 0;
		if (octavo_session_prompt(s[i], w->prompt[p], w->length[p], &error) != OCTAVO_OK)
			fail_msg("%s: %s", what, error.text);
	}
	for (size_t news = 1; news;) {
		news = 0;
		if (octavo_sessions_step(s, count, got, &error) != OCTAVO_OK)
			fail_msg("%s: %s", what, error.text);
		for (size_t i = 0; i < count; i++) {
			memcpy(out[i].token + out[i].count, got[i].token, got[i].count * sizeof *got[i].token);
			out[i].count += got[i].count;
			news += got[i].count;
		}
	}
	for (size_t i = 0; i < count; i++) {
		out[i].stats = *octavo_session_stats(s[i]);
		check_stream(w, e, i, (number + i) % PROMPTS, t, &out[i], what);
		octavo_session_close(&s[i]);
	}
	octavo_engine_close(&e);
}

static void everything_meets_everything(void **state)
{
	static struct world w;
	static struct cover c;
	(void)state;
	need_bundled();
	open_world(&w);
	c = (struct cover){ .together = together,
		            .values = { [DRAFTER] = (int)w.drafters, [ACCEPT] = 2, [TEMPERATURE] = 3, [THREADS] = 2,
		                        [SEQUENCES] = 2, [SHAPE] = SHAPES, [KERNELS] = (int)w.tables } };
	make_cover(&c);
	size_t step = getenv("OCTAVO_LONG") ? 1 : c.cases / 4;
	for (size_t i = 0; i < c.cases; i += step)
		run_case(&w, c.chosen[i], i);
	print_message("%zu drafters, %zu sets of kernels: %zu cases, of which %zu were run with %zu tokens\n",
	              w.drafters, w.tables, c.cases, (c.cases + step - 1) / step, w.tokens);
	for (size_t p = 0; p < PROMPTS; p++)
		for (int t = 0; t < 3; t++)
			test_free(w.cache[p][t]);
}

/* The generator by itself: about as few cases as the two largest factors have pairs, of 1920 combinations. */
static void covers_are_small(void **state)
{
	static struct cover c;
	(void)state;
	c = (struct cover){ .together = together, .values = { 8, 2, 3, 2, 2, 2, 5 } };
	make_cover(&c);
	assert_in_range(c.cases, 8 * 5, 8 * 5 + 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(covers_are_small),
		cmocka_unit_test(everything_meets_everything),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
