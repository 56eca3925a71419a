"""Integers that remember where they came from.

While a model is captured, every integer attribute of its modules and every extent of a tensor's shape is a `Size`:
an `int` whose `origin` is a small expression. Arithmetic keeps the origin, so a recorded `x.view(b, -1, c // heads)`
says which attribute must change when a width changes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from surgery.axes.formulas import OPERATORS, Arithmetic, Constant, Origin


def origin_of(value: int) -> Origin:
    """The origin that an integer remembers; a plain int is a `Constant`."""
    return value.origin if isinstance(value, Size) else Constant(int(value))


@dataclass(frozen=True, slots=True)
class Decision:
    """What Python code found out about sizes: that `left sign right` is `outcome`.

    A size that leaves the arithmetic (a loop's range, a true division) is the decision that it "is" its value;
    `operand` says which operand or argument it was there. A plain integer that is made of one (`int(c * 0.25)`) is the
    decision that "int" of it is that.
    """

    sign: str
    left: Origin
    right: Origin
    outcome: bool
    operand: int = 0


COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_observers: list[Callable[[Decision], None]] = []


def _decide(sign: str, left: Any, right: Any, outcome: bool, operand: int = 0) -> None:
    if _observers:
        decision = Decision(sign, origin_of(left), origin_of(right), outcome, operand)
        for observer in _observers:
            observer(decision)


def _leaves_arithmetic(size: Any, operand: int = 0) -> int:
    """The plain value of a size that is about to be used in a way that keeps no origin."""
    value = int.__int__(size)
    if isinstance(size, Size):
        _decide("is", size, value, True, operand)
    return value


class Size(int):
    """An `int` with an `origin`, and with a `site` (node, argument path) once it is an argument of a recorded call."""

    origin: Origin
    site: tuple[Any, tuple[Any, ...]] | None

    def __new__(cls, value: int, origin: Origin, site: tuple[Any, tuple[Any, ...]] | None = None) -> Size:
        self = super().__new__(cls, value)
        self.origin = origin
        self.site = site
        return self

    __hash__ = int.__hash__

    def __bool__(self) -> bool:
        _decide("!=", self, 0, value := int.__bool__(self))
        return value

    def __int__(self) -> int:
        return _whole(_leaves_arithmetic(self), (self.origin,))

    def __float__(self) -> float:
        return float(_leaves_arithmetic(self))

    def __truediv__(self, other: Any) -> Any:
        return _real(_leaves_arithmetic(self) / other, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _real(other / _leaves_arithmetic(self, 1), self, other)

    def __pow__(self, other: Any, *modulus: Any) -> Any:
        if type(other) is int and other == 2 and not modulus:
            return self * self
        return _real(pow(_leaves_arithmetic(self), other, *modulus), self, other)

    def __rpow__(self, other: Any, *modulus: Any) -> Any:
        return _real(pow(other, _leaves_arithmetic(self, 1), *modulus), self, other)

    def __rshift__(self, other: Any) -> Any:
        return self // 2**other if isinstance(other, int) else NotImplemented

    def __lshift__(self, other: Any) -> Any:
        return self * 2**other if isinstance(other, int) else NotImplemented

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __neg__(self) -> Size:
        return Size(-int.__int__(self), Arithmetic("-", Constant(0), self.origin))

    def __pos__(self) -> Size:
        return self

    def __abs__(self) -> Size:
        return -self if int.__lt__(self, 0) else self

    __floor__ = __ceil__ = __trunc__ = __pos__

    def __round__(self, digits: Any = None) -> Any:
        return self if digits is None or digits >= 0 else _whole(int.__round__(self, digits), (self.origin,))

    def __deepcopy__(self, memo: dict[int, Any]) -> Size:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
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

    def __round__(self, digits: int | None = None) -> Any:  # type: ignore[override]
        if digits is None:
            return _whole(float.__round__(self), self.origins)
        return Real(float.__round__(self, digits), self.origins)

    def __deepcopy__(self, memo: dict[int, Any]) -> Real:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return float, (float.__float__(self),)


def _origins(value: Any) -> tuple[Origin, ...]:
    return value.origins if isinstance(value, Real) else (value.origin,) if isinstance(value, Size) else ()


def _real(value: Any, *operands: Any) -> Any:
    """A number that was computed from these: a float remembers where they came from, an integer is noticed."""
    origins = tuple(dict.fromkeys(origin for operand in operands for origin in _origins(operand)))
    if type(value) is float:
        return Real(value, origins)
    return _whole(value, origins) if type(value) is int else value


def _whole(value: int, origins: tuple[Origin, ...]) -> int:
    """A plain integer that is made of sizes."""
    for origin in origins:
        _decide("int", Size(value, origin), value, True)
    return value


def _with_reals(name: str) -> Callable[[Real, Any], Any]:
    function = getattr(float, name)

    def method(self: Real, other: Any) -> Any:
        value = function(self, int.__int__(other) if isinstance(other, Size) else other)
        return value if value is NotImplemented else _real(value, self, other)

    return method


for _name in "add sub mul truediv floordiv mod pow".split():
    for _swapped in ("", "r"):
        setattr(Real, f"__{_swapped}{_name}__", _with_reals(f"__{_swapped}{_name}__"))


def _arithmetic(sign: str, swapped: bool) -> Callable[[Size, Any], Any]:
    function: Callable[[Any, Any], Any] = OPERATORS[sign]

    def method(self: Size, other: Any) -> Any:
        if isinstance(other, float):
            value = _leaves_arithmetic(self, int(swapped))
            return _real(function(other, value) if swapped else function(value, other), self, other)
        if not isinstance(other, int) or isinstance(other, bool):
            return NotImplemented
        left, right = (other, self) if swapped else (self, other)
        value = function(int.__int__(left), int.__int__(right))
        return Size(value, Arithmetic(sign, origin_of(left), origin_of(right)))

    return method


def _comparison(sign: str) -> Callable[[Size, Any], Any]:
    method = getattr(int, f"__{COMPARISONS[sign].__name__}__")

    def compare(self: Size, other: Any) -> Any:
        outcome = method(self, other)
        if isinstance(outcome, bool):
            _decide(sign, self, other, outcome)
        return outcome

    return compare


for _sign, _comparer in COMPARISONS.items():
    setattr(Size, f"__{_comparer.__name__}__", _comparison(_sign))
Size.__hash__ = int.__hash__  # type: ignore[method-assign, assignment]
for _sign, _name in {"+": "add", "-": "sub", "*": "mul", "//": "floordiv", "%": "mod"}.items():
    setattr(Size, f"__{_name}__", _arithmetic(_sign, swapped=False))
    setattr(Size, f"__r{_name}__", _arithmetic(_sign, swapped=True))
