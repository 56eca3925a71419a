"""A small model and ways to score it, in a module that other processes can import."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import surgery

INPUTS = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 3, (64,), generator=torch.Generator().manual_seed(1))
BATCHES = [INPUTS[:32] + 1, INPUTS[32:] * 2]


def wrapped(**options) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hidden = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU()
        return surgery.wrap(nn.Sequential(*hidden, nn.Linear(8, 3)), INPUTS[:4], **options)


def hits(model: nn.Module) -> Tensor:
    """One score per sample."""
    return model(INPUTS).argmax(1) == LABELS


def loss(model: nn.Module) -> float:
    return -nn.functional.cross_entropy(model(INPUTS), LABELS).item()


def careless(model: nn.Module) -> float:
    """Changes statistics and the mode, as a validate may."""
    surgery.recalibrate(model, BATCHES)
    model.train()
    model.eval()
    return loss(model)
