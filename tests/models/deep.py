"""Small models with lists of modules that run one after another, any of which may be left out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import surgery


class Block(nn.Module):
    def __init__(self, n: int, h: int):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(n), nn.Linear(n, h), nn.Linear(h, n)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Deep(nn.Module):
    """A residual multilayer perceptron: `layers.depth` is its group of modules."""

    def __init__(self, depth: int = 4, n: int = 8, h: int = 12):
        super().__init__()
        self.stem, self.head = nn.Linear(5, n), nn.Linear(n, 3)
        self.layers = nn.ModuleList(Block(n, h) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.head(x)
        return out


class ConvBlock(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(n, n, 3, padding=1), nn.BatchNorm2d(n)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.norm(self.conv(x)))


class DeepCNN(nn.Module):
    """A residual CNN with BatchNorm: `blocks.depth` is its group of modules."""

    def __init__(self, depth: int = 3, n: int = 6):
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, n, 3, padding=1), nn.Linear(n, 3)
        self.blocks = nn.Sequential(*(ConvBlock(n) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return out


class Branches(nn.Module):
    """A sum of layers that may stand in any order."""

    def __init__(self, count: int = 4, n: int = 6):
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(nn.Linear(5, n), nn.Tanh(), nn.Linear(n, 7)) for _ in range(count))
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.branches[0](x)
        for branch in self.branches[1:]:
            y = y + branch(x)
        out: Tensor = self.head(y)
        return out


X = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(2))


def deep(layers: int = 4, seed: int = 0, **options: object) -> Deep:
    """A wrapped `Deep` with its layers as a group; in eval mode."""
    torch.manual_seed(seed)
    return surgery.wrap(Deep(layers), X.to(torch.get_default_dtype()), **{"depth": True, **options}).eval()  # type: ignore[arg-type]


def deep_cnn(layers: int = 3, **options: object) -> DeepCNN:
    """A wrapped `DeepCNN` with its blocks as a group; in eval mode."""
    torch.manual_seed(0)
    return surgery.wrap(DeepCNN(layers), IMAGES.to(torch.get_default_dtype()), **{"depth": True, **options}).eval()  # type: ignore[arg-type]
