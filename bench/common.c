/* SPDX-License-Identifier: Apache-2.0
 *
 * Small parts that several commands share.
 */
#include "bench/bench.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- Words that stand for enums -------------------------------------------------------------------------------- */

/* Which of two words an option's value is, the first without one; -1 after complaining. */
static int either(const char *option, const char *value, const char *const word[2])
{
	for (int i = 0; i < 2; i++)
		if (!strcmp(value ? value : word[0], word[i]))
			return i;
	complain("option --%s: \"%s\" is neither %s nor %s", option, value, word[0], word[1]);
	return -1;
}

bool arithmetic_parse(const struct options *o, enum octavo_arithmetic *out)
{
	int which = either("arithmetic", o->arithmetic, (const char *const[]){"w8a16", "w8a8"});
	*out = which == 1 ? OCTAVO_W8A8 : OCTAVO_W8A16;
	return which >= 0;
}

bool kv_parse(const struct options *o, enum octavo_kv_format *out)
{
	int which = either("kv", o->kv, (const char *const[]){"bf16", "fp8"});
	*out = which == 1 ? OCTAVO_KV_FP8 : OCTAVO_KV_BF16;
	return which >= 0;
}

bool weights_parse(const struct options *o, enum octavo_weight_place *out)
{
	int which = either("weights", o->weights, (const char *const[]){"map", "copy"});
	*out = which == 1 ? OCTAVO_WEIGHTS_COPY : OCTAVO_WEIGHTS_MAP;
	return which >= 0;
}

/* "K" or "K,P". */
static bool shortlist_parse(const char *text, struct octavo_shortlist *list)
{
	char *end;
	unsigned long most = *text >= '1' && *text <= '9' ? strtoul(text, &end, 10) : 0;
	if (!most || most > 1000000)
		return false;
	*list = (struct octavo_shortlist){ (unsigned)most, OCTAVO_USUAL_SURE };
	if (!*end)
		return true;
	bool number = *end == ',' && ((end[1] >= '0' && end[1] <= '9') || end[1] == '.');
	list->sure = number ? strtod(end + 1, &end) : 0.0;
	return list->sure > 0.0 && list->sure <= 1.0 && !*end;
}

bool accept_parse(const struct options *o, struct acceptance *out)
{
	static const char candidates[] = "candidates:";
	*out = (struct acceptance){ .rule = o->accept ? octavo_accept_find(o->accept) : OCTAVO_ACCEPT_MATCH };
	if (out->rule == OCTAVO_ACCEPT_CANDIDATES ||
	    (o->accept && !strncmp(o->accept, candidates, sizeof candidates - 1))) {
		out->rule = OCTAVO_ACCEPT_CANDIDATES;
		if (strlen(o->accept) < sizeof candidates ||
		    !shortlist_parse(o->accept + sizeof candidates - 1, &out->shortlist)) {
			complain(
			        "option --accept: \"%s\" is not candidates:K[,P], K from 1 to 1000000, P above 0 up to 1",
			        o->accept);
			return false;
		}
		snprintf(out->text, sizeof out->text, "%s%u,%g", candidates, out->shortlist.most, out->shortlist.sure);
		return true;
	}
	if (out->rule == OCTAVO_ACCEPT_COUNT) {
		char known[128] = "";
		for (int rule = 0; rule < OCTAVO_ACCEPT_COUNT; rule++)
			snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s%s", rule ? ", " : "",
			         octavo_accept_name((enum octavo_accept)rule),
			         rule == OCTAVO_ACCEPT_CANDIDATES ? ":K[,P]" : "");
		complain("option --accept: unknown rule \"%s\" (known: %s)", o->accept, known);
		return false;
	}
	snprintf(out->text, sizeof out->text, "%s", octavo_accept_name(out->rule));
	if (out->rule != OCTAVO_ACCEPT_GREEDY)
		return true;
	for (size_t i = 0; i < o->temperature_count || !i; i++)
		if (!o->temperature_count || o->temperature[i] > 0) {
			complain("option --accept: greedy needs --temperature 0");
			return false;
		}
	return true;
}

bool drafter_check(const char *text, size_t length)
{
	struct octavo_error error;
	char *spec = strndup(text, length);
	if (!spec) {
		complain("out of memory");
		return false;
	}
	bool known = octavo_drafter_known(spec, &error);
	if (!known)
		complain("option --%s", error.text); /* "drafter: …", "drafter mtp: …" */
	free(spec);
	return known;
}

void drafter_label(const char *drafter, char label[DRAFTER_LABEL])
{
	size_t used = 0, directory = 0; /* where the last one's name begins in the label */
	for (const char *at = drafter; *at; at++) {
		if (*at == '/' && directory && at[1] && at[1] != '+')
			used = directory;
		else if (used++ < DRAFTER_LABEL - 1)
			label[used - 1] = *at;
		if (*at == ':')
			directory = used;
	}
	if (used > DRAFTER_LABEL - 1)
		label[(used = DRAFTER_LABEL - 1) - 1] = '~';
	label[used] = 0;
}

/* "dynamic:ROWS,TOPK,DEPTH"; what they may be is the library's to say. */
static bool dynamic_parse(const char *text, struct octavo_dynamic *dynamic)
{
	unsigned *const field[] = { &dynamic->rows, &dynamic->top_k, &dynamic->depth };
	for (size_t i = 0; i < 3; i++) {
		char *end;
		unsigned long value = *text >= '1' && *text <= '9' ? strtoul(text, &end, 10) : 0;
		if (!value || value > OCTAVO_MAX_DRAFT || *end != (i < 2 ? ',' : 0))
			return false;
		*field[i] = (unsigned)value;
		text = end + 1;
	}
	return true;
}

bool tree_parse(const struct options *o, struct tree *tree)
{
	static const char dynamic[] = "dynamic:";
	size_t depth = 0, rows = 1, level = 1;
	const char *at = o->tree;
	*tree = (struct tree){ { 0 }, { 0, 0, 0 } };
	if (at && !strncmp(at, dynamic, sizeof dynamic - 1)) {
		if (dynamic_parse(at + sizeof dynamic - 1, &tree->dynamic))
			return true;
		complain(
		        "option --tree: \"%s\" is not dynamic:ROWS,TOPK,DEPTH, each from 1 to %d, such as dynamic:16,4,5",
		        at, OCTAVO_MAX_DRAFT);
		return false;
	}
	while (at && depth < OCTAVO_MAX_K && *at >= '1' && *at <= '9') {
		char *end;
		unsigned long width = strtoul(at, &end, 10);
		level = width < OCTAVO_MAX_DRAFT ? level * width : OCTAVO_MAX_DRAFT;
		rows += level;
		if (rows > OCTAVO_MAX_DRAFT) {
			complain("option --tree: \"%s\" has more than %d rows, the root included", o->tree,
			         OCTAVO_MAX_DRAFT);
			return false;
		}
		tree->width[depth++] = (unsigned)width;
		at = end;
		if (*at != ',')
			break;
		at++;
	}
	if (!at || (!*at && depth && at[-1] != ','))
		return true;
	complain(
	        "option --tree: \"%s\" is not a comma list of 1 to %d widths, such as 4,2,1, nor dynamic:ROWS,TOPK,DEPTH",
	        o->tree, OCTAVO_MAX_K);
	return false;
}

/* ---- OCTAVO_CPU ------------------------------------------------------------------------------------------------ */

/* NULL if it is unset or empty. */
static const char *cpu_choice(void)
{
	const char *name = getenv("OCTAVO_CPU");
	return name && *name ? name : NULL;
}

bool cpu_choice_known(void)
{
	const char *name = cpu_choice();
	bool known = !name || !strcmp(name, octavo_cpu_name(0));
	for (unsigned bit = 0; !known && bit < 32; bit++)
		known = !strcmp(name, octavo_cpu_name((uint32_t)1 << bit));
	if (!known)
		complain("environment variable OCTAVO_CPU: \"%s\" is not one of ref, hwy, neon, avx2, avx512, avx512bf16, amx",
		         name);
	return known;
}

void cpu_choice_note(void)
{
	const char *name = cpu_choice();
	if (name && strcmp(name, octavo_cpu_name(octavo_cpu_detect())))
		fprintf(stderr, "specbench: %s\n", octavo_cpu_reason());
}

/* ---- The model's place ---------------------------------------------------------------------------------------- */

static bool has_config(const char *dir)
{
	char path[PATH_MAX];
	int length = snprintf(path, sizeof path, "%s/config.json", dir);
	return length > 0 && (size_t)length < sizeof path && access(path, R_OK) == 0;
}

/* In a build: bench/model beside the program, or one level up, since libtool runs .libs/specbench.  Of an installation
 * that was moved as a whole: share/octavo/model beside bin. */
static const char *beside_program(void)
{
	static char dir[PATH_MAX + 32];
	char program[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
	if (length <= 0)
		return NULL;
	program[length] = 0;
	for (int up = 0; up < 2; up++) {
		char *slash = strrchr(program, '/');
		if (!slash)
			return NULL;
		*slash = 0;
		snprintf(dir, sizeof dir, "%s/bench/model", program);
		if (has_config(dir))
			return dir;
		snprintf(dir, sizeof dir, "%s/share/octavo/model", program);
		if (up && has_config(dir))
			return dir;
	}
	return NULL;
}

const char *find_model(const struct options *o)
{
	const char *dir = o->model ? o->model : getenv("OCTAVO_MODEL");
	if (dir && *dir)
		return dir; /* the loader says best what is wrong with it */
	dir = beside_program();
	if (!dir && has_config(OCTAVO_MODELDIR))
		dir = OCTAVO_MODELDIR;
	if (!dir)
		complain(
		        "no model: the bundled one is neither beside this program nor in %s; name one with --model DIR",
		        OCTAVO_MODELDIR);
	return dir;
}

bool model_there(const char *dir)
{
	if (has_config(dir))
		return true;
	complain("%s/config.json: cannot open: %s (--model names the directory of a Hugging Face checkpoint)", dir,
	         strerror(errno));
	return false;
}

/* ---- Files ------------------------------------------------------------------------------------------------------ */

unsigned char *read_file(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	unsigned char *data = NULL;
	size_t room = 0, got = 0;
	if (!file) {
		complain("%s: cannot open: %s", path, strerror(errno));
		return NULL;
	}
	do {
		unsigned char *grown = realloc(data, room = 2 * room + 65536);
		if (!grown) {
			complain("%s: out of memory", path);
			break;
		}
		data = grown;
		got += fread(data + got, 1, room - got - 1, file);
		if (ferror(file)) {
			complain("%s: cannot read: %s", path, strerror(errno));
			break;
		}
		if (feof(file)) {
			fclose(file);
			data[got] = 0;
			*size = got;
			return data;
		}
	} while (true);
	free(data);
	fclose(file);
	return NULL;
}

/* ---- Threads --------------------------------------------------------------------------------------------------- */

static void run_serially(void *context, size_t tasks, octavo_task_fn *fn, void *arg)
{
	(void)context;
	for (size_t task = 0; task < tasks; task++)
		fn(arg, task);
}

/* One pool for the whole run: it lives until the process ends. */
struct octavo_parallel bench_parallel(size_t threads)
{
	static struct octavo_parallel pool;
	if (!pool.run || (threads && threads != pool.threads)) {
		octavo_parallel_close(&pool);
		if (octavo_parallel_open(&pool, threads) != OCTAVO_OK) /* then serially */
			pool = (struct octavo_parallel){run_serially, NULL, 1};
	}
	return pool;
}

/* ---- Sets of kernels --------------------------------------------------------------------------------------------- */

size_t kernel_sets(struct kernel_set set[MAX_SETS])
{
	static const struct {
		uint32_t cpu;
		const char *name;
	} groups[MAX_SETS] = {
	        {0, "ref"},
	        {OCTAVO_CPU_HWY, "hwy"},
	        {OCTAVO_CPU_NEON, "neon"},
	        {OCTAVO_CPU_AVX2, "avx2"},
	        {OCTAVO_CPU_AVX512, "avx512"},
	        {OCTAVO_CPU_VBMI | OCTAVO_CPU_BF16, "avx512bf16"},
	        {OCTAVO_CPU_VBMI | OCTAVO_CPU_AMX, "amx"},
	};
	uint32_t has = octavo_cpu_detect_all(), cpu = 0;
	size_t count = 0;
	for (size_t i = 0; i < MAX_SETS; i++) {
		if ((has & groups[i].cpu) != groups[i].cpu)
			continue;
		set[count].name = groups[i].name;
		octavo_kernels_init(&set[count].table, cpu |= groups[i].cpu);
		if (!count || memcmp(&set[count].table, &set[count - 1].table, sizeof set->table))
			count++;
	}
	return count;
}

bool backend_overlay(const char *backend, struct octavo_kernels *table)
{
	struct octavo_error error;
	if (octavo_backend_overlay(table, backend, &error) == OCTAVO_OK)
		return true;
	const char *const *known = octavo_backend_names();
	complain("option --backend: %s (known: %s, %s)", error.text, known[0], known[1]);
	return false;
}

bool engine_backend(const struct options *o, struct octavo_engine_settings *settings)
{
	static struct octavo_kernels table; /* for the one engine of a command */
	if (!o->backend)
		return true;
	table = *octavo_kernels_get();
	settings->kernels = &table;
	return backend_overlay(o->backend, &table);
}

const char *backend_name(const struct options *o)
{
	return o->backend ? o->backend : "native";
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static struct {
	int count;
	char **word;
} command;

void json_command(int argc, char **argv)
{
	command.count = argc;
	command.word = argv;
}

json_t *json_document(void)
{
	char date[32] = "";
	time_t now = time(NULL);
	struct tm utc;
	if (gmtime_r(&now, &utc))
		strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
	json_t *words = json_array();
	for (int i = 0; i < command.count; i++)
		if (json_array_append_new(words, json_string(command.word[i])))
			json_array_append_new(words, json_null()); /* what is not UTF-8 */
	return json_pack("{s:i, s:s, s:s, s:s, s:o}", "schema", 1, "tool", "specbench", "version", octavo_version(),
	                 "date", date, "command", words);
}

/* A regular file can be replaced by a finished one; a device, a pipe or a link has to stay what it is. */
static bool is_special(const char *path)
{
	struct stat status;
	return lstat(path, &status) == 0 && !S_ISREG(status.st_mode);
}

bool json_writable(const char *path)
{
	char dir[PATH_MAX];
	if (!path)
		return true;
	if (strlen(path) + sizeof ".part" > sizeof dir) {
		complain("%s: the name is too long", path);
		return false;
	}
	const char *slash = strrchr(path, '/');
	snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
	struct stat status;
	bool directory = !*path || (stat(path, &status) == 0 && S_ISDIR(status.st_mode));
	if (!directory && access(is_special(path) && access(path, F_OK) == 0 ? path : dir, W_OK) == 0)
		return true;
	complain("%s: cannot write: %s", path, strerror(directory ? EISDIR : errno));
	return false;
}

static bool dump(const json_t *document, const char *path)
{
	FILE *file = fopen(path, "w");
	bool good = file && json_dumpf(document, file, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) == 0;
	if (file && fclose(file))
		good = false;
	return good;
}

bool json_write(json_t *document, const char *path)
{
	char temporary[PATH_MAX];
	bool special = is_special(path), good;
	if (special) {
		fflush(stdout); /* the path may be /dev/stdout */
		good = dump(document, path);
	} else {
		snprintf(temporary, sizeof temporary, "%s.part", path); /* json_writable knows that it fits */
		good = dump(document, temporary) && rename(temporary, path) == 0;
	}
	if (good)
		return true;
	int why = errno;
	if (!special)
		remove(temporary);
	complain("%s: cannot write: %s", path, strerror(why));
	return false;
}
