/* SPDX-License-Identifier: Apache-2.0
 *
 * The roofs: how fast this machine reads memory, how many FP32 fused multiply-adds it does and, with AMX, how many
 * BF16 ones in tiles.
 * Loops of every vector width that the processor has are tried and the fastest counts, so that no kernel looks
 * better than the roof merely because the roof was measured badly.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "bench/bench.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define TARGET(isa) __attribute__((target(isa)))
#elif defined(__aarch64__)
#include <arm_neon.h>
#define TARGET(isa)
#else
#define TARGET(isa)
#endif

static bool always(void)
{
	return true;
}

#if defined(__x86_64__)
static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
	return __builtin_cpu_supports("avx512f");
}
#endif

/* ---- Read bandwidth ------------------------------------------------------------------------------------------ */

enum { STEP = 256, AHEAD = 2048 }; /* bytes per turn of a read loop, and from there to the line it prefetches */

/* Vectors of the compiler: the target attribute says what it may make of them. */
typedef uint64_t words16 __attribute__((vector_size(16), aligned(1), may_alias));
#if defined(__x86_64__)
typedef uint64_t words32 __attribute__((vector_size(32), aligned(1), may_alias));
typedef uint64_t words64 __attribute__((vector_size(64), aligned(1), may_alias));
#endif

/* Adds up [bytes] in four independent sums; bytes is a multiple of STEP.  The sum keeps the loads alive. */
#define DEFINE_READ(name, type, isa, ahead)                                                                            \
	TARGET(isa) static uint64_t name(const unsigned char *at, size_t bytes)                                        \
	{                                                                                                              \
		enum { LANES = sizeof(type) / sizeof(uint64_t), VECTORS = STEP / sizeof(type) };                       \
		type sum[4] = {{0}};                                                                                   \
		uint64_t total = 0;                                                                                    \
		for (const unsigned char *end = at + bytes; at < end; at += STEP) {                                    \
			if (ahead)                                                                                     \
				for (size_t line = 0; line < STEP; line += 64)                                         \
					__builtin_prefetch(at + line + (ahead));                                       \
			_Pragma("GCC unroll 16") for (size_t i = 0; i < VECTORS; i++) sum[i % 4] +=                    \
			        ((const type *)(const void *)at)[i];                                                   \
		}                                                                                                      \
		for (size_t i = 0; i < 4 * LANES; i++)                                                                 \
			total += sum[i / LANES][i % LANES];                                                            \
		return total;                                                                                          \
	}

DEFINE_READ(read_16, words16, "sse2", 0)
DEFINE_READ(read_16_ahead, words16, "sse2", AHEAD)
#if defined(__x86_64__)
DEFINE_READ(read_32, words32, "avx2", 0)
DEFINE_READ(read_32_ahead, words32, "avx2", AHEAD)
DEFINE_READ(read_64, words64, "avx512f", 0)
DEFINE_READ(read_64_ahead, words64, "avx512f", AHEAD)
#endif

static const struct read_loop {
	bool (*supported)(void);
	uint64_t (*run)(const unsigned char *at, size_t bytes);
} read_loops[] = {
        {always, read_16},   {always, read_16_ahead},
#if defined(__x86_64__)
        {has_avx2, read_32}, {has_avx2, read_32_ahead}, {has_avx512, read_64}, {has_avx512, read_64_ahead},
#endif
};

/* Pieces per thread: whoever is late does fewer, as with the kernels. */
enum { PIECES = 4 };

struct reading {
	const struct read_loop *loop;
	const unsigned char *at;
	size_t steps, pieces; /* all of it in STEPs; piece i begins at steps * i / pieces */
};

static volatile uint64_t sum_of_all; /* where results go that nobody needs */

static void read_piece(void *arg, size_t task)
{
	const struct reading *r = arg;
	size_t from = r->steps * task / r->pieces, to = r->steps * (task + 1) / r->pieces;
	uint64_t sum = r->loop->run(r->at + from * STEP, (to - from) * STEP);
	__atomic_fetch_add(&sum_of_all, sum, __ATOMIC_RELAXED);
}

size_t machine_read_loops(void)
{
	return sizeof read_loops / sizeof *read_loops;
}

double machine_read_once(size_t loop, const void *at, size_t bytes, size_t threads)
{
	struct octavo_parallel parallel = bench_parallel(threads);
	struct reading reading = {&read_loops[loop], at, bytes / STEP, PIECES * parallel.threads};
	if (!reading.loop->supported())
		return 0;
	uint64_t start = octavo_now_ns();
	parallel.run(parallel.context, reading.pieces, read_piece, &reading);
	return (double)(reading.steps * STEP) / (double)(octavo_now_ns() - start + 1);
}

double machine_read_bandwidth(const void *pool, size_t bytes, size_t threads, size_t repeats)
{
	double best = 0;
	for (size_t i = 0; i < repeats * machine_read_loops(); i++) {
		double gbs = machine_read_once(i % machine_read_loops(), pool, bytes, threads);
		best = gbs > best ? gbs : best;
	}
	return best;
}

/* ---- Peak ---------------------------------------------------------------------------------------------------- */

/* Enough chains to fill two pipes that take four to five clocks each, few enough for sixteen registers. */
enum { CHAINS = 12, PEAK_ROUNDS = 1 << 21, PEAK_REPEATS = 12 };

/* The project is built with contraction off: a fused multiply-add is written as one.  x stays below 1. */
#define DEFINE_PEAK(name, type, isa, set, fma, first)                                                                  \
	TARGET(isa) static float name(size_t rounds)                                                                   \
	{                                                                                                              \
		type x[CHAINS], scale = set(0.5f), add = set(0.25f);                                                   \
		for (size_t i = 0; i < CHAINS; i++)                                                                    \
			x[i] = set((float)i / CHAINS);                                                                 \
		for (size_t round = 0; round < rounds; round++)                                                        \
			_Pragma("GCC unroll 12") for (size_t i = 0; i < CHAINS; i++) x[i] = fma(x[i], scale, add);     \
		for (size_t i = 1; i < CHAINS; i++)                                                                    \
			x[0] = fma(x[i], scale, x[0]);                                                                 \
		return first(x[0]);                                                                                    \
	}

#if defined(__x86_64__)
DEFINE_PEAK(peak_32, __m256, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps, _mm256_cvtss_f32)
DEFINE_PEAK(peak_64, __m512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps, _mm512_cvtss_f32)
#elif defined(__aarch64__)
#define NEON_FMA(x, scale, add) vfmaq_f32(add, x, scale)
#define NEON_FIRST(x) vgetq_lane_f32(x, 0)
DEFINE_PEAK(peak_16, float32x4_t, "", vdupq_n_f32, NEON_FMA, NEON_FIRST)
#endif
#define SAME(x) (x)
DEFINE_PEAK(peak_4, float, "sse2", SAME, __builtin_fmaf, SAME)

static const struct peak_loop {
	bool (*supported)(void);
	float (*run)(size_t rounds);
	size_t lanes;
} peak_loops[] = {
#if defined(__x86_64__)
        {has_avx512, peak_64, 16},
        {has_avx2, peak_32, 8},
#elif defined(__aarch64__)
        {always, peak_16, 4},
#endif
        {always, peak_4, 1},
};

struct peak {
	float (*run)(size_t rounds);
	size_t rounds;
};

static void peak_task(void *arg, size_t task)
{
	const struct peak *peak = arg;
	(void)task;
	__atomic_fetch_add(&sum_of_all, (uint64_t)peak->run(peak->rounds), __ATOMIC_RELAXED);
}

/* The best of several runs on all threads, with so many operations in a round. */
static double peak_gflops(struct peak peak, double flops, size_t threads)
{
	struct octavo_parallel parallel = bench_parallel(threads);
	double best = 0;
	flops *= (double)(peak.rounds * parallel.threads);
	for (size_t repeat = 0; repeat < PEAK_REPEATS; repeat++) {
		uint64_t start = octavo_now_ns();
		parallel.run(parallel.context, parallel.threads, peak_task, &peak);
		double gflops = flops / (double)(octavo_now_ns() - start);
		best = gflops > best ? gflops : best;
	}
	return best;
}

static double fma_gflops(size_t threads)
{
	double best = 0;
	for (size_t i = 0; i < sizeof peak_loops / sizeof *peak_loops; i++) {
		const struct peak_loop *loop = &peak_loops[i];
		if (!loop->supported() || (loop->lanes == 1 && best > 0))
			continue; /* scalars only where there is nothing wider */
		struct peak peak = {loop->run, PEAK_ROUNDS};
		double gflops = peak_gflops(peak, 2.0 * CHAINS * (double)loop->lanes, threads);
		best = gflops > best ? gflops : best;
	}
	return best;
}

/* ---- Peak of pairs ------------------------------------------------------------------------------------------- */

#ifdef HAVE_AVX512BF16
TARGET("avx512bf16,avx512f") static float peak_pairs(size_t rounds)
{
	__m512 x[CHAINS];
	__m512bh a = (__m512bh)_mm512_set1_epi32(0x3f803f80), b = a;
	for (size_t i = 0; i < CHAINS; i++)
		x[i] = _mm512_setzero_ps();
	for (size_t round = 0; round < rounds; round++)
		_Pragma("GCC unroll 12") for (size_t i = 0; i < CHAINS; i++) x[i] = _mm512_dpbf16_ps(x[i], a, b);
	for (size_t i = 1; i < CHAINS; i++)
		x[0] = _mm512_add_ps(x[0], x[i]);
	return _mm512_cvtss_f32(x[0]);
}

static double pair_gflops(size_t threads)
{
	const struct peak peak = {peak_pairs, PEAK_ROUNDS};
	if (!(octavo_cpu_detect() & OCTAVO_CPU_BF16))
		return 0;
	return peak_gflops(peak, 2.0 * CHAINS * 32, threads);
}
#else
static double pair_gflops(size_t threads)
{
	(void)threads;
	return 0;
}
#endif

/* ---- Peak of tiles ------------------------------------------------------------------------------------------- */

#ifdef HAVE_AMX
/* Four sums from two tiles on either side, as the kernels have them: all tiles 16 rows of 64 bytes, and zero. */
TARGET("amx-tile,amx-bf16") static float peak_tiles(size_t rounds)
{
	static const struct {
		unsigned char palette, reserved[15];
		uint16_t row_bytes[16];
		unsigned char rows[16];
	} config = {1, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
	_tile_loadconfig(&config);
	for (size_t round = 0; round < rounds; round++) {
		_tile_dpbf16ps(0, 4, 6);
		_tile_dpbf16ps(1, 4, 7);
		_tile_dpbf16ps(2, 5, 6);
		_tile_dpbf16ps(3, 5, 7);
	}
	_tile_release();
	return 0;
}

static double tile_gflops(size_t threads)
{
	const struct peak peak = {peak_tiles, PEAK_ROUNDS / 8};
	if (!(octavo_cpu_detect() & OCTAVO_CPU_AMX))
		return 0;
	return peak_gflops(peak, 4 * 2.0 * 16 * 16 * 32, threads);
}
#else
static double tile_gflops(size_t threads)
{
	(void)threads;
	return 0;
}
#endif

void machine_measure_peaks(struct machine *m)
{
	m->peak_gflops = fma_gflops(m->threads);
	m->pair_gflops = pair_gflops(m->threads);
	m->tile_gflops = tile_gflops(m->threads);
}
