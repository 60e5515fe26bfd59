"""What a speculative decoder sees of a recycled layer (MTP, EAGLE): the chain of drafts at every row, with its KV cache.

Entry d of the result belongs to the draft after d recycled steps. Its row s is a chain begun at position s-d: it has been fed
token s+1 and predicts token s+2. Its attention reads the layer's cache rows up to s-d, computed from the main model's hidden
states, then the rows of its own chain: as in a real draft, and unlike a training step, where every earlier row is recycled.
"""

import torch

from model import NOPE, ROPE, SCALE
from ops import linear, rms_norm, rotate_pairs


def _project(m, g, following, B, S):
    n, H = m.STEP, m.c.heads
    x = m.step_input(g, following)
    q, kv, kpe = m.project(n, rms_norm(x, m.p[n + "attn_norm"]))
    q, kv, kpe = q.view(B, S, H, -1).float(), kv.view(B, S, H, -1).float(), kpe.reshape(B, S, ROPE).float()
    cs = m.cs[:S]
    q = torch.cat([q[..., :NOPE], rotate_pairs(q[..., NOPE:], cs[:, None])], -1)
    k = torch.cat([kv[..., :NOPE], rotate_pairs(kpe, cs)[:, :, None].expand(B, S, H, ROPE)], -1)
    return x, q, k, kv[..., NOPE:]


@torch.no_grad()
def draft_chain(m, g, following, depth):
    """m: a Model, or Drafters with eagle; g [BS][D] from Model.hidden, following [B][S] the next tokens -> list of [BS][D]."""
    B, S = following.shape
    out, cache = [], []
    for d in range(depth):
        if d:
            g = m.shift(g, B, S)
        x, q, k, v = _project(m, g, following, B, S)
        cache.append((k, v))
        score = torch.einsum("bshd,bthd->bhst", q, cache[0][0]) * SCALE
        score = score.masked_fill(torch.ones(S, S).triu(1 - d).bool(), -1e30)  # true rows end where the chain begins
        own, values = [], []
        for j in range(1, d + 1):
            kj, vj = (torch.roll(t, d - j, 1) for t in cache[j])
            own.append((q * kj).sum(-1).permute(0, 2, 1)[..., None] * SCALE)
            values.append(vj)
        p = torch.cat([score] + own, -1).softmax(-1)
        o = torch.einsum("bhst,bthd->bshd", p[..., :S], cache[0][1])
        for j, vj in enumerate(values):
            o = o + p[..., S + j].permute(0, 2, 1)[..., None] * vj
        g = m.step_output(m.finish(m.STEP, x, o.reshape(B * S, -1).to(g.dtype), m.STEP_DENSE))
        out.append(g)
    return out


@torch.no_grad()
def logits(m, g):
    return linear(g, m.p["head"]).float()
