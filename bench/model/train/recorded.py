"""Records of verifications as training data for heads on the main model's hidden state (train_drafters.py --records).

What a record with a state gives is what a pass through the trunk would give for that row: its law is the state through the head.
Where a row has no state (records of a drafter have those of the roots only) the target is the token that followed.
"""

import zlib

import torch

from drafters import DEPTH
from ops import BF16, embedding, linear
from records import Refused, read

NAMES_OF_STATES = ("medusa", "hydra", "eagle")  # what can be computed from states and tokens behind the prompt
HELD_OUT = 10  # one prompt of so many


class Window:
    """Rows [first, first + S) of a stream: those with a state, and the tokens behind them."""

    def __init__(self, stream, first, S, hidden):
        self.following, self.g = torch.full((S,), -1), torch.zeros(S, hidden, dtype=BF16)
        self.has = torch.zeros(S, dtype=torch.bool)
        tokens = stream.tokens[first + 1:first + 1 + S]
        self.following[:len(tokens)] = torch.tensor(tokens)
        for i in range(len(tokens)):
            state = stream.states.get(first + i)
            if state:
                self.has[i], self.g[i] = True, torch.frombuffer(bytearray(state), dtype=BF16)


class Batch:
    """The same for the drafters as drafters.Batch, of windows."""

    def __init__(self, windows, trunk):
        self.B, self.S = len(windows), len(windows[0].has)
        self.following = torch.stack([w.following for w in windows])
        self.g, self.has = torch.cat([w.g for w in windows]), torch.cat([w.has for w in windows])
        self.head = trunk.p["head"]
        self.token = torch.cat([self.following[:, 1:], torch.full((self.B, 1), -1)], 1).reshape(-1)  # row s: token s+2
        self.next = embedding(self.following.clamp(min=0).reshape(-1), trunk.p["embed"])

    def rows(self, share, seed):
        """As drafters.Batch: rows whose target, the token s+2, is there; and that a state stands at most DEPTH-1 rows before."""
        reach = torch.stack([self._anchored(torch.arange(len(self.has)), d) for d in range(DEPTH)]).any(0)
        rows = (reach & (self.token >= 0)).nonzero()[:, 0]
        n, rng = max(1, int(len(rows) * share)), torch.Generator().manual_seed(seed)
        return rows[torch.randperm(len(rows), generator=rng)[:n].sort()[0]]

    def _anchored(self, rows, depth):
        return (rows % self.S >= depth) & self.has[rows - depth]

    def known(self, rows, depth):
        return self._anchored(rows, depth)

    @torch.no_grad()
    def law(self, rows):
        law = linear(self.g[rows + 1], self.head).float().softmax(-1)
        law[~self.has[rows + 1]] = 0
        unknown = (~self.has[rows + 1]).nonzero()[:, 0]
        law[unknown, self.token[rows[unknown]]] = 1
        return law.to(BF16), torch.special.entr(law).sum(-1)


class Records:
    """Windows of the recorded streams, those of one prompt in ten held out."""

    def __init__(self, paths, trunk, names, context):
        c, self.trunk = trunk.c, trunk
        streams = read(paths, c.hidden, c.vocab)
        refused = [n for n in names if n not in NAMES_OF_STATES]
        if refused:
            raise Refused("%s: not from records, which have no more than states and tokens: %s" % (
                ", ".join(refused), ", ".join(NAMES_OF_STATES)))
        if not any(s.states for s in streams):
            raise Refused("%s: no hidden states: record with --record-hidden" % ", ".join(paths))
        whole = all(len(s.states) == len(s.tokens) - s.prompt_tokens for s in streams)
        if "eagle" in names and not whole:
            raise Refused("eagle: needs the state of every row: records of plain decoding (--drafter none)")
        self.context = min(context, max(len(s.tokens) - s.prompt_tokens for s in streams))
        self.held, self.train = [], []
        for s in streams:
            side = self.held if zlib.crc32(s.prompt.encode()) % HELD_OUT == 0 else self.train
            for first in range(s.prompt_tokens - 1, len(s.tokens) - DEPTH, self.context):
                side.append(Window(s, first, self.context, c.hidden))
        self.tokens = len(self.train) * self.context  # of a pass
        if not self.held or not self.train:
            raise Refused("%d prompts are too few: one in %d is held out" % (len({s.prompt for s in streams}), HELD_OUT))

    def batch(self, seen, size, seed, rank, count):
        """The windows of a shuffled pass that come after so many tokens."""
        at, chosen = seen // self.context, []
        for k in range(at, at + size):
            epoch, i = divmod(k, len(self.train))
            order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed + epoch))
            chosen.append(self.train[order[i]])
        return Batch(chosen[rank::count], self.trunk)

    def held_out(self, size):
        for i in range(0, len(self.held), size):
            yield Batch(self.held[i:i + size], self.trunk)


@torch.no_grad()
def acceptance(d, records, size=16):
    """{name: per depth, how often the draft is the recorded token, given that those before were}, over the held-out prompts."""
    out = {}
    for name in d.names:
        hits, tries = [0] * DEPTH, [0] * DEPTH
        for b in records.held_out(size):
            anchors = (b.has & (b.token >= 0)).nonzero()[:, 0]
            anchors = anchors[anchors % b.S < b.S - DEPTH]  # so that the last depth's token is in the window too
            alive = torch.ones(len(anchors), dtype=torch.bool)
            for depth in range(DEPTH):
                rows = anchors + depth
                h, w = getattr(d, name)(b, rows)[depth]
                tries[depth] += int((alive & (b.token[rows] >= 0)).sum())
                alive &= (h @ w.t()).argmax(-1) == b.token[rows]
                hits[depth] += int(alive.sum())
        out[name] = [round(h / max(1, t), 4) for h, t in zip(hits, tries)]
    return out
