#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs Hugging Face's class for a tiny checkpoint's model_type on it and writes hf_golden.safetensors beside it.

The weights are handed over dequantised, everything runs in F32 without rounding, and forward.py must agree.
Needs the packages of requirements.txt; oracle.py does not.
"""
import argparse
import json
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from faults import row_figures
from formats import read_safetensors, relative_l2, write_safetensors
from forward import Arithmetic, Model, Result
from oracle import f32, i32

AGREEMENT = 1e-5


def transformers_model(directory: Path, oracle: Model) -> PreTrainedModel:
    fields = json.loads((directory / "config.json").read_text())
    for field in ("quantization_config", "torch_dtype", "architectures"):
        fields.pop(field, None)
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    state = {name: oracle.weight(oracle.head_name() if name == "lm_head.weight" else name)
             for name in model.state_dict()}
    model.load_state_dict(state, strict=True)
    return model


@torch.no_grad()
def run_transformers(directory: Path, oracle: Model, tokens: list[int]) -> Result:
    out = transformers_model(directory, oracle)(torch.tensor([tokens]), output_hidden_states=True, use_cache=False)
    layers = [x[0] for x in out.hidden_states[1:]]
    final = layers.pop()  # the last one comes after the final norm; the last layer's own output is not given
    return Result(layers, final, out.logits[0])


def write(directory: Path, tokens: list[int], result: Result) -> None:
    tensors = {"tokens": i32(tokens), "final": f32(result.final), "logits": f32(result.logits)}
    tensors.update({f"hidden.{i}": f32(x) for i, x in enumerate(result.hidden)})
    write_safetensors(directory / "hf_golden.safetensors", tensors)


def main() -> int:
    torch.set_num_threads(1)  # one order of summation everywhere, and nothing here is big
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="+", help="checkpoints with their golden.safetensors, of types that transformers has")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    options = parser.parse_args()
    status = 0
    for directory in options.directory:
        tokens = read_safetensors(directory / "golden.safetensors")["tokens"][1].tolist()
        oracle = Model(directory, Arithmetic(bf16=False))
        theirs, ours = run_transformers(directory, oracle, tokens), oracle.run(tokens)
        errors = [relative_l2(x.numpy(), y.numpy()) for x, y in zip(theirs.hidden, ours.hidden, strict=False)]
        errors += [relative_l2(theirs.final.numpy(), ours.final.numpy()),
                   relative_l2(theirs.logits.numpy(), ours.logits.numpy())]
        rounded = row_figures(Model(directory).run(tokens).logits, theirs.logits)
        print(f"{directory.name}: relative L2 per layer, final, logits: {' '.join(f'{x:.1e}' for x in errors)}; "
              f"with BF16 rounding, logits: {rounded}")
        if not max(errors) < AGREEMENT:
            print(f"{directory.name}: disagrees with transformers", file=sys.stderr)
            status = 1
        elif not options.check:
            write(directory, tokens, theirs)
    return status


if __name__ == "__main__":
    sys.exit(main())
