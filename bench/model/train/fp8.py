"""E4M3 (1 sign, 4 exponent, 3 mantissa bits, bias 7, no infinities) and its 128x128 block scales."""

import numpy as np

BLOCK = 128
MAX = np.float32(448)


def _table():
    c = np.arange(256)
    e, m = c >> 3 & 15, c & 7
    v = np.where(e == 0, m * 2.0 ** -9, (1 + m / 8) * 2.0 ** (e - 7.0))
    v[c & 0x7F == 0x7F] = np.nan
    return np.where(c < 128, v, -v).astype(np.float32)


DECODE = _table()


def encode(x):
    """F32 -> codes, round to nearest even, saturating at 448."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    bits = x.view(np.uint32)
    sign, a = bits >> 24 & 0x80, bits & 0x7FFFFFFF
    small = np.rint(np.abs(x) * 512).astype(np.uint32)  # below 2^-6 the spacing is 2^-9; 8 carries into the first normal
    r = np.where(a < 0x3C800000, 0x3C800000, a) - np.uint32(0x3C000000)
    normal = r + 0x7FFFF + (r >> 20 & 1) >> 20
    code = np.where(a < 0x3C800000, small, np.where(a >= 0x43E80000, 0x7E, normal))
    return (sign | code).astype(np.uint8)


def quantise(w):
    """w [N][K] F32 -> codes [N][K], scale_inv [ceil(N/128)][ceil(K/128)] with w ~ DECODE[code] * scale_inv. Edge blocks are
    partial: their scale comes from the elements that exist."""
    N, K = w.shape
    n, k = -(-N // BLOCK), -(-K // BLOCK)
    padded = np.zeros((n * BLOCK, k * BLOCK), np.float32)
    padded[:N, :K] = w
    amax = np.abs(padded.reshape(n, BLOCK, k, BLOCK)).max((1, 3))
    scale = (np.where(amax > 0, amax, 1) / MAX).astype(np.float32)
    return encode(w / expand(scale, N, K)), scale


def expand(scale, N, K):
    return np.repeat(np.repeat(scale, BLOCK, 0)[:N], BLOCK, 1)[:, :K]


def dequantise(code, scale):
    return DECODE[code] * expand(scale, *code.shape)
