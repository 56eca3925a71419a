"""The first of several inputs that a model accepts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from surgery.modules.inputs import Inputs

from .entry import Built


def first_that_runs(model: nn.Module, candidates: Sequence[Callable[[int], Inputs]]) -> Built:
    """A model with the first inputs that it runs on in training mode, which asks for more than eval mode.

    Raises the last error if there are none.
    """
    error: Exception | None = None
    for inputs in candidates:
        try:
            _trains(model, inputs(0))
            return Built(model, inputs)
        except Exception as caught:
            error = caught
    assert error is not None
    raise error


def _trains(model: nn.Module, run: Inputs) -> Any:
    """Run once in training mode, and put the buffers back."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    was = model.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return model.train()(*run.args, **run.kwargs)
    finally:
        model.train(was)
        with torch.no_grad():
            for buffer, saved in before:
                buffer.copy_(saved)
