"""Arguments that stand in no place: what was meant is said, where Python would only count them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from surgery.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

SEVERAL = (
    "Several inputs of one call are a tuple: (x, y), and named ones a dict; labels are not needed. All else is given "
    "by name"
)


def binds(function: Callable[..., object], *args: Any, **kwargs: Any) -> bool:
    """Whether a function can be called with these arguments, as far as it tells."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:  # some functions of C have no signature
        return True
    return True


def counted(advice: str = SEVERAL) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: InputError with this advice for more arguments by place than the function has places."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = list(inspect.signature(function).parameters.values())
        known = [p.name for p in parameters]
        closed = all(p.kind is not p.VAR_KEYWORD for p in parameters)
        places = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            unknown = [name for name in kwargs if name not in known] if closed else []
            if unknown:
                named = "{'" + unknown[0] + "': ...}"
                raise InputError(
                    f"{function.__name__} has no argument {', '.join(unknown)}; it has {', '.join(known)}. Named "
                    f"inputs of the model are a dict, {named}, or surgery.inputs(...)"
                )
            if len(args) > len(places):
                raise InputError(
                    f"{function.__name__} takes {', '.join(places)} by place, got {len(args)} arguments: the one that "
                    f"is too many is a {type(args[len(places)]).__name__}. {advice}"
                )
            return function(*args, **kwargs)

        return checked

    return decorate
