"""How far the loops of a model go, while it is recorded: the `range` that tells."""

from __future__ import annotations

from typing import Any

from surgery.axes.sizes import plain

PLAIN_RANGE = range


class _IsRange(type):
    """What is a range to `isinstance` and `issubclass` is one of Python's own."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, PLAIN_RANGE)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, PLAIN_RANGE)


class Range(metaclass=_IsRange):
    """`range`, where a bound that is a size tells that it leaves the arithmetic of sizes."""

    def __new__(cls, *bounds: Any) -> Any:
        return PLAIN_RANGE(*(plain(bound, i) for i, bound in enumerate(bounds)))


Range.__module__, Range.__qualname__, Range.__name__ = "builtins", "range", "range"  # so pickles of it name `range`
