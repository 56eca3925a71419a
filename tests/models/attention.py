"""Attention in the forms that language and vision models give it, and what stands in for it: each elastic in its heads.

B batch, T tokens, C features, H heads, D head width, R query heads for each key-value head.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .case import case, normal, tokens


class HeadsOutside(nn.Module):
    """Fused as (h 3 d): each head has its query, key and value side by side, as in GPT-NeoX and BLOOM."""

    def __init__(self, dim=24, heads=3):
        super().__init__()
        self.heads, self.head_size = heads, dim // heads
        self.embed = nn.Linear(7, dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.dense = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, 5)

    def forward(self, x):
        x = self.embed(x)
        qkv = self.query_key_value(x).view((*x.shape[:2], self.heads, 3 * self.head_size)).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.out(x + self.dense(y.reshape((*x.shape[:2], -1))))


class GroupsOutside(nn.Module):
    """Fused as (kv (rep + 2) d): each key-value head stands behind the queries that look at it, as in Falcon."""

    def __init__(self, dim=32, heads=8, kv_heads=2):
        super().__init__()
        self.heads, self.kv, self.rep, self.d = heads, kv_heads, heads // kv_heads, dim // heads
        self.embed = nn.Embedding(31, dim)
        self.qkv = nn.Linear(dim, (heads + 2 * kv_heads) * self.d, bias=False)
        self.dense = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, 31)

    def forward(self, ids):
        x = self.embed(ids)
        b, t, _ = x.shape
        qkv = self.qkv(x).view(b, t, self.kv, self.rep + 2, self.d)
        q, k, v = qkv[:, :, :, :-2], qkv[:, :, :, -2:-1], qkv[:, :, :, -1:]
        k, v = k.expand(q.shape), v.expand(q.shape)
        q, k, v = (part.flatten(2, 3).transpose(1, 2) for part in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(x + self.dense(y.transpose(1, 2).flatten(2)))


class Cross(nn.Module):
    """Queries from one stream, fused keys and values (2 h d) from another of another width."""

    def __init__(self, dim=20, memory=28, heads=4, head=6):
        super().__init__()
        self.heads, self.scale = heads, head**-0.5
        self.left, self.right = nn.Linear(5, dim), nn.Linear(9, memory)
        self.q = nn.Linear(dim, heads * head)
        self.kv = nn.Linear(memory, 2 * heads * head)
        self.proj = nn.Linear(heads * head, dim)
        self.out = nn.Linear(dim, 3)

    def forward(self, x, y):
        x, y = self.left(x), torch.tanh(self.right(y))
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(y).view(y.shape[0], y.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT * self.scale).softmax(-1)
        return self.out(x + self.proj((weights @ v).transpose(1, 2).flatten(2)))


class Biased(nn.Module):
    """Self-attention with three projections; `bias` is added to the scores, (H, T, T) or less."""

    def __init__(self, dim=24, heads=4, bias=None):
        super().__init__()
        self.heads, self.head = heads, dim // heads
        self.embed = nn.Linear(7, dim)
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.bias = bias(heads)
        self.proj = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, 5)

    def forward(self, x):
        x = self.embed(x)
        q, k, v = (f(x).view(*x.shape[:2], self.heads, self.head).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = self.bias(q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.out(x + self.proj(y.transpose(1, 2).reshape(*x.shape[:2], self.heads * self.head)))


class Relative(nn.Module):
    """A table of distances, one row for each, one column for each head, as in T5."""

    def __init__(self, heads, reach=4):
        super().__init__()
        self.reach, self.table = reach, nn.Embedding(2 * reach + 1, heads)

    def forward(self, scores):
        t = torch.arange(scores.shape[-1], device=scores.device)
        distance = (t[None] - t[:, None]).clamp(-self.reach, self.reach) + self.reach
        return scores + self.table(distance).permute(2, 0, 1).unsqueeze(0)


class ALiBi(nn.Module):
    """A slope for each head, in a buffer; distances are punished in proportion."""

    def __init__(self, heads):
        super().__init__()
        self.register_buffer("slopes", 2.0 ** -torch.arange(1, heads + 1))

    def forward(self, scores):
        t = torch.arange(scores.shape[-1], device=scores.device)
        return scores - self.slopes[:, None, None] * (t[None] - t[:, None]).abs()


class TalkingHeads(nn.Module):
    """Scores are mixed over heads before the softmax, and weights behind it: each mix is a square matrix."""

    def __init__(self, heads):
        super().__init__()
        self.before, self.after = nn.Linear(heads, heads, bias=False), nn.Linear(heads, heads)

    def forward(self, scores):
        weights = self.before(scores.permute(0, 2, 3, 1)).softmax(dim=2)
        return self.after(weights).permute(0, 3, 1, 2)


class Temperature(nn.Module):
    """A learned scale for each head, over normalised scores, as in Swin 2."""

    def __init__(self, heads):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, scores):
        return F.normalize(scores, dim=-1) * self.scale.clamp(max=4).exp()


class Tokens(nn.Module):
    """A class token, a distillation token and registers before the patches, as in DeiT: two heads, averaged."""

    def __init__(self, dim=22, hidden=34):
        super().__init__()
        self.embed = nn.Conv2d(3, dim, kernel_size=4, stride=4)
        self.cls_token, self.dist_token = (nn.Parameter(torch.zeros(1, 1, dim)) for _ in range(2))
        self.registers = nn.Parameter(torch.zeros(1, 3, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 6, dim))
        self.norm, self.mix = nn.LayerNorm(dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.head, self.head_dist = nn.Linear(dim, 5), nn.Linear(dim, 5)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        both = (self.cls_token.expand(x.shape[0], -1, -1), self.dist_token.expand(x.shape[0], -1, -1))
        x = torch.cat((*both, x), dim=1) + self.pos_embed
        x = torch.cat((x[:, :2], self.registers.expand(x.shape[0], -1, -1), x[:, 2:]), dim=1)
        h = self.norm(x)
        x = x + (h @ h.mT).softmax(-1) @ self.mix(h)
        x = x + self.down(F.gelu(self.up(x)))
        return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2


class LinearAttention(nn.Module):
    """Keys and values are summed into one (D, D) matrix for each head, and queries read it: no T x T scores."""

    def __init__(self, dim=24, heads=3):
        super().__init__()
        self.heads = heads
        self.embed = nn.Linear(7, dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, 5)

    def forward(self, x):
        x = self.embed(x)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (q, k, v))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        state = torch.einsum("bthd,bthe->bhde", k, v)
        total = torch.einsum("bthd,bhd->bth", q, k.sum(dim=1))
        y = torch.einsum("bthd,bhde->bthe", q, state) / total.unsqueeze(-1)
        return self.out(x + self.proj(y.flatten(2)))


class SelectiveScan(nn.Module):
    """Mamba's mixer as a loop: an inner width, a state for each of its channels, and a narrow step projection."""

    def __init__(self, dim=16, inner=28, state=6, rank=5, kernel=4):
        super().__init__()
        self.inner, self.state, self.rank = inner, state, rank
        self.embed = nn.Linear(7, dim)
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, kernel, groups=inner, padding=kernel - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.ones(inner, state))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)
        self.out = nn.Linear(dim, 5)

    def forward(self, x):
        residual = self.embed(x)
        b, t, _ = residual.shape
        x, z = self.in_proj(residual).transpose(1, 2).chunk(2, dim=1)
        x = F.silu(self.conv1d(x)[..., :t])
        dt, B, C = torch.split(self.x_proj(x.transpose(1, 2)), [self.rank, self.state, self.state], dim=-1)
        dt = F.softplus(self.dt_proj(dt)).transpose(1, 2)
        decay = torch.exp(-torch.exp(self.A_log)[None, :, None, :] * dt[..., None])
        drive = dt[..., None] * B[:, None] * x[..., None]
        h = torch.zeros(b, self.inner, self.state, dtype=x.dtype, device=x.device)
        ys = []
        for i in range(t):
            h = decay[:, :, i] * h + drive[:, :, i]
            ys.append(torch.matmul(h, C[:, i, :, None])[..., 0])
        y = torch.stack(ys, dim=-1) + x * self.D[None, :, None]
        return self.out(residual + self.out_proj((y * F.silu(z)).transpose(1, 2)))


CASES = (
    case("attention_h3d", HeadsOutside, normal(2, 6, 7)),
    case("attention_kv_rep_2_d", GroupsOutside, tokens(31, 2, 6)),
    case("attention_cross", Cross, normal(2, 6, 5), normal(2, 8, 9)),
    case("attention_relative", Biased, normal(2, 6, 7), bias=Relative),
    case("attention_alibi", Biased, normal(2, 6, 7), bias=ALiBi),
    case("attention_talking", Biased, normal(2, 6, 7), bias=TalkingHeads),
    case("attention_temperature", Biased, normal(2, 6, 7), bias=Temperature),
    case("attention_linear", LinearAttention, normal(2, 6, 7)),
    case("tokens_before_patches", Tokens, normal(2, 3, 8, 8)),
    case("selective_scan", SelectiveScan, normal(2, 6, 7)),
)
