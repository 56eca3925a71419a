"""The tensors of a model, by name: those that are registered, and those that modules hold in plain attributes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from surgery.modules.containers import unregistered
from surgery.modules.tree import named_modules, named_parameters, registered, registered_names


@dataclass(frozen=True)
class Parts:
    """A model that was looked through once. Every module and every tensor is there once, under its first name."""

    model: nn.Module
    modules: Mapping[str, nn.Module]
    tensors: Mapping[str, torch.Tensor]  # as `named_tensors` gives them
    parameters: Mapping[str, torch.Tensor]

    @property
    def unlearned(self) -> list[torch.Tensor]:
        """Every tensor that is no parameter."""
        return [tensor for name, tensor in self.tensors.items() if name not in self.parameters]


def parts_of(model: nn.Module) -> Parts:
    """The modules and tensors that a model has now."""
    return Parts(model, dict(named_modules(model)), dict(named_tensors(model)), dict(named_parameters(model)))


def named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter, then every buffer (persistent or not), then every tensor in a plain attribute or container.

    Each tensor is there once, under its first name.
    """
    seen: set[int] = set()
    for name, tensor in itertools.chain(registered(model), _named_unregistered(model)):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


def _named_unregistered(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return ((f"{path}.{place}".lstrip("."), tensor) for path, place, tensor in unregistered(model))


def aliases(parts: Parts) -> dict[str, list[str]]:
    """All the names of every tensor, keyed by the first one."""
    first: dict[int, str] = {id(tensor): name for name, tensor in parts.tensors.items()}
    names: dict[str, list[str]] = {name: [] for name in first.values()}
    for name, tensor in itertools.chain(registered_names(parts.model), _named_unregistered(parts.model)):
        names[first[id(tensor)]].append(name)
    return names
