# SPDX-License-Identifier: Apache-2.0
"""The same forward pass in Octavo's own arithmetic: FP32 with every order of summation written down.

`octavo_kernels.h` defines each operation to the last bit.  Here those definitions are carried out a second time, one
FP32 operation at a time over whole arrays.  An engine that keeps the contract gives these bits.
"""
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from formats import BLOCK, E4M3_VALUE, bf16_decode, quantise_activations
from forward import SEGMENT, Arithmetic, Model

CHUNK, LANES = 32, 16


def fma(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a * b + c with one rounding to F32: exact product in F64, sum rounded to odd there, then to F32 (Boldo and
    Melquiond, "Emulation of FMA and correctly rounded sums")."""
    product = a.double() * b.double()
    c = c.double()
    total = product + c
    other = total - product
    error = (product - (total - other)) + (c - other)
    even = (total.contiguous().view(torch.int64) & 1) == 0
    neighbour = torch.nextafter(total, torch.where(error > 0, torch.inf, -torch.inf).double())
    return torch.where((error != 0) & even, neighbour, total).float()


def exp(x: Tensor) -> Tensor:
    """Cody and Waite reduction, Cephes' polynomial; +0 below -87, clamped to 88 above."""
    def constant(value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float32)

    low = x < -87
    x = x.clamp(-87, 88)
    n = (x * constant(1.44269504088896341)).round()
    r = fma(n, constant(-0.693359375), x)
    r = fma(n, constant(2.12194440e-4), r)
    p = constant(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = fma(p, r, constant(c))
    p = fma(p, r * r, r) + 1
    return torch.where(low, torch.zeros_like(x), p * torch.exp2(n.double()).float())


def lane_sum(x: Tensor, square: bool = False) -> Tensor:
    """Over the last axis: element i to lane i mod 16 (fused, if of squares), then the tree 8-4-2-1."""
    x = torch.nn.functional.pad(x, (0, -x.shape[-1] % LANES)).unflatten(-1, (-1, LANES))
    lane = torch.zeros_like(x[..., 0, :])
    for i in range(x.shape[-2]):
        lane = fma(x[..., i, :], x[..., i, :], lane) if square else lane + x[..., i, :]
    while lane.shape[-1] > 1:
        half = lane.shape[-1] // 2
        lane = lane[..., :half] + lane[..., half:]
    return lane[..., 0]


def chunk_sum(x: Tensor, w: Tensor) -> Tensor:
    """Over the last axis of two broadcastable operands whose products are exact in F32: chunks of 32, in each one
    chain over the even elements and one over the odd."""
    x, w = (torch.nn.functional.pad(t, (0, -t.shape[-1] % 2)) for t in (x, w))
    acc = torch.zeros(torch.broadcast_shapes(x.shape, w.shape)[:-1])
    for start in range(0, x.shape[-1], CHUNK):
        even, odd = torch.zeros_like(acc), torch.zeros_like(acc)
        for k in range(start, min(start + CHUNK, x.shape[-1]), 2):
            even = even + x[..., k] * w[..., k]
            odd = odd + x[..., k + 1] * w[..., k + 1]
        acc = acc + (even + odd)
    return acc


def pieces(first: int, length: int) -> list[slice]:
    """Cuts [0, length) where scale blocks end, if element 0 is the absolute element `first`."""
    edges = [0, *range(BLOCK - first % BLOCK, length, BLOCK), length]
    return [slice(*pair) for pair in zip(edges, edges[1:])]


class Contract(Model):
    """forward.py's Model, each operation replaced by its definition in the contract."""

    def __init__(self, directory: Path, arithmetic: Arithmetic = Arithmetic()):
        super().__init__(directory, Arithmetic(True, arithmetic.a8, arithmetic.naive, torch.float32))

    def _code(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Unscaled values [N][K] and the scale of each row and column block [N][blocks], or None."""
        dtype, raw = self.tensors[name]
        if dtype == "BF16":
            return torch.from_numpy(bf16_decode(raw)), None
        scale = self.tensors[name + "_scale_inv"][1].repeat(BLOCK, axis=0)[: len(raw)]
        scale = np.where(scale < 2.0**-40, np.float32(0), scale)
        return torch.from_numpy(E4M3_VALUE[raw].astype(np.float32)), torch.from_numpy(scale)

    def _gemm(self, x: Tensor, w: Tensor, scale: Tensor | None, x_scale: Tensor | None = None) -> Tensor:
        """x [M][K] times w [N][K]; scale [N][blocks], x_scale [M][blocks]."""
        x, w = x[:, None], w[None]
        if scale is None:
            return chunk_sum(x, w)
        y = torch.zeros(len(x), w.shape[1])
        for b, k in enumerate(pieces(0, x.shape[-1])):
            s = scale[:, b] if x_scale is None else x_scale[:, b, None] * scale[:, b]
            y = fma(s, chunk_sum(x[..., k], w[..., k]), y)
        return y

    def linear(self, name: str, x: Tensor) -> Tensor:
        x, x_scale = self.round(x), None
        w, scale = self._code(name)
        if self.arithmetic.a8 and scale is not None:
            x, x_scale = (torch.from_numpy(t).float() for t in quantise_activations(x.numpy(), self.ue8m0))
        return self._gemm(x, w, scale, x_scale)

    def norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        mean = lane_sum(x, square=True) / torch.tensor(float(x.shape[-1]))
        root = torch.from_numpy(np.sqrt((mean + torch.tensor(eps)).numpy()))  # torch's may be a library's, not IEEE's
        return x * (1 / root)[..., None] * self.weight(name)

    def rotate(self, a: Tensor, b: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = cos.expand_as(a), sin.expand_as(a)
        return fma(a, cos, -(b * sin)), fma(a, sin, b * cos)

    def _head_rows(self) -> list[tuple[slice, slice]]:
        """Per head, kv_b's rows of the key and of the value."""
        nope, v = self.config["qk_nope_head_dim"], self.config["v_head_dim"]
        first = [h * (nope + v) for h in range(self.config["num_attention_heads"])]
        return [(slice(row, row + nope), slice(row + nope, row + nope + v)) for row in first]

    def absorb(self, name: str, q: Tensor) -> Tensor:
        """Transposed products: the rows of kv_b are summed over, cut where their scale blocks end."""
        w, scale = self._code(name)
        out = torch.zeros(len(q), q.shape[1], w.shape[1])
        for h, (key, _) in enumerate(self._head_rows()):
            u = w[key].T  # [latent][nope]
            if scale is None:
                out[:, h] = chunk_sum(q[:, h, None], u[None])
                continue
            s = scale[key].repeat_interleave(BLOCK, 1)[:, : w.shape[1]]  # [nope][latent]
            for n in pieces(key.start, len(s)):
                out[:, h] = fma(s[n.start], chunk_sum(q[:, h, None, n], u[None, :, n]), out[:, h])
        return out

    def _through_heads(self, name: str, x: list[Tensor], part: int) -> Tensor:
        """x[h] [M][latent] through head h's key rows (part 0) or value rows (part 1): [M][heads][rows]."""
        w, scale = self._code(name)
        rows = [pair[part] for pair in self._head_rows()]
        return torch.stack([self._gemm(x[h], w[r], None if scale is None else scale[r]) for h, r in enumerate(rows)], 1)

    def unfold(self, name: str, z: Tensor) -> Tensor:
        return self._through_heads(name, list(z.unbind(1)), 1)

    def decompress(self, name: str, c: Tensor) -> tuple[Tensor, Tensor]:
        heads = [c] * self.config["num_attention_heads"]
        return self._through_heads(name, heads, 0), self._through_heads(name, heads, 1)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        score = (chunk_sum(q, k) * torch.tensor(self.tau, dtype=torch.float32)).T  # [heads][S]
        values = v.permute(1, 2, 0)  # [heads or 1][e][S]
        top, total, out = self._segment(score[:, :SEGMENT], values[..., :SEGMENT])
        for start in range(SEGMENT, len(k), SEGMENT):
            later, more, o = self._segment(score[:, start : start + SEGMENT], values[..., start : start + SEGMENT])
            merged = torch.maximum(top, later)
            a, b = exp(top - merged), exp(later - merged)
            total, out, top = fma(more, b, total * a), fma(o, b[:, None].expand_as(o), out * a[:, None]), merged
        return out / total[:, None]

    def _segment(self, score: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maximum [heads], sum of unrounded probabilities [heads] and weighted values [heads][e] of one segment."""
        top = score.amax(1)
        p = exp(score - top[:, None])
        return top, lane_sum(p), chunk_sum(self.round(p)[:, None], values)

    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        return gate / (1 + exp(-gate)) * up

    def sigmoid(self, x: Tensor) -> Tensor:
        return 1 / (1 + exp(-x))

    def softmax(self, x: Tensor) -> Tensor:
        e = exp(x - x.amax(-1, keepdim=True))
        return e / lane_sum(e)[..., None]

    def normalise(self, weight: Tensor) -> Tensor:
        total = torch.zeros_like(weight[:, 0])
        for i in range(weight.shape[1]):
            total = total + weight[:, i]
        return weight / (total + torch.tensor(1e-20))[:, None]

    def multiply_add(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return fma(a.expand_as(b), b, c)
