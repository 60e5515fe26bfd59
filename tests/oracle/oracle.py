#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes golden.safetensors beside a checkpoint: what contract.py computes for it.  README.md says what it holds.

Each golden is checked against the plain equations (forward.py in float64) before it is written.
"""
import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from contract import Contract
from formats import Tensors, relative_l2, write_safetensors
from forward import Arithmetic, Model, Result
from tiny import BOS, FIRST_BYTE

TOKENS, LONG_TOKENS = 32, 528  # the long run crosses the end of an attention segment
LONG_ROWS = 8
MTP_DEPTH = 3
MODULES_TOKENS, MODULES_DRAFT = 16, 6
VARIANTS = {"logits": Arithmetic(), "logits_a8": Arithmetic(a8=True), "logits_naive": Arithmetic(naive=True)}
# FP32 noise flips a rounding here and there, and every flip moves what follows: a little where BF16 is rounded to, more
# where E4M3 is, with its steps of 1/8.
EQUATIONS_BOUND, EQUATIONS_BOUND_A8 = 2e-2, 1e-1


def random_tokens(length: int) -> list[int]:
    random = np.random.Generator(np.random.PCG64(length))
    return [BOS, *random.integers(FIRST_BYTE, FIRST_BYTE + 256, length - 1).tolist()]


def own_text(model: Model, length: int) -> list[int]:
    """Tokens that a trained model finds natural: drawn from itself at temperature 0.8, after BOS."""
    random = np.random.Generator(np.random.PCG64(length))
    tokens = [model.config["bos_token_id"]]
    while len(tokens) < length:
        p = (model.run(tokens).logits[-1] / 0.8).softmax(-1).numpy()
        tokens.append(int(random.choice(len(p), p=p / p.sum())))
    return tokens


def f32(x: torch.Tensor) -> tuple[str, np.ndarray]:
    return "F32", x.to(torch.float32).contiguous().numpy()


def i32(x: list[int]) -> tuple[str, np.ndarray]:
    return "I32", np.array(x, dtype=np.int32)


def checked_run(directory: Path, arithmetic: Arithmetic, tokens: list[int], depth: int = 0) -> Result:
    result = Contract(directory, arithmetic).run(tokens, depth)
    reference = Model(directory, arithmetic).run(tokens, depth)
    outputs, expected = ([*r.hidden, *r.mtp_logits, r.logits] for r in (result, reference))
    worst = max(relative_l2(x.numpy(), y.numpy()) for x, y in zip(outputs, expected, strict=True))
    if not worst < (EQUATIONS_BOUND_A8 if arithmetic.a8 else EQUATIONS_BOUND):
        raise SystemExit(f"{directory}: {arithmetic}: {worst:.2e} away from the equations")
    return result


def golden(directory: Path, tokens: list[int], rows: int) -> Tensors:
    """Outputs for the last `rows` tokens."""
    keep = slice(len(tokens) - rows, None)
    tensors = {"tokens": i32(tokens), "rows": i32(list(range(len(tokens)))[keep])}
    dense = Model(directory).grouped
    for name, arithmetic in VARIANTS.items():
        if dense and arithmetic.naive:  # a form of MLA
            continue
        result = checked_run(directory, arithmetic, tokens, MTP_DEPTH if name == "logits" else 0)
        tensors[name] = f32(result.logits[keep])
        if name == "logits":
            tensors["final"] = f32(result.final[keep])
            tensors.update({f"hidden.{i}": f32(x[keep]) for i, x in enumerate(result.hidden)})
            tensors.update({f"mtp.logits.{d}": f32(x[keep]) for d, x in enumerate(result.mtp_logits, 1)})
    return tensors


def greedy_drafts(model: Contract, tokens: list[int]) -> list[list[int]]:
    """What is drafted behind every position i but the last, below the true token i + 1: chains of best tokens, each
    token from a run of its own.  A text shorter than there are modules has no row yet in the last ones."""
    config, drafts = model.config, []
    for i in range(len(tokens) - 1):
        model.config = {**config, "num_nextn_predict_layers": min(config["num_nextn_predict_layers"], i + 1)}
        draft: list[int] = []
        while len(draft) < MODULES_DRAFT:
            laws = model.run(tokens[: i + 2] + draft, len(draft) + 1).mtp_logits[-1]
            draft.append(int(laws[-1].argmax()))
        drafts.append(draft)
    model.config = config
    return drafts


def modules_golden(directory: Path) -> Tensors:
    """Of a checkpoint with several MTP modules, these alone."""
    tokens = random_tokens(MODULES_TOKENS)
    result = checked_run(directory, Arithmetic(), tokens, Model(directory).config["num_nextn_predict_layers"])
    drafts = greedy_drafts(Contract(directory), tokens)
    return {"tokens": i32(tokens), **{f"mtp.logits.{d}": f32(x) for d, x in enumerate(result.mtp_logits, 1)},
            **{f"mtp.best.{d}": i32(list(best)) for d, best in enumerate(zip(*drafts), 1)}}


def tiny_golden(directory: Path) -> Tensors:
    if Model(directory).config.get("num_nextn_predict_layers", 0) > 1:
        return modules_golden(directory)
    tokens = random_tokens(LONG_TOKENS)
    long = checked_run(directory, Arithmetic(), tokens)
    return {**golden(directory, random_tokens(TOKENS), TOKENS), "long.tokens": i32(tokens),
            "long.logits": f32(long.logits[-LONG_ROWS:])}


def main() -> int:
    torch.set_num_threads(1)  # one order of summation everywhere, and nothing here is big
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="+", help="checkpoints made by tiny.py; with --trained, any")
    parser.add_argument("--trained", action="store_true",
                        help="feed 64 tokens drawn from the model itself and keep the last 16 rows")
    parser.add_argument("--out", type=Path, help="file to write (default DIRECTORY/golden.safetensors)")
    options = parser.parse_args()
    if options.out and len(options.directory) > 1:
        parser.error("--out goes with one checkpoint")
    for directory in options.directory:
        path = options.out or directory / "golden.safetensors"
        tensors = golden(directory, own_text(Model(directory), 64), 16) if options.trained else tiny_golden(directory)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, tensors)
        print(f"{path}: {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
