/* SPDX-License-Identifier: Apache-2.0
 *
 * config.json and generation_config.json: published models are read as they are, everything else is refused with
 * the name of the field.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/load/load.h"
#include "tests/support/ckpt.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir; /* of the whole group */

static void write_text(const char *name, const char *text)
{
	ckpt_write_file(dir, name, text, strlen(text));
}

static void load(struct octavo_config *config, const char *text, const char *generation)
{
	struct octavo_error error;
	write_text("config.json", text);
	write_text("generation_config.json", generation);
	enum octavo_status status = octavo_config_load(config, dir, &error);
	if (status != OCTAVO_OK)
		print_error("%s\n", error.text);
	assert_int_equal(status, OCTAVO_OK);
}

/* ---- Published models ------------------------------------------------------------------------------ */

static const char v3[] =
        "{\"architectures\":[\"DeepseekV3ForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
        "\"auto_map\":{\"AutoConfig\":\"configuration_deepseek.DeepseekV3Config\"},\"bos_token_id\":0,\"eos_token_id\":"
        "1,"
        "\"ep_size\":1,\"first_k_dense_replace\":3,\"hidden_act\":\"silu\",\"hidden_size\":7168,"
        "\"initializer_range\":0.02,\"intermediate_size\":18432,\"kv_lora_rank\":512,\"max_position_embeddings\":"
        "163840,"
        "\"model_type\":\"deepseek_v3\",\"moe_intermediate_size\":2048,\"moe_layer_freq\":1,\"n_group\":8,"
        "\"n_routed_experts\":256,\"n_shared_experts\":1,\"norm_topk_prob\":true,\"num_attention_heads\":128,"
        "\"num_experts_per_tok\":8,\"num_hidden_layers\":61,\"num_key_value_heads\":128,\"num_nextn_predict_layers\":1,"
        "\"q_lora_rank\":1536,\"qk_nope_head_dim\":128,\"qk_rope_head_dim\":64,\"quantization_config\":"
        "{\"activation_scheme\":\"dynamic\",\"fmt\":\"e4m3\",\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]},"
        "\"rms_norm_eps\":1e-06,\"rope_scaling\":{\"beta_fast\":32,\"beta_slow\":1,\"factor\":40,\"mscale\":1.0,"
        "\"mscale_all_dim\":1.0,\"original_max_position_embeddings\":4096,\"type\":\"yarn\"},\"rope_theta\":10000,"
        "\"routed_scaling_factor\":2.5,\"scoring_func\":\"sigmoid\",\"tie_word_embeddings\":false,\"topk_group\":4,"
        "\"topk_method\":\"noaux_tc\",\"torch_dtype\":\"bfloat16\",\"use_cache\":true,\"v_head_dim\":128,"
        "\"vocab_size\":129280}";

static void test_v3(void **state)
{
	(void)state;
	struct octavo_config c;
	load(&c, v3, "{\"bos_token_id\":0,\"eos_token_id\":1,\"do_sample\":true,\"temperature\":0.6,\"top_p\":0.95}");
	assert_string_equal(c.architecture, "deepseek_v3");
	assert_int_equal(c.vocab, 129280);
	assert_int_equal(c.hidden, 7168);
	assert_int_equal(c.layers, 61);
	assert_int_equal(c.mtp_layers, 1);
	assert_int_equal(c.heads, 128);
	assert_int_equal(c.q_lora, 1536);
	assert_int_equal(c.kv_lora, 512);
	assert_int_equal(c.nope, 128);
	assert_int_equal(c.rope, 64);
	assert_int_equal(c.v_dim, 128);
	assert_int_equal(c.dense_width, 18432);
	assert_int_equal(c.expert_width, 2048);
	assert_int_equal(c.experts, 256);
	assert_int_equal(c.shared_experts, 1);
	assert_int_equal(c.top_k, 8);
	assert_int_equal(c.groups, 8);
	assert_int_equal(c.top_groups, 4);
	assert_int_equal(c.topk_method, OCTAVO_TOPK_NOAUX_TC);
	assert_int_equal(c.scoring, OCTAVO_SCORE_SIGMOID);
	assert_true(c.normalise && !c.tied_head && c.yarn);
	assert_true(c.routed_factor == 2.5f && c.norm_eps == 1e-6f && c.latent_norm_eps == 1e-6f);
	assert_int_equal(c.max_position, 163840);
	assert_true(c.rope_theta == 10000 && c.yarn_factor == 40 && c.yarn_beta_fast == 32 && c.yarn_beta_slow == 1);
	assert_true(c.yarn_mscale == 1 && c.yarn_mscale_all_dim == 1);
	assert_int_equal(c.yarn_original, 4096);
	assert_int_equal(c.activation_scale, OCTAVO_SCALE_AMAX);
	assert_int_equal(c.eos_count, 1);
	assert_int_equal(c.eos[0], 1);
	assert_true(c.temperature == 0.6f && c.top_p == 0.95f);
	assert_true(c.sample_top_k == 0 && c.min_p == 0 && c.repetition == 0);
	assert_false(octavo_config_is_moe(&c, 2));
	assert_true(octavo_config_is_moe(&c, 3) && octavo_config_is_moe(&c, 60) && octavo_config_is_moe(&c, 61));
}

static void test_moonlight(void **state)
{
	(void)state;
	struct octavo_config c;
	load(&c,
	     "{\"model_type\":\"deepseek_v3\",\"vocab_size\":163840,\"hidden_size\":2048,\"num_hidden_layers\":27,"
	     "\"num_attention_heads\":16,\"q_lora_rank\":null,\"kv_lora_rank\":512,\"qk_nope_head_dim\":128,"
	     "\"qk_rope_head_dim\":64,\"v_head_dim\":128,\"intermediate_size\":11264,\"moe_intermediate_size\":1408,"
	     "\"n_routed_experts\":64,\"n_shared_experts\":2,\"num_experts_per_tok\":6,\"first_k_dense_replace\":1,"
	     "\"n_group\":1,\"topk_group\":1,\"routed_scaling_factor\":2.446,\"rms_norm_eps\":1e-5,\"rope_theta\":"
	     "50000.0,"
	     "\"rope_scaling\":null,\"max_position_embeddings\":8192,\"num_nextn_predict_layers\":0,"
	     "\"bos_token_id\":163584,\"eos_token_id\":163585}",
	     "{\"eos_token_id\":163586,\"do_sample\":false,\"temperature\":0.5,\"top_k\":5,\"min_p\":0.1,"
	     "\"repetition_penalty\":1.25}");
	assert_int_equal(c.q_lora, 0);
	assert_int_equal(c.mtp_layers, 0);
	assert_int_equal(c.shared_experts, 2);
	assert_false(c.yarn);
	assert_true(c.rope_theta == 50000 && c.norm_eps == 1e-5f && c.latent_norm_eps == 1e-6f);
	assert_int_equal(c.eos_count, 2);
	assert_int_equal(c.eos[0], 163585);
	assert_int_equal(c.eos[1], 163586);
	assert_true(c.temperature == 0 && c.sample_top_k == 0 && c.min_p == 0 && c.repetition == 1.25f);
}

static void test_v2_lite(void **state)
{
	(void)state;
	struct octavo_config c;
	load(&c,
	     "{\"model_type\":\"deepseek_v2\",\"vocab_size\":102400,\"hidden_size\":2048,\"num_hidden_layers\":27,"
	     "\"num_attention_heads\":16,\"q_lora_rank\":null,\"kv_lora_rank\":512,\"qk_nope_head_dim\":128,"
	     "\"qk_rope_head_dim\":64,\"v_head_dim\":128,\"intermediate_size\":10944,\"moe_intermediate_size\":1408,"
	     "\"n_routed_experts\":64,\"n_shared_experts\":2,\"num_experts_per_tok\":6,\"first_k_dense_replace\":1,"
	     "\"routed_scaling_factor\":1.0,\"max_position_embeddings\":163840,\"rope_scaling\":{\"type\":\"yarn\","
	     "\"factor\":40,\"original_max_position_embeddings\":4096,\"mscale\":0.707,\"mscale_all_dim\":0.707}}",
	     "{}");
	assert_int_equal(c.topk_method, OCTAVO_TOPK_GREEDY);
	assert_int_equal(c.scoring, OCTAVO_SCORE_SOFTMAX);
	assert_int_equal(c.groups, 1);
	assert_false(c.normalise);
	assert_true(c.yarn_mscale == 0.707 && c.yarn_mscale_all_dim == 0.707);
	assert_true(c.yarn_beta_fast == 32 && c.yarn_beta_slow == 1);
	assert_int_equal(c.eos_count, 0);
}

/* GLM-4.7-Flash as newer transformers write it. */
static void test_newer_spelling(void **state)
{
	(void)state;
	struct octavo_config c;
	char text[2048], types[1024] = "\"dense\"";
	for (int i = 1; i < 47; i++)
		strcat(types, ",\"sparse\"");
	snprintf(
	        text, sizeof text,
	        "{\"model_type\":\"glm4_moe_lite\",\"vocab_size\":154880,\"hidden_size\":2048,\"num_hidden_layers\":47,"
	        "\"num_attention_heads\":20,\"num_key_value_heads\":20,\"q_lora_rank\":768,\"kv_lora_rank\":512,"
	        "\"qk_nope_head_dim\":192,\"qk_rope_head_dim\":64,\"v_head_dim\":256,\"head_dim\":64,"
	        "\"intermediate_size\":10240,\"moe_intermediate_size\":1536,\"n_routed_experts\":64,"
	        "\"n_shared_experts\":1,\"num_experts_per_tok\":4,\"routed_scaling_factor\":1.8,\"dtype\":\"bfloat16\","
	        "\"rope_interleave\":true,\"max_position_embeddings\":202752,\"rms_norm_eps\":1e-05,"
	        "\"num_nextn_predict_layers\":1,\"eos_token_id\":[154820,154827,154829],\"rope_scaling\":null,"
	        "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":1000000,\"partial_rotary_factor\":1.0},"
	        "\"mlp_layer_types\":[%s]}",
	        types);
	load(&c, text, "{\"eos_token_id\":[154829,154820]}");
	assert_int_equal(c.first_dense, 1);
	assert_false(octavo_config_is_moe(&c, 0));
	assert_true(octavo_config_is_moe(&c, 1));
	assert_int_equal(c.topk_method, OCTAVO_TOPK_NOAUX_TC);
	assert_int_equal(c.groups, 1);
	assert_true(c.rope_theta == 1000000);
	assert_false(c.yarn);
	assert_int_equal(c.eos_count, 3);
}

/* ---- Bent configs ---------------------------------------------------------------------------------- */

struct bent_case {
	const char *patch; /* merged into the tiny model's config; the string "(absent)" removes a field */
	enum octavo_status status;
	const char *text;
};

#define AT "config.json: "

static const char llama[] =
        "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,\"bos_token_id\":128000,"
        "\"eos_token_id\":[128001,128008,128009],\"head_dim\":64,\"hidden_act\":\"silu\",\"hidden_size\":2048,"
        "\"initializer_range\":0.02,\"intermediate_size\":8192,\"max_position_embeddings\":131072,\"mlp_bias\":false,"
        "\"model_type\":\"llama\",\"num_attention_heads\":32,\"num_hidden_layers\":16,\"num_key_value_heads\":8,"
        "\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,\"rope_scaling\":{\"factor\":32.0,\"high_freq_factor\":4.0,"
        "\"low_freq_factor\":1.0,\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"},\"rope_theta\":500000.0,"
        "\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\",\"use_cache\":true,\"vocab_size\":128256}";

static void test_llama(void **state)
{
	(void)state;
	struct octavo_config c;
	load(&c, llama, "{}");
	assert_string_equal(c.architecture, "llama");
	assert_int_equal(c.kv_heads, 8);
	assert_int_equal(c.rope, 64);
	assert_int_equal(c.v_dim, 64);
	assert_int_equal(c.nope + c.kv_lora + c.q_lora + c.experts + c.mtp_layers, 0);
	assert_int_equal(c.dense_width, 8192);
	assert_true(c.tied_head && !c.qkv_bias && !c.qk_norm && !c.yarn && c.llama3);
	assert_true(c.rope_theta == 500000 && c.norm_eps == 1e-5f && c.llama3_factor == 32 && c.llama3_low == 1 &&
	            c.llama3_high == 4);
	assert_int_equal(c.llama3_original, 8192);
	assert_int_equal(c.eos_count, 3);
	assert_false(octavo_config_is_moe(&c, 0));
}

static const struct bent_case bent[] = {
        /* architectures */
        {"{'model_type':'(absent)'}", OCTAVO_EFORMAT, AT "model_type: missing"},
        {"{'model_type':3}", OCTAVO_EFORMAT, AT "model_type: not a string"},
        {"{'model_type':'gemma2'}", OCTAVO_ENOTSUP, AT "model_type: gemma2 is not supported"},
        {"{'model_type':'deepseek_v32'}", OCTAVO_ENOTSUP,
         AT "model_type: deepseek_v32 attends through the indexer of DeepSeek sparse attention"},
        {"{'text_config':{}}", OCTAVO_ENOTSUP, AT "text_config: a multimodal wrapper"},
        {"{'index_topk':2048}", OCTAVO_ENOTSUP, AT "index_topk: the indexer of DeepSeek sparse attention"},
        {"{'model_type':'kimi_k2'}", OCTAVO_OK, NULL},
        /* sizes */
        {"{'vocab_size':'(absent)'}", OCTAVO_EFORMAT, AT "vocab_size: missing"},
        {"{'vocab_size':1}", OCTAVO_EFORMAT, AT "vocab_size: 1 is not in 2 to 4194304"},
        {"{'hidden_size':null}", OCTAVO_EFORMAT, AT "hidden_size: missing"},
        {"{'hidden_size':0}", OCTAVO_EFORMAT, AT "hidden_size: 0 is not in 1 to 262144"},
        {"{'hidden_size':-160}", OCTAVO_EFORMAT, AT "hidden_size: -160 is not in"},
        {"{'hidden_size':160.0}", OCTAVO_EFORMAT, AT "hidden_size: not an integer"},
        {"{'hidden_size':'160'}", OCTAVO_EFORMAT, AT "hidden_size: not an integer"},
        {"{'hidden_size':9223372036854775807}", OCTAVO_EFORMAT, AT "hidden_size: 9223372036854775807 is not in"},
        {"{'num_hidden_layers':0}", OCTAVO_EFORMAT, AT "num_hidden_layers: 0 is not in 1 to 4096"},
        {"{'num_hidden_layers':4097}", OCTAVO_EFORMAT, AT "num_hidden_layers: 4097 is not in"},
        {"{'num_nextn_predict_layers':17}", OCTAVO_EFORMAT, AT "num_nextn_predict_layers: 17 is not in 0 to 16"},
        {"{'num_attention_heads':0}", OCTAVO_EFORMAT, AT "num_attention_heads: 0 is not in"},
        {"{'num_key_value_heads':1}", OCTAVO_ENOTSUP, AT "num_key_value_heads: 1 differs from num_attention_heads"},
        {"{'q_lora_rank':0}", OCTAVO_EFORMAT, AT "q_lora_rank: 0 is not in"},
        {"{'kv_lora_rank':0}", OCTAVO_EFORMAT, AT "kv_lora_rank: 0 is not in"},
        {"{'qk_nope_head_dim':0}", OCTAVO_EFORMAT, AT "qk_nope_head_dim: 0 is not in"},
        {"{'qk_rope_head_dim':33}", OCTAVO_EFORMAT, AT "qk_rope_head_dim: 33 is odd"},
        {"{'v_head_dim':0}", OCTAVO_EFORMAT, AT "v_head_dim: 0 is not in"},
        {"{'intermediate_size':'(absent)'}", OCTAVO_EFORMAT, AT "intermediate_size: missing"},
        {"{'first_k_dense_replace':0,'intermediate_size':'(absent)'}", OCTAVO_OK, NULL},
        {"{'max_position_embeddings':0}", OCTAVO_EFORMAT, AT "max_position_embeddings: 0 is not in"},
        {"{'rms_norm_eps':0}", OCTAVO_EFORMAT, AT "rms_norm_eps: 0 is not in 1e-12 to 0.01"},
        {"{'rms_norm_eps':'small'}", OCTAVO_EFORMAT, AT "rms_norm_eps: not a number"},
        {"{'tie_word_embeddings':1}", OCTAVO_EFORMAT, AT "tie_word_embeddings: neither true nor false"},
        /* variants */
        {"{'hidden_act':'gelu'}", OCTAVO_ENOTSUP, AT "hidden_act: gelu is not supported, only silu is"},
        {"{'attention_bias':true}", OCTAVO_ENOTSUP, AT "attention_bias: projections with a bias"},
        {"{'rope_interleave':false}", OCTAVO_ENOTSUP, AT "rope_interleave: only adjacent pairs"},
        {"{'partial_rotary_factor':0.5}", OCTAVO_ENOTSUP, AT "partial_rotary_factor: 0.5 is not supported, only 1 is"},
        /* experts */
        {"{'n_routed_experts':'(absent)'}", OCTAVO_EFORMAT, AT "n_routed_experts: missing"},
        {"{'n_routed_experts':null}", OCTAVO_OK, NULL},
        {"{'n_routed_experts':1025}", OCTAVO_EFORMAT, AT "n_routed_experts: 1025 is not in 1 to 1024"},
        {"{'moe_intermediate_size':'(absent)'}", OCTAVO_EFORMAT, AT "moe_intermediate_size: missing"},
        {"{'num_experts_per_tok':0}", OCTAVO_EFORMAT, AT "num_experts_per_tok: 0 is not in 1 to 8"},
        {"{'num_experts_per_tok':5}", OCTAVO_EFORMAT,
         AT "num_experts_per_tok: 5 is more than the 4 in topk_group groups"},
        {"{'n_group':3}", OCTAVO_EFORMAT, AT "n_group: 3 does not divide n_routed_experts 8"},
        {"{'n_group':8}", OCTAVO_EFORMAT, AT "n_group: groups of 1 expert"},
        {"{'n_group':'(absent)'}", OCTAVO_EFORMAT, AT "n_group: missing"},
        {"{'topk_group':5}", OCTAVO_EFORMAT, AT "topk_group: 5 is more than n_group 4"},
        {"{'topk_group':0}", OCTAVO_EFORMAT, AT "topk_group: 0 is not in"},
        {"{'moe_layer_freq':0}", OCTAVO_EFORMAT, AT "moe_layer_freq: 0 is not in"},
        {"{'first_k_dense_replace':4}", OCTAVO_EFORMAT, AT "first_k_dense_replace: 4 is not in 0 to 3"},
        {"{'first_k_dense_replace':'(absent)'}", OCTAVO_EFORMAT, AT "first_k_dense_replace: missing"},
        {"{'routed_scaling_factor':'(absent)'}", OCTAVO_EFORMAT, AT "routed_scaling_factor: missing"},
        {"{'routed_scaling_factor':-1}", OCTAVO_EFORMAT, AT "routed_scaling_factor: -1 is not in"},
        {"{'topk_method':'best'}", OCTAVO_ENOTSUP, AT "topk_method: best is not supported"},
        {"{'scoring_func':'relu'}", OCTAVO_ENOTSUP, AT "scoring_func: relu is not supported"},
        {"{'scoring_func':'softmax'}", OCTAVO_ENOTSUP, AT "scoring_func: softmax with topk_method noaux_tc"},
        {"{'scoring_func':'softmax','topk_method':'greedy','norm_topk_prob':false}", OCTAVO_OK, NULL},
        {"{'scoring_func':'softmax','topk_method':'greedy'}", OCTAVO_ENOTSUP, AT "norm_topk_prob: true with"},
        {"{'mlp_layer_types':['dense','sparse']}", OCTAVO_EFORMAT,
         AT "mlp_layer_types: not an array of num_hidden_layers"},
        {"{'mlp_layer_types':['dense','sparse','dense']}", OCTAVO_ENOTSUP, AT "mlp_layer_types: only \"dense\" layers"},
        /* rotary positions */
        {"{'rope_theta':1}", OCTAVO_EFORMAT, AT "rope_theta: 1 is not in 2 to"},
        {"{'rope_scaling':7}", OCTAVO_EFORMAT, AT "rope_scaling: not an object"},
        {"{'rope_parameters':{}}", OCTAVO_EFORMAT, AT "rope_parameters: given beside rope_scaling"},
        {"{'rope_scaling':{'type':'linear'}}", OCTAVO_ENOTSUP, AT "rope_scaling.type: linear is not supported"},
        {"{'rope_scaling':{'rope_type':'linear'}}", OCTAVO_EFORMAT,
         AT "rope_scaling.rope_type: linear, but type is yarn"},
        {"{'rope_scaling':{'rope_type':'yarn'}}", OCTAVO_OK, NULL},
        {"{'rope_scaling':{'attention_factor':1.2}}", OCTAVO_ENOTSUP, AT "rope_scaling.attention_factor: not a field"},
        {"{'rope_scaling':{'truncate':false}}", OCTAVO_ENOTSUP, AT "rope_scaling.truncate: not a field"},
        {"{'rope_scaling':{'llama_4_scaling':{}}}", OCTAVO_ENOTSUP, AT "rope_scaling.llama_4_scaling: not a field"},
        {"{'rope_scaling':{'attention_factor':null}}", OCTAVO_OK, NULL},
        {"{'rope_scaling':{'factor':0.5}}", OCTAVO_EFORMAT, AT "rope_scaling.factor: 0.5 is not in 1 to"},
        {"{'rope_scaling':{'factor':'(absent)'}}", OCTAVO_EFORMAT, AT "rope_scaling.factor: missing"},
        {"{'rope_scaling':{'original_max_position_embeddings':'(absent)'}}", OCTAVO_EFORMAT,
         AT "rope_scaling.original_max_position_embeddings: missing"},
        {"{'rope_scaling':{'beta_slow':64}}", OCTAVO_EFORMAT,
         AT "rope_scaling.beta_fast: 32 is less than beta_slow 64"},
        {"{'rope_scaling':{'mscale_all_dim':'(absent)'}}", OCTAVO_ENOTSUP, AT "rope_scaling.mscale: without"},
        {"{'rope_scaling':{'mscale':'(absent)','mscale_all_dim':'(absent)'}}", OCTAVO_OK, NULL},
        {"{'rope_scaling':{'type':'(absent)'}}", OCTAVO_ENOTSUP, AT "rope_scaling.factor: not a field"},
        {"{'rope_scaling':{'type':'default'}}", OCTAVO_ENOTSUP, AT "rope_scaling.factor: not a field"},
        {"{'rope_scaling':null,'rope_parameters':{'rope_type':'llama3'}}", OCTAVO_ENOTSUP,
         AT "rope_parameters.rope_type: llama3 is not supported"},
        /* quantisation */
        {"{'quantization_config':[]}", OCTAVO_EFORMAT, AT "quantization_config: not an object"},
        {"{'quantization_config':null}", OCTAVO_OK, NULL},
        {"{'quantization_config':{'quant_method':'compressed-tensors'}}", OCTAVO_ENOTSUP,
         AT "quantization_config.quant_method: compressed-tensors is not supported"},
        {"{'quantization_config':{'weight_block_size':[64,128]}}", OCTAVO_ENOTSUP,
         AT "quantization_config.weight_block_size: only [128, 128] is supported"},
        {"{'quantization_config':{'weight_block_size':'(absent)'}}", OCTAVO_ENOTSUP,
         AT "quantization_config.weight_block_size: only [128, 128] is supported"},
        {"{'quantization_config':{'activation_scheme':'static'}}", OCTAVO_ENOTSUP,
         AT "quantization_config.activation_scheme: static is not supported"},
        {"{'quantization_config':{'fmt':'int8'}}", OCTAVO_ENOTSUP, AT "quantization_config.fmt: int8 is not supported"},
        {"{'quantization_config':{'scale_fmt':'e5m3'}}", OCTAVO_ENOTSUP,
         AT "quantization_config.scale_fmt: e5m3 is not"},
        {"{'quantization_config':{'scale_fmt':'ue8m0'}}", OCTAVO_OK, NULL},
        {"{'compression_config':{}}", OCTAVO_ENOTSUP, AT "compression_config: compressed tensors are not supported"},
        /* special tokens */
        {"{'eos_token_id':-1}", OCTAVO_EFORMAT, AT "eos_token_id: not a token id below vocab_size 300"},
        {"{'eos_token_id':[1,'x']}", OCTAVO_EFORMAT, AT "eos_token_id: not a token id below vocab_size 300"},
        {"{'eos_token_id':[1,2,3,4,5,6,7,8,9]}", OCTAVO_ELIMIT, AT "eos_token_id: more than 8 tokens"},
        {"{'eos_token_id':[1,1,1,1,1,1,1,1,1]}", OCTAVO_OK, NULL},
};

/* Of the dense model above. */
static const struct bent_case bent_dense[] = {
        {"{'model_type':'mistral'}", OCTAVO_OK, NULL},
        {"{'model_type':'mistral','num_key_value_heads':'(absent)'}", OCTAVO_EFORMAT, AT "num_key_value_heads: missing"},
        {"{'model_type':'qwen3','head_dim':'(absent)'}", OCTAVO_EFORMAT, AT "head_dim: missing"},
        {"{'num_key_value_heads':'(absent)'}", OCTAVO_OK, NULL},
        {"{'num_key_value_heads':0}", OCTAVO_EFORMAT, AT "num_key_value_heads: 0 is not in"},
        {"{'num_key_value_heads':5}", OCTAVO_EFORMAT, AT "num_key_value_heads: 5 does not divide num_attention_heads 32"},
        {"{'num_key_value_heads':64}", OCTAVO_EFORMAT, AT "num_key_value_heads: 64 does not divide"},
        {"{'head_dim':null}", OCTAVO_OK, NULL},
        {"{'head_dim':63}", OCTAVO_EFORMAT, AT "head_dim: heads of 63 values"},
        {"{'head_dim':4097}", OCTAVO_EFORMAT, AT "head_dim: 4097 is not in 2 to 4096"},
        {"{'head_dim':null,'hidden_size':2080}", OCTAVO_EFORMAT, AT "num_attention_heads: heads of 65 values"},
        {"{'head_dim':null,'hidden_size':2050}", OCTAVO_EFORMAT,
         AT "num_attention_heads: 32 does not divide hidden_size 2050"},
        {"{'intermediate_size':'(absent)'}", OCTAVO_EFORMAT, AT "intermediate_size: missing"},
        {"{'hidden_act':'gelu'}", OCTAVO_ENOTSUP, AT "hidden_act: gelu is not supported"},
        {"{'attention_bias':true}", OCTAVO_ENOTSUP, AT "attention_bias: projections with a bias"},
        {"{'mlp_bias':true}", OCTAVO_ENOTSUP, AT "mlp_bias: projections with a bias"},
        {"{'rope_interleave':true}", OCTAVO_ENOTSUP, AT "rope_interleave: only halves"},
        {"{'partial_rotary_factor':0.5}", OCTAVO_ENOTSUP, AT "partial_rotary_factor: 0.5 is not supported"},
        {"{'num_nextn_predict_layers':1}", OCTAVO_ENOTSUP, AT "num_nextn_predict_layers: 1; dense models"},
        {"{'sliding_window':4096}", OCTAVO_ENOTSUP, AT "sliding_window: 4096 tokens of max_position_embeddings 131072"},
        {"{'sliding_window':131072}", OCTAVO_OK, NULL},
        {"{'sliding_window':null}", OCTAVO_OK, NULL},
        {"{'model_type':'qwen2','sliding_window':4096}", OCTAVO_OK, NULL},
        {"{'model_type':'qwen2','sliding_window':4096,'use_sliding_window':true}", OCTAVO_ENOTSUP,
         AT "sliding_window: 4096 tokens"},
        {"{'layer_types':['full_attention','full_attention']}", OCTAVO_OK, NULL},
        {"{'layer_types':['full_attention','sliding_attention']}", OCTAVO_ENOTSUP, AT "layer_types: layer 1: only"},
        {"{'rope_scaling':null}", OCTAVO_OK, NULL},
        {"{'rope_scaling':{'rope_type':'yarn'}}", OCTAVO_ENOTSUP,
         AT "rope_scaling.rope_type: yarn is not supported, only llama3 is"},
        {"{'rope_scaling':{'rope_type':'dynamic'}}", OCTAVO_ENOTSUP, AT "rope_scaling.rope_type: dynamic is not"},
        {"{'rope_scaling':{'factor':'(absent)'}}", OCTAVO_EFORMAT, AT "rope_scaling.factor: missing"},
        {"{'rope_scaling':{'low_freq_factor':'(absent)'}}", OCTAVO_EFORMAT, AT "rope_scaling.low_freq_factor: missing"},
        {"{'rope_scaling':{'high_freq_factor':1}}", OCTAVO_EFORMAT,
         AT "rope_scaling.high_freq_factor: 1 is not more than low_freq_factor 1"},
        {"{'rope_scaling':{'original_max_position_embeddings':'(absent)'}}", OCTAVO_EFORMAT,
         AT "rope_scaling.original_max_position_embeddings: missing"},
        {"{'rope_scaling':{'attention_factor':1.2}}", OCTAVO_ENOTSUP, AT "rope_scaling.attention_factor: not a field"},
        {"{'quantization_config':{'quant_method':'awq'}}", OCTAVO_ENOTSUP, AT "quantization_config.quant_method: awq"},
};

/* Single quotes spare the table above its backslashes. */
static json_t *parse(const char *patch)
{
	char text[512];
	snprintf(text, sizeof text, "%s", patch);
	for (char *p = text; (p = strchr(p, '\''));)
		*p = '"';
	json_t *json = json_loads(text, 0, NULL);
	assert_non_null(json);
	return json;
}

static void merge(json_t *into, json_t *patch)
{
	const char *key;
	json_t *value;
	json_object_foreach (patch, key, value) {
		json_t *old = json_object_get(into, key);
		if (json_is_string(value) && strcmp(json_string_value(value), "(absent)") == 0)
			json_object_del(into, key);
		else if (json_is_object(value) && json_is_object(old))
			merge(old, value);
		else
			json_object_set(into, key, value);
	}
}

static void check_bent(const struct bent_case *c, json_t *json)
{
	struct octavo_config config;
	struct octavo_error error = {"no message"};
	json_t *patch = parse(c->patch);
	merge(json, patch);
	char *text = json_dumps(json, 0);
	write_text("config.json", text);
	write_text("generation_config.json", "{}");
	enum octavo_status status = octavo_config_load(&config, dir, &error);
	free(text);
	json_decref(patch);
	json_decref(json);
	if (status != c->status)
		print_error("%s\n", error.text);
	assert_int_equal(status, c->status);
	if (status != OCTAVO_OK)
		assert_ptr_equal(strstr(error.text, c->text), error.text);
}

static void test_bent(void **state)
{
	check_bent(*state, ckpt_config(&(struct ckpt_options){0}));
}

static void test_bent_dense(void **state)
{
	check_bent(*state, json_loads(llama, 0, NULL));
}

static void expect_files(const char *config, const char *generation, const char *text)
{
	struct octavo_config c;
	struct octavo_error error = {"no message"};
	write_text("config.json", config);
	write_text("generation_config.json", generation);
	assert_int_equal(octavo_config_load(&c, dir, &error), OCTAVO_EFORMAT);
	if (strncmp(error.text, text, strlen(text)) != 0)
		print_error("%s\n", error.text);
	assert_memory_equal(error.text, text, strlen(text));
}

static void test_files(void **state)
{
	(void)state;
	expect_files("", "{}", "config.json: line 1: ");
	expect_files("[]", "{}", "config.json: not a JSON object");
	expect_files("version https://git-lfs.github.com/spec/v1\n", "{}", "config.json: a pointer of Git LFS");
	expect_files("{\"a\":1,\n\"a\":2}", "{}", "config.json: line 2: duplicate object key");
	expect_files("{\"rms_norm_eps\":NaN}", "{}", "config.json: line 1: invalid token");
	expect_files(v3, "{", "generation_config.json: line 1: ");
	expect_files(v3, "{\"eos_token_id\":129280}", "generation_config.json: eos_token_id: not a token id below");
	expect_files(v3, "{\"temperature\":-1}", "generation_config.json: temperature: -1 is not in 0 to 100");
	expect_files(v3, "{\"top_p\":1.5}", "generation_config.json: top_p: 1.5 is not in 0 to 1");

	struct octavo_config c;
	struct octavo_error error;
	char missing[PATH_MAX];
	snprintf(missing, sizeof missing, "%s/gone", dir);
	assert_int_equal(octavo_config_load(&c, missing, &error), OCTAVO_EIO);
	assert_non_null(strstr(error.text, "/gone/config.json: cannot open: "));
}

static int make_dir(void **state)
{
	(void)state;
	dir = ckpt_dir_new();
	return 0;
}

static int drop_dir(void **state)
{
	(void)state;
	ckpt_dir_free(dir);
	return 0;
}

int main(void)
{
	enum { COUNT = sizeof bent / sizeof *bent };
	struct CMUnitTest bends[COUNT];
	for (size_t i = 0; i < COUNT; i++)
		bends[i] = (struct CMUnitTest){bent[i].patch, test_bent, NULL, NULL, (void *)&bent[i]};
	enum { DENSE_COUNT = sizeof bent_dense / sizeof *bent_dense };
	struct CMUnitTest dense_bends[DENSE_COUNT];
	for (size_t i = 0; i < DENSE_COUNT; i++)
		dense_bends[i] =
		        (struct CMUnitTest){bent_dense[i].patch, test_bent_dense, NULL, NULL, (void *)&bent_dense[i]};
	const struct CMUnitTest models[] = {
	        cmocka_unit_test(test_v3),      cmocka_unit_test(test_moonlight),
	        cmocka_unit_test(test_v2_lite), cmocka_unit_test(test_newer_spelling),
	        cmocka_unit_test(test_files),   cmocka_unit_test(test_llama),
	};
	return cmocka_run_group_tests_name("models", models, make_dir, drop_dir) +
	       cmocka_run_group_tests_name("bent configs", bends, make_dir, drop_dir) +
	       cmocka_run_group_tests_name("bent dense configs", dense_bends, make_dir, drop_dir);
}
