"""The image models of the benchmarks, built at a fraction of their width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

FRACTIONS = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)


def mlp(fraction: float = 1.0) -> nn.Module:
    """784-512-256-10 with ReLU."""
    a, b = round(512 * fraction), round(256 * fraction)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, a), nn.ReLU(), nn.Linear(a, b), nn.ReLU(), nn.Linear(b, 10)
    )  # fmt: skip


def cnn(fraction: float = 1.0) -> nn.Module:
    """Four convolutions of 16, 48, 128 and 144 channels with BatchNorm, each of stride 2: 230,362 parameters."""
    layers: list[nn.Module] = []
    inside = 1
    for channels in (16, 48, 128, 144):
        outside = round(channels * fraction)
        layers += [nn.Conv2d(inside, outside, 3, 2, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
        inside = outside
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 10))
    return model.to(memory_format=torch.channels_last)  # a third faster on a CPU


@dataclass(frozen=True)
class Setup:
    """A model, and how all methods train it.

    Attributes:
        epochs: passes over the images that are trained on.
        rates: learning rates to choose from.
        batch: images in a batch.
    """

    build: Callable[[float], nn.Module]
    epochs: int
    rates: tuple[float, ...]
    batch: int


SETUPS = {"mlp": Setup(mlp, 20, (3e-3, 6e-3), 256), "cnn": Setup(cnn, 4, (6e-3, 1.2e-2), 128)}
