#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tiny random checkpoints of the DeepSeek-V3 family and of dense models with awkward sizes, as Hugging Face
directories.

Every checkpoint is a pure function of its name.  Sizes, scales, gains and biases are chosen so that the classic
mistakes (README.md lists them) change the output visibly.
"""
import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from formats import BLOCK, Tensors, bf16_encode, quantise_blocks, spread, write_safetensors

VOCAB = 260  # three special tokens, 256 bytes, one more special token
BOS, EOS, PAD, FIRST_BYTE, USER = 0, 1, 2, 3, 259


@dataclass(frozen=True)
class Recipe:
    seed: int
    config: dict
    fp8: bool = True
    f32_norms: bool = False  # as V3.2 stores them
    mtp_duplicates: bool = False  # as V3 stores the embedding and the head once more beside the MTP module


def _yarn(mscale: float, original: int = 4096) -> dict:
    return {
        "type": "yarn",
        "factor": 40,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": mscale,
        "mscale_all_dim": mscale,
        "original_max_position_embeddings": original,
    }


V3 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "vocab_size": VOCAB,
    "num_hidden_layers": 2,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "norm_topk_prob": True,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000,
    "max_position_embeddings": 2048,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "torch_dtype": "bfloat16",
}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCAB,
    "num_hidden_layers": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "torch_dtype": "bfloat16",
}
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}

RECIPES = {
    # No size is a multiple of 32 where V3's are; partial scale blocks everywhere.
    "ragged": Recipe(
        seed=1,
        mtp_duplicates=True,
        config={
            **V3,
            "hidden_size": 136,
            "intermediate_size": 152,
            "moe_intermediate_size": 24,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "q_lora_rank": 96,
            "kv_lora_rank": 72,
            "qk_nope_head_dim": 40,
            "qk_rope_head_dim": 16,
            "v_head_dim": 24,
            "n_routed_experts": 8,
            "num_experts_per_tok": 3,
            "n_group": 4,
            "topk_group": 2,
            "n_shared_experts": 1,
            "routed_scaling_factor": 2.5,
            "num_nextn_predict_layers": 1,
            "rope_scaling": _yarn(1.0),
            "quantization_config": FP8,
        },
    ),
    # As Moonlight: one query projection, no groups, no YaRN, BF16 weights, and an epsilon that the latent norm ignores.
    "noq": Recipe(
        seed=2,
        fp8=False,
        config={
            **V3,
            "num_hidden_layers": 3,
            "hidden_size": 72,
            "intermediate_size": 88,
            "moe_intermediate_size": 20,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "q_lora_rank": None,
            "kv_lora_rank": 64,
            "qk_nope_head_dim": 24,
            "qk_rope_head_dim": 16,
            "v_head_dim": 24,
            "n_routed_experts": 6,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "n_shared_experts": 2,
            "routed_scaling_factor": 2.446,
            "rms_norm_eps": 1e-5,
            "rope_theta": 50000,
            "rope_scaling": None,
        },
    ),
    # Several scale blocks each way; kv_b's head slices start inside blocks and cross their edges; kv_a has 160 rows.
    "blocks": Recipe(
        seed=3,
        f32_norms=True,
        config={
            **V3,
            "hidden_size": 160,
            "intermediate_size": 208,
            "moe_intermediate_size": 48,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "q_lora_rank": 144,
            "kv_lora_rank": 128,
            "qk_nope_head_dim": 96,
            "qk_rope_head_dim": 32,
            "v_head_dim": 64,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "n_shared_experts": 1,
            "routed_scaling_factor": 2.5,
            "num_nextn_predict_layers": 1,
            "rope_scaling": _yarn(1.0, original=256),
            "quantization_config": {**FP8, "scale_fmt": "ue8m0"},
        },
    ),
    # As V2-Lite: softmax scores, greedy choice, no renormalisation, no bias.
    "v2": Recipe(
        seed=4,
        config={
            **V3,
            "architectures": ["DeepseekV2ForCausalLM"],
            "model_type": "deepseek_v2",
            "hidden_size": 136,
            "intermediate_size": 144,
            "moe_intermediate_size": 32,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "q_lora_rank": None,
            "kv_lora_rank": 48,
            "qk_nope_head_dim": 32,
            "qk_rope_head_dim": 16,
            "v_head_dim": 32,
            "n_routed_experts": 6,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "topk_method": "greedy",
            "scoring_func": "softmax",
            "norm_topk_prob": False,
            "n_shared_experts": 2,
            "routed_scaling_factor": 1.0,
            "rope_scaling": _yarn(0.707),
            "quantization_config": FP8,
        },
    ),
    # Four MTP modules, and hardly anything else.
    "modules": Recipe(
        seed=8,
        fp8=False,
        config={
            **V3,
            "num_hidden_layers": 1,
            "hidden_size": 24,
            "intermediate_size": 40,
            "moe_intermediate_size": 8,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "q_lora_rank": None,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 8,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "n_shared_experts": 1,
            "routed_scaling_factor": 1.5,
            "num_nextn_predict_layers": 4,
            "rope_scaling": None,
        },
    ),
    # Dense, FP8, three query heads to a head of keys and values; of ten wavelengths Llama 3.1 keeps two, blends one and
    # stretches the rest.
    "llama": Recipe(
        seed=5,
        config={
            **LLAMA,
            "hidden_size": 136,
            "intermediate_size": 152,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 20,
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 64},
            "mlp_bias": False,
            "quantization_config": FP8,
        },
    ),
    # As Qwen 2.5: biases, one head of keys and values for all five of queries, the embedding as head, BF16.
    "qwen2": Recipe(
        seed=6,
        fp8=False,
        config={
            **LLAMA,
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "hidden_size": 70,
            "intermediate_size": 90,
            "num_attention_heads": 5,
            "num_key_value_heads": 1,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "sliding_window": 512,
            "use_sliding_window": False,
            "tie_word_embeddings": True,
        },
    ),
    # As Qwen 3: queries and keys normalised per head, heads wider than hidden / heads, F32 gains, the embedding as head.
    "qwen3": Recipe(
        seed=7,
        fp8=False,
        f32_norms=True,
        config={
            **LLAMA,
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "hidden_size": 72,
            "intermediate_size": 88,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 26,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "tie_word_embeddings": True,
        },
    ),
}


class Builder:
    """Draws the tensors of one checkpoint in a fixed order."""

    def __init__(self, recipe: Recipe):
        self.recipe, self.config = recipe, recipe.config
        self.random = np.random.Generator(np.random.PCG64(recipe.seed))
        self.tensors: Tensors = {}

    def bf16(self, name: str, shape: tuple[int, ...], deviation: float) -> None:
        self.tensors[name] = ("BF16", bf16_encode(self.random.standard_normal(shape) * deviation))

    def gain(self, name: str, size: int) -> None:
        values = self.random.uniform(0.5, 1.5, size)
        f32 = self.recipe.f32_norms
        self.tensors[name] = ("F32", values.astype(np.float32)) if f32 else ("BF16", bf16_encode(values))

    def linear(self, name: str, rows: int, cols: int, gain: float = 1.0) -> None:
        """A projection whose outputs have about `gain` times the inputs' size; block sizes differ up to eightfold."""
        block = 2.0 ** self.random.uniform(-1.5, 1.5, (-(-rows // BLOCK), -(-cols // BLOCK)))
        w = self.random.standard_normal((rows, cols)) * spread(block, rows, cols)
        w *= gain / (np.sqrt(cols) * 1.376)  # 1.376: root mean square of `block`
        if not self.recipe.fp8:
            self.tensors[name] = ("BF16", bf16_encode(w))
            return
        code, scale = quantise_blocks(w, self.config["quantization_config"].get("scale_fmt") == "ue8m0")
        self.tensors[name] = ("F8_E4M3", code)
        self.tensors[name + "_scale_inv"] = ("F32", scale)

    def mlp(self, prefix: str, width: int) -> None:
        hidden = self.config["hidden_size"]
        self.linear(prefix + "gate_proj.weight", width, hidden)
        self.linear(prefix + "up_proj.weight", width, hidden)
        self.linear(prefix + "down_proj.weight", hidden, width, 1.5)

    def grouped_attention(self, prefix: str) -> None:
        c = self.config
        hidden, dim = c["hidden_size"], c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])
        for name, heads in (("q", "num_attention_heads"), ("k", "num_key_value_heads"), ("v", "num_key_value_heads")):
            self.linear(f"{prefix}{name}_proj.weight", c[heads] * dim, hidden)
            if c["model_type"] == "qwen2":
                self.bf16(f"{prefix}{name}_proj.bias", (c[heads] * dim,), 0.5)
            if c["model_type"] == "qwen3" and name != "v":
                self.gain(f"{prefix}{name}_norm.weight", dim)
        self.linear(prefix + "o_proj.weight", hidden, c["num_attention_heads"] * dim)

    def attention(self, prefix: str) -> None:
        c = self.config
        if "kv_lora_rank" not in c:
            self.grouped_attention(prefix)
            return
        hidden, heads, latent = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
        q_rows = heads * (c["qk_nope_head_dim"] + c["qk_rope_head_dim"])
        if c["q_lora_rank"] is None:
            self.linear(prefix + "q_proj.weight", q_rows, hidden)
        else:
            self.linear(prefix + "q_a_proj.weight", c["q_lora_rank"], hidden)
            self.gain(prefix + "q_a_layernorm.weight", c["q_lora_rank"])
            self.linear(prefix + "q_b_proj.weight", q_rows, c["q_lora_rank"])
        self.linear(prefix + "kv_a_proj_with_mqa.weight", latent + c["qk_rope_head_dim"], hidden)
        self.gain(prefix + "kv_a_layernorm.weight", latent)
        self.linear(prefix + "kv_b_proj.weight", heads * (c["qk_nope_head_dim"] + c["v_head_dim"]), latent)
        self.linear(prefix + "o_proj.weight", hidden, heads * c["v_head_dim"])

    def experts(self, prefix: str) -> None:
        c = self.config
        count, width = c["n_routed_experts"], c["moe_intermediate_size"]
        self.bf16(prefix + "gate.weight", (count, c["hidden_size"]), 1.2 / np.sqrt(c["hidden_size"]))
        if c["topk_method"] == "noaux_tc":
            bias = self.random.uniform(-0.3, 0.3, count).astype(np.float32)
            self.tensors[prefix + "gate.e_score_correction_bias"] = ("F32", bias)
        for expert in range(count):
            self.mlp(f"{prefix}experts.{expert}.", width)
        self.mlp(prefix + "shared_experts.", width * c["n_shared_experts"])

    def layer(self, i: int) -> None:
        c, prefix = self.config, f"model.layers.{i}."
        self.gain(prefix + "input_layernorm.weight", c["hidden_size"])
        self.attention(prefix + "self_attn.")
        self.gain(prefix + "post_attention_layernorm.weight", c["hidden_size"])
        if i < c.get("first_k_dense_replace", c["num_hidden_layers"]):
            self.mlp(prefix + "mlp.", c["intermediate_size"])
        else:
            self.experts(prefix + "mlp.")

    def mtp(self, i: int) -> None:
        hidden, prefix = self.config["hidden_size"], f"model.layers.{i}."
        self.gain(prefix + "enorm.weight", hidden)
        self.gain(prefix + "hnorm.weight", hidden)
        self.bf16(prefix + "eh_proj.weight", (hidden, 2 * hidden), 1.0 / np.sqrt(2 * hidden))
        self.layer(i)
        self.gain(prefix + "shared_head.norm.weight", hidden)
        if self.recipe.mtp_duplicates:
            self.tensors[prefix + "embed_tokens.weight"] = self.tensors["model.embed_tokens.weight"]
            self.tensors[prefix + "shared_head.head.weight"] = self.tensors["lm_head.weight"]

    def build(self) -> Tensors:
        c = self.config
        hidden = c["hidden_size"]
        # Of size 1 as a head, it would make every law one token.
        self.bf16("model.embed_tokens.weight", (VOCAB, hidden), 2.0 / np.sqrt(hidden) if c["tie_word_embeddings"] else 1.0)
        for i in range(c["num_hidden_layers"]):
            self.layer(i)
        self.gain("model.norm.weight", hidden)
        if not c["tie_word_embeddings"]:
            self.bf16("lm_head.weight", (VOCAB, hidden), 2.0 / np.sqrt(hidden))
        for i in range(c.get("num_nextn_predict_layers", 0)):
            self.mtp(c["num_hidden_layers"] + i)
        return self.tensors


def byte_symbols() -> list[str]:
    """GPT-2's printable character for each byte: itself where printable, else the next free one from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    symbols, spare = [], 0x100
    for byte in range(256):
        symbols.append(chr(byte if byte in printable else spare))
        spare += byte not in printable
    return symbols


def tokenizer() -> dict:
    """Byte-level BPE without merges: one token per byte."""
    special = {"<｜begin▁of▁sentence｜>": BOS, "<｜end▁of▁sentence｜>": EOS, "<｜▁pad▁｜>": PAD}
    vocab = {**special, **{symbol: FIRST_BYTE + byte for byte, symbol in enumerate(byte_symbols())}}
    added = [
        {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for text, i in {**special, "<｜User｜>": USER}.items()
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": []},
    }


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_checkpoint(name: str, directory: Path) -> None:
    recipe = RECIPES[name]
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "config.json", recipe.config)
    write_json(directory / "generation_config.json", {"bos_token_id": BOS, "eos_token_id": EOS, "do_sample": True,
                                                      "temperature": 0.6, "top_p": 0.95})
    write_json(directory / "tokenizer.json", tokenizer())
    write_json(directory / "tokenizer_config.json", {"add_bos_token": True, "bos_token": "<｜begin▁of▁sentence｜>",
                                                     "eos_token": "<｜end▁of▁sentence｜>"})
    write_safetensors(directory / "model.safetensors", Builder(recipe).build())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", help=f"which checkpoints (default all): {', '.join(RECIPES)}")
    parser.add_argument("--out", type=Path, default=Path("tests/data"),
                        help="writes OUT/tiny-NAME/ (default %(default)s)")
    options = parser.parse_args()
    for name in options.name:
        if name not in RECIPES:
            parser.error(f"no checkpoint is called {name!r}")
    for name in options.name or RECIPES:
        directory = options.out / f"tiny-{name}"
        write_checkpoint(name, directory)
        print(f"{directory}: {(directory / 'model.safetensors').stat().st_size} bytes of weights")
    return 0


if __name__ == "__main__":
    sys.exit(main())
