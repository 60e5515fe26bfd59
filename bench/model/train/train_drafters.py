"""Train the drafters of the bundled model on its frozen trunk, all at once, by distillation.

    train_drafters.py --model DIR --data DIR --run DIR --minutes N [--only NAMES] [--from CKPT] [--text]

DIR of --model is an exported model (its FP8 weights are what the drafters will meet). --text trains the draft model alone on the
text, without the trunk: a first stage, whose checkpoint a run with --from goes on from. The learning rate goes to zero within
--minutes; the same command continues a run that was stopped (SIGTERM saves).
"""

import argparse
import math
import os
import signal
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # the cores are shared

import torch

from drafters import MTP, NAMES, DrafterOptimizer, Drafters
from export import load_published
from train import Corpus, Log, latest, save
from workers import Workers

LEARNING_RATE = 3e-3
WARMUP = 20  # steps
SAVE_SECONDS = 120
HELD_OUT = 16  # windows


def rate(a, step, elapsed):
    return a.lr * min(1.0, (step + 1) / WARMUP) * max(0.01, 1 - elapsed / (a.minutes * 60))


def loss_of(a, d, tokens, seed, train=True):
    return d.text_loss(tokens[:, :-1], train) if a.text else d.losses(tokens[:, :-1], a.share, seed, train)


@torch.no_grad()
def held_out(a, d, corpus, context):
    """{name: [mean loss per depth]} over fixed windows of the held-out text."""
    starts = torch.linspace(0, len(corpus.a) - context - 3, HELD_OUT).long().tolist()
    sums = {}
    for i in range(0, HELD_OUT, 4):
        for name, parts in loss_of(a, d, corpus.windows(starts[i:i + 4], context + 2), i, False)[1].items():
            sums[name] = [x + y * 4 / HELD_OUT for x, y in zip(sums.get(name, [0] * len(parts)), parts)]
    return {name: [round(x, 4) for x in parts] for name, parts in sums.items()}


def begin(a):
    """Drafters, optimizer and progress: those of the run so far, or new ones."""
    d = Drafters(load_published(a.model), a.only)
    source = latest(a.run)
    progress = {"step": 0, "tokens": 0, "seconds": 0.0}
    for n, w in torch.load(a.start)["opt"]["master"].items() if a.start and not source else ():
        if n in d.p:
            d.p[n].data.copy_(w)
    opt = DrafterOptimizer(d)
    if source:
        ck = torch.load(source)
        opt.load(ck["opt"])
        progress = {k: ck[k] for k in progress}
    return d, opt, progress, source


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", required=True, help="directory of the exported main model")
    ap.add_argument("--data", required=True)
    ap.add_argument("--run", required=True, help="directory of checkpoints and log, outside the checkout")
    ap.add_argument("--minutes", type=float, required=True)
    ap.add_argument("--only", type=lambda s: s.split(","), default=NAMES, help="drafters, separated by commas")
    ap.add_argument("--from", dest="start", metavar="CKPT", help="checkpoint of another run to begin with, for the drafters in it")
    ap.add_argument("--text", action="store_true", help="train the draft model alone, on the text")
    ap.add_argument("--batch", type=int, default=8, help="sequences per step")
    ap.add_argument("--context", type=int, default=512, help="window length in tokens")
    ap.add_argument("--share", type=float, default=0.5, help="part of the rows that have a loss")
    ap.add_argument("--lr", type=float, default=LEARNING_RATE)
    ap.add_argument("--workers", type=int, default=2, help="processes, with one thread each")
    a = ap.parse_args()
    a.only = ["model"] if a.text else a.only
    if set(a.only) - {*NAMES, MTP}:
        ap.error("drafters are " + ", ".join((*NAMES, MTP)))
    torch.set_num_threads(1)
    os.makedirs(a.run, exist_ok=True)
    d, opt, done, source = begin(a)
    workers = Workers(a.workers, d, opt)
    train, held = Corpus(os.path.join(a.data, "train.bin")), Corpus(os.path.join(a.data, "held.bin"))
    log = Log(a.run, {"arguments": vars(a), "from": source, "parameters": {
        n: sum(w.numel() for k, w in d.p.items() if k.startswith(n + ".")) for n in a.only}})
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    workers.fork()
    begun = saved = time.time()
    step, seen, before, first_seen, smooth = done["step"], done["tokens"], done["seconds"], done["tokens"], {}
    progress = lambda: {"step": step, "tokens": seen, "seconds": before + time.time() - begun, "names": list(a.only)}
    while True:
        elapsed = before + time.time() - begun
        end, lr, *_ = workers.agree([bool(stop) or elapsed > a.minutes * 60, rate(a, step, elapsed)] if workers.rank == 0 else None)
        if end:
            break
        tokens = train.epoch_batch(seen, a.batch, a.context, seed=100)[workers.rank::workers.count]
        total, parts = loss_of(a, d, tokens, seen + workers.rank)
        total.backward()
        norm, _ = workers.update(lr, 0.0)
        step, seen = step + 1, seen + a.batch * a.context
        if not math.isfinite(norm):
            sys.exit("step %d: the gradient is not finite" % step)
        if workers.rank:
            continue
        smooth = {n: [0.9 * x + 0.1 * y for x, y in zip(smooth.get(n, p), p)] for n, p in parts.items()}
        if step % 20 == 0 or step < 4:
            log.line(step=step, seconds=round(elapsed), tokens=seen, lr=round(lr, 6), norm=round(norm, 3),
                     tokens_per_s=round((seen - first_seen) / (time.time() - begun)),
                     **{n: [round(x, 3) for x in p] for n, p in smooth.items()})
        if step % 100 == 0:
            log.line(step=step, held_out=held_out(a, d, held, a.context))
        if time.time() - saved > SAVE_SECONDS:
            save(a.run, d, opt, progress())
            saved = time.time()
    if workers.rank == 0:
        save(a.run, d, opt, progress())
        workers.finish()
        log.line(step=step, held_out=held_out(a, d, held, a.context), end=True)


if __name__ == "__main__":
    main()
