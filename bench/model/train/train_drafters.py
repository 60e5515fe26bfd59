"""Train the drafters of the bundled model on its frozen trunk, all at once, by distillation.

    train_drafters.py --model DIR --data DIR --run DIR --minutes N [--only NAMES] [--from START] [--text]
    train_drafters.py --model DIR --records FILE... --run DIR --passes N --only NAMES --from START

DIR of --model is an exported model (its FP8 weights are what the drafters will meet). START is a checkpoint, or a directory of
exported drafters. --text trains the draft model alone on the text, without the trunk: a first stage, whose checkpoint a run with
--from goes on from. --records trains on what specbench recorded, in place of text: heads learn to draft what the model said. The
learning rate goes to zero within --minutes or --passes; the same command continues a run that was stopped (SIGTERM saves).
"""

import argparse
import math
import os
import signal
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # the cores are shared

import torch

from drafters import MTP, NAMES, Batch, DrafterOptimizer, Drafters
from export import load_published
from export_drafters import load_drafters
from recorded import Records, acceptance
from records import Refused
from train import Corpus, Log, latest, save
from workers import Workers

LEARNING_RATE = 3e-3
WARMUP = 20  # steps
SAVE_SECONDS = 120
HELD_OUT = 16  # windows
TRAINED_HEAD = 0.25  # fine-tuning moves heads that are trained already in smaller steps


def rate(a, step, done):
    return a.lr * min(1.0, (step + 1) / WARMUP) * max(0.01, 1 - done)


class Text:
    """Batches of the text, as the trunk reads them; with --text the tokens alone."""

    def __init__(self, a, trunk):
        self.train, self.held = (Corpus(os.path.join(a.data, side + ".bin")) for side in ("train", "held"))
        self.context, self.trunk, self.tokens = a.context, None if a.text else trunk, len(self.train.a)

    def _batch(self, tokens):
        return Batch(self.trunk, tokens) if self.trunk else tokens

    def batch(self, seen, size, seed, rank, count):
        return self._batch(self.train.epoch_batch(seen, size, self.context, seed)[rank::count, :-1])

    def held_out(self, size):
        """Fixed windows of the held-out text."""
        starts = torch.linspace(0, len(self.held.a) - self.context - 3, HELD_OUT).long().tolist()
        for i in range(0, HELD_OUT, size):
            yield self._batch(self.held.windows(starts[i:i + size], self.context + 1))


def loss_of(a, d, batch, seed, train=True):
    return d.text_loss(batch, train) if a.text else d.losses(batch, a.share, seed, train)


@torch.no_grad()
def held_out(a, d, source):
    """Mean loss per depth over what is held out; of records the acceptance too."""
    sums, n = {}, 0
    for n, batch in enumerate(source.held_out(4), 1):
        for name, parts in loss_of(a, d, batch, 4 * (n - 1), False)[1].items():
            sums[name] = [x + y for x, y in zip(sums.get(name, [0] * len(parts)), parts)]
    out = {name: [round(x / n, 4) for x in parts] for name, parts in sums.items()}
    return {"held_out": out, "acceptance": acceptance(d, source)} if a.records else {"held_out": out}


def begin(a, trunk):
    """Drafters, optimizer and progress: those of the run so far, or new ones."""
    source = latest(a.run)
    ck = torch.load(source) if source else {"step": 0, "tokens": 0, "seconds": 0.0}
    if a.start and os.path.isdir(a.start):
        d = load_drafters(trunk, a.start, a.only)
    else:
        d = Drafters(trunk, a.only)
        for n, w in torch.load(a.start)["opt"]["master"].items() if a.start and not source else ():
            if n in d.p:
                d.p[n].data.copy_(w)
    opt = DrafterOptimizer(d, TRAINED_HEAD if a.records else 1)
    if source:
        opt.load(ck["opt"])
    return d, opt, {k: ck[k] for k in ("step", "tokens", "seconds")}, source


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", required=True, help="directory of the exported main model")
    data = ap.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", help="directory of the text")
    data.add_argument("--records", nargs="+", metavar="FILE", help="of specbench run --record FILE --record-hidden")
    ap.add_argument("--run", required=True, help="directory of checkpoints and log, outside the checkout")
    length = ap.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float)
    length.add_argument("--passes", type=float, help="over the text or the records")
    ap.add_argument("--only", type=lambda s: s.split(","), default=NAMES, help="drafters, separated by commas")
    ap.add_argument("--from", dest="start", metavar="START", help="checkpoint of another run to begin with, for the drafters "
                    "in it, or a directory of exported drafters")
    ap.add_argument("--text", action="store_true", help="train the draft model alone, on the text")
    ap.add_argument("--batch", type=int, default=8, help="sequences per step")
    ap.add_argument("--context", type=int, default=512, help="window length in tokens")
    ap.add_argument("--share", type=float, default=0.5, help="part of the rows that have a loss")
    ap.add_argument("--seed", type=int, default=100, help="of the order of the text: another one for a run that goes on --from a first")
    ap.add_argument("--lr", type=float, default=LEARNING_RATE)
    ap.add_argument("--workers", type=int, default=2, help="processes, with one thread each")
    a = ap.parse_args()
    a.only = ["model"] if a.text else a.only
    if set(a.only) - {*NAMES, MTP}:
        ap.error("drafters are " + ", ".join((*NAMES, MTP)))
    if a.text and a.records:
        ap.error("--text and --records exclude each other")
    torch.set_num_threads(1)
    os.makedirs(a.run, exist_ok=True)
    trunk = load_published(a.model)
    try:
        data = Records(a.records, trunk, a.only, a.context) if a.records else Text(a, trunk)
    except Refused as e:
        sys.exit("train_drafters.py: %s" % e)
    d, opt, done, source = begin(a, trunk)
    workers = Workers(a.workers, d, opt)
    log = Log(a.run, {"arguments": vars(a), "from": source, "parameters": {
        n: sum(w.numel() for k, w in d.p.items() if k.startswith(n + ".")) for n in a.only}})
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    workers.fork()
    begun = saved = time.time()
    step, seen, before, first_seen, smooth = done["step"], done["tokens"], done["seconds"], done["tokens"], {}
    progress = lambda: {"step": step, "tokens": seen, "seconds": before + time.time() - begun, "names": list(a.only)}
    if a.records and workers.rank == 0:
        log.line(step=step, **held_out(a, d, data))
    while True:
        elapsed = before + time.time() - begun
        part = elapsed / (a.minutes * 60) if a.minutes else seen / (a.passes * data.tokens)
        end, lr, *_ = workers.agree([bool(stop) or part >= 1, rate(a, step, part)] if workers.rank == 0 else None)
        if end:
            break
        batch = data.batch(seen, a.batch, a.seed, workers.rank, workers.count)
        total, parts = loss_of(a, d, batch, seen + workers.rank)
        total.backward()
        norm, _ = workers.update(lr, 0.0)
        step, seen = step + 1, seen + a.batch * data.context
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
            log.line(step=step, **held_out(a, d, data))
        if time.time() - saved > SAVE_SECONDS:
            save(a.run, d, opt, progress())
            saved = time.time()
    if workers.rank == 0:
        save(a.run, d, opt, progress())
        workers.finish()
        log.line(step=step, **held_out(a, d, data), end=True)


if __name__ == "__main__":
    main()
