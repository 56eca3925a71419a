"""The pieces of random models: each is written as a user would write it, literal sizes and all."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Lambda(nn.Module):
    """A forward with sizes that no attribute carries."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Dense(nn.Module):
    """Concatenates its input and what its body makes of it."""

    def __init__(self, body: nn.Module, dim: int):
        super().__init__()
        self.body, self.dim = body, dim

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], dim=self.dim)


class Twice(nn.Module):
    """One block, used two times."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(torch.tanh(self.body(x)))


class Gate(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=self.dim)
        return a * torch.sigmoid(b)


class Gamma(nn.Module):
    """A bare parameter along one dimension."""

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(size))
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.view([-1 if d == self.dim else 1 for d in range(x.dim())])


class Squeeze(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, c: int, r: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(c, r), nn.Linear(r, c)

    def forward(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3))))))
        return x * s[:, :, None, None]


class Shuffle(nn.Module):
    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class Attention(nn.Module):
    """Self-attention; `layout` is how the fused projection is laid out, or 'apart' for three projections."""

    def __init__(self, c: int, heads: int, d: int, layout: str):
        super().__init__()
        self.heads, self.d, self.layout = heads, d, layout
        if layout == "apart":
            self.q, self.k, self.v = (nn.Linear(c, heads * d) for _ in range(3))
        else:
            self.qkv = nn.Linear(c, 3 * heads * d)
        self.proj = nn.Linear(heads * d, c)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        if self.layout == "3hd":
            q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.d).permute(2, 0, 3, 1, 4)
        elif self.layout == "hd3":
            q, k, v = self.qkv(x).view(b, n, self.heads, self.d, 3).transpose(1, 2).unbind(-1)
        elif self.layout == "h3d":
            q, k, v = self.qkv(x).view(b, n, self.heads, 3 * self.d).transpose(1, 2).split(self.d, dim=-1)
        else:
            q, k, v = (p(x).view(b, n, self.heads, -1).transpose(1, 2) for p in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(b, n, self.heads * v.shape[-1]))


class Tokens(nn.Module):
    """Puts learned tokens in front of a sequence."""

    def __init__(self, n: int, c: int):
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(1, n, c))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.tokens.expand(x.shape[0], -1, -1), x], dim=1)


def swap_parts(at: int, dim: int) -> Callable[[Tensor], Tensor]:
    """Two parts of literal sizes change places."""

    def function(x: Tensor) -> Tensor:
        first, second = x.narrow(dim, 0, at), x.narrow(dim, at, x.shape[dim] - at)
        return torch.cat([second, first.tanh()], dim=dim)

    return function


def regroup(a: int, b: int) -> Callable[[Tensor], Tensor]:
    """Vectors as (a, b) matrices of literal sizes, transposed and flattened again."""
    return lambda x: x.view(-1, a, b).transpose(1, 2).flatten(1)
