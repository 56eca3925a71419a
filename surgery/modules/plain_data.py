"""Plain data objects that modules hold: configurations, namespaces, dataclasses.

Code reads integers from them (`self.config.num_heads`), often one object for all modules. They are never changed: a
module that needs another integer gets a shallow copy of its own, made without the class's constructor or setters.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Hashable, Mapping, Sequence
from copyreg import __newobj__  # type: ignore[attr-defined]
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from surgery.axes.formulas import Field
from surgery.nested import Nested

T = TypeVar("T")
ATOMS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_DATA = (*ATOMS, enum.Enum, type, torch.Size)
LONGEST = 64  # longer containers in an object are tables, not sizes
DEEPEST = 3  # objects in objects


def is_plain_data(value: object) -> bool:
    """Whether a value is an object that is nothing but plain data under names."""
    return _is_plain(value, 0)


def _is_plain(value: object, depth: int) -> bool:
    return depth < DEEPEST and _bare(value) and all(_is_data(item, depth) for item in vars(value).values())


def _bare(value: object) -> bool:
    """Whether `__dict__` is all that there is to an object: pickle would store it and nothing else."""
    if isinstance(value, (*_DATA, Tensor, nn.Module, types.ModuleType)) or callable(value):
        return False
    if not isinstance(getattr(value, "__dict__", None), dict):
        return False
    try:
        reduced = value.__reduce_ex__(2)
    except Exception:  # what refuses to be pickled is no plain data
        return False
    if not isinstance(reduced, tuple) or any(item is not None for item in reduced[3:]):
        return False
    make, made_with = reduced[:2]
    own = make is __newobj__ and made_with == (type(value),)
    if not own and not (isinstance(value, types.SimpleNamespace) and not made_with):
        return False
    return len(reduced) < 3 or reduced[2] in (None, vars(value))


def _is_data(value: object, depth: int) -> bool:
    if isinstance(value, _DATA):
        return True
    if isinstance(value, dict):
        return all(isinstance(key, _DATA) and _is_data(item, depth) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return all(_is_data(item, depth) for item in value)
    return _is_plain(value, depth + 1)


def altered(value: T, changes: Mapping[str, object]) -> T:
    """A shallow copy of an object, some of its attributes replaced."""
    cls: Any = type(value)
    simple = isinstance(value, types.SimpleNamespace)
    result: T = types.SimpleNamespace.__new__(cls) if simple else object.__new__(cls)
    vars(result).update(vars(value))
    vars(result).update(changes)
    return result


def at(value: Nested, keys: Sequence[Hashable]) -> Nested:
    """What keys lead to."""
    for key in keys:
        value = vars(value)[key.name] if isinstance(key, Field) else value[key]
    return value


def replaced(value: Nested, keys: Sequence[Hashable], item: Nested) -> Nested:
    """A nested container or object with one item replaced; the container itself is left alone."""
    if not keys:
        return item
    key, *rest = keys
    if isinstance(key, Field):
        old = vars(value)[key.name]
        new = replaced(old, rest, item)
        return value if new == old else altered(value, {key.name: new})  # modules share it while they can
    if isinstance(value, dict):
        return {**value, key: replaced(value[key], rest, item)}
    assert isinstance(key, int)
    items = list(value)
    items[key] = replaced(items[key], rest, item)
    return type(value)(items)
