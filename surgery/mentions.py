"""Reading, without running it, which names the code of a class uses."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import CodeType, FunctionType

from torch import nn


def mentions(cls: type, names: set[str]) -> bool:
    """Whether the code of a module class, its constructor apart, uses one of these names."""
    return not names.isdisjoint(_names(cls))


@functools.cache
def _names(cls: type) -> frozenset[str]:
    found: set[str] = set()
    for base in cls.__mro__:
        if base is nn.Module:
            break
        for name, value in vars(base).items():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            function = getattr(function, "__wrapped__", function)
            if isinstance(function, FunctionType) and name != "__init__":
                for code in _codes(function.__code__):
                    found.update(code.co_names, (c for c in code.co_consts if isinstance(c, str)))
    return frozenset(found)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of every function inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
