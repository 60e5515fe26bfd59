"""The drafters once more, from the exported files, in plain F32 PyTorch and without the training code: for --check of
export_drafters.py. EAGLE drafts as a decoder does it: one chain, its rows behind those of the true hidden states."""

import json
import os

import torch
import torch.nn.functional as F

import fp8
import safetensors_io
from draft_chain import draft_chain, logits
from drafters import DEPTH, Batch
from export import from_bf16_bits

TOLERANCE = 0.02  # root mean square of the difference over that of the logits; BF16 steps make 0.002 to 0.007


def tensors(path):
    t, out = safetensors_io.read(path), {}
    for name, (dtype, a) in t.items():
        if dtype == "BF16":
            out[name] = from_bf16_bits(a)
        elif dtype == "F8_E4M3":
            out[name] = torch.from_numpy(fp8.dequantise(a, t[name + "_scale_inv"][1]))
    return out


def norm(x, w, eps=1e-6):
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * w


def block(x, w, b):
    return x @ w.t() + b


def medusa(t, c, trunk, g, tokens, s):
    out = []
    for i in range(c["medusa_num_heads"]):
        x = g[s - i]
        x = x + F.silu(block(x, t["%d.0.linear.weight" % i], t["%d.0.linear.bias" % i]))
        out.append(x @ t["%d.1.weight" % i].t())
    return out


def hydra(t, c, trunk, g, tokens, s):
    out = []
    for i in range(c["hydra_num_heads"]):
        x = torch.cat([g[s - i]] + [trunk["model.embed_tokens.weight"][tokens[s - i + j]] for j in range(1, i + 2)])
        x = (block(x, t["%d.0.res_connection.weight" % i], t["%d.0.res_connection.bias" % i])
             + F.silu(block(x, t["%d.0.linear.weight" % i], t["%d.0.linear.bias" % i])))
        out.append(x @ t["%d.1.weight" % i].t())
    return out


def rotate(x, position, theta, halves):
    """x [..., n]: pairs of adjacent elements, or of elements n/2 apart."""
    n = x.shape[-1]
    a = position * theta ** (-torch.arange(n // 2, dtype=torch.float64) * 2 / n)
    z = torch.complex(*((x[..., :n // 2], x[..., n // 2:]) if halves else (x[..., 0::2], x[..., 1::2])))
    z = z * torch.complex(a.cos().float(), a.sin().float())
    return torch.cat([z.real, z.imag], -1) if halves else torch.stack([z.real, z.imag], -1).flatten(-2)


def attend(q, keys, values):
    """q [H][d], keys [n][H][d], values [n][H][e] -> [H e]"""
    p = (torch.einsum("hd,nhd->hn", q, keys) * q.shape[1] ** -0.5).softmax(-1)
    return torch.einsum("hn,nhe->he", p, values).flatten()


def mlp(t, n, x):
    return (F.silu(x @ t[n + "gate_proj.weight"].t()) * (x @ t[n + "up_proj.weight"].t())) @ t[n + "down_proj.weight"].t()


def mla_row(t, c, n, x, position, cache):
    """One row through a dense decoder layer; cache is a list of (key [H][96], value [H][64])."""
    H, nope, rope = c["num_attention_heads"], c["qk_nope_head_dim"], c["qk_rope_head_dim"]
    a, theta = n + "self_attn.", c["rope_theta"]
    h = norm(x, t[n + "input_layernorm.weight"])
    q = norm(t[a + "q_a_proj.weight"] @ h, t[a + "q_a_layernorm.weight"])
    q = (t[a + "q_b_proj.weight"] @ q).view(H, -1)
    q = torch.cat([q[:, :nope], rotate(q[:, nope:], position, theta, False)], -1)
    latent, shared = (t[a + "kv_a_proj_with_mqa.weight"] @ h).split([c["kv_lora_rank"], rope])
    kv = (t[a + "kv_b_proj.weight"] @ norm(latent, t[a + "kv_a_layernorm.weight"])).view(H, -1)
    shared = rotate(shared, position, theta, False).expand(H, rope)
    cache.append((torch.cat([kv[:, :nope], shared], -1), kv[:, nope:]))
    x = x + t[a + "o_proj.weight"] @ attend(q, *(torch.stack(z) for z in zip(*cache)))
    return x + mlp(t, n + "mlp.", norm(x, t[n + "post_attention_layernorm.weight"]))


def parallel(t, c, trunk, stream, s):
    out = []
    for i in range(c["parallel_heads"]):
        cache = []
        for position in range(s - i + 1):
            x = mla_row(t, c, "model.layers.%d." % i, stream[position], position, cache)
        out.append(trunk["lm_head.weight"] @ norm(x, trunk["model.norm.weight"]))
    return out


def eagle(t, c, trunk, g, tokens, s, depth):
    """The chain that ends at row s after `depth` recycled steps."""
    cache, e = [], trunk["model.embed_tokens.weight"]
    for position in range(s - depth + 1):
        x = mla_row(t, c, "layers.0.", t["fc.weight"] @ torch.cat([e[tokens[position + 1]], g[position]]), position, cache)
    for position in range(s - depth + 1, s + 1):
        x = mla_row(t, c, "layers.0.", t["fc.weight"] @ torch.cat([e[tokens[position + 1]], x]), position, cache)
    return trunk["lm_head.weight"] @ x


def llama(t, c, tokens):
    """Logits after the last of the tokens."""
    H, G, theta = c["num_attention_heads"], c["num_key_value_heads"], c["rope_theta"]
    xs = t["model.embed_tokens.weight"][tokens]
    for i in range(c["num_hidden_layers"]):
        n, keys, values, rows = "model.layers.%d." % i, [], [], []
        for position, x in enumerate(xs):
            h = norm(x, t[n + "input_layernorm.weight"])
            q, k, v = ((t[n + "self_attn.%s_proj.weight" % m] @ h).view(-1, c["head_dim"]) for m in "qkv")
            keys.append(rotate(k, position, theta, True).repeat_interleave(H // G, 0))
            values.append(v.repeat_interleave(H // G, 0))
            o = attend(rotate(q, position, theta, True), torch.stack(keys), torch.stack(values))
            x = x + t[n + "self_attn.o_proj.weight"] @ o
            rows.append(x + mlp(t, n + "mlp.", norm(x, t[n + "post_attention_layernorm.weight"])))
        xs = torch.stack(rows)
    return t["lm_head.weight"] @ norm(xs[-1], t["model.norm.weight"])


@torch.no_grad()
def check(model, directory, d, length=64):
    """Compare with what training code makes of the same files, at one row of random tokens. Prints; True if all agree."""
    ids = torch.randint(2, d.c.vocab, (1, length + 1), generator=torch.Generator().manual_seed(3))
    b, tokens, s, good = Batch(d.trunk, ids), ids[0], length - 5, True
    trunk = tensors(os.path.join(model, "model.safetensors"))
    g, stream, row = b.g.float(), b.stream.float(), torch.tensor([s])
    for name in d.names:
        path = os.path.join(directory, name)
        file, = (f for f in os.listdir(path) if f.endswith(".safetensors"))
        t, c = tensors(os.path.join(path, file)), json.load(open(os.path.join(path, "config.json")))
        if name == "eagle":
            theirs = [logits(d.trunk, x[row])[0] for x in draft_chain(d, b.g, b.following, DEPTH)]
            mine = [eagle(t, c, trunk, g, tokens, s, depth) for depth in range(DEPTH)]
        else:
            theirs = [(h @ w.t())[0].float() for h, w in getattr(d, name)(b, row)]
            mine = {"medusa": lambda: medusa(t, c, trunk, g, tokens, s), "hydra": lambda: hydra(t, c, trunk, g, tokens, s),
                    "parallel": lambda: parallel(t, c, trunk, stream, s), "model": lambda: [llama(t, c, tokens[:s + 2])]}[name]()
        error = [float((x - y).norm() / x.norm()) for x, y in zip(mine, theirs)]
        ok = len(mine) == len(theirs) and max(error) < TOLERANCE
        good = good and ok
        print("%-9s relative error of the logits per depth: %s%s" % (name, " ".join("%.4f" % e for e in error), "" if ok else "  FAILED"))
    return good
