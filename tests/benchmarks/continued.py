"""Nested training that goes on from a plain image model, its features sorted or not."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import surgery
from tests.benchmarks.image_cells import EXAMPLE, at_each_width, measured, nested_step, parts
from tests.benchmarks.images import SETUPS

Value = dict[str, Any]


def loss(model: nn.Module, rows: slice) -> torch.Tensor:
    train, _, _ = parts(False)
    return F.cross_entropy(model(train.images[rows]), train.labels[rows])


def started(model: str, start: Value, by: str) -> nn.Module:
    """The plain model with its weights, sorted `by` magnitude or Taylor (on two batches), or not at all."""
    built = SETUPS[model].build(1.0)
    built.load_state_dict(start)
    batches = [slice(0, 256), slice(256, 512)]
    orders = {"magnitude": surgery.magnitude(), "taylor": surgery.taylor(batches, loss)}
    return built if by == "none" else surgery.sort(built.eval(), EXAMPLE, by=orders[by])


def continued(
    model: str, by: str, rate: float, seed: int, epochs: float, quick: bool, recipe: Value, start: Value
) -> Value:
    """Nested training from the weights `start`; without epochs, those weights cut. `recipe` is a part of the key."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    wrapped = surgery.wrap(started(model, start, by), EXAMPLE, generator=generator)
    seconds = measured(model, wrapped, epochs, rate, seed, quick, nested_step) if epochs else 0.0
    widths = at_each_width(wrapped, quick)
    validation = sum(width["validation"] for width in widths) / len(widths)
    return {"seconds": seconds, "validation": validation, "widths": widths}
