"""Values within values: arguments and results of calls, as tuples, lists, dicts and slices of leaves; and objects.

What is a leaf is said by its type. Everything here is plain Python; rooms of the library know what leaves mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

import torch
from torch import fx, nn

T = TypeVar("T")
Nested: TypeAlias = Any  # a leaf, or leaves in tuples, lists, dicts and slices, as deep as they go
Keys: TypeAlias = "tuple[Hashable, ...]"
Shapes: TypeAlias = Any  # of a result: a torch.Size, or a list or dict of such, nested as it is; None for no tensor
ENDS = ("start", "stop", "step")


def fold(value: object, kind: type[T]) -> Iterator[T]:
    """The leaves of one type in a nested value, in order."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from fold(item, kind)
    elif isinstance(value, Mapping):
        yield from fold(list(value.values()), kind)
    elif isinstance(value, slice):
        yield from fold((value.start, value.stop, value.step), kind)


def mapped(value: Nested, change: Callable[[Nested, Keys], Nested], whole: type = fx.Node, path: Keys = ()) -> Nested:
    """A nested value with each leaf changed; `change` is given the leaf and the keys that lead to it.

    Tuples, lists, dicts and slices are followed, apart from those of the type `whole`.
    """
    if isinstance(value, whole):
        return change(value, path)
    if isinstance(value, tuple | list):
        items = [mapped(item, change, whole, (*path, i)) for i, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, dict):
        return {key: mapped(item, change, whole, (*path, key)) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(mapped(getattr(value, end), change, whole, (*path, end)) for end in ENDS))
    return change(value, path)


def rebuild(value: Nested, convert: Callable[[Hashable, Nested], Nested], types: bool = False) -> Nested:
    """A container with its items converted, as a plain tuple, list or dict unless `types` are kept; else the value."""
    if isinstance(value, dict):
        new = {key: convert(key, item) for key, item in value.items()}
        return type(value)(**new) if types and type(value) is not dict else new
    if isinstance(value, tuple | list):
        items = [convert(i, item) for i, item in enumerate(value)]
        if types and hasattr(value, "_fields"):
            return type(value)(*items)
        return tuple(items) if isinstance(value, tuple) else items
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {item.name: convert(item.name, getattr(value, item.name)) for item in dataclasses.fields(value)}
        return dataclasses.replace(value, **named) if types else named
    return value


def is_object(value: object) -> bool:
    """Whether a value is an object with attributes of its own, and neither a container nor a record of results."""
    if isinstance(value, torch.Tensor | nn.Module | type | Mapping | tuple | list | set):
        return False
    return hasattr(value, "__dict__") and not dataclasses.is_dataclass(value) and not callable(value)


def class_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def all_tensors(value: object, skipped: Mapping[int, object], seen: dict[int, object]) -> Iterator[torch.Tensor]:
    """The tensors in a result, in containers and in the attributes of objects, but those that are `skipped`."""
    if isinstance(value, torch.Tensor):
        yield value
    elif id(value) not in seen and not isinstance(value, type | nn.Module):
        seen[id(value)] = value
        if id(value) in skipped:
            return
        items = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list | set) else ()
        for item in (*items, *getattr(value, "__dict__", {}).values()):
            yield from all_tensors(item, skipped, seen)


def shapes(value: object) -> Shapes:
    """A result with shapes in place of tensors and None in place of everything else."""
    if isinstance(value, torch.Tensor):
        return value.shape
    if isinstance(value, Mapping):
        return {key: shapes(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [shapes(item) for item in value]
    return None
