/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's private structs: what is allocated at open, who owns it, and the shapes of all buffers.
 */
#ifndef OCTAVO_INTERNAL_H
#define OCTAVO_INTERNAL_H

#include "octavo_engine.h"
#include "fp8/arena.h"
#include "fp8/error.h"
#include "engine/load/load.h"
#include "engine/text/tokenizer.h"
#include "engine/threads.h"

/* ---- KV cache (model/kv.c) ------------------------------------------------------------------------
 * Per sequence and layer (main layers, then MTP modules), slots of one row each:
 *     MLA:  [c after its norm: kv_lora | k_rope after rotation: rope]  bf16, or as octavo_kv_row_write leaves it
 *     GQA:  [keys after rotation: kv_heads * v_dim | values: kv_heads * v_dim]  bf16
 * Committed token t lies in slot t.  A forward's rows of a sequence lie behind its committed tokens, in batch
 * order, until they are committed or overwritten. */
struct octavo_kv {
	unsigned char *data; /* [sequences][layers + mtp][slots][bytes] */
	size_t sequences, layers, slots, width, bytes; /* of a row: values, and what they take in the cache */
	size_t *length;     /* [sequences] committed tokens of the main model */
	unsigned char *used; /* [sequences] taken by a session */
	void *memory;       /* of a cache of drafters; the engine's lies in its arena */
};

/* What is kept: [slots][bytes]. */
static inline unsigned char *octavo_kv_slots(const struct octavo_kv *kv, size_t sequence, size_t layer)
{
	return kv->data + (sequence * kv->layers + layer) * kv->slots * kv->bytes;
}

/* ---- One forward's rows as attention sees them ------------------------------------------------------ */
struct octavo_geometry {
	struct octavo_kv *kv; /* the cache that the rows lie in: the engine's, or one of drafters */
	size_t rows;
	size_t *sequence;  /* [rows] */
	size_t *pos;       /* [rows] absolute position, for RoPE and the causal bound */
	size_t *slot;      /* [rows] where the row's own latent goes */
	size_t *committed; /* [rows] tokens before this lie in the slot of their position */
	uint32_t *path;    /* [rows][max_rows] slots of tokens committed .. pos, the row's own last */
	unsigned char *naive; /* [rows] MLA form */
	unsigned char *chained; /* [rows] the row's parent is the row before it */
	size_t path_ld;
};

/* ---- Scratch (model/work.c) ------------------------------------------------------------------------- */
struct octavo_work {
	float *x;        /* [rows][hidden] residual stream */
	float *normed;   /* [rows][hidden] */
	float *wide;     /* [rows][2 * hidden] of a module: embedding | hidden state */
	float *q_lat;    /* [rows][q_lora] */
	float *q;        /* [rows][heads * (nope + rope)] */
	float *kv;       /* [rows][width of a cache row] */
	float *attended; /* [rows][heads * v_dim] */
	float *y;        /* [rows][hidden] output of o_proj, of down */
	uint16_t *act[2];    /* [rows][widest] bf16: rounded, and quantised, left operands */
	float *act_scale;    /* [rows][ceil(widest / 128)] */
	float *other_scale;  /* the same, for two operands at a time */
	float *gate, *up;    /* [rows][dense width] */
	void *moe;           /* octavo_moe_run's, in the same place */
	float *router;       /* [rows][experts] logits */
	uint32_t *chosen;    /* [rows][top_k] ascending */
	float *chosen_weight;/* [rows][top_k] */
	size_t dense_width;  /* the widest dense layer that fits */
	void *wider;         /* of octavo_work_widen */
	/* Attention: model/attend.h says how the rows lie */
	uint16_t *queries; /* [rows * heads][k_dim] bf16 */
	float *seen;       /* [rows * heads][v_dim]: of MLA, absorbed, in the latent space */
	struct octavo_attend_sequence *context; /* [rows] */
	void *attend_scratch;
	const struct octavo_draftable **draftable; /* [rows] of a drafter's head: what each may draft; NULL: all tokens */
	char *head_scratch;  /* MLA: [threads][head_scratch_size] */
	size_t head_scratch_size;
};

/* ---- A batch of sessions on its way into a forward; all [max_rows] ------------------------------------- */
struct octavo_staging {
	int32_t *token, *pos, *seq, *parent;
	uint8_t *flags;
	uint32_t *row; /* 0, 1, 2, … for commits of a prompt */
	struct octavo_session **running;
	struct octavo_drafting **drafting; /* theirs; engine/draft/drafter.h */
};

/* What can be observed of a forward: of each layer, but for the first and the last two. */
enum octavo_operation {
	OCTAVO_AT_EMBEDDING,      /* [hidden] */
	OCTAVO_AT_ATTENTION_NORM, /* [hidden] */
	OCTAVO_AT_QUERY,          /* [heads * (nope + rope)], or of heads of v_dim; rotated */
	OCTAVO_AT_KEY_VALUE,      /* [kv.width] latent after its norm, keys rotated: what goes to the cache */
	OCTAVO_AT_ATTENTION,      /* [heads * v_dim] */
	OCTAVO_AT_OUTPUT,         /* [hidden] */
	OCTAVO_AT_FFN_NORM,       /* [hidden] */
	OCTAVO_AT_FFN,            /* [hidden] */
	OCTAVO_AT_LAYER,          /* [hidden] the residual stream behind the layer; only of main layers */
	OCTAVO_AT_FINAL_NORM,     /* [hidden] */
	OCTAVO_AT_HEAD,           /* [vocab], of the rows that want logits */
};

struct octavo_engine {
	struct octavo_engine_settings settings; /* defaults filled in; model_dir not kept */
	char *model_dir; /* a copy: drafters may have files below it */
	struct octavo_draft_files *draft_files; /* engine/draft/files.h: what drafters have opened */
	const struct octavo_kernels *k;
	struct octavo_threads threads;
	struct octavo_profiler *profiler;
	struct octavo_config config;
	struct octavo_checkpoint *checkpoint;
	struct octavo_weights weights;
	struct octavo_tokenizer *tokenizer;
	struct octavo_model_info info;
	size_t choosable; /* ids below this have a token; rows of the head beyond are padding */
	float *rope;      /* [context + max_rows][rope / 2][2] cos, sin */
	float tau;        /* softmax scale */
	struct octavo_kv kv;
	struct octavo_geometry geometry;
	struct octavo_work work;
	struct octavo_staging staging;
	struct octavo_cost cost; /* as measured last; count 0: not yet */
	/* The last main forward */
	size_t last_rows;
	int32_t *last_seq;   /* [rows] */
	size_t *last_pos;    /* [rows] */
	int32_t *last_parent; /* [rows] */
	int32_t *logit_row;  /* [rows] row of `logits`, or -1 */
	float *hidden[2];    /* [rows][hidden], indexed by enum octavo_tap */
	float *logits;       /* [rows][vocab], packed */
	size_t logit_rows;   /* of them are made */
	/* The last forward of a drafter's layers or heads */
	float *mtp_hidden[2]; /* [rows][hidden], by tap: after the norm before the head, or before it */
	float *mtp_logits;    /* [rows][vocab] */
	size_t expert_union, expert_rows; /* of the last main forward, summed over MoE layers */
	/* Sees x [rows][cols] F32, what an operation gave, in the order in which they come.  NULL but in octavo_explain and
	 * tests. */
	void (*observe)(void *context, size_t layer, enum octavo_operation operation, const float *x, size_t rows,
	                size_t cols);
	void *observe_context;
	void *arena;
};

static inline void octavo_observe(const struct octavo_engine *e, size_t layer, enum octavo_operation operation,
                                  const float *x, size_t rows, size_t cols)
{
	if (e->observe)
		e->observe(e->observe_context, layer, operation, x, rows, cols);
}

static inline size_t octavo_larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* Whether W8A8 quantises what this matrix is multiplied with. */
static inline int octavo_is_fp8(const struct octavo_matrix *w)
{
	return w->dtype == OCTAVO_E4M3 || w->dtype == OCTAVO_E5M2;
}

/* ---- model/ ------------------------------------------------------------------------------------------ */

/* rope.c: the table [positions][rope / 2][2] of cos, sin, and the factor of the scores. */
void octavo_rope_tables(float *table, size_t positions, const struct octavo_config *config);
float octavo_softmax_scale(const struct octavo_config *config);

/* work.c: carves all buffers of `e` from one allocation. */
enum octavo_status octavo_work_allocate(struct octavo_engine *e, struct octavo_error *error);
/* Makes room for dense layers of `width`, where a drafter has wider ones than the model. */
enum octavo_status octavo_work_widen(struct octavo_engine *e, size_t width, struct octavo_error *error);

/* kv.c */
enum octavo_status octavo_geometry_of(struct octavo_engine *e, const struct octavo_batch *batch,
                                      struct octavo_error *error);
/* Stores batch row `row`'s x, [width] F32, in its slot. */
void octavo_kv_store(const struct octavo_engine *e, size_t layer, size_t row, const float *x);
/* A cache of `layers` layers beside the engine's, as large and in its format.  Closing is allowed after a failure. */
enum octavo_status octavo_kv_open(struct octavo_kv *kv, const struct octavo_engine *e, size_t layers,
                                  struct octavo_error *error);
void octavo_kv_close(struct octavo_kv *kv);

/* One sequence's share of a forward that drafters make: a chain, whose row i is position pos + i, or nodes first,
 * first + 1, … of a tree, whose parents are among them or have been run before: node i lies in slot pos + i - 1, and
 * one of depth d is position pos + d - 1.  In mtp.c a tree may stand beside the chain that ends with its root. */
struct octavo_share {
	struct octavo_share *beside; /* another sequence's in the same forward; NULL: the last */
	size_t seq;
	size_t pos;            /* positions before have their entries in their slots */
	size_t rows;
	const int32_t *token;  /* [rows] mtp.c: the token after each row's position; NULL in trunk_heads.c */
	const float *state;    /* [rows][hidden] the main model's or a module's, of each row's position; NULL in forward.c */
	const int32_t *parent; /* of the tree's nodes, node 0 being the root; NULL: a chain */
	size_t first;
	size_t quiet;  /* the rows before this one only leave their cache entries; but in mtp.c, 0 for a tree */
	size_t mute;   /* mtp.c: so many rows after them leave their states besides, but no laws */
	size_t heads;  /* trunk_heads.c: of the last row the first so many heads' laws are wanted */
	const struct octavo_draftable *draftable; /* what its laws are wanted of; NULL: all tokens */
	size_t result, laws; /* set by the forward: where the share's laws begin, and how many they are */
	size_t left;         /* set by mtp.c: where the states begin that its rows left */
};

/* Tokens that a draft may hold, where it may not hold all (engine/draft/draftable.h): ids below `below`, and others. */
struct octavo_draftable {
	size_t below;
	int32_t *token; /* [room] from `below` on, of which there are `count`, in any order */
	size_t count, room;
	size_t choosable; /* ids are below this */
	size_t taken;     /* of the text */
	void *weights;    /* [bytes] scratch: rows of a head */
	size_t bytes;
	float *logits;    /* [OCTAVO_MAX_DRAFT][room] scratch */
};

/* ELIMIT unless the rows of all shares fit the engine and the cache. */
enum octavo_status octavo_shares_check(const struct octavo_engine *e, const struct octavo_kv *kv,
                                       const struct octavo_share *shares, struct octavo_error *error);
/* A geometry without rows, in this cache, and `rows` more of them: those of a share from its row `from` on, the rows before
 * it being in their slots. */
void octavo_geometry_begin(struct octavo_engine *e, struct octavo_kv *kv);
void octavo_geometry_add(struct octavo_engine *e, const struct octavo_share *share, size_t from, size_t rows);

/* block.c: one decoder layer over e->work.x in place; `kv_layer` is its index in the cache. */
void octavo_block(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer);
/* The layer's cache entries alone, of rows whose output nobody wants. */
void octavo_block_store(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer);
/* Rows [rows][cols] F32 made fit for `w`: rounded to BF16, or quantised where the arithmetic asks for it. */
struct octavo_rows octavo_left(struct octavo_engine *e, const float *x, size_t rows, size_t cols,
                               const struct octavo_matrix *w, uint16_t *storage, float *scale);
/* y = x * w^T for e's own matrices: rows are made fit, the product is cut over the threads. */
void octavo_linear(struct octavo_engine *e, const struct octavo_matrix *w, const float *x, size_t rows, float *y);
/* The same, with rows of y `ldy` apart. */
void octavo_linear_into(struct octavo_engine *e, const struct octavo_matrix *w, const float *x, size_t rows, float *y,
                        size_t ldy);
/* fn(arg, row) for all rows; on the threads if they are many. */
void octavo_for_rows(struct octavo_engine *e, size_t rows, octavo_task_fn *fn, void *arg);
/* The same with work on `rows` rows that is cut into other parts, such as heads. */
void octavo_for_parts(struct octavo_engine *e, size_t rows, size_t parts, octavo_task_fn *fn, void *arg);
/* y[row] = RMSNorm(x[row]; g) for all rows; x[row] itself where g is NULL. */
void octavo_norm_rows(struct octavo_engine *e, float *y, size_t ldy, const float *x, const float *g, size_t rows,
                      size_t cols, float eps);
/* mla.c, gqa.c, moe.c: from e->work.normed to e->work.y. */
void octavo_gqa(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer);
void octavo_mla(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer);
/* The cache entries alone, of rows whose output nobody wants. */
void octavo_gqa_store(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer);
void octavo_mla_store(struct octavo_engine *e, const struct octavo_layer *layer, size_t kv_layer);
void octavo_moe(struct octavo_engine *e, const struct octavo_layer *layer);
/* Bytes of one thread's scratch. */
size_t octavo_mla_scratch(const struct octavo_config *config, size_t rows);

/* mtp.c: the module's entries lie in layer `layer` of the cache.  Fills e->mtp_hidden with the states of the rows that
 * are not quiet, a share's from row share->left on, and e->mtp_logits with the laws of those that are not mute
 * either, from row share->result on. */
enum octavo_status octavo_mtp_forward(struct octavo_engine *e, const struct octavo_mtp *module, struct octavo_kv *kv,
                                      size_t layer, struct octavo_share *shares, struct octavo_error *error);

/* trunk_heads.c: heads on the trunk, each one layer, head i's entries in layer i of the cache; a share's states are the
 * residual stream after the main model's last layer.  Every head leaves the entries of all rows; the laws that are wanted
 * go to e->mtp_logits, head i's to row share->result + i. */
enum octavo_status octavo_trunk_heads(struct octavo_engine *e, const struct octavo_layer *head, size_t heads,
                                      struct octavo_kv *kv, struct octavo_share *shares, struct octavo_error *error);

/* engine.c: whether what a layer's matrices share can be shared; `index` is for the message. */
enum octavo_status octavo_layer_check(const struct octavo_layer *layer, size_t index, size_t experts,
                                      struct octavo_error *error);

/* head.c: logits of rows of the last forward, those with OCTAVO_ROW_LOGITS among their flags[rows] that have none
 * yet; they go behind those that are there.  draftable: as for octavo_draft_head, by these logits' rows; NULL for a
 * target. */
void octavo_head(struct octavo_engine *e, size_t rows, const uint8_t *flags,
                 const struct octavo_draftable *const *draftable);
/* y [rows][vocab] of x [rows][hidden] for the tokens that each row may draft, and -infinity for all others; w
 * [vocab][hidden].  draftable[row] NULL: all tokens; NULL itself: of all rows. */
void octavo_draft_head(struct octavo_engine *e, const struct octavo_matrix *w, const float *x, size_t rows,
                       const struct octavo_draftable *const *draftable, float *y);
/* Its two parts, for those who multiply several heads at once: the tokens that one product is to be made for, the
 * first of the matrix; and what that leaves. */
size_t octavo_draft_head_first(const struct octavo_engine *e, size_t rows,
                               const struct octavo_draftable *const *draftable);
void octavo_draft_head_rest(struct octavo_engine *e, const struct octavo_matrix *w, const float *x, size_t rows,
                            const struct octavo_draftable *const *draftable, float *y);
/* By the rows of the shares' laws, in the engine's scratch; NULL where all may draft all tokens. */
const struct octavo_draftable *const *octavo_shares_draftable(struct octavo_engine *e,
                                                              const struct octavo_share *shares);
/* Logits of token[count], ascending, alone: y [rows][count] of x [rows][hidden], the bits that octavo_head would give.
 * `weights` has room for as many rows of the head.  The engine's scratch is used, but for work.normed. */
void octavo_head_some(struct octavo_engine *e, const float *x, size_t rows, const int32_t *token, size_t count,
                      void *weights, float *y);

/* cost.c: points of the curve that a sequence of `committed` tokens has room to measure. */
size_t octavo_cost_knots(const struct octavo_engine *e, size_t committed);

/* forward.c: x [hidden] F32 */
void octavo_embed(const struct octavo_engine *e, int32_t token, float *x);
/* Runs `rows` tokens behind a sequence's committed ones, in one batch, and commits them.  The last one has the flags
 * `last` besides.  Afterwards e->staging.row holds 0, 1, 2, … */
enum octavo_status octavo_append(struct octavo_engine *e, size_t seq, const int32_t *token, size_t rows, uint8_t flags,
                                 uint8_t last, struct octavo_error *error);
/* Runs chains behind sequences' committed tokens, or nodes of trees whose roots, node 0, are the last committed ones;
 * commits nothing.  Leaves the logits of the rows that are not quiet in e->logits, a share's from row share->result on. */
enum octavo_status octavo_forward_shares(struct octavo_engine *e, struct octavo_share *shares,
                                         struct octavo_error *error);
/* kv.c: makes a path of such nodes, below the root and ascending, part of the sequence; the other nodes are gone. */
void octavo_commit_nodes(struct octavo_engine *e, size_t seq, const size_t *node, size_t count);

#endif
