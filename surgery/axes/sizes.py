"""Integers that remember where they came from.

While a model is captured, every integer attribute of its modules and every extent of a tensor's shape is a `Size`:
an `int` whose `origin` is a small expression. Arithmetic keeps the origin, so a recorded `x.view(b, -1, c // heads)`
says which attribute must change when a width changes.
"""

from __future__ import annotations

import contextlib
import enum
import operator
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

from torch import fx

from surgery.axes.formulas import OPERATORS, Arithmetic, Constant, Origin, Steps

Operand: TypeAlias = Any  # of Python's operators, and what they give: numbers, tensors, arrays, NotImplemented
Site: TypeAlias = "tuple[fx.Node, Steps]"  # a recorded call, and where among its arguments


def origin_of(value: int) -> Origin:
    """The origin that an integer remembers; a plain int is a `Constant`."""
    return value.origin if isinstance(value, Size) else Constant(int(value))


class Sign(enum.Enum):
    """What Python asked of a size: how it compares, or a plain integer instead of it."""

    EQ, NE, LT, LE, GT, GE = "==", "!=", "<", "<=", ">", ">="
    VALUE = "value"  # its own value, for what keeps no origin: a loop's range, a true division
    INT = "int"  # one that is made of it (`int(c * 0.25)`)


COMPARISONS: dict[Sign, Callable[[int, int], bool]] = {
    Sign.EQ: operator.eq, Sign.NE: operator.ne, Sign.LT: operator.lt, Sign.LE: operator.le, Sign.GT: operator.gt,
    Sign.GE: operator.ge,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decision:
    """What Python code found out about sizes: that `left sign right` is `outcome`.

    `operand` says which operand or argument a size was where it left the arithmetic of sizes.
    """

    sign: Sign
    left: Origin
    right: Origin
    outcome: bool
    operand: int = 0


Observer: TypeAlias = "Callable[[Decision], None]"
_OBSERVER: ContextVar[Observer | None] = ContextVar("who is told of decisions", default=None)


@contextlib.contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Inside, `observer` is told every decision of this thread."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


def _decide(sign: Sign, left: int, right: int, outcome: bool, operand: int = 0) -> None:
    observer = _OBSERVER.get()
    if observer is not None:
        observer(Decision(sign, origin_of(left), origin_of(right), outcome, operand))


@overload
def plain(size: int, operand: int = 0) -> int: ...
@overload
def plain(size: Operand, operand: int = 0) -> Operand: ...
def plain(size: Operand, operand: int = 0) -> Operand:
    """A value that is about to be used in a way that keeps no origin: of a size, its plain integer."""
    if not isinstance(size, Size):
        return size
    value = int.__int__(size)
    _decide(Sign.VALUE, size, value, True, operand)
    return value


class Size(int):
    """An `int` with an `origin`, and with a `site` (node, argument path) once it is an argument of a recorded call."""

    origin: Origin
    site: Site | None

    def __new__(cls, value: int, origin: Origin, site: Site | None = None) -> Size:
        self = super().__new__(cls, value)
        self.origin = origin
        self.site = site
        return self

    __hash__ = int.__hash__

    def __bool__(self) -> bool:
        _decide(Sign.NE, self, 0, value := int.__bool__(self))
        return value

    def __int__(self) -> int:
        return _whole(plain(self), (self.origin,))

    def __float__(self) -> float:
        return float(plain(self))

    def __truediv__(self, other: Operand) -> Operand:
        return _real(plain(self) / plain(other, 1), self, other)

    def __rtruediv__(self, other: Operand) -> Operand:
        return _real(other / plain(self, 1), self, other)

    def __pow__(self, other: Operand, *modulus: Operand) -> Operand:
        if type(other) is int and other == 2 and not modulus:
            return self * self
        return _real(pow(plain(self), plain(other, 1), *modulus), self, other)

    def __rpow__(self, other: Operand, *modulus: Operand) -> Operand:
        return _real(pow(other, plain(self, 1), *modulus), self, other)

    def __rshift__(self, other: Operand) -> Operand:
        return self // 2**other if isinstance(other, int) else NotImplemented

    def __lshift__(self, other: Operand) -> Operand:
        return self * 2**other if isinstance(other, int) else NotImplemented

    def __divmod__(self, other: Operand) -> Operand:
        return self // other, self % other

    def __neg__(self) -> Size:
        return Size(-int.__int__(self), Arithmetic("-", Constant(0), self.origin))

    def __pos__(self) -> Size:
        return self

    def __abs__(self) -> Size:
        return -self if int.__lt__(self, 0) else self

    __floor__ = __ceil__ = __trunc__ = __pos__

    def __round__(self, digits: Operand = None) -> int:
        return self if digits is None or digits >= 0 else _whole(int.__round__(self, digits), (self.origin,))

    def __deepcopy__(self, memo: dict[int, object]) -> Size:
        return self

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int.__int__(self),)


class Real(float):
    """A `float` that was computed from sizes with these origins: an integer that is made of it is noticed."""

    origins: tuple[Origin, ...]

    def __new__(cls, value: float, origins: tuple[Origin, ...]) -> Real:
        self = super().__new__(cls, value)
        self.origins = origins
        return self

    __hash__ = float.__hash__

    def __neg__(self) -> Real:
        return Real(float.__neg__(self), self.origins)

    def __int__(self) -> int:
        return _whole(float.__int__(self), self.origins)

    def __trunc__(self) -> int:
        return _whole(float.__trunc__(self), self.origins)

    def __floor__(self) -> int:
        return _whole(float.__floor__(self), self.origins)

    def __ceil__(self) -> int:
        return _whole(float.__ceil__(self), self.origins)

    def __round__(self, digits: int | None = None) -> float:  # type: ignore[override]
        if digits is None:
            return _whole(float.__round__(self), self.origins)
        return Real(float.__round__(self, digits), self.origins)

    def __deepcopy__(self, memo: dict[int, object]) -> Real:
        return self

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (float.__float__(self),)


def _origins(value: object) -> tuple[Origin, ...]:
    return value.origins if isinstance(value, Real) else (value.origin,) if isinstance(value, Size) else ()


def _real(value: Operand, *operands: Operand) -> Operand:
    """A number that was computed from these: a float remembers where they came from, an integer is noticed."""
    origins = tuple(dict.fromkeys(origin for operand in operands for origin in _origins(operand)))
    if type(value) is float:
        return Real(value, origins)
    return _whole(value, origins) if type(value) is int else value


def _whole(value: int, origins: tuple[Origin, ...]) -> int:
    """A plain integer that is made of sizes."""
    for origin in origins:
        _decide(Sign.INT, Size(value, origin), value, True)
    return value


def _with_reals(name: str) -> Callable[[Real, Operand], Operand]:
    function = getattr(float, name)

    def method(self: Real, other: Operand) -> Operand:
        value = function(self, int.__int__(other) if isinstance(other, Size) else other)
        return value if value is NotImplemented else _real(value, self, other)

    return method


for _name in "add sub mul truediv floordiv mod pow".split():
    for _swapped in ("", "r"):
        setattr(Real, f"__{_swapped}{_name}__", _with_reals(f"__{_swapped}{_name}__"))


def _arithmetic(sign: str, swapped: bool) -> Callable[[Size, Operand], Operand]:
    function: Callable[[Operand, Operand], Operand] = OPERATORS[sign]

    def method(self: Size, other: Operand) -> Operand:
        if isinstance(other, float):
            value = plain(self, int(swapped))
            return _real(function(other, value) if swapped else function(value, other), self, other)
        if not isinstance(other, int) or isinstance(other, bool):
            return NotImplemented
        left, right = (other, self) if swapped else (self, other)
        value = function(int.__int__(left), int.__int__(right))
        return Size(value, Arithmetic(sign, origin_of(left), origin_of(right)))

    return method


def _comparison(sign: Sign) -> Callable[[Size, Operand], Operand]:
    method = getattr(int, f"__{COMPARISONS[sign].__name__}__")

    def compare(self: Size, other: Operand) -> Operand:
        outcome = method(self, other)
        if isinstance(outcome, bool):
            _decide(sign, self, other, outcome)
        return outcome

    return compare


for _sign, _comparer in COMPARISONS.items():
    setattr(Size, f"__{_comparer.__name__}__", _comparison(_sign))
Size.__hash__ = int.__hash__  # type: ignore[method-assign, assignment]
for _operator, _name in {"+": "add", "-": "sub", "*": "mul", "//": "floordiv", "%": "mod"}.items():
    setattr(Size, f"__{_name}__", _arithmetic(_operator, swapped=False))
    setattr(Size, f"__r{_name}__", _arithmetic(_operator, swapped=True))
