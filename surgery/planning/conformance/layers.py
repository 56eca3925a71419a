"""A layer alone: run, its containers brought up to date, an attribute of it set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from surgery.adapters.base import attribute_path
from surgery.modules.containers import holders, open_tensors, swapped
from surgery.modules.inputs import Inputs, tensors
from surgery.modules.modes import evaluating
from surgery.modules.plain_data import replaced
from surgery.modules.tensors import named_tensors


class Alone(nn.Module):
    """A model that is nothing but one layer."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer(*args, **kwargs)


class Constant(nn.Module):
    """Returns what it was made with, so that plain tensors can be compared as outputs."""

    def __init__(self, values: list[Tensor]):
        super().__init__()
        self.values = values

    def forward(self) -> list[Tensor]:
        return self.values


def outputs(layer: nn.Module, run: Inputs) -> list[Tensor]:
    """The tensors that a layer returns, in eval mode and without gradients."""
    with evaluating(layer), torch.no_grad():
        return tensors(layer(*run.args, **run.kwargs))


def mapped(run: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """Arguments with each tensor changed, in order."""
    args, kwargs = pytree.tree_map(
        lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, (run.args, run.kwargs)
    )
    return Inputs(args, kwargs)


def owner_of(layer: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds a tensor, and what the tensor is called there."""
    owner, _, leaf = name.rpartition(".")
    return layer.get_submodule(owner), leaf


def relist(before: nn.Module, after: nn.Module) -> None:
    """Bring containers of a layer's own parameters, such as the flat weights of recurrent layers, up to date."""
    names = {id(tensor): name for name, tensor in named_tensors(before)}

    def now(tensor: Tensor) -> Tensor:
        if id(tensor) not in names:
            return tensor
        owner, leaf = owner_of(after, names[id(tensor)])
        found: Tensor = getattr(owner, leaf)
        return found

    for attribute, value in holders(before):
        if any(id(tensor) in names for tensor in open_tensors(value)):
            vars(after)[attribute] = swapped(value, now)


def assign(layer: nn.Module, attribute: str, value: int) -> None:
    """Set an attribute as declarations name it: `child.attribute`, `shape[0]`."""
    name, *keys = attribute_path(attribute)
    while keys and isinstance(keys[0], str):
        layer, name = layer.get_submodule(name), keys.pop(0)
    vars(layer)[name] = replaced(vars(layer)[name], tuple(keys), value)
