"""The model of these tests: a small transformer whose queries, keys and values are one layer, or three."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import surgery

FEATURES, HEADS, STEPS = 16, 4, 4


class Fused(nn.Module):
    """Cut heads and head widths are gathered out of the fused layer: they are no prefix of it."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.qkv, self.o = HEADS, nn.Linear(FEATURES, 3 * FEATURES), nn.Linear(FEATURES, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class Apart(nn.Module):
    """As code for tensor parallelism is written: the number of heads is what the layers give."""

    def __init__(self) -> None:
        super().__init__()
        self.width = FEATURES // HEADS
        self.q, self.k, self.v, self.o = (nn.Linear(FEATURES, FEATURES) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (layer(x).view(b, n, -1, self.width).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1))


class Block(nn.Module):
    def __init__(self, attention: nn.Module, checkpointed: bool):
        super().__init__()
        self.n1, self.a, self.n2 = nn.LayerNorm(FEATURES), attention, nn.LayerNorm(FEATURES)
        self.up, self.down, self.checkpointed = nn.Linear(FEATURES, 64), nn.Linear(64, FEATURES), checkpointed

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.run, x, use_reentrant=False) if self.checkpointed else self.run(x)

    def run(self, x: Tensor) -> Tensor:
        x = x + self.a(self.n1(x))
        return x + self.down(F.gelu(self.up(self.n2(x))))


class Transformer(nn.Module):
    def __init__(self, attention: type[nn.Module] = Fused, checkpointed: bool = False):
        super().__init__()
        self.e, self.head = nn.Linear(6, FEATURES), nn.Linear(FEATURES, 3)
        self.blocks = nn.ModuleList(Block(attention(), checkpointed) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.e(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def built(**kind: Any) -> Transformer:
    torch.manual_seed(0)
    return Transformer(**kind).double()


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return (
        torch.randn(8, 5, 6, generator=generator, dtype=torch.float64),
        torch.randint(0, 3, (8,), generator=generator),
    )


X, Y = batch(0)
NARROW = ({"*.a.qkv.o.1": 0.5, "*.up.o": 0.25}, 0.5, surgery.shared())  # head widths, all, and drawn ones


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: Iterable[int] = range(STEPS),
    rank: int = 0,
    world: int = 1,
    narrow: Any = NARROW,
) -> list[float]:
    """Steps on a rank's share of each batch: the losses at full width."""
    losses = []
    for step in steps:
        x, y = (part.chunk(world)[rank] for part in batch(step))
        optimizer.zero_grad()
        loss = surgery.train_step(model, x, lambda output, y=y: F.cross_entropy(output, y), narrow=narrow)
        optimizer.step()
        losses.append(loss.item())
    return losses


def score(model: nn.Module) -> Tensor:
    """Validation: the negative loss of each sample."""
    return -F.cross_entropy(model(X), Y, reduction="none")


def furthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference between two state_dicts of the same keys."""
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)
