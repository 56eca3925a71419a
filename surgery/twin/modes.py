"""Forwards in a mode that cannot be meant: a training in eval mode, a validation in training mode."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from surgery.twin.state import State

MANY = 3  # forwards without gradients in a row: a validation; a checkpoint around the model makes one at a time
DRAWN = (
    "forwards without gradients draw widths, so that each gives other outputs: the model is in training mode; call "
    ".eval() on it before it is validated or used"
)
NOT_DRAWN = (
    "the weights are trained in eval mode, in which no widths are drawn, so that only those that are set learn: call "
    ".train() on the wrapped model before the training, and after each validation"
)


def check_mode(state: State, module: nn.Module, drawing: bool) -> None:
    """Warn once of drawing forwards without gradients in a row, and of weights that learn where nothing is drawn.

    Args:
        module: the root of the twin.
        drawing: whether the forward that begins draws.
    """
    if drawing and not torch.is_grad_enabled() and state.forward.without_gradients + 1 >= MANY:
        _once(state, DRAWN)
    elif module.training or state.setting.pinned or not torch.is_grad_enabled():
        state.eval_version = None
    else:
        with state.whole():
            learnt = next((parameter for parameter in module.parameters() if parameter.requires_grad), None)
        known = None if learnt is None else (id(learnt), learnt._version)
        if known and state.eval_version and known[0] == state.eval_version[0] and known != state.eval_version:
            _once(state, NOT_DRAWN)
        state.eval_version = known


def _once(state: State, message: str) -> None:
    if message not in state.warned:
        state.warned.add(message)
        warnings.warn(message, UserWarning, stacklevel=7)
