/* SPDX-License-Identifier: Apache-2.0
 *
 * Loading: a Hugging Face directory becomes a config, a set of mapped tensors and bound weights.
 * Every failure names the file, the field or tensor, and the reason.
 */
#ifndef OCTAVO_LOAD_H
#define OCTAVO_LOAD_H

#include "octavo_kernels.h"

/* ---- checkpoint.c: *.safetensors with or without an index, mapped or copied, read-only -------------- */

enum { OCTAVO_MAX_RANK = 8 };

struct octavo_tensor {
	const char *name;
	const char *file;      /* base name */
	const char *dtype_name; /* as the file spells it */
	enum octavo_dtype dtype; /* NONE for dtypes that weights never have (I64, BOOL, …) */
	size_t rank, shape[OCTAVO_MAX_RANK];
	const void *data; /* in the mapping or copy; any alignment */
	size_t bytes;
};

struct octavo_checkpoint;
struct octavo_copy; /* copy.h; NULL: the files are mapped */
enum octavo_status octavo_checkpoint_open(struct octavo_checkpoint **out, const char *dir,
                                          const struct octavo_copy *copy, struct octavo_error *error);
void octavo_checkpoint_close(struct octavo_checkpoint **checkpoint);
/* NULL if there is no such tensor.  Marks it as used, for octavo_checkpoint_unused. */
const struct octavo_tensor *octavo_checkpoint_find(struct octavo_checkpoint *checkpoint, const char *name);
/* Number of tensors, and the i-th of them (sorted by name). */
size_t octavo_checkpoint_count(const struct octavo_checkpoint *checkpoint);
const struct octavo_tensor *octavo_checkpoint_at(const struct octavo_checkpoint *checkpoint, size_t i);
/* The next tensor, from *i on, that was never found and is on no allow-list; NULL at the end. */
const struct octavo_tensor *octavo_checkpoint_unused(const struct octavo_checkpoint *checkpoint, size_t *i);
size_t octavo_checkpoint_bytes(const struct octavo_checkpoint *checkpoint); /* of all tensors */

/* ---- config.c: config.json and generation_config.json -------------------------------------------- */

enum { OCTAVO_MAX_EOS = 8 };

struct octavo_config {
	char architecture[32]; /* model_type */
	size_t vocab, hidden, layers, mtp_layers, heads;
	int tied_head;         /* tie_word_embeddings: the embedding serves as lm_head, which is not there or a copy */
	size_t q_lora, kv_lora, nope, rope, v_dim; /* q_lora 0: a single q_proj */
	/* Grouped-query attention of dense models: heads of keys and values, a divisor of heads; 0: MLA.  A head then has v_dim
	 * values in queries, keys and values alike, all of them rotated in halves: rope is v_dim; nope and the loras are 0. */
	size_t kv_heads;
	int qkv_bias, qk_norm; /* of Qwen 2, of Qwen 3 */
	size_t dense_width, expert_width;
	size_t experts, shared_experts, top_k, groups, top_groups; /* experts 0: dense */
	size_t first_dense, moe_every;
	enum octavo_topk_method topk_method;
	enum octavo_scoring scoring;
	int normalise;
	float routed_factor;
	float norm_eps;        /* rms_norm_eps */
	float latent_norm_eps; /* of q_a_layernorm and kv_a_layernorm: 1e-6, as Hugging Face's class default */
	size_t max_position;
	double rope_theta;
	int yarn;
	double yarn_factor, yarn_beta_fast, yarn_beta_slow, yarn_mscale, yarn_mscale_all_dim;
	size_t yarn_original;
	int llama3;            /* the stretching of Llama 3.1 */
	double llama3_factor, llama3_low, llama3_high;
	size_t llama3_original;
	enum octavo_scale_rule activation_scale; /* E8M0 with scale_fmt "ue8m0" */
	int32_t eos[OCTAVO_MAX_EOS];
	size_t eos_count;
	/* What generation_config.json recommends; temperature negative, the others 0 where it says nothing */
	float temperature, top_p, min_p, repetition;
	size_t sample_top_k;
};
enum octavo_status octavo_config_load(struct octavo_config *config, const char *dir, struct octavo_error *error);
/* Whether main or MTP layer `layer` is a mixture of experts. */
int octavo_config_is_moe(const struct octavo_config *config, size_t layer);

/* ---- weights.c: tensors bound to the roles they play, shapes and dtypes checked ------------------- */

struct octavo_layer {
	float *input_norm, *post_norm; /* [hidden]; input_norm may be NULL in a drafter's layer: none */
	struct octavo_matrix q;        /* [heads * (nope + rope)][hidden], if q_lora == 0 */
	/* MLA */
	struct octavo_matrix q_a;      /* [q_lora][hidden] */
	struct octavo_matrix q_b;      /* [heads * (nope + rope)][q_lora] */
	float *q_norm;                 /* [q_lora] */
	struct octavo_matrix kv_a;     /* [kv_lora + rope][hidden] */
	float *kv_norm;                /* [kv_lora] */
	struct octavo_matrix kv_b;     /* [heads * (nope + v_dim)][kv_lora] */
	/* Grouped-query attention */
	struct octavo_matrix k, v;     /* [kv_heads * v_dim][hidden] */
	float *q_bias, *k_bias, *v_bias; /* [rows of q, k, v], or NULL */
	float *q_head_norm, *k_head_norm; /* [v_dim] of every head before it is rotated, or NULL */
	struct octavo_matrix o;        /* [hidden][heads * v_dim] */
	int moe;
	struct octavo_mlp dense;       /* if not moe: [dense_width][hidden] twice, [hidden][dense_width] */
	struct octavo_matrix router;   /* [experts][hidden] */
	float *router_bias;            /* [experts] or NULL */
	struct octavo_mlp *expert;     /* [experts] */
	struct octavo_mlp shared;      /* width shared_experts * expert_width; data NULL if none */
};

/* A module that goes on from a hidden state and the next token: DeepSeek's, or EAGLE's head, which has no norms of its own
 * but in the layer. */
struct octavo_mtp {
	float *enorm, *hnorm;        /* [hidden]; NULL: none */
	struct octavo_matrix eh_proj; /* [hidden][2 * hidden]: embedding first, then hidden state */
	float *bias;                 /* [hidden] added to what eh_proj gives; NULL: none */
	struct octavo_layer layer;
	float *head_norm;            /* [hidden], shared_head.norm; NULL: none */
};

struct octavo_weights {
	struct octavo_matrix embed; /* [vocab][hidden] */
	struct octavo_matrix head;  /* [vocab][hidden]; the embedding where tie_word_embeddings */
	float *final_norm;          /* [hidden] */
	struct octavo_layer *layer; /* [layers] */
	struct octavo_mtp *mtp;     /* [mtp_layers] */
	size_t parameters;        /* of the main model's matrices, MTP modules left out */
	size_t active_parameters; /* of those, what one token meets; without the embedding table */
	void *arena;                /* norms and arrays above; the matrices lie in the checkpoint's mapping */
};
/* EFORMAT names the tensor that is missing, unexpected or of the wrong shape or dtype.  All scales are
 * checked (octavo_matrix_check).  config->mtp_layers becomes the number of MTP modules that are there: the last ones
 * may be missing altogether. */
enum octavo_status octavo_weights_bind(struct octavo_weights *weights, struct octavo_config *config,
                                       struct octavo_checkpoint *checkpoint, struct octavo_error *error);
void octavo_weights_release(struct octavo_weights *weights);

#endif
