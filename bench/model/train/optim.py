"""Muon for the hidden matrices, AdamW for embeddings, head, router and norms; F32 masters for BF16 parameters."""

import ctypes
import math

import torch

from ops import BF16, LIB, _F, _L, _p


def orthogonalise(g, steps=5):
    """Newton-Schulz iteration of Muon on a batch of matrices [n][rows][cols]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = (g / (g.flatten(1).norm(dim=1)[:, None, None] + 1e-7)).to(BF16)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2).contiguous()
    for _ in range(steps):
        s = torch.bmm(x, x.transpose(1, 2).contiguous())
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x


class Optimizer:
    BETA1, BETA2, MOMENTUM, DECAY = 0.9, 0.95, 0.95, 0.1

    def __init__(self, model):
        self.m, self.t = model, 0
        self.master = {n: w.detach().float().clone() for n, w in model.p.items()}
        self.mom = {n: torch.zeros(w.shape) for n, w in model.p.items()}
        self.sq = {n: torch.zeros(w.shape) for n, w in model.p.items() if not self.is_muon(n, w)}

    @staticmethod
    def is_muon(name, w):
        return w.dim() >= 2 and name.rsplit(".", 1)[-1] not in ("embed", "head", "router")

    @staticmethod
    def rate(name):
        """Learning rate of a parameter relative to the common one."""
        return {"router": 0.25, "embed": 5}.get(name.rsplit(".", 1)[-1], 1)

    def state(self):
        return {"t": self.t, "master": self.master, "mom": self.mom, "sq": self.sq}

    def load(self, s):
        self.t = s["t"]
        for mine, theirs in ((self.master, s["master"]), (self.mom, s["mom"]), (self.sq, s["sq"])):
            for n in mine:
                mine[n].copy_(theirs[n])
        for n, w in self.m.p.items():
            w.data.copy_(self.master[n])

    def _adamw(self, name, w, g, lr, clip):
        decay = self.DECAY if w.dim() > 1 else 0.0
        p, m, v = self.master[name], self.mom[name], self.sq[name]
        fix1, fix2 = 1 / (1 - self.BETA1 ** self.t), 1 / (1 - self.BETA2 ** self.t)
        if LIB:
            out = _p(w.data) if w.dtype == BF16 else ctypes.c_void_p(None)
            LIB.adamw(_p(p), _p(m), _p(v), _p(g), out, _L(p.numel()), _F(lr), _F(self.BETA1), _F(self.BETA2), _F(decay),
                      _F(fix1), _F(fix2), _F(clip))
            if w.dtype != BF16:
                w.data.copy_(p)
            return
        m.lerp_(g * clip, 1 - self.BETA1)
        v.mul_(self.BETA2).addcmul_(g * clip, g * clip, value=1 - self.BETA2)
        p.sub_(lr * (m * fix1 / ((v * fix2).sqrt() + 1e-8) + decay * p))
        w.data.copy_(p)

    def _muon(self, name, w, g, lr, clip):
        p, m = self.master[name], self.mom[name]
        g = g * clip
        m.mul_(self.MOMENTUM).add_(g)
        u = g.add_(m, alpha=self.MOMENTUM)
        shape = u.shape
        u = u.view(-1, shape[-2], shape[-1])
        if "gate_up" in name:  # two matrices stored as one
            u = u.view(u.shape[0] * 2, -1, shape[-1])
        step = orthogonalise(u).reshape(shape).float()
        p.mul_(1 - lr * self.DECAY).add_(step, alpha=-lr * 0.2 * math.sqrt(max(u.shape[-2:])))
        w.data.copy_(p)

    @torch.no_grad()
    def apply(self, name, g, lr, clip):
        """One step on one parameter; g F32 is used up. The caller counts the steps in t."""
        (self._adamw if name in self.sq else self._muon)(name, self.m.p[name], g, lr * self.rate(name), clip)
