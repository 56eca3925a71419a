"""Small models that many tests share. A model with something special to one test stands beside that test."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

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
