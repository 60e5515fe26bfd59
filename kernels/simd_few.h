/* SPDX-License-Identifier: Apache-2.0
 *
 * The GEMM of few rows of x, for registers that hold 16 whole dwords or two halves of them: 64 bytes of each row of
 * FP8 or BF16 weights are transposed, and decoded where they are multiplied.  Above FEW_MAX rows a panel is faster.
 * The including file has said how a line meets x, as simd_transposed.h does for fused multiply-adds and
 * gemm_avx512bf16.c for pairs:
 *
 *	SHIFTED_CODES  whether E4M3 weights come times 2^-DOWN, and NaN codes are noted: see simd_block.h
 *	few_note       joins a line's codes to those that noted_nan() is asked about
 *	few_codes      what decoding needs for a dtype: few_codes_of(dtype)
 *	few_four       columns [4 i, 4 i + 4) of 16 transposed rows against x: steps of the even and the odd chains
 *
 * Tensors begin anywhere in a file.  A load that straddles two cache lines costs two, and where rows are a multiple of
 * 2048 bytes apart, the line that the next load wants again has left the first-level cache by then.  So up to LEADS
 * rows of x, which are to run at the memory's speed, read whole lines, wherever the rows of weights begin in them; the
 * chunks then begin at a dword of the lines that is a constant of the matrix, and of the code.
 *
 * The blocks of a band go through a stretch of columns one after the other, and share x and the scales.
 */
#ifndef OCTAVO_SIMD_FEW_H
#define OCTAVO_SIMD_FEW_H

#include "kernels/simd_block.h"

#define LINE 64
#define X_PART (16384 / sizeof(term)) /* of x in a stretch: half a first-level cache */
/* Terms between rows of x: at a power of two they would meet in the same sets of the cache. */
#define X_GAP 16
#define LONG 2048 /* bytes of a row, from which on whole lines pay: there is a line more of them, put together */
#define SCALES (X_PART * 128 / TERMS(128) / OCTAVO_BLOCK + 1)

/* What all blocks of a band read in a stretch of columns. */
struct stretch {
	size_t first, end; /* bytes of the rows, the lead included: whole lines, but for the rows' end */
	size_t lead;       /* bytes of the rows' first lines before the rows: zeros */
	size_t length;     /* bytes of a stretch, the last one apart */
	size_t ahead;      /* bytes from a line to the one that is prefetched with it */
	size_t rows;
	const struct few_codes *codes;
	term *x; /* [rows][pitch]: x at these columns */
	size_t pitch;
	int scaled;             /* w has scales */
	size_t folds;           /* scale blocks that end here */
	float scale[2][SCALES]; /* theirs, of the band's rows in its first row of scale blocks and in its second */
	const float *x_scale;   /* [rows][x_scale_ld], of the first of these blocks, or NULL */
	size_t x_scale_ld;
};

/* A block's sums from one stretch to the next. */
struct few {
	vf acc[FEW_MAX], sum[FEW_MAX];
	vf even[LEADS + 1], odd[LEADS + 1]; /* of the chunk that the last line began, where lines do not end chunks */
	vi largest;                         /* note_codes, if SHIFTED_CODES */
	size_t left;                        /* chunks until the scale block ends */
	vm lower;                           /* the lanes whose scales are the stretch's first ones */
	ptrdiff_t then;                     /* from the rows to what is read after the stretch */
};

/* ---- a line ---------------------------------------------------------------------------------------------- */

ALWAYS_INLINE void few_clear(const size_t rows, vf *even, vf *odd)
{
#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++)
		even[m] = odd[m] = vf_zero();
}

/* A block's sums in registers. */
struct few_sums {
	vf acc[FEW], sum[FEW];
	size_t left, folds;
};

/* sum = fma(scale, acc, sum), where a scale block ends. */
ALWAYS_INLINE void few_fold(const enum kind kind, const size_t rows, const struct few *f, const struct stretch *t,
                            size_t m0, struct few_sums *s)
{
	vf scale = vf_choose(f->lower, vf_set1(t->scale[0][s->folds]), vf_set1(t->scale[1][s->folds]));

	scale = mend(SHIFTED_CODES && kind == E4M3, scale);
#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++) {
		vf both = scale;
		if (t->x_scale)
			both = vf_mul(vf_set1(t->x_scale[(m0 + m) * t->x_scale_ld + s->folds]), scale);
		s->sum[m] = vf_fma(both, s->acc[m], s->sum[m]);
		s->acc[m] = vf_zero();
	}
	s->folds++;
	s->left = OCTAVO_BLOCK / CHUNK;
}

/* acc = acc + (E + O) at the end of a chunk.  What lines hold before and behind the rows are chunks of zeros, which
 * change nothing. */
ALWAYS_INLINE void few_end(const enum kind kind, const size_t rows, const vf *even, const vf *odd, const struct few *f,
                           const struct stretch *t, size_t m0, struct few_sums *s)
{
#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++)
		s->acc[m] = vf_add(s->acc[m], vf_add(even[m], odd[m]));
	if (--s->left == 0 && t->scaled)
		few_fold(kind, rows, f, t, m0, s);
}

/* The cache lines of the rows whose turn it is, wanted later: one by one they never queue.  Into the second level only:
 * in the first, rows a multiple of 4096 bytes apart would push each other out before they are used. */
ALWAYS_INLINE void few_prefetch(const enum kind kind, const int i, const struct block *b, ptrdiff_t ahead)
{
	const int rows = kind == BF16 ? 2 : 1; /* a line of BF16 is half as many columns */

#pragma GCC unroll 2
	for (int r = i * rows; r < (i + 1) * rows; r++)
		__builtin_prefetch(b->row[r] + ahead, 0, 2);
}

/* The products of one line, in which chunks begin at columns 4 c and 4 (c + 8): [0] is the chunk that the line before began,
 * and at the end the one that this line began.  Written out: what a loop index chooses would not stay in registers. */
ALWAYS_INLINE void few_line(const enum kind kind, const size_t rows, const int c, const struct block *b, ptrdiff_t ahead,
                            const vi *d, const term *x, const struct few *f, const struct stretch *t, size_t m0,
                            vf even[3][FEW], vf odd[3][FEW], struct few_sums *s)
{
#define FOUR(i, chunk)                                                                                                 \
	(few_prefetch(kind, i, b, ahead), few_four(kind, rows, i, t->codes, d, x, t->pitch, even[chunk], odd[chunk]))
#define EIGHT(each) each(0), each(1), each(2), each(3), each(4), each(5), each(6), each(7)
#define OLD(i) ((i) < c ? FOUR(i, 0) : (void)0)
#define FIRST(i) FOUR(c + (i), 1)
#define SECOND(i) ((i) < 8 - c ? FOUR(c + 8 + (i), 2) : (void)0)
#define TWO(i) FIRST(i), ((i) < c ? FOUR(i, 0) : FOUR(8 + (i), 2))
	if (kind == BF16) {
		few_clear(rows, even[1], odd[1]);
		EIGHT(FIRST);
		few_end(kind, rows, even[1], odd[1], f, t, m0, s);
		return;
	}
	if (rows <= TOGETHER) { /* one chunk's chains are too few to keep the multipliers busy */
		few_clear(rows, even[1], odd[1]);
		few_clear(rows, even[2], odd[2]);
		EIGHT(TWO);
		if (c > 0)
			few_end(kind, rows, even[0], odd[0], f, t, m0, s);
		few_end(kind, rows, even[1], odd[1], f, t, m0, s);
	} else {
		EIGHT(OLD);
		if (c > 0)
			few_end(kind, rows, even[0], odd[0], f, t, m0, s);
		few_clear(rows, even[1], odd[1]);
		EIGHT(FIRST);
		few_end(kind, rows, even[1], odd[1], f, t, m0, s);
		few_clear(rows, even[2], odd[2]);
		EIGHT(SECOND);
	}
	if (c == 0)
		few_end(kind, rows, even[2], odd[2], f, t, m0, s);
#pragma GCC unroll 8
	for (size_t m = 0; c > 0 && m < rows; m++) {
		even[0][m] = even[2][m];
		odd[0][m] = odd[2][m];
	}
#undef FOUR
#undef EIGHT
#undef OLD
#undef FIRST
#undef SECOND
#undef TWO
}

/* ---- a block --------------------------------------------------------------------------------------------- */

/* A line that begins before its rows or ends behind them, with zeros there.  Whole lines have one way to be read: two
 * would meet again with all their vectors in memory. */
struct edge {
	alignas(64) uint8_t byte[LANES][LINE];
	const uint8_t *row[LANES];
};

static void edge_line(const struct block *b, size_t lead, size_t at, struct edge *e)
{
	const size_t before = at < lead ? lead - at : 0, from = at + before - lead;
	const size_t count = smaller(LINE - before, b->row_bytes - from);

	memset(e->byte, 0, sizeof e->byte);
	for (size_t i = 0; i < LANES; i++) {
		memcpy(e->byte[i] + before, b->row[i] + from, count);
		e->row[i] = e->byte[i];
	}
}

/* A block against `rows` rows of x, from row m0 on, in one stretch. */
ALWAYS_INLINE void few_stretch(const enum kind kind, const size_t rows, const int c, const struct block *b,
                               const struct stretch *t, size_t m0, struct few *f)
{
	const size_t total = t->lead + b->row_bytes;
	vf even[3][FEW], odd[3][FEW];
	struct few_sums s = {.left = f->left};
	struct edge edge;
	vi largest = f->largest;

#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++) {
		s.acc[m] = f->acc[m0 + m];
		s.sum[m] = f->sum[m0 + m];
		if (c > 0) {
			even[0][m] = f->even[m];
			odd[0][m] = f->odd[m];
		}
	}
	for (size_t at = t->first; at < t->end; at += LINE) {
		size_t later = at + t->ahead;
		const term *x = t->x + m0 * t->pitch + TERMS((at - t->first) / element_size(kind));
		ptrdiff_t ahead = later < t->end ? (ptrdiff_t)(later - t->lead) : f->then + (ptrdiff_t)(later - t->end);
		vi d[16];
		const uint8_t *const *row = b->row;
		size_t from = at - t->lead;
		if (at < t->lead || at + LINE > total) {
			edge_line(b, t->lead, at, &edge);
			row = edge.row;
			from = 0;
		}
		load_transposed(row, from, LINE, d);
		largest = few_note(kind, largest, d);
		few_line(kind, rows, c, b, ahead, d, x, f, t, m0, even, odd, &s);
	}
	if (t->end == total) { /* what the rows' end left open */
		if (c > 0)
			few_end(kind, rows, even[0], odd[0], f, t, m0, &s);
		if (s.folds < t->folds)
			few_fold(kind, rows, f, t, m0, &s);
	}
#pragma GCC unroll 8
	for (size_t m = 0; m < rows; m++) {
		f->acc[m0 + m] = s.acc[m];
		f->sum[m0 + m] = s.sum[m];
		if (c > 0) {
			f->even[m] = even[0][m];
			f->odd[m] = odd[0][m];
		}
	}
	f->largest = largest;
	if (m0 + rows == t->rows)
		f->left = s.left;
}

/* Only for the kinds that models are made of: the rest would double the code for nobody. */
#define FEW_CASE(kind, rows, c)                                                                                        \
	case (rows)*8 + (c):                                                                                           \
		few_stretch(kind, rows, c, b, t, m0, f);                                                               \
		break
#define FEW_CASES_LEAD(kind, rows)                                                                                     \
	FEW_CASE(kind, rows, 2);                                                                                       \
	FEW_CASE(kind, rows, 4);                                                                                       \
	FEW_CASE(kind, rows, 6)
#if FEW > 2
#define FEW_CASES(kind)                                                                                                \
	FEW_CASE(kind, 1, 0);                                                                                          \
	FEW_CASE(kind, 2, 0);                                                                                          \
	FEW_CASE(kind, 3, 0);                                                                                          \
	FEW_CASE(kind, 4, 0);                                                                                          \
	FEW_CASE(kind, 5, 0);                                                                                          \
	FEW_CASE(kind, 6, 0);                                                                                          \
	FEW_CASE(kind, 7, 0);                                                                                          \
	FEW_CASE(kind, 8, 0)
#else
#define FEW_CASES(kind)                                                                                                \
	FEW_CASE(kind, 1, 0);                                                                                          \
	FEW_CASE(kind, 2, 0)
#endif

static void few_e4m3(size_t rows, const struct block *b, const struct stretch *t, size_t m0, struct few *f)
{
	switch (rows * 8 + t->lead / 4 % 8) {
		FEW_CASES(E4M3);
#if LEADS == 4
		FEW_CASES_LEAD(E4M3, 1);
		FEW_CASES_LEAD(E4M3, 2);
		FEW_CASES_LEAD(E4M3, 3);
		FEW_CASES_LEAD(E4M3, 4);
#endif
	}
}

static void few_bf16(size_t rows, const struct block *b, const struct stretch *t, size_t m0, struct few *f)
{
	switch (rows * 8) {
		FEW_CASES(BF16);
	}
}

#undef FEW_CASE
#undef FEW_CASES
#undef FEW_CASES_LEAD

/* ---- a band ---------------------------------------------------------------------------------------------- */

/* Whole lines can be read if all rows begin at the same place in theirs; those where tensors begin in the files that
 * there are, multiples of 8 bytes, have code of their own. */
static inline size_t few_lead(const enum kind kind, const struct block *b, size_t rows)
{
	size_t lead = (uintptr_t)b->row[0] % LINE;

	if (kind != E4M3 || rows > LEADS || b->row_bytes < LONG || b->w->ld % LINE != 0 || lead % 8 != 0)
		return 0;
	return lead;
}

/* The first stretch's end, and what does not change from one to the next. */
static inline struct stretch first_stretch(const enum kind kind, const struct block *b, const struct octavo_rows *x,
                                           term *xf)
{
	struct stretch t = {.lead = few_lead(kind, b, x->rows), .rows = x->rows, .x = xf, .x_scale_ld = x->scale_ld};

	t.scaled = b->w->scale_dtype != OCTAVO_NONE;
	t.codes = few_codes_of(b->w->dtype);
	t.length = X_PART * 128 / TERMS(128) / x->rows * element_size(kind) / LINE * LINE;
	t.end = smaller(t.length, t.lead + b->row_bytes);
	t.pitch = TERMS(t.length / element_size(kind)) + X_GAP;
	t.ahead = smaller(AHEAD, t.length);
	return t;
}

/* Block n / 16 of the band, of which `lower` rows lie in the first row of scale blocks.  The chunks before the rows
 * count as the first scale block's. */
static inline void few_begin(const struct stretch *t, size_t n, size_t lower, unsigned col0, struct few *f)
{
	for (size_t m = 0; m < t->rows; m++)
		f->acc[m] = f->sum[m] = vf_zero();
	few_clear(LEADS, f->even, f->odd);
	f->largest = vi_set1(0);
	f->left = (t->lead + CHUNK - 1) / CHUNK + (OCTAVO_BLOCK - col0) / CHUNK;
	f->lower = vm_first(lower > n ? lower - n : 0);
}

/* x at the stretch's columns, times 2^up; zeros before and behind the row. */
static inline void widen_stretch(const struct octavo_rows *x, size_t cols, size_t size, const int up,
                                 const struct stretch *t)
{
	size_t lead = t->lead / size, count = (t->end - t->first + LINE - 1) / LINE * LINE / size;

	for (size_t m = 0; m < t->rows; m++) {
		const uint16_t *row = x->x + m * x->ld;
		for (size_t i = 0; i < count; i += TERM_STEP) {
			size_t at = t->first / size + i; /* the column, plus the lead */
			term *to = t->x + m * t->pitch + TERMS(i);
			if (at >= lead) {
				make_terms(row + (at - lead), cols - smaller(at - lead, cols), up, to);
				continue;
			}
			uint16_t part[TERM_STEP] = {0};
			for (size_t j = lead - at; j < TERM_STEP && at + j - lead < cols; j++)
				part[j] = row[at + j - lead];
			make_terms(part, TERM_STEP, up, to);
		}
	}
}

/* The scales of the blocks that end in the stretch, beginning with that of column k, for the first `lower` rows of the
 * band and for those behind them; returns the column behind the last of these blocks. */
static inline size_t stretch_scales(size_t size, const struct block *b, size_t k, size_t lower, struct stretch *t)
{
	const struct octavo_matrix *w = b->w;
	size_t end;

	for (t->folds = 0; k < w->cols; t->folds++, k = end) {
		end = panel_end(w, w->col0, k, w->cols);
		if (t->lead + end * size > t->end)
			break;
		t->scale[0][t->folds] = octavo_matrix_scale(w, b->n, k);
		t->scale[1][t->folds] = b->n + lower < w->rows ? octavo_matrix_scale(w, b->n + lower, k) : 0.0f;
	}
	return k;
}

/* What the last lines of a stretch prefetch: the next block's first ones, or after the last block those of the next
 * stretch, or of the next band. */
static inline ptrdiff_t after_stretch(const struct block *band, size_t r, size_t blocks, const struct stretch *t)
{
	ptrdiff_t down = band->next, start = (ptrdiff_t)t->first - (ptrdiff_t)smaller(t->lead, t->first);

	if (r + 1 < blocks)
		return down + start;
	if (t->end < t->lead + band->row_bytes)
		return (ptrdiff_t)(t->end - t->lead) - down * (ptrdiff_t)r;
	return down;
}

ALWAYS_INLINE void few_band(const enum kind kind, const struct block *band, size_t blocks, const struct octavo_rows *x,
                            float *y, size_t ldy)
{
	const struct octavo_matrix *w = band->w;
	alignas(64) term xf[X_PART + FEW_MAX * X_GAP];
	struct stretch t = first_stretch(kind, band, x, xf);
	const size_t total = t.lead + band->row_bytes, lower = OCTAVO_BLOCK - (w->row0 + band->n) % OCTAVO_BLOCK;
	struct few few[BAND];

	for (size_t r = 0; r < blocks; r++)
		few_begin(&t, r * LANES, lower, w->col0, &few[r]);
	for (size_t k = 0; t.first < total; t.first = t.end, t.end = smaller(t.first + t.length, total)) {
		widen_stretch(x, w->cols, element_size(kind), SHIFTED_CODES && kind == E4M3 ? UP : 0, &t);
		t.x_scale = x->scale ? x->scale + k / OCTAVO_BLOCK : NULL;
		if (t.scaled)
			k = stretch_scales(element_size(kind), band, k, lower, &t);
		for (size_t r = 0; r < blocks; r++) {
			few[r].then = after_stretch(band, r, blocks, &t);
			/* passes of at most FEW rows and of about equal size */
			for (size_t m = 0, rows, left = (x->rows + FEW - 1) / FEW; left > 0; m += rows, left--) {
				rows = (x->rows - m + left - 1) / left;
				if (kind == BF16)
					few_bf16(rows, &band[r], &t, m, &few[r]);
				else
					few_e4m3(rows, &band[r], &t, m, &few[r]);
			}
		}
	}
	for (size_t r = 0; r < blocks; r++) {
		const vm nan = noted_nan(few[r].largest); /* none, unless SHIFTED_CODES */
		for (size_t m = 0; m < x->rows; m++) {
			vf v = t.scaled ? few[r].sum[m] : few[r].acc[m];
			if (SHIFTED_CODES && kind == E4M3)
				v = vf_nan_where(nan, mend(!t.scaled, v));
			vf_store_first(y + m * ldy + band[r].n, band[r].count, v);
		}
	}
}

/* Scale blocks must end with chunks; views that begin elsewhere are rare.  Only the kinds that models are made of have
 * code for few rows: the rest would double it for nobody. */
ALWAYS_INLINE int takes_few(const enum kind kind, const struct octavo_matrix *w, const struct octavo_rows *x)
{
	return (kind == E4M3 || kind == BF16) && x->rows <= FEW_MAX &&
	       (w->scale_dtype == OCTAVO_NONE || w->col0 % CHUNK == 0);
}

#endif
