"""Measure a model: losses, FP8 error, MTP agreement and acceptance, expert load. Writes JSON.

    evaluate.py --data DIR --model EXPORT --checkpoint CKPT --out FILE [--quick]

EXPORT is the published FP8 directory, CKPT the training checkpoint it came from (the BF16 reference).
"""

import argparse
import json
import math
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from draft_chain import draft_chain, logits
from export import load_published
from race import Race
from train import Corpus, held_out, load_checkpoint

DEPTH = 3


def windows(corpus, n, length):
    return corpus.windows(np.linspace(0, len(corpus.a) - length - 1, n).astype(int).tolist(), length)


def padded(x):
    return torch.nn.functional.pad(x, (0, -x.shape[1] % 32))


def shifted(x):
    return torch.cat([x[:, 1:], x[:, -1:]], 1).contiguous()


def rounded(xs):
    return [round(float(x), 4) for x in xs]


@torch.no_grad()
def agreement(m, corpus, n=32, S=512, batch=8):
    """Share of positions where the draft's arg max is the main model's, true tokens fed, per depth."""
    hit, total = [0] * DEPTH, [0] * DEPTH
    for x in windows(corpus, n, S + 1).split(batch):
        B, following = len(x), x[:, 1:].contiguous()
        g = m.hidden(x[:, :S].contiguous())
        best = logits(m, g).argmax(-1).view(B, S)
        for d, r in enumerate(draft_chain(m, g, following, DEPTH)):
            equal = (logits(m, r).argmax(-1).view(B, S)[:, :-1] == best[:, 1:])[:, d:]
            hit[d] += int(equal.sum())
            total[d] += equal.numel()
    return rounded(h / t for h, t in zip(hit, total))


@torch.no_grad()
def extend(m, x, n, race, batch=64):
    """Append n sampled tokens to each row of x. The whole prefix is computed again for each: simple, and short enough here."""
    for _ in range(n):
        S, z = x.shape[1], []
        for part in padded(x).split(batch):
            z.append(logits(m, m.hidden(part.contiguous()).view(len(part), part.shape[1], -1)[:, S - 1].contiguous()))
        x = torch.cat([x, race.winner(S, torch.cat(z))[:, None]], 1)
    return x


def drafts(race, z, first, rows):
    """Winners of the drafts' race: row s of z [n][S][vocab] is for the token at s+2; for the rows asked for, others are -1."""
    out = torch.full(z.shape[:2], -1)
    for s in rows:
        out[:, s] = race.winner(s + 2, z[:, s], first)
    return out


@torch.no_grad()
def chains(m, x, race, rows, batch=16):
    """For generated rows x: greedy[d][b][s] whether the likeliest draft of depth d+1 ending at position s is token s+2, match the
    same for the draft that the race gives, and overlap[d][b][s] = sum of min(p, q), the acceptance of sampled drafts."""
    greedy, match, overlap = ([[] for _ in range(DEPTH)] for _ in range(3))
    temperature = race.temperature or 1e-3
    for first, part in zip(range(0, len(x), batch), padded(x).split(batch)):
        B, S = part.shape
        part = part.contiguous()
        g = m.hidden(part)
        p = (logits(m, g) / temperature).softmax(-1).view(B, S, -1)
        for d, r in enumerate(draft_chain(m, g, shifted(part), DEPTH)):
            z = logits(m, r).view(B, S, -1)
            greedy[d].append(z.argmax(-1)[:, :-2] == part[:, 2:])
            match[d].append(drafts(race, z, first, rows)[:, :-2] == part[:, 2:])
            overlap[d].append(torch.minimum(p[:, 1:-1], (z / temperature).softmax(-1)[:, :-2]).sum(-1))
    return [[torch.cat(t) for t in depths] for depths in (greedy, match, overlap)]


def conditional(match, first, last):
    """Acceptance of depth d given that the drafts before it were accepted, over chains that begin in [first, last)."""
    out = []
    alive = torch.ones(match[0].shape[0], last - first, dtype=torch.bool)
    for d in range(DEPTH):
        ok = match[d][:, first + d:last + d] & alive
        out.append(float(ok.sum()) / max(1, int(alive.sum())))
        alive = ok
    return out


def per_cycle(a):
    """Expected tokens per cycle with 1, 2, 3 drafts."""
    return rounded(1 + sum(math.prod(a[:i]) for i in range(1, k + 1)) for k in range(1, DEPTH + 1))


def natural(m, corpus, temperature, n, prefix=160):
    """Acceptance right after natural prefixes: no generated text feeds back, so no loops can flatter it."""
    race = Race(n, m.c.vocab, temperature, 21)
    x = extend(m, windows(corpus, n, prefix), DEPTH + 1, race)
    greedy, match, overlap = chains(m, x, race, range(prefix - 1, prefix - 1 + DEPTH))
    a = conditional(match, prefix - 1, prefix)
    out = {"prefixes": n, "acceptance": rounded(a), "tokens_per_cycle": per_cycle(a)}
    if temperature:
        out["acceptance_greedy_drafts"] = rounded(conditional(greedy, prefix - 1, prefix))
        out["acceptance_sampled_drafts"] = rounded(overlap[d][:, prefix - 1 + d].mean() for d in range(DEPTH))
    return out


def free(m, corpus, temperature, n, tokens, prefix=48):
    """Acceptance along generated text, with the share of distinct trigrams: near 1 means the text does not loop."""
    race = Race(n, m.c.vocab, temperature, 5)
    x = extend(m, windows(corpus, n, prefix), tokens, race)
    last = x.shape[1] - 2 - DEPTH
    greedy, match, overlap = chains(m, x, race, range(prefix - 1, last + DEPTH))
    a = conditional(match, prefix - 1, last)
    distinct = []
    for row in x[:, prefix:].tolist():
        grams = list(zip(row, row[1:], row[2:]))
        distinct.append(len(set(grams)) / len(grams))
    out = {"prompts": n, "tokens": tokens, "acceptance": rounded(a), "tokens_per_cycle": per_cycle(a),
           "distinct_3_mean": round(sum(distinct) / n, 3), "distinct_3_min": round(min(distinct), 3)}
    if temperature:
        out["acceptance_greedy_drafts"] = rounded(conditional(greedy, prefix - 1, last))
        out["acceptance_sampled_drafts"] = rounded(overlap[d][:, prefix - 1 + d:last].mean() for d in range(DEPTH))
    return out


@torch.no_grad()
def fp8_error(reference, quantised, corpus, n=16, S=512):
    same = kl = count = 0
    for x in windows(corpus, n, S).split(4):
        p, q = (logits(m, m.hidden(x.contiguous())).log_softmax(-1) for m in (reference, quantised))
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
        kl += float((p.exp() * (p - q)).sum())
        count += len(p)
    return {"argmax_agreement": round(same / count, 4), "kl_nats": round(kl / count, 6), "positions": count}


def expert_load(m, corpus, n=64):
    with torch.no_grad():
        for x in windows(corpus, n, 514).split(16):
            m.losses(x, 1, train=False)
    out = {}
    for name, load in m.load.items():
        out[name.rstrip(".")] = {"max_over_mean": round(float(load.max() / load.mean()), 3),
                                 "min_over_mean": round(float(load.min() / load.mean()), 3)}
        load.zero_()
    return out


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True)
    ap.add_argument("--model", required=True)
    ap.add_argument("--checkpoint", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--quick", action="store_true", help="fewer samples")
    a = ap.parse_args()
    torch.set_num_threads(2)
    begun = time.time()
    corpus = Corpus(os.path.join(a.data, "held.bin"))
    stats = json.load(open(os.path.join(a.data, "data.json")))
    bytes_per_token = stats["held"]["bytes_per_token"]
    reference, _, ck = load_checkpoint(a.checkpoint)
    model = load_published(a.model)
    n = 1 if a.quick else 2
    out = {"step": ck["step"], "training_tokens": ck["tokens"], "training_seconds": round(ck["seconds"]),
           "parameters": sum(w.numel() for w in model.p.values()),
           "held_out_windows": 64 * n, "context": model.c.context}
    for name, m in (("bf16", reference), ("fp8", model)):
        loss = held_out(m, corpus, m.c.context, DEPTH, windows=64 * n)
        out["loss_" + name] = {"main_nats_per_token": round(loss[0], 4),
                               "main_bits_per_byte": round(loss[0] / bytes_per_token / math.log(2), 4),
                               "mtp_nats_per_token_depth_1_2_3": rounded(loss[1:])}
    out["fp8_against_bf16"] = fp8_error(reference, model, corpus)
    out["expert_load_fp8"] = expert_load(model, corpus)
    out["mtp_agreement_true_tokens"] = {"bf16": agreement(reference, corpus, 16 * n), "fp8": agreement(model, corpus, 16 * n)}
    for t in (0, 0.8):
        out["natural_prefix_T%g" % t] = natural(model, corpus, t, 96 * n)
        out["free_T%g" % t] = free(model, corpus, t, 16 * n, 64)
    out["evaluation_seconds"] = round(time.time() - begun)
    with open(a.out, "w") as f:
        json.dump(out, f, indent=1)
        f.write("\n")
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
