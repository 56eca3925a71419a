"""Two small models to ship: one whose forward was written anew, and one that needed nothing of the kind."""

from __future__ import annotations

import torch
from torch import nn

import surgery
from tests.kept.net import Net


def rewritten() -> tuple[nn.Module, torch.Tensor]:
    """An attention with computed head widths, and one of torch's whose class was replaced."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, 4)
    small = surgery.shrink(Net().eval(), 0.5, x)
    assert small.surgery_record["rewritten"] == ["own"] and small.surgery_record["replaced"] == ["torchs"]
    return small, x


def plain() -> tuple[nn.Module, torch.Tensor]:
    """A CNN with BatchNorm, whose code holds no sizes."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16)
    convolutions = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2)
    head = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10)
    small = surgery.shrink(nn.Sequential(*convolutions, *head).eval(), 0.5, x)
    assert not small.surgery_record["rewritten"]
    return small, x


MODELS = {"plain": plain, "rewritten": rewritten}


def gap(found: torch.Tensor, small: nn.Module, x: torch.Tensor) -> float:
    """How far an engine is from the small model, as a share of the largest output."""
    with torch.no_grad():
        expected = small(x)
    return float((found.detach() - expected).abs().max() / expected.abs().max())
