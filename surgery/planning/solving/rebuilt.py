"""Integers that a class makes others of when it is copied or unpickled: they must follow, too.

A class with a `__setstate__` of its own may keep only what it was made from (a pattern and lengths), and derive the
rest anew. Which integer of its state decides a followed one is found by experiment: one is changed, a copy is made.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from torch import nn

from surgery.modules.plain_data import replaced

Path = tuple[Hashable, ...]


def deciding(module: nn.Module, path: Path) -> Iterator[Path]:
    """The paths of integers in a module's state by which a copy decides the integer at `path`."""
    cls = type(module)
    if cls.__setstate__ is nn.Module.__setstate__ or "__getstate__" not in _own(cls):
        return
    try:
        state = module.__getstate__()
    except Exception:  # as of what is parametrized: it is copied without one
        return
    now = _at(vars(module), path)
    for other, value in _integers(state, ()):
        if other != path and value == now and _copied(module, replaced(state, other, value + 1), path) == value + 1:
            yield other


def _own(cls: type) -> set[str]:
    """What a class and its bases below nn.Module define."""
    return {name for base in cls.__mro__ if base not in (nn.Module, object) for name in vars(base)}


def _copied(module: nn.Module, state: object, path: Path) -> object:
    """What a copy that is made from a state holds at a path; None where it cannot be made."""
    try:
        made = type(module).__new__(type(module))
        made.__setstate__(state)
        return _at(vars(made), path)
    except Exception:  # a state that its class refuses decides nothing
        return None


def _at(value: Any, path: Path) -> object:
    for step in path:
        value = value[step]
    return value


def _integers(value: object, path: Path) -> Iterator[tuple[Path, int]]:
    if type(value) is int:
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _integers(item, (*path, key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _integers(item, (*path, i))
