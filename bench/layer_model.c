/* SPDX-License-Identifier: Apache-2.0
 *
 * A checkpoint of one decoder layer, for the engine to open like any other: config.json and tokenizer.json in a
 * directory of their own, and the weights in a file that exists in memory only, where a link leads to.  So the engine
 * maps a file, as it does with a real checkpoint, nothing is written to a disk, and whatever ends this process frees
 * the memory.
 *
 * The codes are random.  The scales keep all sums near 1, so that what attention adds to the residual stream does not
 * reach the experts' choice: in dimension e an embedding has CHOSEN if its token is to choose expert e and -CHOSEN
 * otherwise, and the router's row e looks at dimension e alone.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "bench/kernel_ops.h"
#include "bench/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const float CHOSEN = 8;
/* The root of the mean square of all E4M3 codes without NaN. */
static const float CODES_RMS = 100;
/* Buffers of the engine and of this program beside the weights. */
static const size_t BESIDE = (size_t)512 << 20;

enum content { CODES, SCALES, ONES, ZEROS, EMBEDDING, ROUTER };

struct tensor {
	char name[96];
	const char *dtype;
	size_t shape[2], rank, bytes, at;
	enum content content;
	float scale; /* of SCALES */
};

struct table {
	struct tensor *tensor;
	size_t count, bytes;
	bool failed;
};

/* ---- The list of tensors --------------------------------------------------------------------------------------- */

/* cols 0: a vector. */
static struct tensor *add(struct table *t, enum content content, size_t rows, size_t cols, const char *name)
{
	static const struct {
		const char *dtype;
		size_t size;
	} type[] = {
	        [CODES] = {"F8_E4M3", 1}, [SCALES] = {"F32", 4},     [ONES] = {"BF16", 2},
	        [ZEROS] = {"F32", 4},     [EMBEDDING] = {"BF16", 2}, [ROUTER] = {"BF16", 2},
	};
	struct tensor *grown = realloc(t->tensor, (t->count + 1) * sizeof *grown);
	if (!grown) {
		t->failed = true;
		return NULL;
	}
	t->tensor = grown;
	struct tensor *tensor = &grown[t->count++];
	*tensor = (struct tensor){.dtype = type[content].dtype,
	                          .shape = {rows, cols},
	                          .rank = cols ? 2 : 1,
	                          .bytes = rows * (cols ? cols : 1) * type[content].size,
	                          .at = t->bytes,
	                          .content = content};
	snprintf(tensor->name, sizeof tensor->name, "%s", name);
	t->bytes += tensor->bytes;
	return tensor;
}

/* An FP8 matrix and its scales; its bytes. */
static size_t add_matrix(struct table *t, size_t rows, size_t cols, const char *stem, const char *part)
{
	char name[96];
	size_t before = t->bytes;
	snprintf(name, sizeof name, "model.layers.0.%s%s.weight", stem, part);
	add(t, CODES, rows, cols, name);
	snprintf(name, sizeof name, "model.layers.0.%s%s.weight_scale_inv", stem, part);
	struct tensor *scales = add(t, SCALES, blocks_of(rows), blocks_of(cols), name);
	if (scales)
		scales->scale = 1.0f / (CODES_RMS * __builtin_sqrtf((float)cols));
	return t->bytes - before;
}

static size_t add_expert(struct table *t, const char *stem)
{
	return add_matrix(t, V3_EXPERT_WIDTH, V3_HIDDEN, stem, ".gate_proj") +
	       add_matrix(t, V3_EXPERT_WIDTH, V3_HIDDEN, stem, ".up_proj") +
	       add_matrix(t, V3_HIDDEN, V3_EXPERT_WIDTH, stem, ".down_proj");
}

static size_t add_attention(struct table *t)
{
	size_t q = V3_HEADS * (V3_NOPE + V3_ROPE), kv = V3_HEADS * (V3_NOPE + V3_V_DIM);
	return add_matrix(t, V3_Q_LORA, V3_HIDDEN, "self_attn", ".q_a_proj") +
	       add_matrix(t, q, V3_Q_LORA, "self_attn", ".q_b_proj") +
	       add_matrix(t, V3_KV_LORA + V3_ROPE, V3_HIDDEN, "self_attn", ".kv_a_proj_with_mqa") +
	       add_matrix(t, kv, V3_KV_LORA, "self_attn", ".kv_b_proj") +
	       add_matrix(t, V3_HIDDEN, V3_HEADS * V3_V_DIM, "self_attn", ".o_proj");
}

static void list_tensors(struct layer_model *m, struct table *t, const struct layer_plan *plan, size_t vocab)
{
	add(t, EMBEDDING, vocab, V3_HIDDEN, "model.embed_tokens.weight"); /* also the head, which no row here wants */
	add(t, ONES, V3_HIDDEN, 0, "model.norm.weight");
	add(t, ONES, V3_HIDDEN, 0, "model.layers.0.input_layernorm.weight");
	add(t, ONES, V3_Q_LORA, 0, "model.layers.0.self_attn.q_a_layernorm.weight");
	add(t, ONES, V3_KV_LORA, 0, "model.layers.0.self_attn.kv_a_layernorm.weight");
	add(t, ONES, V3_HIDDEN, 0, "model.layers.0.post_attention_layernorm.weight");
	struct tensor *router = add(t, ROUTER, plan->experts, V3_HIDDEN, "model.layers.0.mlp.gate.weight");
	m->router_bytes = router ? router->bytes : 0;
	add(t, ZEROS, plan->experts, 0, "model.layers.0.mlp.gate.e_score_correction_bias");
	m->attention_bytes = add_attention(t);
	m->expert_bytes = add_expert(t, "mlp.shared_experts");
	for (size_t i = 0; i < plan->experts; i++) {
		char stem[48];
		snprintf(stem, sizeof stem, "mlp.experts.%zu", i);
		add_expert(t, stem);
	}
}

/* The header of a safetensors file, padded to whole eight bytes as published files are; NULL if memory ran out. */
static char *header_text(const struct table *t, size_t *length)
{
	json_t *header = json_object();
	for (size_t i = 0; i < t->count; i++) {
		const struct tensor *x = &t->tensor[i];
		json_t *shape =
		        json_pack(x->rank == 2 ? "[I, I]" : "[I]", (json_int_t)x->shape[0], (json_int_t)x->shape[1]);
		json_object_set_new(header, x->name,
		                    json_pack("{s:s, s:o, s:[I, I]}", "dtype", x->dtype, "shape", shape, "data_offsets",
		                              (json_int_t)x->at, (json_int_t)(x->at + x->bytes)));
	}
	char *text = json_object_size(header) == t->count ? json_dumps(header, JSON_COMPACT) : NULL;
	json_decref(header);
	size_t used = text ? strlen(text) : 0;
	char *padded = text ? realloc(text, used + 8) : NULL;
	if (!padded) {
		free(text);
		return NULL;
	}
	*length = (used + 7) / 8 * 8;
	memset(padded + used, ' ', *length - used);
	return padded;
}

/* ---- Contents
 * -------------------------------------------------------------------------------------------------------- */

/* [vocab][V3_HIDDEN]; tokens behind the last one stay 0. */
static void fill_embedding(uint16_t *to, const struct layer_plan *plan, const struct layer_routes *routes,
                           const struct octavo_parallel *parallel)
{
	fill_random(to, routes->tokens * V3_HIDDEN * sizeof *to, FILL_BF16, parallel);
	for (size_t token = 0; token < routes->tokens; token++) {
		uint16_t *row = to + token * V3_HIDDEN;
		for (size_t e = 0; e < plan->experts; e++)
			row[e] = octavo_bf16_encode(-CHOSEN);
		for (size_t i = 0; i < V3_TOP_K; i++)
			row[routes->expert[token][i]] = octavo_bf16_encode(CHOSEN);
	}
}

static void fill_tensor(const struct tensor *x, unsigned char *to, const struct layer_plan *plan,
                        const struct layer_routes *routes, const struct octavo_parallel *parallel)
{
	float *f = (float *)(void *)to;
	uint16_t *h = (uint16_t *)(void *)to;
	switch (x->content) {
	case CODES:
		fill_random(to, x->bytes, FILL_E4M3, parallel);
		break;
	case SCALES:
		for (size_t i = 0; i < x->bytes / sizeof *f; i++)
			f[i] = x->scale;
		break;
	case ONES:
		for (size_t i = 0; i < x->bytes / sizeof *h; i++)
			h[i] = octavo_bf16_encode(1);
		break;
	case ROUTER:
		for (size_t e = 0; e < x->shape[0]; e++)
			h[e * V3_HIDDEN + e] = octavo_bf16_encode(1);
		break;
	case EMBEDDING:
		fill_embedding(h, plan, routes, parallel);
		break;
	case ZEROS: /* as the file is where nothing was written */
		break;
	}
}

/* ---- The weights' file ---------------------------------------------------------------------------------------------
 */

static bool has_room(const struct layer_plan *plan, const struct layer_model *m)
{
	size_t needed = m->bytes + BESIDE, available = machine_available();
	if (!available || needed <= available)
		return true;
	size_t fixed = needed - plan->experts * m->expert_bytes;
	size_t fit = available > fixed ? (available - fixed) / m->expert_bytes / V3_TOP_K * V3_TOP_K : 0;
	char advice[64] = "";
	if (fit >= 2 * V3_TOP_K)
		snprintf(advice, sizeof advice, "; there is room for %zu experts (--experts)", fit);
	complain("layer: %zu experts and the rest of the layer need %.1f GB of memory, %.1f GB are available%s",
	         plan->experts, (double)needed * 1e-9, (double)available * 1e-9, advice);
	return false;
}

/* Reserved as a whole: so it is refused here rather than missed while it is filled. */
static bool make_file(struct layer_model *m)
{
	m->fd = memfd_create("specbench-layer", MFD_CLOEXEC);
	int why = m->fd < 0 ? errno : posix_fallocate(m->fd, 0, (off_t)m->bytes);
	if (!why) {
		void *map = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
		if (map != MAP_FAILED) {
			m->map = map;
			return true;
		}
		why = errno;
	}
	complain("layer: cannot get %.1f GB of memory for the weights: %s", (double)m->bytes * 1e-9, strerror(why));
	return false;
}

static bool make_weights(struct layer_model *m, const struct layer_plan *plan, const struct layer_routes *routes,
                         const struct octavo_parallel *parallel, size_t vocab)
{
	struct table t = {0};
	size_t length = 0;
	list_tensors(m, &t, plan, vocab);
	char *header = t.failed ? NULL : header_text(&t, &length);
	bool good = header != NULL;
	m->bytes = 8 + length + t.bytes;
	if (!good)
		complain("layer: out of memory");
	good = good && has_room(plan, m) && make_file(m);
	for (size_t i = 0; good && i < 8; i++)
		m->map[i] = (unsigned char)(length >> 8 * i);
	if (good)
		memcpy(m->map + 8, header, length);
	for (size_t i = 0; good && i < t.count; i++) {
		progress("making the weights", i, t.count);
		fill_tensor(&t.tensor[i], m->map + 8 + length + t.tensor[i].at, plan, routes, parallel);
	}
	progress_clear();
	free(header);
	free(t.tensor);
	return good;
}

/* ---- The directory
 * --------------------------------------------------------------------------------------------------- */

static json_t *config(const struct layer_plan *plan, size_t vocab)
{
	json_t *rope = json_pack("{s:s, s:i, s:i, s:i, s:f, s:f, s:i}", "type", "yarn", "factor", 40, "beta_fast", 32,
	                         "beta_slow", 1, "mscale", 1.0, "mscale_all_dim", 1.0,
	                         "original_max_position_embeddings", 4096);
	json_t *quantisation =
	        json_pack("{s:s, s:s, s:s, s:[i, i]}", "quant_method", "fp8", "fmt", "e4m3", "activation_scheme",
	                  "dynamic", "weight_block_size", OCTAVO_BLOCK, OCTAVO_BLOCK);
	json_t *c = json_pack("{s:s, s:I, s:i, s:i, s:i, s:b, s:i, s:f, s:i, s:o, s:o}", "model_type", "deepseek_v3",
	                      "vocab_size", (json_int_t)vocab, "num_hidden_layers", 1, "num_nextn_predict_layers", 0,
	                      "hidden_size", V3_HIDDEN, "tie_word_embeddings", 1, "max_position_embeddings", 163840,
	                      "rms_norm_eps", 1e-6, "rope_theta", 10000, "rope_scaling", rope, "quantization_config",
	                      quantisation);
	json_t *attention = json_pack("{s:i, s:i, s:i, s:i, s:i, s:i}", "num_attention_heads", V3_HEADS, "q_lora_rank",
	                              V3_Q_LORA, "kv_lora_rank", V3_KV_LORA, "qk_nope_head_dim", V3_NOPE,
	                              "qk_rope_head_dim", V3_ROPE, "v_head_dim", V3_V_DIM);
	/* One group: the choice is the drawing's, which the limit to four groups of eight would bend. */
	json_t *experts =
	        json_pack("{s:i, s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:b}", "first_k_dense_replace", 0,
	                  "n_routed_experts", (json_int_t)plan->experts, "num_experts_per_tok", V3_TOP_K,
	                  "moe_intermediate_size", V3_EXPERT_WIDTH, "n_shared_experts", 1, "n_group", 1, "topk_group",
	                  1, "moe_layer_freq", 1, "routed_scaling_factor", 2.5, "norm_topk_prob", 1);
	json_object_update(c, attention);
	json_object_update(c, experts);
	json_decref(attention);
	json_decref(experts);
	return c;
}

/* The smallest byte-level tokenizer: one token per byte, under the letter that GPT-2's encoder writes it as. */
static json_t *tokenizer(void)
{
	json_t *vocab = json_object();
	unsigned other = 256;
	for (unsigned byte = 0; byte < 256; byte++) {
		bool itself = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
		unsigned letter = itself ? byte : other++;
		char utf8[3] = {(char)letter};
		if (letter >= 0x80) {
			utf8[0] = (char)(0xc0 | letter >> 6);
			utf8[1] = (char)(0x80 | (letter & 0x3f));
		}
		json_object_set_new(vocab, utf8, json_integer(byte));
	}
	return json_pack("{s:n, s:{s:s, s:b, s:b}, s:{s:s}, s:[], s:{s:s, s:o, s:[]}}", "normalizer", "pre_tokenizer",
	                 "type", "ByteLevel", "add_prefix_space", 0, "use_regex", 0, "decoder", "type", "ByteLevel",
	                 "added_tokens", "model", "type", "BPE", "vocab", vocab, "merges");
}

static const char *const files[] = {"config.json", "tokenizer.json", "model.safetensors"};

static bool put_json(const struct layer_model *m, const char *name, json_t *document)
{
	char path[PATH_MAX + 32];
	snprintf(path, sizeof path, "%s/%s", m->dir, name);
	bool good = document && json_dump_file(document, path, JSON_COMPACT) == 0;
	json_decref(document);
	if (!good)
		complain("layer: %s: cannot write: %s", path, strerror(errno));
	return good;
}

static bool make_directory(struct layer_model *m, const struct layer_plan *plan, size_t vocab)
{
	const char *where = getenv("TMPDIR");
	char path[PATH_MAX + 32], target[64];
	snprintf(m->dir, sizeof m->dir, "%s/specbench-layer-XXXXXX", where && *where ? where : "/tmp");
	if (!mkdtemp(m->dir)) {
		complain("layer: %s: cannot make a directory: %s (TMPDIR names another place)", m->dir,
		         strerror(errno));
		m->dir[0] = 0;
		return false;
	}
	snprintf(target, sizeof target, "/proc/self/fd/%d", m->fd);
	snprintf(path, sizeof path, "%s/model.safetensors", m->dir);
	if (symlink(target, path)) {
		complain("layer: %s: cannot make a link: %s", path, strerror(errno));
		return false;
	}
	return put_json(m, "config.json", config(plan, vocab)) && put_json(m, "tokenizer.json", tokenizer());
}

bool model_make(struct layer_model *m, const struct layer_plan *plan, const struct layer_routes *routes,
                const struct octavo_parallel *parallel)
{
	size_t vocab = routes->tokens > 256 ? routes->tokens : 256;
	*m = (struct layer_model){.fd = -1};
	if (make_weights(m, plan, routes, parallel, vocab) && make_directory(m, plan, vocab))
		return true;
	model_free(m);
	return false;
}

void model_unlink(struct layer_model *m)
{
	char path[PATH_MAX + 32];
	if (!m->dir[0])
		return;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		snprintf(path, sizeof path, "%s/%s", m->dir, files[i]);
		unlink(path);
	}
	rmdir(m->dir);
	m->dir[0] = 0;
}

void model_free(struct layer_model *m)
{
	model_unlink(m);
	if (m->map)
		munmap(m->map, m->bytes);
	if (m->fd >= 0)
		close(m->fd);
	m->map = NULL;
	m->fd = -1;
}
