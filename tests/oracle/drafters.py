#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tiny random drafters with layers of their own beside tiny checkpoints, OUT/tiny-NAME/drafters/, and what they
predict: drafters/golden.safetensors, computed by contract.py and checked against forward.py.  README.md says what it holds.
"""
import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from contract import Contract
from formats import Tensors, relative_l2, write_safetensors
from forward import Arithmetic, Model, Result
from oracle import EQUATIONS_BOUND, TOKENS, f32, i32, random_tokens
from tiny import RECIPES, Builder, Recipe, write_json

DEPTH = 3
MAIN = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")  # what drafters borrow

# Width of the dense layers (the main models': 152 and 208), and what is awkward about the head.
DRAFTERS = {
    "ragged": {"parallel": {"width": 120, "heads": 3}, "eagle": {"width": 296, "bias": True}},
    "blocks": {"eagle": {"width": 176, "norm": True, "fp8": True}},
}


def build(name: str, drafter: str) -> tuple[dict, Tensors]:
    """config.json and tensors."""
    shape, main = DRAFTERS[name][drafter], RECIPES[name]
    layers = shape.get("heads", 1)
    config = {**main.config, "num_hidden_layers": layers, "first_k_dense_replace": layers, "num_nextn_predict_layers": 0,
              "intermediate_size": shape["width"]}
    hidden = config["hidden_size"]
    builder = Builder(Recipe(main.seed + 100 * len(drafter), config, f32_norms=main.f32_norms))
    for i in range(layers):
        builder.layer(i)
    if drafter == "parallel":
        return {**config, "parallel_heads": layers}, builder.tensors
    if shape.get("fp8"):
        builder.linear("fc.weight", hidden, 2 * hidden)
    else:
        builder.bf16("fc.weight", (hidden, 2 * hidden), 1.0 / np.sqrt(2 * hidden))
    if shape.get("bias"):
        builder.bf16("fc.bias", (hidden,), 0.5)
    if not shape.get("norm"):
        del builder.tensors["model.layers.0.input_layernorm.weight"]
    return {**config, "eagle": True}, {key.removeprefix("model."): value for key, value in builder.tensors.items()}


def adopt(drafter: Model, main: Model) -> Model:
    """The drafter with what it borrows from the main model, its layers named as a model's."""
    drafter.tensors = {("model." if key.startswith("layers.") else "") + key: value
                       for key, value in drafter.tensors.items()}
    drafter.tensors.update({key: main.tensors[key] for key in MAIN})
    return drafter


def parallel(d: Model, main: Result) -> dict[str, Tensor]:
    """Head i's law behind every position: the token i + 2 places on."""
    position = torch.arange(len(main.final))
    visible = [position[: t + 1] for t in range(len(position))]
    out = {}
    for i in range(d.config["parallel_heads"]):
        y, _ = d.block(i, main.hidden[-1], position, visible, d._no_past())
        y = d.norm(y, "model.norm.weight", d.config["rms_norm_eps"])
        out[f"parallel.logits.{i}"] = d.linear("lm_head.weight", y)
    return out


def eagle(d: Model, main: Result, tokens: list[int]) -> dict[str, Tensor]:
    """A greedy chain from every position i, whose root is token i + 1: its depth-1 rows are made from the main model's states
    and the true tokens; a later one sees those up to i and its own chain, and is fed with that chain's state and best token.
    """
    chains = len(tokens) - 1
    token, g = torch.tensor(tokens[1:]), main.final[:chains]
    past, visible, out = d._no_past(), [torch.empty(0, dtype=torch.int64)] * chains, {}
    for depth in range(1, DEPTH + 1):
        u = d.linear("fc.weight", torch.cat([d.weight("model.embed_tokens.weight")[token], g], -1))
        if d.has("fc.bias"):
            u = u + d.weight("fc.bias")
        own = [torch.arange(i + 1) if depth == 1 else torch.tensor([len(past) + i]) for i in range(chains)]
        visible = [torch.cat(pair) for pair in zip(visible, own)]
        g, past = d.block(0, u, torch.arange(chains) + depth - 1, visible, past)
        out[f"eagle.logits.{depth}"] = d.linear("lm_head.weight", g)
        token = torch.tensor([int(row.argmax()) for row in out[f"eagle.logits.{depth}"]])
        out[f"eagle.best.{depth}"] = token
    return out


def predict(kind: type[Model], directory: Path, name: str, tokens: list[int]) -> dict[str, Tensor]:
    main = kind(directory, Arithmetic())
    result, out = main.run(tokens), {}
    for drafter in DRAFTERS[name]:
        d = adopt(kind(directory / "drafters" / drafter, Arithmetic()), main)
        out.update(parallel(d, result) if drafter == "parallel" else eagle(d, result, tokens))
    return out


def golden(directory: Path, name: str) -> Tensors:
    tokens = random_tokens(TOKENS)
    result = predict(Contract, directory, name, tokens)
    for key, expected in predict(Model, directory, name, tokens).items():
        # A chain may fork where rounding changes its best token; heads and first depths cannot.
        forks = key.startswith("eagle") and not key.endswith(".1") or "best" in key
        if not forks and not relative_l2(result[key].numpy(), expected.numpy()) < EQUATIONS_BOUND:
            raise SystemExit(f"{directory}: {key} is away from the equations")
    return {"tokens": i32(tokens),
            **{key: i32(x.tolist()) if "best" in key else f32(x) for key, x in result.items()}}


def main() -> int:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("tests/data"),
                        help="where the checkpoints of tiny.py are (default %(default)s)")
    options = parser.parse_args()
    for name, drafters in DRAFTERS.items():
        directory = options.out / f"tiny-{name}"
        for drafter in drafters:
            config, tensors = build(name, drafter)
            (directory / "drafters" / drafter).mkdir(parents=True, exist_ok=True)
            write_json(directory / "drafters" / drafter / "config.json", config)
            write_safetensors(directory / "drafters" / drafter / "model.safetensors", tensors)
        write_safetensors(directory / "drafters" / "golden.safetensors", golden(directory, name))
        print(f"{directory / 'drafters'}: {', '.join(drafters)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
