/* SPDX-License-Identifier: Apache-2.0
 *
 * Draft trees: their shapes, their rows against chains, and what is left of them in the cache.
 */
#include "engine/draft/growth.h"
#include "engine/draft/outlook.h"
#include "tests/support/oracle.h"
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

/* The sizes of trees: shapes, room, siblings. */
static void trees_are_built(void **state)
{
	(void)state;
	struct octavo_shape shape = { .depth = 3, .width = { 4, 2, 1 } }, chain = octavo_shape_chain(8);
	struct octavo_shape wide = { .depth = 1, .width = { 63 } };
	struct octavo_shape big = { .depth = 1, .width = { 64 } };
	struct octavo_shape huge = { .depth = 8, .width = { 9, 9, 9, 9, 9, 9, 9, 9 } };
	struct octavo_tree tree;
	assert_int_equal(octavo_shape_rows(&shape), 21);
	assert_int_equal(octavo_shape_rows(&chain), 9);
	assert_int_equal(octavo_shape_rows(&wide), 64);
	assert_true(octavo_shape_rows(&big) > OCTAVO_MAX_DRAFT);
	assert_true(octavo_shape_rows(&huge) > OCTAVO_MAX_DRAFT);
	octavo_tree_begin(&tree, 7, 4, NULL);
	assert_int_equal(octavo_tree_child(&tree, 0, 10, 2), 1);
	assert_int_equal(octavo_tree_child(&tree, 0, 10, 2), 1); /* it is there */
	assert_int_equal(octavo_tree_child(&tree, 1, 10, 1), 2); /* under another parent */
	assert_int_equal(octavo_tree_child(&tree, 0, 11, 2), 3);
	assert_int_equal(octavo_tree_child(&tree, 0, 12, 2), 0); /* two children */
	assert_int_equal(octavo_tree_child(&tree, 2, 13, 1), 0); /* no room */
	assert_int_equal(tree.rows, 4);
	assert_int_equal(octavo_tree_depth(&tree, 2), 2);
	assert_int_equal(octavo_tree_deepest(&tree), 2);
	const float logits[6] = { 1, 5, 3, 5, -2, 4 };
	const float nan[2] = { 1, __builtin_nanf("") };
	int32_t best[6];
	assert_int_equal(octavo_best_tokens(logits, 6, 4, best), 4);
	assert_memory_equal(best, ((const int32_t[]){ 1, 3, 5, 2 }), 4 * sizeof *best);
	assert_int_equal(octavo_best_tokens(logits, 2, 4, best), 2);
	assert_int_equal(octavo_best_tokens(logits, 6, 0, best), 0);
	assert_int_equal(octavo_best_tokens(nan, 2, 2, best), 0);
}

/* The chain of an MTP module's best tokens is in its tree, where it lies between other branches. */
static void mtp_trees_equal_chains(void **state)
{
	static const int32_t prompt[] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };
	struct octavo_engine_settings settings = { .threads = 1, .kv = cache_of(state) };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_error error;
	struct octavo_drafter *d;
	struct octavo_tree chain, tree;
	struct octavo_shape shapes[2] = { octavo_shape_chain(4), { .depth = 4, .width = { 3, 2, 2, 1 } } };
	const uint32_t row[11] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 };
	for (int i = 0; i < 2; i++) {
		run_tokens(e, prompt, 12, 12, 0, NULL, NULL);
		assert_int_equal(octavo_drafter_open(&d, "mtp", e, 0, &error), OCTAVO_OK);
		d->ops->begin(d, prompt);
		assert_int_equal(d->ops->commit(d, 0, row, 11, &error), OCTAVO_OK);
		octavo_tree_begin(i ? &tree : &chain, prompt[11], 64, NULL);
		assert_int_equal(octavo_draft(d, &shapes[i], i ? &tree : &chain, &error), OCTAVO_OK);
		octavo_drafter_close(&d);
	}
	assert_int_equal(chain.rows, 5);
	assert_int_equal(tree.rows, 1 + 3 + 6 + 12 + 12);
	/* The best children all the way down are the chain. */
	size_t at = 0;
	for (size_t depth = 1; depth < chain.rows; depth++) {
		at = octavo_tree_child(&tree, at, chain.token[depth], 0);
		assert_true(at > 0);
	}
	octavo_engine_close(&e);
}

/* Rows that only leave their cache entries leave the same ones as rows that are run in full, and so does the last row,
 * whose law is the same bits. */
static void quiet_rows_leave_the_same_entries(void **state)
{
	enum { ROWS = 7 };
	static const int32_t next[ROWS] = { 40, 41, 42, 43, 40, 41, 42 };
	for (int w8a8 = 0; w8a8 < 2; w8a8++) {
		struct octavo_engine_settings settings = { .threads = 2, .sequences = 2, .kv = cache_of(state),
			                                   .arithmetic = w8a8 ? OCTAVO_W8A8 : OCTAVO_W8A16 };
		struct octavo_engine *e = open_model("tiny-ragged", &settings);
		size_t hidden = e->config.hidden, vocab = e->config.vocab;
		struct octavo_error error;
		float *g = test_malloc(ROWS * hidden * sizeof *g), *law = test_malloc(vocab * sizeof *law);
		float *state_of_last = test_malloc(hidden * sizeof *state_of_last);
		for (size_t i = 0; i < ROWS * hidden; i++)
			g[i] = (float)((i * 7919) % 1000) / 500.0f - 1.0f;
		const struct octavo_mtp *module = &e->weights.mtp[0];
		struct octavo_share share = { .rows = ROWS, .token = next, .state = g };
		assert_int_equal(octavo_mtp_forward(e, module, &e->kv, e->config.layers, &share, &error), OCTAVO_OK);
		memcpy(law, e->mtp_logits + (ROWS - 1) * vocab, vocab * sizeof *law);
		memcpy(state_of_last, e->mtp_hidden[1] + (ROWS - 1) * hidden, hidden * sizeof *state_of_last);
		share.seq = 1;
		share.quiet = ROWS - 1;
		assert_int_equal(octavo_mtp_forward(e, module, &e->kv, e->config.layers, &share, &error), OCTAVO_OK);
		assert_memory_equal(law, e->mtp_logits, vocab * sizeof *law);
		assert_memory_equal(state_of_last, e->mtp_hidden[1], hidden * sizeof *state_of_last);
		assert_memory_equal(octavo_kv_slots(&e->kv, 0, e->config.layers),
		                    octavo_kv_slots(&e->kv, 1, e->config.layers), ROWS * e->kv.bytes);
		test_free(state_of_last);
		test_free(law);
		test_free(g);
		octavo_engine_close(&e);
	}
}

/* ---- Dynamic trees --------------------------------------------------------------------------------------------- */

enum { WORDS = 11, MOST_NODES = 1 + 5 + 7 * 25 };

/* A drafter's logits after a path, of few different values, so that there are ties; `salt` makes another drafter. */
static void invent(uint32_t path, uint32_t salt, float *logits)
{
	for (uint32_t i = 0; i < WORDS; i++)
		logits[i] = (float)(((path * 31u + i) * 2654435761u ^ salt * 40503u) >> 30);
}

static uint32_t extend(uint32_t path, int32_t token)
{
	return path * 131u + (uint32_t)token + 1;
}

/* EAGLE-2 as the paper has it: every level's best nodes get children, and only then the best of all are taken. */
struct node {
	int32_t token, parent;
	unsigned depth;
	uint32_t path;
	double value;
	int kept;
};

static size_t rank_of(const struct node *node, size_t count, size_t i, int same_depth)
{
	size_t rank = 0;
	for (size_t j = 1; j < count; j++)
		rank += (!same_depth || node[j].depth == node[i].depth) &&
		        (node[j].value > node[i].value || (node[j].value == node[i].value && j < i));
	return rank;
}

static size_t expand_and_rerank(const struct octavo_dynamic *d, uint32_t salt, struct node *node)
{
	static const struct octavo_sampling plain = { .temperature = 1.0f };
	size_t count = 1;
	node[0] = (struct node){ .parent = -1, .value = 1.0, .kept = 1 };
	for (unsigned depth = 0; depth < d->depth; depth++) {
		size_t level = count;
		for (size_t i = 0; i < level; i++) {
			float logits[WORDS];
			double law[WORDS];
			int32_t best[WORDS];
			if (node[i].depth != depth || (depth && rank_of(node, level, i, 1) >= d->top_k))
				continue;
			invent(node[i].path, salt, logits);
			assert_int_equal(octavo_law(&plain, NULL, logits, WORDS, law, NULL), OCTAVO_OK);
			size_t children = octavo_best_tokens(logits, WORDS, d->top_k, best);
			for (size_t c = 0; c < children; c++)
				node[count++] = (struct node){ best[c], (int32_t)i, depth + 1, extend(node[i].path, best[c]),
					                       node[i].value * law[best[c]], 0 };
		}
	}
	assert_true(count <= MOST_NODES);
	for (size_t i = 1; i < count; i++)
		node[i].kept = rank_of(node, count, i, 0) < d->rows - 1;
	return count;
}

/* The drafter's nodes as they are run, until there is nothing more to run; returns how many were. */
static size_t grow_dynamic(const struct octavo_dynamic *d, uint32_t salt, struct octavo_tree *tree,
                           struct octavo_chance *chance)
{
	struct octavo_shape shape = octavo_shape_dynamic(d);
	struct octavo_growth growth;
	uint32_t path[OCTAVO_MAX_DRAFT] = { 0 };
	octavo_tree_begin(tree, 0, octavo_shape_rows(&shape), chance);
	octavo_growth_begin(&growth, tree);
	for (;;) {
		float logits[OCTAVO_MAX_DRAFT][WORDS];
		for (size_t i = growth.first; i < growth.rows; i++)
			invent(path[i], salt, logits[i - growth.first]);
		if (!octavo_growth_next(&growth, &shape, tree, logits[0], WORDS, WORDS))
			return growth.rows;
		assert_true(growth.rows - growth.first <= d->top_k);
		for (size_t i = growth.first; i < growth.rows; i++)
			path[i] = extend(path[growth.parent[i]], growth.token[i]);
	}
}

/* What stays are the best of all nodes that the paper's two phases would find, ties to the first, each with its
 * ancestors, in the order in which they were found; and no node is run that could not matter. */
static void dynamic_trees_keep_the_surest(void **state)
{
	static const struct octavo_dynamic shapes[] = { { 2, 1, 1 }, { 9, 1, 8 }, { 5, 4, 1 }, { 8, 2, 4 }, { 16, 4, 5 },
		                                        { 30, 3, 3 }, { 40, 3, 8 }, { 64, 5, 8 }, { 3, 5, 8 } };
	static double scratch[WORDS];
	struct octavo_chance chance = { .vocab = WORDS, .scratch = scratch };
	size_t ties = 0, deep = 0;
	(void)state;
	for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
		for (uint32_t salt = 0; salt < 200; salt++) {
			struct node node[MOST_NODES];
			struct octavo_tree tree;
			size_t row[MOST_NODES], next = 0, count = expand_and_rerank(&shapes[s], salt, node);
			size_t run = grow_dynamic(&shapes[s], salt, &tree, &chance);
			assert_true(run <= 1 + shapes[s].top_k * (shapes[s].depth - 1));
			for (size_t i = 0; i < count; i++) {
				ties += i && node[i].kept && node[i].value == node[i - 1].value;
				if (!node[i].kept)
					continue;
				row[i] = next++;
				assert_true(row[i] < tree.rows);
				if (!i)
					continue;
				assert_true(node[node[i].parent].kept);
				assert_int_equal(tree.token[row[i]], node[i].token);
				assert_int_equal(tree.parent[row[i]], (int32_t)row[node[i].parent]);
				assert_true(tree.path[row[i]] == node[i].value);
			}
			assert_int_equal(next, tree.rows);
			deep += octavo_tree_deepest(&tree) > 3;
		}
	print_message("%zu ties, %zu deep trees\n", ties, deep);
	assert_true(ties > 1000 && deep > 300);
}

/* Confidence narrows a dynamic tree as it narrows others, and a NaN grows nothing. */
static void dynamic_trees_heed_confidence(void **state)
{
	static double scratch[WORDS];
	struct octavo_chance chance = { .vocab = WORDS, .scratch = scratch, .confidence = { .path = 0.05 } };
	struct octavo_dynamic d = { 40, 3, 6 };
	struct octavo_tree tree, all;
	size_t fewer = 0;
	(void)state;
	for (uint32_t salt = 0; salt < 50; salt++) {
		struct octavo_chance plain = { .vocab = WORDS, .scratch = scratch };
		grow_dynamic(&d, salt, &all, &plain);
		grow_dynamic(&d, salt, &tree, &chance);
		fewer += tree.rows < all.rows;
		/* A node has children only where the best of them is sure enough. */
		for (size_t row = 1; row < tree.rows; row++)
			if (tree.parent[row] != tree.parent[row - 1])
				assert_true(tree.path[row] >= 0.05);
	}
	assert_true(fewer > 25);
	const float nan[WORDS] = { 1.0f, __builtin_nanf("") };
	octavo_tree_begin(&tree, 0, 8, &chance);
	octavo_tree_offer(&tree, 0, &(struct octavo_outlook){ .logits = nan, .vocab = WORDS }, 2);
	assert_int_equal(tree.rows, 1);
}

/* By one law for all nodes of a depth, said once or for every node. */
static void grow_shared(const struct octavo_shape *shape, uint32_t salt, size_t ld, struct octavo_tree *tree,
                        const struct octavo_chance *chance)
{
	struct octavo_growth growth;
	float logits[OCTAVO_MAX_DRAFT][WORDS];
	octavo_tree_begin(tree, 0, octavo_shape_rows(shape), chance);
	octavo_growth_begin(&growth, tree);
	do
		for (size_t i = 0; i < OCTAVO_MAX_DRAFT; i++)
			invent(growth.depth, salt, logits[i]);
	while (octavo_growth_next(&growth, shape, tree, logits[0], ld, WORDS));
}

static void shared_laws_grow_the_same_trees(void **state)
{
	static double scratch[WORDS];
	static uint32_t order[WORDS];
	static const struct octavo_sampling sampling[] = {
		{ .temperature = 0.9f }, { .temperature = 0.9f, .frequency = 0.4f }, { .temperature = 2.0f, .top_k = 4 },
	};
	const int32_t text[] = { 3, 1, 3 };
	const struct octavo_dynamic dynamic = { 30, 3, 5 };
	const struct octavo_shape shapes[] = { { .depth = 3, .width = { 3, 4, 2 } }, octavo_shape_dynamic(&dynamic) };
	size_t uneven = 0;
	(void)state;
	for (uint32_t salt = 0; salt < 100; salt++)
		for (size_t i = 0; i < 8; i++) {
			struct octavo_chance chance = { .vocab = WORDS, .scratch = scratch, .order = order, .race = (i & 4) != 0,
				                            .sampling = &sampling[salt % 3], .stream = { 1, salt },
				                            .prefix = { .token = text, .count = 3 },
				                            .confidence = { .path = i & 2 ? 0.03 : 0.0, .mass = i & 2 ? 0.3 : 0.0 } };
			struct octavo_tree once, each;
			grow_shared(&shapes[i & 1], salt, 0, &once, &chance);
			grow_shared(&shapes[i & 1], salt, WORDS, &each, &chance);
			assert_int_equal(once.rows, each.rows);
			assert_memory_equal(once.token, each.token, once.rows * sizeof *once.token);
			assert_memory_equal(once.parent, each.parent, once.rows * sizeof *once.parent);
			assert_memory_equal(once.path, each.path, once.rows * sizeof *once.path);
			uneven += once.rows < octavo_shape_rows(&shapes[i & 1]);
		}
	assert_true(uneven > 50);
}

/* Where the target's race decides, a row's children are the first of the race that the target would run behind it
 * if these were its logits, penalties of the row's own path included; and their shares are what is left to the
 * first eight. */
static void the_race_chooses_children(void **state)
{
	static double scratch[WORDS];
	static uint32_t order[WORDS];
	static const struct octavo_sampling sampling = { .temperature = 1.3f, .presence = 0.7f };
	const int32_t text[] = { 5, 0, 2, 2 };
	size_t others = 0;
	(void)state;
	for (uint32_t salt = 0; salt < 300; salt++) {
		struct octavo_chance chance = { .vocab = WORDS, .scratch = scratch, .order = order, .race = 1,
			                            .sampling = &sampling,
			                            .stream = { 9, salt }, .prefix = { .token = text, .count = 4, .prompt = 1 } };
		struct octavo_tree tree;
		float logits[WORDS];
		octavo_tree_begin(&tree, 2, 16, &chance);
		for (unsigned depth = 0; depth < 3; depth++) {
			size_t parent = tree.rows - 1, first = tree.rows;
			const struct octavo_draft draft = { tree.rows, tree.token, tree.parent };
			struct octavo_prefix prefix = { text, 4, 1, &draft, parent };
			int32_t want[3];
			double law[WORDS], time[3], path = 1.0;
			invent(depth, salt, logits);
			struct octavo_outlook c = { .logits = logits, .vocab = WORDS };
			assert_int_equal(octavo_law(&sampling, &prefix, logits, WORDS, law, order), OCTAVO_OK);
			assert_int_equal(octavo_race(&chance.stream, 4 + depth, law, WORDS, 3, want, time), 3);
			assert_int_equal(octavo_outlook_children(&c, &tree, parent, 3, OCTAVO_SHARES_OF_ALL, &path), 3);
			assert_true(c.share[0] >= c.share[1] && c.share[1] >= c.share[2] && c.share[2] > 0.0);
			assert_true(fabs(c.share[1] / c.share[0] - time[0] / time[1]) < 1e-12);
			octavo_tree_grow(&tree, parent, &c, 3);
			assert_int_equal(tree.rows, first + 3);
			assert_memory_equal(tree.token + first, want, sizeof want);
			others += want[0] != octavo_argmax(logits, WORDS);
		}
	}
	assert_true(others > 300); /* of 900 */
}

/* A chain with an extent takes down its tokens' shares, of them and the runner-up: by the race, and where the best are
 * taken, by their logits.  The extent says where it ends. */
static void chains_have_shares(void **state)
{
	static double scratch[WORDS];
	static uint32_t order[WORDS];
	static const struct octavo_sampling sampling = { .temperature = 0.9f };
	const int32_t text[] = { 5, 0, 2, 2 };
	(void)state;
	for (uint32_t salt = 0; salt < 100; salt++) {
		struct octavo_extent extent = { .most = 2 };
		struct octavo_chance chance = { .vocab = WORDS, .scratch = scratch, .order = order, .race = salt & 1,
			                        .sampling = &sampling, .extent = &extent, .stream = { 9, salt },
			                        .prefix = { .token = text, .count = 4, .prompt = 1 } };
		struct octavo_tree tree;
		octavo_extent_begin(&extent);
		octavo_tree_begin(&tree, 2, 16, &chance);
		for (unsigned depth = 0; depth < 2; depth++) {
			float logits[WORDS];
			double law[WORDS], time[2];
			int32_t best[2];
			assert_true(octavo_tree_goes_on(&tree));
			invent(depth, salt, logits);
			struct octavo_outlook c = { .logits = logits, .vocab = WORDS };
			octavo_tree_grow(&tree, depth, &c, 1);
			assert_int_equal(tree.rows, depth + 2);
			assert_int_equal(octavo_law(&sampling, NULL, logits, WORDS, law, order), OCTAVO_OK);
			octavo_race(&chance.stream, 4 + depth, law, WORDS, 2, best, time);
			double share = time[1] / (time[0] + time[1]);
			if (!chance.race) {
				octavo_best_tokens(logits, WORDS, 2, best);
				share = 1.0 / (1.0 + exp(logits[best[1]] - logits[best[0]]));
			}
			assert_int_equal(tree.token[depth + 1], best[0]);
			assert_true(fabs(extent.share[depth] - share) < 1e-12 && share >= 0.5);
		}
		assert_false(octavo_tree_goes_on(&tree));
	}
}

/* A tree batch: each row's logits are those of a plain decode of its path, and committing a branch leaves the cache
 * of that decode. */
static void check_tree_rows(const char *model, enum octavo_kv_format kv)
{
	struct octavo_engine_settings settings = { .threads = 2, .kv = kv };
	struct octavo_engine *e = open_model(model, &settings);
	size_t vocab = e->config.vocab;
	struct octavo_error error;
	const int32_t prompt[3] = { 0, 50, 60 };
	/*  row 0: 70; children 1: 80, 2: 90; 3: 100 under 1; 4: 110 under 2; 5: 120 under 4 */
	const int32_t token[6] = { 70, 80, 90, 100, 110, 120 }, parent[6] = { -1, 0, 0, 1, 2, 4 };
	const int32_t pos[6] = { 3, 4, 4, 5, 5, 6 }, seq[6] = { 0 };
	const uint8_t flags[6] = { 1, 1, 1, 1, 1, 1 };
	const int32_t chain[4] = { 70, 90, 110, 120 };
	const uint32_t path[4] = { 0, 2, 4, 5 };
	float *plain = test_malloc(7 * vocab * sizeof *plain);
	int32_t all[7];
	memcpy(all, prompt, sizeof prompt);
	memcpy(all + 3, chain, sizeof chain);
	run_tokens(e, all, 7, 1, 0, plain, NULL);
	size_t bytes = 7 * e->kv.bytes;
	unsigned char *cache = test_malloc(e->config.layers * bytes);
	for (size_t layer = 0; layer < e->config.layers; layer++)
		memcpy(cache + layer * bytes, octavo_kv_slots(&e->kv, 0, layer), bytes);
	run_tokens(e, prompt, 3, 3, 0, NULL, NULL);
	struct octavo_batch batch = { 6, token, pos, seq, parent, flags };
	assert_int_equal(octavo_forward(e, &batch, &error), OCTAVO_OK);
	for (size_t i = 0; i < 4; i++)
		assert_memory_equal(octavo_logits(e, path[i]), plain + (3 + i) * vocab, vocab * sizeof *plain);
	assert_int_equal(octavo_commit(e, 0, path, 4, &error), OCTAVO_OK);
	for (size_t layer = 0; layer < e->config.layers; layer++)
		assert_memory_equal(octavo_kv_slots(&e->kv, 0, layer), cache + layer * bytes, bytes);
	test_free(cache);
	test_free(plain);
	octavo_engine_close(&e);
}

static void tree_rows_equal_chains(void **state)
{
	check_tree_rows("tiny-ragged", cache_of(state));
	if (cache_of(state) == OCTAVO_KV_FP8)
		return; /* latents only */
	check_tree_rows("tiny-llama", OCTAVO_KV_BF16);
	check_tree_rows("tiny-qwen2", OCTAVO_KV_BF16);
	check_tree_rows("tiny-qwen3", OCTAVO_KV_BF16);
}

/* After random patterns of accepted and refused rows, scattered over the batch, the cache is that of plain decoding. */
static void check_compaction(const char *model, enum octavo_kv_format kv)
{
	static const int32_t prompt[] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };
	struct octavo_engine_settings settings = { .threads = 1, .sequences = 2, .kv = kv };
	struct octavo_engine *e = open_model(model, &settings);
	struct octavo_session_settings s = { .sampling = { .temperature = 0.8f }, .max_new = 200, .ignore_eos = 1 };
	struct octavo_error error;
	struct output plain;
	size_t accepted = 0, moved = 0, refused = 0;
	decode(e, &s, prompt, 12, &plain);
	int32_t truth[212];
	memcpy(truth, prompt, sizeof prompt);
	memcpy(truth + 12, plain.token, 200 * sizeof *truth);
	struct octavo_session *a = open_session(e, &s);
	assert_int_equal(octavo_session_prompt(a, truth, 212, &error), OCTAVO_OK);
	for (uint32_t seed = 1; seed <= 4; seed++) {
		s.k = 8;
		struct octavo_session *b = open_session(e, &s);
		struct oracle oracle;
		oracle_take(&oracle, b, truth, 212, seed);
		assert_int_equal(octavo_session_prompt(b, prompt, 12, &error), OCTAVO_OK);
		for (size_t at = 12; b->stats.finish == OCTAVO_RUNNING;) {
			const int32_t *token;
			size_t count;
			assert_int_equal(octavo_session_step(b, &token, &count, &error), OCTAVO_OK);
			assert_memory_equal(token, truth + at, count * sizeof *token);
			at += count;
			accepted += b->outcome.accepted;
			refused += b->tree.rows - 1 - b->outcome.accepted;
			for (size_t i = 0; i < b->outcome.accepted; i++)
				moved += b->outcome.path[i] != i + 1;
		}
		assert_int_equal(octavo_sequence_length(e, 1), 211);
		for (size_t layer = 0; layer < e->config.layers; layer++)
			assert_memory_equal(octavo_kv_slots(&e->kv, 0, layer), octavo_kv_slots(&e->kv, 1, layer),
			                    211 * e->kv.bytes);
		octavo_session_close(&b);
	}
	assert_true(accepted > 200 && moved > 100 && refused > 200);
	octavo_session_close(&a);
	octavo_engine_close(&e);
}

static void scattered_rows_are_compacted(void **state)
{
	check_compaction("tiny-ragged", cache_of(state));
	if (cache_of(state) == OCTAVO_KV_BF16)
		check_compaction("tiny-llama", OCTAVO_KV_BF16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trees_are_built),
		cmocka_unit_test(tree_rows_equal_chains),
		cmocka_unit_test(mtp_trees_equal_chains),
		cmocka_unit_test(dynamic_trees_keep_the_surest),
		cmocka_unit_test(dynamic_trees_heed_confidence),
		cmocka_unit_test(shared_laws_grow_the_same_trees),
		cmocka_unit_test(the_race_chooses_children),
		cmocka_unit_test(chains_have_shares),
		cmocka_unit_test(quiet_rows_leave_the_same_entries),
		cmocka_unit_test(scattered_rows_are_compacted),
		{ "tree_rows_equal_chains, FP8 cache", tree_rows_equal_chains, NULL, NULL, "fp8" },
		{ "mtp_trees_equal_chains, FP8 cache", mtp_trees_equal_chains, NULL, NULL, "fp8" },
		{ "quiet_rows_leave_the_same_entries, FP8 cache", quiet_rows_leave_the_same_entries, NULL, NULL, "fp8" },
		{ "scattered_rows_are_compacted, FP8 cache", scattered_rows_are_compacted, NULL, NULL, "fp8" },
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
