/* SPDX-License-Identifier: Apache-2.0
 *
 * The backend `onednn`: tiles of BF16 values, multiplied by oneDNN's matmul with FP32 results.
 *
 * Its matmul is asked for batches of 1, 2, 4 or 8 tiles along K, so that a call is worth its while, and for powers of
 * two of rows: 28 primitives, made when the backend is opened, so that nothing is built or can fail later.  Where
 * oneDNN multiplies FP8 (3.4 and later, on processors that it has code for) and the activations are E4M3 codes
 * (W8A8), the codes go in as they are.  oneDNN's threads are OpenMP's: one for the calls from here, and the caller's
 * number again afterwards.
 */
#include "kernels/backend.h"
#include "kernels/backend_onednn.h"
#include "kernels/backend_tiles.h"

#include "fp8/bits.h"

#include <pthread.h>
#include <stdlib.h>

enum {
	DEPTHS = 4, /* 1, 2, 4, MOST_DEPTH tiles at once */
	MOST_DEPTH = 8,
	FORMATS = 2, /* BF16 by BF16, E4M3 by E4M3 */
	PRODUCTS = FORMATS * DEPTHS * ROW_SIZES,
};

/* y[tile][row][n] = sum_k x[tile][row][k] * w[tile][n][k] */
struct product {
	dnnl_primitive_t primitive; /* NULL: oneDNN has no good code for it */
	nn_md x, w, y, scratch;
};

static struct {
	pthread_once_t once;
	pthread_key_t worker;
	int ready;
	struct octavo_error why_not;
	dnnl_engine_t engine;
	struct product product[PRODUCTS];
	size_t scratch_bytes;
	uint8_t e4m3_of[1 << 16]; /* the code of a BF16 value that is one of E4M3's */
} shared = {.once = PTHREAD_ONCE_INIT};

/* Of 2^depth tiles and 2^rows rows. */
static unsigned index_of(unsigned format, unsigned depth, unsigned rows)
{
	return (format * DEPTHS + depth) * ROW_SIZES + rows;
}

/* ---- Products ----------------------------------------------------------------------------------------------- */

static dnnl_status_t make_product(struct product *p, dnnl_data_type_t type, int64_t depth, int64_t rows)
{
	const dnnl_dims_t x = {depth, rows, TILE}, w = {depth, TILE, TILE}, y = {depth, rows, TILE};
	const dnnl_dims_t x_step = {rows * TILE, TILE, 1}, w_step = {TILE * TILE, 1, TILE};
	dnnl_primitive_desc_t description = NULL;
	const char *code;
	dnnl_status_t status = nn_strided(&p->x, 3, x, type, x_step);

	if (!status)
		status = nn_strided(&p->w, 3, w, type, w_step);
	if (!status)
		status = nn_strided(&p->y, 3, y, dnnl_f32, x_step);
	if (!status)
		status = nn_matmul(&description, shared.engine, &p->x, &p->w, &p->y);
	if (!status)
		status = dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &code);
	if (!status && !strncmp(code, "ref", 3))
		status = dnnl_unimplemented; /* as good as: a loop over single elements */
	if (!status)
		status = nn_scratch(&p->scratch, description);
	if (!status)
		status = dnnl_primitive_create(&p->primitive, description);
	if (description)
		dnnl_primitive_desc_destroy(description);
	if (!status && nn_bytes(&p->scratch) > shared.scratch_bytes)
		shared.scratch_bytes = nn_bytes(&p->scratch);
	return status;
}

static dnnl_status_t make_products(unsigned format, dnnl_data_type_t type)
{
	dnnl_status_t status = dnnl_success;

	for (unsigned depth = 0; !status && depth < DEPTHS; depth++)
		for (unsigned rows = 0; !status && rows < ROW_SIZES; rows++)
			status = make_product(&shared.product[index_of(format, depth, rows)], type, 1 << depth,
			                      1 << rows);
	return status;
}

static void make_codes(void)
{
	for (unsigned code = 0; code < 256; code++)
		shared.e4m3_of[e4m3_to_bf16((uint8_t)code)] = (uint8_t)code;
	/* Any NaN is one. */
	for (unsigned mantissa = 1; mantissa < 0x80; mantissa++)
		shared.e4m3_of[0x7f80 + mantissa] = shared.e4m3_of[0xff80 + mantissa] = 0x7f;
}

/* ---- What a thread needs ------------------------------------------------------------------------------------- */

struct worker {
	_Alignas(64) uint16_t x[MOST_DEPTH][MOST_ROWS][TILE];
	uint16_t w[MOST_DEPTH][TILE][TILE]; /* or the E4M3 codes of both */
	float y[MOST_DEPTH][MOST_ROWS][TILE];
	dnnl_stream_t stream;
	struct {
		dnnl_memory_t x, w, y, scratch;
	} memory[PRODUCTS];
	_Alignas(64) unsigned char scratch[]; /* [shared.scratch_bytes] */
};

static void worker_free(void *at)
{
	struct worker *t = at;

	for (unsigned i = 0; i < PRODUCTS; i++) {
		dnnl_memory_destroy(t->memory[i].x);
		dnnl_memory_destroy(t->memory[i].w);
		dnnl_memory_destroy(t->memory[i].y);
		dnnl_memory_destroy(t->memory[i].scratch);
	}
	dnnl_stream_destroy(t->stream);
	free(t);
}

static dnnl_status_t worker_bind(struct worker *t, unsigned index)
{
	const struct product *p = &shared.product[index];

	if (!p->primitive)
		return dnnl_success;
	dnnl_status_t status = nn_memory(&t->memory[index].x, &p->x, shared.engine, t->x);
	if (!status)
		status = nn_memory(&t->memory[index].w, &p->w, shared.engine, t->w);
	if (!status)
		status = nn_memory(&t->memory[index].y, &p->y, shared.engine, t->y);
	if (!status)
		status = nn_memory(&t->memory[index].scratch, &p->scratch, shared.engine, t->scratch);
	return status;
}

/* This thread's, made on its first product and freed with it; NULL if memory ran out. */
static struct worker *worker_get(void)
{
	struct worker *t = pthread_getspecific(shared.worker);
	size_t bytes = (sizeof *t + shared.scratch_bytes + 63) / 64 * 64;

	if (t)
		return t;
	t = aligned_alloc(64, bytes);
	if (!t)
		return NULL;
	memset(t, 0, bytes); /* what no tile fills is multiplied too: it should be no NaN */
	dnnl_status_t status = dnnl_stream_create(&t->stream, shared.engine, dnnl_stream_default_flags);
	for (unsigned i = 0; !status && i < PRODUCTS; i++)
		status = worker_bind(t, i);
	if (!status && !pthread_setspecific(shared.worker, t))
		return t;
	worker_free(t);
	return NULL;
}

/* ---- One product ---------------------------------------------------------------------------------------------- */

/* A tile's columns of w and x.  F16 has three bits more than BF16: it goes as two tiles, the upper eight bits of each
 * value and the rest. */
struct piece {
	size_t k, count;
	int rest;
};

struct job {
	const struct octavo_matrix *w;
	const struct octavo_rows *x;
	float *y;
	size_t ldy;
	unsigned codes; /* 1: both sides as E4M3 */
	struct worker *worker;
};

static uint16_t half_part(uint16_t bits, int rest)
{
	float value = octavo_f16_decode(bits);
	uint32_t top = octavo_float_bits(value) & 0xffff0000;
	float upper = octavo_bits_float(top);

	if (!rest)
		return (uint16_t)(top >> 16) | (value != value);
	if (!(value - upper == value - upper)) /* infinity, NaN: all in the upper part */
		return 0;
	return octavo_bf16_encode(value - upper);
}

/* Rows [n, end) of w to [TILE][TILE] values or codes, zeros behind the piece. */
static void fill_weights(const struct job *j, unsigned place, size_t n, size_t end, const struct piece *p)
{
	const struct octavo_matrix *w = j->w;
	size_t size = octavo_dtype_size(w->dtype);

	for (size_t row = n; row < end; row++) {
		const uint8_t *from = (const uint8_t *)w->data + (row * w->ld + p->k) * size;
		uint16_t *to = j->worker->w[place][row - n];
		if (!p->rest)
			prefetch_next(from, p->count * size);
		if (j->codes) {
			uint8_t *code = (uint8_t *)j->worker->w + ((size_t)place * TILE + (row - n)) * TILE;
			memcpy(code, from, p->count);
			memset(code + p->count, 0, TILE - p->count);
			continue;
		}
		if (size == 1)
			decode_codes(to, from, p->count, w->dtype);
		else
			memcpy(to, from, p->count * size);
		for (size_t i = 0; w->dtype == OCTAVO_F16 && i < p->count; i++)
			to[i] = half_part(to[i], p->rest);
		memset(to + p->count, 0, (TILE - p->count) * sizeof *to);
	}
}

/* Rows [m0, m0 + rows) of x to [size][TILE], zeros behind the piece. */
static void fill_rows(const struct job *j, unsigned place, size_t size, size_t m0, size_t rows, const struct piece *p)
{
	for (size_t m = 0; m < rows; m++) {
		const uint16_t *from = j->x->x + (m0 + m) * j->x->ld + p->k;
		size_t at = (place * size + m) * TILE;
		if (j->codes) {
			uint8_t *code = (uint8_t *)j->worker->x + at;
			for (size_t i = 0; i < p->count; i++)
				code[i] = shared.e4m3_of[from[i]];
			memset(code + p->count, 0, TILE - p->count);
			continue;
		}
		uint16_t *to = (uint16_t *)j->worker->x + at;
		memcpy(to, from, p->count * sizeof *to);
		memset(to + p->count, 0, (TILE - p->count) * sizeof *to);
	}
}

static void add_tile(const struct job *j, unsigned place, size_t size, size_t m0, size_t rows, size_t n, size_t end,
                     const struct piece *p)
{
	for (size_t m = 0; m < rows; m++) {
		const float *tile = (const float *)j->worker->y + (place * size + m) * TILE;
		float scale = tile_scale(j->w, j->x, n, p->k, m0 + m), *y = j->y + (m0 + m) * j->ldy + n;
#pragma omp simd
		for (size_t i = 0; i < end - n; i++)
			y[i] += scale * tile[i];
	}
}

/* Adds 2^depth pieces to columns [n, end) of y. */
static void add_pieces(const struct job *j, unsigned depth, size_t n, size_t end, const struct piece *piece)
{
	size_t most = j->x->rows;

	for (unsigned i = 0; i < 1u << depth; i++)
		fill_weights(j, i, n, end, &piece[i]);
	for (size_t m = 0, rows; m < most; m += rows) {
		rows = least(MOST_ROWS, most - m);
		unsigned size = row_size(rows);
		const unsigned index = index_of(j->codes, depth, size);
		for (unsigned i = 0; i < 1u << depth; i++)
			fill_rows(j, i, (size_t)1 << size, m, rows, &piece[i]);
		dnnl_exec_arg_t arg[] = {
		        {DNNL_ARG_SRC, j->worker->memory[index].x},
		        {DNNL_ARG_WEIGHTS, j->worker->memory[index].w},
		        {DNNL_ARG_DST, j->worker->memory[index].y},
		        {DNNL_ARG_SCRATCHPAD, j->worker->memory[index].scratch},
		};
		if (dnnl_primitive_execute(shared.product[index].primitive, j->worker->stream, sizeof arg / sizeof *arg,
		                           arg) ||
		    dnnl_stream_wait(j->worker->stream))
			spoil_columns(j->y + m * j->ldy, j->ldy, rows, n, end);
		else
			for (unsigned i = 0; i < 1u << depth; i++)
				add_tile(j, i, (size_t)1 << size, m, rows, n, end, &piece[i]);
	}
}

static void add_columns(const struct job *j, size_t n, size_t end)
{
	struct piece piece[MOST_DEPTH];
	size_t cols = j->w->cols;
	unsigned count = 0, parts = j->w->dtype == OCTAVO_F16 ? 2 : 1;

	for (size_t k = 0, next; k < cols; k = next) {
		next = tile_end(j->w->col0, k, cols);
		for (unsigned part = 0; part < parts; part++)
			piece[count++] = (struct piece){k, next - k, (int)part};
		if (count == MOST_DEPTH) {
			add_pieces(j, DEPTHS - 1, n, end, piece);
			count = 0;
		}
	}
	const struct piece *left = piece;
	for (unsigned depth = DEPTHS - 1; depth-- > 0;)
		if (count & 1u << depth) {
			add_pieces(j, depth, n, end, left);
			left += (size_t)1 << depth;
		}
}

static void gemm_onednn(const struct octavo_matrix *w, size_t n0, size_t n1, const struct octavo_rows *x, float *y,
                        size_t ldy)
{
	struct job j = {w, x, y, ldy, 0, NULL};
	int threads = nn_threads_one();

	j.codes = x->scale && w->dtype == OCTAVO_E4M3 && shared.product[index_of(1, 0, 0)].primitive;
	j.worker = worker_get();
	if (j.worker)
		clear_columns(y, ldy, x->rows, n0, n1);
	else
		spoil_columns(y, ldy, x->rows, n0, n1);
	for (size_t n = n0, end; j.worker && n < n1; n = end) {
		end = tile_end(w->row0, n, n1);
		add_columns(&j, n, end);
	}
	nn_threads_again(threads);
}

/* ---- The module ------------------------------------------------------------------------------------------------ */

static void open_once(void)
{
	struct octavo_error *why = &shared.why_not;
	int threads = nn_threads_one();
	dnnl_status_t status = dnnl_success;

	if (!nn_threads_known(why))
		goto out;
	status = dnnl_engine_create(&shared.engine, dnnl_cpu, 0);
	if (!status)
		status = make_products(0, dnnl_bf16);
	if (!status && pthread_key_create(&shared.worker, worker_free))
		status = dnnl_out_of_memory;
	nn_explain(why, status, "BF16 products");
	shared.ready = !status;
#ifdef NN_E4M3
	if (shared.ready && make_products(1, dnnl_f8_e4m3))
		shared.product[index_of(1, 0, 0)].primitive = NULL; /* none rather than some */
#endif
	make_codes();
out:
	nn_threads_again(threads);
}

static const struct octavo_kernels *open_onednn(struct octavo_error *error)
{
	static const struct octavo_gemm_kernel fp8 = {"gemm_fp8", "onednn", OCTAVO_APPROXIMATE, TILE, gemm_onednn};
	static const struct octavo_gemm_kernel bf16 = {"gemm_bf16", "onednn", OCTAVO_APPROXIMATE, TILE, gemm_onednn};
	static const struct octavo_kernels set = {.gemm_fp8 = &fp8, .gemm_bf16 = &bf16};

	pthread_once(&shared.once, open_once);
	if (!shared.ready)
		*error = shared.why_not;
	return shared.ready ? &set : NULL;
}

extern OCTAVO_API const struct octavo_backend_module octavo_backend_module;
const struct octavo_backend_module octavo_backend_module = {
        OCTAVO_BACKEND_MODULE_VERSION,
        sizeof(struct octavo_kernels),
        open_onednn,
};
