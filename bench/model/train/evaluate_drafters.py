"""Measure the exported drafters on held-out text, with the definitions of evaluate.py. Writes JSON.

    evaluate_drafters.py --data DIR --model DIR [--drafters DIR] --out FILE [--quick | --text-only]

All weights are the published ones. Per drafter and depth:
  agreement            share of positions where the draft's arg max is the trunk's, true tokens fed
  race_T0.8            share of positions where the draft's race at temperature 0.8 has the winner of the trunk's, with the same numbers
  probability_T0.8     what the trunk's law at temperature 0.8 gives to the draft's arg max there
  natural_prefix_T*    acceptance, given that the drafts before were accepted, right after natural prefixes: the trunk continues the
                       prefix and chained drafters (Hydra, EAGLE, MTP) are fed their own accepted drafts
  free_T*              the same along text that the trunk generated
`mtp` is the main model's own module, measured in the same way.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from draft_chain import draft_chain, logits
from drafters import DEPTH, Batch
from evaluate import conditional, drafts, extend, padded, per_cycle, rounded, windows
from export import load_published
from export_drafters import load_drafters
from race import Race
from train import Corpus

TEMPERATURE = 0.8


def guesses(d, name, b):
    """Logits of every row [B][S][vocab] per depth; row s of depth d predicts token s+2 and is meaningless where s < d."""
    rows = torch.arange(b.B * b.S)
    if name == "mtp":
        pairs = [(x, d.trunk.p["head"]) for x in draft_chain(d.trunk, b.g, b.following, DEPTH)]
    elif name == "eagle":
        pairs = [(x, d.trunk.p["head"]) for x in draft_chain(d, b.g, b.following, DEPTH)]
    else:
        pairs = getattr(d, name)(b, rows)
    z = [(h @ w.t()).float().view(b.B, b.S, -1) for h, w in pairs]
    return z * DEPTH if len(z) == 1 else z


@torch.no_grad()
def true_tokens(d, names, corpus, n, S=512, batch=8):
    """{name: (agreement, race, probability)} per depth."""
    sums, count = {name: torch.zeros(3, DEPTH, dtype=torch.float64) for name in names}, [0] * DEPTH
    for i, x in enumerate(windows(corpus, n, S + 1).split(batch)):
        b, race = Batch(d.trunk, x), Race(len(x), d.trunk.c.vocab, TEMPERATURE, 100 + i)
        z = logits(d.trunk, b.g).view(b.B, S, -1)
        best, law, drawn = z.argmax(-1), (z / TEMPERATURE).softmax(-1), drafts(race, torch.roll(z, -1, 1), 0, range(S - 1))
        for depth in range(DEPTH):
            count[depth] += b.B * (S - 1 - depth)
        for name in names:
            for depth, zd in enumerate(guesses(d, name, b)):
                y = zd.argmax(-1)[:, depth:-1]  # row s against the trunk's row s+1
                sums[name][0, depth] += (y == best[:, depth + 1:]).sum()
                sums[name][1, depth] += (drafts(race, zd, 0, range(S - 1)) == drawn)[:, depth:-1].sum()
                sums[name][2, depth] += law[:, depth + 1:].gather(2, y[..., None]).double().sum()
    return {name: tuple(rounded(x / torch.tensor(count)) for x in s) for name, s in sums.items()}


@torch.no_grad()
def matches(d, name, x, race, rows, batch=16):
    """[depth][b][s]: whether the draft of that depth in row s is token s+2 of the generated rows x."""
    out = [[] for _ in range(DEPTH)]
    for first, part in zip(range(0, len(x), batch), padded(x).split(batch)):
        b = Batch(d.trunk, torch.nn.functional.pad(part, (0, 1)))
        for depth, z in enumerate(guesses(d, name, b)):
            out[depth].append(drafts(race, z, first, rows)[:, :-2] == part[:, 2:])
    return [torch.cat(m) for m in out]


def acceptance(d, names, x, race, first, last):
    out = {}
    for name in names:
        a = conditional(matches(d, name, x, race, range(first, last + DEPTH)), first, last)
        out[name] = {"acceptance": rounded(a), "tokens_per_cycle": per_cycle(a)}
    return out


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True)
    ap.add_argument("--model", required=True)
    ap.add_argument("--drafters", help="directory of the exported drafters, by default in the model's")
    ap.add_argument("--out", required=True)
    ap.add_argument("--quick", action="store_true", help="fewer samples")
    ap.add_argument("--text-only", action="store_true", help="the first two figures alone: seconds instead of minutes")
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    begun, n = time.time(), 1 if a.quick else 4
    corpus = Corpus(os.path.join(a.data, "held.bin"))
    d = load_drafters(load_published(a.model), a.drafters or os.path.join(a.model, "drafters"))
    names = ("mtp",) + d.names
    out = {"windows": 8 * n, "prefixes": 48 * n, "prefix_tokens": 160, "prompts": 8 * n, "prompt_tokens": 48,
           "free_tokens": 64, "drafters": {name: {} for name in names}}
    for name, (agreement, race, probability) in true_tokens(d, names, corpus, out["windows"]).items():
        out["drafters"][name].update(
            agreement=agreement, **{"race_T%g" % TEMPERATURE: race, "probability_T%g" % TEMPERATURE: probability})
    for t in () if a.text_only else (0, TEMPERATURE):
        prefix, vocab = out["prefix_tokens"], d.trunk.c.vocab
        race = Race(out["prefixes"], vocab, t, 21)
        x = extend(d.trunk, windows(corpus, out["prefixes"], prefix), DEPTH + 1, race)
        for name, result in acceptance(d, names, x, race, prefix - 1, prefix).items():
            out["drafters"][name]["natural_prefix_T%g" % t] = result
        prefix = out["prompt_tokens"]
        race = Race(out["prompts"], vocab, t, 22)
        x = extend(d.trunk, windows(corpus, out["prompts"], prefix), out["free_tokens"], race)
        for name, result in acceptance(d, names, x, race, prefix - 1, x.shape[1] - 2 - DEPTH).items():
            out["drafters"][name]["free_T%g" % t] = result
    out["evaluation_seconds"] = round(time.time() - begun)
    with open(a.out, "w") as f:
        json.dump(out, f, indent=1)
        f.write("\n")
    for name, r in out["drafters"].items():
        print(name, json.dumps(r))


if __name__ == "__main__":
    main()
