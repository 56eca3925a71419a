"""What Python decides by sizes while a run is recorded: comparisons, and how far loops go."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from surgery.axes.sizes import Decision, _leaves_arithmetic, _observers


class observe_decisions:
    """While active, `observer` is told every decision, also those of `range`, which replaces the builtin meanwhile."""

    def __init__(self, observer: Callable[[Decision], None]):
        self.observer = observer

    def __enter__(self) -> None:
        _observers.append(self.observer)
        builtins.range = _Range  # type: ignore[misc]
        self.importing = builtins.__import__
        builtins.__import__ = _own_range(self.importing)

    def __exit__(self, *_: object) -> None:
        builtins.__import__ = self.importing
        _observers.remove(self.observer)
        if not _observers:
            builtins.range = _range  # type: ignore[misc]


def _own_range(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, run with Python's own `range`: an import in it may keep that, as those of torch.compile do."""

    def run(*args: Any, **keywords: Any) -> Any:
        replaced, builtins.range = builtins.range, _range  # type: ignore[misc]
        try:
            return function(*args, **keywords)
        finally:
            builtins.range = replaced  # type: ignore[misc]

    return run


_range = range


class _IsRange(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _range)


class _Range(metaclass=_IsRange):
    """`range`, which tells observers how far the model's loops go."""

    def __new__(cls, *bounds: Any) -> Any:
        return _range(*(_leaves_arithmetic(bound, i) for i, bound in enumerate(bounds)))
