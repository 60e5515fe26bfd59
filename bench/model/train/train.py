"""Train the bundled model.

    train.py stable --data DIR --run DIR [--minutes N]        warm-up, then constant learning rate; resumes by itself
    train.py decay  --data DIR --run DIR --from CKPT --minutes N   learning rate to zero in N minutes, for an export

The constant phase can be stopped at any time and continued later; a decay branches off any of its checkpoints. Checkpoints are
written every few minutes under a temporary name and renamed; the last two are kept, next to log.jsonl. SIGTERM saves and stops.
"""

import argparse
import json
import math
import os
import signal
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # the cores are shared

import numpy as np
import torch

from model import Config, Model
from optim import Optimizer
from workers import Workers

LEARNING_RATE = 4e-3
WARMUP = 60              # steps
RAMP_TOKENS = 16_000_000  # half batches before: early on, steps count for more than tokens
EVALUATE = 200           # steps between held-out losses
SAVE_SECONDS = 300


class Corpus:
    def __init__(self, path):
        self.a = torch.from_numpy(np.fromfile(path, dtype=np.uint16).astype(np.int32))
        self._pass = None

    def windows(self, starts, length):
        return torch.stack([self.a[i:i + length] for i in starts]).long()

    def epoch_batch(self, seen, batch, context, seed=1):
        """Windows of a shuffled pass over the corpus, each pass cut at another offset: a pure function of the tokens seen."""
        n = (len(self.a) - context - 2) // context - 1
        starts = []
        for k in range(seen // context, seen // context + batch):
            epoch, i = divmod(k, n)
            if self._pass != (epoch, n):
                g = torch.Generator().manual_seed(seed + epoch)
                self._pass, self._order = (epoch, n), torch.randperm(n, generator=g)
                self._offset = int(torch.randint(0, context, (1,), generator=g))
            starts.append(int(self._order[i]) * context + self._offset)
        return self.windows(starts, context + 2)


@torch.no_grad()
def held_out(model, corpus, context, depth, windows=32, batch=16):
    """Mean losses [main, MTP depth 1..] over fixed windows spread evenly over the held-out text."""
    starts = np.linspace(0, len(corpus.a) - context - 3, windows).astype(int).tolist()
    total = np.zeros(depth + 1)
    for i in range(0, windows, batch):
        _, parts = model.losses(corpus.windows(starts[i:i + batch], context + 2), depth, train=False)
        total += np.array([float(x) for x in parts]) * batch / windows
    for load in model.load.values():
        load.zero_()
    return total.tolist()


def save(run, model, opt, progress, keep=2):
    name = os.path.join(run, "step%06d.pt" % progress["step"])
    torch.save(dict(progress, config=model.c.__dict__, bias=model.bias, opt=opt.state()), name + ".tmp")
    os.replace(name + ".tmp", name)
    for old in sorted(f for f in os.listdir(run) if f.startswith("step") and f.endswith(".pt"))[:-keep]:
        os.remove(os.path.join(run, old))


def latest(run):
    found = sorted(f for f in os.listdir(run) if f.startswith("step") and f.endswith(".pt"))
    return os.path.join(run, found[-1]) if found else None


def load_checkpoint(path, context=None):
    ck = torch.load(path)
    model = Model(Config(**dict(ck["config"], **({"context": context} if context else {}))))
    opt = Optimizer(model)
    opt.load(ck["opt"])
    model.bias = ck["bias"]
    return model, opt, ck


class Log:
    def __init__(self, run, header):
        self.f = open(os.path.join(run, "log.jsonl"), "a", buffering=1)
        self.line(start=time.strftime("%F %T"), **header)

    def line(self, **fields):
        self.f.write(json.dumps(fields) + "\n")


def rates(a, step, elapsed):
    """(learning rate, MTP depth, MTP share, gamma of the bias) for this step."""
    if a.phase == "stable":
        return a.lr * min(1.0, (step + 1) / WARMUP), 1, a.mtp_share, 5e-3 if step < 300 else 1e-3
    f = min(1.0, elapsed / (a.minutes * 60))
    unrolled = f >= a.unroll_from
    return a.lr * max(0.02, 1 - f), 3 if unrolled else 1, a.mtp_share, 1e-3 if f < 0.8 else 0.0


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("phase", choices=("stable", "decay"))
    ap.add_argument("--data", required=True)
    ap.add_argument("--run", required=True, help="directory of checkpoints and log, outside the checkout")
    ap.add_argument("--from", dest="source", help="checkpoint to branch from")
    ap.add_argument("--minutes", type=float, default=math.inf)
    ap.add_argument("--batch", type=int, default=32, help="sequences per step")
    ap.add_argument("--context", type=int, help="window length in tokens, if not the checkpoint's; at most 1024")
    ap.add_argument("--lr", type=float, default=LEARNING_RATE)
    # MTP on a part of each batch leaves more of the time to the main model.
    ap.add_argument("--mtp-share", type=float, default=0.25, help="part of the sequences on which MTP is trained")
    ap.add_argument("--unroll-from", type=float, default=0.4, help="part of the decay after which MTP is unrolled to depth 3")
    ap.add_argument("--set", action="append", default=[], metavar="FIELD=N", help="override a field of the configuration")
    ap.add_argument("--workers", type=int, default=2, help="processes, with one thread each")
    a = ap.parse_args()
    if a.phase == "decay" and (not a.source or a.minutes == math.inf):
        ap.error("decay needs --from and --minutes")
    torch.set_num_threads(1)
    os.makedirs(a.run, exist_ok=True)
    source = latest(a.run) or a.source
    if source:
        model, opt, ck = load_checkpoint(source, a.context)
        step, seen, before = ck["step"], ck["tokens"], ck["seconds"]
        decayed = ck.get("decay_seconds", 0.0)
    else:
        model = Model(Config(**{k: int(v) for k, v in (s.split("=") for s in a.set)}))
        opt, step, seen, before, decayed = Optimizer(model), 0, 0, 0.0, 0.0
    workers = Workers(a.workers, model, opt)
    train, held = Corpus(os.path.join(a.data, "train.bin")), Corpus(os.path.join(a.data, "held.bin"))
    context = model.c.context
    log = Log(a.run, {"arguments": vars(a), "config": model.c.__dict__, "from": source,
                      "parameters": sum(w.numel() for w in model.p.values())})
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    workers.fork()
    begun = saved = time.time()
    first, first_seen, smooth = step, seen, None

    def progress():
        now = {"step": step, "tokens": seen, "seconds": before + time.time() - begun}
        return dict(now, decay_seconds=elapsed) if a.phase == "decay" else now

    while True:
        elapsed = decayed + time.time() - begun
        end, lr, depth, share, gamma, *_ = workers.agree(
            [bool(stop) or elapsed > a.minutes * 60, *rates(a, step, elapsed)] if workers.rank == 0 else None)
        if end:
            break
        batch = a.batch if seen >= RAMP_TOKENS else a.batch // 2
        tokens = train.epoch_batch(seen, batch, context)[workers.rank::workers.count]
        total, parts = model.losses(tokens, int(depth), mtp_share=share)
        total.backward()
        norm, ratio = workers.update(lr, gamma)
        step, seen = step + 1, seen + batch * context
        if not math.isfinite(norm):
            sys.exit("step %d: the gradient is not finite" % step)
        if workers.rank:
            continue
        smooth = float(parts[0]) if smooth is None else 0.95 * smooth + 0.05 * float(parts[0])
        if step % 20 == 0 or step - first < 4:
            log.line(step=step, seconds=round(before + time.time() - begun), tokens=seen, lr=lr, main=round(smooth, 4),
                     mtp=[round(float(x), 3) for x in parts[1:]], norm=round(norm, 3), load=round(ratio, 2),
                     tokens_per_s=round((seen - first_seen) / (time.time() - begun)))
        if step % EVALUATE == 0:
            log.line(step=step, held_out=[round(x, 4) for x in held_out(model, held, context, int(depth))])
        if time.time() - saved > SAVE_SECONDS:
            save(a.run, model, opt, progress())
            saved = time.time()
    if workers.rank == 0:
        save(a.run, model, opt, progress())
        workers.finish()
        log.line(step=step, held_out=[round(x, 4) for x in held_out(model, held, context, 3)], end=True)


if __name__ == "__main__":
    main()
