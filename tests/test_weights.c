/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole checkpoints: every tensor bound to its role.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/support/loaded.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- Helpers --------------------------------------------------------------------------------------- */

static void same_matrix(struct ckpt *ckpt, const char *stem, const struct octavo_matrix *m)
{
	char name[160];
	snprintf(name, sizeof name, "%s.weight", stem);
	const struct ckpt_tensor *t = ckpt_find(ckpt, name);
	assert_string_equal(octavo_dtype_name(m->dtype), t->dtype);
	assert_int_equal(m->rows, t->shape[0]);
	assert_int_equal(m->cols, t->shape[1]);
	assert_int_equal(m->ld, t->shape[1]);
	assert_memory_equal(m->data, t->data, t->bytes);
	if (m->dtype != OCTAVO_E4M3) {
		assert_null(m->scale);
		return;
	}
	snprintf(name, sizeof name, "%s.weight_scale_inv", stem);
	t = ckpt_find(ckpt, name);
	assert_string_equal(octavo_dtype_name(m->scale_dtype), t->dtype);
	assert_int_equal(m->scale_ld, t->shape[1]);
	assert_memory_equal(m->scale, t->data, t->bytes);
}

static void same_vector(struct ckpt *ckpt, const char *name, const float *v)
{
	const struct ckpt_tensor *t = ckpt_find(ckpt, name);
	assert_int_equal((uintptr_t)v % OCTAVO_ALIGNMENT, 0);
	for (size_t i = 0; i < t->shape[0]; i++) {
		uint32_t bits;
		if (strcmp(t->dtype, "F32") == 0)
			memcpy(&bits, t->data + 4 * i, 4);
		else
			bits = (uint32_t)t->data[2 * i] << 16 | (uint32_t)t->data[2 * i + 1] << 24;
		assert_memory_equal(&v[i], &bits, 4);
	}
}

/* ---- Good checkpoints ------------------------------------------------------------------------------ */

static void check_layers(struct ckpt *ckpt, const struct octavo_weights *w)
{
	const struct octavo_layer *l = &w->layer[0];
	assert_false(l->moe);
	same_vector(ckpt, "model.layers.0.input_layernorm.weight", l->input_norm);
	same_vector(ckpt, "model.layers.0.post_attention_layernorm.weight", l->post_norm);
	same_matrix(ckpt, "model.layers.0.self_attn.q_a_proj", &l->q_a);
	same_matrix(ckpt, "model.layers.0.self_attn.q_b_proj", &l->q_b);
	same_vector(ckpt, "model.layers.0.self_attn.q_a_layernorm.weight", l->q_norm);
	same_matrix(ckpt, "model.layers.0.self_attn.kv_a_proj_with_mqa", &l->kv_a);
	same_vector(ckpt, "model.layers.0.self_attn.kv_a_layernorm.weight", l->kv_norm);
	same_matrix(ckpt, "model.layers.0.self_attn.kv_b_proj", &l->kv_b);
	same_matrix(ckpt, "model.layers.0.self_attn.o_proj", &l->o);
	same_matrix(ckpt, "model.layers.0.mlp.gate_proj", &l->dense.gate);
	same_matrix(ckpt, "model.layers.0.mlp.up_proj", &l->dense.up);
	same_matrix(ckpt, "model.layers.0.mlp.down_proj", &l->dense.down);
	l = &w->layer[2];
	assert_true(l->moe);
	same_matrix(ckpt, "model.layers.2.mlp.gate", &l->router);
	same_vector(ckpt, "model.layers.2.mlp.gate.e_score_correction_bias", l->router_bias);
	same_matrix(ckpt, "model.layers.2.mlp.experts.7.gate_proj", &l->expert[7].gate);
	same_matrix(ckpt, "model.layers.2.mlp.experts.3.up_proj", &l->expert[3].up);
	same_matrix(ckpt, "model.layers.2.mlp.experts.0.down_proj", &l->expert[0].down);
	same_matrix(ckpt, "model.layers.2.mlp.shared_experts.down_proj", &l->shared.down);
}

static void check_model(struct ckpt *ckpt, const struct octavo_weights *w)
{
	same_matrix(ckpt, "model.embed_tokens", &w->embed);
	same_matrix(ckpt, "lm_head", &w->head);
	same_vector(ckpt, "model.norm.weight", w->final_norm);
	check_layers(ckpt, w);
	same_vector(ckpt, "model.layers.3.enorm.weight", w->mtp[0].enorm);
	same_vector(ckpt, "model.layers.3.hnorm.weight", w->mtp[0].hnorm);
	same_matrix(ckpt, "model.layers.3.eh_proj", &w->mtp[0].eh_proj);
	same_vector(ckpt, "model.layers.3.shared_head.norm.weight", w->mtp[0].head_norm);
	same_matrix(ckpt, "model.layers.3.self_attn.o_proj", &w->mtp[0].layer.o);
	same_matrix(ckpt, "model.layers.3.mlp.experts.5.up_proj", &w->mtp[0].layer.expert[5].up);
}

/* Checkpoints written by the independent oracle. */
static void test_oracle_files(void **state)
{
	(void)state;
	static const char *const names[] = {"tiny-blocks", "tiny-noq", "tiny-ragged", "tiny-v2",
	                                    "tiny-llama",  "tiny-qwen2", "tiny-qwen3", "tiny-modules"};
	const char *source = getenv("OCTAVO_SRCDIR");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char dir[PATH_MAX];
		struct loaded l = {0};
		snprintf(dir, sizeof dir, "%s/tests/data/%s", source ? source : ".", names[i]);
		if (access(dir, F_OK) != 0)
			skip();
		enum octavo_status status = load_dir(&l, dir);
		if (status != OCTAVO_OK)
			print_error("%s: %s\n", dir, l.error.text);
		unload(&l);
		assert_int_equal(status, OCTAVO_OK);
	}
}

/* The data may begin at any byte of the file. */
static void test_bound(void **state)
{
	(void)state;
	struct ckpt *ckpt = tiny();
	for (ckpt->pad = 0; ckpt->pad < 3; ckpt->pad++) {
		struct loaded l;
		assert_int_equal(load(&l, ckpt), OCTAVO_OK);
		check_model(ckpt, &l.weights);
		unload(&l);
	}
	ckpt_free(ckpt);
}

static void test_shards(void **state)
{
	(void)state;
	struct ckpt *ckpt = tiny();
	ckpt->shards = 3;
	for (size_t i = 0; i < ckpt->count; i++)
		ckpt->tensor[i].shard = strstr(ckpt->tensor[i].name, "scale_inv") ? 2 : i % 2;
	struct loaded l;
	assert_int_equal(load(&l, ckpt), OCTAVO_OK);
	check_model(ckpt, &l.weights);
	assert_int_equal(octavo_checkpoint_count(l.checkpoint), ckpt->count);
	unload(&l);
	ckpt_free(ckpt);
}

/* The tiny model's matrices, added up by hand from the sizes in ckpt.h. */
static void test_parameters(void **state)
{
	(void)state;
	struct ckpt *ckpt = tiny();
	struct loaded l;
	assert_int_equal(load(&l, ckpt), OCTAVO_OK);
	size_t attention = 144 * 160 + 160 * 144 + 160 * 160 + 176 * 128 + 160 * 80;
	size_t expert = 3 * 136 * 160, router = 8 * 160, vocabulary = 300 * 160;
	size_t rest = 3 * attention + 3 * 200 * 160 + 2 * (router + expert) + vocabulary;
	assert_int_equal(l.weights.active_parameters, rest + 2 * 3 * expert);
	assert_int_equal(l.weights.parameters, rest + 2 * 8 * expert + vocabulary);
	unload(&l);
	ckpt_free(ckpt);
}

static void test_kinds(void **state)
{
	(void)state;
	expect_good(ckpt_new(&(struct ckpt_options){0}));
	expect_good(ckpt_new(&(struct ckpt_options){.no_q_lora = 1}));
	expect_good(ckpt_new(&(struct ckpt_options){.bf16 = 1, .mtp = 2}));
	expect_good(ckpt_new(&(struct ckpt_options){.dense = 1, .mtp = 1}));
	expect_good(ckpt_new(&(struct ckpt_options){.e8m0 = 1}));
}

static void test_tied_head(void **state)
{
	(void)state;
	struct ckpt *ckpt = ckpt_new(&(struct ckpt_options){0});
	json_object_set_new(ckpt->config, "tie_word_embeddings", json_true());
	ckpt_remove(ckpt, "lm_head.weight");
	struct loaded l;
	assert_int_equal(load(&l, ckpt), OCTAVO_OK);
	same_matrix(ckpt, "model.embed_tokens", &l.weights.head);
	assert_true(l.weights.parameters - l.weights.active_parameters == 2 * 5 * 3 * 136 * 160);
	unload(&l);
	ckpt_free(ckpt);
}

/* Some tied models are published with a head all the same: a copy of the embedding. */
static struct ckpt *tied_with_copy(void)
{
	struct ckpt *ckpt = ckpt_new(&(struct ckpt_options){0});
	struct ckpt_tensor *embed = ckpt_find(ckpt, "model.embed_tokens.weight"),
	                   *head = ckpt_find(ckpt, "lm_head.weight");
	json_object_set_new(ckpt->config, "tie_word_embeddings", json_true());
	memcpy(head->data, embed->data, head->bytes);
	return ckpt;
}

static void test_tied_head_with_copy(void **state)
{
	(void)state;
	struct ckpt *ckpt = tied_with_copy();
	struct loaded l;
	if (load(&l, ckpt) != OCTAVO_OK)
		fail_msg("%s", l.error.text);
	same_matrix(ckpt, "model.embed_tokens", &l.weights.head);
	assert_true(l.weights.parameters - l.weights.active_parameters == 2 * 5 * 3 * 136 * 160);
	unload(&l);
	ckpt_find(ckpt, "lm_head.weight")->data[2 * 160 * 200 + 1] ^= 0x40; /* one of the rows that are compared */
	expect_bad(ckpt, OCTAVO_EFORMAT,
	           "model.safetensors: lm_head.weight: row 200 is not the embedding's, but config.json says tie_word_embeddings");
	ckpt = tied_with_copy();
	ckpt_reshape(ckpt_find(ckpt, "lm_head.weight"), "F8_E4M3", 2, (size_t[]){300, 160});
	expect_bad(ckpt, OCTAVO_EFORMAT, "model.safetensors: lm_head.weight: dtype F8_E4M3, not BF16, F16 or F32");
}

/* Dtypes that other producers store. */
static void test_other_dtypes(void **state)
{
	(void)state;
	struct ckpt *ckpt = tiny();
	ckpt_reshape(ckpt_find(ckpt, "model.norm.weight"), "F32", 1, (size_t[]){160});
	ckpt_reshape(ckpt_find(ckpt, "lm_head.weight"), "F32", 2, (size_t[]){300, 160});
	ckpt_reshape(ckpt_find(ckpt, "model.embed_tokens.weight"), "F16", 2, (size_t[]){300, 160});
	ckpt_reshape(ckpt_find(ckpt, "model.layers.1.mlp.gate.weight"), "F32", 2, (size_t[]){8, 160});
	ckpt_reshape(ckpt_find(ckpt, "model.layers.0.self_attn.o_proj.weight"), "F8_E5M2", 2, (size_t[]){160, 80});
	ckpt_reshape(ckpt_find(ckpt, "model.layers.0.self_attn.q_a_proj.weight_scale_inv"), "BF16", 2,
	             (size_t[]){2, 2});
	ckpt_reshape(ckpt_find(ckpt, "model.layers.0.self_attn.q_b_proj.weight_scale_inv"), "F8_E8M0", 2,
	             (size_t[]){2, 2});
	ckpt_remove(ckpt, "model.layers.3.embed_tokens.weight");
	ckpt_remove(ckpt, "model.layers.3.shared_head.head.weight");
	ckpt_add(ckpt, "model.layers.0.self_attn.rotary_emb.inv_freq", "BF16", 1, (size_t[]){16});
	ckpt_add(ckpt, "model.layers.0.self_attn.k_scale", "F32", 0, NULL);
	expect_good(ckpt);
}

/* A copy saved without its MTP module, whose config.json still promises it. */
static void test_dropped_mtp(void **state)
{
	(void)state;
	struct ckpt *ckpt = ckpt_new(&(struct ckpt_options){0});
	json_object_set_new(ckpt->config, "num_nextn_predict_layers", json_integer(1));
	struct loaded l;
	if (load(&l, ckpt) != OCTAVO_OK)
		fail_msg("%s", l.error.text);
	assert_int_equal(l.config.mtp_layers, 0);
	unload(&l);
	ckpt_free(ckpt);
}

static void remove_layer(struct ckpt *ckpt, const char *prefix)
{
	for (size_t i = ckpt->count; i--;)
		if (!strncmp(ckpt->tensor[i].name, prefix, strlen(prefix)))
			ckpt_remove(ckpt, ckpt->tensor[i].name);
}

/* Copies without the last modules have the others; without one of those before, they are broken. */
static void test_dropped_last_mtp(void **state)
{
	(void)state;
	struct ckpt *ckpt = ckpt_new(&(struct ckpt_options){.mtp = 3});
	struct loaded l;
	for (size_t left = 3; left; left--) {
		if (load(&l, ckpt) != OCTAVO_OK)
			fail_msg("%s", l.error.text);
		assert_int_equal(l.config.mtp_layers, left);
		for (size_t i = 0; i < left; i++) {
			char name[64];
			snprintf(name, sizeof name, "model.layers.%zu.eh_proj", 3 + i);
			same_matrix(ckpt, name, &l.weights.mtp[i].eh_proj);
		}
		unload(&l);
		remove_layer(ckpt, left == 3 ? "model.layers.5." : "model.layers.4.");
	}
	ckpt_free(ckpt);
	ckpt = ckpt_new(&(struct ckpt_options){.mtp = 3});
	remove_layer(ckpt, "model.layers.4.");
	expect_bad(ckpt, OCTAVO_EFORMAT, "model.layers.4.enorm.weight: missing from the checkpoint");
	ckpt = ckpt_new(&(struct ckpt_options){.mtp = 2});
	ckpt_remove(ckpt, "model.layers.4.hnorm.weight");
	expect_bad(ckpt, OCTAVO_EFORMAT, "model.layers.4.hnorm.weight: missing from the checkpoint");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_bound),
	        cmocka_unit_test(test_shards),
	        cmocka_unit_test(test_parameters),
	        cmocka_unit_test(test_kinds),
	        cmocka_unit_test(test_tied_head),
	        cmocka_unit_test(test_tied_head_with_copy),
	        cmocka_unit_test(test_other_dtypes),
	        cmocka_unit_test(test_dropped_mtp),
	        cmocka_unit_test(test_dropped_last_mtp),
	        cmocka_unit_test(test_oracle_files),
	};
	return cmocka_run_group_tests_name("weights", tests, NULL, NULL);
}
