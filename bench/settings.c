/* SPDX-License-Identifier: Apache-2.0
 *
 * The "settings" of a run's JSON document: what was asked for, defaults filled in.
 */
#include "bench/runs.h"

static json_t *stops_json(const struct options *o)
{
	json_t *all = json_array();
	for (size_t i = 0; i < o->stops; i++)
		json_array_append_new(all, json_string(o->stop[i].text));
	return all;
}

json_t *runs_settings_json(const struct runs *r, const struct options *o, const struct machine *m,
                           const struct octavo_model_info *model)
{
	struct acceptance accept;
	struct octavo_sampling sampling = sampling_of(o, model, 0.0); /* each run has its own temperature */
	accept_parse(o, &accept);
	json_t *settings = json_pack(
	        "{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s?, s:{s:f,s:f,s:f}, s:s?, s:o, s:b, s:s, s:I, s:s, s:s}",
	        "prompts_file", r->prompts_file, "arithmetic", r->arithmetic, "kv", r->kv, "weights",
	        o->weights ? o->weights : "map", "seed", (json_int_t)o->seed, "tokens", (json_int_t)r->tokens,
	        "context", (json_int_t)model->context, "batch", (json_int_t)r->batch, "record", o->record, "confidence",
	        "best", o->confidence.best, "path", o->confidence.path, "mass", o->confidence.mass, "layer", o->layer,
	        "stop", stops_json(o), "ignore_eos", o->ignore_eos, "accept", accept.text, "threads",
	        (json_int_t)m->threads, "kernels", m->chosen, "backend", backend_name(o));
	json_object_set_new(settings, "draft_vocab",
	                    o->draft_vocab ? json_integer((json_int_t)o->draft_vocab) : json_null());
	sampling_json(&sampling, settings);
	return settings;
}
