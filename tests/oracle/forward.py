# SPDX-License-Identifier: Apache-2.0
"""The DeepSeek-V3 forward pass in float64, straight from its equations (arXiv 2412.19437, sections 2.1 and 2.2).

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

from formats import E4M3_VALUE, bf16_decode, quantise_activations, read_checkpoint, spread

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
    "router_no_normalisation": "weights not divided by their sum (or divided, where norm_topk_prob is false)",
    "router_no_factor": "routed_scaling_factor left out",
    "router_softmax": "softmax scores instead of sigmoid (or the reverse)",
    "no_shared_expert": "shared expert left out",
    "shared_scaled": "routed_scaling_factor also applied to the shared expert",
    "mtp_concat_order": "eh_proj fed with [hidden | embedding]",
    "mtp_pre_norm": "MTP fed with hidden states before the final norm",
    "mtp_same_token": "MTP fed with the token of its own position instead of the next",
    "mtp_main_norm": "model.norm in place of shared_head.norm",
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
    router_margin: float = math.inf  # smallest gap between a chosen and a refused (group of) experts, biased scores
    mtp_hidden: list[Tensor] = field(default_factory=list)  # per depth d: [T-d][H], after shared_head.norm
    mtp_logits: list[Tensor] = field(default_factory=list)  # per depth d: [T-d][V]


class Model:
    def __init__(self, directory: Path, arithmetic: Arithmetic = Arithmetic(), faults: frozenset[str] = frozenset()):
        unknown = faults - FAULTS.keys()
        if unknown:
            raise ValueError(f"unknown faults: {', '.join(sorted(unknown))}")
        self.arithmetic, self.faults = arithmetic, faults
        self.config = json.loads((directory / "config.json").read_text())
        self.tensors = read_checkpoint(directory)
        self.ue8m0 = self.config.get("quantization_config", {}).get("scale_fmt") == "ue8m0"
        self.router_margin = math.inf
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
            x = torch.from_numpy(quantise_activations(x.numpy(), self.ue8m0)).to(self.arithmetic.dtype)
        return x @ self.weight(name).T

    def norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * self.weight(name)

    # ---- Rotary embedding --------------------------------------------------------------------------

    def _rope_constants(self) -> tuple[Tensor, float]:
        """Frequencies [rope/2] and the softmax scale (YaRN: Peng et al., arXiv 2309.00071)."""
        c, d = self.config, self.config["qk_rope_head_dim"]
        base, yarn = c["rope_theta"], c.get("rope_scaling")
        i = torch.arange(d // 2, dtype=torch.float64)
        frequency = base ** (-2 * i / d)
        tau = (c["qk_nope_head_dim"] + d) ** -0.5
        if yarn is None:
            return frequency, tau

        def dimension(rotations: float) -> float:
            return d * math.log(yarn["original_max_position_embeddings"] / (2 * math.pi * rotations)) / (2 * math.log(base))

        low = max(math.floor(dimension(yarn["beta_fast"])), 0)
        high = min(math.ceil(dimension(yarn["beta_slow"])), d - 1)
        ramp = ((i - low) / (high - low if high > low else 0.001)).clamp(0, 1)
        if "rope_no_yarn" not in self.faults:
            frequency = frequency / yarn["factor"] * ramp + frequency * (1 - ramp)
        if yarn["mscale"] != yarn["mscale_all_dim"]:
            raise ValueError("rope_scaling: mscale differs from mscale_all_dim")
        mscale = 0.1 * yarn["mscale_all_dim"] * math.log(yarn["factor"]) + 1
        return frequency, tau if "no_mscale" in self.faults else tau * mscale**2

    def rope(self, x: Tensor, position: Tensor) -> Tensor:
        """Rotates the last axis of x [T][...][rope] by the positions [T]."""
        angle = position.to(torch.float64)[:, None] * self.frequency
        angle = angle.reshape(len(position), *[1] * (x.dim() - 2), -1)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        if "rope_halves" in self.faults:
            a, b = x.chunk(2, -1)
            return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

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

    def softmax_values(self, score: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """score [T][heads][S], value [S][heads or 1][d], mask [T][S]: what each query and head reads, [T][heads][d]."""
        score = score.masked_fill(~mask[:, None], -math.inf)
        top = score.amax(-1)
        total, out = torch.zeros_like(top), 0.0
        for start in range(0, score.shape[-1], SEGMENT):
            part = score[..., start : start + SEGMENT]
            local = part.amax(-1).clamp(min=torch.finfo(part.dtype).min)  # a segment may hold nothing that the query may see
            p = (part - local[..., None]).exp()
            merge = (local - top).exp()
            total = total + merge * p.sum(-1)
            v = value[start : start + SEGMENT].expand(-1, score.shape[1], -1)
            out = out + merge[..., None] * torch.einsum("ths,shd->thd", self.round(p), v)
        return out / total[..., None]

    def attend(self, prefix: str, x: Tensor, position: Tensor, cache: Tensor, mask: Tensor) -> Tensor:
        """Attention of rows x over cache rows [S][latent + rope]."""
        rank = self.config["kv_lora_rank"]
        c, k_rope = cache[:, :rank], cache[:, rank:]
        q_nope, q_rope = self.queries(prefix, x, position)
        key, value = self._kv_b(prefix + "kv_b_proj.weight")
        score = torch.einsum("thd,sd->ths", q_rope, k_rope)
        if self.arithmetic.naive:
            k = self.round(torch.einsum("hdr,sr->shd", key, c))
            v = self.round(torch.einsum("hdr,sr->shd", value, c))
            score = score + torch.einsum("thd,shd->ths", q_nope, k)
            out = self.softmax_values(self.tau * score, v, mask)
        else:
            q = self.round(torch.einsum("thd,hdr->thr", q_nope, key))
            score = score + torch.einsum("thr,sr->ths", q, c)
            z = self.softmax_values(self.tau * score, c[:, None], mask)
            out = torch.einsum("thr,hdr->thd", self.round(z), value)
        return self.linear(prefix + "o_proj.weight", out.flatten(1))

    # ---- Mixture of experts ------------------------------------------------------------------------

    def mlp(self, prefix: str, x: Tensor) -> Tensor:
        gate, up = self.linear(prefix + "gate_proj.weight", x), self.linear(prefix + "up_proj.weight", x)
        return self.linear(prefix + "down_proj.weight", gate * torch.sigmoid(gate) * up)

    def _note_margin(self, score: Tensor, keep: int) -> None:
        if keep < score.shape[-1]:
            ordered = score.sort(-1, descending=True).values
            self.router_margin = min(self.router_margin, float((ordered[:, keep - 1] - ordered[:, keep]).min()))

    def _best(self, score: Tensor, keep: int) -> Tensor:
        """Indices of the `keep` largest, ties to the lowest index."""
        self._note_margin(score, keep)
        return torch.sort(score, dim=-1, descending=True, stable=True).indices[:, :keep]

    def _choose(self, score: Tensor) -> Tensor:
        """Experts [T][k] by the scores that selection uses (biased for noaux_tc)."""
        c = self.config
        groups, method = c.get("n_group") or 1, c["topk_method"]
        if groups > 1 and method != "greedy" and "router_no_groups" not in self.faults:
            grouped = score.unflatten(-1, (groups, -1))
            best = 1 if method == "group_limited_greedy" or "router_group_max" in self.faults else 2
            group_score = grouped.sort(-1, descending=True).values[..., :best].sum(-1)
            allowed = torch.zeros_like(group_score, dtype=torch.bool)
            allowed.scatter_(1, self._best(group_score, c["topk_group"]), True)
            score = grouped.masked_fill(~allowed[..., None], -math.inf).flatten(1)
        return self._best(score, c["num_experts_per_tok"])

    def route(self, prefix: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Experts [T][k] and their weights [T][k]."""
        c = self.config
        logit = self.linear(prefix + "gate.weight", x)
        sigmoid = (c["scoring_func"] == "sigmoid") != ("router_softmax" in self.faults)
        score = torch.sigmoid(logit) if sigmoid else logit.softmax(-1)
        biased = score
        if c["topk_method"] == "noaux_tc" and "router_no_bias" not in self.faults:
            biased = score + self.weight(prefix + "gate.e_score_correction_bias")
        expert = self._choose(biased)
        weight = (biased if "router_biased_weights" in self.faults else score).gather(1, expert)
        if c["norm_topk_prob"] != ("router_no_normalisation" in self.faults) and expert.shape[1] > 1:
            weight = weight / (weight.sum(-1, keepdim=True) + 1e-20)
        return expert, weight if "router_no_factor" in self.faults else weight * c["routed_scaling_factor"]

    def moe(self, prefix: str, x: Tensor) -> Tensor:
        expert, weight = self.route(prefix, x)
        out = torch.zeros_like(x)
        for e in range(self.config["n_routed_experts"]):
            row, slot = (expert == e).nonzero(as_tuple=True)
            if len(row):
                out[row] += weight[row, slot, None] * self.mlp(f"{prefix}experts.{e}.", x[row])
        if self.config.get("n_shared_experts") and "no_shared_expert" not in self.faults:
            factor = self.config["routed_scaling_factor"] if "shared_scaled" in self.faults else 1.0
            out = out + factor * self.mlp(prefix + "shared_experts.", x)
        return out

    # ---- Layers ------------------------------------------------------------------------------------

    def block(self, i: int, x: Tensor, position: Tensor, mask: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows x through decoder layer i, over the cache rows `past` and their own: (output, all cache rows)."""
        prefix, eps = f"model.layers.{i}.", self.config["rms_norm_eps"]
        h = self.norm(x, prefix + "input_layernorm.weight", eps)
        cache = self.latent(prefix + "self_attn.", h, position)
        if past is not None:
            cache = torch.cat([past, cache])
        x = x + self.attend(prefix + "self_attn.", h, position, cache, mask)
        h = self.norm(x, prefix + "post_attention_layernorm.weight", eps)
        ffn = self.moe if self.has(prefix + "mlp.gate.weight") else self.mlp
        return x + ffn(prefix + "mlp.", h), cache

    def run(self, tokens: list[int], mtp_depth: int = 0) -> Result:
        """The main model over a whole sequence, and the MTP chain where the model has one."""
        self.router_margin = math.inf
        token, position = torch.tensor(tokens), torch.arange(len(tokens))
        mask = position[None, :] <= position[:, None] + ("mask_sees_next" in self.faults)
        x = self.weight("model.embed_tokens.weight")[token]
        hidden = []
        for i in range(self.config["num_hidden_layers"]):
            x, _ = self.block(i, x, position, mask)
            hidden.append(x)
        final = self.norm(x, "model.norm.weight", self.config["rms_norm_eps"])
        result = Result(hidden, final, self.linear("lm_head.weight", final))
        if self.config.get("num_nextn_predict_layers"):
            self._mtp(result, token, mtp_depth)
        result.router_margin = self.router_margin
        return result

    def _mtp(self, result: Result, token: Tensor, depth: int) -> None:
        """The one MTP module applied `depth` times, fed with the true tokens; README.md defines slots and caches."""
        layer, eps = self.config["num_hidden_layers"], self.config["rms_norm_eps"]
        prefix, slots = f"model.layers.{layer}.", len(token) - 1
        h = (result.hidden[-1] if "mtp_pre_norm" in self.faults else result.final)[:slots]
        past, see_own = None, torch.empty(slots, 0, dtype=torch.bool)
        see_first = torch.ones(slots, slots).tril().bool()  # depth-1 entries of the chain's slot and before
        for d in range(1, depth + 1):
            chains = len(token) - d  # chain i stands at slot i + d - 1 and is fed with token i + d
            shift = d - ("mtp_same_token" in self.faults)
            parts = [self.norm(self.weight("model.embed_tokens.weight")[token[shift : shift + chains]],
                               prefix + "enorm.weight", eps),
                     self.norm(h[:chains], prefix + "hnorm.weight", eps)]
            if "mtp_concat_order" in self.faults:
                parts.reverse()
            u = self.linear(prefix + "eh_proj.weight", torch.cat(parts, -1))
            if d > 1:
                see_own = torch.cat([see_own[:chains], torch.eye(chains).bool()], 1)
            mask = torch.cat([see_first[:chains], see_own], 1)
            y, past = self.block(layer, u, torch.arange(chains) + d - 1, mask, past)
            name = "model.norm.weight" if "mtp_main_norm" in self.faults else prefix + "shared_head.norm.weight"
            h = self.norm(y, name, eps)
            result.mtp_hidden.append(h)
            result.mtp_logits.append(self.linear("lm_head.weight", h))
