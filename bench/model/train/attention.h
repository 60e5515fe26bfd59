/* Causal multi-head latent attention for training, forward and backward; included by kernels.c.
 *
 * q [B][S][H][96], kv [B][S][H][128] = key (64) | value (64), kpe [B][S][32] shared by the heads, out [B][S][H][64],
 * lse [B][H][S]. Rotation acts on adjacent pairs; cs [S][32] holds (cos, sin). S is a multiple of 32, at most SMAX.
 * Products run on 32 x 32 tiles; the right operand is packed as [k/32][n/16][k pair 16][n 16][2], the order of BF16 dot products.
 */
#define NOPE 64
#define ROPE 32
#define QK (NOPE + ROPE)
#define DV 64
#define KV (NOPE + DV)
#define SMAX 1024

/* C [32][32] F32 (row stride ldc) = A [32][32 kb] (row stride lda) * B; tile (k, n) of B is at k * sk + n * sn */
static void tile_product(float *C, long ldc, const bf16 *A, long lda, const bf16 *B, long sk, long sn, long kb)
{
    for (int r0 = 0; r0 < 32; r0 += 8) {
        vf acc[8][2] = {{{0}}};
        for (long k = 0; k < kb; k++)
            for (int p = 0; p < 16; p++) {
                const bf16 *b0 = B + k * sk + p * 32, *b1 = b0 + sn, *a = A + r0 * lda + k * 32 + 2 * p;
#ifdef __AVX512BF16__
                __m512bh v0 = (__m512bh)_mm512_loadu_si512(b0), v1 = (__m512bh)_mm512_loadu_si512(b1);
#pragma GCC unroll 8
                for (int r = 0; r < 8; r++) {
                    int32_t pair;
                    memcpy(&pair, a + r * lda, 4);
                    __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
                    acc[r][0] = (vf)_mm512_dpbf16_ps((__m512)acc[r][0], x, v0);
                    acc[r][1] = (vf)_mm512_dpbf16_ps((__m512)acc[r][1], x, v1);
                }
#else
                vu v0 = *(const vu *)b0, v1 = *(const vu *)b1;
                for (int r = 0; r < 8; r++) {
                    float even = load1(a[r * lda]), odd = load1(a[r * lda + 1]);
                    acc[r][0] += even * (vf)(v0 << 16) + odd * (vf)(v0 & 0xffff0000u);
                    acc[r][1] += even * (vf)(v1 << 16) + odd * (vf)(v1 & 0xffff0000u);
                }
#endif
            }
        for (int r = 0; r < 8; r++) {
            vstoref(C + (r0 + r) * ldc, acc[r][0]);
            vstoref(C + (r0 + r) * ldc + 16, acc[r][1]);
        }
    }
}

/* Right operand from X [N][D] for products over D: the columns of the result are the rows of X. */
static void pack_transposed(const bf16 *X, long ldx, long N, long D, bf16 *B)
{
    for (long kb = 0; kb < D / 32; kb++)
        for (long nb = 0; nb < N / 16; nb++) {
            uint32_t *o = (uint32_t *)(B + (kb * (N / 16) + nb) * 512), t[16][16];
            for (int n = 0; n < 16; n++) memcpy(t[n], X + (nb * 16 + n) * ldx + kb * 32, 64);
            for (int k = 0; k < 16; k++)
                for (int n = 0; n < 16; n++) o[k * 16 + n] = t[n][k];
        }
}

/* Interleave two rows of 16 into a row of pairs. */
static inline void interleave(bf16 *o, const bf16 *even, const bf16 *odd)
{
    vu e = __builtin_convertvector(*(const vh *)even, vu), d = __builtin_convertvector(*(const vh *)odd, vu);
    *(vu *)o = e | d << 16;
}

/* Right operand from X [N][D] for products over N. */
static void pack_rows(const bf16 *X, long ldx, long N, long D, bf16 *B)
{
    for (long n = 0; n < N; n += 2)
        for (long d = 0; d < D; d += 16)
            interleave(B + (n / 32 * (D / 16) + d / 16) * 512 + n % 32 * 16, X + n * ldx + d, X + (n + 1) * ldx + d);
}

static void transpose(const bf16 *X, long N, long D, bf16 *Y)
{
    for (long n0 = 0; n0 < N; n0 += 16)
        for (long d = 0; d < D; d++)
            for (long n = n0; n < n0 + 16; n++) Y[d * N + n] = X[n * D + d];
}

static inline void rotate(const bf16 *x, bf16 *y, const float *cs, float sign)
{
    for (int i = 0; i < ROPE; i += 2) {
        float c = cs[i], s = sign * cs[i + 1], a = load1(x[i]), b = load1(x[i + 1]);
        y[i] = store1(a * c - b * s);
        y[i + 1] = store1(a * s + b * c);
    }
}

struct shape {
    long B, S, H;
};

/* Rotated queries and keys of one head, [S][QK] each. */
static void load_head(bf16 *Q, bf16 *K, const bf16 *q, const bf16 *kv, const bf16 *kpe, const float *cs, struct shape z,
                      long b, long h)
{
    for (long s = 0; s < z.S; s++) {
        long row = b * z.S + s;
        const bf16 *qq = q + (row * z.H + h) * QK;
        memcpy(Q + s * QK, qq, NOPE * 2);
        rotate(qq + NOPE, Q + s * QK + NOPE, cs + s * ROPE, 1);
        memcpy(K + s * QK, kv + (row * z.H + h) * KV, NOPE * 2);
        rotate(kpe + row * ROPE, K + s * QK + NOPE, cs + s * ROPE, 1);
    }
}

/* Unnormalised or normalised probabilities exp(scale * score - shift), zero when negligible. */
static inline vf probability(const float *score, float scale, float shift)
{
    vf x = vloadf(score) * scale - shift;
    return (vf)((vi)vexp(x) & (x > -80.f));
}

struct forward_work {
    bf16 Q[SMAX * QK], K[SMAX * QK], KT[SMAX * QK], V[SMAX * DV], P[32 * SMAX];
    float S[32 * SMAX], O[32 * DV];
};

void mla_forward(const bf16 *q, const bf16 *kv, const bf16 *kpe, bf16 *out, float *lse, const float *cs, long B, long S,
                 long H, float scale)
{
    struct shape z = {B, S, H};
#pragma omp parallel
    {
        struct forward_work *w = aligned_alloc(64, (sizeof *w + 63) / 64 * 64);
#pragma omp for schedule(dynamic, 1)
        for (long bh = 0; bh < B * H; bh++) {
            long b = bh / H, h = bh % H;
            load_head(w->Q, w->K, q, kv, kpe, cs, z, b, h);
            pack_transposed(w->K, QK, S, QK, w->KT);
            pack_rows(kv + b * S * H * KV + h * KV + NOPE, H * KV, S, DV, w->V);
            for (long i = 0; i < S; i += 32) {
                long n = i + 32;
                for (long j = 0; j < n; j += 32)
                    tile_product(w->S + j, SMAX, w->Q + i * QK, QK, w->KT + j / 16 * 512, S / 16 * 512, 512, QK / 32);
                for (int r = 0; r < 32; r++) {
                    float *a = w->S + r * SMAX;
                    for (long j = i + r + 1; j < n; j++) a[j] = -1e30f;
                    vf m = vset(-1e30f), sum = {0};
                    for (long j = 0; j < n; j += 16) m = vmax(m, vloadf(a + j));
                    float top = vmaxall(m) * scale;
                    for (long j = 0; j < n; j += 16) {
                        vf e = probability(a + j, scale, top);
                        sum += e;
                        vstoref(a + j, e);
                    }
                    float total = vsum(sum);
                    lse[bh * S + i + r] = top + logf(total);
                    for (long j = 0; j < n; j += 16) vstore(w->P + r * SMAX + j, vloadf(a + j) * (1.f / total));
                }
                for (int c = 0; c < DV; c += 32)
                    tile_product(w->O + c, DV, w->P, SMAX, w->V + c / 16 * 512, DV / 16 * 512, 512, n / 32);
                for (int r = 0; r < 32; r++)
                    for (int c = 0; c < DV; c += 16)
                        vstore(out + ((b * S + i + r) * H + h) * DV + c, vloadf(w->O + r * DV + c));
            }
        }
        free(w);
    }
}

struct backward_work {
    bf16 Q[SMAX * QK], K[SMAX * QK], KT[SMAX * QK], KN[SMAX * QK], VT[SMAX * DV], dO[SMAX * DV], dOT[SMAX * DV];
    bf16 QT[SMAX * QK], PV[SMAX * SMAX], DS[SMAX * SMAX], ds_rows[32 * SMAX], p_rows[32 * SMAX];
    float S[32 * SMAX], P[32 * SMAX], dQ[32 * QK], T[32 * 32], kpe[SMAX * ROPE];
};

/* Rows i..i+31: probabilities and their gradients, then dQ. PV and DS collect both for dV and dK. */
static void backward_rows(struct backward_work *w, const bf16 *out, const float *lse, bf16 *dq, const float *cs,
                          struct shape z, long b, long h, long i, float scale)
{
    long n = i + 32, S = z.S, NB = S / 16;
    for (long j = 0; j < n; j += 32) {
        tile_product(w->S + j, SMAX, w->Q + i * QK, QK, w->KT + j / 16 * 512, NB * 512, 512, QK / 32);
        tile_product(w->P + j, SMAX, w->dO + i * DV, DV, w->VT + j / 16 * 512, NB * 512, 512, DV / 32);
    }
    for (int r = 0; r < 32; r++) {
        float *a = w->S + r * SMAX;
        const bf16 *o = out + ((b * S + i + r) * z.H + h) * DV;
        vf s = {0};
        for (int c = 0; c < DV; c += 16) s += vload(o + c) * vload(w->dO + (i + r) * DV + c);
        float dot = vsum(s), shift = lse[(b * z.H + h) * S + i + r];
        for (long j = i + r + 1; j < n; j++) a[j] = -1e30f;
        for (long j = 0; j < n; j += 16) {
            vf e = probability(a + j, scale, shift);
            vstore(w->p_rows + r * SMAX + j, e);
            vstore(w->ds_rows + r * SMAX + j, e * scale * (vloadf(w->P + r * SMAX + j) - dot));
        }
    }
    for (int r = 0; r < 32; r += 2)
        for (long j = 0; j < n; j += 16) {
            long off = (i / 32 * NB + j / 16) * 512 + r / 2 * 32;
            interleave(w->PV + off, w->p_rows + r * SMAX + j, w->p_rows + (r + 1) * SMAX + j);
            interleave(w->DS + off, w->ds_rows + r * SMAX + j, w->ds_rows + (r + 1) * SMAX + j);
        }
    for (int c = 0; c < QK; c += 32)
        tile_product(w->dQ + c, QK, w->ds_rows, SMAX, w->KN + c / 16 * 512, QK / 16 * 512, 512, n / 32);
    for (int r = 0; r < 32; r++) {
        bf16 t[QK], *d = dq + ((b * S + i + r) * z.H + h) * QK;
        for (int c = 0; c < QK; c += 16) vstore(t + c, vloadf(w->dQ + r * QK + c));
        memcpy(d, t, NOPE * 2);
        rotate(t + NOPE, d + NOPE, cs + (i + r) * ROPE, -1);
    }
}

/* Columns n..n+31: dV and dK as transposed products over the query rows from n on. */
static void backward_columns(struct backward_work *w, bf16 *dkv, struct shape z, long b, long h, long n)
{
    long S = z.S, NB = S / 16, k0 = n / 32, kb = S / 32 - k0;
    bf16 *d = dkv + ((b * S + n) * z.H + h) * KV;
    for (int c = 0; c < DV; c += 32) {
        tile_product(w->T, 32, w->dOT + c * S + k0 * 32, S, w->PV + (k0 * NB + n / 16) * 512, NB * 512, 512, kb);
        for (int r = 0; r < 32; r++)
            for (int x = 0; x < 32; x++) d[r * z.H * KV + NOPE + c + x] = store1(w->T[x * 32 + r]);
    }
    for (int c = 0; c < QK; c += 32) {
        tile_product(w->T, 32, w->QT + c * S + k0 * 32, S, w->DS + (k0 * NB + n / 16) * 512, NB * 512, 512, kb);
        for (int r = 0; r < 32; r++)
            for (int x = 0; x < 32; x++) {
                if (c < NOPE)
                    d[r * z.H * KV + c + x] = store1(w->T[x * 32 + r]);
                else
                    w->kpe[(n + r) * ROPE + x] += w->T[x * 32 + r];
            }
    }
}

void mla_backward(const bf16 *q, const bf16 *kv, const bf16 *kpe, const bf16 *out, const float *lse, const bf16 *dout,
                  bf16 *dq, bf16 *dkv, bf16 *dkpe, const float *cs, long B, long S, long H, float scale)
{
    struct shape z = {B, S, H};
#pragma omp parallel
    {
        struct backward_work *w = aligned_alloc(64, (sizeof *w + 63) / 64 * 64);
#pragma omp for schedule(dynamic, 1)
        for (long b = 0; b < B; b++) { /* heads stay together: they share the gradient of kpe */
            memset(w->kpe, 0, sizeof w->kpe);
            for (long h = 0; h < H; h++) {
                load_head(w->Q, w->K, q, kv, kpe, cs, z, b, h);
                for (long s = 0; s < S; s++) memcpy(w->dO + s * DV, dout + ((b * S + s) * H + h) * DV, DV * 2);
                pack_transposed(w->K, QK, S, QK, w->KT);
                pack_rows(w->K, QK, S, QK, w->KN);
                pack_transposed(kv + b * S * H * KV + h * KV + NOPE, H * KV, S, DV, w->VT);
                transpose(w->dO, S, DV, w->dOT);
                transpose(w->Q, S, QK, w->QT);
                for (long i = 0; i < S; i += 32) backward_rows(w, out, lse, dq, cs, z, b, h, i, scale);
                for (long n = 0; n < S; n += 32) backward_columns(w, dkv, z, b, h, n);
            }
            for (long s = 0; s < S; s++) {
                bf16 t[ROPE];
                for (int x = 0; x < ROPE; x++) t[x] = store1(w->kpe[s * ROPE + x]);
                rotate(t, dkpe + (b * S + s) * ROPE, cs + s * ROPE, -1);
            }
        }
        free(w);
    }
}
