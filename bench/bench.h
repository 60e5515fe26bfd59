/* SPDX-License-Identifier: Apache-2.0
 *
 * specbench's shared parts: options, exit codes, the JSON document, small helpers.
 * bench/ is a user of the libraries: it includes their public headers only.
 */
#ifndef OCTAVO_BENCH_H
#define OCTAVO_BENCH_H

#include "octavo_engine.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* What the process returns. */
enum { EXIT_OK = 0, EXIT_CHECK_FAILED = 1, EXIT_BAD_INPUT = 2 };

enum { MAX_LIST = 32, MAX_BIASES = 1024, MAX_OPTIONS = 96 };

/* Every option of every command; a command lists the ones it takes, the parser refuses the others by name.
 * Strings are borrowed from argv. */
struct options {
	bool given[MAX_OPTIONS]; /* option_given reads it */
	const char *model, *prompts, *prompt, *text, *json;
	const char *drafter;  /* comma list: "none,mtp,medusa:dir,ngram+mtp" */
	const char *tree;     /* "4,2,1" or "dynamic:16,4,5" */
	const char *accept;
	const char *arithmetic; /* w8a16 | w8a8 */
	const char *kv;         /* bf16 | fp8 */
	const char *weights;    /* map | copy */
	const char *emulate;    /* hopper[:NC] */
	long k[MAX_LIST]; /* 0: auto */
	size_t k_count;
	bool brief; /* fewer draft lengths where none are given */
	double temperature[MAX_LIST];
	size_t temperature_count;
	unsigned top_k;
	double top_p, min_p, repetition, frequency, presence;
	struct octavo_confidence confidence;
	size_t draft_vocab;
	struct octavo_bias bias[MAX_BIASES];
	size_t biases;
	uint64_t seed; /* below 2^63 */
	size_t tokens, limit, context, threads, batch;
	const char *record;
	double seconds;
	bool ignore_eos, no_profile, record_hidden;
	struct octavo_stop stop[MAX_LIST];
	size_t stops;
	/* kernels */
	const char *op, *isa;
	size_t n[MAX_LIST], kdim[MAX_LIST], shapes;
	size_t rows[MAX_LIST], rows_count;
	size_t pool_mib;
	size_t repeats;
	size_t experts;  /* layer */
	const char *layer; /* run: what specbench layer wrote */
	const char *law; /* layer: independent | overlap:F */
	bool peers;
	const char *backend; /* NULL: none */
};

/* Parses argv[1..] after the command, and OCTAVO_CPU; prints what is wrong and returns EXIT_BAD_INPUT, or EXIT_OK, or
 * -1 after --help was printed.  `allowed` names the long options of this command, space separated. */
int options_parse(struct options *o, int argc, char **argv, const char *command, const char *allowed,
                  const char *help);

/* Whether an option was on the command line. */
bool option_given(const struct options *o, const char *name);

/* "specbench: " and the message, on stderr; returns EXIT_BAD_INPUT. */
int complain(const char *format, ...) OCTAVO_PRINTF(1, 2);

/* The model to use: --model, else OCTAVO_MODEL, else bench/model beside the program, else the installed one.
 * Returns NULL after complaining. */
const char *find_model(const struct options *o);

/* Whether there is a checkpoint, as far as its config.json says it; false after complaining. */
bool model_there(const char *dir);

/* The values of --arithmetic, --kv, --weights and --accept, or their defaults; false after complaining. */
bool arithmetic_parse(const struct options *o, enum octavo_arithmetic *out);
bool kv_parse(const struct options *o, enum octavo_kv_format *out);
bool weights_parse(const struct options *o, enum octavo_weight_place *out);
struct acceptance {
	enum octavo_accept rule;
	struct octavo_shortlist shortlist; /* of candidates:K[,P]; all 0 with other rules */
	char text[40];                     /* "match", "candidates:64,0.9" */
};
bool accept_parse(const struct options *o, struct acceptance *out);

/* sampling.c: what the options ask for at this temperature; where they say nothing, what the model recommends. */
#define USUAL_TEMPERATURE 0.8 /* of models that recommend none */
double usual_temperature(const struct octavo_model_info *model);
struct octavo_sampling sampling_of(const struct options *o, const struct octavo_model_info *model, double temperature);
/* Whether the model has the tokens of --logit-bias, and no value becomes 0 as a float; false after complaining. */
bool sampling_check(const struct options *o, const struct octavo_model_info *model);
/* Reads "ID=V,ID=V"; false for what is no such list, or a token that was there before. */
bool store_biases(struct options *o, const char *text);
/* ", top-p 0.95": all but the temperature, as far as it is on; empty if nothing is. */
enum { SAMPLING_TEXT = 192 };
void sampling_text(const struct octavo_sampling *s, char *text, size_t size);
void sampling_json(const struct octavo_sampling *s, json_t *settings);

/* Whether a session can be asked for drafter text[length]; false after complaining. */
bool drafter_check(const char *text, size_t length);
/* What a table calls a drafter: of directories the last name alone, cut where it gets long. */
enum { DRAFTER_LABEL = 25 };
void drafter_label(const char *drafter, char label[DRAFTER_LABEL]);

/* What --tree asks for: all 0 without the option; false after complaining. */
struct tree {
	unsigned width[OCTAVO_MAX_K]; /* of a fixed one, up to the first 0 */
	struct octavo_dynamic dynamic;
};
bool tree_parse(const struct options *o, struct tree *tree);

/* Whether OCTAVO_CPU is unset, empty or a name; complains otherwise. */
bool cpu_choice_known(void);
/* One line on stderr if OCTAVO_CPU asks for kernels that this machine has not got. */
void cpu_choice_note(void);

/* ---- console.c ----------------------------------------------------------------------------------------------- */

/* A progress line on stderr, only if that is a terminal. */
void progress(const char *what, size_t done, size_t total);
void progress_clear(void);

/* Prints text, from column `at` on, and ends the line; broken at spaces, to go on at column `indent`, where it gets
 * longer than LINE_WIDTH.  Nothing for an empty text. */
enum { LINE_WIDTH = 118 };
void print_wrapped(const char *text, size_t at, size_t indent);
/* From here on the first Ctrl-C (SIGINT) is not the end: `interrupted` says that it came.  The second one is. */
void interrupt_watch(void);
bool interrupted(void);
/* Where the report is out, ends the process as an interrupt would have, if there was one. */
void interrupt_pass_on(void);

/* ---- common.c ------------------------------------------------------------------------------------------------ */

/* A whole file, to be freed, with a zero byte behind it; NULL after complaining. */
unsigned char *read_file(const char *path, size_t *size);

/* The threads for kernels called without an engine; 0: all. */
struct octavo_parallel bench_parallel(size_t threads);

/* The sets of kernels of this machine: the reference first, then each whose table differs from the last one's. */
enum { MAX_SETS = 8 };
struct kernel_set {
	const char *name; /* "avx512": the group of instructions that brought it */
	struct octavo_kernels table;
};
size_t kernel_sets(struct kernel_set set[MAX_SETS]);

/* Lays the kernels of --backend over *table; false after complaining. */
bool backend_overlay(const char *backend, struct octavo_kernels *table);
/* The same for an engine: sets settings->kernels to the best ones with the backend's over them. */
bool engine_backend(const struct options *o, struct octavo_engine_settings *settings);
/* "native", or the name of --backend. */
const char *backend_name(const struct options *o);

/* Commands.  Each gets argv from its own name on. */
int command_default(int argc, char **argv);
int command_run(int argc, char **argv);
int command_generate(int argc, char **argv);
int command_eval(int argc, char **argv);
int command_kernels(int argc, char **argv);
int command_layer(int argc, char **argv);
int command_machine(int argc, char **argv);
int command_selftest(int argc, char **argv);

/* ---- machine.c -------------------------------------------------------------------------------------------- */

struct machine {
	char cpu[128], hypervisor[64], kernel[128];
	char isa[128];       /* "avx2 avx512 vbmi gfni" */
	const char *chosen;  /* the set the table uses */
	const char *isa_reason;
	size_t threads, nodes, page_size;
	size_t cache[4];     /* bytes of L1d, L2, L3, 0 if unknown; [0] unused */
	double memory_gib;
	/* measured; 0: not measured, or no such instructions */
	double read_gbs, peak_gflops, pair_gflops, tile_gflops;
};
/* Reads what the system tells; measures nothing. */
void machine_describe(struct machine *m, size_t threads);
/* Bytes of memory that can be had without swapping or throwing others' out; 0: unknown. */
size_t machine_available(void);
/* Reads `bytes` once, with plain loop number `loop` of machine_read_loops() and all threads: GB/s, or 0 for a loop that
 * this processor cannot run. */
size_t machine_read_loops(void);
double machine_read_once(size_t loop, const void *at, size_t bytes, size_t threads);
/* The fastest loop over `pool`, best of `repeats`, in GB/s. */
double machine_read_bandwidth(const void *pool, size_t bytes, size_t threads, size_t repeats);
/* Fills m's peaks of arithmetic, with m's threads: FP32 fused multiply-adds with the fastest of the processor's vector
 * widths, multiply-adds of BF16 pairs (AVX512_BF16) and those of AMX tiles. */
void machine_measure_peaks(struct machine *m);
/* Memory to read and compute from, to be freed: no more of it than is available.  NULL after complaining. */
void *machine_pool(size_t bytes);
void machine_print(const struct machine *m);
json_t *machine_json(const struct machine *m);
json_t *counters_json(const struct octavo_profile *profile);
/* A paragraph for each remedy, or reason if there is none, with the counters that it would bring: several are usually
 * missing for one reason.  Without those that have no remedy if `reasons_told`. */
void counters_missing(const struct octavo_profile *p, bool reasons_told);

/* ---- load.c ------------------------------------------------------------------------------------------------- */

/* Processors that others had, on average. */
struct load {
	bool known;
	double others, host; /* other processes; the host of a virtual machine */
	double wall;         /* seconds */
};
struct load load_start(void);
struct load load_since(const struct load *start);
/* A note, if it is a tenth of a processor or more. */
void load_print(const struct load *l);
json_t *load_json(const struct load *l);

/* ---- kernels.c --------------------------------------------------------------------------------------------- */

/* Measures, prints a table and returns the "kernels" array of the JSON document (NULL after complaining).
 * Fills m->peak_gflops, m->tile_gflops and, from the same pool, interleaved, m->read_gbs. */
json_t *kernels_measure(const struct options *o, struct machine *m);

/* ---- emulate.c --------------------------------------------------------------------------------------------- */

/* `specbench kernels --op emulate`; an exit status. */
int emulate_report(const struct options *o);

/* ---- JSON documents ----------------------------------------------------------------------------------------- */

/* Whether json_write could write there, to be asked before measuring; true for NULL.  Complains otherwise. */
bool json_writable(const char *path);
/* Writes a document: a regular file is replaced at once, anything else (a device, a pipe, a link) is written to.
 * Complains and returns false on failure. */
bool json_write(json_t *document, const char *path);
/* {"schema": 1, "tool": …, "version": …, "date": …, "command": […]} */
json_t *json_document(void);
/* Remembers the command line for it. */
void json_command(int argc, char **argv);

#endif
