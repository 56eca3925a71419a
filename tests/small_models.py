"""Small models that many tests share. A model with something special to one test stands beside that test."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """6 features to 3, by fc1 with a batch norm, fc2, and a head: its groups are fc1.o (16) and fc2.o (8)."""

    def __init__(self, hidden: int = 16, middle: int = 8):
        super().__init__()
        self.fc1 = nn.Linear(6, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.fc2 = nn.Linear(hidden, middle)
        self.head = nn.Linear(middle, 3)

    def forward(self, x, *, scale=1.0):
        x = torch.relu(self.norm(self.fc1(x)))
        return self.head(torch.relu(self.fc2(x))) * scale


class Given(nn.Module):
    """Linear layers a (to 8 features) and b (to 3), other parts by name, and a forward that is given as a function.

    `function(self, *inputs)` is the forward. a and b always have the same weights.
    """

    def __init__(self, function: Callable[..., Any], inputs: int = 6, **parts: Any):
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.a, self.b = nn.Linear(inputs, 8), nn.Linear(8, 3)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


def mlp(*widths: int, norm: bool = False, seed: int = 0) -> nn.Sequential:
    """Linear layers of these widths with ReLU between; with `norm`, a batch norm (1) follows the first of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    if norm:
        layers.insert(1, nn.BatchNorm1d(widths[1]))
    return nn.Sequential(*layers[:-1])


def weights(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


class Heads(nn.Module):
    """Attention in which the width of a head is computed: every subclass needs another forward when it is cut."""

    def __init__(self, dim: int = 12, heads: int = 3):
        super().__init__()
        self.heads = heads
        self.embed = nn.Linear(5, dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, 4)

    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        return self.out(y)


def seen_widths(wrapped: nn.Module, times: int, x: Any = X) -> list[tuple[int, ...]]:
    """The widths that training forwards of a wrapped `Net` really ran at: what fc1 and fc2 returned."""
    seen: list[int] = []
    hooks = [m.register_forward_hook(lambda m, a, y: seen.append(y.shape[-1])) for m in (wrapped.fc1, wrapped.fc2)]
    wrapped.train()
    for _ in range(times):
        wrapped(x)
    for hook in hooks:
        hook.remove()
    return list(zip(seen[::2], seen[1::2], strict=True))


def watched(layer: nn.Module) -> list[int]:
    """A list that fills with the widths of what a layer returns while training."""
    found: list[int] = []
    layer.register_forward_hook(lambda module, a, y: found.append(y.shape[-1]) if module.training else None)
    return found
