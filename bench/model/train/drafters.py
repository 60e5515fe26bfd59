"""The drafters of the bundled model: Medusa, Hydra, parallel and EAGLE heads on its frozen trunk, a small draft model, and the
trunk's own MTP layer once more (only when asked for: graft_mtp.py puts it back).

Row s of a drafter's guess of depth d predicts token s+2, from a chain begun at row s-d: the trunk's hidden state of row s-d and
the tokens up to s+1 as far as that drafter reads them. Its target is the trunk's law at row s+1, true tokens given.
"""

import torch
import torch.nn.functional as F

from llama import Llama, Shape
from model import Layers
from ops import BF16, distil_loss, embedding, head_loss, linear, rms_norm
from optim import Optimizer

NAMES = ("medusa", "hydra", "parallel", "eagle", "model")
MTP = "mtp"
DEPTH = 3
_ATTENTION = ("q_a", "q_norm", "q_b", "kv_a", "kv_norm", "kv_b")


class Batch:
    """What the trunk says about tokens [B][S+1], once for all drafters."""

    @torch.no_grad()
    def __init__(self, trunk, tokens):
        self.B, self.S = tokens.shape[0], tokens.shape[1] - 1
        self.ids, self.following = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        self.stream = trunk.stream(self.ids)                                     # [BS][D] before the final norm
        self.g = rms_norm(self.stream, trunk.p["norm"])                          # [BS][D]
        self.next = embedding(self.following.reshape(-1), trunk.p["embed"])      # [BS][D], row s: of token s+1
        self.head = trunk.p["head"]

    @torch.no_grad()
    def law(self, rows):
        """The target of these rows, [n][V] BF16, and its entropies, [n]."""
        law = linear(self.g[rows + 1], self.head).float().softmax(-1)
        return law.to(BF16), torch.special.entr(law).sum(-1)

    def known(self, rows, depth):
        """Which of the rows have a guess of that depth: all."""
        return slice(None)

    def rows(self, share, seed):
        """Flat indices of the same number of rows from each sequence, drawn at random: rows [DEPTH-1, S-2] have a target."""
        n, rng = int(self.S * share), torch.Generator().manual_seed(seed)
        pick = [torch.randperm(self.S - DEPTH, generator=rng)[:n].sort()[0] + DEPTH - 1 + b * self.S for b in range(self.B)]
        return torch.cat(pick)


class Drafters(Layers):
    def __init__(self, trunk, names=NAMES, shape=Shape()):
        super().__init__(trunk.c, seed=7)
        self.trunk, self.names, self.shape = trunk, tuple(names), shape
        for w in trunk.p.values():
            w.requires_grad_(False)
        self.llama = Llama(self, "model.", shape)
        for name in names:
            getattr(self, "_create_" + name)()
        for w in self.p.values():
            w.requires_grad_(True)

    # ---- parameters: each drafter begins as near to something useful as the trunk allows ----

    def _zeros(self, name, *shape):
        self.p[name] = torch.zeros(*shape, dtype=BF16)

    def _head(self, name):
        self.p[name] = self.trunk.p["head"].detach().clone()

    def _create_medusa(self):
        """The identity: every head begins as the trunk's."""
        D = self.c.hidden
        for i in range(DEPTH):
            self._zeros("medusa.%d.linear" % i, D, D)
            self._zeros("medusa.%d.bias" % i, D)
            self._head("medusa.%d.head" % i)

    def _create_hydra(self):
        D = self.c.hidden
        for i in range(DEPTH):
            n = "hydra.%d." % i
            self._zeros(n + "linear", D, (i + 2) * D)
            self._zeros(n + "bias", D)
            self.p[n + "res"] = torch.eye(D, (i + 2) * D).to(BF16)
            self._zeros(n + "res_bias", D)
            self._head(n + "head")

    def _create_parallel(self):
        """The trunk's last layer once more, as far as it is dense: what it writes has the size that the residual stream needs."""
        last = "%d." % (self.c.layers - 1)
        for i in range(DEPTH):
            n = "parallel.%d." % i
            self._block(n, True)
            self._copy(n, last, _ATTENTION + ("attn_norm", "ffn_norm", "o"))
            self._widen(n, last)

    def _copy(self, to, source, names):
        for m in names:
            self.p[to + m] = self.trunk.p[source + m].detach().clone()

    def _create_eagle(self):
        """The trunk's MTP layer, as far as a layer without all its norms and experts can be it. shared_head.norm becomes a factor
        per channel on whatever is written to the residual stream, and the layer's norms divide by it again."""
        p, t = self.p, self.trunk.p
        self._block("eagle.", True)
        self._copy("eagle.", "mtp.", _ATTENTION + ("o",))
        self._widen("eagle.", "mtp.")
        weight = lambda n: t["mtp." + n].detach().float()
        rms = lambda x: x.float().pow(2).mean().sqrt()
        enorm, hnorm = weight("enorm") / rms(t["embed"]), weight("hnorm") / rms(t["norm"])
        p["eagle.fc"] = (weight("eh") * torch.cat([enorm, hnorm])).to(BF16)
        channel = weight("norm").abs().clamp(min=0.05) / 4.4  # about what shared_head.norm divides by
        for m in ("fc", "o", "down"):
            p["eagle." + m] = (p["eagle." + m].float() * channel[:, None]).to(BF16)
        for m in ("attn_norm", "ffn_norm"):
            p["eagle." + m] = (weight(m) * rms(channel) / channel).to(BF16)

    def _widen(self, to, source):
        """A dense MLP of the shared expert and, at half weight, of as many routed experts as there is room for."""
        p, t, width = self.p, self.trunk.p, self.c.expert_width
        gate, up = p[to + "gate_up"].chunk(2)
        for i in range(min(gate.shape[0] // width, 1 + self.c.experts)):
            part = lambda m: t[source + ("experts." if i else "shared.") + m].detach()[i - 1 if i else ...]
            here = slice(i * width, (i + 1) * width)
            gate[here], up[here] = part("gate_up").chunk(2)
            p[to + "down"][:, here] = part("down") * (0.5 if i else 1)

    def _create_mtp(self):
        self._copy("", "", [n for n in self.trunk.p if n.startswith("mtp.")])
        self.bias["mtp."], self.load["mtp."] = self.trunk.bias["mtp."], torch.zeros(self.c.experts)

    def _create_model(self):
        """Embedding and head begin as the trunk's in fewer dimensions."""
        self.llama.create(self, self.c.vocab)
        for m, spread in (("embed", 0.5), ("head", 0.5 * self.shape.hidden ** -0.5)):
            w = self.trunk.p[m].detach().float()
            x = w @ torch.linalg.svd(w, full_matrices=False)[2][:self.shape.hidden].t()
            self.p["model." + m] = (x * (spread / x.std())).to(BF16)

    # ---- guesses: [(hidden [n][D], head [V][D])] per depth for the rows asked for ----

    def medusa(self, b, rows):
        out = []
        for i in range(DEPTH):
            n, x = "medusa.%d." % i, b.g[rows - i]
            out.append((x + F.silu(linear(x, self.p[n + "linear"]) + self.p[n + "bias"]), self.p[n + "head"]))
        return out

    def hydra(self, b, rows):
        out = []
        for i in range(DEPTH):
            n = "hydra.%d." % i
            x = torch.cat([b.g[rows - i]] + [b.next[rows - i + j] for j in range(i + 1)], -1)
            inner = F.silu(linear(x, self.p[n + "linear"]) + self.p[n + "bias"])
            out.append((linear(x, self.p[n + "res"]) + self.p[n + "res_bias"] + inner, self.p[n + "head"]))
        return out

    def parallel(self, b, rows):
        t, out = self.trunk.p, []
        for i in range(DEPTH):
            x = self.block("parallel.%d." % i, b.stream, b.B, b.S, dense=True)[rows - i]
            out.append((rms_norm(x, t["norm"]), t["head"]))
        return out

    def _unroll(self, b, rows, step):
        """On its own outputs; as in MTP training every row of a further step is a recycled one."""
        g, out = b.g, []
        for d in range(DEPTH):
            if d:
                g = self.shift(g, b.B, b.S)
            g = step(g)
            out.append((g[rows], self.trunk.p["head"]))
        return out

    def eagle(self, b, rows):
        return self._unroll(b, rows, lambda g: self.block(
            "eagle.", linear(torch.cat([b.next, g], -1), self.p["eagle.fc"]), b.B, b.S, dense=True))

    def mtp(self, b, rows):
        p = self.p
        e = rms_norm(b.next, p["mtp.enorm"])
        return self._unroll(b, rows, lambda g: rms_norm(self.block(
            "mtp.", linear(torch.cat([e, rms_norm(g, p["mtp.hnorm"])], -1), p["mtp.eh"]), b.B, b.S), p["mtp.norm"]))

    def model(self, b, rows):
        """A model of its own reads all tokens: one guess for all depths."""
        return [(self.llama.hidden(b.ids)[(rows + 1).clamp(max=b.B * b.S - 1)], self.p["model.head"])]

    STEP, STEP_DENSE = "eagle.", True  # for draft_chain

    def step_input(self, g, following):
        e = embedding(following.reshape(-1), self.trunk.p["embed"])
        return linear(torch.cat([e, g], -1), self.p["eagle.fc"])

    def step_output(self, x):
        return x

    # ---- losses ----

    def losses(self, b, share, seed, train=True):
        """b Batch -> (sum to differentiate, {name: [KL to the target per depth]}) on a share of the rows."""
        rows = b.rows(share, seed)
        law, entropy = b.law(rows)
        total, parts = 0, {}
        for name in self.names:
            guesses, parts[name] = getattr(self, name)(b, rows), []
            for depth, (h, w) in enumerate(guesses):
                known = b.known(rows, depth)
                if not len(law[known]):  # in a small batch of sparse records
                    parts[name].append(0.0)
                    continue
                loss = distil_loss(h[known], w, law[known], 1 / len(guesses), train)
                total = total + loss
                parts[name].append(float(loss) - float(entropy[known].mean()))
        return total, parts

    def text_loss(self, tokens, train=True):
        """The draft model alone, on the text itself: needs no pass through the trunk."""
        loss = head_loss(self.llama.hidden(tokens[:, :-1].contiguous()), self.p["model.head"], tokens[:, 1:].reshape(-1), 1.0,
                         train)
        return loss, {"model": [float(loss)]}

    def update_bias(self, gamma, loads):
        return 0.0  # no experts here


class DrafterOptimizer(Optimizer):
    # What begins far from its task needs large steps: twenty minutes are few of them. By short trials.
    RATE = {"medusa": 2, "hydra": 2, "parallel": 5, "eagle": 0.7, MTP: 0.3}

    def __init__(self, drafters, head=1):
        super().__init__(drafters)
        self.head = head  # rate of the heads over the vocabulary, relative to the rest

    def rate(self, name):
        own = self.head if name.endswith(".head") else 1
        return Optimizer.rate(name) * DrafterOptimizer.RATE.get(name.split(".", 1)[0], 1) * own
