"""Tricky graphs over the last dimension: heads, halves, spectra, tied weights and experts."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .case import case, normal, tokens


class TiedEmbeddings(nn.Module):
    """One matrix three times: looked up, as a head's weight, and in `F.linear`; another is the encoder's transpose."""

    def __init__(self, vocab=29, dim=20):
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim)
        self.fc1 = nn.Linear(dim, 34, bias=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocab)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        x = self.embedding(ids)
        h = torch.relu(self.fc1(x))
        x = self.norm(x + F.linear(h, self.fc1.weight.t()))
        return self.head(x) + F.linear(x.mean(1, keepdim=True), self.embedding.weight)


class SwappedHeads(nn.Module):
    """Queries and keys with the heads inside (width, head), values with the heads outside (head, width)."""

    def __init__(self, dim=30, heads=3):
        super().__init__()
        self.heads = heads
        self.embed = nn.Linear(11, dim)
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, 8)

    def forward(self, x):
        x = self.embed(x)
        B, T, C = x.shape
        q = self.q(x).view(B, T, C // self.heads, self.heads).permute(0, 3, 1, 2)
        k = self.k(x).view(B, T, C // self.heads, self.heads).permute(0, 3, 2, 1)
        v = self.v(x).view(B, T, self.heads, C // self.heads).permute(0, 2, 1, 3)
        y = torch.softmax(q @ k / (C // self.heads) ** 0.5, dim=-1) @ v
        return self.out(y.permute(0, 2, 3, 1).reshape(B, T, C))


class TorchAttention(nn.Module):
    def __init__(self, dim=28, heads=4):
        super().__init__()
        self.embed = nn.Linear(9, dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.out = nn.Linear(dim, 6)

    def forward(self, x):
        x = self.embed(x)
        y, weights = self.attention(x, x, x)
        return self.out(x + y), weights


class RotateAdd(nn.Module):
    def __init__(self, h=11):
        super().__init__()
        self.h = h
        self.fc1 = nn.Linear(10, 2 * h)
        self.fc2 = nn.Linear(2 * h, 5)

    def forward(self, x):
        y, h = self.fc1(x), self.h
        y = y + torch.cat([-y[..., h:], y[..., :h]], -1)
        return self.fc2(torch.tanh(y))


class FourierMix(nn.Module):
    """FNet: a Fourier transform over tokens and features in place of attention."""

    def __init__(self, dim=22):
        super().__init__()
        self.embed = nn.Linear(9, dim)
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 34)
        self.fc2 = nn.Linear(34, dim)
        self.spectrum = nn.Linear(dim // 2 + 1, 6)

    def forward(self, x):
        x = self.embed(x)
        x = self.norm(x + torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real)
        x = x + self.fc2(F.gelu(self.fc1(x)))
        return self.spectrum(torch.fft.rfft(x, dim=-1).abs())


class Expert(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)

    def forward(self, x):
        return self.down(F.silu(self.up(x)))


class DenseExperts(nn.Module):
    """Every expert runs on every token; the router weighs them. The experts' hidden widths differ."""

    def __init__(self, dim=20, hidden=(14, 26, 18)):
        super().__init__()
        self.embed = nn.Linear(9, dim)
        self.router = nn.Linear(dim, len(hidden))
        self.experts = nn.ModuleList([Expert(dim, h) for h in hidden])
        self.out = nn.Linear(dim, 6)

    def forward(self, x):
        x = self.embed(x)
        gates = self.router(x).softmax(dim=-1)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=-2)
        x = x + (gates.unsqueeze(-1) * outputs).sum(dim=-2)
        return self.out(x)


class StackedExperts(nn.Module):
    """All experts in two bare parameters, (expert, in, out)."""

    def __init__(self, experts=3, dim=20, hidden=26):
        super().__init__()
        self.weight_up = nn.Parameter(torch.empty(experts, dim, hidden))
        self.weight_down = nn.Parameter(torch.empty(experts, hidden, dim))
        self.embed = nn.Linear(9, dim)
        self.router = nn.Linear(dim, experts)
        self.out = nn.Linear(dim, 6)

    def forward(self, x):
        x = self.embed(x)
        gates = self.router(x).softmax(dim=-1)
        h = F.gelu(torch.einsum("btd,edh->bteh", x, self.weight_up))
        x = x + torch.einsum("bteh,ehd,bte->btd", h, self.weight_down, gates)
        return self.out(x)


class TopOneExperts(nn.Module):
    """Switch routing: a loop over the experts that some token has reached."""

    def __init__(self, dim=20, hidden=26, experts=4):
        super().__init__()
        self.embed = nn.Linear(9, dim)
        self.router = nn.Linear(dim, experts, bias=False)
        self.experts = nn.ModuleList([Expert(dim, hidden) for _ in range(experts)])
        self.out = nn.Linear(dim, 6)

    def forward(self, x):
        x = self.embed(x)
        flat = x.view(-1, x.shape[-1])
        weight, chosen = self.router(flat).softmax(dim=-1).max(dim=-1)
        y = torch.zeros_like(flat)
        for i in chosen.unique().tolist():
            (token,) = torch.where(chosen == i)
            y.index_add_(0, token, self.experts[i](flat[token]) * weight[token, None])
        return self.out(x + y.view_as(x))


TRICKY = (
    case("tied_embeddings", TiedEmbeddings, tokens(29, 2, 9)),
    case("swapped_heads", SwappedHeads, normal(2, 7, 11)),
    case("torch_attention", TorchAttention, normal(2, 7, 9)),
    case("rotate_add", RotateAdd, normal(4, 10)),
    case("fft_features", FourierMix, normal(2, 8, 9)),
    case("moe_dense", DenseExperts, normal(2, 7, 9)),
    case("moe_stacked", StackedExperts, normal(2, 7, 9)),
    case("moe_top1", TopOneExperts, normal(2, 12, 9)),
)
