"""A small model and ways to score it, in a module that other processes can import."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import surgery
from tests.small_models import mlp

INPUTS = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 3, (64,), generator=torch.Generator().manual_seed(1))
BATCHES = [INPUTS[:32] + 1, INPUTS[32:] * 2]


def wrapped(**options) -> nn.Module:
    return surgery.wrap(mlp(6, 16, 8, 3, norm=True), INPUTS[:4], **options)


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


def kills(model: nn.Module, folder: Path, times: int) -> float:
    """Ends its process at half of the width, so many times."""
    if surgery.widths(model)["0.o"] == 8 and len(list(folder.iterdir())) < times:
        (folder / f"{os.getpid()}").touch()
        time.sleep(0.5)  # the others are done
        os._exit(9)
    return loss(model)
