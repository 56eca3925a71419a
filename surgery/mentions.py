"""Reading, without running it, which names the code of a class uses."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import CodeType, FunctionType

from torch import nn

# Methods that no forward calls.
_APART = frozenset(
    "__init__ __repr__ extra_repr _init_weights init_weights initialize_weights reset_parameters _reset_parameters "
    "load_state_dict _load_from_state_dict state_dict _save_to_state_dict".split()
)


def mentions(cls: type, names: set[str]) -> bool:
    """Whether the code of a module class, what makes and stores it apart, uses one of these names."""
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
            if isinstance(function, FunctionType) and name not in _APART:
                for code in _codes(function.__code__):
                    found.update(code.co_names, (c for c in code.co_consts if isinstance(c, str)))
    return frozenset(found)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of every function inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
