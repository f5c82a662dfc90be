"""The small thinker in PyTorch: attention, routed or dense feed-forward blocks.

Projections and experts are multiplied in `Model.compute` (while training `fast_type()`:
bf16 is twice as fast as f32 on a processor with AVX512-BF16, and a hundred times slower
on one without; f32 when measured); the rest is f32.
"""

import dataclasses

import torch
import torch.nn.functional as F

from data import VOCAB


def fast_type():
    """The number type in which this machine multiplies fastest."""
    try:
        flags = open("/proc/cpuinfo").read()
    except OSError:
        flags = ""
    return torch.bfloat16 if "avx512_bf16" in flags or "amx_bf16" in flags else torch.float32


ROWS = 32       # rows of an expert are padded to a multiple of this


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a model; `experts` 0 means a dense block as wide as the active experts."""

    hidden: int = 128
    layers: int = 5
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 32
    experts: int = 64
    top_k: int = 8
    expert_dim: int = 64
    theta: float = 10000.0
    eps: float = 1e-6
    positions: int = 4096       # that the files declare


SECOND = Shape(hidden=256, experts=40, theta=1000000.0, positions=32768)    # of the second stage, further.py


class Dispatch(torch.autograd.Function):
    """[tokens, hidden] -> [tokens * k, hidden] in the order of the experts."""

    @staticmethod
    def forward(ctx, x, token, inverse, top_k):
        ctx.save_for_backward(inverse)
        ctx.top_k = top_k
        return x.index_select(0, token)

    @staticmethod
    def backward(ctx, grad):
        rows = grad.index_select(0, ctx.saved_tensors[0])
        return rows.view(-1, ctx.top_k, grad.shape[1]).sum(1, dtype=torch.float32), None, None, None


class Combine(torch.autograd.Function):
    """The adjoint of `Dispatch`: sums the k rows of every token, in f32."""

    @staticmethod
    def forward(ctx, y, token, inverse, top_k):
        ctx.save_for_backward(token)
        ctx.dtype = y.dtype
        rows = y.index_select(0, inverse)
        return rows.view(-1, top_k, y.shape[1]).sum(1, dtype=torch.float32)

    @staticmethod
    def backward(ctx, grad):
        return grad.to(ctx.dtype).index_select(0, ctx.saved_tensors[0]), None, None, None


def rms_norm(x, weight, eps):
    """x / rms(x) * weight."""
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def rotate(x, cos, sin):
    """Rotary position, halves paired; x is [batch, heads, time, head_dim]."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin


class Layer(torch.nn.Module):
    """Pre-norm attention and a feed-forward block of experts, or a dense one."""

    def __init__(self, shape):
        super().__init__()
        self.shape, s = shape, shape

        def matrix(*size, fan_in, gain=1.0):
            return torch.nn.Parameter(torch.randn(*size) * gain * fan_in ** -0.5)

        small = (2 * s.layers) ** -0.5
        self.norm_in = torch.nn.Parameter(torch.ones(s.hidden))
        self.norm_post = torch.nn.Parameter(torch.ones(s.hidden))
        self.q_norm = torch.nn.Parameter(torch.full((s.head_dim,), 1.7))
        self.k_norm = torch.nn.Parameter(torch.full((s.head_dim,), 1.7))
        self.q = matrix(s.heads * s.head_dim, s.hidden, fan_in=s.hidden)
        self.k = matrix(s.kv_heads * s.head_dim, s.hidden, fan_in=s.hidden)
        self.v = matrix(s.kv_heads * s.head_dim, s.hidden, fan_in=s.hidden)
        self.o = matrix(s.hidden, s.heads * s.head_dim, fan_in=s.heads * s.head_dim, gain=small)
        if s.experts:
            self.router = matrix(s.experts, s.hidden, fan_in=s.hidden)
            # experts are kept as [expert, in, out], gate and up side by side
            self.gate_up = matrix(s.experts, s.hidden, 2 * s.expert_dim, fan_in=s.hidden)
            self.down = matrix(s.experts, s.expert_dim, s.hidden, fan_in=s.expert_dim, gain=small)
        else:
            wide = s.top_k * s.expert_dim
            self.gate_up = matrix(s.hidden, 2 * wide, fan_in=s.hidden)
            self.down = matrix(wide, s.hidden, fan_in=wide, gain=small)

    def attention(self, x, cos, sin, mask, compute):
        s, (b, t, _) = self.shape, x.shape
        x = x.to(compute)
        heads = lambda w, n: F.linear(x, w.to(compute)).view(b, t, n, s.head_dim).transpose(1, 2).float()
        q = rotate(rms_norm(heads(self.q, s.heads), self.q_norm, s.eps), cos, sin)
        k = rotate(rms_norm(heads(self.k, s.kv_heads), self.k_norm, s.eps), cos, sin)
        v = heads(self.v, s.kv_heads)
        repeat = s.heads // s.kv_heads
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return F.linear(y.transpose(1, 2).reshape(b, t, -1).to(compute), self.o.to(compute)).float()

    def dense(self, x, compute):
        gate, up = (x.to(compute) @ self.gate_up.to(compute)).chunk(2, -1)
        return ((F.silu(gate) * up) @ self.down.to(compute)).float()

    def experts(self, x, top_k, resident, compute):
        """Route every token to its top_k experts.

        `resident` (bool [experts]) leaves only those to choose from.  Returns the
        output, the balance loss (k when even) and the choices [tokens, k].
        """
        s = self.shape
        logits = F.linear(x, self.router)
        if resident is not None:
            logits = logits.masked_fill(~resident, float("-inf"))
        probs = logits.softmax(-1)
        weight, chosen = probs.topk(top_k, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        flat = chosen.reshape(-1)
        counts = torch.bincount(flat, minlength=s.experts)
        # every expert's rows are padded to a multiple of ROWS: few distinct matrix
        # sizes, for which bf16 kernels are compiled once; padding has share 0
        padded = (counts + ROWS - 1) // ROWS * ROWS
        ends = padded.cumsum(0)
        size = int(ends[-1])
        order = flat.argsort(stable=True)
        first = (ends - padded) - (counts.cumsum(0) - counts)
        place = torch.arange(order.numel(), device=x.device) + first.index_select(0, flat[order])
        token = order.new_zeros(size).index_copy(0, place, order // top_k)
        inverse = torch.empty_like(order).index_copy(0, order, place)
        share = weight.new_zeros(size).index_copy(0, inverse, weight.reshape(-1)).unsqueeze(1)
        ends = ends.to(torch.int32)
        rows = Dispatch.apply(x.to(compute), token, inverse, top_k)
        gate, up = F.grouped_mm(rows, self.gate_up.to(compute), offs=ends).chunk(2, -1)
        y = F.grouped_mm(F.silu(gate) * up * share.to(compute), self.down.to(compute), offs=ends)
        balance = s.experts * (counts / x.shape[0] * probs.mean(0)).sum()
        return Combine.apply(y, token, inverse, top_k), balance, chosen

    def forward(self, x, cos, sin, mask, top_k, resident, compute):
        s = self.shape
        x = x + self.attention(rms_norm(x, self.norm_in, s.eps), cos, sin, mask, compute)
        flat = rms_norm(x, self.norm_post, s.eps).view(-1, s.hidden)
        if s.experts:
            y, balance, chosen = self.experts(flat, top_k, resident, compute)
        else:
            y, balance, chosen = self.dense(flat, compute), flat.new_zeros(()), None
        return x + y.view_as(x), balance, chosen


@torch.no_grad()
def start_attention(model):
    """Give the attention a useful start (in the spirit of "mimetic initialisation").

    A constant direction in all embeddings lets two heads of layer 0 look one and
    two positions back; they write what they see into subspaces of their own, and
    a pair of heads in layers 1 and 2 compares the present token with them, which
    finds what followed the same token before.  Copying from the prompt is then
    learned much sooner.
    """
    s = model.shape
    basis = torch.linalg.qr(torch.randn(s.hidden, s.hidden))[0]
    constant, token = basis[:, 0], basis[:, 1:1 + s.head_dim].t()
    back = [basis[:, 33:33 + s.head_dim], basis[:, 65:65 + s.head_dim]]
    head = lambda h: slice(h * s.head_dim, (h + 1) * s.head_dim)
    half = s.head_dim // 2
    freq = s.theta ** -(torch.arange(half) / half)
    fast = (torch.arange(half) < 4).float()                 # pairs that tell neighbours apart
    slow = torch.cat((1 - fast, 1 - fast)).unsqueeze(1)     # pairs that hardly turn
    model.embed += 0.3 * s.hidden ** 0.5 * constant
    first = model.layers[0]
    key = torch.cat((fast, torch.zeros(half)))
    first.k[head(0)] = 0.2 * torch.outer(key, constant) + 0.1 * first.k[head(0)]
    first.v[head(0)] = token
    for h, distance in enumerate((1, 2)):
        query = torch.cat((fast * (distance * freq).cos(), -fast * (distance * freq).sin()))
        first.q[head(h)] = 0.2 * torch.outer(query, constant) + 0.1 * first.q[head(h)]
        first.o[:, head(h)] = back[h]
    for layer in model.layers[1:3]:
        layer.k[head(0)] = slow * (back[0] + back[1]).t() + 0.1 * layer.k[head(0)]
        for h in (0, 1):
            layer.q[head(h)] = slow * token + 0.1 * layer.q[head(h)]
        layer.o[:, head(0)] = 0.6 * layer.v[head(0)].t()


class Model(torch.nn.Module):
    """Decoder; forward gives the last hidden states, the balance loss and the choices."""

    def __init__(self, shape=Shape()):
        super().__init__()
        self.shape, self.compute = shape, torch.float32
        self.embed = torch.nn.Parameter(torch.randn(VOCAB, shape.hidden) * 0.6)
        self.layers = torch.nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = torch.nn.Parameter(torch.ones(shape.hidden))
        self.head = torch.nn.Parameter(self.embed.detach() * 0.06)
        start_attention(self)

    def forward(self, ids, pos, mask, top_k=None, resident=None):
        """ids, pos [rows, time]; mask [rows, 1, time, time]; resident bool [layers, experts].

        Returns hidden [rows, time, hidden], balance (mean of the layers) and the
        chosen experts, a list of [rows * time, k] for each layer.
        """
        return self.from_rows(F.embedding(ids, self.embed), pos, mask, top_k, resident)

    def from_rows(self, x, pos, mask, top_k=None, resident=None):
        """The same for rows [rows, time, hidden] that stand where embeddings would."""
        s, top_k = self.shape, top_k or self.shape.top_k
        freq = s.theta ** -(torch.arange(0, s.head_dim, 2, dtype=torch.float32, device=x.device) / s.head_dim)
        angle = pos.unsqueeze(1).unsqueeze(-1).float() * freq
        angle = torch.cat((angle, angle), -1)
        cos, sin = angle.cos(), angle.sin()
        balance, chosen = 0.0, []
        for n, layer in enumerate(self.layers):
            here = None if resident is None else resident[n]
            x, b, c = layer(x, cos, sin, mask, top_k, here, self.compute)
            balance = balance + b / s.layers
            chosen.append(c)
        return rms_norm(x, self.norm, s.eps), balance, chosen


def causal_mask(doc):
    """[rows, 1, T, T]: attend to earlier tokens of the same document."""
    t = doc.shape[1]
    lower = torch.ones(t, t, dtype=torch.bool, device=doc.device).tril()
    return ((doc.unsqueeze(1) == doc.unsqueeze(2)) & lower).unsqueeze(1)
