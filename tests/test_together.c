/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafts made together: sessions with one drafter run their rows in common forwards, and each drafts what it drafts
 * alone, to the bit: trees, laws and caches, at different depths, whoever joins or leaves or fails beside it.
 */
#include "engine/draft/follow.h"
#include "tests/support/heads.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CROWD = 6, PROMPT = 75, HEADS = 4, SPEC = 512 };

/* Drafts of at most 10 rows: none is cut where six sessions share 64. */
static const struct octavo_session_settings crowd[CROWD] = {
	{ .k = 1, .max_new = 40, .sampling = { .temperature = 0.8f } },
	{ .k = 6, .max_new = 23, .accept = OCTAVO_ACCEPT_REJECTION, .sampling = { .temperature = 1.0f } },
	{ .tree = { 3, 2 }, .max_new = 31, .sampling = { .temperature = 0.0f } },
	{ .dynamic = { 10, 2, 4 }, .max_new = 37, .sampling = { .temperature = 0.7f } },
	{ .tree = { 2, 1, 1 }, .max_new = 17, .accept = OCTAVO_ACCEPT_MULTIROUND, .sampling = { .temperature = 1.2f } },
	{ .k = 4, .max_new = 50, .confidence = { .best = 0.1 }, .sampling = { .temperature = 0.4f } },
};

static struct octavo_session_settings member(size_t i, const char *drafter)
{
	struct octavo_session_settings s = crowd[i];
	s.drafter = drafter;
	s.ignore_eos = 1;
	s.stream = (struct octavo_stream){ 7, (uint32_t)i };
	return s;
}

/* Of different lengths; some longer than what fits a forward, some nothing but a root. */
static size_t make_prompt(size_t i, int32_t prompt[PROMPT])
{
	size_t length = i == 5 ? 1 : PROMPT - 9 * i;
	for (size_t at = 0; at < length; at++)
		prompt[at] = (int32_t)((at * at % (5 + i)) * 7 + 30 + i);
	return length;
}

static struct octavo_session *start(struct octavo_engine *e, size_t i, const char *drafter)
{
	struct octavo_session_settings settings = member(i, drafter);
	struct octavo_session *s = open_session(e, &settings);
	struct octavo_error error;
	int32_t prompt[PROMPT];
	if (octavo_session_prompt(s, prompt, make_prompt(i, prompt), &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
	return s;
}

/* ---- Drafters with files ----------------------------------------------------------------------------------------- */

struct specs {
	char medusa[SPEC], hydra[SPEC], model[SPEC];
	char *dir[2];
};

static char *new_heads(int hydra)
{
	/* tiny-ragged's sizes */
	const struct heads_options options = { .hydra = hydra, .heads = HEADS, .layers = 2, .hidden = 136, .vocab = 260,
		                               .dtype = hydra ? "F8_E4M3" : "BF16", .seed = 3 };
	return heads_dir_new(options);
}

static int open_specs(void **state)
{
	struct specs *s = calloc(1, sizeof *s);
	if (!s)
		return 1;
	s->dir[0] = new_heads(0);
	s->dir[1] = new_heads(1);
	snprintf(s->medusa, sizeof s->medusa, "medusa:%s", s->dir[0]);
	snprintf(s->hydra, sizeof s->hydra, "hydra:%s", s->dir[1]);
	snprintf(s->model, sizeof s->model, "model:%s", source_path("tests/data/tiny-llama"));
	*state = s;
	return 0;
}

static int close_specs(void **state)
{
	struct specs *s = *state;
	ckpt_dir_free(s->dir[0]);
	ckpt_dir_free(s->dir[1]);
	free(s);
	return 0;
}

/* ---- The same as alone ------------------------------------------------------------------------------------------- */

static void expect_same_laws(const struct octavo_session *a, const struct octavo_session *b)
{
	size_t vocab = a->chance.vocab;
	for (size_t row = 1; row < a->tree.rows; row++) {
		const double *law = octavo_tree_law((void *)&a->tree, row),
		             *other = octavo_tree_law((void *)&b->tree, row);
		assert_int_equal(!law, !other);
		if (law)
			assert_memory_equal(law, other, vocab * sizeof *law);
	}
}

/* All that a follower's cache holds of the session, and what it drafted behind that; and the main model's. */
static void expect_same_cache(const struct octavo_session *a, const struct octavo_session *b,
                              const struct octavo_drafter *x, const struct octavo_drafter *y)
{
	for (size_t i = 0; i < OCTAVO_MAX_SOURCES && x->pair[i]; i++)
		expect_same_cache(a, b, x->pair[i], y->pair[i]);
	const struct octavo_kv *p = &a->engine->kv, *q = &b->engine->kv;
	if (x->ops->run == octavo_follower_run) {
		p = ((const struct octavo_follower *)x)->kv;
		q = ((const struct octavo_follower *)y)->kv;
	}
	assert_int_equal(a->sequence, b->sequence);
	assert_memory_equal(octavo_kv_slots(p, a->sequence, 0), octavo_kv_slots(q, b->sequence, 0),
	                    p->layers * p->slots * p->bytes);
}

static void expect_same_round(const struct octavo_session *a, const struct octavo_session *b,
                              const struct octavo_emitted *got, const struct octavo_emitted *wanted)
{
	size_t rows = b->tree.rows;
	assert_int_equal(a->tree.rows, rows);
	assert_int_equal(a->tree.source, b->tree.source);
	assert_memory_equal(a->tree.token, b->tree.token, rows * sizeof *a->tree.token);
	assert_memory_equal(a->tree.parent, b->tree.parent, rows * sizeof *a->tree.parent);
	assert_memory_equal(a->tree.path, b->tree.path, rows * sizeof *a->tree.path);
	expect_same_laws(a, b);
	assert_int_equal(got->count, wanted->count);
	assert_memory_equal(got->token, wanted->token, got->count * sizeof *got->token);
	assert_int_equal(a->stats.finish, b->stats.finish);
	expect_same_cache(a, b, a->drafter, b->drafter);
}

/* One round of all, in one engine together, in another each by itself. */
static void play(struct octavo_session **a, struct octavo_session **b, size_t joined)
{
	struct octavo_session *in[CROWD];
	struct octavo_emitted got[CROWD], wanted;
	struct octavo_error error = { "" };
	size_t who[CROWD], count = 0;
	for (size_t i = 0; i < joined; i++)
		if (a[i]) {
			who[count] = i;
			in[count++] = a[i];
		}
	if (count && octavo_sessions_step(in, count, got, &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
	for (size_t j = 0; j < count; j++) {
		size_t i = who[j];
		if (octavo_sessions_step(&b[i], 1, &wanted, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		expect_same_round(a[i], b[i], &got[j], &wanted);
		if (a[i]->stats.finish == OCTAVO_RUNNING)
			continue;
		octavo_session_close(&a[i]);
		octavo_session_close(&b[i]);
	}
}

/* One more joins each round; who has ended leaves.  drafter[i % kinds] is session i's. */
static void check_crowd(const char *model, const char *const *drafter, size_t kinds, size_t max_rows,
                        enum octavo_kv_format kv)
{
	struct octavo_engine_settings settings = { .threads = 2, .sequences = CROWD, .kv = kv, .max_rows = max_rows,
		                                   .max_context = 160 };
	struct octavo_engine *together = open_model(model, &settings), *apart = open_model(model, &settings);
	struct octavo_session *a[CROWD] = { NULL }, *b[CROWD] = { NULL };
	size_t joined = 0, running = 1;
	while (running) {
		if (joined < CROWD) {
			a[joined] = start(together, joined, drafter[joined % kinds]);
			b[joined] = start(apart, joined, drafter[joined % kinds]);
			joined++;
		}
		play(a, b, joined);
		running = CROWD - joined;
		for (size_t i = 0; i < joined; i++)
			running += a[i] != NULL;
	}
	octavo_engine_close(&apart);
	octavo_engine_close(&together);
}

static void drafts_are_those_alone(void **state)
{
	const struct specs *s = *state;
	const char *const alike[] = { "mtp", "eagle", "parallel", s->medusa, s->hydra, s->model, "ngram+eagle" };
	const char *const mixed[] = { "mtp", "eagle", s->hydra, "ngram+mtp", "eagle" };
	const char *const several[] = { "mtp", "ngram+mtp", "mtp" }; /* modules, as many as a draft is deep */
	for (size_t i = 0; i < sizeof alike / sizeof *alike; i++)
		check_crowd("tiny-ragged", &alike[i], 1, i % 2 ? 64 : 64 * CROWD, OCTAVO_KV_BF16);
	check_crowd("tiny-ragged", mixed, 5, 64, OCTAVO_KV_BF16);
	check_crowd("tiny-ragged", mixed, 5, 64 * CROWD, OCTAVO_KV_FP8);
	check_crowd("tiny-modules", several, 3, 64, OCTAVO_KV_BF16);
	check_crowd("tiny-modules", several, 1, 64 * CROWD, OCTAVO_KV_FP8);
}

/* ---- How often weights are read ---------------------------------------------------------------------------------- */

enum { MOST_RUNS = 64 };

/* What the run() of a drafter, or a pair's second, was called with. */
static struct {
	const struct octavo_drafter_ops *real;
	struct octavo_drafter_ops ops;
	size_t drafts[MOST_RUNS], runs;
	int fails;
} watched;

static enum octavo_status run_watched(struct octavo_drafting **d, size_t count, struct octavo_error *error)
{
	assert_true(watched.runs < MOST_RUNS);
	watched.drafts[watched.runs++] = count;
	return watched.fails ? octavo_fail(error, OCTAVO_ELIMIT, "no such run") : watched.real->run(d, count, error);
}

static const struct octavo_drafter_ops **ops_of(struct octavo_session *s)
{
	return s->drafter->pair[1] ? &s->drafter->pair[1]->ops : &s->drafter->ops;
}

static void watch(struct octavo_session *s)
{
	watched.real = *ops_of(s) == &watched.ops ? watched.real : *ops_of(s);
	watched.ops = *watched.real;
	watched.ops.run = run_watched;
	*ops_of(s) = &watched.ops;
}

/* Four sessions that draft 1, 2, 3 and 4 tokens, one of them as the second of a pair: together they need as many
 * forwards as the longest. */
static void a_depth_is_one_forward(void **state)
{
	const struct specs *s = *state;
	const struct {
		const char *model, *drafter;
		size_t runs;
	} expected[] = { { "tiny-ragged", "mtp", 4 },     { "tiny-ragged", "eagle", 4 },
		         { "tiny-ragged", s->hydra, 4 },  { "tiny-ragged", s->model, 4 },
		         { "tiny-ragged", "parallel", 1 }, { "tiny-ragged", s->medusa, 1 },
		         { "tiny-modules", "mtp", 4 } };
	char pair[SPEC + 8];
	struct octavo_engine_settings settings = { .threads = 1, .sequences = 4, .max_rows = 64 };
	struct octavo_error error = { "" };
	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
		struct octavo_engine *e = open_model(expected[i].model, &settings);
		struct octavo_session *session[4];
		struct octavo_emitted got[4];
		int32_t prompt[4] = { 40, 41, 42, 43 };
		memset(&watched, 0, sizeof watched);
		for (size_t j = 0; j < 4; j++) {
			struct octavo_session_settings one = { .drafter = j == 2 ? pair : expected[i].drafter,
				                               .k = (unsigned)(3 * j % 4 + 1) };
			snprintf(pair, sizeof pair, "ngram+%s", expected[i].drafter);
			prompt[0] = 30 + (int32_t)j; /* nothing in it comes twice */
			session[j] = open_session(e, &one);
			assert_int_equal(octavo_session_prompt(session[j], prompt, 4, &error), OCTAVO_OK);
			watch(session[j]);
		}
		assert_int_equal(octavo_sessions_step(session, 4, got, &error), OCTAVO_OK);
		assert_int_equal(watched.runs, expected[i].runs);
		for (size_t run = 0; run < watched.runs; run++)
			assert_int_equal(watched.drafts[run], 4 - run);
		for (size_t j = 0; j < 4; j++) {
			*ops_of(session[j]) = watched.real;
			octavo_session_close(&session[j]);
		}
		octavo_engine_close(&e);
	}
}

/* A forward that fails ends the sessions that shared it, and no others. */
static void failures_end_the_crew_alone(void **state)
{
	static const char *const drafter[CROWD] = { "mtp", "eagle", "none", "ngram+mtp", "eagle", "parallel" };
	struct octavo_engine_settings settings = { .threads = 1, .sequences = CROWD, .max_rows = 64 * CROWD };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_session *s[CROWD];
	struct octavo_emitted got[CROWD];
	struct octavo_error error = { "" };
	(void)state;
	memset(&watched, 0, sizeof watched);
	watched.fails = 1;
	for (size_t i = 0; i < CROWD; i++) {
		struct octavo_session_settings one = { .drafter = drafter[i], .k = 3 };
		int32_t prompt[PROMPT];
		s[i] = open_session(e, &one);
		assert_int_equal(octavo_session_prompt(s[i], prompt, make_prompt(0, prompt), &error), OCTAVO_OK);
		if (!strcmp(drafter[i], "eagle"))
			watch(s[i]);
	}
	assert_int_equal(octavo_sessions_step(s, CROWD, got, &error), OCTAVO_ELIMIT);
	assert_string_equal(error.text, "no such run");
	assert_int_equal(watched.runs, 1);
	for (size_t i = 0; i < CROWD; i++) {
		int failed = !strcmp(drafter[i], "eagle");
		assert_int_equal(s[i]->stats.finish, failed ? OCTAVO_FINISH_ERROR : OCTAVO_RUNNING);
		assert_true(failed ? got[i].count == 0 : got[i].count > 0);
		assert_memory_equal(got[i].token, got[0].token, failed ? 0 : sizeof(int32_t)); /* all have one prompt */
		if (failed)
			*ops_of(s[i]) = watched.real;
		octavo_session_close(&s[i]);
	}
	octavo_engine_close(&e);
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

static size_t allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_malloc(size_t size)
{
	allocations++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	allocations++;
	return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
	allocations++;
	return __real_realloc(memory, size);
}

static void rounds_allocate_nothing(void **state)
{
	const struct specs *specs = *state;
	const char *const drafter[CROWD] = {
		"ngram+mtp", "eagle", specs->medusa, specs->hydra, specs->model, "parallel"
	};
	struct octavo_engine_settings settings = { .threads = 2, .sequences = CROWD, .max_rows = 64 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_session *s[CROWD];
	struct octavo_emitted got[CROWD];
	struct octavo_error error = { "" };
	allocations = 0;
	for (size_t i = 0; i < CROWD; i++)
		s[i] = start(e, i, drafter[i]);
	assert_true(allocations > CROWD); /* they are counted */
	allocations = 0;
	for (size_t tokens = 1; tokens;) {
		tokens = 0;
		if (octavo_sessions_step(s, CROWD, got, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		for (size_t i = 0; i < CROWD; i++)
			tokens += got[i].count;
	}
	assert_int_equal(allocations, 0);
	for (size_t i = 0; i < CROWD; i++)
		octavo_session_close(&s[i]);
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drafts_are_those_alone),
		cmocka_unit_test(a_depth_is_one_forward),
		cmocka_unit_test(failures_end_the_crew_alone),
		cmocka_unit_test(rounds_allocate_nothing),
	};
	return cmocka_run_group_tests(tests, open_specs, close_specs);
}
