/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafting with a model of its own that shares the vocabulary (speculative sampling proper: Leviathan et al., arXiv
 * 2211.17192; Chen et al., arXiv 2302.01318).  It is an engine beside the main one, on the same threads, opened
 * once for all sessions: the draft for the main engine's sequence i is kept in its own sequence i.
 *
 * Cache discipline: what the main model kept of a draft is the same text, so its rows stay (their bits are those of any
 * other batch), and the sequence becomes that much longer; the rest is forgotten.  What the drafter has not seen, the
 * target's own token or a prompt, waits and is run before the next draft.
 */
#include "engine/draft/files.h"
#include "engine/draft/growth.h"
#include "engine/draft/drafter.h"

#include <stdlib.h>
#include <string.h>

/* ---- The draft model --------------------------------------------------------------------------------------- */

struct draft_model {
	struct octavo_draft_files base;
	struct octavo_engine *engine;
};

/* Drafts are token ids, so what must agree is the text of each id. */
static enum octavo_status compare_tokens(const struct octavo_engine *main, const struct octavo_engine *draft,
                                         struct octavo_error *error)
{
	for (size_t id = 0; id < main->config.vocab; id++) {
		size_t length = 0, wanted = 0;
		const char *text = octavo_tokenizer_text(draft->tokenizer, (int32_t)id, &length);
		const char *expected = octavo_tokenizer_text(main->tokenizer, (int32_t)id, &wanted);
		if (!text != !expected || length != wanted || (length && memcmp(text, expected, length) != 0))
			return octavo_fail(error, OCTAVO_EFORMAT, "tokenizer.json: token %zu is another one than the model's",
			                   id);
	}
	return OCTAVO_OK;
}

static enum octavo_status load(struct octavo_draft_files *files, struct octavo_engine *main, struct octavo_error *error)
{
	struct draft_model *m = (struct draft_model *)files;
	const struct octavo_engine_settings *s = &main->settings;
	struct octavo_config config;
	enum octavo_status status = octavo_config_load(&config, files->dir, error);
	if (status == OCTAVO_OK)
		status = octavo_draft_fits(main, main->config.hidden, config.vocab, error); /* any hidden size will do */
	if (status != OCTAVO_OK)
		return status;
	struct octavo_engine_settings settings = {
		.model_dir = files->dir,
		.parallel = &main->threads.parallel,
		.kernels = main->k,
		.profiler = main->profiler,
		.arithmetic = s->arithmetic,
		.weights = s->weights,
		.max_context = s->max_context < config.max_position ? s->max_context : config.max_position,
		.max_rows = octavo_larger(s->max_rows, OCTAVO_MAX_DRAFT), /* room for all nodes that a draft runs */
		.sequences = s->sequences,
	};
	status = octavo_engine_open(&m->engine, &settings, error);
	return status == OCTAVO_OK ? compare_tokens(main, m->engine, error) : status;
}

static void release(struct octavo_draft_files *files)
{
	octavo_engine_close(&((struct draft_model *)files)->engine);
}

static const struct octavo_draft_format format = { "model", sizeof(struct draft_model), load, release };

/* ---- The drafter ------------------------------------------------------------------------------------------- */

struct model {
	struct octavo_drafter base;
	struct octavo_engine *engine; /* the draft model's */
	size_t sequence, vocab;       /* vocab: ids below this can be drafted */
	const int32_t *text; /* [length] the next, not yet committed token included */
	size_t length;
	struct octavo_growth growth; /* of the last draft: its root is the last committed token of the draft model */
};

static void begin_model(struct octavo_drafter *drafter, const int32_t *text)
{
	struct model *d = (struct model *)drafter;
	d->text = text;
	d->length = 0;
	octavo_rewind(d->engine, (int32_t)d->sequence, 0, NULL);
}

static void close_model(struct octavo_drafter *drafter)
{
	begin_model(drafter, NULL);
	free(drafter);
}

static enum octavo_status open_model(struct octavo_drafter **out, struct octavo_engine *e, size_t sequence,
                                     const char *dir, struct octavo_error *error)
{
	struct octavo_draft_files *files;
	enum octavo_status status = octavo_draft_files_open(&files, e, &format, dir, error);
	if (status != OCTAVO_OK)
		return status;
	struct model *d = calloc(1, sizeof *d);
	if (!d)
		return octavo_fail(error, OCTAVO_ENOMEM, "out of memory");
	d->engine = ((struct draft_model *)files)->engine;
	d->base = (struct octavo_drafter){ .ops = &octavo_drafter_model, .sources = 1, .crew = d->engine,
		                           .crew_rows = d->engine->settings.max_rows };
	d->sequence = sequence;
	d->vocab = e->choosable;
	begin_model(&d->base, NULL);
	*out = &d->base;
	return OCTAVO_OK;
}

/* How many tokens the draft model has behind it. */
static size_t seen(const struct model *d)
{
	return octavo_sequence_length(d->engine, (int32_t)d->sequence);
}

/* token[1] follows the root of the last draft, and so on: as far as nodes that were run carry them, their rows stay. */
static void keep(struct model *d, const int32_t *token, size_t count)
{
	const struct octavo_growth *g = &d->growth;
	size_t path[OCTAVO_MAX_DRAFT], length = 0, at = 0;
	for (size_t node = 1; node < g->rows && length + 1 < count; node++)
		if (g->parent[node] == (int32_t)at && g->token[node] == token[length + 1])
			path[length++] = at = node;
	octavo_commit_nodes(d->engine, d->sequence, path, length);
}

/* Runs the next tokens that the draft model has not seen, a full batch of them. */
static enum octavo_status run_chunk(struct model *d, struct octavo_error *error)
{
	return octavo_append(d->engine, d->sequence, d->text + seen(d), d->engine->settings.max_rows, 0, 0, error);
}

static enum octavo_status commit_model(struct octavo_drafter *drafter, size_t pos, const uint32_t *row, size_t count,
                                       struct octavo_error *error)
{
	struct model *d = (struct model *)drafter;
	size_t chunk = d->engine->settings.max_rows;
	enum octavo_status status = OCTAVO_OK;
	(void)row;
	if (pos + 1 == seen(d)) /* there was a draft in this round */
		keep(d, d->text + pos, count);
	d->length = pos + count + 1;
	/* Of long prompts, what fills a batch need not wait. */
	while (status == OCTAVO_OK && d->length - seen(d) > chunk && seen(d) + chunk <= d->engine->settings.max_context)
		status = run_chunk(d, error);
	return status;
}

/* Behind what the draft model has seen: the rest of the text, or the growth's last level. */
static void ask(struct octavo_drafting *d)
{
	const struct model *m = (const struct model *)d->drafter;
	const struct octavo_growth *g = &m->growth;
	d->share = (struct octavo_share){ .seq = m->sequence, .pos = seen(m) };
	if (d->share.pos < m->length) {
		d->share.token = m->text + d->share.pos;
		d->share.rows = m->length - d->share.pos;
		d->share.quiet = d->share.rows - 1;
		return;
	}
	d->share.token = g->token + g->first;
	d->share.rows = g->rows - g->first;
	d->share.parent = g->parent;
	d->share.first = g->first;
}

/* Where the draft model's context ends before the main one's, so do its drafts. */
static unsigned depth_of(const struct octavo_drafting *d)
{
	const struct model *m = (const struct model *)d->drafter;
	size_t context = m->engine->settings.max_context, room = context < m->length ? 0 : context - m->length + 1;
	return room < d->shape->depth ? (unsigned)room : d->shape->depth; /* the last token drafted is not run */
}

static enum octavo_status draft_model(struct octavo_drafting *d, struct octavo_error *error)
{
	struct model *m = (struct model *)d->drafter;
	enum octavo_status status = OCTAVO_OK;
	if (!m->length)
		m->length = 1; /* a prompt of one token, the root */
	if (!depth_of(d))
		return OCTAVO_OK;
	while (status == OCTAVO_OK && m->length - seen(m) > m->engine->settings.max_rows)
		status = run_chunk(m, error);
	octavo_growth_begin(&m->growth, d->tree);
	ask(d);
	return status;
}

static enum octavo_status run_model(struct octavo_drafting **d, size_t count, struct octavo_error *error)
{
	const struct model *m = (const struct model *)d[0]->drafter;
	return octavo_forward_shares(m->engine, octavo_draft_shares(d, count), error);
}

static void grow_model(struct octavo_drafting *d)
{
	struct model *m = (struct model *)d->drafter;
	const struct octavo_engine *e = m->engine;
	struct octavo_shape fitting = *d->shape;
	fitting.depth = depth_of(d);
	m->engine->kv.length[m->sequence] = m->length; /* of nodes, what is kept becomes part of it when that is known */
	if (octavo_growth_next(&m->growth, &fitting, d->tree, e->logits + d->share.result * e->config.vocab, e->config.vocab,
	                       m->vocab))
		ask(d);
	else
		d->share.rows = 0;
}

const struct octavo_drafter_ops octavo_drafter_model = {
	.name = "model", .laws = 1, .open = open_model, .close = close_model, .begin = begin_model, .commit = commit_model,
	.draft = draft_model, .run = run_model, .grow = grow_model, .argument = OCTAVO_OWN_DIRECTORY,
};
