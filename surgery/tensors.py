"""The tensors of a model, by name: those that are registered, and those that modules hold in plain attributes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import nn

from surgery.held import loose
from surgery.tree import named_parameters, registered, registered_names


def named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter, then every buffer (persistent or not), then every tensor in a plain attribute or container.

    Each tensor is there once, under its first name.
    """
    seen: set[int] = set()
    for name, tensor in itertools.chain(registered(model), _named_loose(model)):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


def _named_loose(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return ((f"{path}.{place}".lstrip("."), tensor) for path, place, tensor in loose(model))


def unlearned(model: nn.Module) -> list[torch.Tensor]:
    """Every named tensor that is no parameter."""
    parameters = {id(parameter) for _, parameter in named_parameters(model)}
    return [tensor for _, tensor in named_tensors(model) if id(tensor) not in parameters]


def aliases(model: nn.Module) -> dict[str, list[str]]:
    """All the names of every tensor, keyed by the first one."""
    first: dict[int, str] = {id(tensor): name for name, tensor in named_tensors(model)}
    names: dict[str, list[str]] = {name: [] for name in first.values()}
    for name, tensor in itertools.chain(registered_names(model), _named_loose(model)):
        names[first[id(tensor)]].append(name)
    return names
