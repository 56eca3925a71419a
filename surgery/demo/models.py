"""Two ordinary models, written as anyone would write them: nothing in here knows of the library."""

# B batch, C channels, T tokens, H heads, D width of a head, E embedding

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm around a skip connection."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(y)))


class ConvNet(nn.Module):
    """A small residual network for images (B, 1, height, width)."""

    def __init__(self, classes: int = 10, channels: tuple[int, int] = (32, 64), stride: int = 1):
        super().__init__()
        first, second = channels
        self.stem = nn.Conv2d(1, first, stride + 2, stride=stride, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(first)
        self.block1 = Residual(first, first)
        self.down = nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False)
        self.down_norm = nn.BatchNorm2d(second)
        self.block2 = Residual(second, second)
        self.head = nn.Linear(second, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        x = self.block1(x)
        x = F.relu(self.down_norm(self.down(x)))
        x = self.block2(x)
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """Multi-head self-attention over tokens (B, T, E)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # B H T D each
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Attention and a two-layer perceptron, each after a LayerNorm and around a skip connection."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A small transformer for images (B, 1, height, width): rows are tokens; their mean is classified."""

    def __init__(self, image: int, classes: int = 10, width: int = 64, heads: int = 4, depth: int = 2):
        super().__init__()
        self.embed = nn.Linear(image, width)
        self.position = nn.Parameter(0.1 * torch.randn(image, width))
        self.blocks = nn.Sequential(*(Block(width, heads, 2 * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.squeeze(1)) + self.position  # B T E
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def convnet(image: int, classes: int = 10) -> ConvNet:
    """The CNN for square images of so many pixels; it looks at larger ones in a third of the resolution."""
    return ConvNet(classes, stride=1 if image < 16 else 3)


def transformer(image: int, classes: int = 10) -> Transformer:
    """The transformer for square images of so many pixels."""
    return Transformer(image, classes)
