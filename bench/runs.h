/* SPDX-License-Identifier: Apache-2.0
 *
 * Decoding runs: every configuration decodes the same prompts, interleaved with plain decoding.
 */
#ifndef OCTAVO_RUNS_H
#define OCTAVO_RUNS_H

#include "bench/bench.h"

#include <string.h>

struct prompt {
	char *id, *category, *text;
	int32_t *token;
	size_t tokens;
	size_t line; /* of the file */
};

struct prompts {
	struct prompt *item;
	size_t count;
};

/* Reads JSON lines {"id", "category", "text"}, puts two of each category in turn, and encodes the first `limit` (0:
 * all). Complains with file and line. */
bool prompts_load(struct prompts *out, const char *path, struct octavo_engine *engine, size_t limit);
void prompts_free(struct prompts *p);

/* The first token at which a run left the plain one. */
struct divergence {
	bool found;
	const char *prompt;
	size_t token, position; /* 0 is the first that was emitted, and the prompt's first */
	int32_t plain, got; /* -1: none */
	float margin; /* of the plain run's logits there */
	bool explained; /* the rest of this could be found out */
	struct octavo_explanation why;
};

/* Under a LOSSY rule: how many tokens followed the text of plain decoding, up to where each prompt's stream parted from
 * it, and how many prompts did: the last of their tokens was another than plain decoding's behind the same text. */
struct parting {
	size_t tokens, prompts;
};

/* What predictions are made of and tested on: sums over every other prompt, or group of prompts. */
enum { MAX_ROWS = 4096 }; /* of a forward, which the engine does not exceed either */
struct half {
	size_t tokens, steps;      /* steps: of the whole batch */
	size_t rows[MAX_ROWS + 1]; /* steps that verified so many rows, of all sequences together */
	size_t expert_union, expert_rows;
	double ns, draft_ns, verify_ns;
};

/* One configuration and what it did, summed over prompts. */
struct run {
	char *drafter;               /* as it was asked for */
	char label[DRAFTER_LABEL];   /* what a table calls it */
	unsigned k;                  /* 0: auto, unless there is a tree */
	struct tree tree;
	char shape[32];              /* "2", "auto", "4,2,1", "dynamic:16,4,5": what a table says of it */
	struct octavo_depth depth;   /* for auto: what is learnt from one prompt to the next */
	struct acceptance accept;
	double temperature; /* as it was typed; sampling holds the nearest float */
	struct octavo_sampling sampling;
	size_t batch; /* sequences side by side */
	size_t prompts;
	size_t groups; /* of prompts that were measured together: each prompt, unless there is a batch */
	size_t tokens, steps, zero_draft_steps; /* steps: of single sequences */
	size_t drafted[OCTAVO_MAX_K], accepted[OCTAVO_MAX_K];
	double *ns;        /* [groups] decode time */
	size_t *per_group; /* [groups] tokens */
	double prefill_ns, decode_ns;
	struct half half[2]; /* even groups, odd groups */
	double distinct4; /* mean over prompts of distinct 4-grams / 4-grams */
	struct divergence divergence;
	struct parting parting;
	size_t candidates, full_rows, full_steps; /* of the candidates rule, as octavo_session_stats has them */
	struct octavo_profile profile; /* sums; sources of the last report */
	double (*thread_ns)[OCTAVO_PHASE_COUNT]; /* [threads] self wall time, the session's thread first */
	size_t threads;
	/* Against the plain run of the same temperature and batch */
	double tokens_per_s, speedup, lo, hi;
	double alone_tokens_per_s; /* of plain decoding, one prompt at a time; 0 without a batch */
};

/* cost.c: the verify cost curve; count 0 for a model too small for one.  Leaves the engine's sequences as it found
 * them: no session may be open.  Complains and returns false on error. */
bool cost_measure(struct octavo_cost *cost, struct octavo_engine *engine, const struct prompts *prompts);
void cost_print(const struct octavo_cost *cost);
/* {"1": 1.0, "2": r(2), …} */
json_t *cost_json(const struct octavo_cost *cost);

/* predict.c: the speed-up of a run over plain decoding, from the terms of the even prompts, beside
 * what the odd prompts measured. */
struct prediction {
	bool known; /* there are two prompts and a curve */
	double tau;                    /* tokens per step */
	double draft, verify, accept;  /* per step, in forwards of one row; accept: all else */
	double curve;                  /* verify by the cost curve */
	double speedup, measured;      /* of the odd prompts */
	const char *off;               /* the term that explains most of an error above a tenth; NULL: none */
};
struct prediction predict(const struct octavo_cost *cost, const struct run *run, const struct run *plain);

/* Widths of the columns that tables have in common. */
struct columns {
	int drafter, shape, acceptance;
};

/* layer_curve.c: the speed-up that would follow from the same acceptance where rows cost what they cost in a layer of
 * full size.  The curve is that of a document that `specbench layer --json` wrote; false after complaining. */
bool layer_curve_load(struct octavo_cost *full, const char *path);
struct outlook {
	bool known;           /* there is such a curve */
	double tau;           /* tokens per step, of all prompts */
	double draft, verify; /* per step, in forwards of one row */
	double speedup, speedup_free; /* with the drafts as measured, and for nothing */
};
struct outlook outlook_of(const struct octavo_cost *full, const struct run *run, const struct run *plain);
void outlook_head(const struct octavo_cost *full, const char *path, const struct columns *columns);
void outlook_print(const struct outlook *o, const struct run *run, const struct columns *columns);
json_t *outlook_json(const struct outlook *o);

struct recorder;

/* divergence.c: the first token of a prompt that is another than plain decoding's goes to run->divergence, and why: the
 * session is run again. */
struct runs;
struct output;
void divergence_find(const struct runs *r, struct run *run, const struct output *got, const struct output *plain,
                     const struct prompt *prompt);
void divergence_print(const struct runs *r, const struct run *run);
json_t *divergence_json(const struct runs *r, const struct run *run);

struct runs {
	struct octavo_cost cost;
	struct octavo_cost full;   /* of --layer; count 0 without */
	const char *full_file;
	size_t draft_vocab; /* 0: all tokens */
	struct run *run; /* [total] the first of each temperature is plain decoding */
	size_t count, total; /* those behind count are plain decoding of one prompt at a time, if there is a batch */
	size_t batch;
	const struct prompts *list; /* while they are measured and reported */
	size_t prompts; /* measured; fewer than loaded if the time was up */
	size_t loaded, tokens; /* per prompt */
	const struct octavo_model_info *info;
	const struct octavo_engine_settings *engine; /* what it was opened with */
	const char *model, *arithmetic, *kv, *prompts_file, *backend; /* backend: NULL for none */
	double seconds;
	struct load load; /* while they were measured */
};

/* Whether --accept and --drafter hold what they may, as far as that can be said without the model. */
bool runs_check(const struct options *o);
/* Adds configurations from options: drafters x k x temperatures, plain decoding first for each temperature.
 * Without --drafter: all that the model can feed. */
bool runs_plan(struct runs *r, const struct options *o, const struct octavo_engine *engine);
/* decode.c: whether the engine can open a session for each configuration, its drafter's files included; complains
 * otherwise. */
bool runs_try(const struct runs *r, const struct options *o, struct octavo_engine *engine);
/* measure.c: warms up, measures and compares; stops after o->seconds (0: all prompts), or the first Ctrl-C.  Complains
 * and returns false on error. */
bool runs_measure(struct runs *r, const struct options *o, struct octavo_engine *engine,
                  struct octavo_profiler *profiler, struct recorder *recorder, const struct prompts *prompts);
void runs_free(struct runs *r);

/* decode.c */
struct output {
	int32_t *token; /* [tokens, or the context if that is less] */
	float *margin;  /* the same */
	struct octavo_history *history; /* for what may have to be explained */
	size_t count;
	struct octavo_session_stats stats;
};
struct decoding {
	struct octavo_engine *engine;
	struct run *run;
	const struct options *options;
	const struct prompts *prompts;
	size_t tokens;             /* of each prompt, at most */
	struct recorder *recorder; /* NULL: none */
};
/* Decodes prompts first .. first + count, run->batch of them side by side while there are so many.  Adds what rounds
 * know to *sums, which may be NULL.  Complains and returns false on error. */
bool decode_prompts(const struct decoding *d, size_t first, size_t count, struct output *out, struct half *sums);

/* record.c: the file of --record */
struct recorder {
	FILE *file;
	const char *path;
	bool hidden;
	size_t width; /* of hidden states */
	size_t lines;
};
/* Each complains and returns false on failure. */
bool record_open(struct recorder *r, const struct options *o);
/* The session's last step. */
bool record_step(struct recorder *r, const struct run *run, const struct prompt *prompt,
                 const struct octavo_session *session);
bool record_close(struct recorder *r);

static inline bool run_is_plain(const struct run *run)
{
	return !strcmp(run->drafter, "none");
}

/* report_categories.c */
void categories_print(const struct runs *r, size_t first, size_t end);
/* Adds a run's speed-up by category and the geometric mean of these; null where prompts were decoded side by side. */
void categories_json(json_t *o, const struct runs *r, const struct run *run, const struct run *plain);
/* The experts that a step reads, against the formula for independent routing; nothing, or null, for a dense model. */
void experts_print(const struct runs *r, size_t first, size_t end);
void experts_json(json_t *o, const struct runs *r, const struct run *run);

/* report_phases.c; nothing, or null, without the profiler */
void phases_print(const struct runs *r, size_t first, size_t end);
/* Which counters there are, and why others are not. */
void phases_notes(const struct octavo_profile *p);
json_t *phases_json(const struct octavo_profile *p);
/* Each thread's own wall time per phase, the session's thread first. */
json_t *phases_threads_json(const struct run *run);

/* report.c */
void runs_print(const struct runs *r);
json_t *runs_json(const struct runs *r);
/* Why not all prompts were measured: "seconds", "interrupt"; null if they were. */
json_t *runs_stopped_json(const struct runs *r);
/* settings.c: what was asked for, the parameters that all runs share. */
json_t *runs_settings_json(const struct runs *r, const struct options *o, const struct machine *m,
                           const struct octavo_model_info *model);
/* Wide enough for runs first .. end. */
struct columns runs_columns(const struct runs *r, size_t first, size_t end);
/* How each line of a table begins: drafter and k. */
void columns_head(const struct columns *c);
void columns_run(const struct columns *c, const struct run *run);
/* What a run promises of its tokens, against plain decoding. */
enum octavo_promise run_promise(const struct run *run);
/* Whether every run that promises the tokens of plain decoding has them. */
bool runs_identical(const struct runs *r);

#endif
