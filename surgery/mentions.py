"""Reading, without running it, which names the code of a class uses."""

from __future__ import annotations

import dis
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
def assigned(cls: type) -> frozenset[str]:
    """The names of the attributes that the code of a module class, its constructor apart, assigns."""
    codes = (code for function in _functions(cls) for code in _codes(function.__code__))
    steps = (step for code in codes for step in dis.get_instructions(code))
    return frozenset(step.argval for step in steps if step.opname == "STORE_ATTR")


@functools.cache
def _names(cls: type) -> frozenset[str]:
    found: set[str] = set()
    for function in _functions(cls):
        for code in _codes(function.__code__):
            found.update(code.co_names, (c for c in code.co_consts if isinstance(c, str)))
    return frozenset(found)


def _functions(cls: type) -> Iterator[FunctionType]:
    """The functions of a module class, its constructor apart."""
    for base in cls.__mro__:
        if base is nn.Module:
            break
        for name, value in vars(base).items():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            function = getattr(function, "__wrapped__", function)
            if isinstance(function, FunctionType) and name not in _APART:
                yield function


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of every function inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
