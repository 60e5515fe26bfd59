/* SPDX-License-Identifier: Apache-2.0
 *
 * config.json of dense models: Llama, Mistral, Qwen 2 and 3.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine/load/config_parts.h"

#include <string.h>

static void read_heads(struct octavo_config *c, const struct octavo_architecture *architecture,
                       struct octavo_fields *fields)
{
	enum octavo_presence presence = architecture->explicit_heads ? OCTAVO_REQUIRED : OCTAVO_OPTIONAL;
	int given = octavo_field(fields, "head_dim") != NULL;
	c->kv_heads = c->heads;
	octavo_field_size(fields, "num_key_value_heads", presence, 1, MAX_HEADS, &c->kv_heads);
	octavo_field_size(fields, "head_dim", architecture->qk_norm ? OCTAVO_REQUIRED : OCTAVO_OPTIONAL, 2, MAX_HEAD_DIM,
	                  &c->rope);
	if (fields->status != OCTAVO_OK)
		return;
	if (c->heads % c->kv_heads != 0) {
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "num_key_value_heads", "%zu does not divide num_attention_heads %zu",
		                   c->kv_heads, c->heads);
		return;
	}
	if (!given && c->hidden % c->heads != 0) {
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "num_attention_heads",
		                   "%zu does not divide hidden_size %zu, and there is no head_dim", c->heads, c->hidden);
		return;
	}
	c->rope = given ? c->rope : c->hidden / c->heads;
	c->v_dim = c->rope;
	if (c->rope % 2 != 0 || c->rope > MAX_HEAD_DIM)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, given ? "head_dim" : "num_attention_heads",
		                   "heads of %zu values: they must be even, for pairs are rotated, and at most %d", c->rope,
		                   MAX_HEAD_DIM);
}

/* A window that no context outgrows is none. */
static void check_window(const struct octavo_config *c, const struct octavo_architecture *architecture,
                         struct octavo_fields *fields)
{
	const json_t *types = octavo_field(fields, "layer_types");
	size_t window = 0;
	int used = !architecture->optional_window;
	if (architecture->optional_window)
		octavo_field_bool(fields, "use_sliding_window", OCTAVO_OPTIONAL, &used);
	octavo_field_size(fields, "sliding_window", OCTAVO_OPTIONAL, 0, 1 << 30, &window);
	if (fields->status == OCTAVO_OK && used && window && window < c->max_position)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "sliding_window",
		                   "%zu tokens of max_position_embeddings %zu: attention in a window is not implemented",
		                   window, c->max_position);
	for (size_t i = 0; i < json_array_size(types) && fields->status == OCTAVO_OK; i++) {
		const char *type = json_string_value(json_array_get(types, i));
		if (!type || strcmp(type, "full_attention") != 0)
			octavo_fields_fail(fields, OCTAVO_ENOTSUP, "layer_types",
			                   "layer %zu: only full_attention is supported", i);
	}
}

void octavo_config_dense(struct octavo_config *c, const struct octavo_architecture *architecture,
                         struct octavo_fields *fields)
{
	int mlp_bias = 0;
	c->qkv_bias = architecture->qkv_bias;
	c->qk_norm = architecture->qk_norm;
	read_heads(c, architecture, fields);
	octavo_field_size(fields, "intermediate_size", OCTAVO_REQUIRED, 1, MAX_WIDTH, &c->dense_width);
	check_window(c, architecture, fields);
	octavo_field_bool(fields, "mlp_bias", OCTAVO_OPTIONAL, &mlp_bias);
	if (fields->status == OCTAVO_OK && mlp_bias)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "mlp_bias", "projections with a bias are not supported");
	else if (fields->status == OCTAVO_OK && c->mtp_layers)
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, "num_nextn_predict_layers",
		                   "%zu; dense models have no multi-token prediction modules here", c->mtp_layers);
}
