/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine: loads a checkpoint of the DeepSeek-V3 family, or of a dense model (Llama, Mistral, Qwen 2 and 3), and
 * decodes with it, speculatively or not.
 *
 *     struct octavo_engine *engine;
 *     struct octavo_error error;
 *     struct octavo_engine_settings settings = { .model_dir = "model" };
 *     if (octavo_engine_open(&engine, &settings, &error) != OCTAVO_OK) { puts(error.text); … }
 *
 * An engine and its sessions belong to one thread at a time, and to the process that opened them: the threads of a pool
 * do not survive a fork.  An error argument may be NULL; its text names the file, field or argument, and the reason.
 */
#ifndef OCTAVO_ENGINE_H
#define OCTAVO_ENGINE_H

#include "octavo_kernels.h"
#include "octavo_profiler.h"
#include "octavo_verify.h"

#ifdef __cplusplus
extern "C" {
#endif

struct octavo_engine;
struct octavo_session;
struct octavo_history;

/* W8A16 keeps activations in BF16; W8A8 quantises them 1x128 before every FP8 matrix, as the model is
 * served on GPUs.  Matrices that are not FP8 see BF16 activations in both. */
enum octavo_arithmetic { OCTAVO_W8A16, OCTAVO_W8A8 };

/* What the latent cache keeps of a token: BF16, or the FP8 rows of octavo_kv_row_write (656 bytes instead of 1152 in
 * DeepSeek-V3's layers), which attention reads as BF16(code * scale).  Beside an FP8 cache the engine holds one layer
 * of it in BF16.  Dense models have keys and values in the place of latents, in BF16 only. */
enum octavo_kv_format { OCTAVO_KV_BF16, OCTAVO_KV_FP8 };

/* Where the weights lie: in the mapped files, shared with all who read them and dropped by the system when it likes; or
 * in a copy of the process's own, in huge pages and spread over its NUMA nodes, which takes as much memory as the files
 * have bytes and is read once more at open. */
enum octavo_weight_place { OCTAVO_WEIGHTS_MAP, OCTAVO_WEIGHTS_COPY };

/* Which hidden state an MTP module is fed with: after its final norm (what served V3 models use) or before. */
enum octavo_tap { OCTAVO_TAP_POST_NORM, OCTAVO_TAP_PRE_NORM };

/* Zero-initialised fields take the defaults.  Borrowed for the call: model_dir; drafters with files of their own are
 * looked for below it when sessions are opened.  Borrowed until the engine is closed:
 * kernels, profiler, and the context behind parallel.  At most 4096 threads, rows and sequences. */
struct octavo_engine_settings {
	const char *model_dir;
	unsigned threads;                      /* 0: all that this process may run on; ignored with `parallel` */
	const struct octavo_parallel *parallel; /* the caller's pool; NULL: the engine's own */
	const struct octavo_kernels *kernels;  /* NULL: octavo_kernels_get() */
	struct octavo_profiler *profiler;      /* NULL: none */
	enum octavo_arithmetic arithmetic;
	enum octavo_kv_format kv;
	enum octavo_weight_place weights;
	enum octavo_tap mtp_first_tap, mtp_recycle_tap;
	size_t max_context;                    /* tokens per sequence; 0: the model's, at most 4096 */
	/* Rows per batch; 0: 64.  Prompts run in batches of so many, each of which reads every matrix once, and of a
	 * mixture of experts nearly all: long prompts gain from more, for more memory */
	size_t max_rows;
	size_t sequences;                      /* KV caches; 0: 1 */
	/* Sessions run prompts this long in MLA's naive form; 0: never.  Each batch expands the whole context's keys
	 * and values first: by operations counted, DeepSeek-V3's sizes repay that from some 170 rows a batch on */
	size_t naive_min;
};

/* *out is NULL after a failure.  EINVAL and ELIMIT for settings; EIO for a file that is not there or cannot be read,
 * EFORMAT, ENUMERIC and ELIMIT for what is wrong in one, ENOTSUP for what is right but not implemented; ENOMEM, and
 * ESYSTEM for threads. */
OCTAVO_API enum octavo_status octavo_engine_open(struct octavo_engine **out,
                                                 const struct octavo_engine_settings *settings,
                                                 struct octavo_error *error);
/* Closes and nulls; all sessions must be closed before. */
OCTAVO_API void octavo_engine_close(struct octavo_engine **engine);

struct octavo_model_info {
	const char *architecture; /* model_type: "deepseek_v3", "llama" */
	size_t layers, mtp_layers, hidden, vocab, heads;
	size_t experts, experts_per_token; /* 0 for a dense model */
	size_t context;                    /* of this engine, after max_context */
	size_t parameters, active_parameters; /* of matrices; active counts one token, without the embedding table */
	size_t weight_bytes;
	size_t kv_bytes;                   /* of one sequence's cache */
	int32_t bos;                       /* -1 if the tokenizer adds none (add_bos_token, or its post_processor) */
	const int32_t *eos;                /* [eos_count] */
	size_t eos_count;
	/* generation_config.json's temperature (0 where do_sample is false, negative where it says nothing), top_k,
	 * top_p, min_p and repetition_penalty.  Sessions take none of it by themselves. */
	struct octavo_sampling recommended;
};
OCTAVO_API const struct octavo_model_info *octavo_engine_model(const struct octavo_engine *engine);

/* ---- Threads ---------------------------------------------------------------------------------- */

/* The engine's kind of thread pool for callers of the kernels' drivers who have none: fills *out.
 * threads 0: all processors that this process may run on.  One caller at a time, regions do not nest, fewer than
 * 2^32 tasks.  EINVAL for a null argument or more than 4096 threads, ENOMEM, ESYSTEM. */
OCTAVO_API enum octavo_status octavo_parallel_open(struct octavo_parallel *out, size_t threads);
OCTAVO_API void octavo_parallel_close(struct octavo_parallel *parallel);

/* ---- Text ------------------------------------------------------------------------------------- */

enum {
	OCTAVO_ENCODE_BOS = 1u << 0,     /* begin with the tokenizer's BOS, if it wants one */
	OCTAVO_ENCODE_CONTROL = 1u << 1, /* added tokens in the text become their ids; without it they are plain text */
};
/* UTF-8 text to ids.  *count gets the number of ids; ELIMIT if it exceeds cap (and then *count says how many
 * are needed).  EFORMAT for text that is not UTF-8. */
OCTAVO_API enum octavo_status octavo_encode(const struct octavo_engine *engine, const char *text, size_t length,
                                            unsigned flags, int32_t *id, size_t cap, size_t *count,
                                            struct octavo_error *error);
/* The bytes of one token (not necessarily whole characters), a NUL behind them, until the engine is closed; their
 * number goes to *length unless that is NULL.  NULL for an id without text. */
OCTAVO_API const char *octavo_token_text(const struct octavo_engine *engine, int32_t id, size_t *length);

/* ---- Batches ---------------------------------------------------------------------------------- */

enum {
	OCTAVO_ROW_LOGITS = 1u << 0, /* logits are wanted */
	OCTAVO_ROW_NAIVE = 1u << 1,  /* attention takes MLA's naive form: other roundings than the absorbed one */
};

/* The struct that crosses every door.  Rows of one sequence must come in ascending order of their position
 * in the tree; parent[row] is the row's parent in this batch, or -1 for the sequence's last committed token. */
struct octavo_batch {
	size_t rows;
	const int32_t *token;
	const int32_t *pos;    /* absolute; parent's + 1 */
	const int32_t *seq;    /* which KV cache */
	const int32_t *parent;
	const uint8_t *flags;
};

/* One pass of the main model: appends the rows to their caches as provisional and leaves their logits in the
 * engine.  Provisional rows live until the next forward, of whatever sequence, or the commit of their sequence.
 * Sessions take sequences of their own from the first free ones: use sequences that no session holds.  EINVAL for a
 * row that breaks the rules of octavo_batch, ELIMIT for more rows than max_rows or a position that the context does not
 * hold. */
OCTAVO_API enum octavo_status octavo_forward(struct octavo_engine *engine, const struct octavo_batch *batch,
                                             struct octavo_error *error);
/* Logits of a row of the last forward, [vocab] F32; NULL if none were wanted. */
OCTAVO_API const float *octavo_logits(const struct octavo_engine *engine, size_t row);
/* The main model's hidden state of a row of the last forward, [hidden] F32, before or after the final norm. */
OCTAVO_API const float *octavo_hidden(const struct octavo_engine *engine, size_t row, enum octavo_tap tap);

/* Of the last forward, summed over its MoE layers: the distinct experts that it read, the shared one apart, and its
 * rows.  Zero for a dense model; either pointer may be NULL. */
OCTAVO_API void octavo_forward_experts(const struct octavo_engine *engine, size_t *distinct, size_t *rows);

/* Makes rows of the last forward part of sequence `seq`: a path from the last committed token, ascending.  EINVAL for
 * anything else; then nothing is committed. */
OCTAVO_API enum octavo_status octavo_commit(struct octavo_engine *engine, int32_t seq, const uint32_t *row,
                                            size_t count, struct octavo_error *error);
/* Shortens a sequence to `length` committed tokens (0: forget it).  EINVAL if it is shorter. */
OCTAVO_API enum octavo_status octavo_rewind(struct octavo_engine *engine, int32_t seq, size_t length,
                                            struct octavo_error *error);
OCTAVO_API size_t octavo_sequence_length(const struct octavo_engine *engine, int32_t seq);

/* ---- What drafting costs and brings --------------------------------------------------------------- */

#define OCTAVO_MAX_K 8 /* tokens drafted in a row */
#define OCTAVO_DRAFT_OTHERS 1024 /* tokens of a text that can be drafted beside draft_vocab's */

/* What a forward takes by its rows behind others of as many, on this machine and with this model: the median of several;
 * never falling. */
#define OCTAVO_MAX_KNOTS 8
struct octavo_cost {
	size_t count;
	size_t rows[OCTAVO_MAX_KNOTS]; /* 1, 2, 3, 4, 5, 6, 8, 16, as far as they fit */
	double ns[OCTAVO_MAX_KNOTS];
};
/* ns of a forward of `rows` rows: between the curve's points along straight lines, behind the last along the last line.
 * The curve holds at least one point. */
OCTAVO_API double octavo_cost_at(const struct octavo_cost *cost, size_t rows);
/* Runs token[count] behind what sequence `seq` holds, a few at a time, over and over, and then rewinds to where it was.
 * What caches hold depends on what was run before: take some dozens of tokens of real text.  A dozen forwards of each
 * size, but for no longer than about a second once each was timed.  The engine keeps the curve for sessions that choose
 * k themselves; without this call the first of them measures it. */
OCTAVO_API enum octavo_status octavo_measure_cost(struct octavo_engine *engine, int32_t seq, const int32_t *token,
                                                  size_t count, struct octavo_cost *cost, struct octavo_error *error);

/* Classes of how sure a drafter is of a token. */
#define OCTAVO_SHARES 8

/* Running estimates behind the choice of k; all zero: nothing known yet. */
struct octavo_depth {
	struct octavo_depth_source { /* the drafter, or the second of a pair */
		double tried[OCTAVO_MAX_K], kept[OCTAVO_MAX_K]; /* tokens judged at each depth, fading */
		double ever_tried[OCTAVO_MAX_K], ever_kept[OCTAVO_MAX_K]; /* the same, fading more slowly */
		/* Of drafters with laws, by how sure they were: tokens judged, fading slowly, and tokens drafted, fading */
		double sure_tried[OCTAVO_SHARES], sure_kept[OCTAVO_SHARES], sure[OCTAVO_SHARES];
		/* Running means, and how many values they have seen; the first three over `speed` */
		double draft_ns[OCTAVO_MAX_K + 1], drafts[OCTAVO_MAX_K + 1]; /* by tokens drafted */
		double late_ns, lates;     /* per token that a draft had to catch up on first; these count by their tokens */
		double accept_ns, accepts; /* per emitted token */
		double speed, forwards;    /* their times over the curve's */
		/* By tokens submitted, and the last where all that were drafted were left out: sums of times over the curve's
		 * and the speed, and how many forwards, fading */
		double shape[OCTAVO_MAX_K + 2], seen[OCTAVO_MAX_K + 2];
		double wake, wakes; /* of a forward behind one of more rows, over what it takes otherwise */
		size_t rows;       /* of the last forward */
		double watched;    /* rows beside a draft that were run for what the drafter learns of them */
		double spare_ns;   /* may be spent on learning */
		double trial_ns;   /* a step taken to learn: what is not charged for; else 0 */
		unsigned trial;    /* the k of this step */
	} source[2];
};

/* ---- Sessions: the decode loop ----------------------------------------------------------------- */

/* A tree that grows where the drafter is sure: EAGLE-2 (Li et al., arXiv 2406.16858, section 4).  Of each depth the
 * top_k nodes that it holds likeliest, by the product of their tokens' probabilities from the root on, get its top_k
 * tokens as children; of all nodes the likeliest are verified. */
struct octavo_dynamic {
	unsigned rows;  /* verified, the root included: 2 to OCTAVO_MAX_DRAFT; 0: no dynamic tree */
	unsigned top_k; /* at least 1 */
	unsigned depth; /* 1 to OCTAVO_MAX_K; the drafter runs 1 + top_k * (depth - 1) rows, at most OCTAVO_MAX_DRAFT */
};

/* A text that ends a session: bytes, not necessarily whole characters. */
struct octavo_stop {
	const char *text; /* [length] */
	size_t length;    /* at least 1 */
};

struct octavo_session_settings {
	/* "none" (also NULL), "mtp", "ngram", "model", "medusa", … (octavo_drafter_names lists them); "NAME:DIR" for
	 * one with files of its own in DIR, which without :DIR are in <model_dir>/drafters/NAME; or a pair: "ngram+mtp"
	 * drafts with the second where the first has nothing to propose */
	const char *drafter;
	/* Drafted tokens per step, at most OCTAVO_MAX_K; 0: chosen for each step from what forwards and drafts cost and
	 * how many are kept, none included.  With match and greedy no k changes the tokens */
	unsigned k;
	/* Borrowed: with k 0, estimates to begin with and to keep up to date, so that sessions of like texts learn from
	 * one another; NULL: the session's own, kept from prompt to prompt */
	struct octavo_depth *depth;
	/* Children per node and depth, up to the first 0: { 4, 2, 1 } has 1+4+8+8 rows, at most OCTAVO_MAX_DRAFT;
	 * { 0 }: a chain of k */
	unsigned tree[OCTAVO_MAX_K];
	/* A tree of this kind instead, with k 0.  Its nodes are chosen, so not with rules of SAME_LAW, which draw them:
	 * dropping drawn tokens for what they are changes the law */
	struct octavo_dynamic dynamic;
	/* Greedy requires temperature 0; rejection and block take chains only.  With the rules of SAME_LAW drafters
	 * with laws (all but ngram and lookahead) draw their tokens instead of taking the best */
	enum octavo_accept accept;
	/* Of the candidates rule, which wants at least shortlist.most; takes neither bias nor penalties, and drafters
	 * with laws: octavo_drafter_suits */
	struct octavo_shortlist shortlist;
	/* Drafters with laws draft only tokens with ids below this, and those of the text: of these the last 1024 different
	 * ones (OCTAVO_DRAFT_OTHERS).  Their heads are evaluated for no others, which saves time where the vocabulary is
	 * large, costs drafts, and takes memory for a copy of the text's rows of the head.  All rules keep what they
	 * promise.  0: all tokens; otherwise 2 to the vocabulary */
	size_t draft_vocab;
	struct octavo_confidence confidence; /* where drafters with laws stop (octavo_verify.h); all zero: nowhere */
	struct octavo_sampling sampling; /* its biases are borrowed until the session is closed */
	struct octavo_stream stream;     /* of random numbers: the same settings and stream, the same tokens */
	size_t max_new;  /* stop after so many tokens; 0: until the context is full */
	int ignore_eos;  /* end-of-sequence tokens are emitted like others, and do not end the session */
	/* [stops] borrowed until the session is closed.  The session ends with the token whose text completes one of
	 * these in the text of what it emitted; a stop may begin in one token and end in another.  That token is still
	 * emitted, so the last tokens hold the stop and perhaps more: the first stats->text bytes are to be shown. */
	const struct octavo_stop *stop;
	size_t stops;
	/* Borrowed: takes down what each round since the last prompt verified, for octavo_explain; may be NULL */
	struct octavo_history *history;
};

/* Takes memory as a session goes on: some 8 bytes per row that it verifies.  ENOMEM. */
OCTAVO_API enum octavo_status octavo_history_open(struct octavo_history **out, struct octavo_error *error);
OCTAVO_API void octavo_history_close(struct octavo_history **history);

/* NULL-terminated; pairs are not listed. */
OCTAVO_API const char *const *octavo_drafter_names(void);
/* Whether a session can be asked for this drafter, pairs and directories included; *error (or NULL) says why not.  That
 * the directories exist is not asked. */
OCTAVO_API int octavo_drafter_known(const char *drafter, struct octavo_error *error);
/* Whether the acceptance rule can do with this drafter; *error (or NULL) says why not.  All rules can with all
 * drafters, but candidates needs one with laws (not none, ngram or lookahead alone; of a pair, one of the two), and
 * cannot do with lookahead, whose window wants all logits of its rows. */
OCTAVO_API int octavo_drafter_suits(const char *drafter, enum octavo_accept rule, struct octavo_error *error);
/* Whether this engine's model has what the drafter needs: an MTP module, or a directory of files.  They are not looked
 * into. */
OCTAVO_API int octavo_engine_feeds(const struct octavo_engine *engine, const char *drafter);

/* Takes a free KV cache of the engine: ELIMIT if there is none.  ENOTSUP for a drafter that the model cannot
 * feed (mtp without an MTP module), EINVAL for an unknown name or an argument that does not fit it, EIO for a directory
 * that is not there; EFORMAT and others name the file and tensor of a drafter's that does not fit the model.  What a
 * drafter has read of a directory is shared by all sessions, and kept until the engine is closed. */
OCTAVO_API enum octavo_status octavo_session_open(struct octavo_session **out, struct octavo_engine *engine,
                                                  const struct octavo_session_settings *settings,
                                                  struct octavo_error *error);
OCTAVO_API void octavo_session_close(struct octavo_session **session);

/* Starts over with a prompt of count >= 1 tokens and runs it through the model (and the drafter).  EINVAL for no token
 * or one outside the vocabulary, ELIMIT for more than the context holds: the session is then as it was before. */
OCTAVO_API enum octavo_status octavo_session_prompt(struct octavo_session *session, const int32_t *token,
                                                    size_t count, struct octavo_error *error);

/* One round: draft, forward, accept, commit.  *token points at the *count tokens it emitted (valid until the
 * next call); *count is 0 when the session has ended. */
OCTAVO_API enum octavo_status octavo_session_step(struct octavo_session *session, const int32_t **token,
                                                  size_t *count, struct octavo_error *error);

/* One round of several sessions of one engine, their drafts side by side in one forward, and made so: those with the
 * same drafter in one forward of it per depth; emitted[i] is what session i emitted, none if it had ended before.  Each
 * keeps its own drafter, parameters and tokens: what a session emits does not depend on its company, and sessions join
 * and leave from one call to the next.  At most max_rows sessions (ELIMIT); they share the rows evenly, and drafts that
 * do not fit are cut.  EINVAL for a session twice or of another engine.  The first failure is returned; sessions that
 * shared no forward with it go on. */
struct octavo_emitted {
	const int32_t *token; /* valid until the session's next round or prompt */
	size_t count;
};
OCTAVO_API enum octavo_status octavo_sessions_step(struct octavo_session *const *session, size_t count,
                                                   struct octavo_emitted *emitted, struct octavo_error *error);

enum octavo_finish {
	OCTAVO_FINISH_NONE, /* no prompt yet */
	OCTAVO_RUNNING,
	OCTAVO_FINISH_EOS,
	OCTAVO_FINISH_STOP,    /* a stop string is complete */
	OCTAVO_FINISH_LENGTH,  /* max_new */
	OCTAVO_FINISH_CONTEXT, /* the context is full */
	OCTAVO_FINISH_ERROR,   /* a call failed; a new prompt starts over */
};

struct octavo_session_stats {
	size_t prompt_tokens, emitted, steps;
	size_t drafted[OCTAVO_MAX_K];  /* steps that drafted a token at this depth (0-based) */
	size_t accepted[OCTAVO_MAX_K]; /* of them, those whose token at this depth was kept */
	size_t zero_draft_steps;
	size_t rows[OCTAVO_MAX_DRAFT + 1]; /* steps that verified so many rows of this session, the root included */
	/* Sums over steps and MoE layers of distinct experts read, and of rows; of the whole batch with others */
	size_t expert_union, expert_rows;
	/* Of the candidates rule, summed over steps: tokens whose logits were computed for the rows with a law, rows
	 * that made an emitted token from the logits of all tokens, and steps that computed these */
	size_t candidates, full_rows, full_steps;
	uint64_t prefill_ns, decode_ns; /* wall time of its steps */
	/* Of decode_ns; with others in the batch, its even share of what was run for several */
	uint64_t draft_ns, verify_ns, accept_ns;
	enum octavo_finish finish;
	/* How many bytes of the emitted tokens' text (octavo_token_text; end-of-sequence tokens have none) are output
	 * for certain: those before the stop string, and while the session runs, those before what may become one. */
	size_t text;
	size_t stop; /* with OCTAVO_FINISH_STOP: which it was; if several end at one byte, the longest */
};
OCTAVO_API const struct octavo_session_stats *octavo_session_stats(const struct octavo_session *session);

/* What a session's last step did: for records of it, and for training drafters on them. */
struct octavo_session_round {
	/* [length] the prompt and what was emitted before this step; its last token is the root */
	const int32_t *context;
	size_t length;
	struct octavo_draft draft;            /* row 0 is the root */
	size_t rows;                          /* of the forward: the draft's, and those that only teach the drafter */
	unsigned source;                      /* who drafted: 0, or 1 for the second of a pair */
	/* The rows that were kept and the target's token behind them: along this path, each row's next token is what
	 * the target chose behind it */
	const struct octavo_outcome *outcome;
	/* Of those tokens, the first so many: fewer than were kept where the session ended within them */
	size_t emitted;
	const float *hidden; /* [hidden] the main model's state of the root, after its final norm */
};
/* All of it is valid until the engine's next forward.  EINVAL before the first step after a prompt, and after a
 * failure. */
OCTAVO_API enum octavo_status octavo_session_last(const struct octavo_session *session,
                                                  struct octavo_session_round *round);

/* For explaining a divergence: the target's logit margin (best minus second best) behind emitted token i of this
 * session, and its second choice; of the candidates alone where they decided.  EINVAL if i was not emitted. */
OCTAVO_API enum octavo_status octavo_session_margin(const struct octavo_session *session, size_t i, float *margin,
                                                    int32_t *second);

/* Where a session's stream left plain decoding. */
struct octavo_parting {
	size_t at;     /* the emitted token, 0 being the first; behind all that was emitted if plain decoding went on */
	int32_t plain; /* what plain decoding has there; -1: nothing */
};

/* Where the rows of a session's rounds, in their batches, first gave other bits than each of them alone, and what
 * became of it. */
struct octavo_explanation {
	int found;             /* 0: nowhere, and nothing below is set but for the choice */
	size_t position;       /* of the row's token, the prompt's first being 0 */
	size_t row, rows;      /* it was this one of so many in its round's batch */
	size_t layer;          /* of the operation; of the logits and the final norm: the number of layers */
	const char *operation; /* "attention", … */
	size_t element, elements; /* the first of the row's elements that differs */
	float alone, together; /* its values */
	double largest;        /* difference among the operation's elements */
	double logits;         /* the largest difference of the row's logits */
	/* The row behind which the streams have different tokens, its logits alone and in its batch, unwarped */
	struct octavo_choice {
		int known;             /* 0: there is none, and nothing below is set */
		size_t position, row, rows;
		float plain[2], got[2]; /* of plain decoding's token and of the session's: alone, in the batch */
		double logits;         /* the largest difference */
	} choice;
};
/* Runs a history's prompt and rounds again, up to the parting, and beside them plain decoding of the same tokens, and
 * compares.  For rules of SAME_TOKENS; the rows of other sessions that shared its rounds are left out.  Takes two free
 * sequences of an engine like the session's and memory for what one row's operations give.  ELIMIT without the
 * sequences or with fewer rows than a round had; EINVAL for a history that holds nothing, and for a token outside the
 * vocabulary. */
OCTAVO_API enum octavo_status octavo_explain(struct octavo_engine *engine, const struct octavo_history *history,
                                             const struct octavo_parting *parting, struct octavo_explanation *out,
                                             struct octavo_error *error);

#ifdef __cplusplus
}
#endif
#endif
