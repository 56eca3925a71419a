"""The modules of a model and their tensors, by name.

They are what torch's own iterators give. Those are a generator for each level of the tree and hash every tensor, and
planning goes through a model some twenty times.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import torch
from torch import nn

T = TypeVar("T")
OF_ANY = frozenset(vars(nn.Module()))  # attributes that every module has: tables of parameters and modules, hooks


def named_modules(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Every module once, under its first name."""
    return _walked(model, prefix, set())


def registered(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter, then every buffer (persistent or not), each tensor once, under its first name."""
    if _listed_by_torch(model):
        modules, seen = named_modules(model), set[int]()
        yield from _members(modules, _parameters, seen)
        yield from _members(modules, _buffers, seen)
        return
    yield from model.named_parameters()
    parameters = {id(parameter) for parameter in model.parameters()}
    for name, buffer in model.named_buffers():
        if id(buffer) not in parameters:
            yield name, buffer


def named_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Every parameter once, under its first name."""
    if _listed_by_torch(model):
        return list(_members(named_modules(model), _parameters, set()))
    return list(model.named_parameters())


def registered_names(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter, then every buffer, under all of their names."""
    if _listed_by_torch(model):
        modules = _walked(model, "", None)
        yield from _members(modules, _parameters, None)
        yield from _members(modules, _buffers, None)
    else:
        yield from model.named_parameters(remove_duplicate=False)
        yield from model.named_buffers(remove_duplicate=False)


def _walked(model: nn.Module, prefix: str, seen: set[int] | None) -> list[tuple[str, nn.Module]]:
    """The modules in order, each once unless `seen` is None."""
    found: list[tuple[str, nn.Module]] = []
    todo = [(prefix, model)]
    while todo:
        path, module = todo.pop()
        if seen is not None:
            if id(module) in seen:
                continue
            seen.add(id(module))
        if not _walked_by_torch(type(module)):  # type: ignore[arg-type]
            return list(model.named_modules(prefix=prefix, remove_duplicate=seen is not None))
        found.append((path, module))
        if module._modules:
            start = f"{path}." if path else ""
            children = [(start + name, child) for name, child in module._modules.items() if child is not None]
            todo += reversed(children)
    return found


def _parameters(module: nn.Module) -> Mapping[str, nn.Parameter | None]:
    return module._parameters


def _buffers(module: nn.Module) -> Mapping[str, torch.Tensor | None]:
    return module._buffers


def _members(
    modules: list[tuple[str, nn.Module]], table: Callable[[nn.Module], Mapping[str, T | None]], seen: set[int] | None
) -> Iterator[tuple[str, T]]:
    for path, module in modules:
        members = table(module)
        for name, tensor in members.items() if members else ():
            if tensor is None or (seen is not None and id(tensor) in seen):
                continue
            if seen is not None:
                seen.add(id(tensor))
            yield (f"{path}.{name}" if path else name), tensor


_LISTS = ("named_parameters", "parameters", "named_buffers", "buffers", "_named_members")


def _listed_by_torch(model: nn.Module) -> bool:
    """Whether a model leaves it to torch to say what its tensors are. Here, a twin's are whole ones everywhere."""
    cls: type = getattr(type(model), "surgery_base", type(model))
    return _inherits(cls, _LISTS) and vars(model).keys().isdisjoint(_LISTS)


@functools.cache
def _walked_by_torch(cls: type[nn.Module]) -> bool:
    return cls.named_modules is nn.Module.named_modules


@functools.cache
def _inherits(cls: type, names: tuple[str, ...]) -> bool:
    return all(getattr(cls, name) is getattr(nn.Module, name) for name in names)
