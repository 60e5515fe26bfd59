"""Differentiable operations of a DeepSeek-V3 layer, on kernels.c where a compiler is at hand and in plain PyTorch elsewhere."""

import ctypes
import hashlib
import os
import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F

BF16 = torch.bfloat16
_HERE = os.path.dirname(os.path.abspath(__file__))


def _load_library():
    """Compile kernels.c for this machine, once per content; None if that fails."""
    text = b"".join(open(os.path.join(_HERE, f), "rb").read() for f in ("kernels.c", "attention.h"))
    path = os.path.join(tempfile.gettempdir(), "octavo-train-%d-%s.so" % (os.getuid(), hashlib.sha256(text).hexdigest()[:16]))
    if not os.path.exists(path):
        temporary = "%s.%d" % (path, os.getpid())
        command = [os.environ.get("CC", "cc"), "-std=gnu11", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-shared",
                   "-fPIC", "-o", temporary, os.path.join(_HERE, "kernels.c"), "-lm"]
        try:
            subprocess.run(command, check=True, stderr=subprocess.PIPE)
        except (OSError, subprocess.CalledProcessError) as e:
            print("kernels.c not used:", e, file=sys.stderr)
            return None
        os.replace(temporary, path)
    return ctypes.CDLL(path)


def reference_precision():
    """From here on compute in F32 and plain PyTorch: for reference values, not for training."""
    global LIB, BF16
    LIB, BF16 = None, torch.float32


LIB = None if os.environ.get("OCTAVO_TRAIN_NO_C") else _load_library()


def _p(t):
    return ctypes.c_void_p(t.data_ptr()) if t is not None else None


_L, _F = ctypes.c_long, ctypes.c_float


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        x = x.contiguous()
        T, D = x.shape
        y, r = torch.empty_like(x), torch.empty(T)
        LIB.rms_forward(_p(x), _p(w), _p(y), _p(r), _L(T), _L(D))
        ctx.save_for_backward(x, w, r)
        return y

    @staticmethod
    def backward(ctx, g):
        x, w, r = ctx.saved_tensors
        T, D = x.shape
        g, dx, dw = g.contiguous(), torch.empty_like(x), torch.empty(D)
        LIB.rms_backward(_p(x), _p(w), _p(r), _p(g), _p(dx), _p(dw), _L(T), _L(D))
        return dx, dw.to(BF16)


def rms_norm(x, w):
    if LIB:
        return _RmsNorm.apply(x, w)
    f = x.float()
    return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + 1e-6) * w.float()).to(BF16)


class _Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gu):
        T, I2 = gu.shape
        y = torch.empty(T, I2 // 2, dtype=BF16)
        LIB.swiglu_forward(_p(gu), _p(y), _L(T), _L(I2 // 2))
        ctx.save_for_backward(gu)
        return y

    @staticmethod
    def backward(ctx, g):
        gu, = ctx.saved_tensors
        g, d = g.contiguous(), torch.empty_like(gu)
        LIB.swiglu_backward(_p(gu), _p(g), _p(d), _L(gu.shape[0]), _L(gu.shape[1] // 2))
        return d


def swiglu(gu):
    """gu [T][2I] = gate | up."""
    if LIB:
        return _Swiglu.apply(gu)
    gate, up = gu.float().chunk(2, -1)
    return (F.silu(gate) * up).to(BF16)


class _Linear(torch.autograd.Function):
    """F.linear whose backward makes the gradient contiguous once instead of in every product."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return F.linear(x, w)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        g = g.contiguous()
        return g @ w if ctx.needs_input_grad[0] else None, g.t() @ x


linear = _Linear.apply


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, ids, w):
        ctx.save_for_backward(ids)
        ctx.rows = w.shape[0]
        return F.embedding(ids, w)

    @staticmethod
    def backward(ctx, g):
        ids, = ctx.saved_tensors
        g = g.contiguous()
        dw = torch.zeros(ctx.rows, g.shape[1])  # BF16 sums would lose the frequent tokens
        if LIB:
            LIB.embedding_backward(_p(ids), _p(g), _p(dw), _L(len(ids)), _L(g.shape[1]))
        else:
            dw.index_add_(0, ids, g.float())
        return None, dw.to(BF16)


embedding = _Embedding.apply


class _Mla(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, kv, kpe, cs, B, S, H, scale):
        q, kv, kpe = q.contiguous(), kv.contiguous(), kpe.contiguous()
        o, lse = torch.empty(B * S, H * 64, dtype=BF16), torch.empty(B, H, S)
        LIB.mla_forward(_p(q), _p(kv), _p(kpe), _p(o), _p(lse), _p(cs), _L(B), _L(S), _L(H), _F(scale))
        ctx.save_for_backward(q, kv, kpe, o, lse, cs)
        ctx.dims = (B, S, H, scale)
        return o

    @staticmethod
    def backward(ctx, g):
        q, kv, kpe, o, lse, cs = ctx.saved_tensors
        B, S, H, scale = ctx.dims
        g = g.contiguous()
        dq, dkv, dk = torch.empty_like(q), torch.empty_like(kv), torch.empty_like(kpe)
        LIB.mla_backward(_p(q), _p(kv), _p(kpe), _p(o), _p(lse), _p(g), _p(dq), _p(dkv), _p(dk), _p(cs), _L(B), _L(S), _L(H),
                         _F(scale))
        return dq, dkv, dk, None, None, None, None, None


def rotate_pairs(x, cs):
    """x [..., 2n] rotated by cs [..., 2n] = (cos, sin) pairs, adjacent elements forming a pair."""
    a, b = x[..., 0::2], x[..., 1::2]
    c, s = cs[..., 0::2], cs[..., 1::2]
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)


def mla(q, kv, kpe, cs, B, S, H, scale):
    """Causal attention; q [BS][H*96], kv [BS][H*128] (key | value), kpe [BS][32] unrotated, cs [>=S][32] -> [BS][H*64]."""
    if LIB and S % 32 == 0 and S <= 1024:
        return _Mla.apply(q, kv, kpe, cs, B, S, H, scale)
    q, kv, kpe, cs = q.view(B, S, H, 96).float(), kv.view(B, S, H, 128).float(), kpe.reshape(B, S, 32).float(), cs[:S]
    q = torch.cat([q[..., :64], rotate_pairs(q[..., 64:], cs[:, None])], -1)
    k = torch.cat([kv[..., :64], rotate_pairs(kpe, cs)[:, :, None].expand(B, S, H, 32)], -1)
    s = torch.einsum("bshd,bthd->bhst", q, k) * scale
    s = s.masked_fill(torch.ones(S, S).triu(1).bool(), -1e30)
    return torch.einsum("bhst,bthd->bshd", s.softmax(-1), kv[..., 64:]).reshape(B * S, H * 64).to(BF16)


class _Experts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, idx, w1, w2):
        T, D = x.shape
        K, E, I2 = idx.shape[1], w1.shape[0], w1.shape[1]
        x, weight = x.contiguous(), weight.contiguous()
        flat = idx.reshape(-1)
        count = torch.bincount(flat, minlength=E)
        # oneDNN generates code per shape: padding the row counts keeps the number of shapes small.
        quantum = 256 if T * K >= 8192 else 32
        padded = (count + quantum - 1) // quantum * quantum
        start = torch.cumsum(padded, 0) - padded
        order = torch.argsort(flat, stable=True)
        slot = torch.empty(T * K, dtype=torch.int32)
        slot[order] = (torch.arange(T * K) + (start - (torch.cumsum(count, 0) - count))[flat[order]]).to(torch.int32)
        runs = [(e, s, s + n, s + p) for e, (s, n, p) in enumerate(zip(start.tolist(), count.tolist(), padded.tolist())) if n]
        rows = int(padded.sum())
        xs, gu = torch.empty(rows, D, dtype=BF16), torch.empty(rows, I2, dtype=BF16)
        act, y = torch.empty(rows, I2 // 2, dtype=BF16), torch.empty(rows, D, dtype=BF16)
        LIB.gather(_p(x), _p(slot), _p(xs), _L(T), _L(K), _L(D))
        for e, s, end, stop in runs:
            xs[end:stop].zero_()
            torch.mm(xs[s:stop], w1[e].t(), out=gu[s:stop])
        LIB.swiglu_forward(_p(gu), _p(act), _L(rows), _L(I2 // 2))
        for e, s, end, stop in runs:
            torch.mm(act[s:stop], w2[e].t(), out=y[s:stop])
        o = torch.empty(T, D, dtype=BF16)
        LIB.combine(_p(y), _p(weight), _p(slot), _p(o), _L(T), _L(K), _L(D))
        ctx.save_for_backward(xs, weight, slot, w1, w2, gu, act, y)
        ctx.runs = runs
        return o

    @staticmethod
    def backward(ctx, g):
        xs, weight, slot, w1, w2, gu, act, y = ctx.saved_tensors
        (T, K), (rows, D), I2 = weight.shape, xs.shape, w1.shape[1]
        g = g.contiguous()
        dy, dweight = torch.empty_like(y), torch.empty_like(weight)
        for e, s, end, stop in ctx.runs:
            dy[end:stop].zero_()
        LIB.combine_backward(_p(y), _p(weight), _p(slot), _p(g), _p(dy), _p(dweight), _L(T), _L(K), _L(D))
        dact, dgu, dxs = torch.empty_like(act), torch.empty_like(gu), torch.empty_like(xs)
        dw1, dw2 = torch.zeros_like(w1), torch.zeros_like(w2)
        for e, s, end, stop in ctx.runs:
            torch.mm(dy[s:stop], w2[e], out=dact[s:stop])
            torch.mm(dy[s:stop].t(), act[s:stop], out=dw2[e])
        LIB.swiglu_backward(_p(gu), _p(dact), _p(dgu), _L(rows), _L(I2 // 2))
        for e, s, end, stop in ctx.runs:
            torch.mm(dgu[s:stop], w1[e], out=dxs[s:stop])
            torch.mm(dgu[s:stop].t(), xs[s:stop], out=dw1[e])
        dx = torch.empty(T, D, dtype=BF16)
        LIB.gather_backward(_p(dxs), _p(slot), _p(dx), _L(T), _L(K), _L(D))
        return dx, dweight, None, dw1, dw2


def experts(x, weight, idx, w1, w2):
    """Routed experts: x [T][D], weight and idx [T][K], w1 [E][2I][D] = gate | up, w2 [E][D][I] -> [T][D]."""
    if LIB:
        return _Experts.apply(x, weight, idx, w1, w2)
    out = torch.zeros(x.shape)
    for e in range(w1.shape[0]):
        t, k = (idx == e).nonzero(as_tuple=True)
        out = out.index_add(0, t, weight[t, k, None] * F.linear(swiglu(F.linear(x[t], w1[e])), w2[e]).float())
    return out.to(BF16)


class _HeadLoss(torch.autograd.Function):
    """Mean cross entropy of h @ W^T, in slices of rows: the logits of a whole batch are never held. Gradients are those of
    weight * loss and are computed in the forward pass."""

    @staticmethod
    def forward(ctx, h, w, y, weight, train):
        T, V = h.shape[0], w.shape[0]
        n = int((y >= 0).sum())
        h, w = h.contiguous(), w.contiguous()
        loss, rows = torch.empty(T), 1024
        wt = w.t().contiguous()
        logits = torch.empty(rows, V, dtype=BF16)
        if train:
            dh, dw = torch.empty_like(h), torch.zeros(V, h.shape[1])
        for i in range(0, T, rows):
            m = min(rows, T - i)
            part = logits[:m]
            torch.mm(h[i:i + m], wt, out=part)
            LIB.cross_entropy(_p(part), _p(y[i:i + m]), _p(loss[i:i + m]), _F(weight / n), _L(int(train)), _L(m), _L(V))
            if train:
                torch.mm(part, w, out=dh[i:i + m])
                dw += part.t() @ h[i:i + m]
        if train:
            ctx.save_for_backward(dh, dw.to(BF16))
        return loss.sum() / n

    @staticmethod
    def backward(ctx, _):
        dh, dw = ctx.saved_tensors
        return dh, dw, None, None, None


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, s):
        ctx.s = s
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.s, None


def head_loss(h, w, y, weight=1.0, train=True):
    """The mean loss over targets y >= 0; its gradient is multiplied by weight."""
    y = y.contiguous()
    if LIB:
        return _HeadLoss.apply(h, w, y, weight, train)
    return _Scale.apply(F.cross_entropy(F.linear(h, w).float(), y, ignore_index=-1), weight)


class _DistilLoss(torch.autograd.Function):
    """Mean of -sum law * log softmax(h @ W^T), in slices of rows; as _HeadLoss. w is not trained if it needs no gradient."""

    @staticmethod
    def forward(ctx, h, w, law, weight, train):
        T, V = law.shape
        h, rows = h.contiguous(), 1024
        loss, wt, logits = torch.empty(T), w.t().contiguous(), torch.empty(min(rows, T), V, dtype=BF16)
        dw = torch.zeros(V, h.shape[1]) if train and ctx.needs_input_grad[1] else None
        dh = torch.empty_like(h) if train else None
        for i in range(0, T, rows):
            m = min(rows, T - i)
            part = logits[:m]
            torch.mm(h[i:i + m], wt, out=part)
            LIB.distillation(_p(part), _p(law[i:i + m]), _p(loss[i:i + m]), _F(weight / T), _L(int(train)), _L(m), _L(V))
            if train:
                torch.mm(part, w, out=dh[i:i + m])
            if dw is not None:
                dw += part.t() @ h[i:i + m]
        if train:
            ctx.save_for_backward(dh, None if dw is None else dw.to(BF16))
        return loss.mean()

    @staticmethod
    def backward(ctx, _):
        dh, dw = ctx.saved_tensors
        return dh, dw, None, None, None


def distil_loss(h, w, law, weight=1.0, train=True):
    """h [T][D], w [V][D], law [T][V] BF16: the mean cross entropy against the law; its gradient is multiplied by weight."""
    if LIB:
        return _DistilLoss.apply(h, w, law, weight, train)
    return _Scale.apply(-(law.float() * F.linear(h, w).float().log_softmax(-1)).sum(-1).mean(), weight)
