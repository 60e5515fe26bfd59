/* SPDX-License-Identifier: Apache-2.0
 *
 * Decoding runs: every configuration decodes the same prompts, interleaved with plain decoding.
 */
#ifndef OCTAVO_RUNS_H
#define OCTAVO_RUNS_H

#include "bench/bench.h"

struct prompt {
	char *id, *category, *text;
	int32_t *token;
	size_t tokens;
};

struct prompts {
	struct prompt *item;
	size_t count;
};

/* Reads JSON lines {"id", "category", "text"} and encodes them; complains with file and line. */
bool prompts_load(struct prompts *out, const char *path, struct octavo_engine *engine, size_t limit);
void prompts_free(struct prompts *p);

/* The first token at which a run left the plain one. */
struct divergence {
	bool found;
	const char *prompt;
	size_t token;
	int32_t plain, got;
	float margin; /* of the plain run's logits there */
};

/* One configuration and what it did, summed over prompts. */
struct run {
	const char *drafter;
	unsigned k;
	enum octavo_accept accept;
	double temperature; /* as it was typed; sampling holds the nearest float */
	struct octavo_sampling sampling;
	size_t prompts, tokens, steps, zero_draft_steps, expert_union, expert_rows;
	size_t drafted[OCTAVO_MAX_K], accepted[OCTAVO_MAX_K];
	double *ns;       /* [prompts measured] decode time per prompt */
	size_t *per_prompt; /* [prompts measured] tokens per prompt */
	double prefill_ns, decode_ns;
	double distinct4; /* mean over prompts of distinct 4-grams / 4-grams */
	struct divergence divergence;
	struct octavo_profile profile; /* sums; sources of the last report */
	double (*thread_ns)[OCTAVO_PHASE_COUNT]; /* [threads] self wall time, the session's thread first */
	size_t threads;
	/* Against the plain run of the same temperature */
	double tokens_per_s, speedup, lo, hi;
};

/* cost.c: the verify cost curve. */
struct cost {
	size_t count, rows[8];
	double ns[8]; /* medians */
};
/* Leaves the engine's sequences as it found them: no session may be open.  Complains and returns false on error. */
bool cost_measure(struct cost *cost, struct octavo_engine *engine, const struct prompts *prompts);
void cost_print(const struct cost *cost);
/* {"1": 1.0, "2": r(2), …} */
json_t *cost_json(const struct cost *cost);

struct runs {
	struct cost cost;
	struct run *run; /* the first of each temperature is plain decoding */
	size_t count;
	size_t prompts; /* measured; fewer than loaded if the time was up */
	size_t loaded, tokens; /* per prompt */
	const char *model, *arithmetic, *kv, *prompts_file;
	double seconds;
};

/* Whether --accept and --drafter hold what they may, as far as that can be said without the model. */
bool runs_check(const struct options *o);
/* Adds configurations from options: drafters x k x temperatures, plain decoding first for each temperature.
 * Without --drafter: all that the model can feed. */
bool runs_plan(struct runs *r, const struct options *o, const struct octavo_model_info *model);
/* Warms up, measures and compares; stops after o->seconds (0: all prompts).  Complains and returns false on error. */
bool runs_measure(struct runs *r, const struct options *o, struct octavo_engine *engine,
                  struct octavo_profiler *profiler, const struct prompts *prompts);
void runs_free(struct runs *r);

/* report.c */
void runs_print(const struct runs *r);
json_t *runs_json(const struct runs *r);
/* What was asked for: the parameters that all runs share. */
json_t *runs_settings_json(const struct runs *r, const struct options *o, const struct machine *m, size_t context);
/* What a run promises of its tokens, against plain decoding. */
enum octavo_promise run_promise(const struct run *run);
/* Whether every run that promises the tokens of plain decoding has them. */
bool runs_identical(const struct runs *r);

#endif
