"""A small dense Llama as a draft model of its own: grouped-query attention, SwiGLU, rotary embedding on half-split pairs."""

import dataclasses
import math

import torch

from ops import BF16, embedding, linear, rms_norm, swiglu


@dataclasses.dataclass
class Shape:
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    width: int = 384
    theta: float = 10000.0


def rotate_halves(x, theta):
    """x [B][S][H][d] F32: the pair of element i is element i + d/2."""
    S, half = x.shape[1], x.shape[3] // 2
    f = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    a = (torch.arange(S, dtype=torch.float64)[:, None] * f).float()[:, None]  # [S][1][half]
    cos, sin = a.cos(), a.sin()
    u, v = x[..., :half], x[..., half:]
    return torch.cat([u * cos - v * sin, v * cos + u * sin], -1)


def attention(q, k, v, theta):
    """Causal; q [B][S][H][d], k and v [B][S][G][d], H a multiple of G -> [BS][H d]."""
    B, S, H, d = q.shape
    q, k = (rotate_halves(x.float(), theta).to(BF16).transpose(1, 2) for x in (q, k))
    k, v = (x.repeat_interleave(H // x.shape[1], 1) for x in (k, v.transpose(1, 2)))
    score = (q @ k.transpose(2, 3)).float() * d ** -0.5
    score = score + torch.full((S, S), -1e30).triu(1)
    return (score.softmax(-1).to(BF16) @ v).transpose(1, 2).reshape(B * S, H * d)


class Llama:
    """Its parameters live in the dictionary of `owner` under names with this prefix."""

    def __init__(self, owner, prefix, shape):
        self.p, self.n, self.s = owner.p, prefix, shape

    def create(self, owner, vocab):
        """Fresh parameters."""
        s, n, gain = self.s, self.n, 1 / math.sqrt(2 * self.s.layers)
        d = s.hidden // s.heads
        owner._matrix(n + "embed", vocab, s.hidden, std=0.5)
        owner._matrix(n + "head", vocab, s.hidden)
        owner._ones(n + "norm", s.hidden)
        for i in range(s.layers):
            b = "%s%d." % (n, i)
            owner._ones(b + "attn_norm", s.hidden)
            owner._ones(b + "ffn_norm", s.hidden)
            owner._matrix(b + "q", s.hidden, s.hidden)
            owner._matrix(b + "k", s.kv_heads * d, s.hidden)
            owner._matrix(b + "v", s.kv_heads * d, s.hidden)
            owner._matrix(b + "o", s.hidden, s.hidden, gain=gain)
            owner._matrix(b + "gate_up", 2 * s.width, s.hidden)
            owner._matrix(b + "down", s.hidden, s.width, gain=gain)

    def hidden(self, ids):
        """ids [B][S] -> [BS][D] after the final norm."""
        p, s, (B, S) = self.p, self.s, ids.shape
        x = embedding(ids.reshape(-1), p[self.n + "embed"])
        for i in range(s.layers):
            b = "%s%d." % (self.n, i)
            h = rms_norm(x, p[b + "attn_norm"])
            q, k, v = (linear(h, p[b + m]).view(B, S, -1, s.hidden // s.heads) for m in "qkv")
            x = x + linear(attention(q, k, v, s.theta), p[b + "o"])
            h = rms_norm(x, p[b + "ffn_norm"])
            x = x + linear(swiglu(linear(h, p[b + "gate_up"])), p[b + "down"])
        return rms_norm(x, p[self.n + "norm"])
