"""The modules of a model and their tensors, by name.

They are what torch's own iterators give. Those are a generator for each level of the tree and hash every tensor, and
planning goes through a model some twenty times.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def named_modules(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Every module once, under its first name."""
    return _walked(model, prefix, set())


def named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter, then every buffer (persistent or not), each tensor once, under its first name."""
    found = named_parameters(model)
    yield from found
    if _listed_by_torch(model):
        yield from _members(named_modules(model), "_buffers", {id(parameter) for _, parameter in found})
        return
    parameters = {id(parameter) for parameter in model.parameters()}
    for name, buffer in model.named_buffers():
        if id(buffer) not in parameters:
            yield name, buffer


def named_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Every parameter once, under its first name."""
    if _listed_by_torch(model):
        return list(_members(named_modules(model), "_parameters", set()))
    return list(model.named_parameters())


def aliases(model: nn.Module) -> dict[str, list[str]]:
    """All the names of every parameter and buffer, keyed by the first one."""
    first: dict[int, str] = {id(tensor): name for name, tensor in named_tensors(model)}
    names: dict[str, list[str]] = {name: [] for name in first.values()}
    if _listed_by_torch(model):
        modules = _walked(model, "", None)
        every = (_members(modules, table, None) for table in ("_parameters", "_buffers"))
    else:
        every = (kind(remove_duplicate=False) for kind in (model.named_parameters, model.named_buffers))
    for members in every:
        for name, tensor in members:
            names[first[id(tensor)]].append(name)
    return names


def _walked(model: nn.Module, prefix: str, seen: set[int] | None) -> list[tuple[str, nn.Module]]:
    """The modules in order, each once unless `seen` is None."""
    found: list[tuple[str, nn.Module]] = []

    def visit(path: str, module: nn.Module) -> bool:
        if seen is not None:
            if id(module) in seen:
                return True
            seen.add(id(module))
        found.append((path, module))
        return _walked_by_torch(type(module)) and all(
            visit(f"{path}.{name}" if path else name, child)
            for name, child in module._modules.items()
            if child is not None
        )

    if visit(prefix, model):
        return found
    return list(model.named_modules(prefix=prefix, remove_duplicate=seen is not None))


def _members(modules: list[tuple[str, nn.Module]], table: str, seen: set[int] | None) -> Iterator[tuple[str, Any]]:
    for path, module in modules:
        for name, tensor in getattr(module, table).items():
            if tensor is not None and (seen is None or id(tensor) not in seen):
                if seen is not None:
                    seen.add(id(tensor))
                yield (f"{path}.{name}" if path else name), tensor


_LISTS = ("named_parameters", "parameters", "named_buffers", "buffers", "_named_members")


def _listed_by_torch(model: nn.Module) -> bool:
    """Whether a model leaves it to torch to say what its tensors are."""
    cls: Any = type(model)
    return _inherits(cls, _LISTS) and vars(model).keys().isdisjoint(_LISTS)


def _walked_by_torch(cls: Any) -> bool:
    return _inherits(cls, ("named_modules",))


@functools.cache
def _inherits(cls: Any, names: tuple[str, ...]) -> bool:
    return all(getattr(cls, name) is getattr(nn.Module, name) for name in names)
