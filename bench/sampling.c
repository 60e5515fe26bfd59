/* SPDX-License-Identifier: Apache-2.0
 *
 * The sampling parameters of a run: what the command line says, and where it says nothing, what the model's
 * generation_config.json recommends.
 */
#include "bench/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A float's value as somebody would type it: 0.8, not 0.800000012. */
static double typed(float x)
{
	char text[32];
	snprintf(text, sizeof text, "%.6g", (double)x);
	return strtod(text, NULL);
}

double usual_temperature(const struct octavo_model_info *model)
{
	return model->recommended.temperature < 0.0f ? USUAL_TEMPERATURE : typed(model->recommended.temperature);
}

struct octavo_sampling sampling_of(const struct options *o, const struct octavo_model_info *model, double temperature)
{
	struct octavo_sampling s = model->recommended;
	s.temperature = (float)temperature;
	if (option_given(o, "top-k"))
		s.top_k = o->top_k;
	if (option_given(o, "top-p"))
		s.top_p = (float)o->top_p;
	if (option_given(o, "min-p"))
		s.min_p = (float)o->min_p;
	if (option_given(o, "repetition-penalty"))
		s.repetition = (float)o->repetition;
	s.frequency = (float)o->frequency;
	s.presence = (float)o->presence;
	s.bias = o->bias;
	s.biases = o->biases;
	return s;
}

/* The library takes floats: what is 0 as one would be off, or greedy, without anybody having asked for that. */
static bool is_told_from_0(const char *option, double value)
{
	if (value == 0.0 || (float)value != 0.0f)
		return true;
	complain("option --%s: %g is too small to be told from 0", option, value);
	return false;
}

bool sampling_check(const struct options *o, const struct octavo_model_info *model)
{
	for (size_t i = 0; i < o->temperature_count; i++)
		if (!is_told_from_0("temperature", o->temperature[i]))
			return false;
	if (!is_told_from_0("top-p", o->top_p) || !is_told_from_0("min-p", o->min_p))
		return false;
	for (size_t i = 0; i < o->biases; i++)
		if ((size_t)o->bias[i].token >= model->vocab) {
			complain("option --logit-bias: token %d is outside the vocabulary of %zu",
			         (int)o->bias[i].token, model->vocab);
			return false;
		}
	return true;
}

bool store_biases(struct options *o, const char *text)
{
	for (;; text++) {
		char *end;
		if (o->biases == MAX_BIASES || *text < '0' || *text > '9')
			return false;
		unsigned long token = strtoul(text, &end, 10);
		if (token > INT32_MAX || *end != '=')
			return false;
		text = end + 1;
		double value = strtod(text, &end); /* -inf bans a token */
		if (end == text || !(value <= 1000.0) || (value < -1000.0 && !isinf(value)))
			return false;
		for (size_t i = 0; i < o->biases; i++)
			if (o->bias[i].token == (int32_t)token)
				return false;
		o->bias[o->biases++] = (struct octavo_bias){ (int32_t)token, (float)value };
		text = end;
		if (!*text)
			return true;
		if (*text != ',')
			return false;
	}
}

/* ", top-p 0.95": what bends the law beside the temperature. */
void sampling_text(const struct octavo_sampling *s, char *text, size_t size)
{
	const struct {
		const char *name;
		double value, off;
	} part[] = {
		{ "top-k", s->top_k, 0.0 },
		{ "top-p", typed(s->top_p), 1.0 },
		{ "min-p", typed(s->min_p), 0.0 },
		{ "repetition penalty", typed(s->repetition), 1.0 },
		{ "frequency penalty", typed(s->frequency), 0.0 },
		{ "presence penalty", typed(s->presence), 0.0 },
		{ "biased tokens", (double)s->biases, 0.0 },
	};
	size_t used = 0;
	*text = 0;
	for (size_t i = 0; i < sizeof part / sizeof *part; i++)
		if (part[i].value != 0.0 && part[i].value != part[i].off && used < size)
			used += (size_t)snprintf(text + used, size - used, ", %s %.9g", part[i].name, part[i].value);
}

void sampling_json(const struct octavo_sampling *s, json_t *settings)
{
	json_t *biases = json_object();
	for (size_t i = 0; i < s->biases; i++) {
		char token[16];
		snprintf(token, sizeof token, "%d", (int)s->bias[i].token);
		json_object_set_new(biases, token, /* JSON has no infinity */
		                    isinf(s->bias[i].bias) ? json_string("-inf") : json_real(typed(s->bias[i].bias)));
	}
	json_object_set_new(settings, "top_k", json_integer(s->top_k));
	json_object_set_new(settings, "top_p", json_real(typed(s->top_p)));
	json_object_set_new(settings, "min_p", json_real(typed(s->min_p)));
	json_object_set_new(settings, "repetition_penalty",
	                    json_real(s->repetition == 0.0f ? 1.0 : typed(s->repetition)));
	json_object_set_new(settings, "frequency_penalty", json_real(typed(s->frequency)));
	json_object_set_new(settings, "presence_penalty", json_real(typed(s->presence)));
	json_object_set_new(settings, "logit_bias", biases);
}
