/* SPDX-License-Identifier: Apache-2.0
 *
 * Medusa's and Hydra's heads: their logits against the formulas in double, their place in the text on a model whose
 * text is known, and streams against plain decoding.
 */
#include "engine/draft/files.h"
#include "engine/draft/outlook.h"
#include "tests/support/heads.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADS = 3, PROMPT = 12 };
static const int32_t prompt[PROMPT] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };

/* ---- The formulas ----------------------------------------------------------------------------------------------- */

/* What could be wrong with an implementation; the same comparison must see each of them. */
enum mistake { NONE, NO_RESIDUAL, NO_SILU, NO_BIAS, OLDER_STATE, NEXT_HEAD, REVERSED, LATE_TOKENS, MISTAKES };

static double rounded(double x)
{
	float single = (float)x;
	uint32_t bits;
	memcpy(&bits, &single, 4);
	bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u;
	memcpy(&single, &bits, 4);
	return (double)single;
}

/* y[rows] = W x, x rounded to BF16 as activations are; plus the bias, if there is a name for one. */
static void affine(struct ckpt *c, const char *stem, const char *bias, const double *x, size_t rows, size_t cols,
                   double *y)
{
	char name[96];
	snprintf(name, sizeof name, "%s.weight", stem);
	double *w = heads_values(c, name), *b = bias ? heads_values(c, bias) : NULL;
	for (size_t i = 0; i < rows; i++) {
		y[i] = b ? b[i] : 0.0;
		for (size_t j = 0; j < cols; j++)
			y[i] += w[i * cols + j] * rounded(x[j]);
	}
	free(b);
	free(w);
}

/* logits[vocab] of head i for its first block's input in[cols], which it spoils. */
static void formula(struct ckpt *c, int hydra, size_t i, size_t layers, size_t hidden, size_t vocab, double *in,
                    enum mistake mistake, double *logits)
{
	double *y = test_malloc(hidden * sizeof *y), *res = test_malloc(hidden * sizeof *res);
	char stem[64], bias[80];
	for (size_t j = 0; j < layers; j++) {
		int concatenated = hydra && !j;
		size_t cols = concatenated ? (i + 2) * hidden : hidden;
		snprintf(stem, sizeof stem, "%zu.%zu.res_connection", i, j);
		snprintf(bias, sizeof bias, "%s.bias", stem);
		if (concatenated)
			affine(c, stem, bias, in, hidden, cols, res);
		else
			memcpy(res, in, hidden * sizeof *res);
		snprintf(stem, sizeof stem, "%zu.%zu.linear", i, j);
		snprintf(bias, sizeof bias, "%s.bias", stem);
		affine(c, stem, mistake == NO_BIAS ? NULL : bias, in, hidden, cols, y);
		for (size_t k = 0; k < hidden; k++) {
			double silu = mistake == NO_SILU ? y[k] : y[k] / (1.0 + exp(-y[k]));
			in[k] = (mistake == NO_RESIDUAL ? 0.0 : res[k]) + silu;
		}
	}
	snprintf(stem, sizeof stem, "%zu.%zu", i, layers);
	affine(c, stem, NULL, in, vocab, hidden, logits);
	test_free(res);
	test_free(y);
}

static double distance(const float *got, const double *expected, size_t n)
{
	double off = 0.0, all = 0.0;
	for (size_t i = 0; i < n; i++) {
		off += ((double)got[i] - expected[i]) * ((double)got[i] - expected[i]);
		all += expected[i] * expected[i];
	}
	return sqrt(off / all);
}

/* A drafter that knows a prompt, and the states behind that; the engine's mtp_logits then are its last run's. */
static void draft_alone(struct octavo_engine *e, const char *spec, const struct octavo_shape *shape,
                        struct octavo_tree *tree, float *post)
{
	struct octavo_error error;
	struct octavo_drafter *d;
	uint32_t row[PROMPT - 1];
	for (uint32_t i = 0; i < PROMPT - 1; i++)
		row[i] = i;
	run_tokens(e, prompt, PROMPT, PROMPT, 0, NULL, post);
	if (octavo_drafter_open(&d, spec, e, 0, &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
	assert_int_equal(d->most[0], HEADS);
	d->ops->begin(d, prompt);
	octavo_tree_begin(tree, prompt[0], 64, NULL);
	assert_int_equal(octavo_draft(d, shape, tree, &error), OCTAVO_OK);
	assert_int_equal(tree->rows, 1); /* nothing is known yet */
	/* In two pieces, as prompts come. */
	assert_int_equal(d->ops->commit(d, 0, row, 4, &error), OCTAVO_OK);
	assert_int_equal(d->ops->commit(d, 4, row + 4, PROMPT - 5, &error), OCTAVO_OK);
	octavo_tree_begin(tree, prompt[PROMPT - 1], 64, NULL);
	assert_int_equal(octavo_draft(d, shape, tree, &error), OCTAVO_OK);
	octavo_drafter_close(&d);
}

/* What head i sees below `row` of the tree: the newest state, and for Hydra the embeddings from the root on. */
static void inputs(const struct octavo_engine *e, int hydra, size_t i, const float *post,
                   const struct octavo_tree *tree, size_t row, enum mistake mistake, double *in)
{
	size_t hidden = e->config.hidden, newest = mistake == OLDER_STATE ? PROMPT - 3 : PROMPT - 2;
	for (size_t k = 0; k < hidden; k++)
		in[k] = (double)post[newest * hidden + k];
	for (size_t block = i + 1; hydra && block; block--, row = row ? (size_t)tree->parent[row] : 0) {
		int32_t token = mistake == LATE_TOKENS ? row ? tree->token[tree->parent[row]] : prompt[PROMPT - 2]
		                                       : tree->token[row];
		size_t at = mistake == REVERSED ? i + 2 - block : block;
		for (size_t k = 0; k < hidden; k++)
			in[at * hidden + k] = (double)octavo_matrix_value(&e->weights.embed, (size_t)token, k);
	}
}

/* Nodes of a depth, in order. */
static size_t level(const struct octavo_tree *tree, unsigned depth, size_t row[OCTAVO_MAX_DRAFT])
{
	size_t count = 0;
	for (size_t i = 0; i < tree->rows; i++)
		if (octavo_tree_depth(tree, i) == depth)
			row[count++] = i;
	return count;
}

/* The logits below one node, right and with each mistake. */
static void check_node(struct octavo_engine *e, struct ckpt *heads, int hydra, size_t layers, size_t i,
                       const float *post, const struct octavo_tree *tree, size_t row, const float *got)
{
	size_t hidden = e->config.hidden, vocab = e->config.vocab;
	double *in = test_malloc((HEADS + 1) * hidden * sizeof *in), *expected = test_malloc(vocab * sizeof *expected);
	for (int mistake = 0; mistake < MISTAKES; mistake++) {
		size_t head = mistake == NEXT_HEAD ? (i + 1) % HEADS : i;
		if (((mistake == REVERSED || mistake == LATE_TOKENS) && !hydra) || (mistake == REVERSED && i == 0) ||
		    (mistake == NEXT_HEAD && hydra))
			continue;
		inputs(e, hydra, head, post, tree, row, (enum mistake)mistake, in);
		formula(heads, hydra, head, layers, hidden, vocab, in, (enum mistake)mistake, expected);
		double off = distance(got, expected, vocab);
		if (mistake ? !(off > 0.05) : !(off < 2e-3))
			fail_msg("%s, %zu layers, head %zu, row %zu, mistake %d: relative L2 %g",
			         hydra ? "hydra" : "medusa", layers, i, row, mistake, off);
	}
	test_free(expected);
	test_free(in);
	int32_t best;
	octavo_best_tokens(got, e->choosable, 1, &best);
	size_t child = row + 1;
	while (child < tree->rows && tree->parent[child] != (int32_t)row)
		child++;
	assert_int_equal(tree->token[child], best);
}

/* A tree of `depth` levels: all logits that its last run left. */
static void check_tree(struct octavo_engine *e, struct octavo_engine *other, struct ckpt *heads, const char *dir,
                       int hydra, size_t layers, unsigned depth)
{
	struct octavo_shape shape = { .depth = depth, .width = { 2, 2, 1 } };
	struct octavo_tree tree, same;
	size_t hidden = e->config.hidden, vocab = e->config.vocab, row[OCTAVO_MAX_DRAFT];
	float *post = test_malloc(PROMPT * hidden * sizeof *post);
	const char *spec = heads_spec("", hydra, dir);
	draft_alone(e, spec, &shape, &tree, post);
	draft_alone(other, spec, &shape, &same, NULL);
	assert_int_equal(tree.rows, octavo_shape_rows(&shape));
	assert_memory_equal(tree.token, same.token, tree.rows * sizeof *tree.token);
	if (hydra) { /* the last level */
		size_t count = level(&tree, depth - 1, row);
		assert_memory_equal(e->mtp_logits, other->mtp_logits, count * vocab * sizeof(float));
		for (size_t i = 0; i < count; i++)
			check_node(e, heads, 1, layers, depth - 1, post, &tree, row[i], e->mtp_logits + i * vocab);
	} else { /* all levels, whose nodes share one row */
		assert_memory_equal(e->mtp_logits, other->mtp_logits, depth * vocab * sizeof(float));
		for (unsigned i = 0; i < depth; i++) {
			size_t count = level(&tree, i, row);
			for (size_t j = 0; j < count; j++)
				check_node(e, heads, 0, layers, i, post, &tree, row[j], e->mtp_logits + i * vocab);
		}
	}
	test_free(post);
}

static void heads_follow_the_formulas(void **state)
{
	(void)state;
	static const struct {
		size_t layers;
		const char *dtype;
	} forms[] = { { 1, "BF16" }, { 2, "F8_E4M3" }, { 1, "F32" } };
	struct octavo_kernels reference;
	octavo_kernels_init(&reference, 0);
	struct octavo_engine_settings best = { .threads = 2 }, one = { .threads = 1, .kernels = &reference };
	struct octavo_engine *e = open_model("tiny-ragged", &best), *ref = open_model("tiny-ragged", &one);
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
		for (int hydra = 0; hydra < 2; hydra++) {
			const struct heads_options options = tiny_heads(hydra, forms[i].layers, forms[i].dtype);
			struct ckpt *heads = heads_new(&options);
			char *dir = ckpt_dir_new();
			heads_write(heads, dir);
			for (unsigned depth = hydra ? 1 : HEADS; depth <= HEADS; depth++)
				check_tree(e, ref, heads, dir, hydra, forms[i].layers, depth);
			ckpt_free(heads);
			ckpt_dir_free(dir);
		}
	octavo_engine_close(&ref);
	octavo_engine_close(&e);
}

/* ---- The place in the text --------------------------------------------------------------------------------------- */

/* Makes head i say t + shift, where t is the token whose embedding (or, for block 0, state) is block `block` of what it
 * sees; see counting_model. */
static void aim(struct ckpt *heads, int hydra, size_t i, size_t block, size_t shift, struct ckpt *model)
{
	char name[64];
	const uint16_t *embed = (const uint16_t *)(void *)ckpt_find(model, "model.embed_tokens.weight")->data;
	snprintf(name, sizeof name, "%zu.1.weight", i);
	struct ckpt_tensor *out = ckpt_find(heads, name);
	size_t vocab = out->shape[0], hidden = out->shape[1];
	for (size_t token = 0; token < vocab; token++)
		for (size_t k = 0; k < hidden; k++)
			heads_set(out, token * hidden + k,
			          0.25f * octavo_bf16_decode(embed[(token + vocab - shift) % vocab * hidden + k]));
	if (!hydra)
		return;
	snprintf(name, sizeof name, "%zu.0.res_connection.weight", i);
	struct ckpt_tensor *res = ckpt_find(heads, name);
	memset(res->data, 0, res->bytes);
	for (size_t k = 0; k < hidden; k++)
		heads_set(res, k * res->shape[1] + block * hidden + k, 1.0f);
}

/* Heads that all look at block `block` (if they have so many; else at their last) and are `off` tokens wrong. */
static char *aimed_heads(int hydra, size_t block, int off, struct ckpt *model)
{
	const struct heads_options options = { .hydra = hydra, .heads = HEADS, .layers = 1, .hidden = 160, .vocab = 300,
		                               .dtype = "BF16", .zero = 1 };
	struct ckpt *heads = heads_new(&options);
	char *dir = ckpt_dir_new();
	for (size_t i = 0; i < HEADS; i++) {
		size_t at = !hydra ? 0 : block < i + 1 ? block : i + 1;
		aim(heads, hydra, i, at, (size_t)((int)(2 + i - at) + off), model);
	}
	heads_write(heads, dir);
	ckpt_free(heads);
	return dir;
}

static void count_accepted(struct octavo_engine *e, const char *spec, int right)
{
	static const int32_t start[3] = { 18, 19, 20 };
	struct octavo_session_settings s = { .drafter = spec, .k = OCTAVO_MAX_K, .max_new = 60, .ignore_eos = 1 };
	struct output out;
	decode(e, &s, start, 3, &out);
	for (size_t i = 0; i < 60; i++)
		assert_int_equal(out.token[i], 21 + (int)i);
	assert_true(out.stats.drafted[HEADS - 1] >= 60 / (HEADS + 1) - 1);
	assert_int_equal(out.stats.drafted[HEADS], 0); /* no more than there are heads */
	for (size_t i = 0; i < HEADS; i++)
		assert_int_equal(out.stats.accepted[i], right ? out.stats.drafted[i] : 0);
	s.k = 0; /* however k is chosen: never more */
	decode(e, &s, start, 3, &out);
	assert_int_equal(out.stats.drafted[HEADS], 0);
	assert_int_equal(out.token[59], 80);
}

/* Which tokens heads see and which one they predict: on a text that counts, those that are right are always accepted,
 * and those that are one off never. */
static void right_heads_are_always_accepted(void **state)
{
	(void)state;
	char *model_dir = ckpt_dir_new();
	struct ckpt *model = counting_model(model_dir);
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model(model_dir, &settings);
	for (int hydra = 0; hydra < 2; hydra++)
		for (size_t block = 0; block < (hydra ? HEADS + 1 : 1); block++)
			for (int off = -1; off <= 1; off++) {
				char *dir = aimed_heads(hydra, block, off, model);
				count_accepted(e, heads_spec("", hydra, dir), off == 0);
				ckpt_dir_free(dir);
			}
	octavo_engine_close(&e);
	ckpt_free(model);
	ckpt_dir_free(model_dir);
}

/* Below a wrong token Hydra's next head counts on from that; Medusa's does not know of it. */
static void only_hydra_sees_the_path(void **state)
{
	(void)state;
	char *model_dir = ckpt_dir_new();
	struct ckpt *model = counting_model(model_dir);
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model(model_dir, &settings);
	for (int hydra = 0; hydra < 2; hydra++) {
		char *dir = aimed_heads(hydra, HEADS, 0, model);
		struct octavo_shape shape = { .depth = 2, .width = { 3, 1 } };
		struct octavo_tree tree;
		draft_alone(e, heads_spec("", hydra, dir), &shape, &tree, NULL);
		assert_int_equal(tree.rows, 7);
		int32_t root = hydra ? prompt[PROMPT - 1] : prompt[PROMPT - 2] + 1; /* which Medusa's do not see */
		assert_int_equal(tree.token[1], root + 1);
		for (size_t row = 4; row < 7; row++)
			assert_int_equal(tree.token[row], hydra ? tree.token[tree.parent[row]] + 1 : root + 2);
		ckpt_dir_free(dir);
	}
	octavo_engine_close(&e);
	ckpt_free(model);
	ckpt_dir_free(model_dir);
}

/* ---- Streams ----------------------------------------------------------------------------------------------------- */

static const struct {
	const char *before; /* of a pair */
	int hydra;
	unsigned k, tree[OCTAVO_MAX_K];
	struct octavo_dynamic dynamic;
} configurations[] = {
	{ "", 0, 1, { 0 }, { 0 } },         { "", 0, 5, { 0 }, { 0 } },         { "", 0, 0, { 0 }, { 0 } },
	{ "", 0, 0, { 4, 2, 1 }, { 0 } },   { "", 0, 0, { 0 }, { 9, 3, 3 } },   { "ngram+", 0, 2, { 0 }, { 0 } },
	{ "", 1, 1, { 0 }, { 0 } },         { "", 1, 5, { 0 }, { 0 } },         { "", 1, 0, { 0 }, { 0 } },
	{ "", 1, 0, { 4, 2, 1, 1 }, { 0 } }, { "", 1, 0, { 0 }, { 9, 3, 3 } },  { "ngram+", 1, 0, { 2, 2 }, { 0 } },
};

static void check_streams(struct octavo_engine *e, const struct output *plain, float temperature, char *const dir[2])
{
	for (size_t i = 0; i < sizeof configurations / sizeof *configurations; i++) {
		struct octavo_session_settings s = { .k = configurations[i].k, .dynamic = configurations[i].dynamic,
			                             .sampling = { .temperature = temperature }, .stream = { 11, 3 },
			                             .max_new = 48, .ignore_eos = 1 };
		struct output out;
		char what[64];
		s.drafter = heads_spec(configurations[i].before, configurations[i].hydra, dir[configurations[i].hydra]);
		memcpy(s.tree, configurations[i].tree, sizeof s.tree);
		decode(e, &s, prompt, PROMPT, &out);
		snprintf(what, sizeof what, "configuration %zu, temperature %g", i, (double)temperature);
		expect_same(plain, &out, what);
		if (s.k || s.tree[0])
			assert_true(out.stats.drafted[0] > 10);
	}
}

static void streams_are_identical(void **state)
{
	(void)state;
	static const float temperatures[] = { 0.0f, 0.8f, 1.2f };
	struct octavo_kernels reference;
	octavo_kernels_init(&reference, 0);
	char *dir[2] = { heads_dir_new(tiny_heads(0, 2, "F8_E4M3")), heads_dir_new(tiny_heads(1, 1, "F8_E4M3")) };
	for (int a8 = 0; a8 < 2; a8++) {
		enum octavo_arithmetic arithmetic = a8 ? OCTAVO_W8A8 : OCTAVO_W8A16;
		struct octavo_engine_settings settings[2] = {
			{ .threads = 1, .arithmetic = arithmetic, .kernels = &reference },
			{ .threads = 2,
			  .arithmetic = arithmetic,
			  .weights = a8 ? OCTAVO_WEIGHTS_COPY : OCTAVO_WEIGHTS_MAP }
		};
		struct octavo_engine *ref = open_model("tiny-ragged", &settings[0]);
		struct octavo_engine *e = open_model("tiny-ragged", &settings[1]);
		for (size_t t = 0; t < sizeof temperatures / sizeof *temperatures; t++) {
			struct octavo_session_settings s = { .sampling = { .temperature = temperatures[t] },
			                                     .stream = { 11, 3 },
				                             .max_new = 48, .ignore_eos = 1 };
			struct output plain;
			decode(ref, &s, prompt, PROMPT, &plain);
			check_streams(e, &plain, temperatures[t], dir);
		}
		octavo_engine_close(&e);
		octavo_engine_close(&ref);
	}
	for (int i = 0; i < 2; i++)
		ckpt_dir_free(dir[i]);
}

/* Sure heads draft more; what is emitted stays the same. */
static void the_unsure_stop(void **state)
{
	(void)state;
	static const double levels[] = { 0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0 };
	enum { LEVELS = sizeof levels / sizeof *levels };
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	for (int hydra = 0; hydra < 2; hydra++) {
		char *dir = heads_dir_new(tiny_heads(hydra, 1, "BF16"));
		struct output first, out;
		size_t drafted[LEVELS] = { 0 };
		int between = 0;
		for (size_t i = 0; i < LEVELS; i++) {
			struct octavo_session_settings s = { .drafter = heads_spec("", hydra, dir), .k = 3,
			                                     .max_new = 48,
				                             .ignore_eos = 1, .sampling = { .temperature = 0.8f },
				                             .confidence.best = levels[i] };
			decode(e, &s, prompt, PROMPT, i ? &out : &first);
			expect_same(&first, i ? &out : &first, "confidence");
			for (size_t depth = 0; depth < OCTAVO_MAX_K; depth++)
				drafted[i] += (i ? &out : &first)->stats.drafted[depth];
			between |= drafted[i] > 0 && drafted[i] < drafted[0];
		}
		assert_int_equal(drafted[LEVELS - 1], 0);
		assert_true(between);
		ckpt_dir_free(dir);
	}
	octavo_engine_close(&e);
}

/* ---- Heads of the model ------------------------------------------------------------------------------------------ */

/* Without a directory heads lie below the model's; and public Medusa releases say less in their config. */
static void the_model_may_bring_heads(void **state)
{
	(void)state;
	char *model_dir = ckpt_dir_new(), path[PATH_MAX];
	struct ckpt *model = counting_model(model_dir);
	const struct heads_options options = { .heads = HEADS, .layers = 1, .hidden = 160, .vocab = 300,
	                                       .dtype = "BF16",
		                               .zero = 1 };
	struct ckpt *heads = heads_new(&options);
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model(model_dir, &settings);
	assert_false(octavo_engine_feeds(e, "medusa"));
	snprintf(path, sizeof path, "%s/drafters", model_dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof path, "%s/drafters/medusa", model_dir);
	assert_int_equal(mkdir(path, 0700), 0);
	for (size_t i = 0; i < HEADS; i++)
		aim(heads, 0, i, 0, 2 + i, model);
	json_object_del(heads->config, "model_type");
	json_object_del(heads->config, "hidden_size");
	json_object_del(heads->config, "vocab_size");
	heads_write(heads, path);
	assert_true(octavo_engine_feeds(e, "medusa"));
	assert_true(octavo_engine_feeds(e, "ngram+medusa"));
	assert_false(octavo_engine_feeds(e, "hydra"));
	assert_false(octavo_engine_feeds(e, "mtp")); /* the model has no module */
	count_accepted(e, "medusa", 1);
	octavo_engine_close(&e);
	ckpt_free(heads);
	ckpt_free(model);
	ckpt_dir_free(strdup(path));
	snprintf(path, sizeof path, "%s/drafters", model_dir);
	ckpt_dir_free(strdup(path));
	ckpt_dir_free(model_dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(heads_follow_the_formulas),
		cmocka_unit_test(right_heads_are_always_accepted),
		cmocka_unit_test(only_hydra_sees_the_path),
		cmocka_unit_test(streams_are_identical),
		cmocka_unit_test(the_unsure_stop),
		cmocka_unit_test(the_model_may_bring_heads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
