"""Write trained drafters as the directories that specbench reads.

    export_drafters.py --checkpoint CKPT --model DIR [--out DIR] [--check]

DIR of --model is the main model they were trained for; --out is its subdirectory `drafters` by default. Matrices of MLA layers
become FP8 as the main model's, all else is BF16. --check computes every drafter's logits once more from the written files, in
plain F32 PyTorch, and compares.
"""

import argparse
import os
import shutil
import sys

import torch

import safetensors_io
from drafters import DEPTH, NAMES, Drafters
from export import dense_layer, load_published, model_config, published, restore, write_json
from tokenizer_names import BOS, EOS


def _bf16(*pairs):
    return [(name, short, (), False) for name, short in pairs]


def medusa(d):
    c, out = d.c, []
    for i in range(DEPTH):
        s = "medusa.%d." % i
        out += _bf16(("%d.0.linear.weight" % i, s + "linear"), ("%d.0.linear.bias" % i, s + "bias"), ("%d.1.weight" % i, s + "head"))
    return "medusa_lm_head.safetensors", out, {
        "model_type": "medusa", "medusa_num_heads": DEPTH, "medusa_num_layers": 1, "hidden_size": c.hidden, "vocab_size": c.vocab}


def hydra(d):
    c, out = d.c, []
    for i in range(DEPTH):
        s = "hydra.%d." % i
        out += _bf16(("%d.0.linear.weight" % i, s + "linear"), ("%d.0.linear.bias" % i, s + "bias"),
                     ("%d.0.res_connection.weight" % i, s + "res"), ("%d.0.res_connection.bias" % i, s + "res_bias"),
                     ("%d.1.weight" % i, s + "head"))
    return "hydra_lm_head.safetensors", out, {
        "model_type": "hydra", "hydra_num_heads": DEPTH, "hydra_num_layers": 1, "hidden_size": c.hidden, "vocab_size": c.vocab}


def _dense_config(d, layers, **more):
    return dict(model_config(d.c), num_hidden_layers=layers, first_k_dense_replace=layers, num_nextn_predict_layers=0, **more)


def parallel(d):
    out = []
    for i in range(DEPTH):
        out += dense_layer(d.c, "model.layers.%d." % i, "parallel.%d." % i)
    return "model.safetensors", out, _dense_config(d, DEPTH, parallel_heads=DEPTH)


def eagle(d):
    out = _bf16(("fc.weight", "eagle.fc")) + dense_layer(d.c, "layers.0.", "eagle.")
    return "model.safetensors", out, _dense_config(d, 1, eagle=True)


def model(d):
    s = d.shape
    out = _bf16(("model.embed_tokens.weight", "model.embed"), ("model.norm.weight", "model.norm"), ("lm_head.weight", "model.head"))
    for i in range(s.layers):
        n, m = "model.layers.%d." % i, "model.%d." % i
        out += _bf16((n + "input_layernorm.weight", m + "attn_norm"), (n + "post_attention_layernorm.weight", m + "ffn_norm"),
                     (n + "mlp.down_proj.weight", m + "down"), *((n + "self_attn.%s_proj.weight" % k, m + k) for k in "qkvo"))
        out += [(n + "mlp.gate_proj.weight", m + "gate_up", (slice(0, s.width),), False),
                (n + "mlp.up_proj.weight", m + "gate_up", (slice(s.width, None),), False)]
    return "model.safetensors", out, {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "vocab_size": d.c.vocab,
        "hidden_size": s.hidden, "intermediate_size": s.width, "num_hidden_layers": s.layers, "num_attention_heads": s.heads,
        "num_key_value_heads": s.kv_heads, "head_dim": s.hidden // s.heads, "hidden_act": "silu", "rms_norm_eps": 1e-6,
        "rope_theta": s.theta, "rope_scaling": None, "max_position_embeddings": d.c.context, "attention_bias": False,
        "mlp_bias": False, "tie_word_embeddings": False, "bos_token_id": BOS, "eos_token_id": EOS}


LAYOUT = {"medusa": medusa, "hydra": hydra, "parallel": parallel, "eagle": eagle, "model": model}


def load_drafters(trunk, directory, names=None):
    """Drafters with the weights of the exported files: of these, or of all that are there."""
    names = names or [n for n in NAMES if os.path.exists(os.path.join(directory, n, "config.json"))]
    d = Drafters(trunk, names)
    for name in names:
        file, entries, _ = LAYOUT[name](d)
        restore(entries, safetensors_io.read(os.path.join(directory, name, file)), d.p)
    return d


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--checkpoint", required=True)
    ap.add_argument("--model", required=True)
    ap.add_argument("--out")
    ap.add_argument("--check", action="store_true")
    a = ap.parse_args()
    out = a.out or os.path.join(a.model, "drafters")
    ck, trunk = torch.load(a.checkpoint), load_published(a.model)
    d = Drafters(trunk, ck["names"])
    for name in d.names:
        file, entries, config = LAYOUT[name](d)
        os.makedirs(os.path.join(out, name), exist_ok=True)
        path = os.path.join(out, name, file)
        safetensors_io.write(path, published(entries, ck["opt"]["master"]), {"format": "pt"})
        write_json(os.path.join(out, name, "config.json"), config)
        if name == "model":
            shutil.copyfile(os.path.join(a.model, "tokenizer.json"), os.path.join(out, name, "tokenizer.json"))
        print("%-9s %8d bytes, step %d" % (name, os.path.getsize(path), ck["step"]))
    if a.check:
        import plain_drafters
        sys.exit(not plain_drafters.check(a.model, out, load_drafters(trunk, out)))


if __name__ == "__main__":
    main()
