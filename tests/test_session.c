/* SPDX-License-Identifier: Apache-2.0
 *
 * The decode loop: every drafter emits the tokens of plain decoding, at any temperature, on any number of threads,
 * with the reference kernels and with the best ones; caches end up byte for byte as plain decoding leaves them.
 * Runs on a tiny random model, and on the bundled one where it is there.
 */
#include "tests/support/session.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- One token stream ------------------------------------------------------------------------------------------ */

static const struct {
	const char *drafter;
	unsigned k, tree[OCTAVO_MAX_K];
	struct octavo_dynamic dynamic;
} configurations[] = {
	{ .drafter = "mtp", .k = 1 },
	{ .drafter = "mtp", .k = 8 },
	{ .drafter = "ngram", .k = 2 },
	{ .drafter = "ngram", .k = 8 },
	{ .drafter = "mtp" },
	{ .drafter = "ngram+mtp" },
	{ .drafter = "ngram+mtp", .k = 3 },
	{ .drafter = "mtp", .tree = { 2, 2 } },
	{ .drafter = "ngram" },
	{ .drafter = "mtp", .tree = { 1, 1, 1, 1 } },
	{ .drafter = "mtp", .tree = { 4, 2, 1 } },
	{ .drafter = "ngram", .tree = { 3, 2, 1 } },
	{ .drafter = "ngram+mtp", .tree = { 2, 1, 1, 1 } },
	{ .drafter = "mtp", .dynamic = { 8, 2, 5 } },
	{ .drafter = "ngram+mtp", .dynamic = { 12, 3, 4 } },
	{ .drafter = "lookahead", .k = 3 },
	{ .drafter = "lookahead" },
	{ .drafter = "lookahead", .tree = { 3, 1, 1 } },
	{ .drafter = "lookahead+mtp", .k = 2 },
};

/* All configurations on one engine against the given plain output. */
static void check_engine(struct octavo_engine *e, const struct octavo_session_settings *base, const int32_t *prompt,
                         size_t length, const struct output *plain, const char *where)
{
	for (size_t i = 0; i < sizeof configurations / sizeof *configurations; i++) {
		struct octavo_session_settings s = *base;
		struct output out;
		char what[128];
		s.drafter = configurations[i].drafter;
		s.k = configurations[i].k;
		memcpy(s.tree, configurations[i].tree, sizeof s.tree);
		s.dynamic = configurations[i].dynamic;
		if (s.tree[0] == 4 && e->settings.max_rows < 21)
			continue; /* this engine is too small for it */
		snprintf(what, sizeof what, "%s, %s k=%u tree %u,%u,%u, temperature %g", where, s.drafter, s.k,
		         s.tree[0], s.tree[1], s.tree[2], (double)s.sampling.temperature);
		decode(e, &s, prompt, length, &out);
		expect_same(plain, &out, what);
	}
}

/* The same prompts over kernel sets and threads; plain output comes from the reference set on one thread. */
static void check_model(const char *model, enum octavo_kv_format kv, const int32_t (*prompt)[24], size_t prompts,
                        size_t length, size_t tokens)
{
	static const float temperatures[] = { 0.0f, 0.8f };
	struct octavo_kernels reference;
	octavo_kernels_init(&reference, 0);
	struct octavo_engine_settings one = { .threads = 1, .kernels = &reference, .kv = kv };
	struct octavo_engine_settings best[] = { { .threads = 1, .kv = kv }, { .threads = 2, .kv = kv } };
	struct octavo_engine *ref = open_model(model, &one);
	struct octavo_engine *fast[] = { open_model(model, &best[0]), open_model(model, &best[1]) };
	for (size_t p = 0; p < prompts; p++) {
		for (size_t t = 0; t < 2; t++) {
			struct octavo_session_settings s = { .sampling = { .temperature = temperatures[t] },
				                             .stream = { 11, p }, .max_new = tokens, .ignore_eos = 1 };
			struct output plain, out;
			decode(ref, &s, prompt[p], length, &plain);
			assert_int_equal(plain.count, tokens);
			for (size_t i = 0; i < 2; i++) {
				decode(fast[i], &s, prompt[p], length, &out);
				expect_same(&plain, &out, i ? "best kernels, 2 threads, plain" : "best kernels, plain");
				check_engine(fast[i], &s, prompt[p], length, &plain,
				             i ? "best kernels, 2 threads" : "best kernels");
			}
			if (p == 0)
				check_engine(ref, &s, prompt[p], length, &plain, "reference kernels");
		}
	}
	octavo_engine_close(&fast[1]);
	octavo_engine_close(&fast[0]);
	octavo_engine_close(&ref);
}

static void streams_are_identical_tiny(void **state)
{
	static const int32_t prompts[3][24] = {
		{ 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 },
		{ 0, 200, 3, 77, 150, 9, 9, 9, 9, 31, 250, 100 },
		{ 0, 12, 13, 12, 13, 12, 13, 12, 13, 12, 13, 12 },
	};
	check_model("tiny-ragged", cache_of(state), prompts, *state ? 1 : 3, 12, 48);
	check_model("tiny-blocks", cache_of(state), prompts, 1, 12, 48);
}

/* ---- Caches ------------------------------------------------------------------------------------------------------ */

/* The main model's cache rows after speculation, whatever was accepted and refused on the way, equal those of plain
 * decoding and those of a prompt of the same text. */
static void caches_are_identical(void **state)
{
	static const int32_t prompt[] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };
	struct octavo_engine_settings settings = { .threads = 2, .sequences = 3, .kv = cache_of(state) };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_error error;
	for (unsigned i = 0; i < sizeof configurations / sizeof *configurations; i++) {
		struct octavo_session_settings plain = { .sampling = { .temperature = 0.8f }, .stream = { 3, i },
			                                 .max_new = 40, .ignore_eos = 1 };
		struct octavo_session_settings drafting = plain;
		drafting.drafter = configurations[i].drafter;
		drafting.k = configurations[i].k;
		memcpy(drafting.tree, configurations[i].tree, sizeof drafting.tree);
		drafting.dynamic = configurations[i].dynamic;
		struct octavo_session *a = open_session(e, &plain), *b = open_session(e, &drafting);
		struct octavo_session *c = open_session(e, &plain);
		int32_t whole[12 + 40];
		struct output out_a, out_b;
		assert_int_equal(octavo_session_prompt(a, prompt, 12, &error), OCTAVO_OK);
		finish(a, &out_a);
		assert_int_equal(octavo_session_prompt(b, prompt, 12, &error), OCTAVO_OK);
		finish(b, &out_b);
		expect_same(&out_a, &out_b, drafting.drafter);
		size_t length = octavo_sequence_length(e, 0);
		assert_int_equal(length, octavo_sequence_length(e, 1));
		assert_int_equal(length, 12 + 40 - 1);
		/* A prompt of the same text: the last token stays out of the cache. */
		memcpy(whole, prompt, sizeof prompt);
		memcpy(whole + 12, out_b.token, 40 * sizeof *whole);
		assert_int_equal(octavo_session_prompt(c, whole, 12 + 40, &error), OCTAVO_OK);
		for (size_t layer = 0; layer < e->config.layers; layer++)
			for (size_t other = 1; other < 3; other++)
				assert_memory_equal(octavo_kv_slots(&e->kv, 0, layer),
				                    octavo_kv_slots(&e->kv, other, layer), length * e->kv.bytes);
		octavo_session_close(&c);
		octavo_session_close(&b);
		octavo_session_close(&a);
	}
	octavo_engine_close(&e);
}

/* Drafting must not depend on what was drafted and refused before: what MTP proposes at a position is the same after
 * a history of rounds as right after a prompt of the same tokens. */
static void drafts_do_not_remember_refusals(void **state)
{
	static const int32_t prompt[] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };
	struct octavo_engine_settings settings = { .threads = 1, .sequences = 2, .kv = cache_of(state) };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_error error;
	struct octavo_session_settings s = { .drafter = "mtp", .k = 4, .max_new = 30, .ignore_eos = 1,
		                             .sampling = { .temperature = 0.8f } };
	struct octavo_session *a = open_session(e, &s), *b = open_session(e, &s);
	struct output out;
	int32_t whole[64];
	assert_int_equal(octavo_session_prompt(a, prompt, 12, &error), OCTAVO_OK);
	finish(a, &out);
	assert_true(out.stats.accepted[0] < out.stats.drafted[0]); /* there were refusals */
	memcpy(whole, prompt, sizeof prompt);
	memcpy(whole + 12, out.token, out.count * sizeof *whole);
	/* b sees everything but the last emitted token as its prompt; its MTP cache then covers the same positions. */
	assert_int_equal(octavo_session_prompt(b, whole, 12 + out.count, &error), OCTAVO_OK);
	const int32_t *token;
	size_t count;
	assert_int_equal(octavo_session_step(b, &token, &count, &error), OCTAVO_OK);
	/* a's last round left at most k + 1 rows to catch up; all before were made from true states. */
	size_t valid = 12 + out.count - 1 - (s.k + 1);
	const unsigned char *slots_a = octavo_kv_slots(&e->kv, 0, e->config.layers);
	const unsigned char *slots_b = octavo_kv_slots(&e->kv, 1, e->config.layers);
	assert_memory_equal(slots_a, slots_b, valid * e->kv.bytes);
	octavo_session_close(&b);
	octavo_session_close(&a);
	octavo_engine_close(&e);
}

/* Every combination of taps drafts its own way and emits the same tokens. */
static void taps_change_drafts_only(void **state)
{
	(void)state;
	static const int32_t prompt[] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };
	struct octavo_session_settings s = { .drafter = "mtp", .k = 4, .max_new = 1, .ignore_eos = 1 };
	struct octavo_error error;
	int32_t emitted[4];
	float logits[4][260]; /* of the last draft: tokens of a random model may agree by chance */
	for (unsigned taps = 0; taps < 4; taps++) {
		struct octavo_engine_settings settings = { .threads = 1, .mtp_first_tap = taps & 1,
		                                           .mtp_recycle_tap = taps >> 1 };
		struct octavo_engine *e = open_model("tiny-ragged", &settings);
		struct octavo_drafter *d;
		struct octavo_shape shape = octavo_shape_chain(4);
		struct octavo_tree tree;
		const int32_t *token;
		size_t count;
		/* The drafter by itself, on the states of a prompt. */
		run_tokens(e, prompt, 12, 12, 0, NULL, NULL);
		assert_int_equal(octavo_drafter_open(&d, "mtp", e, 0, &error), OCTAVO_OK);
		d->ops->begin(d, prompt);
		uint32_t row[11] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 };
		assert_int_equal(d->ops->commit(d, 0, row, 11, &error), OCTAVO_OK);
		octavo_tree_begin(&tree, prompt[11], 64, NULL);
		assert_int_equal(octavo_draft(d, &shape, &tree, &error), OCTAVO_OK);
		assert_int_equal(tree.rows, 5);
		assert_int_equal(e->config.vocab, 260);
		memcpy(logits[taps], e->mtp_logits, sizeof *logits);
		octavo_drafter_close(&d);
		assert_int_equal(octavo_rewind(e, 0, 0, &error), OCTAVO_OK);
		struct octavo_session *session = open_session(e, &s);
		assert_int_equal(octavo_session_prompt(session, prompt, 12, &error), OCTAVO_OK);
		assert_int_equal(octavo_session_step(session, &token, &count, &error), OCTAVO_OK);
		emitted[taps] = token[0];
		octavo_session_close(&session);
		octavo_engine_close(&e);
	}
	for (unsigned a = 0; a < 4; a++)
		for (unsigned b = 0; b < a; b++) {
			assert_int_equal(emitted[a], emitted[b]);
			assert_true(memcmp(logits[a], logits[b], sizeof *logits) != 0);
		}
	struct octavo_engine_settings bad = { .model_dir = source_path("tests/data/tiny-ragged"), .mtp_first_tap = 2 };
	struct octavo_engine *e;
	assert_int_equal(octavo_engine_open(&e, &bad, &error), OCTAVO_EINVAL);
	assert_non_null(strstr(error.text, "tap"));
}

/* Two sequences in one batch do not see each other. */
static void sequences_are_apart(void **state)
{
	(void)state;
	struct octavo_engine_settings settings = { .threads = 2, .sequences = 2 };
	struct octavo_engine *e = open_model("tiny-blocks", &settings);
	size_t vocab = e->config.vocab;
	struct octavo_error error;
	const int32_t alone[3] = { 7, 8, 9 };
	const int32_t token[5] = { 7, 30, 8, 31, 9 }, seq[5] = { 0, 1, 0, 1, 0 }, pos[5] = { 0, 0, 1, 1, 2 };
	const int32_t parent[5] = { -1, -1, 0, 1, 2 };
	const uint8_t flags[5] = { 1, 1, 1, 1, 1 };
	float *plain = test_malloc(3 * vocab * sizeof *plain);
	run_tokens(e, alone, 3, 1, 0, plain, NULL);
	assert_int_equal(octavo_rewind(e, 0, 0, &error), OCTAVO_OK);
	struct octavo_batch batch = { 5, token, pos, seq, parent, flags };
	assert_int_equal(octavo_forward(e, &batch, &error), OCTAVO_OK);
	for (size_t i = 0; i < 3; i++)
		assert_memory_equal(octavo_logits(e, 2 * i), plain + i * vocab, vocab * sizeof *plain);
	test_free(plain);
	octavo_engine_close(&e);
}

/* ---- Ends -------------------------------------------------------------------------------------------------------- */

/* EOS or a length limit inside an accepted run cuts there, as plain decoding would. */
static void ends_cut_inside_a_run(void **state)
{
	(void)state;
	static const int32_t prompt[] = { 0, 40, 41, 42, 43, 40, 41, 42, 43, 40, 41, 42 };
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_session_settings s = { .sampling = { .temperature = 0.8f }, .max_new = 60, .ignore_eos = 1 };
	struct output whole, plain, out;
	decode(e, &s, prompt, 12, &whole);
	s.ignore_eos = 0;
	for (size_t at = 0; at < 40; at += 3) { /* whatever token comes there is made the end */
		e->config.eos[0] = whole.token[at];
		e->config.eos_count = 1;
		s.drafter = "none";
		s.k = 0;
		decode(e, &s, prompt, 12, &plain);
		assert_int_equal(plain.stats.finish, OCTAVO_FINISH_EOS);
		assert_true(plain.count <= at + 1);
		check_engine(e, &s, prompt, 12, &plain, "eos");
	}
	s.ignore_eos = 1;
	for (s.max_new = 1; s.max_new <= 9; s.max_new++) {
		s.drafter = "none";
		s.k = 0;
		decode(e, &s, prompt, 12, &plain);
		assert_int_equal(plain.count, s.max_new);
		assert_memory_equal(plain.token, whole.token, plain.count * sizeof *plain.token);
		check_engine(e, &s, prompt, 12, &plain, "max_new");
	}
	/* Oracle drafts: a prompt that repeats makes n-grams run long, so cuts do fall inside runs. */
	s.drafter = "ngram";
	s.k = 8;
	s.max_new = 60;
	decode(e, &s, prompt, 12, &out);
	expect_same(&whole, &out, "ngram");
	octavo_engine_close(&e);
}

static void context_ends(void **state)
{
	(void)state;
	int32_t prompt[32];
	struct octavo_engine_settings settings = { .threads = 1, .max_context = 32 };
	struct octavo_engine *e = open_model("tiny-ragged", &settings);
	struct octavo_error error;
	struct octavo_session_settings s = { .ignore_eos = 1 };
	struct output plain;
	for (int32_t i = 0; i < 32; i++)
		prompt[i] = 30 + i;
	decode(e, &s, prompt, 20, &plain);
	assert_int_equal(plain.stats.finish, OCTAVO_FINISH_CONTEXT);
	assert_int_equal(plain.count, 32 - 20 + 1); /* the last one needs no room of its own */
	check_engine(e, &s, prompt, 20, &plain, "context");
	decode(e, &s, prompt, 32, &plain);
	assert_int_equal(plain.count, 1);
	struct octavo_session *session = open_session(e, &s);
	int32_t long_prompt[33] = { 0 };
	assert_int_equal(octavo_session_prompt(session, long_prompt, 33, &error), OCTAVO_ELIMIT);
	assert_non_null(strstr(error.text, "33 tokens"));
	assert_int_equal(octavo_session_prompt(session, prompt, 0, &error), OCTAVO_EINVAL);
	prompt[3] = 100000;
	assert_int_equal(octavo_session_prompt(session, prompt, 5, &error), OCTAVO_EINVAL);
	assert_non_null(strstr(error.text, "token 3"));
	octavo_session_close(&session);
	octavo_engine_close(&e);
}

/* A prompt long enough for the naive form: still one stream for all drafters, and prompts cut into other batches. */
static void long_prompts_agree(void **state)
{
	enum { LENGTH = 600 }; /* more than one attention segment */
	static int32_t prompt[LENGTH];
	for (size_t i = 0; i < LENGTH; i++)
		prompt[i] = (int32_t)(i * i * 31 % 250) + 2;
	struct output plain, out;
	for (size_t rows = 64; rows >= 16; rows /= 4) {
		struct octavo_engine_settings settings = { .threads = 2, .max_rows = rows, .naive_min = 512,
			                                   .kv = cache_of(state) };
		struct octavo_engine *e = open_model("tiny-ragged", &settings);
		struct octavo_session_settings s = { .max_new = 24, .ignore_eos = 1,
		                                     .sampling = { .temperature = 0.8f } };
		decode(e, &s, prompt, LENGTH, &out);
		if (rows == 64)
			plain = out;
		expect_same(&plain, &out, "other prompt batches");
		check_engine(e, &s, prompt, LENGTH, &plain, "long prompt");
		octavo_engine_close(&e);
	}
}

/* ---- Refusals ---------------------------------------------------------------------------------------------------- */

static void bad_sessions_are_refused(void **state)
{
	(void)state;
	struct octavo_engine_settings settings = { .threads = 1 };
	struct octavo_engine *e = open_model("tiny-noq", &settings);
	struct octavo_session *s;
	struct octavo_error error;
	static const struct {
		struct octavo_session_settings settings;
		enum octavo_status status;
		const char *says;
	} bad[] = {
		{ { .drafter = "mtp" }, OCTAVO_ENOTSUP, "num_nextn_predict_layers" },
		{ { .drafter = "oracle" }, OCTAVO_EINVAL, "oracle" },
		{ { .drafter = "ngram:" }, OCTAVO_EINVAL, "argument" },
		{ { .drafter = "ngram+none" }, OCTAVO_EINVAL, "ngram+none" },
		{ { .drafter = "ngram+mtp+none" }, OCTAVO_EINVAL, "two parts" },
		{ { .drafter = "ngram", .k = 9 }, OCTAVO_EINVAL, "at most 8" },
		{ { .accept = OCTAVO_ACCEPT_GREEDY, .sampling = { .temperature = 0.5f } }, OCTAVO_EINVAL, "temperature" },
		{ { .sampling = { .temperature = -1.0f } }, OCTAVO_EINVAL, "temperature" },
		{ { .sampling = { .top_p = 2.0f } }, OCTAVO_EINVAL, "top_p" },
		{ { .dynamic = { 8, 2, 9 } }, OCTAVO_EINVAL, "depth of 1 to 8" },
		{ { .dynamic = { 1, 2, 2 } }, OCTAVO_EINVAL, "at least 2 rows" },
		{ { .dynamic = { 0, 2, 2 } }, OCTAVO_EINVAL, "at least 2 rows" },
		{ { .dynamic = { 65, 2, 2 } }, OCTAVO_ELIMIT, "64 rows" },
		{ { .dynamic = { 8, 10, 8 } }, OCTAVO_ELIMIT, "64 rows" },
		{ { .dynamic = { 8, 4000000000u, 2 } }, OCTAVO_ELIMIT, "64 rows" },
		{ { .dynamic = { 8, 2, 2 }, .k = 1 }, OCTAVO_EINVAL, "k must be 0" },
		{ { .dynamic = { 8, 2, 2 }, .tree = { 2, 2 } }, OCTAVO_EINVAL, "exclude" },
		{ { .dynamic = { 8, 2, 2 }, .accept = OCTAVO_ACCEPT_MULTIROUND, .sampling = { .temperature = 1.0f } },
		  OCTAVO_EINVAL, "change the law" },
		{ { .dynamic = { 8, 2, 2 }, .accept = OCTAVO_ACCEPT_BLOCK }, OCTAVO_EINVAL, "for chains" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(octavo_session_open(&s, e, &bad[i].settings, &error), bad[i].status);
		assert_null(s);
		assert_non_null(strstr(error.text, bad[i].says));
	}
	struct octavo_session_settings good = { 0 };
	struct octavo_session *first = open_session(e, &good);
	assert_int_equal(octavo_session_open(&s, e, &good, &error), OCTAVO_ELIMIT);
	octavo_session_close(&first);
	first = open_session(e, &good); /* the refused one took nothing */
	octavo_session_close(&first);
	octavo_engine_close(&e);
}

static void bad_batches_are_refused(void **state)
{
	(void)state;
	struct octavo_engine_settings settings = { .threads = 1, .max_rows = 4, .max_context = 16 };
	struct octavo_engine *e = open_model("tiny-noq", &settings);
	struct octavo_error error;
	static const struct {
		int32_t token, pos, seq, parent;
		enum octavo_status status;
	} bad[] = {
		{ 9999, 0, 0, -1, OCTAVO_EINVAL }, { -1, 0, 0, -1, OCTAVO_EINVAL }, { 5, 1, 0, -1, OCTAVO_EINVAL },
		{ 5, -1, 0, -1, OCTAVO_EINVAL },   { 5, 0, 1, -1, OCTAVO_EINVAL },  { 5, 0, -1, -1, OCTAVO_EINVAL },
		{ 5, 0, 0, 0, OCTAVO_EINVAL },     { 5, 0, 0, 7, OCTAVO_EINVAL },  { 5, 0, 0, -2, OCTAVO_EINVAL },
	};
	uint8_t flags[5] = { 0 };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct octavo_batch batch = { 1, &bad[i].token, &bad[i].pos, &bad[i].seq, &bad[i].parent, flags };
		assert_int_equal(octavo_forward(e, &batch, &error), bad[i].status);
	}
	const int32_t token[5] = { 5, 5, 5, 5, 5 }, pos[5] = { 0, 1, 2, 3, 4 }, seq[5] = { 0 },
	              parent[5] = { -1, 0, 1, 2, 3 };
	struct octavo_batch many = { 5, token, pos, seq, parent, flags };
	assert_int_equal(octavo_forward(e, &many, &error), OCTAVO_ELIMIT);
	many.rows = 0;
	assert_int_equal(octavo_forward(e, &many, &error), OCTAVO_ELIMIT);
	many.rows = 3;
	assert_int_equal(octavo_forward(e, &many, &error), OCTAVO_OK);
	/* A refused forward takes the last one's rows with it: they cannot be committed any more. */
	struct octavo_batch refused = { 1, &bad[0].token, &bad[0].pos, &bad[0].seq, &bad[0].parent, flags };
	assert_int_equal(octavo_forward(e, &refused, &error), OCTAVO_EINVAL);
	assert_int_equal(octavo_commit(e, 0, (const uint32_t[]){ 0 }, 1, &error), OCTAVO_EINVAL);
	assert_int_equal(octavo_forward(e, &many, &error), OCTAVO_OK);
	assert_null(octavo_logits(e, 0)); /* none were wanted */
	assert_int_equal(octavo_commit(e, 0, (const uint32_t[]){ 1 }, 1, &error), OCTAVO_EINVAL);
	assert_int_equal(octavo_commit(e, 0, (const uint32_t[]){ 0, 2 }, 2, &error), OCTAVO_EINVAL);
	assert_int_equal(octavo_commit(e, 0, (const uint32_t[]){ 0, 1 }, 2, &error), OCTAVO_OK);
	assert_int_equal(octavo_commit(e, 0, (const uint32_t[]){ 0, 1 }, 2, &error), OCTAVO_EINVAL); /* once only */
	assert_int_equal(octavo_rewind(e, 0, 3, &error), OCTAVO_EINVAL);
	assert_int_equal(octavo_rewind(e, 0, 1, &error), OCTAVO_OK);
	assert_int_equal(octavo_sequence_length(e, 0), 1);
	octavo_engine_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams_are_identical_tiny), cmocka_unit_test(caches_are_identical),
		cmocka_unit_test(drafts_do_not_remember_refusals),
		cmocka_unit_test(taps_change_drafts_only),
		cmocka_unit_test(sequences_are_apart), cmocka_unit_test(ends_cut_inside_a_run),
		cmocka_unit_test(context_ends), cmocka_unit_test(long_prompts_agree),
		cmocka_unit_test(bad_sessions_are_refused), cmocka_unit_test(bad_batches_are_refused),
		{ "streams_are_identical_tiny, FP8 cache", streams_are_identical_tiny, NULL, NULL, "fp8" },
		{ "caches_are_identical, FP8 cache", caches_are_identical, NULL, NULL, "fp8" },
		{ "drafts_do_not_remember_refusals, FP8 cache", drafts_do_not_remember_refusals, NULL, NULL, "fp8" },
		{ "long_prompts_agree, FP8 cache", long_prompts_agree, NULL, NULL, "fp8" },
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
