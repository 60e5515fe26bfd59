/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/text/text.h"

#include "fp8/error.h"
#include "engine/load/fields.h"

#include <stdlib.h>
#include <string.h>

void octavo_id_sink_put(struct octavo_id_sink *sink, int32_t id)
{
	if (sink->count < sink->cap)
		sink->id[sink->count] = id;
	sink->count++;
}

/* ---- Reading the merges ------------------------------------------------------------------------------ */

static uint64_t pair_key(int32_t left, int32_t right)
{
	return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The slot of this pair, or the empty one where it belongs. */
static size_t find_merge(const struct octavo_bpe *bpe, uint64_t pair)
{
	size_t slot = (size_t)(pair * 0x9e3779b97f4a7c15u >> 32) & (bpe->slots - 1);
	while (bpe->merge[slot].pair != pair && bpe->merge[slot].pair != UINT64_MAX)
		slot = (slot + 1) & (bpe->slots - 1);
	return slot;
}

/* A merge is "left right" or ["left", "right"]. */
static int read_sides(const json_t *entry, const char *side[2], size_t length[2])
{
	if (json_is_array(entry) && json_array_size(entry) == 2) {
		for (size_t i = 0; i < 2; i++) {
			side[i] = json_string_value(json_array_get(entry, i));
			if (!side[i])
				return 0;
			length[i] = strlen(side[i]);
		}
		return 1;
	}
	side[0] = json_string_value(entry);
	const char *space = side[0] ? strchr(side[0], ' ') : NULL;
	if (!space || strchr(space + 1, ' '))
		return 0;
	length[0] = (size_t)(space - side[0]);
	side[1] = space + 1;
	length[1] = strlen(side[1]);
	return 1;
}

/* How much of a token an error text shows. */
static int shown(size_t length)
{
	return length < 64 ? (int)length : 64;
}

/* Writes the merge's sides as bytes into text, one after the other, and looks the three tokens up. */
static enum octavo_status add_merge(struct octavo_bpe *bpe, const json_t *entry, size_t rank, char *text,
                                    struct octavo_error *error)
{
	const char *side[2];
	size_t length[2], bytes[2];
	int32_t id[2];
	if (!read_sides(entry, side, length))
		return octavo_fail(error, OCTAVO_EFORMAT, OCTAVO_TOKENIZER_FILE ": model.merges[%zu]: not two tokens",
		                   rank);
	for (int i = 0; i < 2; i++) {
		char *start = text + (i ? bytes[0] : 0);
		int known = octavo_byte_symbols_decode(side[i], length[i], start, &bytes[i]);
		id[i] = known ? octavo_vocab_find(bpe->vocab, start, bytes[i]) : -1;
		if (id[i] < 0)
			return octavo_fail(error, OCTAVO_EFORMAT,
			                   OCTAVO_TOKENIZER_FILE ": model.merges[%zu]: \"%.*s\" is not in model.vocab",
			                   rank, shown(length[i]), side[i]);
	}
	int32_t token = octavo_vocab_find(bpe->vocab, text, bytes[0] + bytes[1]);
	if (token < 0)
		return octavo_fail(error, OCTAVO_EFORMAT,
		                   OCTAVO_TOKENIZER_FILE
		                   ": model.merges[%zu]: \"%.*s\" and \"%.*s\" make no token of model.vocab",
		                   rank, shown(length[0]), side[0], shown(length[1]), side[1]);
	/* Text must not be able to spell a control token.  Where added tokens are looked for, their texts never
	 * get here, so leaving such a merge out changes nothing else. */
	if (bpe->vocab->token[token].added)
		return OCTAVO_OK;
	uint64_t pair = pair_key(id[0], id[1]);
	bpe->merge[find_merge(bpe, pair)] = (struct octavo_merge){pair, (uint32_t)rank, token};
	return OCTAVO_OK;
}

static enum octavo_status read_merges(struct octavo_bpe *bpe, const json_t *merges, struct octavo_error *error)
{
	size_t count = json_array_size(merges), longest = 0;
	for (size_t i = 0; i < count; i++) {
		const char *side[2];
		size_t length[2];
		if (read_sides(json_array_get(merges, i), side, length) && length[0] + length[1] > longest)
			longest = length[0] + length[1];
	}
	char *text = malloc(longest + 1);
	for (bpe->slots = 16; bpe->slots < 2 * count;)
		bpe->slots *= 2;
	bpe->merge = malloc(bpe->slots * sizeof *bpe->merge);
	enum octavo_status status = OCTAVO_OK;
	if (!text || !bpe->merge)
		status = octavo_fail(error, OCTAVO_ENOMEM, OCTAVO_TOKENIZER_FILE ": out of memory");
	else
		memset(bpe->merge, 0xff, bpe->slots * sizeof *bpe->merge);
	for (size_t i = 0; !status && i < count; i++)
		status = add_merge(bpe, json_array_get(merges, i), i, text, error);
	free(text);
	return status;
}

/* Fields that change what BPE does, and that byte-level models leave empty.  (unk_token, fuse_unk and byte_fallback
 * need no look: where every byte has a token, they never act.) */
static void refuse_variants(struct octavo_fields *model)
{
	double dropout = 0;
	octavo_field_number(model, "dropout", OCTAVO_OPTIONAL, 0, 1, &dropout);
	if (!model->status && dropout > 0)
		octavo_fields_fail(model, OCTAVO_ENOTSUP, "dropout", "%g is not supported, only 0", dropout);
	static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
	for (int i = 0; i < 2; i++) {
		const char *affix = "";
		octavo_field_string(model, affixes[i], OCTAVO_OPTIONAL, &affix);
		if (!model->status && *affix)
			octavo_fields_fail(model, OCTAVO_ENOTSUP, affixes[i], "not supported");
	}
}

enum octavo_status octavo_bpe_open(struct octavo_bpe *bpe, const json_t *model, const struct octavo_vocab *vocab,
                                   struct octavo_error *error)
{
	*bpe = (struct octavo_bpe){.vocab = vocab};
	struct octavo_fields fields = {model, OCTAVO_TOKENIZER_FILE, "model.", OCTAVO_OK, error};
	octavo_field_bool(&fields, "ignore_merges", OCTAVO_OPTIONAL, &bpe->ignore_merges);
	refuse_variants(&fields);
	const json_t *merges = octavo_field(&fields, "merges");
	if (!fields.status && !json_is_array(merges))
		octavo_fields_fail(&fields, OCTAVO_EFORMAT, "merges", merges ? "not an array" : "missing");
	return fields.status ? fields.status : read_merges(bpe, merges, error);
}

void octavo_bpe_close(struct octavo_bpe *bpe)
{
	free(bpe->merge);
	bpe->merge = NULL;
}

/* ---- Merging ------------------------------------------------------------------------------------------- */

/* The piece as a list of tokens.  A merge widens the left one and unlinks the right one. */
struct symbol {
	int32_t id;             /* -1 once unlinked */
	int32_t previous, next; /* -1 at the ends */
};

/* A pair that may be merged, by rank and then from the left.  It is stale if its place holds another pair by the
 * time it is popped: tokens there only ever grow, so the same pair of ids is the same pair. */
struct candidate {
	uint64_t order; /* rank << 32 | index of the left symbol */
	size_t merge;   /* slot */
};

struct heap {
	struct candidate *item; /* at most 2 * symbols: each merge takes one and adds at most two */
	size_t count;
};

static void heap_push(struct heap *heap, struct candidate added)
{
	size_t at = heap->count++;
	for (; at > 0 && added.order < heap->item[(at - 1) / 2].order; at = (at - 1) / 2)
		heap->item[at] = heap->item[(at - 1) / 2];
	heap->item[at] = added;
}

static struct candidate heap_pop(struct heap *heap)
{
	struct candidate top = heap->item[0], last = heap->item[--heap->count];
	size_t at = 0;
	for (size_t child; (child = 2 * at + 1) < heap->count; at = child) {
		if (child + 1 < heap->count && heap->item[child + 1].order < heap->item[child].order)
			child++;
		if (last.order <= heap->item[child].order)
			break;
		heap->item[at] = heap->item[child];
	}
	heap->item[at] = last;
	return top;
}

static void push_pair(const struct octavo_bpe *bpe, const struct symbol *symbol, int32_t left, struct heap *heap)
{
	if (left < 0 || symbol[left].next < 0)
		return;
	uint64_t pair = pair_key(symbol[left].id, symbol[symbol[left].next].id);
	size_t slot = find_merge(bpe, pair);
	if (bpe->merge[slot].pair == pair)
		heap_push(heap, (struct candidate){(uint64_t)bpe->merge[slot].rank << 32 | (uint32_t)left, slot});
}

/* Merges until no pair is left that may be. */
static void merge_all(const struct octavo_bpe *bpe, struct symbol *symbol, size_t count, struct heap *heap)
{
	for (size_t i = 0; i + 1 < count; i++)
		push_pair(bpe, symbol, (int32_t)i, heap);
	while (heap->count > 0) {
		struct candidate candidate = heap_pop(heap);
		const struct octavo_merge *merge = &bpe->merge[candidate.merge];
		int32_t at = (int32_t)(uint32_t)candidate.order;
		struct symbol *left = &symbol[at];
		if (left->id < 0 || left->next < 0 || pair_key(left->id, symbol[left->next].id) != merge->pair)
			continue;
		struct symbol *right = &symbol[left->next];
		left->id = merge->token;
		left->next = right->next;
		right->id = -1;
		if (left->next >= 0)
			symbol[left->next].previous = at;
		push_pair(bpe, symbol, left->previous, heap);
		push_pair(bpe, symbol, at, heap);
	}
}

static enum octavo_status reserve(struct octavo_bpe_scratch *scratch, size_t bytes, struct octavo_error *error)
{
	if (bytes <= scratch->cap)
		return OCTAVO_OK;
	size_t cap = bytes < 256 ? 256 : bytes;
	octavo_bpe_scratch_free(scratch);
	scratch->symbols = calloc(cap, sizeof(struct symbol));
	scratch->heap = calloc(2 * cap, sizeof(struct candidate));
	if (!scratch->symbols || !scratch->heap)
		return octavo_fail(error, OCTAVO_ENOMEM, "text: out of memory for a piece of %zu bytes", bytes);
	scratch->cap = cap;
	return OCTAVO_OK;
}

void octavo_bpe_scratch_free(struct octavo_bpe_scratch *scratch)
{
	free(scratch->symbols);
	free(scratch->heap);
	*scratch = (struct octavo_bpe_scratch){0};
}

enum octavo_status octavo_bpe_encode(const struct octavo_bpe *bpe, const char *piece, size_t length,
                                     struct octavo_bpe_scratch *scratch, struct octavo_id_sink *sink,
                                     struct octavo_error *error)
{
	if (bpe->ignore_merges) {
		int32_t whole = octavo_vocab_find(bpe->vocab, piece, length);
		if (whole >= 0 && !bpe->vocab->token[whole].added) {
			octavo_id_sink_put(sink, whole);
			return OCTAVO_OK;
		}
	}
	enum octavo_status status = reserve(scratch, length, error);
	if (status)
		return status;
	struct symbol *symbol = scratch->symbols;
	for (size_t i = 0; i < length; i++) {
		symbol[i].id = bpe->vocab->byte[(unsigned char)piece[i]];
		symbol[i].previous = (int32_t)i - 1;
		symbol[i].next = i + 1 < length ? (int32_t)i + 1 : -1;
	}
	struct heap heap = {scratch->heap, 0};
	merge_all(bpe, symbol, length, &heap);
	for (int32_t i = length ? 0 : -1; i >= 0; i = symbol[i].next)
		octavo_id_sink_put(sink, symbol[i].id);
	return OCTAVO_OK;
}
