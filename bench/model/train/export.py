"""Write a training checkpoint as a DeepSeek-V3 checkpoint in the published FP8 format.

    export.py --checkpoint CKPT --data DIR --out DIR

Writes config.json, generation_config.json, tokenizer.json, tokenizer_config.json and model.safetensors. Linear layers of
attention and MLPs become E4M3 with one F32 multiplier per 128x128 block (weight_scale_inv); embedding, head, norms, router and
eh_proj stay BF16, the router's correction bias F32.
"""

import argparse
import json
import os
import shutil

import numpy as np
import torch

import fp8
import safetensors_io
from model import NOPE, ROPE, VALUE, Config, Model
from ops import BF16
from tokenizer_names import BOS, EOS, SPECIAL

_ATTENTION = {"q_a": "q_a_proj", "q_b": "q_b_proj", "kv_a": "kv_a_proj_with_mqa", "kv_b": "kv_b_proj", "o": "o_proj"}


def layout(c):
    """[(published name, short name, index, FP8?)]: index picks a part of the short tensor."""
    out = [("model.embed_tokens.weight", "embed", (), False), ("model.norm.weight", "norm", (), False),
           ("lm_head.weight", "head", (), False)]
    for i in range(c.layers + 1):
        s, n = ("mtp." if i == c.layers else "%d." % i), "model.layers.%d." % i
        if i < c.dense_layers:
            out += dense_layer(c, n, s)
            continue
        out += _attention(n, s)
        out.append((n + "mlp.gate.weight", s + "router", (), False))
        out += _mlp(n + "mlp.shared_experts.", s + "shared.", (), c.expert_width)
        for e in range(c.experts):
            out += _mlp(n + "mlp.experts.%d." % e, s + "experts.", (e,), c.expert_width)
        if i == c.layers:
            out += [(n + "enorm.weight", "mtp.enorm", (), False), (n + "hnorm.weight", "mtp.hnorm", (), False),
                    (n + "eh_proj.weight", "mtp.eh", (), False), (n + "shared_head.norm.weight", "mtp.norm", (), False)]
    return out


def _attention(n, s):
    out = [(n + "input_layernorm.weight", s + "attn_norm", (), False),
           (n + "post_attention_layernorm.weight", s + "ffn_norm", (), False),
           (n + "self_attn.q_a_layernorm.weight", s + "q_norm", (), False),
           (n + "self_attn.kv_a_layernorm.weight", s + "kv_norm", (), False)]
    return out + [(n + "self_attn.%s.weight" % v, s + k, (), True) for k, v in _ATTENTION.items()]


def dense_layer(c, name, short):
    return _attention(name, short) + _mlp(name + "mlp.", short, (), c.dense_width)


def _mlp(name, short, index, width):
    return [(name + "gate_proj.weight", short + "gate_up", index + (slice(0, width),), True),
            (name + "up_proj.weight", short + "gate_up", index + (slice(width, None),), True),
            (name + "down_proj.weight", short + "down", index, True)]


def _bias_name(c, short):
    return "model.layers.%d.mlp.gate.e_score_correction_bias" % (c.layers if short == "mtp." else int(short[:-1]))


def model_config(c):
    return {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
        "vocab_size": c.vocab, "hidden_size": c.hidden, "intermediate_size": c.dense_width,
        "moe_intermediate_size": c.expert_width, "num_hidden_layers": c.layers, "num_nextn_predict_layers": 1,
        "num_attention_heads": c.heads, "num_key_value_heads": c.heads, "n_shared_experts": 1,
        "n_routed_experts": c.experts, "num_experts_per_tok": c.top_k, "routed_scaling_factor": c.route_scale,
        "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True, "n_group": c.groups,
        "topk_group": c.top_groups, "moe_layer_freq": 1, "first_k_dense_replace": c.dense_layers, "kv_lora_rank": c.kv_lora,
        "q_lora_rank": c.q_lora, "qk_nope_head_dim": NOPE, "qk_rope_head_dim": ROPE, "v_head_dim": VALUE,
        "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": c.rope_theta, "rope_scaling": None,
        "max_position_embeddings": c.context, "attention_bias": False, "tie_word_embeddings": False,
        "bos_token_id": BOS, "eos_token_id": EOS,
        "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                "weight_block_size": [fp8.BLOCK, fp8.BLOCK]},
    }


def to_bf16_bits(t):
    return t.detach().to(BF16).contiguous().view(torch.int16).numpy().view(np.uint16)


def from_bf16_bits(a):
    return torch.from_numpy((a.astype(np.uint32) << 16).view(np.float32).copy())


def published(entries, params):
    """params under short names -> {published name: (dtype, array)}; entries as from layout()."""
    out = {}
    for name, short, index, is_fp8 in entries:
        w = params[short].detach().float()[index]
        if is_fp8:
            # From BF16, as the published checkpoints: the F32 masters are not part of the model.
            codes, scale = fp8.quantise(w.to(BF16).float().numpy())
            out[name], out[name + "_scale_inv"] = ("F8_E4M3", codes), ("F32", scale)
        else:
            out[name] = ("BF16", to_bf16_bits(w))
    return out


def restore(entries, tensors, params):
    """The reverse of published(), into params. FP8 times scale is rounded to BF16 once more."""
    for name, short, index, is_fp8 in entries:
        a = tensors[name][1]
        w = torch.from_numpy(fp8.dequantise(a, tensors[name + "_scale_inv"][1])) if is_fp8 else from_bf16_bits(a)
        params[short].data[index] = w.to(params[short].dtype)


def load_published(directory):
    """A Model with the dequantised weights of a published checkpoint."""
    j = json.load(open(os.path.join(directory, "config.json")))
    c = Config(vocab=j["vocab_size"], hidden=j["hidden_size"], layers=j["num_hidden_layers"],
               dense_layers=j["first_k_dense_replace"], heads=j["num_attention_heads"], q_lora=j["q_lora_rank"],
               kv_lora=j["kv_lora_rank"], dense_width=j["intermediate_size"], experts=j["n_routed_experts"],
               top_k=j["num_experts_per_tok"], groups=j["n_group"], top_groups=j["topk_group"],
               expert_width=j["moe_intermediate_size"], route_scale=j["routed_scaling_factor"],
               context=j["max_position_embeddings"], rope_theta=j["rope_theta"])
    model, t = Model(c), safetensors_io.read(os.path.join(directory, "model.safetensors"))
    restore(layout(c), t, model.p)
    for short in model.bias:
        model.bias[short] = torch.from_numpy(t[_bias_name(c, short)][1].copy())
    return model


def write_json(path, content):
    with open(path, "w") as f:
        json.dump(content, f, indent=2, ensure_ascii=True)
        f.write("\n")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--checkpoint", required=True)
    ap.add_argument("--data", required=True, help="where prepare.py wrote tokenizer.json")
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    ck = torch.load(a.checkpoint)
    c = Config(**ck["config"])
    os.makedirs(a.out, exist_ok=True)
    tensors = published(layout(c), ck["opt"]["master"])
    for short, b in ck["bias"].items():
        tensors[_bias_name(c, short)] = ("F32", b.numpy().astype(np.float32))
    safetensors_io.write(os.path.join(a.out, "model.safetensors"), tensors, {"format": "pt"})
    shutil.copyfile(os.path.join(a.data, "tokenizer.json"), os.path.join(a.out, "tokenizer.json"))
    special = {"bos_token": SPECIAL[BOS], "eos_token": SPECIAL[EOS]}
    for name, content in (
            ("config.json", model_config(c)),
            ("generation_config.json", {"bos_token_id": BOS, "eos_token_id": EOS, "do_sample": True, "temperature": 0.8}),
            ("tokenizer_config.json", dict(special, tokenizer_class="LlamaTokenizerFast", add_bos_token=True,
                                           add_eos_token=False, model_max_length=c.context,
                                           clean_up_tokenization_spaces=False))):
        write_json(os.path.join(a.out, name), content)
    print("exported step", ck["step"], "to", a.out)


if __name__ == "__main__":
    main()
