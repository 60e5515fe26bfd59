#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures how far each of forward.py's faults moves the outputs, and writes it as JSON.

A fault counts as caught where it moves a layer, the logits or an MTP depth beyond the limits of the golden tests.
Exit status 1 if some fault is caught on none of the checkpoints.
"""
import argparse
import json
import sys
from pathlib import Path

import torch

from contract import Contract
from formats import read_safetensors, relative_l2
from forward import FAULTS, Model, Result

LIMITS = {"relative_l2": 1e-3, "kl_nats": 1e-5, "top1_margin": 1e-3}
DEPTH = 3


def figure(x: float) -> float:
    return float(f"{x:.3g}")


def row_figures(x: torch.Tensor, reference: torch.Tensor) -> dict:
    """Of logits: relative L2 over all rows, worst row's KL(reference || x), rows whose clear best token changed."""
    x, reference = x.double(), reference.double()
    log_p, log_q = reference.log_softmax(-1), x.log_softmax(-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    best = reference.topk(2, -1)
    clear = best.values[:, 0] - best.values[:, 1] > LIMITS["top1_margin"]
    changed = (x.argmax(-1) != best.indices[:, 0]) & clear
    return {"relative_l2": figure(relative_l2(x.numpy(), reference.numpy())), "kl_nats": figure(float(kl.max())),
            "top1_changed": int(changed.sum())}


def compare(result: Result, reference: Result) -> dict:
    hidden = [figure(relative_l2(x.numpy(), y.numpy())) for x, y in zip(result.hidden, reference.hidden, strict=True)]
    mtp = [row_figures(x, y) for x, y in zip(result.mtp_logits, reference.mtp_logits, strict=True)]
    return {"hidden_relative_l2": hidden, "logits": row_figures(result.logits, reference.logits), "mtp_logits": mtp}


def caught(figures: dict) -> bool:
    rows = [figures["logits"], *figures["mtp_logits"]]
    return (max(figures["hidden_relative_l2"]) >= LIMITS["relative_l2"]
            or any(row[name] >= LIMITS[name] for row in rows for name in ("relative_l2", "kl_nats"))
            or any(row["top1_changed"] for row in rows))


def measure(directory: Path, names: list[str]) -> dict:
    tokens = read_safetensors(directory / "golden.safetensors")["tokens"][1].tolist()
    reference = Model(directory).run(tokens, DEPTH)
    report = {"noise": compare(Contract(directory).run(tokens, DEPTH), reference)}
    for name in names:
        figures = compare(Model(directory, faults=frozenset([name])).run(tokens, DEPTH), reference)
        if max(figures["hidden_relative_l2"] + [row["relative_l2"] for row in figures["mtp_logits"]]) > 0:
            report[name] = {**figures, "caught": caught(figures)}
    return report


def main() -> int:
    torch.set_num_threads(1)  # one order of summation everywhere, and nothing here is big
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="+", help="checkpoint with its golden.safetensors")
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), help="only this one (repeatable)")
    parser.add_argument("--json", type=Path, help="file to write (default: standard output)")
    options = parser.parse_args()
    names = options.fault or list(FAULTS)
    report = {directory.name: measure(directory, names) for directory in options.directory}
    document = {"limits": LIMITS, "faults": {name: FAULTS[name] for name in names}, "checkpoints": report}
    text = json.dumps(document, indent=1) + "\n"
    options.json.write_text(text) if options.json else sys.stdout.write(text)
    missed = [name for name in names if not any(r.get(name, {}).get("caught") for r in report.values())]
    for name in missed:
        print(f"not caught on any checkpoint: {name}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
