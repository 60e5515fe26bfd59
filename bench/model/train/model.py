"""DeepSeek-V3 for training: MLA, mixture of experts with sigmoid noaux_tc routing, multi-token prediction.

Parameters live in a flat dictionary under short names; export.py maps them to the published ones. They are BF16 (the router
F32) with F32 masters in the optimizer.
"""

import dataclasses
import math

import torch

from ops import BF16, embedding, experts, head_loss, linear, mla, rms_norm, swiglu


@dataclasses.dataclass
class Config:
    vocab: int = 4096
    hidden: int = 256
    layers: int = 10
    dense_layers: int = 1
    heads: int = 4
    q_lora: int = 192
    kv_lora: int = 128
    dense_width: int = 640
    experts: int = 8
    top_k: int = 2
    groups: int = 4
    top_groups: int = 2
    expert_width: int = 160
    route_scale: float = 2.0
    context: int = 512
    rope_theta: float = 10000.0


NOPE, ROPE, VALUE = 64, 32, 64
SCALE = (NOPE + ROPE) ** -0.5


def rope_table(context, theta):
    """[context][32] of (cos, sin) pairs."""
    f = theta ** (-torch.arange(0, ROPE, 2, dtype=torch.float64) / ROPE)
    a = torch.arange(context, dtype=torch.float64)[:, None] * f
    return torch.stack([a.cos(), a.sin()], -1).reshape(context, ROPE).float().contiguous()


class Layers:
    """Decoder layers over a flat dictionary of parameters."""

    def __init__(self, config, seed=0):
        self.c = config
        self.p = {}      # parameters
        self.bias = {}   # e_score_correction_bias per MoE layer
        self.load = {}   # tokens per expert since the last bias update
        self.cs = rope_table(config.context, config.rope_theta)
        self._rng = torch.Generator().manual_seed(seed)

    def _matrix(self, name, *shape, std=None, dtype=BF16, gain=1.0):
        std = 0.5 / math.sqrt(shape[-1]) * gain if std is None else std
        self.p[name] = (torch.randn(*shape, generator=self._rng) * std).to(dtype)

    def _ones(self, name, n):
        self.p[name] = torch.ones(n).to(BF16)

    def _block(self, n, dense):
        c = self.c
        gain = 1 / math.sqrt(2 * c.layers)  # outputs to the residual stream
        self._ones(n + "attn_norm", c.hidden)
        self._ones(n + "ffn_norm", c.hidden)
        self._matrix(n + "q_a", c.q_lora, c.hidden)
        self._ones(n + "q_norm", c.q_lora)
        self._matrix(n + "q_b", c.heads * (NOPE + ROPE), c.q_lora)
        self._matrix(n + "kv_a", c.kv_lora + ROPE, c.hidden)
        self._ones(n + "kv_norm", c.kv_lora)
        self._matrix(n + "kv_b", c.heads * (NOPE + VALUE), c.kv_lora)
        self._matrix(n + "o", c.hidden, c.heads * VALUE, gain=gain)
        if dense:
            self._matrix(n + "gate_up", 2 * c.dense_width, c.hidden)
            self._matrix(n + "down", c.hidden, c.dense_width, gain=gain)
            return
        self._matrix(n + "router", c.experts, c.hidden, std=0.02, dtype=torch.float32)
        self._matrix(n + "experts.gate_up", c.experts, 2 * c.expert_width, c.hidden)
        self._matrix(n + "experts.down", c.experts, c.hidden, c.expert_width, gain=gain)
        self._matrix(n + "shared.gate_up", 2 * c.expert_width, c.hidden)
        self._matrix(n + "shared.down", c.hidden, c.expert_width, gain=gain)
        self.bias[n] = torch.zeros(c.experts)
        self.load[n] = torch.zeros(c.experts)

    def route(self, n, h):
        """noaux_tc: choose by biased score within the best groups, weigh by unbiased score. -> idx, weight [T][top_k]"""
        c, E = self.c, self.c.experts
        score = torch.sigmoid(h.float() @ self.p[n + "router"].t())
        T = score.shape[0]
        with torch.no_grad():
            biased = score + self.bias[n]
            group = biased.view(T, c.groups, -1).topk(2, -1)[0].sum(-1)
            best = group.topk(c.top_groups, -1)[1]
            keep = torch.zeros(T, c.groups, dtype=torch.bool).scatter_(1, best, True)
            keep = keep[:, :, None].expand(T, c.groups, E // c.groups).reshape(T, E)
            idx = biased.masked_fill(~keep, -math.inf).topk(c.top_k, -1)[1]
            self.load[n] += torch.bincount(idx.reshape(-1), minlength=E).float()
        w = score.gather(1, idx)
        return idx, w / (w.sum(-1, keepdim=True) + 1e-20) * c.route_scale

    def project(self, n, x):
        """Inputs of attention from normalised x: q [T][H*96], kv [T][H*128], kpe [T][32], the rotary parts unrotated."""
        p, r = self.p, self.c.kv_lora
        q = linear(rms_norm(linear(x, p[n + "q_a"]), p[n + "q_norm"]), p[n + "q_b"])
        a = linear(x, p[n + "kv_a"])
        return q, linear(rms_norm(a[:, :r], p[n + "kv_norm"]), p[n + "kv_b"]), a[:, r:]

    def finish(self, n, x, attended, dense=False):
        """The rest of a block after attention."""
        p = self.p
        x = x + linear(attended, p[n + "o"])
        h = rms_norm(x, p[n + "ffn_norm"])
        if dense:
            return x + linear(swiglu(linear(h, p[n + "gate_up"])), p[n + "down"])
        idx, w = self.route(n, h)
        shared = linear(swiglu(linear(h, p[n + "shared.gate_up"])), p[n + "shared.down"])
        return x + shared + experts(h, w, idx, p[n + "experts.gate_up"], p[n + "experts.down"])

    def block(self, n, x, B, S, dense=False):
        q, kv, kpe = self.project(n, rms_norm(x, self.p[n + "attn_norm"]))
        return self.finish(n, x, mla(q, kv, kpe, self.cs, B, S, self.c.heads, SCALE), dense)

    def shift(self, g, B, S):
        """Row s becomes the row of s - 1: a further step pairs the previous position's state with the next token."""
        g = g.view(B, S, -1)
        return torch.cat([torch.zeros_like(g[:, :1]), g[:, :-1]], 1).reshape(B * S, -1)


class Model(Layers):
    def __init__(self, config, seed=0):
        super().__init__(config, seed)
        c = config
        self._matrix("embed", c.vocab, c.hidden, std=0.5)  # smaller embeddings drown in the output of the first layer
        self._matrix("head", c.vocab, c.hidden)
        self._ones("norm", c.hidden)
        for i in range(c.layers):
            self._block("%d." % i, i < c.dense_layers)
        for n in ("enorm", "hnorm", "norm"):
            self._ones("mtp." + n, c.hidden)
        self._matrix("mtp.eh", c.hidden, 2 * c.hidden)
        self._block("mtp.", False)
        for w in self.p.values():
            w.requires_grad_(True)

    def stream(self, ids):
        """ids [B][S] -> the last layer's output before model.norm, [BS][D]."""
        B, S = ids.shape
        x = embedding(ids.reshape(-1), self.p["embed"])
        for i in range(self.c.layers):
            x = self.block("%d." % i, x, B, S, i < self.c.dense_layers)
        return x

    def hidden(self, ids):
        """ids [B][S] -> model.norm of the last layer's output, [BS][D]: what the head and the MTP layer read."""
        return rms_norm(self.stream(ids), self.p["norm"])

    STEP, STEP_DENSE = "mtp.", False  # the layer that a draft step runs through

    def step_input(self, g, following):
        """g [BS][D] after a final norm, following [B][S] the token after each position."""
        p = self.p
        e = embedding(following.reshape(-1), p["embed"])
        return linear(torch.cat([rms_norm(e, p["mtp.enorm"]), rms_norm(g, p["mtp.hnorm"])], -1), p["mtp.eh"])

    def step_output(self, x):
        return rms_norm(x, self.p["mtp.norm"])

    def mtp(self, g, following):
        """One step of multi-token prediction; the result (after shared_head.norm) feeds the head and the next step."""
        B, S = following.shape
        return self.step_output(self.block("mtp.", self.step_input(g, following), B, S))

    def losses(self, tokens, depth=1, mtp_weight=0.3, mtp_share=1.0, train=True):
        """tokens [B][S+2] -> (sum to differentiate, [main loss, MTP loss per depth]).

        mtp_share is the part of the sequences on which MTP is trained."""
        B, S = tokens.shape[0], tokens.shape[1] - 2
        head = self.p["head"]
        g = self.hidden(tokens[:, :S].contiguous())
        main = head_loss(g, head, tokens[:, 1:S + 1].reshape(-1), 1.0, train)
        total, parts = main, [main]
        B = max(1, int(B * mtp_share))
        g = g[:B * S]
        following, target = tokens[:B, 1:S + 1].contiguous(), tokens[:B, 2:S + 2]
        for d in range(depth):
            if d:
                g = self.shift(g, B, S)
            y = target.clone()
            y[:, :d] = -1
            g = self.mtp(g, following)
            loss = head_loss(g, head, y.reshape(-1), mtp_weight / depth, train)
            total = total + loss
            parts.append(loss)
        return total, parts

    def update_bias(self, gamma, loads):
        """Loss-free balancing: raise the bias of underloaded experts. Returns the largest max/mean load."""
        for n, load in loads.items():
            self.bias[n] += gamma * torch.sign(load.mean() - load)
        return max(float(x.max() / x.mean()) for x in loads.values())
