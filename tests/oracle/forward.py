# SPDX-License-Identifier: Apache-2.0
"""The DeepSeek-V3 forward pass in float64, straight from its equations (arXiv 2412.19437, sections 2.1 and 2.2), and that
of dense models with grouped-query attention (arXiv 2305.13245) in the layouts of Llama 3.1, Qwen 2 and Qwen 3.

Everything is computed for a whole sequence at once.  Rounding is explicit and can be switched: with
`Arithmetic(bf16=True)` activations become BF16 where Octavo's contract has them so (GEMM inputs, latent cache rows,
attention probabilities); without it nothing is rounded.  `faults` break one rule each, to prove that a comparison
against the result would notice; README.md lists them.
"""
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from formats import BLOCK, E4M3_VALUE, bf16_decode, quantise_activations, read_checkpoint, spread

SEGMENT = 512  # tokens whose probabilities are rounded relative to one common maximum
LATENT_EPS = 1e-6  # of q_a_layernorm and kv_a_layernorm, whatever rms_norm_eps says

FAULTS = {
    "scale_reciprocal": "weights divided by weight_scale_inv instead of multiplied",
    "scale_transposed": "block (i, j) takes the scale stored for (j, i)",
    "scale_last_row_dropped": "rows after the last whole block take the scale of the block before",
    "scale_view_origin": "kv_b's head slices take scales as if they began at a block's edge",
    "rope_halves": "rotary pairs (i, i + d/2) instead of (2i, 2i + 1)",
    "rope_no_yarn": "frequencies not stretched by YaRN",
    "no_mscale": "softmax scale without the factor mscale^2",
    "norm_on_k_rope": "the rotary key normalised together with the latent",
    "no_latent_norm": "latent cached before kv_a_layernorm",
    "kv_b_value_first": "kv_b's rows of a head read as [value | key] instead of [key | value]",
    "mask_sees_next": "each token also attends to the one after it",
    "router_biased_weights": "expert weights taken from the biased scores",
    "router_no_bias": "experts chosen without the correction bias",
    "router_group_max": "group score is the best biased score instead of the sum of the two best",
    "router_no_groups": "experts chosen from all groups",
    "router_mask_zero": "experts of refused groups score 0 instead of -infinity, so they beat negative scores",
    "router_no_normalisation": "weights not divided by their sum (or divided, where norm_topk_prob is false)",
    "router_no_factor": "routed_scaling_factor left out",
    "router_softmax": "softmax scores instead of sigmoid (or the reverse)",
    "no_shared_expert": "shared expert left out",
    "shared_scaled": "routed_scaling_factor also applied to the shared expert",
    "gqa_head_order": "query head h reads keys and values h mod n instead of h / group",
    "gqa_rope_pairs": "rotary pairs (2i, 2i + 1) in a dense model instead of (i, i + d/2)",
    "rope_no_llama3": "frequencies not stretched as in Llama 3.1",
    "no_qkv_bias": "biases of queries, keys and values left out",
    "no_head_norm": "queries and keys not normalised per head",
    "head_norm_late": "queries and keys normalised per head after rotation instead of before",
    "mtp_concat_order": "eh_proj fed with [hidden | embedding]",
    "mtp_pre_norm": "MTP fed with hidden states before the final norm",
    "mtp_same_token": "MTP fed with the token of its own position instead of the next",
    "mtp_main_norm": "model.norm in place of shared_head.norm",
    "mtp_first_module": "the first MTP module recycled where there are several",
}


@dataclass(frozen=True)
class Arithmetic:
    bf16: bool = True  # round activations to BF16 where the contract does
    a8: bool = False  # quantise them 1x128 before every FP8 matrix (not kv_b)
    naive: bool = False  # MLA with per-head keys and values instead of in the latent space
    dtype: torch.dtype = torch.float64  # of everything that is not rounded; float32 shows an engine's noise


@dataclass
class Result:
    hidden: list[Tensor]  # per layer: [T][H] residual stream after it
    final: Tensor  # [T][H] after the final norm
    logits: Tensor  # [T][V]
    mtp_logits: list[Tensor] = field(default_factory=list)  # per depth d: [T-d][V]


class Model:
    def __init__(self, directory: Path, arithmetic: Arithmetic = Arithmetic(), faults: frozenset[str] = frozenset()):
        unknown = faults - FAULTS.keys()
        if unknown:
            raise ValueError(f"unknown faults: {', '.join(sorted(unknown))}")
        self.arithmetic, self.faults = arithmetic, faults
        self.config = json.loads((directory / "config.json").read_text())
        self.tensors = read_checkpoint(directory)
        self.grouped = "kv_lora_rank" not in self.config  # grouped-query attention, else MLA
        self.ue8m0 = self.config.get("quantization_config", {}).get("scale_fmt") == "ue8m0"
        self._cache: dict[str, Tensor] = {}
        self.frequency, self.tau = self._rope_constants()

    # ---- Weights -----------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        return name in self.tensors

    def weight(self, name: str) -> Tensor:
        """A tensor as float64, dequantised."""
        if name not in self._cache:
            dtype, raw = self.tensors[name]
            if dtype == "F8_E4M3":
                value = self._dequantise(raw, self.tensors[name + "_scale_inv"][1].astype(np.float64))
            elif dtype == "BF16":
                value = bf16_decode(raw).astype(np.float64)
            else:
                value = raw.astype(np.float64)
            self._cache[name] = torch.from_numpy(value).to(self.arithmetic.dtype)
        return self._cache[name]

    def _dequantise(self, code: np.ndarray, scale: np.ndarray) -> np.ndarray:
        if "scale_transposed" in self.faults:
            scale = scale.T.reshape(scale.shape)
        if "scale_last_row_dropped" in self.faults and code.shape[0] % 128 and len(scale) > 1:
            scale = np.concatenate([scale[:-1], scale[-2:-1]])
        if "scale_reciprocal" in self.faults:
            scale = 1 / scale
        return E4M3_VALUE[code] * spread(scale, *code.shape)

    def _kv_b(self, name: str) -> tuple[Tensor, Tensor]:
        """kv_b_proj per head: keys [heads][nope][latent] and values [heads][v][latent]."""
        heads, nope = self.config["num_attention_heads"], self.config["qk_nope_head_dim"]
        w = self.weight(name)
        if "scale_view_origin" in self.faults and self.has(name + "_scale_inv"):
            w = self._kv_b_without_origin(name, w)
        w = w.reshape(heads, -1, w.shape[1])
        if "kv_b_value_first" in self.faults:
            value = w.shape[1] - nope
            return w[:, value:], w[:, :value]
        return w[:, :nope], w[:, nope:]

    def _kv_b_without_origin(self, name: str, w: Tensor) -> Tensor:
        nope, value = self.config["qk_nope_head_dim"], self.config["v_head_dim"]
        code, scale = self.tensors[name][1], self.tensors[name + "_scale_inv"][1].astype(np.float64)
        out, row = np.empty(w.shape), 0
        while row < len(out):
            rows = nope if row % (nope + value) == 0 else value
            out[row : row + rows] = E4M3_VALUE[code[row : row + rows]] * spread(scale[row // 128 :], rows, w.shape[1])
            row += rows
        return torch.from_numpy(out).to(self.arithmetic.dtype)

    # ---- Rounding ----------------------------------------------------------------------------------

    def round(self, x: Tensor) -> Tensor:
        """To BF16 by way of F32; magnitudes below 2^-40 become zero."""
        if not self.arithmetic.bf16:
            return x
        x = x.to(torch.float32).to(torch.bfloat16).to(self.arithmetic.dtype)
        return torch.where(x.abs() < 2.0**-40, torch.zeros_like(x), x)

    def linear(self, name: str, x: Tensor) -> Tensor:
        x = self.round(x)
        if self.arithmetic.a8 and self.tensors[name][0] == "F8_E4M3":
            code, scale = quantise_activations(x.numpy(), self.ue8m0)
            x = torch.from_numpy(code * scale.repeat(BLOCK, axis=1)[:, : code.shape[1]])
        return x @ self.weight(name).T

    def norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * self.weight(name)

    # ---- Rotary embedding --------------------------------------------------------------------------

    def _rope_constants(self) -> tuple[Tensor, float]:
        """Frequencies [rope/2] and the softmax scale (YaRN: Peng et al., arXiv 2309.00071)."""
        if self.grouped:
            return self._grouped_rope_constants()
        c, d = self.config, self.config["qk_rope_head_dim"]
        base, yarn = c["rope_theta"], c.get("rope_scaling")
        i = torch.arange(d // 2, dtype=torch.float64)
        frequency = base ** (-2 * i / d)
        tau = (c["qk_nope_head_dim"] + d) ** -0.5
        if yarn is None:
            return frequency, tau

        def dimension(rotations: float) -> float:
            length = yarn["original_max_position_embeddings"]
            return d * math.log(length / (2 * math.pi * rotations)) / (2 * math.log(base))

        low = max(math.floor(dimension(yarn["beta_fast"])), 0)
        high = min(math.ceil(dimension(yarn["beta_slow"])), d - 1)
        ramp = ((i - low) / (high - low if high > low else 0.001)).clamp(0, 1)
        if "rope_no_yarn" not in self.faults:
            frequency = frequency / yarn["factor"] * ramp + frequency * (1 - ramp)
        if yarn["mscale"] != yarn["mscale_all_dim"]:
            raise ValueError("rope_scaling: mscale differs from mscale_all_dim")
        mscale = 0.1 * yarn["mscale_all_dim"] * math.log(yarn["factor"]) + 1
        return frequency, tau if "no_mscale" in self.faults else tau * mscale**2

    def _head_dim(self) -> int:
        return self.config.get("head_dim") or self.config["hidden_size"] // self.config["num_attention_heads"]

    def _grouped_rope_constants(self) -> tuple[Tensor, float]:
        """The same for dense models, whose long wavelengths Llama 3.1 stretches."""
        d, scaling = self._head_dim(), self.config.get("rope_scaling")
        frequency = self.config["rope_theta"] ** (-2 * torch.arange(d // 2, dtype=torch.float64) / d)
        if scaling is None or "rope_no_llama3" in self.faults:
            return frequency, d**-0.5
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        stretched, wavelength = frequency / scaling["factor"], 2 * math.pi / frequency
        blend = ((scaling["original_max_position_embeddings"] / wavelength - low) / (high - low)).clamp(0, 1)
        return (1 - blend) * stretched + blend * frequency, d**-0.5

    def rope(self, x: Tensor, position: Tensor) -> Tensor:
        """Rotates the last axis of x [T][...][rope] by the positions [T]; F32 tables where x is F32."""
        angle = position.to(torch.float64)[:, None] * self.frequency
        angle = angle.reshape(len(position), *[1] * (x.dim() - 2), -1)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        if ("gqa_rope_pairs" if self.grouped else "rope_halves") in self.faults:
            return self._rotate_layout(x, cos, sin, halves=not self.grouped)
        return self._rotate_layout(x, cos, sin, halves=self.grouped)

    def _rotate_layout(self, x: Tensor, cos: Tensor, sin: Tensor, halves: bool) -> Tensor:
        if halves:
            half = x.shape[-1] // 2
            return torch.cat(self.rotate(x[..., :half], x[..., half:], cos, sin), -1)
        return torch.stack(self.rotate(x[..., 0::2], x[..., 1::2], cos, sin), -1).flatten(-2)

    def rotate(self, a: Tensor, b: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        return a * cos - b * sin, a * sin + b * cos

    # ---- Attention ---------------------------------------------------------------------------------

    def latent(self, prefix: str, x: Tensor, position: Tensor) -> Tensor:
        """Cache rows [T][latent + rope]: the normalised latent and the rotated key."""
        rank = self.config["kv_lora_rank"]
        a = self.linear(prefix + "kv_a_proj_with_mqa.weight", x)
        c, k = a[:, :rank], a[:, rank:]
        if "norm_on_k_rope" in self.faults:
            k = k * torch.rsqrt(k.square().mean(-1, keepdim=True) + LATENT_EPS)
        if "no_latent_norm" not in self.faults:
            c = self.norm(c, prefix + "kv_a_layernorm.weight", LATENT_EPS)
        return self.round(torch.cat([c, self.rope(k, position)], -1))

    def queries(self, prefix: str, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """[T][heads][nope] and the rotated [T][heads][rope]."""
        nope = self.config["qk_nope_head_dim"]
        if self.has(prefix + "q_proj.weight"):
            q = self.linear(prefix + "q_proj.weight", x)
        else:
            q = self.norm(self.linear(prefix + "q_a_proj.weight", x), prefix + "q_a_layernorm.weight", LATENT_EPS)
            q = self.linear(prefix + "q_b_proj.weight", q)
        q = q.reshape(len(x), self.config["num_attention_heads"], -1)
        return self.round(q[..., :nope]), self.round(self.rope(q[..., nope:], position))

    def absorb(self, name: str, q: Tensor) -> Tensor:
        """Queries [T][heads][nope] carried into the latent space by kv_b's key rows: [T][heads][latent]."""
        return torch.einsum("thd,hdr->thr", q, self._kv_b(name)[0])

    def unfold(self, name: str, z: Tensor) -> Tensor:
        """What the heads read from the latent space, [T][heads][latent], to values [T][heads][v]."""
        return torch.einsum("thr,hdr->thd", z, self._kv_b(name)[1])

    def decompress(self, name: str, c: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [S][latent] to per-head keys [S][heads][nope] and values [S][heads][v]."""
        key, value = self._kv_b(name)
        return torch.einsum("hdr,sr->shd", key, c), torch.einsum("hdr,sr->shd", value, c)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One query [heads][d] over all keys [S][heads or 1][d] and values [S][heads or 1][e]: [heads][e]."""
        score = self.tau * (q * k).sum(-1)  # [S][heads]
        top = score.amax(0)
        total, out = torch.zeros_like(top), torch.zeros(len(q), v.shape[-1], dtype=q.dtype)
        for start in range(0, len(score), SEGMENT):
            segment = slice(start, start + SEGMENT)
            local = score[segment].amax(0)
            p, merge = (score[segment] - local).exp(), (local - top).exp()
            total += merge * p.sum(0)
            out += merge[:, None] * (self.round(p)[..., None] * v[segment]).sum(0)
        return out / total[:, None]

    def attend(self, prefix: str, x: Tensor, position: Tensor, cache: Tensor, visible: list[Tensor]) -> Tensor:
        """Attention of rows x [T][H], row t over the cache rows visible[t], in the order of their positions."""
        rank, kv_b = self.config["kv_lora_rank"], prefix + "kv_b_proj.weight"
        q_nope, q_rope = self.queries(prefix, x, position)
        if self.arithmetic.naive:
            k, v = self.decompress(kv_b, cache[:, :rank])
            k_rope = cache[:, None, rank:].expand(-1, k.shape[1], -1)
            q, k, v = torch.cat([q_nope, q_rope], -1), torch.cat([self.round(k), k_rope], -1), self.round(v)
        else:
            q = torch.cat([self.round(self.absorb(kv_b, q_nope)), q_rope], -1)
            k, v = cache[:, None], cache[:, None, :rank]
        out = torch.stack([self.attention(row, k[tokens], v[tokens]) for row, tokens in zip(q, visible, strict=True)])
        if not self.arithmetic.naive:
            out = self.unfold(kv_b, self.round(out))
        return self.linear(prefix + "o_proj.weight", out.flatten(1))

    # ---- Grouped-query attention -------------------------------------------------------------------

    def _projected(self, prefix: str, name: str, x: Tensor) -> Tensor:
        """Heads of queries, keys or values: [T][heads][d]."""
        y = self.linear(f"{prefix}{name}_proj.weight", x)
        if self.has(f"{prefix}{name}_proj.bias") and "no_qkv_bias" not in self.faults:
            y = y + self.weight(f"{prefix}{name}_proj.bias")
        return y.unflatten(-1, (-1, self._head_dim()))

    def _rotated(self, prefix: str, name: str, x: Tensor, position: Tensor) -> Tensor:
        y, norm = self._projected(prefix, name, x), f"{prefix}{name}_norm.weight"
        if not self.has(norm) or "no_head_norm" in self.faults:
            return self.rope(y, position)
        if "head_norm_late" in self.faults:
            return self.norm(self.rope(y, position), norm, self.config["rms_norm_eps"])
        return self.rope(self.norm(y, norm, self.config["rms_norm_eps"]), position)

    def keys_and_values(self, prefix: str, x: Tensor, position: Tensor) -> Tensor:
        """Cache rows [T][2 kv_heads d]: rotated keys, then values."""
        k, v = self._rotated(prefix, "k", x, position), self._projected(prefix, "v", x)
        return self.round(torch.cat([k.flatten(1), v.flatten(1)], -1))

    def attend_grouped(self, prefix: str, x: Tensor, position: Tensor, cache: Tensor, visible: list[Tensor]) -> Tensor:
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        q = self.round(self._rotated(prefix, "q", x, position))
        shared = torch.arange(heads) // (heads // kv_heads)
        if "gqa_head_order" in self.faults:
            shared = torch.arange(heads) % kv_heads
        k, v = cache.unflatten(1, (2, kv_heads, -1)).unbind(1)
        k, v = k[:, shared], v[:, shared]
        out = torch.stack([self.attention(row, k[tokens], v[tokens]) for row, tokens in zip(q, visible, strict=True)])
        return self.linear(prefix + "o_proj.weight", out.flatten(1))

    # ---- Mixture of experts ------------------------------------------------------------------------

    def mlp(self, prefix: str, x: Tensor) -> Tensor:
        gate, up = self.linear(prefix + "gate_proj.weight", x), self.linear(prefix + "up_proj.weight", x)
        return self.linear(prefix + "down_proj.weight", self.swiglu(gate, up))

    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        return gate * torch.sigmoid(gate) * up

    def _best(self, score: Tensor, keep: int) -> Tensor:
        """Indices of the `keep` largest, ties to the lowest index."""
        return torch.sort(score, dim=-1, descending=True, stable=True).indices[:, :keep]

    def _choose(self, score: Tensor) -> Tensor:
        """Experts [T][k], ascending, by the scores that selection uses (biased for noaux_tc)."""
        c = self.config
        groups, method = c.get("n_group") or 1, c["topk_method"]
        if groups > 1 and method != "greedy" and "router_no_groups" not in self.faults:
            grouped = score.unflatten(-1, (groups, -1))
            best = 1 if method == "group_limited_greedy" or "router_group_max" in self.faults else 2
            group_score = grouped.sort(-1, descending=True).values[..., :best].sum(-1)
            allowed = torch.zeros_like(group_score, dtype=torch.bool)
            allowed.scatter_(1, self._best(group_score, c["topk_group"]), True)
            refused = 0.0 if "router_mask_zero" in self.faults else -math.inf
            score = grouped.masked_fill(~allowed[..., None], refused).flatten(1)
        return self._best(score, c["num_experts_per_tok"]).sort(-1).values

    def scores(self, logit: Tensor) -> Tensor:
        """Unbiased scores [T][experts]."""
        sigmoid = (self.config["scoring_func"] == "sigmoid") != ("router_softmax" in self.faults)
        return self.sigmoid(logit) if sigmoid else self.softmax(logit)

    def sigmoid(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def softmax(self, x: Tensor) -> Tensor:
        return x.softmax(-1)

    def normalise(self, weight: Tensor) -> Tensor:
        return weight / (weight.sum(-1, keepdim=True) + 1e-20)

    def route(self, prefix: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Experts [T][k], ascending, and their weights [T][k]."""
        c = self.config
        score = self.scores(self.linear(prefix + "gate.weight", x))
        biased = score
        if c["topk_method"] == "noaux_tc" and "router_no_bias" not in self.faults:
            biased = score + self.weight(prefix + "gate.e_score_correction_bias")
        expert = self._choose(biased)
        weight = (biased if "router_biased_weights" in self.faults else score).gather(1, expert)
        if c["norm_topk_prob"] != ("router_no_normalisation" in self.faults) and expert.shape[1] > 1:
            weight = self.normalise(weight)
        return expert, weight if "router_no_factor" in self.faults else weight * c["routed_scaling_factor"]

    def multiply_add(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return a * b + c

    def moe(self, prefix: str, x: Tensor) -> Tensor:
        expert, weight = self.route(prefix, x)
        out = torch.zeros_like(x)
        for e in range(self.config["n_routed_experts"]):
            row, slot = (expert == e).nonzero(as_tuple=True)
            if len(row):
                y = self.mlp(f"{prefix}experts.{e}.", x[row])
                out[row] = self.multiply_add(weight[row, slot, None], y, out[row])
        if self.config.get("n_shared_experts") and "no_shared_expert" not in self.faults:
            factor = self.config["routed_scaling_factor"] if "shared_scaled" in self.faults else 1.0
            out = out + factor * self.mlp(prefix + "shared_experts.", x)
        return out

    # ---- Layers ------------------------------------------------------------------------------------

    def block(self, i: int, x: Tensor, position: Tensor, visible: list[Tensor], past: Tensor) -> tuple[Tensor, Tensor]:
        """Rows x through decoder layer i, over the cache rows `past` and their own: (output, all cache rows)."""
        prefix, eps = f"model.layers.{i}.", self.config["rms_norm_eps"]
        norm = prefix + "input_layernorm.weight"
        h = self.norm(x, norm, eps) if self.has(norm) else x  # EAGLE-1's layer has none
        entries, attend = (self.keys_and_values, self.attend_grouped) if self.grouped else (self.latent, self.attend)
        cache = torch.cat([past, entries(prefix + "self_attn.", h, position)])
        x = x + attend(prefix + "self_attn.", h, position, cache, visible)
        h = self.norm(x, prefix + "post_attention_layernorm.weight", eps)
        ffn = self.moe if self.has(prefix + "mlp.gate.weight") else self.mlp
        return x + ffn(prefix + "mlp.", h), cache

    def _no_past(self) -> Tensor:
        c = self.config
        width = (2 * c["num_key_value_heads"] * self._head_dim() if self.grouped
                 else c["kv_lora_rank"] + c["qk_rope_head_dim"])
        return torch.empty(0, width, dtype=self.arithmetic.dtype)

    def run(self, tokens: list[int], mtp_depth: int = 0) -> Result:
        """The main model over a whole sequence, and the MTP chain where the model has one."""
        token, position = torch.tensor(tokens), torch.arange(len(tokens))
        ahead = 2 if "mask_sees_next" in self.faults else 1
        visible = [position[: t + ahead] for t in range(len(tokens))]
        x = self.weight("model.embed_tokens.weight")[token]
        hidden = []
        for i in range(self.config["num_hidden_layers"]):
            x, _ = self.block(i, x, position, visible, self._no_past())
            hidden.append(x)
        final = self.norm(x, "model.norm.weight", self.config["rms_norm_eps"])
        result = Result(hidden, final, self.linear(self.head_name(), final))
        if self.config.get("num_nextn_predict_layers"):
            self._mtp(result, token, mtp_depth)
        return result

    def head_name(self) -> str:
        return "model.embed_tokens.weight" if self.config.get("tie_word_embeddings") else "lm_head.weight"

    def _mtp_input(self, layer: int, token: Tensor, h: Tensor) -> Tensor:
        prefix, eps = f"model.layers.{layer}.", self.config["rms_norm_eps"]
        parts = [self.norm(self.weight("model.embed_tokens.weight")[token], prefix + "enorm.weight", eps),
                 self.norm(h, prefix + "hnorm.weight", eps)]
        if "mtp_concat_order" in self.faults:
            parts.reverse()
        return self.linear(prefix + "eh_proj.weight", torch.cat(parts, -1))

    def _mtp(self, result: Result, token: Tensor, depth: int) -> None:
        """The MTP modules one after another and the last one applied up to `depth`, fed with the true tokens; README.md
        defines slots and caches."""
        modules = 1 if "mtp_first_module" in self.faults else self.config["num_nextn_predict_layers"]
        h = result.hidden[-1] if "mtp_pre_norm" in self.faults else result.final
        for d in range(1, depth + 1):
            chains, recycled = len(token) - d, max(d - modules, 0)  # chain i stands at slot i + recycled
            layer = self.config["num_hidden_layers"] + d - recycled - 1
            first = d - ("mtp_same_token" in self.faults)
            u = self._mtp_input(layer, token[first : first + chains], h[:chains])
            # A module sees its slot and those before; each recycled depth sees one row more, its own.
            if not recycled:
                past, visible = self._no_past(), [torch.empty(0, dtype=torch.int64)] * chains
            own = [torch.tensor([len(past) + i]) if recycled else torch.arange(i + 1) for i in range(chains)]
            visible = [torch.cat(pair) for pair in zip(visible, own)]
            y, past = self.block(layer, u, torch.arange(chains) + recycled, visible, past)
            own_norm = f"model.layers.{layer}.shared_head.norm.weight"
            norm = "model.norm.weight" if "mtp_main_norm" in self.faults else own_norm
            h = self.norm(y, norm, self.config["rms_norm_eps"])
            result.mtp_logits.append(self.linear("lm_head.weight", h))
