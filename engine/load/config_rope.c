/* SPDX-License-Identifier: Apache-2.0
 *
 * config.json: rotary positions and how they are stretched.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine/load/config_parts.h"

#include <string.h>

static void read_yarn(struct octavo_config *c, struct octavo_fields *fields)
{
	c->yarn = 1;
	c->yarn_beta_fast = 32;
	c->yarn_beta_slow = 1;
	c->yarn_mscale = 1;
	c->yarn_mscale_all_dim = 0;
	octavo_field_number(fields, "factor", OCTAVO_REQUIRED, 1, 1e6, &c->yarn_factor);
	octavo_field_size(fields, "original_max_position_embeddings", OCTAVO_REQUIRED, 1, 1 << 30, &c->yarn_original);
	octavo_field_number(fields, "beta_fast", OCTAVO_OPTIONAL, 1e-3, 1e6, &c->yarn_beta_fast);
	octavo_field_number(fields, "beta_slow", OCTAVO_OPTIONAL, 1e-3, 1e6, &c->yarn_beta_slow);
	octavo_field_number(fields, "mscale", OCTAVO_OPTIONAL, 1e-3, 1e3, &c->yarn_mscale);
	octavo_field_number(fields, "mscale_all_dim", OCTAVO_OPTIONAL, 1e-3, 1e3, &c->yarn_mscale_all_dim);
	if (fields->status != OCTAVO_OK)
		return;
	if (c->yarn_beta_fast < c->yarn_beta_slow)
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "beta_fast", "%g is less than beta_slow %g",
		                   c->yarn_beta_fast, c->yarn_beta_slow);
	else if (!octavo_field(fields, "mscale") != !octavo_field(fields, "mscale_all_dim"))
		octavo_fields_fail(
		        fields, OCTAVO_ENOTSUP, "mscale",
		        "without mscale_all_dim or the reverse: implementations disagree on the other's default");
}

/* Llama 3.1: low frequencies are divided by `factor`, high ones stay, between them a blend. */
static void read_llama3(struct octavo_config *c, struct octavo_fields *fields)
{
	c->llama3 = 1;
	octavo_field_number(fields, "factor", OCTAVO_REQUIRED, 1, 1e6, &c->llama3_factor);
	octavo_field_number(fields, "low_freq_factor", OCTAVO_REQUIRED, 1e-3, 1e6, &c->llama3_low);
	octavo_field_number(fields, "high_freq_factor", OCTAVO_REQUIRED, 1e-3, 1e6, &c->llama3_high);
	octavo_field_size(fields, "original_max_position_embeddings", OCTAVO_REQUIRED, 1, 1 << 30, &c->llama3_original);
	if (fields->status == OCTAVO_OK && !(c->llama3_low < c->llama3_high))
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "high_freq_factor", "%g is not more than low_freq_factor %g",
		                   c->llama3_high, c->llama3_low);
}

/* Ways of stretching.  A key that the way does not know would change the angles or the scale of the scores. */
static const struct stretch {
	const char *name;
	int mla, dense; /* for which kind of model */
	void (*read)(struct octavo_config *c, struct octavo_fields *fields);
	const char *key[7]; /* up to the first NULL */
} stretches[] = {
        {"default", 1, 1, NULL, {NULL}},
        {"yarn",
         1,
         0,
         read_yarn,
         {"factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"}},
        {"llama3",
         0,
         1,
         read_llama3,
         {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"}},
};

static int knows(const struct stretch *stretch, const char *key)
{
	static const char *const always[] = {"type", "rope_type", "rope_theta"};
	for (size_t i = 0; i < sizeof always / sizeof *always; i++)
		if (strcmp(always[i], key) == 0)
			return 1;
	for (size_t i = 0; stretch->key[i]; i++)
		if (strcmp(stretch->key[i], key) == 0)
			return 1;
	return 0;
}

static void check_keys(const struct stretch *stretch, struct octavo_fields *fields)
{
	const char *key;
	json_t *value;
	json_object_foreach ((json_t *)fields->object, key, value) {
		/* An explicit null or a whole rotation is what leaving the field out says. */
		int neutral = json_is_null(value) ||
		              (strcmp(key, "partial_rotary_factor") == 0 && json_number_value(value) == 1);
		if (!neutral && !knows(stretch, key)) {
			octavo_fields_fail(fields, OCTAVO_ENOTSUP, key, "not a field that is implemented for type %s",
			                   stretch->name);
			return;
		}
	}
}

static void read_scaling(struct octavo_config *c, struct octavo_fields *fields)
{
	const char *type = NULL, *rope_type = NULL;
	const struct stretch *stretch = NULL;
	octavo_field_string(fields, "type", OCTAVO_OPTIONAL, &type);
	octavo_field_string(fields, "rope_type", OCTAVO_OPTIONAL, &rope_type);
	if (fields->status != OCTAVO_OK)
		return;
	if (type && rope_type && strcmp(type, rope_type) != 0) {
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "rope_type", "%.64s, but type is %.64s", rope_type, type);
		return;
	}
	type = type ? type : rope_type ? rope_type : "default";
	for (size_t i = 0; i < sizeof stretches / sizeof *stretches; i++)
		if ((c->kv_heads ? stretches[i].dense : stretches[i].mla) && strcmp(stretches[i].name, type) == 0)
			stretch = &stretches[i];
	if (!stretch) {
		octavo_fields_fail(fields, OCTAVO_ENOTSUP, rope_type ? "rope_type" : "type",
		                   "%.64s is not supported, only %s is", type, c->kv_heads ? "llama3" : "yarn");
		return;
	}
	check_keys(stretch, fields);
	octavo_field_number(fields, "rope_theta", OCTAVO_OPTIONAL, 2, 1e12, &c->rope_theta);
	if (fields->status == OCTAVO_OK && stretch->read)
		stretch->read(c, fields);
}

void octavo_config_rope(struct octavo_config *c, struct octavo_fields *fields)
{
	const json_t *scaling = octavo_field(fields, "rope_scaling");
	const json_t *parameters = octavo_field(fields, "rope_parameters");
	c->rope_theta = 10000;
	octavo_field_number(fields, "rope_theta", OCTAVO_OPTIONAL, 2, 1e12, &c->rope_theta);
	if (fields->status != OCTAVO_OK || (!scaling && !parameters))
		return;
	const char *field = scaling ? "rope_scaling" : "rope_parameters";
	const json_t *object = scaling ? scaling : parameters;
	if (scaling && parameters) {
		octavo_fields_fail(fields, OCTAVO_EFORMAT, "rope_parameters", "given beside rope_scaling");
	} else if (!json_is_object(object)) {
		octavo_fields_fail(fields, OCTAVO_EFORMAT, field, "not an object");
	} else {
		struct octavo_fields inner = *fields;
		inner.object = object;
		inner.prefix = scaling ? "rope_scaling." : "rope_parameters.";
		read_scaling(c, &inner);
		fields->status = inner.status;
	}
}
