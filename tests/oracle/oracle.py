#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden outputs of a checkpoint: DIR/golden.safetensors, computed by forward.py.  README.md says what it holds."""
import argparse
import sys
from itertools import count
from pathlib import Path

import numpy as np
import torch

from forward import Arithmetic, Model, Result
from formats import Tensors, write_safetensors
from tiny import BOS, FIRST_BYTE

TOKENS = 32
MTP_DEPTH = 3
ROUTER_MARGIN = 1e-3  # tokens are redrawn until no expert is chosen by less
VARIANTS = {"logits": Arithmetic(), "logits_a8": Arithmetic(a8=True), "logits_naive": Arithmetic(naive=True)}


def draw_tokens(seed: int, length: int) -> list[int]:
    random = np.random.Generator(np.random.PCG64(seed))
    return [BOS, *random.integers(FIRST_BYTE, FIRST_BYTE + 256, length - 1).tolist()]


def run_variants(directory: Path) -> tuple[list[int], dict[str, Result]]:
    """The first tokens on which every variant chooses all its experts clearly."""
    models = {name: Model(directory, arithmetic) for name, arithmetic in VARIANTS.items()}
    for seed in count():
        tokens = draw_tokens(seed, TOKENS)
        results = {name: model.run(tokens, MTP_DEPTH) for name, model in models.items()}
        if min(result.router_margin for result in results.values()) > ROUTER_MARGIN:
            return tokens, results
    raise AssertionError("unreachable")


def f32(x: torch.Tensor) -> tuple[str, np.ndarray]:
    return "F32", x.to(torch.float32).numpy()


def golden(directory: Path) -> Tensors:
    tokens, results = run_variants(directory)
    tensors = {name: f32(result.logits) for name, result in results.items()}
    main = results["logits"]
    tensors["tokens"] = ("I32", np.array(tokens, dtype=np.int32))
    tensors["final"] = f32(main.final)
    tensors.update({f"hidden.{i}": f32(x) for i, x in enumerate(main.hidden)})
    tensors.update({f"mtp.logits.{d}": f32(x) for d, x in enumerate(main.mtp_logits, 1)})
    return tensors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, nargs="+", help="a checkpoint made by tiny.py")
    for directory in parser.parse_args().directory:
        write_safetensors(directory / "golden.safetensors", golden(directory))
        print(f"{directory / 'golden.safetensors'}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
