/* SPDX-License-Identifier: Apache-2.0
 *
 * The acceptance rule `candidates`: what it takes for sure, the bits of the logits that it computes, that it is match where
 * every token is a candidate or no row is sure, that it emits candidates alone where it says so, and what it refuses.
 */
#include "engine/screen.h"
#include "tests/support/heads.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- The rule by itself ---------------------------------------------------------------------------------------------- */

enum { VOCAB = 40, ROWS = 7 };

static const struct octavo_sampling cold = { 0 }, hot = { .temperature = 0.8f };

/* A verification with logits of all tokens, and of some. */
struct world {
	float all[ROWS][VOCAB], few[ROWS][VOCAB];
	int32_t candidate[VOCAB];
	struct octavo_screened_row row[ROWS];
	struct octavo_stream stream;
	double law[VOCAB];
	uint32_t order[VOCAB];
};

/* In [0, 1). */
static float random_number(uint32_t *seed)
{
	static const struct octavo_stream stream = { 17, 4 };
	return (float)octavo_draw(&stream, (*seed)++, OCTAVO_DRAW_TARGET, 0);
}

/* `count` candidates, evenly spread; all rows with a law. */
static struct octavo_screened make(struct world *w, size_t count, uint32_t *seed)
{
	for (size_t i = 0; i < count; i++)
		w->candidate[i] = (int32_t)(i * VOCAB / count);
	for (size_t row = 0; row < ROWS; row++) {
		for (size_t i = 0; i < VOCAB; i++)
			w->all[row][i] = 8.0f * random_number(seed);
		for (size_t i = 0; i < count; i++)
			w->few[row][i] = w->all[row][w->candidate[i]];
		w->row[row] = (struct octavo_screened_row){ .mass = 1.0, .few = w->few[row] };
	}
	w->stream = (struct octavo_stream){ 5, *seed };
	return (struct octavo_screened){ .vocab = VOCAB, .token = w->candidate, .count = count, .row = w->row,
		                           .sampling = &hot, .pick = octavo_pick, .pick_context = &w->stream,
		                           .position = 9, .law = w->law, .order = w->order };
}

static void worth_follows_its_formula(void **state)
{
	static struct world w;
	uint32_t seed = 0;
	struct octavo_screened c = make(&w, 3, &seed);
	(void)state;
	w.few[1][0] = logf(3.0f);
	w.few[1][1] = logf(6.0f);
	w.few[1][2] = 0.0f;
	w.row[1].mass = 0.5; /* times 6 / 10 */
	assert_true(fabs(octavo_screened_worth(&c, 1) - 0.3) < 1e-6);
	c.sampling = &cold; /* the law that is drawn from is another matter */
	assert_true(fabs(octavo_screened_worth(&c, 1) - 0.3) < 1e-6);
	c.sure = 0.2999;
	assert_true(octavo_screened_decides(&c, 1));
	c.sure = 0.3001;
	assert_false(octavo_screened_decides(&c, 1));
	c.sure = 0.0;
	w.row[1].mass = (OCTAVO_USUAL_SURE + 1e-4) / 0.6;
	assert_true(octavo_screened_decides(&c, 1));
	w.row[1].mass = (OCTAVO_USUAL_SURE - 1e-4) / 0.6;
	assert_false(octavo_screened_decides(&c, 1));
	w.row[1].mass = 0.0;
	assert_true(octavo_screened_worth(&c, 1) == 0.0);
	w.row[1].mass = 1.0;
	w.few[1][2] = NAN;
	assert_true(octavo_screened_worth(&c, 1) == 0.0);
	w.row[1].few = NULL;
	assert_true(octavo_screened_worth(&c, 1) == 0.0);
}

static const int32_t line[ROWS] = { -1, 0, 1, 2, 3, 4, 5 }, fan[ROWS] = { -1, 0, 0, 1, 1, 2, 4 };

/* A draft of tokens that the rule is likely to draw. */
static void draw_draft(const struct world *w, const int32_t *parent, int32_t *token, uint32_t *seed)
{
	token[0] = 0;
	for (size_t row = 1; row < ROWS; row++) {
		token[row] = octavo_argmax(w->all[parent[row]], VOCAB);
		for (size_t other = 1; other < row; other++)
			if (parent[other] == parent[row] && token[other] == token[row])
				token[row] = (token[row] + 1 + (int32_t)(random_number(seed) * (VOCAB - 2))) % VOCAB;
	}
}

/* Gives what the walk asks for until it ends; returns how often it asked. */
static size_t walk(const struct octavo_draft *draft, const struct octavo_screened *c, struct world *w,
                   struct octavo_outcome *out)
{
	size_t unsure, asked = 0, last = 0;
	for (;; asked++) {
		assert_int_equal(octavo_accept_candidates(draft, c, out, &unsure), OCTAVO_OK);
		if (unsure == draft->rows)
			return asked;
		assert_true(!asked || unsure > last); /* the same way again, and further */
		assert_null(w->row[unsure].all);
		assert_false(octavo_screened_decides(c, unsure));
		w->row[unsure].all = w->all[last = unsure];
	}
}

static void expect_match(const struct octavo_draft *draft, const struct octavo_screened *c, struct world *w,
                         const struct octavo_outcome *got)
{
	double law[VOCAB];
	uint32_t order[VOCAB];
	struct octavo_outcome want;
	struct octavo_scored scored = { .logits = w->all[0], .ld = VOCAB, .vocab = VOCAB, .sampling = c->sampling,
		                        .law = law, .order = order };
	const struct octavo_judge judge = { .vocab = VOCAB, .target = octavo_scored_law, .target_context = &scored,
		                            .pick = octavo_pick, .pick_context = &w->stream, .position = c->position };
	assert_int_equal(octavo_accept_match(draft, &judge, &want), OCTAVO_OK);
	assert_int_equal(got->accepted, want.accepted);
	assert_memory_equal(got->path, want.path, want.accepted * sizeof *want.path);
	assert_int_equal(got->next, want.next);
}

/* With every token a candidate, and with no row sure, it is match; in between it is not. */
static void all_tokens_are_match(void **state)
{
	static const struct octavo_sampling samplings[] = {
		{ 0 }, { .temperature = 0.8f }, { .temperature = 1.3f, .top_k = 9 },
		{ .temperature = 1.0f, .top_p = 0.8f, .min_p = 0.01f },
	};
	static struct world w;
	uint32_t seed = 100;
	size_t kept = 0, asked = 0, others = 0;
	(void)state;
	for (size_t trial = 0; trial < 400; trial++) {
		int32_t token[ROWS];
		const struct octavo_draft draft = { ROWS, token, trial % 2 ? line : fan };
		struct octavo_outcome out, some;
		struct octavo_screened c = make(&w, VOCAB, &seed);
		c.sampling = &samplings[trial / 2 % 4];
		draw_draft(&w, draft.parent, token, &seed);
		c.sure = 1e-9;
		assert_int_equal(walk(&draft, &c, &w, &out), 0);
		expect_match(&draft, &c, &w, &out);
		kept += out.accepted;
		c.sure = 0.5;
		asked += walk(&draft, &c, &w, &out);
		expect_match(&draft, &c, &w, &out);
		c = make(&w, VOCAB / 3, &seed);
		c.sampling = &samplings[trial / 2 % 4];
		for (size_t row = 0; row < ROWS; row++)
			w.row[row].mass = 0.0;
		walk(&draft, &c, &w, &out);
		expect_match(&draft, &c, &w, &out);
		for (size_t row = 0; row < ROWS; row++)
			w.row[row] = (struct octavo_screened_row){ 1.0, w.few[row], NULL };
		c.sure = 1e-9;
		assert_int_equal(walk(&draft, &c, &w, &some), 0);
		others += some.accepted != out.accepted || some.next != out.next;
		size_t i = 0;
		while (i < c.count && c.token[i] != some.next)
			i++;
		assert_true(i < c.count);
	}
	assert_true(kept > 200 && asked > 100 && others > 100);
}

static void rule_refuses(void **state)
{
	static struct world w;
	uint32_t seed = 7;
	const struct octavo_screened good = make(&w, 4, &seed);
	const int32_t token[3] = { 0, 1, 2 }, far[3] = { 0, 1, VOCAB };
	const struct octavo_draft draft = { 3, token, line };
	const struct octavo_bias bias = { 1, 1.0f };
	const struct octavo_sampling biased = { .bias = &bias, .biases = 1 }, penalised = { .repetition = 1.1f },
	                             truncated = { .temperature = 1, .top_p = 0.5f };
	struct octavo_outcome out;
	size_t unsure;
	(void)state;
	assert_int_equal(octavo_accept_candidates(&draft, &good, &out, &unsure), OCTAVO_OK);
	assert_int_equal(octavo_accept_candidates(NULL, &good, &out, &unsure), OCTAVO_EINVAL);
	assert_int_equal(octavo_accept_candidates(&draft, NULL, &out, &unsure), OCTAVO_EINVAL);
	assert_int_equal(octavo_accept_candidates(&draft, &good, NULL, &unsure), OCTAVO_EINVAL);
	assert_int_equal(octavo_accept_candidates(&draft, &good, &out, NULL), OCTAVO_EINVAL);
	assert_int_equal(octavo_accept_candidates(&(struct octavo_draft){ 3, far, line }, &good, &out, &unsure), OCTAVO_EINVAL);
	for (int i = 0; i < 9; i++) {
		struct octavo_screened bad = good;
		int32_t tokens[4] = { 1, 5, 9, 12 };
		bad.token = tokens;
		if (i < 4)
			bad.sampling = (const struct octavo_sampling *const[]){ &biased, &penalised, &truncated, NULL }[i];
		bad.order = i == 2 ? NULL : bad.order;
		tokens[2] = i == 4 ? 5 : tokens[2]; /* twice */
		tokens[3] = i == 5 ? VOCAB : tokens[3];
		tokens[0] = i == 6 ? -1 : tokens[0];
		bad.sure = i == 7 ? 1.5 : i == 8 ? NAN : bad.sure;
		assert_int_equal(octavo_accept_candidates(&draft, &bad, &out, &unsure), OCTAVO_EINVAL);
	}
	/* What is no number does not decide, and fails when all logits come. */
	w.few[0][1] = w.all[0][3] = NAN;
	assert_int_equal(octavo_accept_candidates(&draft, &good, &out, &unsure), OCTAVO_OK);
	assert_int_equal(unsure, 0);
	w.row[0].all = w.all[0];
	assert_int_equal(octavo_accept_candidates(&draft, &good, &out, &unsure), OCTAVO_ENUMERIC);
}

/* ---- What a law holds likely ------------------------------------------------------------------------------------------ */

static void lists_hold_the_best(void **state)
{
	enum { WORDS = 200, MOST = 30 };
	uint64_t listed[WORDS / 64 + 1];
	int32_t best[MOST], token[WORDS], drafted[2] = { 199, 64 };
	uint32_t seed = 900;
	double law[WORDS];
	(void)state;
	for (size_t most = 1; most <= MOST; most++) {
		struct octavo_candidate_list list = { .most = most, .vocab = WORDS, .listed = listed, .best = best, .token = token,
			                              .room = WORDS };
		int in[WORDS] = { 0 };
		octavo_candidate_list_begin(&list);
		for (size_t node = 0; node < 3; node++) {
			double sum = 0.0, mass = 0.0;
			for (size_t i = 0; i < WORDS; i++)
				sum += law[i] = floorf(12.0f * random_number(&seed)); /* with many ties */
			for (size_t i = 0; i < WORDS; i++)
				law[i] /= sum;
			for (size_t i = 0; i < WORDS; i++) {
				size_t before = 0;
				for (size_t j = 0; j < WORDS; j++)
					before += law[j] > law[i] || (law[j] == law[i] && j < i);
				in[i] |= before < most;
				mass += before < most ? law[i] : 0.0;
			}
			list.mass[node] = octavo_candidate_list_add(&list, law);
			assert_true(fabs(list.mass[node] - mass) < 1e-12);
		}
		assert_true(list.mass[3] == 0.0);
		octavo_candidate_list_end(&list, drafted, 2);
		in[199] = in[64] = 1;
		size_t at = 0;
		for (int32_t i = 0; i < WORDS; i++)
			if (in[i])
				assert_true(at < list.count && token[at++] == i);
		assert_int_equal(at, list.count);
	}
}

/* ---- The bits of the head ---------------------------------------------------------------------------------------------- */

enum { HEAD = 700, WIDTH = 160, MOST = 4 };

/* Logits of some tokens against those that octavo_linear gives of all, for heads of every precision that checkpoints have. */
static void check_bits(struct octavo_engine *e, enum octavo_dtype dtype)
{
	static const size_t counts[] = { 1, 2, 15, 16, 17, 130, HEAD - 1, HEAD };
	enum { LD = WIDTH + 3 };
	size_t size = octavo_dtype_size(dtype);
	unsigned char *weights = test_malloc(HEAD * LD * size + 1), *room = test_malloc(HEAD * WIDTH * size);
	float *x = test_malloc(MOST * WIDTH * sizeof *x), *all = test_malloc(MOST * HEAD * sizeof *all),
	      *some = test_malloc(MOST * HEAD * sizeof *some);
	uint32_t seed = 3;
	for (size_t i = 0; i < HEAD * LD; i++) {
		float value = random_number(&seed) - 0.5f;
		uint16_t half = octavo_bf16_encode(value);
		if (dtype == OCTAVO_F16) /* of magnitude 1/4 to 1/2 */
			half = (uint16_t)((half & 0x83ff) | 0x3400);
		memcpy(weights + 1 + i * size, dtype == OCTAVO_F32 ? (void *)&value : &half, size); /* at an odd address */
	}
	for (size_t i = 0; i < MOST * WIDTH; i++)
		x[i] = random_number(&seed) - 0.5f;
	struct octavo_matrix kept = e->weights.head;
	size_t choosable = e->choosable, hidden = e->config.hidden;
	e->weights.head = (struct octavo_matrix){ .data = weights + 1, .rows = HEAD, .cols = WIDTH, .ld = LD, .dtype = dtype };
	e->choosable = HEAD;
	assert_int_equal(hidden, WIDTH);
	for (size_t rows = 1; rows <= MOST; rows++) {
		octavo_linear(e, &e->weights.head, x, rows, all);
		for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
			int32_t token[HEAD];
			size_t count = counts[i], shift = count < HEAD ? 1 : 0;
			for (size_t j = 0; j < count; j++)
				token[j] = (int32_t)(j * (HEAD - shift) / count + shift);
			memset(some, 0xff, MOST * HEAD * sizeof *some);
			octavo_head_some(e, x, rows, token, count, room, some);
			for (size_t row = 0; row < rows; row++)
				for (size_t j = 0; j < count; j++)
					assert_memory_equal(some + row * count + j, all + row * HEAD + token[j], sizeof *all);
		}
	}
	e->weights.head = kept;
	e->choosable = choosable;
	test_free(some);
	test_free(all);
	test_free(x);
	test_free(room);
	test_free(weights);
}

static void some_logits_have_the_bits_of_all(void **state)
{
	struct octavo_kernels reference;
	octavo_kernels_init(&reference, 0);
	struct octavo_engine_settings machines[] = { { .threads = 1, .kernels = &reference }, { .threads = 1 }, { .threads = 2 } };
	char *dir = ckpt_dir_new();
	struct ckpt *model = counting_model(dir);
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct octavo_engine *e = open_model(dir, &machines[i]);
		check_bits(e, OCTAVO_BF16);
		check_bits(e, OCTAVO_F16);
		check_bits(e, OCTAVO_F32);
		octavo_engine_close(&e);
	}
	ckpt_free(model);
	ckpt_dir_free(dir);
}

/* ---- Sessions ---------------------------------------------------------------------------------------------------------- */

enum { PROMPT = 12, TOKENS = 40 };
static const int32_t prompt[PROMPT] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };

/* Heads for tiny-ragged, in directories of their own. */
static char *heads_dir(const struct octavo_engine *e, int hydra)
{
	const struct heads_options options = { .hydra = hydra, .heads = 3, .layers = 1, .hidden = e->config.hidden,
		                               .vocab = e->config.vocab, .dtype = "BF16", .seed = 8 };
	struct ckpt *heads = heads_new(&options);
	char *dir = ckpt_dir_new();
	heads_write(heads, dir);
	ckpt_free(heads);
	return dir;
}

struct drafters {
	char *medusa, *hydra;
	char spec[7][PATH_MAX + 32];
};

static void open_drafters(struct drafters *d, const struct octavo_engine *e)
{
	d->medusa = heads_dir(e, 0);
	d->hydra = heads_dir(e, 1);
	strcpy(d->spec[0], "mtp");
	strcpy(d->spec[1], "eagle");
	strcpy(d->spec[2], "parallel");
	strcpy(d->spec[3], "ngram+mtp");
	snprintf(d->spec[4], sizeof *d->spec, "medusa:%s", d->medusa);
	snprintf(d->spec[5], sizeof *d->spec, "hydra:%s", d->hydra);
	snprintf(d->spec[6], sizeof *d->spec, "model:%s", source_path("tests/data/tiny-ragged"));
}

static void close_drafters(struct drafters *d)
{
	ckpt_dir_free(d->hydra);
	ckpt_dir_free(d->medusa);
}

static const struct shape {
	unsigned k, tree[4];
	struct octavo_dynamic dynamic;
} shapes[] = { { .k = 1 }, { .k = 3 }, { .k = 0 }, { .tree = { 3, 2, 1 } }, { .dynamic = { 9, 3, 4 } } };
enum { SHAPES = sizeof shapes / sizeof *shapes };

static struct octavo_session_settings settings_of(const char *drafter, const struct shape *shape, float temperature,
                                                  unsigned most, double sure)
{
	struct octavo_session_settings s = { .drafter = drafter, .k = shape->k, .dynamic = shape->dynamic,
		                             .accept = OCTAVO_ACCEPT_CANDIDATES, .shortlist = { most, sure },
		                             .sampling = { .temperature = temperature }, .stream = { 3, 1 },
		                             .max_new = TOKENS, .ignore_eos = 1 };
	memcpy(s.tree, shape->tree, sizeof shape->tree);
	return s;
}

/* Every token a candidate, or no row ever sure: the tokens of plain decoding. */
static void extremes_are_match(void **state)
{
	struct octavo_engine_settings settings = { .threads = 2 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct drafters d;
	(void)state;
	open_drafters(&d, e);
	for (int t = 0; t < 2; t++) {
		struct octavo_session_settings plain = { .sampling = { .temperature = t ? 0.8f : 0.0f }, .stream = { 3, 1 },
			                                 .max_new = TOKENS, .ignore_eos = 1 };
		static struct output want, got;
		decode(e, &plain, prompt, PROMPT, &want);
		for (size_t i = 0; i < 7; i++)
			for (size_t shape = 0; shape < SHAPES; shape++) {
				struct octavo_session_settings s =
					settings_of(d.spec[i], &shapes[shape], plain.sampling.temperature, UINT_MAX, 1e-9);
				decode(e, &s, prompt, PROMPT, &got);
				expect_same(&want, &got, d.spec[i]);
				if (shapes[shape].k == 1 && i != 3 && i != 6) /* ngram has no laws; the model keeps all drafts */
					assert_true(got.stats.full_steps < got.stats.steps);
				s.shortlist = (struct octavo_shortlist){ 300, 0.0 };
				decode(e, &s, prompt, PROMPT, &got);
				expect_same(&want, &got, d.spec[i]);
				s.shortlist = (struct octavo_shortlist){ 3, 1.0 };
				decode(e, &s, prompt, PROMPT, &got);
				expect_same(&want, &got, d.spec[i]);
				assert_int_equal(got.stats.full_rows, TOKENS);
				assert_int_equal(got.stats.full_steps, got.stats.steps);
			}
	}
	close_drafters(&d);
	octavo_engine_close(&e);
}

static int is_candidate(const struct octavo_candidate_list *list, int32_t token)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->token[i] == token)
			return 1;
	return 0;
}

/* A step of a session, all that the rule made of it: whether each token came from where it says, and from the model's
 * logits to the bit. */
static void check_step(struct octavo_session *s, const struct octavo_session_stats *before, const float *head)
{
	const struct octavo_screen *screen = s->screen;
	const struct octavo_engine *e = s->engine;
	size_t full = 0;
	const struct octavo_screened c = { .vocab = e->choosable, .token = screen->list.token, .count = screen->list.count,
		                             .row = screen->row, .law = s->law, .order = s->order };
	for (size_t i = 0; i < s->emitted; i++) {
		size_t row = octavo_session_maker(s, i);
		const struct octavo_screened_row *r = &screen->row[row];
		double worth = octavo_screened_worth(&c, row);
		full += r->all != NULL;
		for (size_t j = 0; r->few && j < c.count; j++)
			assert_memory_equal(r->few + j, head + row * e->config.vocab + c.token[j], sizeof *head);
		if (r->all) {
			assert_true(worth < s->settings.shortlist.sure);
			assert_memory_equal(r->all, head + row * e->config.vocab, e->choosable * sizeof *head);
		} else {
			assert_true(worth >= s->settings.shortlist.sure);
			assert_true(is_candidate(&screen->list, s->token[s->first + i]));
		}
	}
	for (size_t row = 1; row < s->tree.rows; row++)
		assert_true(is_candidate(&screen->list, s->tree.token[row]));
	assert_int_equal(s->stats.full_rows, before->full_rows + full);
	assert_int_equal(s->stats.full_steps, before->full_steps + (full > 0));
	assert_int_equal(s->stats.candidates, before->candidates + screen->list.count);
}

/* In between: some steps decided by candidates, some not, and other tokens than plain decoding's somewhere. */
static void candidates_decide_where_they_should(void **state)
{
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct drafters d;
	struct octavo_error error;
	float *head = test_malloc(OCTAVO_MAX_DRAFT * e->config.vocab * sizeof *head);
	size_t others = 0, full = 0, few = 0;
	(void)state;
	open_drafters(&d, e);
	struct octavo_session_settings plain = { .sampling = hot, .stream = { 3, 1 }, .max_new = TOKENS, .ignore_eos = 1 };
	static struct output want;
	decode(e, &plain, prompt, PROMPT, &want);
	for (size_t i = 0; i < 7; i++)
		for (size_t shape = 0; shape < SHAPES; shape++) {
			struct octavo_session_settings settings_here = settings_of(d.spec[i], &shapes[shape], 0.8f, 4, 0.02);
			struct octavo_session *s = open_session(e, &settings_here);
			struct octavo_session_stats before = { 0 };
			const int32_t *token;
			size_t count, at = 0, same = 1;
			assert_int_equal(octavo_session_prompt(s, prompt, PROMPT, &error), OCTAVO_OK);
			for (;; at += count) {
				if (octavo_session_step(s, &token, &count, &error) != OCTAVO_OK)
					fail_msg("%s", error.text);
				if (!count)
					break;
				same &= !memcmp(token, want.token + at, count * sizeof *token);
				octavo_linear(e, &e->weights.head, e->hidden[OCTAVO_TAP_POST_NORM], s->tree.rows, head);
				check_step(s, &before, head);
				before = s->stats;
			}
			others += !same;
			full += before.full_rows;
			few += before.emitted - before.full_rows;
			octavo_session_close(&s);
		}
	assert_true(others > 5 && full > 100 && few > 100);
	close_drafters(&d);
	test_free(head);
	octavo_engine_close(&e);
}

/* A drafter that is right: the model itself.  At temperature 0 its best token is all that is needed, and only the row
 * behind the draft has no law. */
static void right_drafters_need_no_head(void **state)
{
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_session_settings plain = { .max_new = TOKENS, .ignore_eos = 1 };
	static struct output want, got;
	struct drafters d;
	(void)state;
	open_drafters(&d, e);
	decode(e, &plain, prompt, PROMPT, &want);
	struct octavo_session_settings s = settings_of(d.spec[6], &shapes[1], 0.0f, 1, 1e-9);
	decode(e, &s, prompt, PROMPT, &got);
	expect_same(&want, &got, "the model as its own drafter");
	assert_int_equal(got.stats.steps, TOKENS / 4);
	assert_int_equal(got.stats.full_rows, TOKENS / 4);
	assert_true(got.stats.candidates <= 3 * got.stats.steps);
	close_drafters(&d);
	octavo_engine_close(&e);
}

/* What a session emits does not depend on who is beside it: sessions of this rule and of others. */
static void company_changes_nothing(void **state)
{
	enum { CROWD = 5 };
	static const struct shape chain = { .k = 3 }, tree = { .tree = { 3, 2, 1 } };
	struct octavo_engine_settings settings = { .threads = 2, .sequences = CROWD + 1, .max_rows = 128 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_session_settings crowd[CROWD] = {
		settings_of("mtp", &chain, 0.8f, 4, 0.02), { .drafter = "mtp", .k = 2, .max_new = 30, .ignore_eos = 1 },
		settings_of("eagle", &tree, 0.8f, 6, 0.03), settings_of("parallel", &chain, 0.0f, 2, 0.01),
		{ .drafter = "lookahead", .k = 3, .max_new = 35, .ignore_eos = 1, .sampling = { .temperature = 0.8f } },
	};
	struct octavo_session *s[CROWD];
	struct octavo_emitted got[CROWD];
	static struct output alone[CROWD], together[CROWD];
	struct octavo_error error;
	(void)state;
	for (size_t i = 0; i < CROWD; i++) {
		decode(e, &crowd[i], prompt, PROMPT, &alone[i]);
		s[i] = open_session(e, &crowd[i]);
		assert_int_equal(octavo_session_prompt(s[i], prompt, PROMPT, &error), OCTAVO_OK);
	}
	for (size_t news = 1; news;) {
		if (octavo_sessions_step(s, CROWD, got, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		news = 0;
		for (size_t i = 0; i < CROWD; news += got[i++].count) {
			memcpy(together[i].token + together[i].count, got[i].token, got[i].count * sizeof *got[i].token);
			together[i].count += got[i].count;
		}
	}
	for (size_t i = 0; i < CROWD; i++) {
		float margin, other;
		int32_t second;
		together[i].stats = *octavo_session_stats(s[i]);
		expect_same(&alone[i], &together[i], crowd[i].drafter);
		assert_int_equal(alone[i].stats.full_rows, together[i].stats.full_rows);
		struct octavo_session *again = open_session(e, &crowd[i]);
		static struct output out;
		assert_int_equal(octavo_session_prompt(again, prompt, PROMPT, &error), OCTAVO_OK);
		finish(again, &out);
		for (size_t at = 0; at < out.count; at++) {
			assert_int_equal(octavo_session_margin(s[i], at, &margin, &second), OCTAVO_OK);
			assert_int_equal(octavo_session_margin(again, at, &other, &second), OCTAVO_OK);
			assert_true(margin == other);
		}
		octavo_session_close(&again);
	}
	for (size_t i = 0; i < CROWD; i++)
		octavo_session_close(&s[i]);
	octavo_engine_close(&e);
}

static void expect_refused(struct octavo_engine *e, const struct octavo_session_settings *settings, const char *why)
{
	struct octavo_session *s;
	struct octavo_error error = { "" };
	assert_int_equal(octavo_session_open(&s, e, settings, &error), OCTAVO_EINVAL);
	if (!strstr(error.text, why))
		fail_msg("\"%s\" does not say \"%s\"", error.text, why);
}

static void what_does_not_fit_is_refused(void **state)
{
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	static const char *const lawless[] = { NULL, "none", "ngram" }, *const watching[] = { "lookahead", "lookahead+mtp" };
	const struct octavo_bias bias = { 5, 1.0f };
	const struct octavo_session_settings good = { .drafter = "mtp", .accept = OCTAVO_ACCEPT_CANDIDATES, .shortlist = { 4, 0 } };
	struct octavo_session *session = open_session(e, &good);
	struct octavo_session_settings s;
	(void)state;
	octavo_session_close(&session);
	for (size_t i = 0; i < 3; i++) {
		s = good;
		s.drafter = lawless[i];
		expect_refused(e, &s, "needs a drafter with laws");
		assert_int_equal(octavo_drafter_suits(lawless[i], OCTAVO_ACCEPT_MATCH, NULL), 1);
	}
	for (size_t i = 0; i < 2; i++) {
		s = good;
		s.drafter = watching[i];
		expect_refused(e, &s, "lookahead learns");
	}
	s = good;
	s.shortlist.most = 0;
	expect_refused(e, &s, "at least 1");
	s = good;
	s.shortlist.sure = 1.01;
	expect_refused(e, &s, "1.01");
	s.shortlist.sure = NAN;
	expect_refused(e, &s, "not in (0, 1]");
	s = good;
	s.accept = OCTAVO_ACCEPT_TYPICAL;
	expect_refused(e, &s, "not for typical");
	for (int i = 0; i < 4; i++) {
		s = good;
		s.sampling = (const struct octavo_sampling[]){ { .bias = &bias, .biases = 1 }, { .repetition = 1.2f },
			                                       { .frequency = 0.1f }, { .presence = -0.1f } }[i];
		expect_refused(e, &s, "penalty");
	}
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(worth_follows_its_formula), cmocka_unit_test(all_tokens_are_match),
		cmocka_unit_test(rule_refuses), cmocka_unit_test(lists_hold_the_best),
		cmocka_unit_test(some_logits_have_the_bits_of_all), cmocka_unit_test(extremes_are_match),
		cmocka_unit_test(candidates_decide_where_they_should), cmocka_unit_test(right_drafters_need_no_head),
		cmocka_unit_test(company_changes_nothing), cmocka_unit_test(what_does_not_fit_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
