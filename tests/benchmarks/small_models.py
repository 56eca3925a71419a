"""Image models of a first hour, built at a fraction of their width. B batch, N patches, C channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions with BatchNorm, and a way around them."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.one, self.norm1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside)
        self.two, self.norm2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside)
        skip = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))
        self.skip = nn.Identity() if stride == 1 else skip

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.skip(x) + self.norm2(self.two(F.relu(self.norm1(self.one(x))))))


def resnet(fraction: float = 1.0) -> nn.Module:
    """The model of the README: three stages of 16, 32 and 64 channels."""
    a, b, c = (round(channels * fraction) for channels in (16, 32, 64))
    stem = nn.Conv2d(1, a, 3, 1, 1, bias=False), nn.BatchNorm2d(a), nn.ReLU()
    stages = Block(a, a, 1), Block(a, b, 2), Block(b, c, 2)
    return nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 10))


class Layer(nn.Module):
    """Attention and a feed-forward network, each behind a norm."""

    def __init__(self, dim: int, heads: int, width: int, hidden: int):
        super().__init__()
        self.heads, self.width = heads, width
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * heads * width), nn.Linear(heads * width, dim)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:  # B N C
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, self.width)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    """Patches of 4x4, three layers, the mean over patches."""

    def __init__(self, dim: int, heads: int, width: int, hidden: int):
        super().__init__()
        self.patches = nn.Conv2d(1, dim, 4, 4)
        self.position = nn.Parameter(0.02 * torch.randn(1, 49, dim))
        self.layers = nn.Sequential(*(Layer(dim, heads, width, hidden) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.layers(x)).mean(1))


def vit(fraction: float = 1.0) -> nn.Module:
    """96 features, 4 heads of 24, 256 hidden units: all axes at one fraction."""
    return ViT(*(max(1, round(size * fraction)) for size in (96, 4, 24, 256)))
