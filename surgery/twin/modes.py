"""Forwards in a mode that cannot be meant: a training in eval mode, a validation in training mode."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from surgery.modules.inputs import tensors
from surgery.twin.state import State

MANY = 8  # forwards without gradients in a row: a validation; checkpoints and generators make a few
DRAWN = (
    "forwards without gradients draw widths, so that each gives other outputs: the model is in training mode. Call "
    ".eval() on it before it is validated or used; where draws are meant, as of a generator that teaches, all is well"
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
            learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
        known = {id(parameter): parameter._version for parameter in learnt}
        before = state.eval_version or {}
        if state.eval_learnt and any(before.get(key, version) != version for key, version in known.items()):
            _once(state, NOT_DRAWN)
        state.eval_version, state.eval_learnt = known, False


def watch(state: State, module: nn.Module, output: Any) -> None:
    """Note whether a backward pass goes through a forward in eval mode: then weights that change have learnt."""
    if module.training or state.setting.pinned or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return
    for tensor in tensors(output):
        if tensor.requires_grad:
            tensor.register_hook(functools.partial(_learnt, state))


def _learnt(state: State, _: Tensor) -> None:
    state.eval_learnt = True


def _once(state: State, message: str) -> None:
    if message not in state.warned:
        state.warned.add(message)
        warnings.warn(message, UserWarning, stacklevel=7)
