/* SPDX-License-Identifier: Apache-2.0
 *
 * One table of options for all commands.  A command takes those it names; every other one is refused by name,
 * so that nothing on a command line is silently ignored.
 */
#include "bench/bench.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int complain(const char *format, ...)
{
	va_list args;
	progress_clear();
	fputs("specbench: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_BAD_INPUT;
}

/* ---- Values ------------------------------------------------------------------------------------------------ */

static bool parse_unsigned(const char *text, const char **end, uint64_t most, uint64_t *out)
{
	if (*text < '0' || *text > '9') /* strtoull would take a sign and spaces */
		return false;
	char *stop;
	errno = 0;
	unsigned long long value = strtoull(text, &stop, 10);
	if (errno || value > most)
		return false;
	*out = value;
	*end = stop;
	return true;
}

static bool parse_number(const char *text, const char **end, double least, double most, double *out)
{
	char *stop;
	double value = strtod(text, &stop);
	if (stop == text || !isfinite(value) || value < least || value > most)
		return false;
	*out = value;
	*end = stop;
	return true;
}

enum kind {
	STRING, FILE_NAME, SIZE, SIZES, LONGS, DOUBLES, DOUBLE, SEED, UNSIGNED, SHAPE, CONFIDENCE, STOP, BIASES,
	FLAG, LATER
};

struct option_entry {
	const char *name;
	enum kind kind;
	size_t offset, count_offset;
	double least, most;
	const char *expects;
};

#define AT(field) offsetof(struct options, field)
static const struct option_entry entries[] = {
        {"model", FILE_NAME, AT(model), 0, 0, 0, "a directory"},
        {"prompts", FILE_NAME, AT(prompts), 0, 0, 0, "a .jsonl file"},
        {"prompt", STRING, AT(prompt), 0, 0, 0, "text"},
        {"text", FILE_NAME, AT(text), 0, 0, 0, "a text file"},
        {"json", FILE_NAME, AT(json), 0, 0, 0, "a file to write"},
        {"drafter", STRING, AT(drafter), 0, 0, 0, "a drafter such as mtp or medusa:DIR, a pair as ngram+mtp, or a comma list of these"},
        {"accept", STRING, AT(accept), 0, 0, 0, "an acceptance rule such as match or candidates:64,0.5"},
        {"arithmetic", STRING, AT(arithmetic), 0, 0, 0, "w8a16 or w8a8"},
        {"kv", STRING, AT(kv), 0, 0, 0, "bf16 or fp8"},
        {"weights", STRING, AT(weights), 0, 0, 0, "map or copy"},
        {"emulate", STRING, AT(emulate), 0, 0, 0, "hopper or hopper:NC"},
        {"k", LONGS, AT(k), AT(k_count), 1, OCTAVO_MAX_K, "auto, 1 to 8, or a comma list of different ones"},
        {"tree", STRING, AT(tree), 0, 0, 0, "widths per depth, such as 4,2,1, or dynamic:ROWS,TOPK,DEPTH"},
        {"temperature", DOUBLES, AT(temperature), AT(temperature_count), 0, 100,
         "0 (greedy) to 100, or a comma list of different ones"},
        {"top-k", UNSIGNED, AT(top_k), 0, 0, 1e9, "0 (off) to 1000000000"},
        {"top-p", DOUBLE, AT(top_p), 0, 0, 1, "0 to 1"},
        {"min-p", DOUBLE, AT(min_p), 0, 0, 0.999999, "0 to below 1"},
        {"repetition-penalty", DOUBLE, AT(repetition), 0, 0.01, 100, "0.01 to 100; 1 is off"},
        {"frequency-penalty", DOUBLE, AT(frequency), 0, -100, 100, "-100 to 100"},
        {"presence-penalty", DOUBLE, AT(presence), 0, -100, 100, "-100 to 100"},
        {"logit-bias", BIASES, 0, 0, 0, 0, "ID=V,ID=V, each token once, V from -1000 to 1000 or -inf"},
        {"confidence", CONFIDENCE, AT(confidence), 0, 0, 1, "P[,PATH[,MASS]], each 0 (off) to 1"},
        {"draft-vocab", SIZE, AT(draft_vocab), 0, 2, 1e9, "2 to the model's vocabulary"},
        {"seed", SEED, AT(seed), 0, 0, 0, "0 to 9223372036854775807"},
        {"tokens", SIZE, AT(tokens), 0, 1, 1e9, "1 to 1000000000"},
        {"limit", SIZE, AT(limit), 0, 1, 1e9, "1 to 1000000000"},
        {"context", SIZE, AT(context), 0, 1, 1e9, "1 to 1000000000 tokens"},
        {"batch", SIZE, AT(batch), 0, 1, 4096, "1 to 4096"},
        {"record", FILE_NAME, AT(record), 0, 0, 0, "a file to write"},
        {"record-hidden", FLAG, AT(record_hidden), 0, 0, 0, ""},
        {"threads", SIZE, AT(threads), 0, 1, 4096, "1 to 4096"},
        {"seconds", DOUBLE, AT(seconds), 0, 1, 1e6, "1 to 1000000"},
        {"stop", STOP, 0, 0, 0, 0, "UTF-8 text that is not empty, up to 32 times"},
        {"ignore-eos", FLAG, AT(ignore_eos), 0, 0, 0, ""},
        {"no-profile", FLAG, AT(no_profile), 0, 0, 0, ""},
        {"op", STRING, AT(op), 0, 0, 0, "an operation"},
        {"isa", STRING, AT(isa), 0, 0, 0, "an instruction set"},
        {"shape", SHAPE, 0, 0, 1, 1 << 20, "N,K, each 1 to 1048576"},
        {"rows", SIZES, AT(rows), AT(rows_count), 1, 4096, "1 to 4096, or a comma list of different ones"},
        {"pool", SIZE, AT(pool_mib), 0, 1, 1 << 20, "1 to 1048576 MiB"},
        {"repeats", SIZE, AT(repeats), 0, 1, 100000, "1 to 100000"},
        {"layer", FILE_NAME, AT(layer), 0, 0, 0, "a JSON file of specbench layer"},
        {"experts", SIZE, AT(experts), 0, 1, 256, "1 to 256"},
        {"union", STRING, AT(law), 0, 0, 0, "independent or overlap:F"},
        {"peers", FLAG, AT(peers), 0, 0, 0, ""},
        {"backend", STRING, AT(backend), 0, 0, 0, "a backend"},
        /* The command line that the design promises; these parts are not built yet. */
        {"html", LATER, 0, 0, 0, 0, ""},
        {"trace", LATER, 0, 0, 0, 0, ""},
};

enum { OPTIONS = sizeof entries / sizeof *entries };
_Static_assert((int)OPTIONS <= (int)MAX_OPTIONS, "struct options has no room to say which were given");

bool option_given(const struct options *o, const char *name)
{
	for (size_t i = 0; i < OPTIONS; i++)
		if (!strcmp(entries[i].name, name))
			return o->given[i];
	return false;
}

/* The same value twice would be measured twice and told apart by nobody: refused. */
static bool store_list_item(struct options *o, const struct option_entry *e, double value)
{
	void *list = (char *)o + e->offset;
	size_t *count = (size_t *)(void *)((char *)o + e->count_offset);
	if (*count == MAX_LIST)
		return false;
	for (size_t i = 0; i < *count; i++)
		if (value == (e->kind == LONGS   ? (double)((long *)list)[i]
		              : e->kind == SIZES ? (double)((size_t *)list)[i]
		                                 : ((double *)list)[i]))
			return false;
	if (e->kind == LONGS)
		((long *)list)[*count] = (long)value;
	else if (e->kind == SIZES)
		((size_t *)list)[*count] = (size_t)value;
	else
		((double *)list)[*count] = value;
	++*count;
	return true;
}

static bool store_list(struct options *o, const struct option_entry *e, const char *text)
{
	for (const char *at = text;; at++) {
		double value;
		uint64_t whole;
		if (e->kind == DOUBLES) {
			if (!parse_number(at, &at, e->least, e->most, &value))
				return false;
		} else if (e->kind == LONGS && !strncmp(at, "auto", 4)) {
			at += 4;
			value = 0;
		} else {
			if (!parse_unsigned(at, &at, (uint64_t)e->most, &whole) || (double)whole < e->least)
				return false;
			value = (double)whole;
		}
		if (!store_list_item(o, e, value))
			return false;
		if (!*at)
			return true;
		if (*at != ',')
			return false;
	}
}

static bool store_confidence(struct octavo_confidence *confidence, const struct option_entry *e, const char *text)
{
	double *const level[] = { &confidence->best, &confidence->path, &confidence->mass };
	for (size_t i = 0; i < 3; i++, text++) {
		if (!parse_number(text, &text, e->least, e->most, level[i]))
			return false;
		if (*text != ',')
			return !*text;
	}
	return false;
}

static bool store_shape(struct options *o, const struct option_entry *e, const char *text)
{
	uint64_t n, k;
	if (o->shapes == MAX_LIST || !parse_unsigned(text, &text, (uint64_t)e->most, &n) || *text++ != ',' ||
	    !parse_unsigned(text, &text, (uint64_t)e->most, &k) || *text || !n || !k)
		return false;
	o->n[o->shapes] = n;
	o->kdim[o->shapes++] = k;
	return true;
}

static bool store_stop(struct options *o, const char *text)
{
	json_t *string = json_string(text); /* which takes UTF-8 alone */
	json_decref(string);
	if (o->stops == MAX_LIST || !*text || !string)
		return false;
	o->stop[o->stops++] = (struct octavo_stop){ text, strlen(text) };
	return true;
}

static bool store(struct options *o, const struct option_entry *e, const char *text)
{
	void *at = (char *)o + e->offset;
	uint64_t whole;
	double value;
	switch (e->kind) {
	case FILE_NAME:
		if (!*text)
			return false;
		*(const char **)at = text;
		return true;
	case STRING:
		*(const char **)at = text;
		return true;
	case FLAG:
		*(bool *)at = true;
		return true;
	case SEED:
		if (!parse_unsigned(text, &text, INT64_MAX, &whole) || *text)
			return false;
		*(uint64_t *)at = whole;
		return true;
	case SIZE:
	case UNSIGNED:
		if (!parse_unsigned(text, &text, (uint64_t)e->most, &whole) || *text || (double)whole < e->least)
			return false;
		if (e->kind == SIZE)
			*(size_t *)at = (size_t)whole;
		else
			*(unsigned *)at = (unsigned)whole;
		return true;
	case DOUBLE:
		if (!parse_number(text, &text, e->least, e->most, &value) || *text)
			return false;
		*(double *)at = value;
		return true;
	case CONFIDENCE:
		return store_confidence(at, e, text);
	case SHAPE:
		return store_shape(o, e, text);
	case STOP:
		return store_stop(o, text);
	case BIASES:
		return store_biases(o, text);
	default:
		return store_list(o, e, text);
	}
}

/* ---- The command line ---------------------------------------------------------------------------------------- */

/* "--name", "--name=value", "-k", "-k2" or "-k=2"; *value is what follows the name, or NULL. */
static const struct option_entry *find_entry(const char *arg, const char **value)
{
	const char *name = arg[1] == '-' ? arg + 2 : arg + 1;
	size_t length = arg[1] == '-' ? strcspn(name, "=") : 1;
	if (arg[1] != '-' && *name != 'k')
		return NULL;
	*value = name[length] ? name + length + (name[length] == '=') : NULL;
	for (size_t i = 0; i < OPTIONS; i++)
		if (strlen(entries[i].name) == length && !strncmp(entries[i].name, name, length))
			return &entries[i];
	return NULL;
}

static bool is_allowed(const char *name, const char *allowed)
{
	size_t length = strlen(name);
	for (const char *at = allowed; (at = strstr(at, name)); at += length)
		if ((at == allowed || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
			return true;
	return false;
}

/* How an option is spelt: -k, --model. */
static const char *dashes(const struct option_entry *e)
{
	return e->name[1] ? "--" : "-";
}

int options_parse(struct options *o, int argc, char **argv, const char *command, const char *allowed, const char *help)
{
	const char *in = *command ? ": " : "", *gap = *command ? " " : ""; /* the default report has no name */
	for (int i = 1; i < argc; i++) {
		const char *value;
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			fputs(help, stdout);
			return -1;
		}
		if (argv[i][0] != '-' || !argv[i][1])
			return complain("%s%sunexpected argument \"%s\" (see specbench %s%s--help)", command, in,
			                argv[i], command, gap);
		const struct option_entry *e = find_entry(argv[i], &value);
		if (!e)
			return complain("%s%sunknown option %s (see specbench %s%s--help)", command, in, argv[i],
			                command, gap);
		if (e->kind == LATER)
			return complain("%s%soption %s%s is not available in this version", command, in, dashes(e),
			                e->name);
		if (!is_allowed(e->name, allowed))
			return complain("%s%soption %s%s does not apply to this command (see specbench %s%s--help)",
			                command, in, dashes(e), e->name, command, gap);
		if (e->kind == FLAG && value)
			return complain("%s%soption --%s takes no value", command, in, e->name);
		if (e->kind != FLAG && !value) {
			if (i + 1 == argc)
				return complain("%s%soption %s%s needs a value: %s", command, in, dashes(e), e->name,
				                e->expects);
			value = argv[++i];
		}
		o->given[e - entries] = true;
		if (!store(o, e, value))
			return complain("%s%soption %s%s: \"%s\" is not %s", command, in, dashes(e), e->name, value,
			                e->expects);
	}
	return cpu_choice_known() ? EXIT_OK : EXIT_BAD_INPUT;
}
