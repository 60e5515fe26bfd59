/* Fused training kernels for train.py: everything in a DeepSeek-V3 layer that is not a large matrix product.
 *
 * Tensors are BF16 (uint16_t) unless said otherwise, row-major; sums are F32. Written with the vector extensions of GCC and
 * Clang, so any ISA works; only the tile product of attention has an AVX-512 BF16 form of its own. Widths are multiples of 16.
 */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

typedef uint16_t bf16;
typedef float vf __attribute__((vector_size(64), aligned(4)));
typedef int32_t vi __attribute__((vector_size(64), aligned(4)));
typedef uint32_t vu __attribute__((vector_size(64), aligned(4)));
typedef uint16_t vh __attribute__((vector_size(32), aligned(2)));

static inline vf vset(float x) { return (vf){0} + x; }
static inline vf vload(const bf16 *p)
{
    return (vf)(__builtin_convertvector(*(const vh *)p, vu) << 16);
}
static inline void vstore(bf16 *p, vf v)
{
#ifdef __AVX512BF16__
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh((__m512)v));
#else
    vu u = (vu)v;
    u += 0x7fff + ((u >> 16) & 1);
    *(vh *)p = __builtin_convertvector(u >> 16, vh);
#endif
}
static inline vf vloadf(const float *p) { return *(const vf *)p; }
static inline void vstoref(float *p, vf v) { *(vf *)p = v; }
static inline vf vmax(vf a, vf b)
{
#ifdef __AVX512F__
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#else
    vi m = a > b;
    return (vf)(((vi)a & m) | ((vi)b & ~m));
#endif
}
static inline float vsum(vf v)
{
    float s = 0;
    for (int i = 0; i < 16; i++) s += v[i];
    return s;
}
static inline float vmaxall(vf v)
{
    float s = v[0];
    for (int i = 1; i < 16; i++) s = v[i] > s ? v[i] : s;
    return s;
}
static inline vf vexp(vf x)
{
    x = vmax(x, vset(-87.f));
    vf t = x * 1.44269504f;
    vf n = (t + 12582912.f) - 12582912.f; /* round to nearest integer */
    vf f = t - n;
    vf p = vset(0.0013333558f);
    p = p * f + 0.0096181291f;
    p = p * f + 0.0555041087f;
    p = p * f + 0.2402265070f;
    p = p * f + 0.6931471806f;
    p = p * f + 1.f;
    return p * (vf)((__builtin_convertvector(n, vi) + 127) << 23);
}
static inline float load1(bf16 x)
{
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline bf16 store1(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return (bf16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

/* ---- RMSNorm: x [T][D], w [D] -> y [T][D]; r [T] keeps 1/rms for the backward pass ---- */

void rms_forward(const bf16 *x, const bf16 *w, bf16 *y, float *r, long T, long D)
{
#pragma omp parallel for
    for (long t = 0; t < T; t++) {
        const bf16 *a = x + t * D;
        vf s = {0};
        for (long i = 0; i < D; i += 16) {
            vf v = vload(a + i);
            s += v * v;
        }
        float q = 1.f / sqrtf(vsum(s) / D + 1e-6f);
        r[t] = q;
        for (long i = 0; i < D; i += 16) vstore(y + t * D + i, vload(a + i) * q * vload(w + i));
    }
}

void rms_backward(const bf16 *x, const bf16 *w, const float *r, const bf16 *dy, bf16 *dx, float *dw, long T, long D)
{
    memset(dw, 0, 4 * D);
#pragma omp parallel
    {
        float *local = calloc(D, 4);
#pragma omp for
        for (long t = 0; t < T; t++) {
            const bf16 *a = x + t * D, *g = dy + t * D;
            vf s = {0};
            for (long i = 0; i < D; i += 16) {
                vf xv = vload(a + i) * r[t], gv = vload(g + i);
                vstoref(local + i, vloadf(local + i) + xv * gv);
                s += xv * gv * vload(w + i);
            }
            float m = vsum(s) / D;
            for (long i = 0; i < D; i += 16)
                vstore(dx + t * D + i, r[t] * (vload(g + i) * vload(w + i) - vload(a + i) * r[t] * m));
        }
#pragma omp critical
        for (long i = 0; i < D; i++) dw[i] += local[i];
        free(local);
    }
}

/* ---- SwiGLU: gu [T][2I] = gate | up -> y [T][I] ---- */

static inline vf vsigmoid(vf x) { return 1.f / (1.f + vexp(-x)); }

void swiglu_forward(const bf16 *gu, bf16 *y, long T, long I)
{
#pragma omp parallel for
    for (long t = 0; t < T; t++)
        for (long i = 0; i < I; i += 16) {
            vf g = vload(gu + t * 2 * I + i), u = vload(gu + t * 2 * I + I + i);
            vstore(y + t * I + i, g * vsigmoid(g) * u);
        }
}

void swiglu_backward(const bf16 *gu, const bf16 *dy, bf16 *dgu, long T, long I)
{
#pragma omp parallel for
    for (long t = 0; t < T; t++)
        for (long i = 0; i < I; i += 16) {
            vf g = vload(gu + t * 2 * I + i), u = vload(gu + t * 2 * I + I + i), d = vload(dy + t * I + i);
            vf s = vsigmoid(g);
            vstore(dgu + t * 2 * I + I + i, d * g * s);
            vstore(dgu + t * 2 * I + i, d * u * s * (1.f + g * (1.f - s)));
        }
}

/* ---- cross entropy: logits [T][V] are replaced by scale * d(loss)/d(logits); targets < 0 are ignored ---- */

void cross_entropy(bf16 *logits, const int64_t *target, float *loss, float scale, long want_grad, long T, long V)
{
#pragma omp parallel for
    for (long t = 0; t < T; t++) {
        bf16 *a = logits + t * V;
        long y = target[t];
        if (y < 0) {
            loss[t] = 0;
            if (want_grad) memset(a, 0, 2 * V);
            continue;
        }
        vf m = vset(-1e30f), s = {0};
        for (long i = 0; i < V; i += 16) m = vmax(m, vload(a + i));
        float top = vmaxall(m);
        for (long i = 0; i < V; i += 16) s += vexp(vload(a + i) - top);
        float z = vsum(s), ly = load1(a[y]);
        loss[t] = logf(z) + top - ly;
        if (!want_grad) continue;
        for (long i = 0; i < V; i += 16) vstore(a + i, vexp(vload(a + i) - top) * (scale / z));
        a[y] = store1(expf(ly - top) * scale / z - scale);
    }
}

/* ---- distillation: the same against a law [T][V] in place of a target; the loss is -sum law * log softmax(logits) ---- */

void distillation(bf16 *logits, const bf16 *law, float *loss, float scale, long want_grad, long T, long V)
{
#pragma omp parallel for
    for (long t = 0; t < T; t++) {
        bf16 *a = logits + t * V;
        const bf16 *p = law + t * V;
        vf m = vset(-1e30f), s = {0}, mass = {0}, dot = {0};
        for (long i = 0; i < V; i += 16) m = vmax(m, vload(a + i));
        float top = vmaxall(m);
        for (long i = 0; i < V; i += 16) {
            vf x = vload(a + i) - top, w = vload(p + i);
            s += vexp(x);
            mass += w;
            dot += w * x;
        }
        float z = vsum(s), total = vsum(mass); /* not quite 1: the law is rounded */
        loss[t] = logf(z) * total - vsum(dot);
        if (!want_grad) continue;
        for (long i = 0; i < V; i += 16)
            vstore(a + i, (vexp(vload(a + i) - top) * (total / z) - vload(p + i)) * scale);
    }
}

/* ---- embedding gradient: dw [V][D] F32 += dy rows; each thread owns columns, so the order of sums is fixed ---- */

void embedding_backward(const int64_t *ids, const bf16 *dy, float *dw, long T, long D)
{
#pragma omp parallel for
    for (long i = 0; i < D; i += 16)
        for (long t = 0; t < T; t++) {
            float *p = dw + ids[t] * D + i;
            vstoref(p, vloadf(p) + vload(dy + t * D + i));
        }
}

/* ---- mixture of experts: slot [T][K] is the row of a token's copy in the buffer sorted by expert ---- */

void gather(const bf16 *x, const int32_t *slot, bf16 *sorted, long T, long K, long D)
{
#pragma omp parallel for
    for (long t = 0; t < T; t++)
        for (long k = 0; k < K; k++) memcpy(sorted + (long)slot[t * K + k] * D, x + t * D, 2 * D);
}

void gather_backward(const bf16 *dsorted, const int32_t *slot, bf16 *dx, long T, long K, long D)
{
#pragma omp parallel for
    for (long t = 0; t < T; t++)
        for (long i = 0; i < D; i += 16) {
            vf s = {0};
            for (long k = 0; k < K; k++) s += vload(dsorted + (long)slot[t * K + k] * D + i);
            vstore(dx + t * D + i, s);
        }
}

void combine(const bf16 *y, const float *weight, const int32_t *slot, bf16 *out, long T, long K, long D)
{
#pragma omp parallel for
    for (long t = 0; t < T; t++)
        for (long i = 0; i < D; i += 16) {
            vf s = {0};
            for (long k = 0; k < K; k++) s += weight[t * K + k] * vload(y + (long)slot[t * K + k] * D + i);
            vstore(out + t * D + i, s);
        }
}

void combine_backward(const bf16 *y, const float *weight, const int32_t *slot, const bf16 *dout, bf16 *dy, float *dweight,
                      long T, long K, long D)
{
#pragma omp parallel for
    for (long t = 0; t < T; t++)
        for (long k = 0; k < K; k++) {
            long r = (long)slot[t * K + k] * D;
            vf s = {0};
            for (long i = 0; i < D; i += 16) {
                vf g = vload(dout + t * D + i);
                s += g * vload(y + r + i);
                vstore(dy + r + i, g * weight[t * K + k]);
            }
            dweight[t * K + k] = vsum(s);
        }
}

/* ---- AdamW on F32 masters; grad is F32; out (BF16 copy) may be NULL ---- */

void adamw(float *p, float *m, float *v, const float *grad, bf16 *out, long n, float lr, float beta1, float beta2,
           float decay, float fix1, float fix2, float clip)
{
#pragma omp parallel for
    for (long i = 0; i < n; i++) {
        float g = grad[i] * clip;
        m[i] = beta1 * m[i] + (1 - beta1) * g;
        v[i] = beta2 * v[i] + (1 - beta2) * g * g;
        p[i] -= lr * (m[i] * fix1 / (sqrtf(v[i] * fix2) + 1e-8f) + decay * p[i]);
        if (out) out[i] = store1(p[i]);
    }
}

#include "attention.h"
