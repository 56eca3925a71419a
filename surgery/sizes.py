"""Integers that remember where they came from.

While a model is captured, every integer attribute of its modules and every extent of a tensor's shape is a `Size`:
an `int` whose `origin` is a small expression. Arithmetic keeps the origin, so a recorded `x.view(b, -1, c // heads)`
says which attribute must change when a width changes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


class Origin:
    """Where an integer came from. Every subclass is a leaf, except `Arithmetic`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Constant(Origin):
    """An integer written in the code, or one whose history was lost."""

    value: int


@dataclass(frozen=True, slots=True)
class Attribute(Origin):
    """An integer held by the module at `module`: attribute `path[0]`, then keys into its container."""

    module: str
    path: tuple[Any, ...]
    value: int

    def __str__(self) -> str:
        keys = "".join(f"[{key!r}]" for key in self.path[1:])
        return f"{self.module}.{self.path[0]}{keys}".lstrip(".")


@dataclass(frozen=True, slots=True)
class Extent(Origin):
    """The size of dimension `dim` of the tensor that graph node `node` produced."""

    node: Any
    dim: int
    value: int


@dataclass(frozen=True, slots=True)
class Arithmetic(Origin):
    """`left sign right`, with `sign` one of `OPERATORS`."""

    sign: str
    left: Origin
    right: Origin


def evaluate(origin: Origin, leaf: Callable[[Origin], int]) -> int:
    """The value of an expression, given the value of each leaf. Raises ZeroDivisionError as the code would."""
    if isinstance(origin, Arithmetic):
        return OPERATORS[origin.sign](evaluate(origin.left, leaf), evaluate(origin.right, leaf))
    return origin.value if isinstance(origin, Constant) else leaf(origin)


def leaves(origin: Origin) -> Iterator[Origin]:
    """The leaves of an expression, left to right."""
    if isinstance(origin, Arithmetic):
        yield from leaves(origin.left)
        yield from leaves(origin.right)
    else:
        yield origin


def origin_of(value: int) -> Origin:
    """The origin that an integer remembers; a plain int is a `Constant`."""
    return value.origin if isinstance(value, Size) else Constant(int(value))


_observers: list[Callable[[Origin, Origin], None]] = []


class observe_equalities:
    """While active, calls `observer(left, right)` whenever two sizes are compared with == and are equal."""

    def __init__(self, observer: Callable[[Origin, Origin], None]):
        self.observer = observer

    def __enter__(self) -> None:
        _observers.append(self.observer)

    def __exit__(self, *_: object) -> None:
        _observers.remove(self.observer)


class Size(int):
    """An `int` with an `origin`, and with a `site` (node, argument path) once it is an argument of a recorded call."""

    origin: Origin
    site: tuple[Any, tuple[Any, ...]] | None

    def __new__(cls, value: int, origin: Origin, site: tuple[Any, tuple[Any, ...]] | None = None) -> Size:
        self = super().__new__(cls, value)
        self.origin = origin
        self.site = site
        return self

    def __eq__(self, other: object) -> bool:
        equal = int.__eq__(self, other)
        if equal is True and _observers and isinstance(other, int):
            for observer in _observers:
                observer(self.origin, origin_of(other))
        return equal

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    __hash__ = int.__hash__

    def __neg__(self) -> Size:
        return Size(-int(self), Arithmetic("-", Constant(0), self.origin))

    def __pos__(self) -> Size:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Size:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int(self),)


def _arithmetic(sign: str, swapped: bool) -> Callable[[Size, Any], Any]:
    function = OPERATORS[sign]

    def method(self: Size, other: Any) -> Any:
        if not isinstance(other, int) or isinstance(other, bool):
            return NotImplemented
        left, right = (other, self) if swapped else (self, other)
        value = function(int(left), int(right))
        return Size(value, Arithmetic(sign, origin_of(left), origin_of(right)))

    return method


for _sign, _name in {"+": "add", "-": "sub", "*": "mul", "//": "floordiv", "%": "mod"}.items():
    setattr(Size, f"__{_name}__", _arithmetic(_sign, swapped=False))
    setattr(Size, f"__r{_name}__", _arithmetic(_sign, swapped=True))
