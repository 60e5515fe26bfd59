"""Logits of the unquantised BF16 weights on the held-out excerpt, computed in F32: what an engine's FP8 results are held against.

    golden.py --checkpoint CKPT --tokenizer FILE --text FILE --out FILE

Tensors of the output: tokens I32 [T], the beginning-of-sentence token and the first tokens of the text; positions I32 [P];
logits F32 [P][vocabulary], row i predicting the token after tokens[positions[i]]. Needs the tokenizers package.
"""

import argparse

import numpy as np
import torch
from tokenizers import Tokenizer

import ops
import safetensors_io
from tokenizer_names import BOS
from train import load_checkpoint

TOKENS, POSITIONS = 512, 64


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--checkpoint", required=True)
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--text", required=True)
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    model, _, ck = load_checkpoint(a.checkpoint)
    for name, w in model.p.items():
        w.data = w.data.to(torch.bfloat16).float()  # the router too is published in BF16
    ops.reference_precision()
    text = open(a.text, encoding="utf-8").read()
    ids = [BOS] + Tokenizer.from_file(a.tokenizer).encode(text, add_special_tokens=False).ids[:TOKENS - 1]
    positions = np.linspace(7, TOKENS - 1, POSITIONS).astype(np.int32)
    with torch.no_grad():
        h = model.hidden(torch.tensor([ids]))[torch.from_numpy(positions).long()]
        logits = h.float() @ model.p["head"].float().t()
    safetensors_io.write(a.out, {"tokens": ("I32", np.array(ids, np.int32)), "positions": ("I32", positions),
                                 "logits": ("F32", logits.numpy())}, {"step": str(ck["step"])})


if __name__ == "__main__":
    main()
