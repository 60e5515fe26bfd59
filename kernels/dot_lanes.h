/* SPDX-License-Identifier: Apache-2.0
 *
 * The GEMM of more than a few rows of x, by pairs: a lane is a row of x, and weights come one pair at a time for all
 * lanes.  So weights are decoded as they lie, without being turned; x and the sums are, once each.
 *
 * A band of rows of w goes through a stretch of columns, of which x fits the first-level cache: GROUP rows meet all
 * rows of x in a piece of columns, up to where their scales end.  Decoding takes other ports than multiplying: so the
 * next piece is decoded meanwhile, a line at a time between the products.
 */
#ifndef OCTAVO_DOT_LANES_H
#define OCTAVO_DOT_LANES_H

#include "kernels/dot.h"
#include "kernels/simd_block.h"

enum {
	GROUP = 8,                                        /* rows of w together: 8 even chains, 8 odd ones, 8 sums */
	LANES_ROWS = 64,                                  /* of x in a pass */
	LANES_SUMS = (OCTAVO_BLOCK + LANES) * LANES_ROWS, /* of a band, and of a group behind its end */
	PIECE = TERMS(PANEL),                             /* terms of a row in a piece: columns with one scale */
	X_TERMS = LANES_ROWS * PIECE,                     /* of x in a stretch: half a first-level cache */
	BLOCKS = LANES_SUMS / LANES / OCTAVO_BLOCK + 1    /* rows of scale blocks that a band meets */
};

/* Columns [k, end) of w and x with one scale for 128 rows of w, whole chunks of them and zeros. */
struct piece {
	size_t k, end, chunks;
	float scale[BLOCKS]; /* for each row of scale blocks of the band */
};

/* A band: rows [n0, n1) of w against at most LANES_ROWS rows of x, and its scratch memory. */
struct lanes {
	const struct octavo_matrix *w;
	const struct octavo_rows *x;
	size_t n0, n1;
	size_t width; /* rows of x, by whole groups of 8 lanes */
	size_t pitch; /* sums of a row of w: by whole groups of 16 */
	struct piece piece[X_TERMS / PIECE / 8];
	alignas(64) term terms[X_TERMS];          /* [pieces][PIECE][rows of x], by groups of 16 or 8 lanes */
	alignas(64) term pairs[2][GROUP * PIECE]; /* [GROUP][PIECE], see give_pairs: a piece and the next one */
	alignas(64) float sum[LANES_SUMS];        /* [rows of w][pitch] */
	alignas(64) float x_scale[2 * LANES_ROWS]; /* [pieces][pitch], if x has scales */
};

/* ---- x --------------------------------------------------------------------------------------------------- */

/* Rows of x from m0 on in a piece, to 16 or 8 lanes, zeros where there are none. */
static inline void turn_rows(const struct octavo_rows *x, size_t m0, size_t width, const struct piece *p, term *to)
{
	for (size_t c = 0; c < p->chunks; c++) {
		const size_t k = p->k + c * CHUNK;
		vi d[LANES];
#pragma GCC unroll 16
		for (size_t i = 0; i < LANES; i++)
			d[i] = m0 + i < x->rows ? terms_of(x->x + (m0 + i) * x->ld + k, p->end - k) : vi_set1(0);
		transpose(d);
#pragma GCC unroll 16
		for (size_t i = 0; i < LANES; i++, to += width)
			if (width == LANES)
				_mm512_store_si512(to, d[i]);
			else
				_mm256_store_si256((__m256i *)(void *)to, _mm512_castsi512_si256(d[i]));
	}
}

/* ---- w --------------------------------------------------------------------------------------------------- */

/* Where a piece of GROUP rows comes from, and where its pairs go. */
struct feed {
	const struct codes *codes;
	const uint8_t *row[GROUP];
	size_t columns;
	term *to; /* [GROUP][PIECE] */
};

/* 64 bytes of a row, or those of `columns`, as pairs.  Of 64 codes the even chains' pairs come first, then the odd
 * ones'; of BF16 weights they take turns. */
ALWAYS_INLINE void give_pairs(const enum kind kind, const struct codes *codes, const uint8_t *row, size_t columns,
                              term *to)
{
	if (kind == BF16) {
		make_terms((const uint16_t *)(const void *)row, columns, 0, to);
		return;
	}
	vi even, odd;
	code_pairs(codes, load_codes(row, columns), &even, &odd);
	_mm512_store_si512(to, even);
	_mm512_store_si512(to + LANES, odd);
}

/* Step n of the 32 that give all pairs of a whole piece. */
ALWAYS_INLINE void feed_step(const enum kind kind, const struct feed *f, size_t n)
{
	const size_t per_row = kind == BF16 ? 4 : 2, line = kind == BF16 ? n : n / 2;
	const size_t g = line / per_row, columns = PANEL / per_row, k = line % per_row * columns;

	if (kind == BF16 || n % 2 == 0)
		give_pairs(kind, f->codes, f->row[g] + 64 * (line % per_row), columns, f->to + g * PIECE + TERMS(k));
}

ALWAYS_INLINE void feed_all(const enum kind kind, const struct feed *f)
{
	const size_t step = 64 / element_size(kind);

	for (size_t g = 0; g < GROUP; g++)
		for (size_t k = 0; k < f->columns; k += step)
			give_pairs(kind, f->codes, f->row[g] + k * element_size(kind), f->columns - k,
			           f->to + g * PIECE + TERMS(k));
}

/* ---- products -------------------------------------------------------------------------------------------- */

/* y = fma(scale, sums, y) for GROUP rows of w and 16 or 8 rows of x over a piece; without scales the sums go on from y.
 * The next piece is fed meanwhile if `next`: then this one is whole, as the next one is. */
#define DEFINE_PRODUCTS(name, vector, integers, width, zero, load, load_integers, store, add, fma, mul, set)           \
	ALWAYS_INLINE void name(const enum kind kind, const term *w, const term *x, size_t chunks, const float *scale, \
	                        const float *x_scale, float *y, size_t pitch, const struct feed *next)                 \
	{                                                                                                              \
		const size_t odd_term = kind == BF16 ? 1 : LANES, step = kind == BF16 ? 2 : 1;                         \
		vector acc[GROUP];                                                                                     \
		_Pragma("GCC unroll 8") for (size_t g = 0; g < GROUP; g++) acc[g] =                                    \
		        scale ? zero() : load(y + g * pitch);                                                          \
		for (size_t c = 0; c < chunks; c++) {                                                                  \
			const term *pair = w + (kind == BF16 ? TERMS(CHUNK) * c : c / 2 * 2 * LANES + c % 2 * 8);      \
			const term *at = x + TERMS(CHUNK) * width * c;                                                 \
			vector even[GROUP], odd[GROUP];                                                                \
			_Pragma("GCC unroll 8") for (size_t g = 0; g < GROUP; g++) even[g] = odd[g] = zero();          \
			_Pragma("GCC unroll 8") for (size_t i = 0; i < TERMS(CHUNK) / 2; i++)                          \
			{                                                                                              \
				if (next)                                                                              \
					feed_step(kind, next, c *TERMS(CHUNK) / 2 + i);                                \
				integers first = load_integers((const void *)(at + 2 * i * width));                    \
				integers second = load_integers((const void *)(at + (2 * i + 1) * width));             \
				_Pragma("GCC unroll 8") for (size_t g = 0; g < GROUP; g++)                             \
				{                                                                                      \
					const term *of = pair + g * PIECE + step * i;                                  \
					CHAIN(even[g], first, of, width);                                              \
					CHAIN(odd[g], second, of + odd_term, width);                                   \
				}                                                                                      \
			}                                                                                              \
			_Pragma("GCC unroll 8") for (size_t g = 0; g < GROUP; g++) acc[g] =                            \
			        add(acc[g], add(even[g], odd[g]));                                                     \
		}                                                                                                      \
		_Pragma("GCC unroll 8") for (size_t g = 0; g < GROUP; g++)                                             \
		{                                                                                                      \
			float *to = y + g * pitch;                                                                     \
			if (scale) {                                                                                   \
				vector both = set(scale[g]);                                                           \
				if (x_scale)                                                                           \
					both = mul(load(x_scale), both);                                               \
				acc[g] = fma(both, acc[g], load(to));                                                  \
			}                                                                                              \
			store(to, acc[g]);                                                                             \
		}                                                                                                      \
	}
/* See vf_chain. */
#define CHAIN(sum, x, pair, width) __asm__("vdpbf16ps %2%{1to" #width "%}, %1, %0" : "+v"(sum) : "v"(x), "m"(*(pair)))

DEFINE_PRODUCTS(products_16, __m512, __m512i, 16, _mm512_setzero_ps, _mm512_load_ps, _mm512_load_si512, _mm512_store_ps,
                _mm512_add_ps, _mm512_fmadd_ps, _mm512_mul_ps, _mm512_set1_ps)
DEFINE_PRODUCTS(products_8, __m256, __m256i, 8, _mm256_setzero_ps, _mm256_load_ps, _mm256_load_si256, _mm256_store_ps,
                _mm256_add_ps, _mm256_fmadd_ps, _mm256_mul_ps, _mm256_set1_ps)
#undef CHAIN
#undef DEFINE_PRODUCTS

/* ---- a band ---------------------------------------------------------------------------------------------- */

/* The row of scale blocks of row n of w, counted from the band's first one. */
static inline size_t block_row(const struct lanes *s, size_t n)
{
	return (s->w->row0 + n) / OCTAVO_BLOCK - (s->w->row0 + s->n0) / OCTAVO_BLOCK;
}

static inline void piece_scales(const struct lanes *s, struct piece *p)
{
	for (size_t n = s->n0; s->w->scale_dtype != OCTAVO_NONE && n < s->n1;
	     n += OCTAVO_BLOCK - (s->w->row0 + n) % OCTAVO_BLOCK)
		p->scale[block_row(s, n)] = octavo_matrix_scale(s->w, n, p->k);
}

/* The pieces from column k on whose x fits, and x in them; returns how many there are. */
static inline size_t begin_stretch(struct lanes *s, size_t k)
{
	const struct octavo_matrix *w = s->w;
	size_t count = 0;

	for (; k < w->cols && (count + 1) * PIECE * s->width <= X_TERMS; count++) {
		struct piece *p = &s->piece[count];
		p->k = k;
		p->end = k = panel_end(w, w->col0, k, w->cols);
		p->chunks = (p->end - p->k + CHUNK - 1) / CHUNK;
		piece_scales(s, p);
		for (size_t m = 0; s->x->scale && m < s->x->rows; m++)
			s->x_scale[count * s->pitch + m] = s->x->scale[m * s->x->scale_ld + p->k / OCTAVO_BLOCK];
		for (size_t m = 0; m < s->width; m += LANES)
			turn_rows(s->x, m, smaller(LANES, s->width - m), p, s->terms + (count * s->width + m) * PIECE);
	}
	return count;
}

/* Columns of a piece from k on of rows [n, n + GROUP) of w; those behind the band repeat its last. */
ALWAYS_INLINE struct feed feed_of(const enum kind kind, const struct lanes *s, size_t n, size_t k, term *to)
{
	const struct octavo_matrix *w = s->w;
	struct feed f = {.codes = codes_of(w->dtype), .columns = panel_end(w, w->col0, k, w->cols) - k, .to = to};

	for (size_t g = 0; g < GROUP; g++)
		f.row[g] = (const uint8_t *)w->data + (smaller(n + g, s->n1 - 1) * w->ld + k) * element_size(kind);
	return f;
}

/* The piece of the next GROUP rows, or behind the last ones of the first rows' next stretch, from column `end` on. */
ALWAYS_INLINE void prefetch_piece(const enum kind kind, const struct lanes *s, const struct piece *p, size_t n,
                                  size_t end)
{
	const size_t size = element_size(kind), below = n + GROUP,
	             k = below < s->n1 ? p->k : end + (p->k - s->piece->k);

	for (size_t g = 0; g < GROUP && k < s->w->cols; g++) {
		const size_t row = below < s->n1 ? smaller(below + g, s->n1 - 1) : s->n0 + g;
		const uint8_t *at = (const uint8_t *)s->w->data + (row * s->w->ld + k) * size;
		for (size_t i = 0; i < PANEL * size; i += 64)
			__builtin_prefetch(at + i, 0, 2);
	}
}

/* Rows [n, n + GROUP) of w in a piece, as pairs, against all rows of x; the next piece is fed meanwhile. */
ALWAYS_INLINE void meet_piece(const enum kind kind, struct lanes *s, const term *pairs, size_t n, size_t i,
                              const struct feed *next)
{
	const struct piece *p = &s->piece[i];
	const int feeds = next && s->width > 8 && p->chunks == PANEL / CHUNK && next->columns == PANEL;
	const float *scale = NULL;
	float scales[GROUP];

	for (size_t g = 0; s->w->scale_dtype != OCTAVO_NONE && g < GROUP; g++) {
		scales[g] = p->scale[block_row(s, smaller(n + g, s->n1 - 1))];
		scale = scales;
	}
	for (size_t m = 0; m < s->width; m += LANES) {
		const term *x = s->terms + (i * s->width + m) * PIECE;
		const float *x_scale = s->x->scale ? s->x_scale + i * s->pitch + m : NULL;
		float *sum = s->sum + (n - s->n0) * s->pitch + m;
#define PRODUCTS(lanes, next) products_##lanes(kind, pairs, x, p->chunks, scale, x_scale, sum, s->pitch, next)
		if (m == 0 && feeds)
			PRODUCTS(16, next);
		else if (s->width - m > 8)
			PRODUCTS(16, NULL);
		else
			PRODUCTS(8, NULL);
#undef PRODUCTS
	}
	if (next && !feeds)
		feed_all(kind, next);
}

/* The sums, a lane of which is a row of x, to y. */
static inline void give_sums(const struct lanes *s, float *y, size_t ldy)
{
	for (size_t n = s->n0; n < s->n1; n += LANES)
		for (size_t m = 0; m < s->x->rows; m += LANES) {
			vi d[LANES];
#pragma GCC unroll 16
			for (size_t i = 0; i < LANES; i++)
				d[i] = _mm512_load_si512(s->sum + (n - s->n0 + i) * s->pitch + m);
			transpose(d);
			for (size_t i = 0; i < LANES && m + i < s->x->rows; i++)
				vf_store_first(y + (m + i) * ldy + n, s->n1 - n, vf_of(d[i]));
		}
}

ALWAYS_INLINE void lanes_band(const enum kind kind, struct lanes *s, float *y, size_t ldy)
{
	const size_t cols = s->w->cols;
	struct feed feed = feed_of(kind, s, s->n0, 0, s->pairs[0]);
	size_t turn = 0;

	memset(s->sum, 0, (s->n1 - s->n0 + LANES) / LANES * LANES * s->pitch * sizeof *s->sum);
	feed_all(kind, &feed);
	for (size_t k = 0, end, count; k < cols; k = end) {
		count = begin_stretch(s, k);
		end = s->piece[count - 1].end;
		for (size_t n = s->n0; n < s->n1; n += GROUP)
			for (size_t i = 0; i < count; i++, turn ^= 1) {
				size_t then_n = n, then_k = s->piece[i].end;
				if (i + 1 == count && n + GROUP < s->n1) { /* further down the rows */
					then_n = n + GROUP;
					then_k = k;
				} else if (i + 1 == count) { /* the first rows' next stretch */
					then_n = s->n0;
				}
				if (then_k < cols)
					feed = feed_of(kind, s, then_n, then_k, s->pairs[turn ^ 1]);
				prefetch_piece(kind, s, &s->piece[i], n, end);
				meet_piece(kind, s, s->pairs[turn], n, i, then_k < cols ? &feed : NULL);
			}
	}
	give_sums(s, y, ldy);
}

ALWAYS_INLINE void lanes_gemm(const enum kind kind, const struct octavo_matrix *w, size_t n0, size_t n1,
                              const struct octavo_rows *x, float *y, size_t ldy)
{
	struct lanes s;
	struct octavo_rows part = *x;

	s.w = w;
	s.x = &part;
	memset(s.x_scale, 0, sizeof s.x_scale); /* of lanes without a row */
	for (size_t m = 0; m < x->rows; m += LANES_ROWS) {
		part.rows = smaller(LANES_ROWS, x->rows - m);
		part.x = x->x + m * x->ld;
		part.scale = x->scale ? x->scale + m * x->scale_ld : NULL;
		s.width = (part.rows + 7) / 8 * 8;
		s.pitch = (part.rows + LANES - 1) / LANES * LANES;
		for (s.n0 = n0; s.n0 < n1; s.n0 = s.n1) {
			s.n1 = smaller(s.n0 + LANES_SUMS / s.pitch - LANES, n1);
			lanes_band(kind, &s, y + m * ldy, ldy);
		}
	}
}

#endif
